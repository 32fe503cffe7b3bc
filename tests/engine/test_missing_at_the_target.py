"""What an earlier pass left at the target, and somebody has deleted there, is sent again."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.engine.job import reconcile_job
from noria.manifests.job.history import RecordKind
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


def test_what_is_gone_at_both_ends_is_not_missing(move: LocalMigration) -> None:
    (move.source / "a").unlink()
    again = move.sync()
    assert (again.run.reconciled, again.run.differences) == (True, {}), "d/c was sent again"
    found = reconcile_job(move.migration.current)
    assert (found.gone_at_both, found.missing, found.exit_code) == (1, 0, 0)
    read_back = move.verify()
    assert (read_back.gone_at_both, read_back.damaged, read_back.causes) == (1, 0, {})
    assert read_back.exit_code == 0
    move.switch()
    proof = next(each for each in move.records if each.kind is RecordKind.PROVED)
    assert (proof.facts["gone_at_both"], proof.facts["missing"]) == (1, 0)


def test_what_the_source_has_again_is_sent_again(move: LocalMigration) -> None:
    """Also if it is what it was: the target has lost it."""
    path = move.source / "a"
    aside = move.folder / "aside"
    path.rename(aside)
    assert move.sync().run.reconciled
    aside.rename(path)
    again = move.sync()
    assert (again.run.outcomes, again.run.reconciled) == ({"TRANSFERRED": 1}, True)
    assert move.is_equal
