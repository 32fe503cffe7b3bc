"""A cutover of a job that was run once: it begins after a pass, and takes no right before."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.moves import NORIA


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job that is planned."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(b"a")
    (tmp_path / "target").mkdir()
    job_file = tmp_path / "job.toml"
    job_file.write_text(
        f'[source]\nurl = "file://{tmp_path}/source"\n[target]\nurl = "file://{tmp_path}/target"\n'
    )
    assert noria("plan", job_file)[0] == 0
    return tmp_path / "job"


def noria(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    ended = subprocess.run(
        [NORIA, *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    return ended.returncode, ended.stdout, ended.stderr


def frozen(job: Path) -> tuple[int, str, str]:
    return noria("cutover", job, "--freeze-command", f"touch {job.parent}/frozen", "-q")


def test_nobody_loses_a_right_before_a_pass_has_ended(job: Path) -> None:
    code, _, said = frozen(job)
    assert code == 2
    assert "`noria cutover` needs a pass that has ended: run the job first" in said
    assert not (job.parent / "frozen").exists()


def test_the_pass_of_a_run_counts(job: Path) -> None:
    assert noria("run", job, "-q")[0] == 0
    code, told, said = frozen(job)
    assert code == 1, (told, said)
    assert "proved: the target has what the source has (1 object)" in told
    assert "the migration is proving" in told
    assert (job.parent / "frozen").exists()


def test_a_way_back_is_told_as_one(job: Path) -> None:
    assert noria("run", job, "-q")[0] == 0
    switch = ("--approve-as", "Ann", "--switch-command", "true")
    assert noria("cutover", job, "--freeze-command", "true", "-q", *switch)[0] == 0
    (job.parent / "target" / "b").write_bytes(b"b")
    (job.parent / "target" / "a").unlink()
    code, told, said = noria("rollback", job, "-q")
    assert code == 0, (told, said)
    assert told.startswith("The way back: what the target has since the switch")
    assert "gone at the target" in told
    assert "Pass " not in told
    assert {each.name for each in (job.parent / "source").iterdir()} == {"a", "b"}
