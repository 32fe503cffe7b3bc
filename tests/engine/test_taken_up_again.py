"""Passes that had ended, or were planned, and are gone on with: by a retry that is killed, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noria.engine import job, planning
from noria.engine.pass_records import has_ended
from noria.engine.repair import AskedAgain
from noria.engine.status import Phase
from noria.manifests.errors import AnotherDriver, ConfigurationError
from noria.manifests.job.cutover_states import MigrationState
from noria.manifests.job.directory import JobDirectory
from tests.support.local_migrations import LocalMigration, held, write
from tests.support.scripted_cluster import ScriptedCluster

OBJECTS = {"a": "first", "d/b": "second", "d/c": "third"}


class KilledCluster(ScriptedCluster):
    """The driver is killed as its workers start."""

    def start(self, *arguments: Any, **more: Any) -> Any:
        raise KeyboardInterrupt


def killed(ready: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path)
    migration.copy(OBJECTS)
    return migration


def retry(move: LocalMigration, cluster: ScriptedCluster, **asked: Any) -> None:
    job.run(move.migration.current, cluster=cluster, asked_again=AskedAgain(**asked))


def damage(move: LocalMigration) -> None:
    (move.target / "a").unlink()
    assert move.verify().damaged == 1


def test_a_retry_that_was_killed_is_ended_by_the_next_pass(move: LocalMigration) -> None:
    damage(move)
    with pytest.raises(KeyboardInterrupt):
        retry(move, KilledCluster())
    assert not has_ended(move.migration, 1)
    report = move.sync()
    assert (report.number, report.run.reconciled) == (1, True)
    assert move.is_equal


def test_a_retry_that_is_refused_leaves_the_job_ended(move: LocalMigration, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        retry(move, KilledCluster(), keys=tmp_path / "none")
    assert job.status(move.root).phase is Phase.FINISHED
    assert has_ended(move.migration, 1)


def proved(move: LocalMigration) -> None:
    assert move.cutover(freeze_command="true").state is MigrationState.PROVING


def switch(move: LocalMigration) -> str | None:
    return move.cutover(approve_as="Ann", switch_command="true").stopped


def test_damage_that_was_found_after_the_proof_is_repaired_before_the_switch(
    move: LocalMigration,
) -> None:
    write(move.source, {"n": "new"})
    proved(move)
    (move.target / "n").unlink()
    assert move.verify().damaged == 1
    assert "1 target_missing" in (switch(move) or "")
    with pytest.raises(KeyboardInterrupt):
        retry(move, KilledCluster())
    assert "pass 2 was taken up again" in (switch(move) or "")
    retry(move, ScriptedCluster())
    assert switch(move) is None
    assert move.is_equal
    proof = [each for each in move.records if each.kind == "proved"][-1]
    state = move.migration.state(move.migration.last)
    assert proof.facts["state"] == state.digest, "the proof is of what was repaired"


def test_a_pass_that_was_planned_to_delete_does_not_if_that_is_not_wanted_any_more(
    move: LocalMigration,
) -> None:
    (move.source / "a").unlink()
    run, move.run = move.run, killed
    with pytest.raises(KeyboardInterrupt):
        move.sync(mirror=True, any_number=True)
    move.run = run
    with pytest.raises(ConfigurationError, match="--deletions mirror"):
        move.sync(mirror=False)
    assert "a" in held(move.target)
    assert move.sync(mirror=True).run.reconciled
    assert move.is_equal


def test_a_plan_that_another_process_makes_is_not_withdrawn(
    move: LocalMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(planning, "_freeze", lambda *_: killed(None))
        with pytest.raises(KeyboardInterrupt):
            move.sync()
    place = JobDirectory(move.migration.place(2))
    planned = place.job()
    with place.hold(), pytest.raises(AnotherDriver):
        move.sync(mirror=True)
    assert JobDirectory(place.root).job() == planned
    assert move.sync(mirror=True).number == 2


def test_an_inventory_of_no_kind_is_refused_and_not_passed_over(move: LocalMigration) -> None:
    with pytest.raises(ConfigurationError, match="of which kind"):
        move.sync(inventory="file:///inventory.json")
    assert move.sync(inventory="listing").number == 2


def test_nothing_is_gone_on_with_while_the_target_is_in_use(move: LocalMigration) -> None:
    write(move.source, {"a": "changed"})
    move.switch()
    damage(move)
    with pytest.raises(KeyboardInterrupt):
        retry(move, KilledCluster())
    with pytest.raises(ConfigurationError, match="a source that is still in use"):
        move.sync()
    with pytest.raises(ConfigurationError, match="pass 2 has not ended: `noria run"):
        move.rollback()
