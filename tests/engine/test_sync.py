"""Later passes between two folders, and what every command makes of a migration that has some."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from noria.engine import passes, sync_command
from noria.engine.cluster.protocol import ClusterEvent
from noria.engine.job import RunReport
from noria.engine.pass_records import has_ended
from noria.engine.past_passes import passes_of
from noria.engine.planning import PassFacts, Prepared, pass_facts
from noria.engine.presence import Presence, is_somebody_present, present
from noria.engine.repair import known_damage
from noria.engine.status import load_status
from noria.engine.sync_command import Rhythm
from noria.engine.verifying import verify
from noria.manifests.errors import ConfigurationError, InventoryError, StopAsked
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import RecordKind
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.model import ShardKind, WorkerReport
from noria.manifests.passes.standing_damage import standing_damage
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration, held, run_here, write
from tests.support.scripted_cluster import ScriptedCluster, reported

OBJECTS = {"a": "first", "d/b": "second", "d/c": "third", "e": "fourth"}


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path)
    migration.copy(OBJECTS)
    return migration


class _KilledPass(BaseException):
    """Noria ends at this line."""


def end_here(*given: Any, **more: Any) -> None:
    raise _KilledPass


# -- which pass -----------------------------------------------------------------------------------


def test_a_directory_without_a_job_is_refused(tmp_path: Path) -> None:
    code, out, err = noria("sync", tmp_path / "nothing")
    assert (code, out) == (2, "")
    assert "is not a job directory" in err
    assert not (tmp_path / "nothing").exists()


def test_a_pass_or_a_way_back_is_refused_and_names_the_migration(move: LocalMigration) -> None:
    move.switch()
    write(move.target, {"a": "by a user"})
    move.rollback()
    before = move.kinds
    for place in (move.migration.place(2), move.root / "ways-back" / "000001"):
        for command in ("sync", "cutover", "rollback"):
            code, _, err = noria(command, place, "-q")
            assert (code, f"name the migration, {move.root}" in err) == (2, True), err
    assert move.kinds == before


def test_an_unfinished_first_pass_is_brought_to_its_end_first(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path, run=end_here)  # type: ignore[arg-type]  # killed before the run
    with pytest.raises(_KilledPass):
        move.copy(OBJECTS)
    move.run = run_here
    write(move.source, {"late": "x"})
    assert move.sync().number == 1
    assert "pass 1 was begun: it is brought to its end first" in move.said
    assert "late" not in held(move.target)
    assert (move.sync().number, move.is_equal) == (2, True)


def test_a_directory_of_an_edition_without_history_gets_one(move: LocalMigration) -> None:
    job = json.loads((move.root / "job.json").read_text())
    job.pop("as_of", None)
    (move.root / "job.json").write_text(json.dumps(job))
    assert not (move.root / "history").exists()
    move.sync()
    ended, planned = RecordKind.PASS_ENDED, RecordKind.PLANNED
    assert move.kinds == [ended, planned, ended]
    (first, second) = passes_of(move.records)
    assert (first.new.objects, second.unchanged.objects) == (4, 4)


def test_a_status_that_is_lost_costs_a_look_alone(move: LocalMigration) -> None:
    (move.root / "status.json").unlink()
    assert move.sync().number == 1
    write(move.source, {"a": "changed"})
    assert move.sync().number == 2
    assert move.is_equal


@pytest.mark.parametrize("after", ["plan", "run"])
def test_a_later_pass_that_was_killed_is_brought_to_its_end(
    move: LocalMigration, after: str
) -> None:
    write(move.source, {"a": "changed"})

    def run(ready: Prepared) -> Any:
        if after == "run":
            run_here(ready)
        raise _KilledPass

    move.run = run
    with pytest.raises(_KilledPass):
        move.sync()
    move.run = run_here
    write(move.source, {"late": "x"})
    number = move.sync().number
    assert number == (2 if after == "plan" else 3)
    move.sync()
    assert move.is_equal
    assert [each.number for each in passes_of(move.records)] == [*range(1, number + 2)]


@pytest.fixture
def killed_plan(move: LocalMigration, monkeypatch: pytest.MonkeyPatch) -> LocalMigration:
    """Pass 2 has a job.json and no manifest; `a` is gone at the source."""
    (move.source / "a").unlink()
    with monkeypatch.context() as killed:
        killed.setattr("noria.engine.planning.finish_plan", end_here)
        with pytest.raises(_KilledPass):
            move.sync()
    place = move.migration.place(2)
    assert JobDirectory.exists(place)
    assert not (place / "manifest").exists()
    return move


def test_a_killed_plan_gives_way_to_what_is_asked_for_now(killed_plan: LocalMigration) -> None:
    report = killed_plan.sync(mirror=True, any_number=True)
    assert (report.number, report.run.outcomes) == (2, {"DELETED": 1})
    facts = pass_facts(JobDirectory(killed_plan.migration.place(2)))
    assert facts == PassFacts(number=2, mirror=True, deletions_max=None)
    assert killed_plan.is_equal


def test_a_killed_plan_is_made_again_as_it_was(killed_plan: LocalMigration) -> None:
    report = killed_plan.sync()
    assert report.delta is not None
    assert (report.number, report.delta.objects["gone"]) == (2, 1)
    assert "a" in held(killed_plan.target)


def test_a_frozen_plan_stays_and_says_so(move: LocalMigration) -> None:
    (move.source / "a").unlink()
    move.run = end_here  # type: ignore[assignment]  # killed before the run
    with pytest.raises(_KilledPass):
        move.sync()
    move.run = run_here
    report = move.sync(mirror=True, any_number=True)
    assert (report.number, report.run.outcomes) == (2, {})
    assert "pass 2 is planned already, with other --deletions than now" in move.said
    assert move.sync(mirror=True, any_number=True).run.outcomes == {"DELETED": 1}
    assert move.is_equal


def test_too_many_deletions_are_refused_and_the_pass_may_be_asked_for_again(
    move: LocalMigration,
) -> None:
    for each in ("a", "e"):
        (move.source / each).unlink()
    with pytest.raises(InventoryError, match=r"2 of 4 objects.*--yes"):
        move.sync(mirror=True)
    assert held(move.target) == OBJECTS
    assert move.sync(mirror=True, any_number=True).number == 2
    assert move.is_equal


def test_what_somebody_changed_at_the_target_is_not_replaced(move: LocalMigration) -> None:
    write(move.source, {"a": "changed", "e": "changed"})
    write(move.target, {"a": "by somebody"})
    report = move.sync()
    assert (report.run.exit_code, report.run.outcomes["TRANSFERRED"]) == (1, 1)
    assert held(move.target)["a"] == "by somebody"


# -- an inventory ---------------------------------------------------------------------------------


def test_an_inventory_has_to_be_named_again(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    write(move.source, OBJECTS)
    keys = tmp_path / "keys.txt"
    keys.write_text("a\nd/b\n")
    inventory = {"kind": "keys", "url": f"file://{keys}", "names": "relative"}
    move.copy(OBJECTS, inventory=inventory)
    assert set(held(move.target)) == {"a", "d/b"}
    code, _, err = noria("sync", move.root, "-q")
    assert code == 2
    assert "--inventory URL" in err
    assert "--inventory listing" in err
    assert move.sync(inventory="listing").run.exit_code == 0
    assert move.is_equal


# -- every command on a migration -----------------------------------------------------------------


@pytest.fixture
def third(move: LocalMigration) -> LocalMigration:
    """A migration whose third pass had one object, which met another one at the target."""
    move.sync()
    write(move.source, {"new": "wanted"})
    write(move.target, {"new": "somebody else's"})
    assert move.sync().run.exit_code == 1
    return move


def document(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Exit code, and the one document on standard output."""
    code, out, _ = noria(*arguments, "--json")
    found = json.loads(out)
    assert isinstance(found, dict)
    return code, found


def test_status_and_failures_are_of_the_latest_pass(third: LocalMigration) -> None:
    code, found = document("status", third.root)
    assert code == 0
    assert [each["number"] for each in found["passes"]] == [1, 2, 3]
    assert found["objects_total"] == 1, found
    code, out, _ = noria("failures", third.root, "--show-keys")
    assert "new" in out
    assert "target_conflict" in out


def test_retry_and_run_are_of_the_latest_pass(third: LocalMigration) -> None:
    (third.target / "new").unlink()
    code, out, _ = noria("retry", third.root, "-q")
    assert code == 0, out
    assert third.is_equal
    assert third.migration.last == 3
    for command in ("run", "retry"):
        code, found = document(command, third.root)
        assert (code, found["objects"]) == (0, 1)
    assert third.sync().run.reconciled


def test_copy_again_is_of_the_latest_pass(third: LocalMigration) -> None:
    ends = (f"file://{third.source}", f"file://{third.target}")
    code, found = document("copy", *ends, "--job", third.root)
    assert (code, found["objects"], found["directory"]) == (1, 1, str(third.root))
    code, _, err = noria("copy", ends[1], ends[0], "--job", third.root)
    assert (code, "holds a job for other ends" in err) == (2, True)


def test_reconcile_is_of_all_that_stands(move: LocalMigration) -> None:
    write(move.source, {"a": "changed"})
    move.sync()
    code, found = document("reconcile", move.root)
    assert (code, found["reconciled"], found["landed"]) == (0, True, 4)
    (move.target / "e").unlink()  # of the first pass
    code, found = document("reconcile", move.root)
    assert (code, found["missing"], found["extra"]) == (1, 1, 0)


def test_verify_reads_back_what_stands_by_all_passes(move: LocalMigration) -> None:
    write(move.source, {"a": "changed", "new": "x"})
    (move.source / "e").unlink()
    move.sync(mirror=True, any_number=True)
    code, found = document("verify", move.root)
    assert (code, found["reread"], found["damaged"]) == (0, 4, 0)
    write(move.target, {"d/b": "damage"})
    code, found = document("verify", move.root)
    assert (code, found["damaged"]) == (1, 1)


def test_one_crew_reads_all_passes_back(move: LocalMigration) -> None:
    for number in range(3):
        write(move.source, {f"new-{number}": "x"})
        move.sync()
    cluster = ScriptedCluster()
    found = verify(move.root, cluster=cluster)
    assert (found.reread, found.damaged, found.unread) == (7, 0, 0)
    assert (len(cluster.started), cluster.closed) == (1, 1)


def test_a_verification_leaves_what_a_run_has_counted(move: LocalMigration) -> None:
    write(move.source, {"new": "x"})
    move.sync()

    def counted() -> dict[str, float]:
        status = load_status(JobDirectory(move.migration.current))
        assert status is not None
        return {labels[0]: number for labels, number in status.metrics.counters.items()}

    before = counted()
    move.verify()
    assert before.items() <= counted().items()
    assert counted()["bytes_reread"] > 0


def test_damage_is_noted_in_the_pass_that_the_object_is_of(move: LocalMigration) -> None:
    write(move.source, {"new": "x"})
    move.sync()
    write(move.source, {"newer": "x"})
    move.sync()
    for name in ("d/b", "new"):
        (move.target / name).unlink()
    found = verify(move.root, cluster=ScriptedCluster())
    assert (found.damaged, found.causes) == (2, {"target_missing": 2})
    noted = [known_damage(JobDirectory(move.migration.place(number))) for number in (1, 2, 3)]
    assert noted == [{"target_missing": 1}, {"target_missing": 1}, {}]


def test_a_pass_that_is_begun_meanwhile_makes_a_verification_incomplete(
    move: LocalMigration,
) -> None:
    """What it replaces was not read as it is by now."""

    def sync_first(worker: str, report: WorkerReport) -> ClusterEvent:
        if move.migration.last == 1:
            write(move.source, {"a": "changed"})
            move.sync()
        return reported(worker, report)

    found = verify(move.root, cluster=ScriptedCluster(sync_first))
    assert (found.complete, found.exit_code) == (False, 3)
    assert found.stopped == (
        "another pass was begun meanwhile, and replaces what was read: verify again"
    )
    assert verify(move.root, cluster=ScriptedCluster()).exit_code == 0


def test_clean_is_of_the_latest_pass(move: LocalMigration) -> None:
    move.sync()
    code, found = document("clean", move.root)
    assert (code, found["aborted"]) == (0, 0)


def test_an_earlier_pass_is_not_run(move: LocalMigration) -> None:
    move.sync()
    move.sync()
    code, _, err = noria("run", move.migration.place(2), "-q")
    assert (code, "name the latest" in err) == (2, True)


def test_history_is_one_document_and_of_the_migration(move: LocalMigration) -> None:
    move.sync()
    code, found = document("history", move.root)
    assert code == 0
    assert [each["kind"] for each in found["records"]] == [str(each) for each in move.kinds]


def test_a_state_that_is_lost_is_made_again(move: LocalMigration) -> None:
    write(move.source, {"a": "changed"})
    move.sync()
    shutil.rmtree(move.root / "state")
    assert move.sync().run.reconciled
    assert has_ended(move.migration, 3)


# -- passes by themselves -------------------------------------------------------------------------


@pytest.fixture
def cli(move: LocalMigration, monkeypatch: pytest.MonkeyPatch) -> LocalMigration:
    """`noria sync` runs its passes in this process."""

    def one_pass(directory: Path, wishes: passes.PassWishes, options: Any) -> passes.PassReport:
        return passes.run_pass(directory, wishes, run_here, move.said.append)

    monkeypatch.setattr(sync_command, "one_pass", one_pass)
    return move


def test_one_pass_is_one_document(cli: LocalMigration) -> None:
    write(cli.source, {"a": "changed"})
    code, found = document("sync", cli.root)
    assert (code, found["pass"], found["directory"]) == (0, 2, str(cli.root))
    assert (found["delta"]["objects"]["size"], found["delta"]["objects"]["unchanged"]) == (1, 3)


def test_an_error_is_one_document_too(tmp_path: Path) -> None:
    code, found = document("sync", tmp_path)
    assert (code, found["exit_code"]) == (2, 2)


def test_passes_go_on_until_the_lag_is_reached(cli: LocalMigration) -> None:
    code, found = document("sync", cli.root, "--until-lag", "1h")
    assert (code, found["pass"]) == (0, 2), "it is reached at once"


def test_passes_go_on_for_good_without_a_lag(
    cli: LocalMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Presence, "wait", lambda presence, seconds: sleep(seconds))
    code, _, err = noria("sync", cli.root, "--every", "1h")
    assert code == 3
    assert "noria: stopped; run it again to resume" in err
    assert len(waits) == 2
    assert all(3_000 < each <= 3_600 for each in waits)
    assert cli.migration.last == 3


def test_ctrl_c_between_passes_is_one_document(
    cli: LocalMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Presence, "wait", lambda presence, seconds: sleep(seconds))
    code, found = document("sync", cli.root, "--every", "1h")
    assert (code, found["exit_code"], found["error"]) == (3, 3, "stopped")


def test_a_pass_that_fails_ends_the_rhythm(cli: LocalMigration) -> None:
    write(cli.source, {"new": "wanted"})
    write(cli.target, {"new": "somebody else's"})
    code, found = document("sync", cli.root, "--every", "1h")
    assert (code, found["pass"], found["failed"]) == (1, 2, 1)


@pytest.mark.parametrize("option", ["--until-lag", "--every"])
@pytest.mark.parametrize("duration", ["soon", "-1s", ""])
def test_a_duration_that_is_none_is_refused_before_a_pass(
    cli: LocalMigration, option: str, duration: str
) -> None:
    code, _, err = noria("sync", cli.root, option, duration)
    assert (code, option in err) == (2, True)
    assert cli.migration.last == 1


def test_a_rhythm_is_over_once_the_lag_is_reached(move: LocalMigration) -> None:
    move.sync()
    waits: list[float] = []

    def is_over(rhythm: Rhythm) -> bool:
        return rhythm.is_over(move.root, move.said.append, waits.append)

    assert is_over(Rhythm(3_600.0, 0.0))
    assert not is_over(Rhythm(0.0, 0.0))
    assert waits == []
    assert not is_over(Rhythm(0.0, 600.0))
    assert len(waits) == 1
    assert 500 < waits[0] <= 600


def test_a_drain_ends_who_waits_for_the_next_pass(cli: LocalMigration) -> None:
    with present(cli.root) as presence, ThreadPoolExecutor(1) as waiting:
        assert is_somebody_present(cli.root)
        ended = waiting.submit(presence.wait, 60.0)
        code, out, _ = noria("set", cli.root, "bandwidth=1MB/s")
        assert (code, "a command is between two of its steps there, and heeds it" in out) == (
            0,
            True,
        )
        code, out, _ = noria("drain", cli.root)
        assert (code, "a command is between two of its steps there, and heeds it" in out) == (
            0,
            True,
        )
        with pytest.raises(StopAsked, match="drained on request of "):
            ended.result(timeout=30)
    assert not is_somebody_present(cli.root)
    code, out, _ = noria("drain", cli.root)
    assert (code, "there is nothing to drain" in out) == (0, True)
    with present(cli.root) as presence:
        presence.check()  # what ended another one ends no later one


def test_a_sync_that_goes_on_for_good_is_drained_between_passes(
    cli: LocalMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = Presence.wait

    def drained(presence: Presence, seconds: float) -> None:
        assert noria("drain", cli.root)[0] == 0
        wait(presence, seconds)

    monkeypatch.setattr(Presence, "wait", drained)
    code, found = document("sync", cli.root, "--every", "1h")
    assert (code, found["error"].startswith("drained on request of ")) == (3, True)
    assert cli.migration.last == 2


def test_nothing_asked_for_is_no_rhythm() -> None:
    assert Rhythm.of(None, None) is None
    assert Rhythm.of("10m", "1h") == Rhythm(600.0, 3_600.0)
    with pytest.raises(ConfigurationError):
        Rhythm.of("10 lines", None)


# -- damage --------------------------------------------------------------------------------------


def rot(path: Path) -> None:
    """Other bytes of the same size, which a listing does not show."""
    before = path.stat()
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_an_earlier_pass_left_and_rotted_is_sent_again_by_the_next(
    move: LocalMigration,
) -> None:
    write(move.source, {"new": "x"})
    move.sync()
    rot(move.target / "d/b")
    rot(move.target / "new")
    assert move.verify().causes == {"damaged": 2}
    repaired = move.sync()
    assert repaired.delta is not None
    assert repaired.delta.objects["damaged"] == 2
    assert (repaired.run.outcomes, repaired.exit_code) == ({"TRANSFERRED": 2}, 0)
    assert move.is_equal
    assert not len(standing_damage(move.migration, 3))
    assert move.verify().exit_code == 0
    again = move.sync()
    assert again.run.objects == 0


def test_damage_is_sent_again_also_by_a_pass_that_compares_bytes(move: LocalMigration) -> None:
    """A target may state the checksum of what it once took in: that is not what lies there."""
    move.sync()
    rot(move.target / "e")
    move.verify()
    repaired = move.sync(by_content=True)
    assert repaired.delta is not None
    assert (repaired.delta.objects["damaged"], repaired.delta.objects["content"]) == (1, 3)
    assert repaired.run.outcomes == {"TRANSFERRED": 1, "ALREADY_PRESENT": 3}
    assert move.is_equal


def test_a_damaged_object_of_many_parts_is_sent_again(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    big = "0123456789abcdef" * (1 << 15)  # 512 KiB
    parts = {"part_bytes": 1 << 16, "chunk_bytes": 1 << 16, "segment_bytes": 1 << 17}
    move.copy({"big": big, "small": "s"}, plan=parts)
    manifest = open_manifest(move.root / "manifest")
    assert [each.kind for each in manifest.shards()].count(ShardKind.PARTS) == 1
    move.sync()
    path = move.target / "big"
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(300_000)
        file.write(b"rotten")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = move.verify()
    assert (found.damaged, found.reread) == (1, 1)
    assert move.sync().run.outcomes == {"TRANSFERRED": 1}
    assert path.read_text() == big
    assert move.verify().exit_code == 0


def test_the_next_step_after_damage_of_an_earlier_pass_is_said(move: LocalMigration) -> None:
    move.sync()
    rot(move.target / "e")
    code, out, _ = noria("verify", move.root)
    assert (code, f"DAMAGED: 1; send them again: noria sync {move.root}\n" in out) == (1, True)
    code, _, err = noria("retry", move.root)
    said = f"1 damaged object of earlier passes: `noria sync {move.root}` sends them again"
    assert (code, said in err) == (0, True)
    said = f"found by `noria verify`; send them again: noria sync {move.root}\n"
    assert said in noria("status", move.root)[1]
    move.sync()
    assert "DAMAGED" not in noria("status", move.root)[1]
    assert known_damage(JobDirectory(move.root)) == {}


def test_damage_that_somebody_else_wrote_over_is_a_conflict(move: LocalMigration) -> None:
    move.sync()
    rot(move.target / "e")
    assert move.verify().damaged == 1
    write(move.target, {"e": "by a user"})
    repaired = move.sync()
    assert (repaired.run.failed, repaired.run.causes) == (1, {"target_conflict": 1})
    assert (move.target / "e").read_text() == "by a user"


def test_what_is_gone_at_the_target_by_a_verification_takes_one_pass(
    move: LocalMigration,
) -> None:
    move.sync()
    (move.target / "e").unlink()
    assert move.verify().causes == {"target_missing": 1}
    repaired = move.sync()
    assert (repaired.run.outcomes, repaired.run.reconciled) == ({"TRANSFERRED": 1}, True)
    assert move.is_equal


def test_a_cutover_goes_on_once_damage_is_sent_again(move: LocalMigration) -> None:
    move.sync()
    move.cutover(freeze_command="true", approve_as="Ann")
    rot(move.target / "a")
    assert move.verify().damaged == 1
    refused = move.cutover(approve_as="Ann", switch_command="true")
    assert refused.stopped is not None
    assert "`noria sync" in refused.stopped
    assert move.sync().run.outcomes == {"TRANSFERRED": 1}
    ended = move.cutover(approve_as="Ann", switch_command="true", verify=True)
    assert ended.stopped is None
    assert move.is_equal


def test_what_is_damaged_and_gone_at_the_source_is_for_a_person(move: LocalMigration) -> None:
    move.sync()
    rot(move.target / "a")
    move.verify()
    (move.source / "a").unlink()
    move.sync()
    refused = move.cutover(freeze_command="true", approve_as="Ann", switch_command="true")
    assert refused.stopped is not None
    assert refused.stopped.startswith("1 object damaged at the target, and gone from the source: ")
    assert (move.target / "a").exists()
    move.sync(mirror=True, any_number=True)
    assert move.cutover(approve_as="Ann", switch_command="true").stopped is None
    assert move.is_equal


# -- odd clocks ----------------------------------------------------------------------------------


def test_what_was_changed_before_1970_and_did_not_move_is_no_end_of_a_migration(
    move: LocalMigration,
) -> None:
    write(move.source, {"old": "of the source"})
    os.utime(move.source / "old", (-1_000_000, -1_000_000))
    write(move.target, {"old": "by others"})
    assert move.sync().run.failed == 1
    assert move.records[-1].facts["oldest_unmoved"] == 0
    (move.target / "old").unlink()
    assert move.sync().run.outcomes == {"TRANSFERRED": 1}
    assert [each.number for each in passes.past_passes(move.root)] == [1, 2, 3]


def test_ends_that_only_the_directory_names_get_no_request(tmp_path: Path) -> None:
    """Its first pass has not ended: it would be gone on with at whatever job.json says."""

    def stop(ready: Prepared) -> RunReport:
        raise KeyboardInterrupt

    move = LocalMigration(tmp_path, run=stop)
    with pytest.raises(KeyboardInterrupt):
        move.copy({"a": "first"})
    path = move.root / "job.json"
    job = json.loads(path.read_text())
    job["config"]["source"] = {"url": "s3://lake", "endpoint": "https://collector.example"}
    path.write_text(json.dumps(job))
    with pytest.raises(ConfigurationError, match=r"names the endpoint https://collector\.example"):
        move.sync()
