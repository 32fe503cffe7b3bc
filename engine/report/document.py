"""What there is to tell of a migration, read from its directory alone: the document of a report.

It holds no object's name, unless that is asked for, and no secret. It may be asked for at any time,
while a driver is at work, too: then it is of what is sealed.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.engine import job
from noria.engine.config.in_force import SettingInForce, settings_in_force
from noria.engine.config.jobfile import JobConfig
from noria.engine.config.locations import provider_of
from noria.engine.config.refused_settings import SettingPath
from noria.engine.failures import Failure
from noria.engine.pass_records import begun, has_ended, is_reconciled
from noria.engine.passes import past_passes, whole_migration
from noria.engine.past_passes import passes_of
from noria.engine.planning import job_parts
from noria.engine.proof.checking import kept_time_stamp
from noria.engine.proof.sealed import sealed
from noria.engine.report.timeline import SizedObjects, Sizes, Timeline, TimeSlot
from noria.engine.status import (
    STATUS_FILE,
    VERIFY_STATUS_FILE,
    JobStatus,
    SealedObjects,
    load_status,
)
from noria.engine.terminal.history_report import history_summary, passes_summary
from noria.engine.verification_records import RecordedVerification, newest_verification
from noria.manifests.counters import Counter as Metric
from noria.manifests.counters import StoreRole
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job import control
from noria.manifests.job.control import ControlRecord, SettingValue
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Record, read
from noria.manifests.job.receipts import LANDED, change_counts, value_counts
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import read_seals
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.model import LeaseKind, Level
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.folder import ProofFolder, last_of_each_pass
from noria.version import VERSION

EDITION: Final = 1
"""Of the document: it grows when a field is dropped or gets another meaning."""
_COLUMNS: Final = ["outcome", "size", "finished_ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassStory:
    """One pass, as it stands now."""

    number: int
    phase: str
    """A Phase of engine/status.py."""
    began_seconds: float
    """Unix time: when its source was listed."""
    updated_seconds: float
    """Unix time of its last news; of a pass that has ended, when that was."""
    objects: int
    """Entries of the manifest."""
    objects_to_move: int
    bytes_to_move: int
    bytes_sent: int
    """Those sent again included."""
    outcomes: Mapping[str, int]
    levels: Mapping[str, int]
    failed: int
    """Entries that someone has to look at."""
    causes: Mapping[str, int]
    """Why entries did not land -> entries."""
    unsettled: int
    """Entries of the manifest that no receipt here is of; none, of a pass that went to its end."""
    left_out: Mapping[str, int]
    """Reason -> entries that the plan does not move."""
    passed_over: Mapping[str, int]
    """Cause -> entries of the inventory that are not in the manifest."""
    reconciled: bool
    differences: Mapping[str, int]
    damaged: Mapping[str, int]
    """Cause -> objects found damaged later, and not sent again since."""
    manifest_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatStands:
    """What this migration answers for at the target, after the last pass that has ended.

    Of a first pass that has not: what has landed so far.
    """

    objects: int
    bytes: int
    levels: Mapping[str, int]
    changes: Mapping[str, int]
    """AttributeChange -> objects whose attributes differ from the source's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What the last `noria verify` read back from the target, and found to be what was written."""

    objects: int
    bytes: int
    ended_seconds: float
    """Unix time of its last news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFlow:
    """What went to or came from one end, by the workers of all passes."""

    end: str
    """source or target."""
    place: str
    """Its URL."""
    endpoint: str | None
    """Where the service answers; None: as its provider names it, or it is a folder."""
    provider: str
    region: str | None
    bytes_read: int
    bytes_written: int
    """Those sent again included."""
    connections: Mapping[str, int]
    """TLS version and cipher, or "plain" -> connections that were opened. Empty: a folder, or
    versions of Noria have moved it that did not count them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringStory:
    """What somebody asked of a migration that ran: `noria set`, `pause`, `resume`, `drain`."""

    number: int
    at: str
    """UTC, as the history has it."""
    by: str
    """user@host"""
    kind: str
    """A ControlKind."""
    settings: Mapping[str, SettingValue | None]
    until: str | None
    """When it is over by itself. None: it stays."""
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointStory:
    """The last checkpoint of a pass that somebody has signed. Nobody has checked it for this."""

    number: int
    of_pass: int
    receipts: int
    root: str
    signed_by: Sequence[str]
    """Names in the signatures."""
    stamped_seconds: int | None
    """When its time stamp is of, as Unix time; None: it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The document."""

    edition: int
    made_seconds: float
    """Unix time."""
    noria: str
    """The version that made this."""
    interpreter: str
    """Of the last driver: Python and TLS library."""
    machine: str
    """Where this was made: operating system and processor."""
    job: str
    directory: str
    source: str
    target: str
    provider: str
    """Whose limits the plan keeps to."""
    checksum: str
    """What the target verifies as it takes bytes in."""
    standing: WhatStands
    read_back: ReadBack | None
    """None: there was no `noria verify`."""
    passes: Sequence[PassStory]
    """Those that are planned."""
    is_planning: bool
    """The plan of another one was begun, and has not ended."""
    timeline: Sequence[TimeSlot]
    """What landed when, by the receipts of all passes; a large object counts when it was whole."""
    sizes: Sequence[SizedObjects]
    failures: Sequence[Failure]
    """The first of the last pass, by pseudonym unless names were asked for."""
    history: Mapping[str, Any]
    """As `noria history --json` has it."""
    steering: Sequence[SteeringStory]
    """In the order in which it was asked for."""
    checkpoints: Sequence[CheckpointStory]
    """By pass."""
    sealed: SealedObjects | None
    """What the newest signed checkpoint covers; None: nothing is signed."""
    verification: RecordedVerification | None
    """The last one that came to its end."""
    convergence: Mapping[str, Any]
    """As `noria status --json` has it."""
    flows: Sequence[StoreFlow]
    settings: Sequence[SettingInForce]
    """Those that are not defaults."""

    @property
    def last(self) -> PassStory:
        return self.passes[-1]

    @property
    def open_matters(self) -> Mapping[str, int]:
        """What a person has to look at -> how many; empty if all is in order."""
        last = self.last
        found = Counter[str]()
        found["failed"] = last.failed
        for each in self.passes:
            found["damaged"] += sum(each.damaged.values())
            if each.phase == "finished":
                found["unsettled"] += each.unsettled
        found["not_in_order"] = int(last.phase == "finished" and not last.reconciled)
        found["not_ended"] = int(last.phase != "finished")
        found["half_planned"] = int(self.is_planning)
        return {name: count for name, count in found.items() if count}


def tell(root: Path, *, show_keys: bool) -> Story:
    """Read the story of the migration in this directory.

    Receipts are checked against their seals as they are read. Raises ConfigurationError if there is
    none, it has no plan yet, or it is a pass of another; JobDirectoryError if a file of it is
    damaged, or a pass is gone.
    """
    migration = whole_migration(root)
    directory = JobDirectory.open(migration.root)
    config, facts = job_parts(directory)
    records = read(directory)
    places = _planned_places(migration, records)
    statuses = [job.status(place) for place in places]
    timeline, sizes, landed, receipts = _landed(places)
    passes = [
        _pass(number, *of_pass)
        for number, of_pass in enumerate(zip(places, statuses, receipts, strict=True), start=1)
    ]
    return Story(
        edition=EDITION,
        made_seconds=time.time(),
        noria=VERSION,
        interpreter=statuses[-1].interpreter,
        machine=this_machine(),
        job=facts.job_id,
        directory=str(root),
        source=config.source.url,
        target=config.target.url,
        provider=facts.provider,
        checksum=facts.checksum.value,
        standing=_standing(migration, len(places)) or landed,
        read_back=_read_back(places),
        passes=passes,
        is_planning=len(places) < migration.last,
        timeline=timeline.slots(),
        sizes=sizes.classes(),
        failures=job.read_failures(places[-1], show_keys),
        history=history_summary(records, root),
        steering=steering_stories(directory),
        checkpoints=_checkpoints(migration),
        sealed=sealed(migration),
        verification=newest_verification(records),
        convergence=passes_summary(past_passes(root)),
        flows=_flows(config, places),
        settings=changed_settings(config),
    )


def is_planned(place: Path) -> bool:
    """The plan of this pass has ended. One that was run has had a plan, even if that is lost."""
    directory = JobDirectory(place)
    has_manifest = (directory.manifest_path / "manifest.json").exists()
    return has_manifest or next(directory.names("sealed"), None) is not None


def _planned_places(migration: Migration, records: Sequence[Record]) -> list[Path]:
    """Job directories of all passes whose plan has ended. Raises as tell() does."""
    places = [migration.place(number) for number in range(1, migration.last + 1)]
    if not is_planned(places[-1]):
        places.pop()
    if not places:
        raise ConfigurationError(
            f"{migration.root} has no plan yet: there is something to tell once that has ended"
        )
    ended = max((each.number for each in passes_of(records)), default=0)
    if ended > len(places):
        raise JobDirectoryError(
            f"{migration.place(ended)} has lost what its history tells of; restore it from a copy"
        )
    return places


def this_machine() -> str:
    """Operating system and processor."""
    return f"{platform.system()} {platform.release()}, {platform.machine()}"


def changed_settings(config: JobConfig) -> list[SettingInForce]:
    """Those that are not defaults: of the job, not of the environment that this is made in."""
    sections = type(config).model_fields
    from_job: dict[SettingPath, str] = {(section,): "job.json" for section in sections}
    found = settings_in_force(config, from_job, {})
    return [each for each in found if each.origin == "job.json" and each.value is not None]


def steering_stories(directory: JobDirectory) -> list[SteeringStory]:
    """All that was asked for by its records. Raises JobDirectoryError if one is damaged."""
    return [_steering(record) for record in control.read(directory)]


def _steering(record: ControlRecord) -> SteeringStory:
    return SteeringStory(
        number=record.number,
        at=_moment(record.at),
        by=record.by,
        kind=record.kind,
        settings=record.settings,
        until=None if record.until is None else _moment(record.until),
        reason=record.reason,
    )


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"


def _checkpoints(migration: Migration) -> list[CheckpointStory]:
    folder = ProofFolder(migration.root)
    last = last_of_each_pass(folder.checkpoints())
    stamps = {number: kept_time_stamp(folder, kept) for number, kept in last.items()}
    return [
        CheckpointStory(
            number=kept.checkpoint.number,
            of_pass=number,
            receipts=kept.checkpoint.size,
            root=kept.checkpoint.root.hex(),
            signed_by=[line.name for line in kept.note.signatures],
            stamped_seconds=None if (stamp := stamps[number]) is None else stamp.seconds,
        )
        for number, kept in sorted(last.items())
        if kept.note.signatures
    ]


def _pass(number: int, place: Path, status: JobStatus, receipts: int) -> PassStory:
    directory = JobDirectory.open(place)
    manifest = open_manifest(directory.manifest_path)
    reasons = manifest.facts["reasons"]
    return PassStory(
        number=number,
        phase=status.phase.value,
        began_seconds=begun(directory.job()),
        updated_seconds=status.updated_seconds,
        objects=manifest.objects,
        objects_to_move=manifest.objects_to_move,
        bytes_to_move=manifest.bytes_to_move,
        bytes_sent=status.bytes_moved,
        outcomes=dict(status.outcomes),
        levels=dict(status.levels),
        failed=status.failed,
        causes=dict(status.causes),
        unsettled=max(0, manifest.objects - receipts),
        left_out={reason: counts["objects"] for reason, counts in reasons.items()},
        passed_over=manifest.passed_over,
        reconciled=is_reconciled(directory),
        differences=dict(status.differences),
        damaged=dict(status.damaged),
        manifest_sha256=manifest.digest,
    )


def _landed(places: Sequence[Path]) -> tuple[Timeline, Sizes, WhatStands, list[int]]:
    """What the receipts of all passes add up to, and how many there are of each."""
    timeline, sizes, found = Timeline(), Sizes(), [0] * len(places)
    levels, changes = Counter[str](), Counter[str]()
    objects = amount = 0
    for number, receipts in _receipts(places):
        found[number] += len(receipts)
        receipts = receipts.filter(pc.is_in(receipts["outcome"], value_set=LANDED))
        of_objects = receipts["size"].to_numpy()
        timeline.add(receipts["finished_ms"].to_numpy(), of_objects)
        sizes.add(of_objects)
        objects += len(receipts)
        amount += int(of_objects.sum())
        levels.update(dict(value_counts(receipts["level"])))
        changes.update(change_counts(receipts["changes"]))
    stands = WhatStands(objects=objects, bytes=amount, levels=dict(levels), changes=dict(changes))
    return timeline, sizes, stands, found


def _receipts(places: Sequence[Path]) -> Iterator[tuple[int, pa.Table]]:
    """All that are sealed, each table with the place in `places` that it is of."""
    for number, place in enumerate(places):
        directory = JobDirectory.open(place)
        for seal in read_seals(directory):
            if seal.kind is not LeaseKind.PARTS:
                yield number, read_result(directory, seal, [*_COLUMNS, "level", "changes"])


def _standing(migration: Migration, planned: int) -> WhatStands | None:
    """By the state after the last pass that has ended. None: only one is planned, or none has."""
    ended = (number for number in range(planned, 0, -1) if has_ended(migration, number))
    number = next(ended, 0)
    if planned == 1 or number == 0:
        return None
    state = migration.state(number)
    levels, changes = state.counts()
    return WhatStands(
        objects=state.facts.objects,
        bytes=state.facts.bytes,
        levels=dict(levels),
        changes=dict(changes),
    )


def _read_back(places: Sequence[Path]) -> ReadBack | None:
    """By what the last verification said, which is kept with the pass that was the last then."""
    found = [load_status(JobDirectory.open(place), VERIFY_STATUS_FILE) for place in places]
    last = _newest(found)
    if last is None:
        return None
    return ReadBack(
        objects=last.levels.get(Level.REREAD.value, 0),
        bytes=last.bytes_done,
        ended_seconds=last.updated_seconds,
    )


def _flows(config: JobConfig, places: Sequence[Path]) -> list[StoreFlow]:
    directories = [JobDirectory.open(place) for place in places]
    totals, connections = Counter[str](), {str(role): Counter[str]() for role in StoreRole}
    for status in filter(None, map(_latest, directories)):
        for (name, *labels), value in status.metrics.counters.items():
            if name == Metric.CONNECTIONS:
                connections[labels[0]][labels[1]] += int(value)
            elif not labels:
                totals[name] += int(value)
    read = {
        StoreRole.SOURCE: totals[Metric.BYTES_READ],
        StoreRole.TARGET: totals[Metric.BYTES_REREAD],
    }
    written = {StoreRole.SOURCE: 0, StoreRole.TARGET: totals[Metric.BYTES_WRITTEN]}
    return [
        StoreFlow(
            end=role.value,
            place=end.url,
            endpoint=end.endpoint,
            provider=provider_of(end),
            region=end.region,
            bytes_read=read[role],
            bytes_written=written[role],
            connections=dict(connections[role]),
        )
        for role, end in ((StoreRole.SOURCE, config.source), (StoreRole.TARGET, config.target))
    ]


def _latest(directory: JobDirectory) -> JobStatus | None:
    """What a driver said last; a verification goes on with the totals of the moves before it."""
    return _newest(load_status(directory, name) for name in (STATUS_FILE, VERIFY_STATUS_FILE))


def _newest(found: Iterable[JobStatus | None]) -> JobStatus | None:
    said = [each for each in found if each is not None]
    return max(said, key=lambda each: each.updated_seconds, default=None)


def ordered_levels(levels: Mapping[str, int]) -> list[tuple[Level, int]]:
    """The levels that were reached, the strongest first."""
    known = [(level, levels.get(level.value, 0)) for level in reversed(Level)]
    return [(level, count) for level, count in known if count]
