"""Completion in shells and the man page: all that is declared is there, and shells take it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from noria.__main__ import app

FORMS = ("bash", "zsh", "fish", "man")
SHELLS = ("bash", "zsh", "fish")
SECONDS = 60


def printed(form: str) -> str:
    result = CliRunner().invoke(app, ["completion", form], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def completed(tmp_path: Path, *words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    script = tmp_path / "noria.bash"
    script.write_text(printed("bash"))
    asked = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _noria; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(
        ["bash", "-c", asked, "bash", script, *words],
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.parametrize("form", FORMS)
def test_every_command_and_option_is_there(form: str) -> None:
    text = printed(form).replace("\\-", "-")
    group: Any = get_command(app)
    for name, command in group.commands.items():
        assert name in text
        for option in (each for each in command.params if each.param_type_name == "option"):
            for each in (*option.opts, *option.secondary_opts):
                fish = f"-l {each[2:]}" if each.startswith("--") else f"-s {each[1:]}"
                assert (fish if form == "fish" else each) in text


def test_bash_completes_commands_and_their_options(tmp_path: Path) -> None:
    assert completed(tmp_path, "noria", "co") == ["copy", "cosign", "config", "completion"]
    assert completed(tmp_path, "noria", "copy", "--tra") == ["--transfers"]
    assert completed(tmp_path, "noria", "copy", "a", "b", "--no-p") == ["--no-progress"]
    assert completed(tmp_path, "noria", "status", "--tra") == []
    assert completed(tmp_path, "noria", "run", "") == [], "bash itself completes names of files"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_its_script(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    script = tmp_path / "script"
    script.write_text(printed(shell))
    ended = subprocess.run(
        [shell, "-n", script], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_man_page_is_sound(tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff here")
    page = tmp_path / "noria.1"
    page.write_text(printed("man"))
    ended = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-cbu", page],
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    assert ended.stderr == ""
    for words in ("--transfers", "noria copy az://account/container/data", "EXIT CODES"):
        assert words in ended.stdout


def test_a_script_costs_no_engine() -> None:
    code = (
        "import sys; from noria.__main__ import app\n"
        "try: app(['completion', 'zsh'])\n"
        "except SystemExit: pass\n"
        "heavy = {'ray', 'duckdb', 'pyarrow', 'rich', 'azure', 'botocore'}\n"
        "print(heavy & set(sys.modules), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert ended.stderr == "set()\n"
