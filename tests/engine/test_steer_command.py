"""What `noria set` and `noria pause` refuse before anything is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration


@pytest.mark.parametrize("given", [("pause",), ("set", "bandwidth=1MB/s")])
def test_what_is_over_before_it_is_heeded_is_refused(
    tmp_path: Path, given: tuple[str, ...]
) -> None:
    move = LocalMigration(tmp_path)
    move.copy({"a": "first"})
    command, *settings = given
    code, _, err = noria(command, move.root, *settings, "--for", "0")
    assert code == 2
    assert "--for: less than a second is over before it is heeded" in err
    assert not (move.root / "control").exists()
