"""The job directory: written once, seen whole, held by one driver."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from noria.manifests.errors import AnotherDriver, ConfigurationError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def test_writing_once_keeps_the_first_content(directory: JobDirectory) -> None:
    assert directory.write_once("sealed/00000001/x.json", b"first")
    assert not directory.write_once("sealed/00000001/x.json", b"second")
    assert directory.read("sealed/00000001/x.json") == b"first"


def test_scratch_files_are_not_listed(directory: JobDirectory) -> None:
    directory.write_once("sealed/00000001/x.json", b"1")
    directory.path("sealed/00000001/.x.json.99").write_bytes(b"half")
    assert list(directory.names("sealed")) == ["sealed/00000001/x.json"]


def test_a_second_job_does_not_take_over_a_directory(directory: JobDirectory) -> None:
    with pytest.raises(JobDirectoryError, match="noria run"):
        JobDirectory.create(directory.root, {"id": "other"})


def test_opening_says_what_is_wrong(directory: JobDirectory, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a job directory"):
        JobDirectory.open(tmp_path)
    directory.replace("job.json", b'{"schema": 99}')
    with pytest.raises(JobDirectoryError, match="schema 99"):
        JobDirectory.open(directory.root)
    directory.replace("job.json", b"{")
    with pytest.raises(JobDirectoryError, match="damaged"):
        JobDirectory.open(directory.root)


def test_each_driver_has_an_epoch_of_its_own(directory: JobDirectory) -> None:
    with directory.hold() as first:
        pass
    with directory.hold() as second:
        pass
    assert second.epoch == first.epoch + 1
    assert second.first_attempt > first.first_attempt


def test_a_second_driver_is_refused_until_the_first_dies(directory: JobDirectory) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from noria.manifests.job.directory import JobDirectory
        with JobDirectory.open(Path(sys.argv[1])).hold():
            print("held", flush=True)
            time.sleep(60)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(directory.root)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AnotherDriver, match="another noria process"):
            directory.hold()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with directory.hold() as hold:
        assert hold.epoch == 2


def test_a_directory_that_cannot_be_written_is_one_clear_error() -> None:
    with pytest.raises(JobDirectoryError, match="make room or access"):
        JobDirectory(Path("/dev/full")).write_once("x", b"1")
