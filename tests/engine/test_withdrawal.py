"""A planned pass is taken back: only if nothing of it can have moved, whoever is killed where."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from noria.engine import withdrawal
from noria.engine.passes import current_pass
from noria.engine.planning import Prepared
from noria.engine.withdrawal import withdraw
from noria.manifests.errors import AnotherDriver, ConfigurationError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import RecordKind
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration, held, run_here, write
from tests.support.scripted_cluster import ScriptedCluster

OBJECTS = {"a": "first", "d/b": "second", "d/c": "third", "e": "fourth"}
PLANNED, WITHDRAWN = RecordKind.PLANNED, RecordKind.WITHDRAWN


class KilledHere(BaseException):
    """The process ends at this line."""


def die(*given: Any, **more: Any) -> Any:
    raise KilledHere


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    """The second pass is planned, mirrors deletions, and was not run: everything would go."""
    migration = LocalMigration(tmp_path)
    migration.copy(OBJECTS)
    aside = tmp_path / "aside"
    migration.source.rename(aside)
    write(migration.source, {"e": "fourth"})
    migration.run = die
    with pytest.raises(KilledHere):
        migration.sync(mirror=True, any_number=True)
    shutil.rmtree(migration.source)
    aside.rename(migration.source)
    migration.run = run_here
    return migration


def test_a_mirror_of_a_source_that_was_away_deletes_nothing(move: LocalMigration) -> None:
    record = withdraw(move.migration)
    assert (record.kind, record.facts) == (WITHDRAWN, {"pass": 2})
    assert (move.migration.last, held(move.target)) == (1, OBJECTS)
    ended = move.sync(mirror=True)
    assert (ended.number, ended.run.exit_code, ended.run.objects) == (2, 0, 0)
    assert move.kinds[-4:] == [PLANNED, WITHDRAWN, PLANNED, RecordKind.PASS_ENDED]
    assert move.is_equal


def test_by_command(move: LocalMigration) -> None:
    code, out, _ = noria("sync", move.root, "--withdraw")
    assert (code, out) == (
        0,
        f"pass 2 is withdrawn, and had moved nothing: record {len(move.records)} of the history\n",
    )
    code, out, err = noria("sync", move.root, "--withdraw")
    assert (code, out, "no later pass" in err) == (2, "", True)


def test_a_pass_whose_workers_were_started_is_not_withdrawn(move: LocalMigration) -> None:
    """Also if none has said a word yet: it may have deleted something."""

    class Killed(ScriptedCluster):
        def start(self, *given: Any, **more: Any) -> None:
            raise KilledHere

    def killed(ready: Prepared) -> Any:
        return withdrawal_run(ready, Killed())

    move.run = killed
    with pytest.raises(KilledHere):
        move.sync(mirror=True, any_number=True)
    with pytest.raises(ConfigurationError, match="has begun to move"):
        withdraw(move.migration)
    assert (move.migration.last, move.kinds[-1]) == (2, PLANNED)


def withdrawal_run(ready: Prepared, cluster: ScriptedCluster) -> Any:
    from noria.engine import job

    return job.run(ready.directory.root, cluster=cluster, planned=ready)


def test_a_pass_that_has_ended_stays(move: LocalMigration) -> None:
    move.sync(mirror=True, any_number=True)
    with pytest.raises(ConfigurationError, match="has ended"):
        withdraw(move.migration)


def test_a_pass_that_another_process_has_stays(move: LocalMigration) -> None:
    with JobDirectory(move.migration.place(2)).hold(), pytest.raises(AnotherDriver):
        withdraw(move.migration)
    assert move.kinds[-1] is PLANNED


@pytest.mark.parametrize("place", ["append", "_discard"])
def test_whoever_is_killed_the_next_sync_plans_again(
    move: LocalMigration, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """From the moment on that it is no pass any more."""
    with monkeypatch.context() as patched:
        patched.setattr(f"noria.engine.withdrawal.{place}", die)
        with pytest.raises(KilledHere):
            withdraw(move.migration)
    assert current_pass(move.root) == move.root, "nobody can run it"
    ended = move.sync(mirror=True)
    assert (ended.number, ended.run.exit_code, ended.run.objects) == (2, 0, 0)
    assert move.is_equal
    assert move.kinds[-4:] == [PLANNED, WITHDRAWN, PLANNED, RecordKind.PASS_ENDED]
    test_nothing_but_passes_is_left(move)


def test_a_kill_before_it_is_no_pass_leaves_it_as_it_was(
    move: LocalMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("noria.engine.withdrawal._remove_canaries", die)
        with pytest.raises(KilledHere):
            withdraw(move.migration)
    assert move.migration.last == 2
    withdraw(move.migration)
    assert move.sync(mirror=True).run.objects == 0


def test_a_pass_under_a_freeze_may_be_planned_again(move: LocalMigration) -> None:
    withdraw(move.migration)
    move.switch()
    assert move.is_equal


def test_nothing_of_it_is_left(move: LocalMigration) -> None:
    withdrawal.withdraw(move.migration)
    assert list((move.root / "passes").iterdir()) == []


def test_nothing_but_passes_is_left(move: LocalMigration) -> None:
    assert [each.name for each in (move.root / "passes").iterdir()] == ["000002"]
