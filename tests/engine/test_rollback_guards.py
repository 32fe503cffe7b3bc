"""What a way back must not take for granted: whose policy counts, and that nobody was switched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noria.engine import cutover
from noria.manifests.errors import ConfigurationError
from noria.manifests.job import history
from noria.manifests.job.cutover_states import MigrationState
from noria.manifests.job.history import Record, RecordKind
from tests.support.local_migrations import LocalMigration, held, write

OBJECTS = {"a": "first", "d/b": "second"}
STEPS: dict[str, Any] = {"freeze_command": "true", "approve_as": "Ann"}


@pytest.mark.parametrize("policy", ["replace", "keep"])
def test_what_others_wrote_at_the_source_stays_and_is_told(tmp_path: Path, policy: str) -> None:
    """`conflicts` was said of the target."""
    replace = policy == "replace"
    run = {"metrics_address": "off", "conflicts": policy, "replace_foreign": replace}
    move = LocalMigration(tmp_path)
    move.copy(OBJECTS, run=run)
    move.switch()
    write(move.target, {"a": "by a user"})
    write(move.source, {"a": "by a script"})
    assert not move.rollback().ended
    assert held(move.source)["a"] == "by a script"


@pytest.fixture
def half_switched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalMigration:
    """The switch command has run, and the cutover was killed before it recorded that."""

    def dying(directory: Any, kind: RecordKind, *facts: Any, **more: Any) -> Record:
        if kind is RecordKind.SWITCHED:
            raise KeyboardInterrupt
        return history.append(directory, kind, *facts, **more)

    move = LocalMigration(tmp_path)
    move.copy(OBJECTS)
    with monkeypatch.context() as patched:
        patched.setattr(cutover, "append", dying)
        with pytest.raises(KeyboardInterrupt):
            move.cutover(**STEPS, switch_command="true")
    assert move.state is MigrationState.PROVING
    return move


def test_users_of_a_switch_that_nobody_recorded_lose_nothing(half_switched: LocalMigration) -> None:
    write(half_switched.target, {"a": "by a user"})
    assert half_switched.rollback().ended
    assert held(half_switched.source)["a"] == "by a user"
    assert half_switched.records[-1].facts["moved_objects"] == 1


def test_a_switch_command_that_failed_may_have_switched(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    move.copy(OBJECTS)
    assert move.cutover(**STEPS, switch_command="exit 3").stopped is not None
    write(move.target, {"new": "by a user"})
    assert move.rollback().ended
    assert held(move.source)["new"] == "by a user"


def test_one_before_the_last_freeze_is_over(half_switched: LocalMigration) -> None:
    assert half_switched.rollback().ended
    assert half_switched.cutover(freeze_command="true").state is MigrationState.PROVING
    assert half_switched.rollback().back is None


def test_a_pass_that_was_begun_since_is_ended_first(half_switched: LocalMigration) -> None:
    def killed(ready: Any) -> Any:
        raise KeyboardInterrupt

    run, half_switched.run = half_switched.run, killed
    with pytest.raises(KeyboardInterrupt):
        half_switched.sync()
    half_switched.run = run
    with pytest.raises(ConfigurationError, match="pass 3 has not ended"):
        half_switched.rollback()
