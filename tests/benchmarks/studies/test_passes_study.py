"""The study of a later pass, with few objects."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from noria.benchmarks.studies.passes.__main__ import WORDS, main


@pytest.mark.timeout(240)
def test_every_step_is_measured_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["passes", "--rows", "1000,3000", "--rounds", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == 0
    told = capfd.readouterr().out
    assert all(f"| {words} |" in told for words in WORDS.values())
    assert not list(tmp_path.iterdir()), "it leaves nothing"
