"""A cutover step by step between two folders: what each step asks for, and how it goes on."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from noria.engine.cutover import CutoverReport, CutoverWishes, cutover
from noria.engine.passes import PassReport
from noria.engine.planning import Prepared
from noria.engine.verifying import VerifyReport
from noria.manifests.errors import AnotherDriver, ConfigurationError, JobDirectoryError, StopAsked
from noria.manifests.job.cutover_states import MigrationState
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Record, RecordKind, append
from tests.support.local_migrations import LocalMigration, run_here, write

OBJECTS = {"a": "first", "d/b": "second", "d/c": "third"}
SECRET = "hunter2-token"
FROZEN, PLANNED, PASS_ENDED = RecordKind.FROZEN, RecordKind.PLANNED, RecordKind.PASS_ENDED
PROVING, PROVED, APPROVED = RecordKind.PROVING, RecordKind.PROVED, RecordKind.APPROVED
SWITCHED, GRACE, STOPPED = RecordKind.SWITCHED, RecordKind.GRACE, RecordKind.STOPPED
VERIFIED = RecordKind.VERIFIED
ALL: dict[str, Any] = {"freeze_command": "true", "approve_as": "Ann", "switch_command": "true"}


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path)
    migration.copy(OBJECTS)
    return migration


def kinds(report: CutoverReport) -> list[RecordKind]:
    return [each.kind for each in report.steps]


def last(move: LocalMigration, kind: RecordKind) -> Record:
    return next(each for each in reversed(move.records) if each.kind is kind)


# -- all of it ---------------------------------------------------------------------------------


def test_every_step_is_recorded_in_order(move: LocalMigration) -> None:
    report = move.cutover(**ALL, verify=True)
    assert (report.stopped, report.exit_code) == (None, 0)
    assert report.state is MigrationState.GRACE
    steps = [FROZEN, PLANNED, PASS_ENDED, PROVING, VERIFIED, PROVED, APPROVED, SWITCHED, GRACE]
    assert kinds(report) == [PASS_ENDED, *steps], "what ran before is recorded first"
    facts = last(move, PROVED).facts
    assert facts["objects"] == facts["listed_at_target"] == facts["reread"] == 3
    assert (facts["bytes"], facts["missing"], facts["differing"]) == (16, 0, 0)
    assert last(move, APPROVED).facts == {"name": "Ann"}
    json.dumps(asdict(report))  # as --json has it


def test_one_that_is_over_does_nothing_more(move: LocalMigration, tmp_path: Path) -> None:
    move.switch()
    report = move.cutover(**ALL | {"switch_command": f"touch {tmp_path}/again"})
    assert (report.steps, report.state) == ((), MigrationState.GRACE)
    assert not (tmp_path / "again").exists()


def test_a_quiet_source_needs_no_command(move: LocalMigration) -> None:
    waits: list[float] = []
    report = move.cutover(move.tools(wait=waits.append), quiet_seconds=60.0)
    assert (waits, report.state) == ([60.0], MigrationState.PROVING)
    facts = last(move, FROZEN).facts
    assert (facts["evidence"], facts["objects"], facts["pass"]) == ("quiet", 3, 2)
    assert PROVED in kinds(report)


def test_whoever_asks_for_the_end_is_heard_before_the_next_step(
    move: LocalMigration, tmp_path: Path
) -> None:
    def check() -> None:
        if FROZEN in move.kinds:
            raise StopAsked

    commands = ALL | {"switch_command": f"touch {tmp_path}/switched"}
    with pytest.raises(StopAsked):
        move.cutover(move.tools(check=check), **commands)
    assert move.kinds[-1] is FROZEN
    assert not (tmp_path / "switched").exists()
    assert move.cutover(**commands).state is MigrationState.GRACE


# -- the freeze --------------------------------------------------------------------------------


def test_a_write_between_two_listings_is_no_freeze(move: LocalMigration) -> None:
    def wait(seconds: float) -> None:
        write(move.source, {"a": "changed", "new": "x"})
        (move.source / "d/c").unlink()

    report = move.cutover(move.tools(wait=wait), **ALL | {"freeze_command": None})
    assert report.exit_code == 1
    assert report.stopped is not None
    assert report.stopped.startswith("the source is not quiet: 1 gone, 1 new, 1 size within")
    assert "--freeze-command" in report.stopped
    assert FROZEN not in move.kinds
    assert kinds(report)[-1] is STOPPED
    assert move.cutover(**ALL).state is MigrationState.GRACE
    assert move.target.joinpath("a").read_text() == "changed"


def test_a_freeze_command_that_fails_freezes_nothing(move: LocalMigration) -> None:
    report = move.cutover(**ALL | {"freeze_command": f"echo {SECRET}; exit 3"})
    assert report.stopped is not None
    assert report.stopped.startswith("the freeze command ended with 3: see ")
    assert kinds(report) == [PASS_ENDED, STOPPED]
    (output,) = move.root.glob("cutover/*-freeze.txt")
    assert str(output) in report.stopped
    assert output.read_text() == f"{SECRET}\n"
    assert not output.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def test_a_write_after_the_freeze_command_and_before_the_last_pass_moves(
    move: LocalMigration,
) -> None:
    """A command that took no right away: the pass under the freeze lists the source after it."""
    write(move.source, {"a": "before"})
    report = move.cutover(**ALL | {"freeze_command": f"echo late > {move.source}/late"})
    assert report.state is MigrationState.GRACE
    assert move.is_equal


CHANGES: dict[str, Callable[[Path], None]] = {
    "new": lambda source: write(source, {"new": "x"}),
    "size": lambda source: write(source, {"a": "longer than it was"}),
    "etag": lambda source: write(source, {"a": "FIRST"}),
    "gone": lambda source: (source / "a").unlink(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_write_between_the_last_pass_and_the_proof_is_found(
    move: LocalMigration, what: str
) -> None:
    def run_pass() -> PassReport:
        ended = move.sync()
        CHANGES[what](move.source)
        return ended

    report = move.cutover(move.tools(run_pass=run_pass), **ALL)
    assert report.stopped is not None
    assert report.stopped.startswith(f"somebody wrote to the source since the freeze: 1 {what};")
    assert PROVED not in move.kinds
    assert report.state is MigrationState.PROVING
    move.sync()
    again = move.cutover(**ALL)
    assert kinds(again) == [PROVING, PROVED, APPROVED, SWITCHED, GRACE]


def test_a_write_after_the_proof_is_found_before_the_switch_and_makes_it_void(
    move: LocalMigration, tmp_path: Path
) -> None:
    assert move.cutover(freeze_command="true", approve_as="Ann").state is MigrationState.PROVING
    write(move.source, {"late": "x"})
    late = move.cutover(switch_command=f"touch {tmp_path}/switched")
    assert late.stopped is not None
    assert "since the proof: 1 new" in late.stopped
    assert not (tmp_path / "switched").exists()
    move.sync()
    again = move.cutover(switch_command="true")
    assert again.stopped == "it is proved; the switch needs an approval: --approve-as NAME"
    assert kinds(again) == [PROVING, PROVED, STOPPED]


# -- the last pass -----------------------------------------------------------------------------


def test_objects_that_fail_in_the_last_pass_stop_it(move: LocalMigration) -> None:
    write(move.source, {"e": "wanted"})
    write(move.target, {"e": "somebody else's"})
    report = move.cutover(**ALL)
    assert report.stopped is not None
    assert report.stopped.startswith("1 object did not move in pass 2 (1 target_conflict): see ")
    assert PROVING not in move.kinds
    (move.target / "e").unlink()
    again = move.cutover(**ALL)
    assert (again.stopped, move.is_equal) == (None, True)
    assert kinds(again)[:2] == [PLANNED, PASS_ENDED], "what had failed is moved by another pass"


def test_a_pass_that_stops_before_its_end_stops_it_and_goes_on_later(
    move: LocalMigration,
) -> None:
    def run(ready: Prepared) -> Any:
        status = ready.directory.root / "status.json"
        ended = replace(run_here(ready), complete=False, stopped="the store answers nobody")
        status.unlink()
        return ended

    write(move.source, {"e": "x"})

    move.run = run
    report = move.cutover(**ALL)
    assert report.stopped == "pass 2 stopped before its end: the store answers nobody"
    assert kinds(report) == [PASS_ENDED, FROZEN, PLANNED, STOPPED]
    move.run = run_here
    again = move.cutover(**ALL)
    assert again.state is MigrationState.GRACE
    assert [each.facts.get("pass") for each in move.records if each.kind is PLANNED] == [2]


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_a_target_that_somebody_changed_is_no_proof(move: LocalMigration, what: str) -> None:
    if what == "gone":
        (move.target / "a").unlink()
    else:
        write(move.target, {"a": "other bytes"})
    report = move.cutover(**ALL)
    assert report.stopped is not None
    assert report.stopped.startswith("the target is not what pass 2 left there: 1 ")
    assert PROVED not in move.kinds
    again = move.cutover(**ALL)
    if what == "gone":
        assert (again.exit_code, move.is_equal) == (0, True), "the next pass sends it again"
        return
    assert again.exit_code == 1, "nothing of others is mended by being repeated"
    assert PROVED not in move.kinds


def test_a_target_that_changes_right_before_the_proof_is_no_proof(move: LocalMigration) -> None:
    def run_pass() -> PassReport:
        ended = move.sync()
        (move.target / "a").unlink()
        return ended

    report = move.cutover(move.tools(run_pass=run_pass), **ALL)
    assert report.stopped is not None
    assert report.stopped.startswith("the target is not what was left there: 1 missing; see ")
    assert PROVED not in move.kinds


# -- reading back ------------------------------------------------------------------------------


def test_damage_at_the_target_stops_it(move: LocalMigration) -> None:
    damage(move.target / "a")
    report = move.cutover(**ALL, verify=True)
    assert report.stopped is not None
    assert report.stopped.startswith("1 object not at the target as written: see ")
    assert PROVED not in move.kinds


def test_a_reading_back_that_stops_is_told_from_damage(move: LocalMigration) -> None:
    def stopped() -> VerifyReport:
        return replace(move.verify(), complete=False, stopped="the disk is full")

    report = move.cutover(move.tools(verify=stopped), **ALL, verify=True)
    assert report.stopped == "reading back stopped before its end: the disk is full"
    assert PROVED not in move.kinds


def test_a_command_is_noted_on_disk_before_it_runs(
    move: LocalMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a way back has to know that a switch was begun."""
    done: list[str] = []
    notes, runs = JobDirectory.note, subprocess.run

    def note(self: JobDirectory, name: str) -> None:
        done.append(name)
        notes(self, name)

    def run(*given: Any, **more: Any) -> Any:
        done.append("command")
        return runs(*given, **more)

    monkeypatch.setattr(JobDirectory, "note", note)
    monkeypatch.setattr(subprocess, "run", run)
    move.switch()
    kept = [each for each in done if each == "command" or each.startswith("cutover/")]
    assert [each.split("-")[-1] for each in kept] == [
        "freeze.txt",
        "command",
        "switch.txt",
        "command",
    ]


def damage(path: Path) -> None:
    """Other bytes that a listing does not show."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(bytes([file.read(1)[0] ^ 1]))
    with open(path, "r+b") as file:
        file.write(b"?")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_proof_is_made_again_if_it_is_to_be_read_back(move: LocalMigration) -> None:
    move.cutover(freeze_command="true", approve_as="Ann")
    assert "reread" not in last(move, PROVED).facts
    report = move.cutover(verify=True, switch_command="true")
    assert last(move, PROVED).facts["reread"] == 3
    assert report.stopped == "it is proved; the switch needs an approval: --approve-as NAME"


# -- approvals and the switch ------------------------------------------------------------------


def test_it_stops_where_something_is_missing_and_goes_on_there(move: LocalMigration) -> None:
    first = move.cutover(freeze_command="true")
    assert first.stopped == "it is proved; the switch needs an approval: --approve-as NAME"
    second = move.cutover(approve_as="Ann")
    assert second.stopped == (
        "it is proved and approved; the switch needs --switch-command COMMAND"
    )
    assert kinds(second) == [APPROVED, STOPPED]
    third = move.cutover(approve_as="Ann")
    assert kinds(third) == [STOPPED], "nobody approves one proof twice"
    fourth = move.cutover(switch_command="true")
    assert kinds(fourth) == [SWITCHED, GRACE]


def key(path: Path) -> Path:
    private = Ed25519PrivateKey.generate()
    form = (Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    path.write_bytes(private.private_bytes(*form))
    return path


def test_two_people_sign_with_a_key_each(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path / "m")
    move.copy(OBJECTS, sync={"two_people": True})
    ann, bob = key(tmp_path / "ann"), key(tmp_path / "bob")
    asked = "it is proved; the switch needs signed approvals of two people, with a key each: "
    for wishes in (
        {"freeze_command": "true", "approve_as": "Ann"},
        {"approve_as": "Bob"},
        {"approve_as": "Ann", "signing_key": ann},  # she has approved without a key before
        {"approve_as": "Bob", "signing_key": ann},
        {"approve_as": "Ann", "signing_key": ann},
    ):
        stopped = move.cutover(**wishes, switch_command="true").stopped
        assert stopped is not None
        assert stopped.startswith(asked)
    assert SWITCHED not in move.kinds
    report = move.cutover(approve_as="Cid", signing_key=bob, switch_command="true")
    assert report.state is MigrationState.GRACE


def test_a_key_that_cannot_be_used_leaves_the_proof(move: LocalMigration, tmp_path: Path) -> None:
    move.cutover(freeze_command="true")
    before = move.kinds
    with pytest.raises(ConfigurationError, match="cannot read the key"):
        move.cutover(approve_as="Ann", signing_key=tmp_path / "missing", switch_command="true")
    assert move.kinds == before


@pytest.mark.parametrize("name", ["", " ", "x" * 300, "Ann\nBob", "\x1b[31m"])
def test_a_name_that_a_history_cannot_show_is_refused(move: LocalMigration, name: str) -> None:
    with pytest.raises(ConfigurationError, match="--approve-as takes a name"):
        move.cutover(freeze_command="true", approve_as=name, switch_command="true")
    assert move.state is MigrationState.PROVING


def test_the_switch_command_is_told_what_it_switches(move: LocalMigration) -> None:
    move.cutover(**ALL | {"switch_command": "env | grep ^NORIA_"})
    (output,) = move.root.glob("cutover/*-switch.txt")
    told = dict(line.split("=", 1) for line in output.read_text().splitlines())
    assert told["NORIA_SOURCE"] == f"file://{move.source}"
    assert told["NORIA_TARGET"] == f"file://{move.target}"
    assert told["NORIA_MIGRATION"] == str(move.root)
    assert (told["NORIA_PASS"], told["NORIA_OBJECTS"], told["NORIA_BYTES"]) == ("2", "3", "16")
    assert told["NORIA_PROOF"] == last(move, PROVED).digest


@pytest.mark.parametrize(
    ("command", "code"), [("echo half; exit 7", 7), ("echo half; kill -9 $$", -9)]
)
def test_a_switch_command_that_fails_may_be_repeated(
    move: LocalMigration, command: str, code: int
) -> None:
    report = move.cutover(**ALL | {"switch_command": command})
    assert report.stopped is not None
    assert report.stopped.startswith(f"the switch command ended with {code}: see ")
    assert (SWITCHED in move.kinds, report.state) == (False, MigrationState.PROVING)
    again = move.cutover(switch_command="echo whole")
    assert kinds(again) == [SWITCHED, GRACE]
    texts = sorted(each.read_text() for each in move.root.glob("cutover/*-switch.txt"))
    assert texts == ["half\n", "whole\n"], "what the first one said is kept"


class _Killed(BaseException):
    """Noria ends at this line."""


def test_two_at_once_do_not_both_switch(move: LocalMigration) -> None:
    """The second comes while the first runs its freeze command, and would run its own."""
    seen: list[str] = []

    def run_pass() -> PassReport:
        with pytest.raises(AnotherDriver) as refused:
            move.cutover(**ALL)
        seen.append(str(refused.value))
        with pytest.raises(AnotherDriver):
            move.rollback()
        return move.tools().run_pass()

    assert move.cutover(move.tools(run_pass=run_pass), **ALL).stopped is None
    assert "wait for it" in seen[0]
    assert [each.kind for each in move.records].count(SWITCHED) == 1


def test_killed_during_the_switch_command_runs_it_again(
    move: LocalMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    move.cutover(freeze_command="true", approve_as="Ann")
    with monkeypatch.context() as killed:
        killed.setattr("noria.engine.cutover.subprocess.run", _end_here)
        with pytest.raises(_Killed):
            move.cutover(switch_command="true")
    assert move.state is MigrationState.PROVING
    assert kinds(move.cutover(switch_command="true")) == [SWITCHED, GRACE]


def _end_here(*given: Any, **more: Any) -> None:
    raise _Killed


@pytest.mark.parametrize("kind", [FROZEN, PROVING, PROVED, APPROVED, SWITCHED, GRACE])
def test_killed_before_any_record_it_goes_on_and_ends_as_it_would(
    move: LocalMigration, monkeypatch: pytest.MonkeyPatch, kind: RecordKind
) -> None:
    def append_or_end(directory: Any, written: RecordKind, *given: Any, **more: Any) -> Record:
        if written is kind:
            raise _Killed
        return append(directory, written, *given, **more)

    with monkeypatch.context() as killed:
        killed.setattr("noria.engine.cutover.append", append_or_end)
        with pytest.raises(_Killed):
            move.cutover(**ALL)
    report = move.cutover(**ALL)
    assert (report.stopped, report.state) == (None, MigrationState.GRACE)
    for once in (FROZEN, PROVING, PROVED, APPROVED, SWITCHED, GRACE):
        assert move.kinds.count(once) == 1


SPOKEN = {
    f"TOKEN={SECRET} true": "sh",
    f"true --token {SECRET}": "true",
    f"/bin/true {SECRET}": "true",
    f"(TOKEN={SECRET} true)": "sh",
    f"TOKEN=$(echo {SECRET} x) true": "sh",
    f"echo '{SECRET}' \"it's\"": "echo",
    f"{SECRET}=1;true": "sh",
    f"true;echo {SECRET}": "sh",
}


@pytest.mark.parametrize("command", SPOKEN)
def test_no_secret_of_a_command_is_in_the_history(move: LocalMigration, command: str) -> None:
    report = move.cutover(**ALL | {"freeze_command": command, "switch_command": command})
    assert report.state is MigrationState.GRACE
    history = b"".join(each.read_bytes() for each in move.root.glob("history/*"))
    assert SECRET.encode() not in history
    assert SECRET not in "".join(move.said) + repr(report)
    assert last(move, SWITCHED).facts["command"] == SPOKEN[command]


# -- what it does not go on with ---------------------------------------------------------------


@pytest.mark.parametrize("what", ["changed", "missing", "foreign"])
def test_a_history_that_was_tampered_with_stops_everything(
    move: LocalMigration, tmp_path: Path, what: str
) -> None:
    move.cutover(freeze_command="true", approve_as="Ann")
    records = sorted((move.root / "history").glob("*.json"))
    if what == "changed":
        text = records[1].read_text()
        records[1].write_text(text.replace('"exit_code":0', '"exit_code":1'))
        assert records[1].read_text() != text
    elif what == "missing":
        records[1].unlink()
    else:
        (move.root / "history" / "note.json").write_text("{}")
    command = f"touch {tmp_path}/switched"
    for go_on in (lambda: move.cutover(switch_command=command), move.sync, move.rollback):
        with pytest.raises(JobDirectoryError, match=r"history/"):
            go_on()
    assert not (tmp_path / "switched").exists()


def test_an_approval_that_was_made_up_does_not_switch(move: LocalMigration, tmp_path: Path) -> None:
    move.cutover(freeze_command="true")
    forged = {"name": "Ann", "key": "ab" * 32, "signature": "cd" * 64}
    append(JobDirectory(move.root), APPROVED, forged)
    with pytest.raises(JobDirectoryError, match="signature of record"):
        move.cutover(switch_command=f"touch {tmp_path}/switched")
    assert not (tmp_path / "switched").exists()


def test_a_directory_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a job directory"):
        LocalMigration(tmp_path).cutover(**ALL)


def test_a_plan_that_was_never_run_is_refused_before_its_command_runs(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path, run=lambda ready: None)  # type: ignore[arg-type, return-value]  # it is only planned
    move.copy(OBJECTS)
    move.run = run_here
    with pytest.raises(ConfigurationError, match="a pass that has ended: run the job first"):
        move.cutover(**ALL | {"freeze_command": f"touch {tmp_path}/frozen"})
    assert not (tmp_path / "frozen").exists()


@pytest.mark.parametrize("number", [1, 2])
def test_a_pass_or_a_way_back_is_not_cut_over(move: LocalMigration, number: int) -> None:
    move.switch()
    move.rollback()
    place = {1: move.root / "ways-back" / "000001", 2: move.migration.place(2)}[number]
    with pytest.raises(ConfigurationError, match=f"name the migration, {move.root}"):
        cutover(place, CutoverWishes(**ALL), move.tools())
    assert not (place / "history").exists()
