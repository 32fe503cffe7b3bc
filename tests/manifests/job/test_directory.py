"""The job directory: written once, seen whole, held by one driver."""

import errno
import itertools
import os
import signal
import stat
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from noria.manifests.errors import AnotherDriver, ConfigurationError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory, shard_folder
from tests.support.killed_lines import killed_after

WRITERS = 8


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def test_writing_once_keeps_the_first_content(directory: JobDirectory) -> None:
    assert directory.write_once("sealed/00000001/x.json", b"first")
    assert not directory.write_once("sealed/00000001/x.json", b"second")
    assert directory.read("sealed/00000001/x.json") == b"first"


def test_what_an_earlier_edition_wrote_stays(directory: JobDirectory) -> None:
    directory.path("uploads").mkdir()
    directory.path("uploads/x.json").write_bytes(b"first")
    assert not directory.write_once("uploads/x.json", b"second")
    assert directory.read("uploads/x.json") == b"first"


def test_nothing_else_is_left_of_writing_once(directory: JobDirectory) -> None:
    for data in (b"first", b"second"):
        directory.write_once("uploads/x.json", data)
    assert os.listdir(directory.path("uploads")) == ["x.json"]


def test_one_of_many_writers_wins(directory: JobDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without hard links."""
    monkeypatch.setattr(os, "link", None)
    barrier = Barrier(WRITERS)

    def write(name: str, number: int) -> tuple[bool, bytes | None]:
        barrier.wait()
        won = directory.write_once(name, b"%d" % number)
        return won, directory.read(name)

    with ThreadPoolExecutor(WRITERS) as pool:
        for turn in range(50):
            names = [f"uploads/{turn}.json"] * WRITERS
            results = list(pool.map(write, names, range(WRITERS)))
            (winner,) = [number for number, (won, _) in enumerate(results) if won]
            assert {found for _, found in results} == {b"%d" % winner}


def test_a_writer_that_is_killed_at_any_line_leaves_the_whole_file_or_none(
    directory: JobDirectory,
) -> None:
    outcomes = set()
    for changes in itertools.count():
        name = f"uploads/{changes}.json"
        write = partial(directory.write_once, name, b"first")
        if not killed_after(changes, directory.root, write):
            break
        left = directory.read(name)
        assert left in (None, b"first")
        won = directory.write_once(name, b"second")
        found = directory.read(name)
        assert found == (b"second" if won else b"first"), f"after {changes} changes"
        assert not (won and left), f"after {changes} changes"
        assert not directory.write_once(name, b"third")
        assert directory.read(name) == found
        assert name in directory.names("uploads")
        outcomes.add((left, won))
    elected_only = (None, False)
    assert outcomes == {(None, True), elected_only, (b"first", False)}


def test_a_helper_that_is_killed_at_any_line_does_not_replace_the_file(
    directory: JobDirectory,
) -> None:
    """The first writer was elected, and died before its file had a name."""
    for changes in itertools.count():
        name = f"uploads/{changes}.json"
        ballot = directory.path(f"uploads/.{changes}.json.ballot")
        ballot.mkdir(parents=True)
        (ballot / "elected").write_bytes(b"first")
        write = partial(directory.write_once, name, b"second")
        if not killed_after(changes, directory.root, write):
            break
        assert not directory.write_once(name, b"third"), f"after {changes} changes"
        assert directory.read(name) == b"first"


def test_a_file_is_published_from_another_file_system(
    directory: JobDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    scratch = tmp_path / "scratch" / "file"
    scratch.write_bytes(b"content")
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if source.is_relative_to(tmp_path / "scratch"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    directory.publish(scratch, "reports/file")
    assert directory.read("reports/file") == b"content"
    assert stat.S_IMODE(directory.path("reports/file").stat().st_mode) == 0o600
    assert os.listdir(directory.path("reports")) == ["file"]
    assert not scratch.exists()


def test_no_folder_has_more_than_ten_thousand_entries() -> None:
    folders = {shard_folder("results", shard) for shard in range(0, 2_000_000, 7)}
    tops = {folder.rpartition("/")[0] for folder in folders}
    assert len(tops) == 2_000
    assert max(len(folder.split("/")[-1]) for folder in tops | folders) == 8


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
