"""The driver's log: lines of text or of JSON, for the job's owner alone, rotated."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from noria.engine import log_file as log_files
from noria.engine.log_file import log_file

log = logging.getLogger("noria.driver")


def test_lines_of_text(tmp_path: Path) -> None:
    path = tmp_path / "noria.log"
    with log_file(path, "text"):
        log.warning("worker %s is lost", 3)
    log.warning("nobody keeps this")
    (line,) = path.read_text().splitlines()
    time, rest = line.split(" ", 1)
    assert rest == "WARNING noria.driver: worker 3 is lost"
    assert time.endswith("Z")
    assert path.stat().st_mode & 0o777 == 0o600


def test_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "noria.log"
    with log_file(path, "json"):
        log.error("a line\nbreak, and é")
    (line,) = path.read_text().splitlines()
    said = json.loads(line)
    assert said.pop("time").endswith("Z")
    assert said == {
        "level": "error",
        "logger": "noria.driver",
        "message": "a line\nbreak, and é",
    }


def test_it_is_put_aside_when_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "FILE_BYTES", 200)
    with log_file(tmp_path / "noria.log", "text"):
        for number in range(100):
            log.warning("line %d", number)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["noria.log", *(f"noria.log.{number}" for number in range(1, 6))]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
