"""SIGKILL of `noria plan` while it lists: the next one lists the rest, and freezes the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from noria.benchmarks.null.road import run_road
from noria.benchmarks.null.stores import run_null_sink, run_null_source
from tests.support.null_objects import needs_compiler
from tests.support.processes import wait_until

pytestmark = needs_compiler

FOLDERS, FILES = 400, 50
NAMES = [f"f{folder:03}/{file:03}" for folder in range(FOLDERS) for file in range(FILES)]
NAMES += [f"flat-{number:05}" for number in range(12_000)]
DELAY_MS = 50.0
OFTEN = """
import sys
from noria.engine import first_look
first_look.STATE_SECONDS = 0.1
from noria.__main__ import main
sys.exit(main())
"""
"""The command, with states that are written often."""


def has_kept(plan: subprocess.Popen[str], kept: Callable[[], int], before: int) -> bool:
    return plan.poll() is not None or kept() > before


@pytest.mark.parametrize("kills", [1, 4])
def test_a_plan_that_is_killed_goes_on(tmp_path: Path, kills: int) -> None:
    with (
        run_null_source((name, 7) for name in NAMES) as source,
        run_null_sink() as sink,
        run_road(source.port, delay_ms=DELAY_MS) as road,
    ):
        environment = {**os.environ, **source.through(road.port).env(), **sink.env()}
        job_file = tmp_path / "job.toml"
        job_file.write_text(
            f'[source]\nurl = "{source.url}"\n[target]\nurl = "{sink.url}"\n'
            "[inventory]\nlisting_streams = 4\n"
        )

        def begin() -> subprocess.Popen[str]:
            command = [sys.executable, "-c", OFTEN, "plan", str(job_file)]
            return subprocess.Popen(
                command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
            )

        def kept() -> int:
            return sum(
                int(json.loads(state.read_text())["listed"])
                for state in tmp_path.glob("*/.listing/state.json")
            )

        listed = [0]
        for _ in range(kills):
            plan = begin()
            wait_until(partial(has_kept, plan, kept, listed[-1]), "more rows are kept")
            assert plan.poll() is None, plan.communicate()
            plan.kill()
            plan.communicate()
            listed.append(kept())
        assert listed == sorted(set(listed))
        assert listed[-1] < len(NAMES)
        last = begin()
        _, said = last.communicate(timeout=100)
        assert last.returncode == 0, said
        assert f"{listed[-1]:,} listed" in said
        (manifest,) = tmp_path.glob("*/manifest/manifest.json")
        facts = json.loads(manifest.read_text())
        assert facts["objects"] == len(NAMES)
        assert facts["inventory"]["duplicates"] == 0
        assert not list(tmp_path.glob("*/.listing"))
