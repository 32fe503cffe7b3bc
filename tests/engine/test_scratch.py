"""Temporary files: where they are, who may see them, what is left of them, and whose stays."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path

import pytest

from noria.engine import job, planning
from noria.engine.config.reading import read_job_file
from noria.engine.scratch import lone_scratch_folder, scratch_folder
from noria.manifests.errors import ConfigurationError, InventoryError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from tests.support.finished_jobs import config_of, finish_job, write_source
from tests.support.small_disk import SmallDisk


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder like /tmp."""
    place = tmp_path / "scratch"
    place.mkdir()
    place.chmod(0o1777)
    return place


def leave(directory: JobDirectory, place: Path) -> Path:
    """What a process that was killed leaves."""
    child = os.fork()
    if child == 0:
        with scratch_folder(directory, str(place)) as folder:
            (folder / "spool").write_bytes(b"keys")
            os._exit(0)
    os.waitpid(child, 0)
    (left,) = place.iterdir()
    return left


def test_a_folder_is_private_and_gone_afterwards(directory: JobDirectory, place: Path) -> None:
    before = os.umask(0)
    try:
        with scratch_folder(directory, str(place)) as folder:
            assert list(folder.iterdir()) == []
            for each in (folder, folder.parent):
                assert stat.S_IMODE(each.stat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert list(place.iterdir()) == []


def test_a_folder_that_is_missing_is_made(directory: JobDirectory, place: Path) -> None:
    with scratch_folder(directory, str(place / "of" / "noria")) as folder:
        assert folder.is_relative_to(place / "of" / "noria")


def test_an_error_leaves_nothing(directory: JobDirectory, place: Path) -> None:
    with pytest.raises(InventoryError), scratch_folder(directory, str(place)):
        raise InventoryError("bad row")
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_its_own_job_alone(
    directory: JobDirectory, place: Path, tmp_path: Path
) -> None:
    left = leave(directory, place)
    other = JobDirectory.create(tmp_path / "other", {"id": "j"})
    with scratch_folder(other, str(place)):
        assert (left / "files" / "spool").exists()
    with scratch_folder(directory, str(place)) as folder:
        assert list(place.iterdir()) == [folder.parent]


def test_what_is_in_use_stays(directory: JobDirectory, place: Path) -> None:
    with scratch_folder(directory, str(place)) as first:
        with scratch_folder(directory, str(place)) as second:
            assert first != second
        assert first.exists()


def test_what_others_have_put_there_stays(
    directory: JobDirectory, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links to folders of this user, and folders of another one, under the names of this job."""
    name = leave(directory, place).name
    (place / name).rename(place / f"{name[:-16]}{'0' * 16}")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (place / f"{name[:-16]}{'1' * 16}").symlink_to(precious)
    (place / f"{name}-too-long").mkdir()
    (place / name).write_bytes(b"a file")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with scratch_folder(directory, str(place)):
        pass
    assert len(list(place.iterdir())) == 4
    monkeypatch.undo()
    with scratch_folder(directory, str(place)):
        pass
    assert len(list(place.iterdir())) == 3
    assert (precious / "file").exists()


def test_a_folder_in_which_anybody_may_rename_is_refused(
    directory: JobDirectory, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.chmod(0o777)
    with (
        pytest.raises(ConfigurationError, match="sticky bit"),
        scratch_folder(directory, str(place)),
    ):
        pass
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(place))
    with scratch_folder(directory, None) as folder:
        assert folder.is_relative_to(directory.root)


def test_the_temporary_folder_is_used_unless_another_is_named(
    directory: JobDirectory, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(place))
    with scratch_folder(directory, None) as folder:
        assert folder.is_relative_to(place)


def test_a_place_that_cannot_be_used_names_the_setting(
    directory: JobDirectory, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match=r"\[plan\] scratch"),
        scratch_folder(directory, str(tmp_path / "file")),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_full_disk_names_the_setting(directory: JobDirectory, place: Path, number: int) -> None:
    def fail() -> None:
        raise JobDirectoryError("cannot use the manifest") from OSError(number, "")

    with pytest.raises(JobDirectoryError) as told, scratch_folder(directory, str(place)):
        fail()
    assert ("[plan] scratch" in told.value.message) == (number != errno.EACCES)
    assert "cannot use the manifest" in told.value.message


# -- jobs ------------------------------------------------------------------------------------------


def test_a_plan_and_a_reconcile_keep_their_temporary_files_there(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[str]] = {}

    def watch(module: object, name: str) -> None:
        real = getattr(module, name)

        def watched(*given: object, scratch: Path, **named: object) -> object:
            assert scratch.is_relative_to(tmp_path / "here")
            seen[name] = os.listdir(tmp_path / "here")
            return real(*given, scratch=scratch, **named)

        monkeypatch.setattr(module, name, watched)

    watch(planning, "freeze")
    watch(job, "reconcile")
    write_source(tmp_path)
    config = config_of(tmp_path)
    plan = config.plan.model_copy(update={"scratch": str(tmp_path / "here")})
    job.plan(config.model_copy(update={"plan": plan}), tmp_path / "job")
    job.reconcile_job(tmp_path / "job")
    assert {name: len(folders) for name, folders in seen.items()} == {"freeze": 1, "reconcile": 1}
    assert os.listdir(tmp_path / "here") == []


def test_another_scratch_folder_is_the_same_job(tmp_path: Path, place: Path) -> None:
    finish_job(tmp_path)
    config = config_of(tmp_path)
    plan = config.plan.model_copy(update={"scratch": str(place)})
    again = job.plan(config.model_copy(update={"plan": plan}), tmp_path / "job")
    assert again.config.plan.scratch == str(place), "the one of this command is used"


def test_a_relative_path_is_below_the_folder_of_the_job_file(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    text = 'source = "file:///a"\ntarget = "file:///b"\n[plan]\nscratch = {}\n'
    for given, wanted in (("'fast'", tmp_path / "fast"), ("'/fast'", Path("/fast"))):
        file.write_text(text.format(given))
        assert read_job_file(file).plan.scratch == str(wanted)
    for given in ("''", "5", r'"a\u0000"'):
        file.write_text(text.format(given))
        with pytest.raises(ConfigurationError, match="scratch"):
            read_job_file(file)


def test_a_plan_on_a_full_scratch_disk_names_the_setting(tmp_path: Path) -> None:
    write_source(tmp_path)
    config = config_of(tmp_path)
    plan = config.plan.model_copy(update={"scratch": str(tmp_path / "small")})
    config = config.model_copy(update={"plan": plan})
    with SmallDisk(tmp_path / "small", "64k"):
        (tmp_path / "small").chmod(0o700)
        filler = tmp_path / "small" / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(1 << 20))
        with pytest.raises((ConfigurationError, JobDirectoryError), match=r"\[plan\] scratch"):
            job.plan(config, tmp_path / "job")
        filler.unlink()
        assert job.plan(config, tmp_path / "job").manifest.objects == 5


def test_where_there_are_no_locks_only_whoever_holds_the_job_removes_what_was_left(
    directory: JobDirectory, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with lone_scratch_folder("the same", str(place)) as first:
        (first / "spool").write_bytes(b"keys")
        with lone_scratch_folder("the same", str(place)):
            assert (first / "spool").read_bytes() == b"keys"
    left = leave(directory, place)
    with scratch_folder(directory, str(place)):
        assert not left.exists()
