"""A cutover: from passes that converge to users who use the target, one recorded step at a time.

    freeze    evidence that nobody writes to the source: a command that takes the right away, or two
              complete listings that are equal, some time apart
    prove     a last pass; what stands is read back, if that is wanted; fresh listings of both ends
    switch    the approvals that are asked for, then a command of the user's

Each call goes on from where the migration stands, by its history alone, and stops with a reason at
the first step that does not hold. Steps may run twice: a command that was killed runs again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from noria.engine.approvals import approval_facts, approvals_of, lacking
from noria.engine.command_outputs import output_name
from noria.engine.cutover_lock import one_at_a_time
from noria.engine.pass_records import has_ended, note_all_ended
from noria.engine.passes import PassReport, whole_migration
from noria.engine.photo_finish import (
    PhotoFinish,
    SourceComparison,
    compare_source,
    photo_finish,
)
from noria.engine.planning import job_parts
from noria.engine.record_signatures import check_signatures, signer
from noria.engine.verifying import VerifyReport
from noria.manifests.access import open_new
from noria.manifests.count_text import count_text
from noria.manifests.job.cutover_states import MigrationState, Standing, require, standing
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Facts, Record, RecordKind, append, read
from noria.manifests.passes.migration import Migration
from noria.manifests.passes.standing_damage import damage_counts, standing_damage

Say = Callable[[str], None]

_PROGRAM: Final = re.compile(r"[A-Za-z0-9_.+-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoverWishes:
    """What a person asks of a cutover."""

    freeze_command: str | None = None
    """Takes the right to write to the source away. None: two equal listings are the evidence."""
    quiet_seconds: float = 600.0
    """How far apart the two listings are, at least."""
    verify: bool = False
    """Read everything that stands back from the target."""
    approve_as: str | None = None
    """Approve the proof under this name."""
    signing_key: Path | None = None
    """File of the Ed25519 private key that signs the records, and the approval."""
    two_people: bool = False
    switch_command: str | None = None
    """Makes users use the target. None: the cutover ends before the switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoverTools:
    """What a cutover is done with."""

    run_pass: Callable[[], PassReport]
    verify: Callable[[], VerifyReport]
    say: Say
    wait: Callable[[float], None] = time.sleep
    check: Callable[[], None] = lambda: None
    """Before each step; raises StopAsked if somebody has asked for the end."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings of [run] that replace the job's, for what holds the fresh listings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoverReport:
    """How far a cutover came. The fields of `--json`."""

    state: MigrationState
    steps: tuple[Record, ...]
    """Records of this call."""
    stopped: str | None = None
    """Why it went no further; None: it is in grace, or retired."""

    @property
    def exit_code(self) -> int:
        return 0 if self.stopped is None else 1


class StepRefused(Exception):
    """A step does not hold; the message is for a person."""


def cutover(root: Path, wishes: CutoverWishes, tools: CutoverTools) -> CutoverReport:
    """Go on with the cutover of the migration at root as far as it holds.

    Raises ConfigurationError if it cannot begin, and what a pass or a listing raises.
    """
    migration = whole_migration(root)
    walk = _Cutover(migration, wishes, tools)
    with one_at_a_time(JobDirectory(migration.root)):
        before = len(walk.records)
        try:
            walk.go()
            stopped = None
        except StepRefused as stop:
            stopped = str(stop)
            reason = "".join(sign if sign.isprintable() else "?" for sign in stopped)
            walk.note(RecordKind.STOPPED, {"reason": reason[:250]})
    records = walk.records
    return CutoverReport(
        state=standing(records).state, steps=tuple(records[before:]), stopped=stopped
    )


class _Cutover:
    def __init__(self, migration: Migration, wishes: CutoverWishes, tools: CutoverTools) -> None:
        self._migration = migration
        self._directory = JobDirectory.open(migration.root)
        self._wishes = wishes
        self._tools = tools
        self._sign = signer(wishes.signing_key)
        self._has_proved = False
        """In this call."""

    @property
    def records(self) -> list[Record]:
        return read(self._directory)

    def note(self, kind: RecordKind, facts: Facts) -> Record:
        def check(records: Sequence[Record]) -> None:
            require(records, kind)

        return append(self._directory, kind, facts, check=check, sign=self._sign)

    def go(self) -> None:
        """Take steps until none is left. Raises StepRefused, StopAsked."""
        note_all_ended(self._migration, self._sign)  # a pass may have been ended by `noria run`
        while (step := self._next(standing(self.records))) is not None:
            self._tools.check()
            step()

    def _next(self, stands: Standing) -> Callable[[], object] | None:
        match stands.state:
            case MigrationState.GRACE | MigrationState.RETIRED:
                return None
            case MigrationState.SWITCHED:
                return lambda: self.note(RecordKind.GRACE, {})
            case MigrationState.PROVING if not stands.proved or not self._is_proof_enough():
                return self._prove
            case MigrationState.PROVING:
                return self._switch
            case MigrationState.FROZEN if stands.ended_under_freeze and self._has_moved_all():
                return lambda: self.note(RecordKind.PROVING, {})
            case MigrationState.FROZEN:
                return self._run_pass
            case _:
                return self._freeze

    # -- freeze ------------------------------------------------------------------------------------

    def _freeze(self) -> None:
        if self._wishes.freeze_command is not None:
            require(self.records, RecordKind.FROZEN)  # or it would run for nothing
            facts = self._run(self._wishes.freeze_command, "freeze", {})
            self.note(RecordKind.FROZEN, {"evidence": "command", **facts})
            return
        moved = self._run_pass()
        listed = time.time()
        seconds = self._wishes.quiet_seconds
        self._tools.say(f"the source is listed again in {seconds:.0f} s: is it quiet?")
        self._tools.wait(seconds)
        found = compare_source(self._migration, self._tools.say, self._tools.overrides)
        if not found.equal:
            raise StepRefused(
                f"the source is not quiet: {_counts(found.differences)} within "
                f"{time.time() - listed:.0f} s; take the right to write away, and say so with "
                "--freeze-command"
            )
        facts = {
            "evidence": "quiet",
            "apart_seconds": round(found.begun - listed, 3),
            "objects": found.objects,
            "pass": moved.number,
        }
        self.note(RecordKind.FROZEN, facts)

    def _run_pass(self) -> PassReport:
        ended = self._tools.run_pass()
        report = ended.run
        if not report.complete:
            why = report.stopped or "see log"
            raise StepRefused(f"pass {ended.number} stopped before its end: {why}")
        if report.failed:
            raise StepRefused(
                f"{count_text(report.failed, 'object')} did not move in pass {ended.number} "
                f"({_counts(report.causes)}): see `noria failures {self._migration.root}`"
            )
        if not report.reconciled:
            raise StepRefused(
                f"the target is not what pass {ended.number} left there: "
                f"{_counts(report.differences)}; see reconcile-differences.parquet"
            )
        return ended

    def _has_moved_all(self) -> bool:
        """Whether the last pass that ended left nothing behind; else another one has to follow."""
        facts = self._last(RecordKind.PASS_ENDED).facts
        return facts.get("failed") == 0 and facts.get("reconciled") is True

    # -- prove -------------------------------------------------------------------------------------

    def _prove(self) -> None:
        self._refuse_unfinished()
        facts: dict[str, str | int] = {}
        if self._wishes.verify:
            self._tools.say("reading everything back that stands at the target")
            read_back = self._tools.verify()
            if not read_back.complete:
                raise StepRefused(
                    f"reading back stopped before its end: {read_back.stopped or 'see log'}"
                )
            if read_back.unread:
                raise StepRefused(
                    "no receipt says what the bytes are of "
                    f"{count_text(read_back.unread, 'object')} at the target: restore the job "
                    "directory from a copy"
                )
            if read_back.exit_code:
                raise StepRefused(
                    f"{count_text(read_back.damaged, 'object')} not at the target as written: "
                    f"see `noria verify {self._migration.root}`"
                )
            facts["reread"] = read_back.reread
        found = photo_finish(self._migration.root, self._tools.say, self._tools.overrides)
        self._refuse_writes(found.source, "the freeze")
        if not found.target.reconciled:
            raise StepRefused(
                f"the target is not what was left there: {_counts(found.target.differences)}; see "
                "reconcile-differences.parquet"
            )
        self.note(RecordKind.PROVED, {**facts, **self._proof(found)})
        self._has_proved = True

    def _refuse_writes(self, found: SourceComparison, since: str) -> None:
        """Raise StepRefused if the source is not what stands at the target."""
        if not found.equal:
            raise StepRefused(
                f"somebody wrote to the source since {since}: {_counts(found.differences)}; find "
                f"out who, then `noria sync {self._migration.root}` moves that, and a cutover "
                "goes on"
            )

    def _is_proof_enough(self) -> bool:
        """Whether the last proof is of what stands now, and of as much as is wanted."""
        self._refuse_unfinished()
        proof = self._last(RecordKind.PROVED).facts
        if self._wishes.verify and "reread" not in proof:
            return False
        return proof["state"] == self._migration.state(self._migration.last).digest

    def _refuse_unfinished(self) -> None:
        """Raise StepRefused if the last pass was taken up again, and has not ended."""
        last = self._migration.last
        if not has_ended(self._migration, last):
            raise StepRefused(
                f"pass {last} was taken up again, and has not ended: `noria run "
                f"{self._migration.root}` brings it to its end"
            )

    def _refuse_damage(self) -> None:
        """Raise StepRefused if a verification has found damage that nobody has repaired."""
        found = standing_damage(self._migration, self._migration.last)
        if lost := pc.sum(found["gone"], min_count=0).as_py():
            raise StepRefused(
                f"{count_text(lost, 'object')} damaged at the target, and gone from the source: "
                "find out what they are; `noria sync --deletions mirror` deletes them, or do that "
                "yourself; then verify again"
            )
        if damaged := damage_counts(found):
            raise StepRefused(
                f"`noria verify` has found damage at the target: {_counts(damaged)}; "
                f"`noria sync {self._migration.root}` sends it again, in place of what lies there "
                "if nobody else has changed that; then verify again"
            )

    def _proof(self, found: PhotoFinish) -> Facts:
        """What the record of the proof says, in numbers."""
        state = self._migration.state(self._migration.last)
        levels, changes = state.counts()
        return {
            "pass": self._migration.last,
            "objects": state.facts.objects,
            "bytes": state.facts.bytes,
            "state": state.digest,
            "listed_at_target": found.target.listed,
            "missing": 0,
            "extra": found.target.extra,
            "differing": 0,
            "gone_at_source": found.source.gone_before,
            "gone_at_both": found.target.gone_at_both,
            "filtered": found.source.filtered,
            **{f"level_{name}": count for name, count in sorted(levels.items())},
            **{f"lost_{name}": count for name, count in sorted(changes.items())},
            **{f"not_moved_{name}": n for name, n in sorted(found.source.not_moved.items())},
        }

    # -- switch ------------------------------------------------------------------------------------

    def _switch(self) -> None:
        self._refuse_damage()
        wishes = self._wishes
        if wishes.approve_as is not None and not self._has_approved(wishes.approve_as):
            proof = self._last(RecordKind.PROVED)
            facts = approval_facts(self._job_id, proof, wishes.approve_as, wishes.signing_key)
            self.note(RecordKind.APPROVED, facts)
        two_people = wishes.two_people or self._asks_two_people()
        check_signatures(self._job_id, self.records)
        found = approvals_of(self._job_id, self.records)
        if (missing := lacking(found, two_people=two_people)) is not None:
            raise StepRefused(f"it is proved; the switch needs {missing}")
        if wishes.switch_command is None:
            raise StepRefused(
                "it is proved and approved; the switch needs --switch-command COMMAND"
            )
        if not self._has_proved:  # people may have taken days to approve it
            self._tools.say("listing the source once more, right before the switch")
            shown = compare_source(self._migration, self._tools.say, self._tools.overrides)
            self._refuse_writes(shown, "the proof")
        facts = self._run(wishes.switch_command, "switch", self._environment())
        self.note(RecordKind.SWITCHED, facts)

    @property
    def _job_id(self) -> str:
        return job_parts(self._directory)[1].job_id

    def _asks_two_people(self) -> bool:
        return job_parts(self._directory)[0].sync.two_people

    def _has_approved(self, name: str) -> bool:
        """Whether they did so for this proof; who has a key now may have had none then."""
        signs = self._wishes.signing_key is not None
        return any(
            each.name == name and (each.key is not None or not signs)
            for each in approvals_of(self._job_id, self.records)
        )

    def _last(self, kind: RecordKind) -> Record:
        return next(each for each in reversed(self.records) if each.kind is kind)

    def _environment(self) -> dict[str, str]:
        """What the user's command is told, besides its own environment."""
        config, facts = job_parts(self._directory)
        proof = self._last(RecordKind.PROVED)
        return {
            "NORIA_MIGRATION": str(self._migration.root.absolute()),
            "NORIA_JOB": facts.job_id,
            "NORIA_SOURCE": config.source.url,
            "NORIA_TARGET": config.target.url,
            "NORIA_PASS": str(proof.facts["pass"]),
            "NORIA_OBJECTS": str(proof.facts["objects"]),
            "NORIA_BYTES": str(proof.facts["bytes"]),
            "NORIA_PROOF": proof.digest,
        }

    def _run(self, command: str, step: str, environment: Mapping[str, str]) -> Facts:
        """Run a command of the user's and keep what it prints. Raises StepRefused if it fails."""
        name = output_name(self.records, step)
        path = self._directory.path(name)
        # Durable before anything happens: a way back asks whether a switch was ever begun.
        self._directory.note(name)
        self._tools.say(f"running the {step} command; its output goes to {path}")
        began = time.monotonic()
        with open(path, "wb", opener=open_new) as output:
            ended = subprocess.run(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                check=False,
            )
            output.flush()
            os.fsync(output.fileno())
        if ended.returncode:
            raise StepRefused(f"the {step} command ended with {ended.returncode}: see {path}")
        return {
            "command": _first_word(command),
            "exit_code": ended.returncode,
            "output": name,
            "output_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "seconds": round(time.monotonic() - began, 3),
        }


def _first_word(command: str) -> str:
    """The program of a command: what follows may hold secrets, and so may a variable before it."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    name = Path(words[0]).name if words else ""
    return name if _PROGRAM.fullmatch(name) else "sh"


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(found.items()) if count)
