"""What a way back begins with is derived too, as long as it goes on and once it has ended."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

import noria
from noria.engine import job
from noria.engine.cutover import CutoverTools, CutoverWishes, cutover
from noria.engine.passes import PassWishes, run_pass
from noria.engine.planning import Prepared
from noria.engine.rollback import rollback
from noria.manifests.job.cutover_states import MigrationState
from noria.manifests.passes.migration import Migration


def _run(ready: Prepared) -> job.RunReport:
    return job.run(ready.directory.root, planned=ready)


def _say(line: str) -> None: ...


@pytest.fixture
def switched(tmp_path: Path) -> Path:
    """A migration whose target is in use; `changed` was changed there."""
    (tmp_path / "source").mkdir()
    for name in ("changed", "same"):
        (tmp_path / "source" / name).write_text(name)
    ends = {role: {"url": (tmp_path / role).as_uri()} for role in ("source", "target")}
    root = tmp_path / "job"
    noria.plan(noria.job_config(ends), root)
    assert noria.run(root).exit_code == 0
    listing = PassWishes(inventory="listing")
    tools = CutoverTools(
        run_pass=partial(run_pass, root, listing, _run, _say),
        verify=lambda: noria.verify(root),
        say=_say,
    )
    wishes = CutoverWishes(freeze_command="true", approve_as="Ann", switch_command="true")
    assert cutover(root, wishes, tools).state is MigrationState.GRACE
    (tmp_path / "target" / "changed").write_text("at the target")
    return root


def _forget_all(root: Path) -> None:
    for state in (root / "state", *root.glob("ways-back/*/state")):
        shutil.rmtree(state)


def test_a_pass_after_a_roll_back_needs_no_state_that_was_kept(switched: Path) -> None:
    assert rollback(Migration(switched), PassWishes(), _run, _say).ended
    assert (switched.parent / "source" / "changed").read_text() == "at the target"
    _forget_all(switched)
    report = run_pass(switched, PassWishes(), _run, _say)
    assert report.delta is not None
    assert {name: n for name, n in report.delta.objects.items() if n} == {"unchanged": 2}
    assert report.run.reconciled


def test_a_roll_back_that_was_stopped_goes_on_without_its_state(switched: Path) -> None:
    class RollbackKilled(Exception): ...

    def die(ready: Prepared) -> job.RunReport:
        raise RollbackKilled

    with pytest.raises(RollbackKilled):
        rollback(Migration(switched), PassWishes(), die, _say)
    base = switched / "ways-back" / "000001" / "state" / "000001"
    before = {each.name: each.read_bytes() for each in base.iterdir()}
    _forget_all(switched)
    assert Migration(base.parent.parent).state(1).facts.objects == 2
    assert {each.name: each.read_bytes() for each in base.iterdir()} == before
    assert rollback(Migration(switched), PassWishes(), _run, _say).ended
    assert (switched.parent / "source" / "changed").read_text() == "at the target"
