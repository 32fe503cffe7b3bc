"""The example notebook: what it says happens, and its display is drawn in one place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noria.benchmarks.servers import ROOT

NOTEBOOK = ROOT / "examples" / "first-copy.ipynb"


def test_every_cell_runs_and_says_what_it_should(tmp_path: Path) -> None:
    pytest.importorskip("IPython", reason="`make setup` installs it")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.notebook_cells", str(NOTEBOOK)],
        cwd=ROOT,
        env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    made, planned, run, failed, verified, reconciled, error = json.loads(ended.stdout)
    assert made["result"] is None
    assert planned["result"].startswith("(200, ")
    assert run["result"].endswith("True, 0)")
    assert failed["result"] == "[]"
    assert verified["result"].endswith("200, 0)")
    assert reconciled["result"] == "{'missing': 1}"
    assert error["printed"].startswith("2 ")
    assert not any(cell["printed"] for cell in (made, planned, run, failed, verified, reconciled))
    first, *redrawn = run["displayed"]
    assert first["data"]["text/plain"].startswith("<RunningJob: ")
    assert not first["update"]
    assert redrawn
    for each in redrawn:
        assert each["update"]
        assert each["transient"] == first["transient"], "in the place of the first"
    assert "<b>finished</b>" in redrawn[-1]["data"]["text/html"]
    assert not verified["displayed"]


def test_it_is_kept_without_what_a_run_adds() -> None:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
