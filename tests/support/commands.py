"""The command `noria` in this process, and what it may do where it refuses."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from noria.__main__ import app
from tests.support.finished_jobs import contents
from tests.support.fuzzing import SECRET


def noria(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error. What passes the command by is raised."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def refusal_of(*arguments: str | Path, job: Path) -> str | None:
    """The first line of a command that refuses what it met, or None where it succeeded.

    It is the only one, unless each names another fault of a job file, and its line there.
    A command that refuses leaves the job directory as it was.
    """
    before = contents(job)
    code, _, err = noria(*arguments)
    assert "Traceback" not in err
    if code == 0:
        return None
    lines = [line for line in err.splitlines() if line != "noria: checking both ends"]
    assert code in (2, 3), (code, err)
    assert len(lines) == 1 or all(".toml, line " in line for line in lines), err
    assert all(line.startswith("noria: ") for line in lines)
    assert "unexpected" not in lines[0], err
    assert SECRET not in err
    assert contents(job) == before
    return lines[0]
