"""Giving a source up: by a person with a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.engine.retire import retire
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.cutover_states import MigrationState
from tests.support.local_migrations import LocalMigration


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "x" * 300])
def test_a_name_that_a_history_cannot_show_is_refused(tmp_path: Path, name: str) -> None:
    move = LocalMigration(tmp_path)
    move.copy({"a": "first"})
    move.switch()
    with pytest.raises(ConfigurationError, match="--confirmed-by takes a name"):
        retire(move.migration, name, move.said.append)
    assert move.state is MigrationState.GRACE
