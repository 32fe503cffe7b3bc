"""What `noria check` keeps for a while, and what it says if it is stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from noria.__main__ import app
from noria.engine import looking
from noria.engine.checking import Check
from noria.engine.config.jobfile import EndConfig
from noria.engine.looking import ListedPlace


def check_of(tmp_path: Path) -> Check:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    a, b = (ListedPlace(EndConfig(url=folder.as_uri()), "cannot list") for folder in folders)
    return Check(a, b, tmp_path / "scratch")


def test_what_a_killed_check_left_is_removed_and_what_a_living_one_has_is_not(
    tmp_path: Path,
) -> None:
    place = tmp_path / "scratch"
    place.mkdir()
    child = os.fork()
    if child == 0:
        with check_of(tmp_path):
            os._exit(0)  # as if it were killed: nothing is cleaned up
    os.waitpid(child, 0)
    (left,) = place.iterdir()
    assert left.name.startswith("noria-check-")
    with check_of(tmp_path) as first:
        assert not left.exists()
        with check_of(tmp_path) as second:
            assert len(list(place.iterdir())) == 2
            for check in (first, second):
                assert list(check.pairs(one_way=False, transfers=0)) == []
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("arguments", [["ls", "/"], ["check", "/", "/"]])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (KeyboardInterrupt, "noria: stopped\n"),
        (ZeroDivisionError, "unexpected ZeroDivisionError (at"),
    ],
)
def test_what_only_looks_speaks_of_no_job(
    arguments: list[str],
    error: type[BaseException],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(looking, "open_end", fail)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 3
    assert says in result.stderr
    assert "resume" not in result.stderr
    assert "job" not in result.stderr
