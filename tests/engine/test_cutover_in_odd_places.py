"""A job directory whose name no terminal shows: what is recorded of it is printable."""

from __future__ import annotations

from pathlib import Path

from noria.manifests.job.history import RecordKind
from tests.support.local_migrations import LocalMigration


def test_a_reason_names_it_without_what_cannot_be_shown(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path / "a\tb")
    move.copy({"a": "first"})
    report = move.cutover(freeze_command="exit 3")
    assert report.exit_code == 1
    assert move.records[-1].kind is RecordKind.STOPPED
    assert "a?b" in str(move.records[-1].facts["reason"])
