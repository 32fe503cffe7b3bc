"""The questions that each cell of passes ends with notice what they ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.cells import Stage
from tests.faults.pass_cells import living


def test_what_must_hold_after_passes_is_seen_if_it_does_not(stage: Stage, tmp_path: Path) -> None:
    with stage.scene(1, tmp_path) as scene:
        found = living(scene)
        changed = sorted(found.holds.keys() - found.unchanged)[0]
        found.run(*found.sync)
        found.ask()
        found.unchanged.add(changed)
        with pytest.raises(AssertionError, match="I15"):
            found.ask()
        found.unchanged.discard(changed)
        for key, body in (("theirs/one", b"ours"), (changed, b"x")):
            stood = found.target.objects()[key]
            found.target.put(key, body)
            with pytest.raises(AssertionError, match="I14"):
                found.ask()
            found.target.put(key, stood)
        state = found.job / "state" / "000002" / "part-00000.parquet"
        state.write_bytes(state.read_bytes() + b"x")
        with pytest.raises(AssertionError, match="I16"):
            found.ask()
        found.ask()
