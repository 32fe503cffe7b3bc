"""Who may read a job directory: its owner, and a group if the directory was made for one."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.moves import NORIA


def moved(tmp_path: Path, umask: int) -> dict[str, int]:
    """Run a job of a few files to its end, verify and reconcile it; the mode of all its files."""
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "secret-name").write_bytes(b"x" * 300)
    (tmp_path / "source" / "fifo-like").write_bytes(b"")
    os.chmod(tmp_path / "source" / "secret-name", 0o644)
    ends = [f"file://{tmp_path}/source", f"file://{tmp_path}/target", "--job", f"{tmp_path}/job"]
    for command in (["copy", *ends], ["verify", f"{tmp_path}/job"]):
        subprocess.run(
            [NORIA, *command, "--metrics-address", "off", "-q"],
            check=True,
            umask=umask,
            timeout=100,
            capture_output=True,
        )
    subprocess.run([NORIA, "reconcile", tmp_path / "job"], check=True, umask=umask, timeout=60)
    job = tmp_path / "job"
    modes = {
        path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in [job, *job.rglob("*")]
    }
    assert len(modes) > 20
    return modes


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_job_is_its_owner_s_alone(tmp_path: Path, umask: int) -> None:
    modes = moved(tmp_path, umask)
    open_to_others = {name: oct(mode) for name, mode in modes.items() if mode & 0o077}
    assert open_to_others == {}
    # What was moved is not the job's: its modes are as the umask has them.
    landed = stat.S_IMODE((tmp_path / "target" / "secret-name").stat().st_mode)
    assert landed == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o750, 0o2770])
def test_a_directory_that_was_made_for_a_group_is_the_group_s(tmp_path: Path, mode: int) -> None:
    job = tmp_path / "job"
    job.mkdir()
    job.chmod(mode)
    modes = moved(tmp_path, 0o077)
    assert modes.pop("job") == mode
    for name, each in modes.items():
        wanted = (mode if (tmp_path / name).is_dir() else mode & 0o666) & 0o777
        assert each & 0o777 == wanted, name


def test_a_directory_that_all_may_read_is_for_no_group(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job").chmod(0o755)
    modes = moved(tmp_path, 0o022)
    assert modes.pop("job") == 0o755, "a folder that was there stays as it is"
    assert {name for name, mode in modes.items() if mode & 0o077} == set()
