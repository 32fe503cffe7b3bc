"""The help of `noria`: every command once, whole, in its section."""

from __future__ import annotations

from typer.main import get_group
from typer.testing import CliRunner

from noria.__main__ import app
from noria.engine.terminal.command_list import SECTIONS


def _names() -> list[str]:
    return [name for names in SECTIONS.values() for name in names.split()]


def test_every_command_stands_in_one_section() -> None:
    commands = get_group(app).commands
    assert sorted(_names()) == sorted(commands)


def test_no_summary_is_cut_off_on_a_narrow_terminal() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=60).output
    listed = shown.partition("Move:")[2]
    for name in _names():
        assert f"\n  {name} " in listed
    assert "..." not in listed
    assert max(map(len, listed.splitlines())) <= 60


def test_what_is_shown_before_the_commands_fits_80_columns() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=80).output
    assert max(map(len, shown.splitlines())) <= 80
