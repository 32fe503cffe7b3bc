"""Of the states that passes leave, the last two are kept: all others would fill the disk."""

from __future__ import annotations

from pathlib import Path

from tests.support.local_migrations import LocalMigration, write


def test_two_states_are_kept(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    move.copy({"a": "first", "b": "second"})
    for number in (2, 3, 4):
        write(move.source, {"a": f"changed by pass {number}"})
        assert move.sync().run.reconciled
    kept = {each.name for each in (move.root / "state").iterdir() if each.is_dir()}
    assert kept == {"000003", "000004"}
    assert move.migration.state(2).facts.number == 2, "it is made again from what is sealed"
