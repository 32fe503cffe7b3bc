"""What is known of each dataset: from its own directory, for `noria status` and the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from noria.engine import job
from noria.engine.fleet.directory import FleetDirectory, Refusal
from noria.engine.fleet.own_pauses import own_pause
from noria.engine.fleet.priorities import LivePriorities
from noria.engine.past_passes import passes_of
from noria.engine.status import (
    DATASET_PAUSED,
    NOT_PLANNED,
    PLANNED,
    REFUSED,
    STATUS_FILE,
    DatasetFigures,
    JobStatus,
    Phase,
)
from noria.manifests.errors import JobDirectoryError, NoriaError
from noria.manifests.job import history
from noria.manifests.job.control import read
from noria.manifests.job.cutover_states import MigrationState, standing
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import Migration

_URGENCY: Final = (REFUSED, Phase.STOPPED, NOT_PLANNED)
"""Of phases of datasets without failures, what is shown first; then those at work."""

_AT_CUTOVER: Final = (
    MigrationState.FROZEN,
    MigrationState.PROVING,
    MigrationState.SWITCHED,
    MigrationState.GRACE,
    MigrationState.RETIRED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRow:
    """One dataset. The fields of `noria status --json`."""

    name: str
    directory: str
    phase: str
    """A Phase, or "not_planned", "planned" or "refused"."""
    paused: str | None = None
    """By whom, since when and why it is paused by itself. None: it is not."""
    state: str | None = None
    """Where its migration stands, from "planned" to "retired". None: it has no history yet."""
    passes: int = 0
    """The number of its latest pass; 0: none is planned."""
    objects: int = 0
    """Of the latest pass, here and below."""
    objects_done: int = 0
    bytes: int = 0
    bytes_done: int = 0
    failed: int = 0
    """Entries that someone has to look at, and objects found damaged."""
    differences: int = 0
    """What the last reconcile found that was not in order."""
    workers: int = 0
    lag_seconds: float | None = None
    """How old the oldest change could be that the target lacks. None: no pass has ended."""
    priority: int = 0
    """As it is in force: those of a higher one get workers first."""
    message: str | None = None
    """Why it does not go on."""

    @property
    def is_well(self) -> bool:
        """Its latest pass has ended, and nobody has to look."""
        return self.phase == Phase.FINISHED and not self.failed and not self.differences

    @property
    def shown_phase(self) -> str:
        """What it does: its phase, unless it is paused before its end."""
        is_over = self.phase in (Phase.FINISHED, REFUSED)
        return DATASET_PAUSED if self.paused is not None and not is_over else self.phase

    @property
    def is_at_cutover(self) -> bool:
        """Its source is frozen, or the target in use: what follows is for people to decide."""
        return self.state in _AT_CUTOVER

    @property
    def figures(self) -> DatasetFigures:
        """As metrics have it."""
        return DatasetFigures(
            phase=self.shown_phase,
            objects=self.objects,
            bytes=self.bytes,
            objects_done=self.objects_done,
            bytes_done=self.bytes_done,
            failed=self.failed,
            workers=self.workers,
            lag_seconds=self.lag_seconds,
            priority=self.priority,
        )


def dataset_rows(fleet: FleetDirectory) -> Iterator[DatasetRow]:
    """All datasets, in the order in which they were noted.

    If a record of what people asked for is damaged, priorities are those of the job file.
    """
    refusals = fleet.refusals()
    try:
        records = read(fleet.files)
    except JobDirectoryError:
        records = []
    priorities = LivePriorities(fleet.priorities(), records)
    for name in fleet.names():
        yield replace(dataset_row(fleet, name, refusals), priority=priorities.of(name))


def dataset_row(fleet: FleetDirectory, name: str, refusals: Mapping[str, Refusal]) -> DatasetRow:
    """One dataset, read from its directory; one that cannot be read is refused."""
    place, refusal = fleet.place(name), refusals.get(name)
    message = None if refusal is None else refusal.message
    phase = NOT_PLANNED if refusal is None else REFUSED
    unread = DatasetRow(name=name, directory=str(place), phase=phase, message=message)
    if not JobDirectory.exists(place):
        return unread
    try:
        return _read_row(name, place, refusal)
    except NoriaError as error:
        return DatasetRow(name=name, directory=str(place), phase=REFUSED, message=error.message)


def _read_row(name: str, place: Path, refusal: Refusal | None) -> DatasetRow:
    pause = own_pause(place)
    migration = Migration(place)
    last = migration.last
    status = job.status_of_run(migration.place(last))
    records = history.read(JobDirectory(place)) if (place / "history").is_dir() else []
    passes = passes_of(records)
    phase, message = str(status.phase), status.stopped
    was_run = (migration.place(last) / STATUS_FILE).is_file()
    if status.phase is Phase.STOPPED and not was_run and status.objects_total:
        phase, message = PLANNED, None
    went_on = was_run and refusal is not None and status.updated_seconds > refusal.at_seconds
    if refusal is not None and not went_on and not status.phase.has_driver:
        phase, message = REFUSED, refusal.message
    return DatasetRow(
        name=name,
        directory=str(place),
        phase=phase,
        paused=None if pause is None else pause.why,
        state=str(standing(records).state) if records else None,
        passes=last,
        lag_seconds=passes[-1].lag_at(time.time()) if passes else None,
        message=message,
        **counts_of(status),
    )


def counts_of(status: JobStatus) -> dict[str, int]:
    """The numbers of a row that a dataset's status has."""
    return {
        "objects": status.objects_total,
        "objects_done": status.objects_done,
        "bytes": status.bytes_total,
        "bytes_done": status.bytes_done,
        "failed": status.failed + sum(status.damaged.values()),
        "differences": sum(status.differences.values()),
        "workers": status.workers,
    }


def worst_first(row: DatasetRow) -> tuple[int, int, str]:
    """A key by which rows that somebody has to look at come first; then those at work."""
    if row.failed or row.differences:
        return (0, -row.failed - row.differences, row.name)
    if row.phase in _URGENCY:
        return (1 + _URGENCY.index(row.phase), 0, row.name)
    return (9 if row.phase == Phase.FINISHED else 8, 0, row.name)
