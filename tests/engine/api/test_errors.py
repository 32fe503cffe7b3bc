"""Errors of the API are the lines and the exit codes of the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import noria
from noria.engine.terminal.console import exit_codes

ENDS = {"source": {"url": "/a"}, "target": {"url": "/b"}}


def read_only(folder: Path) -> object:
    (folder / "source").mkdir()
    (folder / "file").touch()
    ends = {name: {"url": f"{folder}/{name}"} for name in ("source", "target")}
    return noria.plan(noria.job_config(ends), folder / "file" / "job")


def damaged(folder: Path) -> object:
    (folder / "job.json").write_text("{")
    return noria.status(folder)


WRONG: dict[str, tuple[Callable[[Path], object], int]] = {
    "a setting": (lambda folder: noria.job_config({**ENDS, "run": {"worker": 1}}), 2),
    "a location": (lambda folder: noria.job_config({"source": {"url": "x://"}, "target": {}}), 2),
    "a job file": (lambda folder: noria.read_job_file(folder / "none.toml"), 2),
    "a source": (lambda folder: noria.plan(noria.job_config(ENDS), folder / "job"), 2),
    "a place": (read_only, 2),
    "status": (lambda folder: noria.status(folder), 2),
    "run": (lambda folder: noria.run(folder), 2),
    "two clusters": (lambda folder: noria.run(folder, address="auto", ray=True), 2),
    "verify": (lambda folder: noria.verify(folder), 2),
    "reconcile": (lambda folder: noria.reconcile(folder), 2),
    "clean": (lambda folder: noria.clean(folder), 2),
    "failures": (lambda folder: list(noria.failures(folder)), 2),
    "a damaged job": (damaged, 3),
}


@pytest.mark.parametrize(("wrong", "code"), WRONG.values(), ids=WRONG)
def test_an_error_is_the_line_and_the_exit_code_of_the_command(
    wrong: Callable[[Path], object],
    code: int,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path_factory.mktemp("here")
    with pytest.raises(noria.NoriaError) as raised:
        wrong(folder)
    assert capsys.readouterr() == ("", "")
    assert raised.value.exit_code == code

    def again() -> None:
        raise raised.value

    with pytest.raises(typer.Exit) as ended, exit_codes(as_json=False):
        again()
    lines = capsys.readouterr().err.splitlines()
    assert " | ".join(line.removeprefix("noria: ") for line in lines) == str(raised.value)
    assert ended.value.exit_code == code
