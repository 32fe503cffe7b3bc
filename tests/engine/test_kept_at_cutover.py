"""A cutover where others' objects are kept at the target, as its user wants: counted apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.manifests.job.history import RecordKind
from tests.support.local_migrations import LocalMigration, write

OBJECTS = {"a": "first", "d/b": "second", "d/c": "third"}


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    """`a` and `d/c` are somebody else's at the target."""
    migration = LocalMigration(tmp_path)
    write(migration.target, {"a": "foreign", "d/c": "foreign"})
    migration.copy(OBJECTS, run={"metrics_address": "off", "conflicts": "keep"})
    return migration


def test_what_is_kept_is_neither_written_nor_missed(move: LocalMigration) -> None:
    report = move.cutover(quiet_seconds=0.0)
    assert "it is proved" in (report.stopped or "")
    (proof,) = (each.facts for each in move.records if each.kind is RecordKind.PROVED)
    assert (proof["objects"], proof["not_moved_target_kept"]) == (1, 2)


def test_what_was_written_to_the_source_since_is_told(move: LocalMigration) -> None:
    def wait(seconds: float) -> None:
        write(move.source, {"a": "changed meanwhile", "new": "x"})

    report = move.cutover(move.tools(wait=wait))
    assert "the source is not quiet: 2 new" in (report.stopped or "")
