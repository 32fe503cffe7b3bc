"""Ways back between two folders: what users changed goes home, and nothing is lost."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from noria.engine import rollback as rollback_module
from noria.engine.cutover_command import exchange_roles
from noria.engine.repair import known_damage
from noria.manifests.errors import ConfigurationError, InventoryError
from noria.manifests.job.cutover_states import MigrationState
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import RecordKind
from tests.support.local_migrations import LocalMigration, held, write

OBJECTS = {"a": "first", "d/b": "second", "d/c": "third", "e": "fourth"}


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    """A migration that was switched: users write to the target."""
    migration = LocalMigration(tmp_path)
    migration.copy(OBJECTS)
    migration.switch()
    return migration


def test_nothing_changed_is_a_way_back(move: LocalMigration) -> None:
    report = move.rollback()
    assert (report.ended, report.exit_code) == (True, 0)
    assert (move.state, held(move.source)) == (MigrationState.ROLLED_BACK, OBJECTS)
    facts = move.records[-1].facts
    assert facts == {
        "switched": True,
        "way_back": "000001",
        "moved_objects": 0,
        "deleted_objects": 0,
    }


def test_what_users_changed_goes_home(move: LocalMigration) -> None:
    write(move.target, {"a": "changed", "new": "x"})
    report = move.rollback()
    assert report.ended
    assert held(move.source) == {**OBJECTS, "a": "changed", "new": "x"}
    assert move.records[-1].facts["moved_objects"] == 2


def test_what_users_deleted_stays_at_the_source_unless_it_is_mirrored(
    move: LocalMigration,
) -> None:
    (move.target / "a").unlink()
    assert move.rollback().ended
    assert "a" in held(move.source)


def test_a_mirror_deletes_at_the_source_what_users_deleted(move: LocalMigration) -> None:
    (move.target / "a").unlink()
    assert move.rollback(mirror=True, any_number=True).ended
    assert move.is_equal
    assert "a" not in held(move.source)
    assert move.records[-1].facts["deleted_objects"] == 1


def test_a_mirror_has_a_limit_here_too(move: LocalMigration) -> None:
    for each in ("a", "e"):
        (move.target / each).unlink()
    with pytest.raises(InventoryError, match=r"2 of 4 objects.*--yes"):
        move.rollback(mirror=True)
    assert (held(move.source), move.state) == (OBJECTS, MigrationState.GRACE)
    assert move.rollback(mirror=True, any_number=True).ended
    assert move.is_equal


def test_a_foreign_write_at_the_source_after_the_switch_is_never_replaced(
    move: LocalMigration,
) -> None:
    write(move.target, {"a": "by a user", "new": "by a user"})
    (move.target / "e").unlink()
    foreign = {"a": "by a script", "new": "by a script", "e": "by a script, too"}
    write(move.source, foreign)
    for _ in range(2):
        report = move.rollback(mirror=True, any_number=True)
        assert (report.ended, report.exit_code, move.state) == (False, 1, MigrationState.GRACE)
        assert held(move.source) == {**OBJECTS, **foreign}
    for each in foreign:  # somebody looked, and takes them away
        (move.source / each).unlink()
    assert move.rollback(mirror=True, any_number=True).ended
    assert move.is_equal
    assert held(move.source)["a"] == "by a user"


def test_an_equal_write_at_both_ends_is_no_conflict(move: LocalMigration) -> None:
    for end in (move.source, move.target):
        write(end, {"a": "the same at both"})
    assert move.rollback().ended
    assert move.is_equal


# -- what the source had lost before the cutover ------------------------------------------------


@pytest.fixture
def lost(tmp_path: Path) -> LocalMigration:
    """As `move`; `a` was deleted at the source before, and stands at the target still."""
    migration = LocalMigration(tmp_path)
    migration.copy(OBJECTS)
    (migration.source / "a").unlink()
    migration.sync()
    migration.switch()
    assert "a" in held(migration.target)
    return migration


def test_what_was_gone_before_the_cutover_is_not_resurrected(lost: LocalMigration) -> None:
    assert lost.rollback(mirror=True, any_number=True).ended
    assert "a" not in held(lost.source)
    assert lost.sync().run.reconciled
    assert "a" in held(lost.target)


def test_unless_a_user_changed_it_since(lost: LocalMigration) -> None:
    write(lost.target, {"a": "wanted again"})
    assert lost.rollback().ended
    assert held(lost.source)["a"] == "wanted again"
    assert lost.sync().run.reconciled
    assert lost.is_equal


def test_or_somebody_wrote_that_name_at_the_source(lost: LocalMigration) -> None:
    write(lost.target, {"a": "by a user"})
    write(lost.source, {"a": "by a script"})
    assert not lost.rollback().ended
    assert held(lost.source)["a"] == "by a script"


@pytest.mark.parametrize("mirror", [False, True])
def test_what_users_deleted_of_it_is_missed_by_nobody_later(
    lost: LocalMigration, mirror: bool
) -> None:
    (lost.target / "a").unlink()
    report = lost.rollback(mirror=mirror)
    assert report.ended
    assert report.back is not None
    assert report.back.delta is not None
    assert report.back.delta.objects.get("gone", 0) == 0, "nothing of the source went with it"
    later = lost.sync()
    assert (later.run.reconciled, later.run.differences) == (True, {})
    assert lost.verify().exit_code == 0


# -- back and forth ------------------------------------------------------------------------------


def test_what_a_way_back_moved_is_read_back_by_the_receipts_that_it_has(tmp_path: Path) -> None:
    """Not by those of the last pass: other bytes stand under its names now, and are right."""
    move = LocalMigration(tmp_path)
    move.copy(OBJECTS)
    write(move.source, {"a": "in the last pass"})
    move.switch()
    write(move.target, {"a": "by a user", "e": "by a user"})
    (move.target / "d/b").unlink()
    assert move.rollback(mirror=True, any_number=True).ended
    read_back = move.verify()
    assert (read_back.damaged, read_back.reread, read_back.exit_code) == (0, 3, 0)
    move.sync()
    read_back = move.verify()
    assert (read_back.damaged, read_back.reread, read_back.unread) == (0, 3, 0)


def test_damage_of_what_a_way_back_moved_is_noted_in_its_pass(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    move.copy(OBJECTS)
    write(move.source, {"a": "in the last pass"})
    move.switch()
    write(move.target, {"a": "by a user"})
    assert move.rollback().ended
    path = move.target / "a"
    before = path.stat()
    path.write_text("by nobody")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    read_back = move.verify()
    assert (read_back.damaged, read_back.causes, read_back.exit_code) == (1, {"damaged": 1}, 1)
    assert known_damage(JobDirectory(move.migration.current)) == {"damaged": 1}


def test_what_stands_is_all_read_back_after_a_way_back(tmp_path: Path) -> None:
    """Every object that stands has a receipt in one of the passes, or in the way back."""
    move = LocalMigration(tmp_path)
    names = [f"d{n}/\\{n}" for n in range(6)]
    move.copy({name: name for name in names})
    write(move.source, {names[0]: "second pass"})
    move.switch()
    write(move.target, {names[1]: "by a user", "more": "by a user"})
    (move.target / names[2]).unlink()
    assert move.rollback(mirror=True, any_number=True).ended
    stands = move.migration.state(move.migration.last).facts.objects
    read_back = move.verify()
    assert (read_back.reread, read_back.unread, read_back.damaged) == (stands, 0, 0)


def test_a_way_back_of_a_first_pass_alone(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    move.copy(OBJECTS)
    move.switch()
    write(move.target, {"a": "by a user"})
    assert move.rollback().ended
    assert move.verify().damaged == 0
    write(move.source, {"a": "by a user of the source"})
    assert move.sync().run.outcomes == {"TRANSFERRED": 1}
    assert move.is_equal


@pytest.mark.parametrize("seed", range(2))
def test_lives_with_several_ways_back_end_equal(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    move = LocalMigration(tmp_path)
    names = [f"{folder}{n}" for folder in ("", "d/", "é ") for n in range(4)]
    move.copy({name: name for name in names[::2]})
    for life in range(2):
        live(move.source, names, draw, f"source {life}")
        move.sync(mirror=True, any_number=True)
        assert move.is_equal
        move.switch()
        live(move.target, names, draw, f"target {life}")
        report = move.rollback(mirror=True, any_number=True)
        assert report.ended
        assert move.is_equal
        read_back = move.verify()
        assert (read_back.damaged, read_back.unread) == (0, 0)
        assert read_back.reread == len(held(move.target))
    live(move.source, names, draw, "the end")
    assert move.sync(mirror=True, any_number=True).run.exit_code == 0
    assert move.is_equal
    assert len(list(move.migration.ways_back())) == 3, "the last one was not begun"


def live(end: Path, names: list[str], draw: random.Random, mark: str) -> None:
    """What users do."""
    for name in draw.sample(names, 6):
        if draw.random() < 0.4:
            (end / name).unlink(missing_ok=True)
        else:
            write(end, {name: f"{mark} {name}"})


def test_the_states_are_made_again_from_what_is_sealed(move: LocalMigration) -> None:
    write(move.target, {"a": "by a user", "new": "x"})
    move.rollback()
    number = move.migration.last
    before = list(move.migration.state(number).blocks())
    for each in range(1, number + 1):
        move.migration.forget(each)
    assert list(move.migration.state(number).blocks()) == before


# -- where there is no way back ------------------------------------------------------------------


def test_before_the_switch_nothing_is_moved(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    move.copy(OBJECTS)
    move.cutover(freeze_command="true")
    write(move.target, {"foreign": "x"})
    report = move.rollback()
    assert (report.ended, report.back, move.state) == (True, None, MigrationState.ROLLED_BACK)
    assert held(move.source) == OBJECTS
    assert move.records[-1].facts == {"moved_objects": 0, "switched": False}


@pytest.mark.parametrize("steps", [0, 1])
def test_a_source_in_use_needs_none(tmp_path: Path, steps: int) -> None:
    move = LocalMigration(tmp_path)
    move.copy(OBJECTS)
    for _ in range(steps):
        move.sync()
    with pytest.raises(ConfigurationError, match="a rollback needs a migration that is frozen"):
        move.rollback()


def test_one_that_has_ended_is_not_repeated(move: LocalMigration) -> None:
    assert move.rollback().ended
    write(move.target, {"a": "after it"})
    with pytest.raises(ConfigurationError, match="this migration is rolled back"):
        move.rollback()
    assert held(move.source) == OBJECTS


def test_no_pass_is_run_while_the_target_is_in_use(move: LocalMigration) -> None:
    with pytest.raises(ConfigurationError, match="a rollback makes it so"):
        move.sync()


# -- killed ---------------------------------------------------------------------------------------


class _KilledRollback(BaseException):
    """Noria ends at this line."""


STEPS = [
    "write_reversed",
    "planned_endpoints",
    "trust_ends",
    "prepared_pass",
    "DeltaCounts",
    "load_status",
    "_complete",
    "_note",
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_is_repeated(
    move: LocalMigration, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    write(move.target, {"a": "by a user", "new": "x"})
    (move.target / "e").unlink()
    real = getattr(rollback_module, step)

    class _Step:
        def __call__(self, *given: Any, **more: Any) -> Any:
            if after:
                real(*given, **more)
            raise _KilledRollback

        def of(self, *given: Any) -> Any:
            raise _KilledRollback

    with monkeypatch.context() as killed:
        killed.setattr(rollback_module, step, _Step())
        with pytest.raises(_KilledRollback):
            move.rollback(mirror=True, any_number=True)
    if not (step == "_note" and after) and not (step == "_complete" and after):
        assert move.rollback(mirror=True, any_number=True).ended
    assert move.state is MigrationState.ROLLED_BACK
    assert move.kinds.count(RecordKind.ROLLED_BACK) == 1
    assert move.is_equal
    assert held(move.source)["a"] == "by a user"
    assert move.sync().run.reconciled
    assert move.records[-3].facts["moved_objects"] == 2


def test_killed_between_the_moves_and_their_end(move: LocalMigration) -> None:
    """The moves are done, and nobody knows: a pass that finds nothing is the end."""
    write(move.target, {"a": "by a user"})

    def run(ready: Any) -> Any:
        real(ready)
        raise _KilledRollback

    real, move.run = move.run, run
    with pytest.raises(_KilledRollback):
        move.rollback()
    move.run = real
    assert move.rollback().ended
    assert move.records[-1].facts["moved_objects"] == 1


# -- credentials -----------------------------------------------------------------------------------


def test_credentials_of_the_ends_are_exchanged() -> None:
    environment = {
        "NORIA_SOURCE_AZURE_STORAGE_KEY": "of the source",
        "NORIA_SOURCE_AWS_PROFILE": "source",
        "NORIA_TARGET_AWS_PROFILE": "target",
        "NORIA_TARGET_AWS_REGION": "eu",
        "NORIA_PYTHONPATH": "as it was",
        "AWS_PROFILE": "as it was",
    }
    exchanged = dict(environment)
    exchange_roles(exchanged)
    assert exchanged == {
        "NORIA_TARGET_AZURE_STORAGE_KEY": "of the source",
        "NORIA_TARGET_AWS_PROFILE": "source",
        "NORIA_SOURCE_AWS_PROFILE": "target",
        "NORIA_SOURCE_AWS_REGION": "eu",
        "NORIA_PYTHONPATH": "as it was",
        "AWS_PROFILE": "as it was",
    }
    exchange_roles(exchanged)
    assert exchanged == environment


def test_what_came_back_is_no_damage_if_the_way_back_was_killed_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledBack(BaseException):
        """The process ends right after the way back has noted that it has ended."""

    def die(*given: Any) -> None:
        raise KilledBack

    move = LocalMigration(tmp_path)
    move.copy(OBJECTS)
    move.sync()
    move.switch()
    write(move.target, {"a": "by a user"})
    with monkeypatch.context() as patched:
        patched.setattr(rollback_module, "_complete", die)
        with pytest.raises(KilledBack):
            move.rollback()
    read_back = move.verify()
    assert (read_back.damaged, read_back.reread, read_back.unread) == (0, 4, 0)
    assert move.rollback().ended
    assert move.is_equal
