"""Giving a source up: by a person with a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.engine.retire import retire
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.cutover_states import MigrationState
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "x" * 300])
def test_a_name_that_a_history_cannot_show_is_refused(tmp_path: Path, name: str) -> None:
    move = LocalMigration(tmp_path)
    move.copy({"a": "first"})
    move.switch()
    with pytest.raises(ConfigurationError, match="--confirmed-by takes a name"):
        retire(move.migration, name, move.said.append)
    assert move.state is MigrationState.GRACE


def test_what_a_store_does_not_tell_is_unknown_and_no_zero(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    move.copy({"a": "first"})
    move.switch()
    code, out, _ = noria("retire", move.root, "--confirmed-by", "Ann")
    assert code == 0
    assert out.startswith("retired: the source still holds 1 object, 5 B\n")
    assert "  snapshots: not visible with these rights, or not listed here\n" in out
    assert "  kept from deletion: nothing by default\n" in out
    facts = move.records[-1].facts
    assert (facts["source_objects"], facts["source_bytes"], facts["source_snapshots"]) == (
        1,
        5,
        None,
    )
