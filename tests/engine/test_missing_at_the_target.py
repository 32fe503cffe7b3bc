"""What an earlier pass left at the target, and somebody has deleted there, is sent again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.local_migrations import LocalMigration, held, write

OBJECTS = {"a": "first", "d/b": "second", "d/c": "third", "e": "fourth"}


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    """Two passes; then two objects of the first are deleted at the target."""
    migration = LocalMigration(tmp_path)
    migration.copy(OBJECTS)
    write(migration.source, {"new": "x"})
    migration.sync()
    for key in ("a", "d/c"):
        (migration.target / key).unlink()
    missed = migration.sync()
    assert (missed.run.reconciled, missed.run.differences) == (False, {"missing": 2})
    return migration


def test_by_the_pass_after_the_one_that_missed_it(move: LocalMigration) -> None:
    again = move.sync()
    assert again.delta is not None
    assert (again.delta.objects["new"], again.run.reconciled) == (2, True)
    assert move.is_equal
    assert move.verify().exit_code == 0


def test_what_others_wrote_there_meanwhile_stays(move: LocalMigration) -> None:
    write(move.target, {"a": "somebody else's"})
    again = move.sync()
    assert again.run.causes == {"target_conflict": 1}
    assert held(move.target) == {**OBJECTS, "new": "x", "a": "somebody else's"}


def test_what_is_gone_at_the_source_as_well_is_deleted_by_a_mirror(move: LocalMigration) -> None:
    (move.source / "a").unlink()
    assert move.sync(mirror=True, any_number=True).run.reconciled
    assert move.is_equal


def test_a_cutover_goes_on_after_it(move: LocalMigration) -> None:
    move.switch()
    assert move.is_equal
