"""The status of a running job as a document: what `/status.json` answers, and the page shows.

Made from a JobStatus. Fields are only ever added within a version (SCHEMA): who reads it passes
over what it does not know. Times are Unix seconds, rates are over the last half minute, counts are
for the whole life of the job. It holds no object's name and no credentials.
"""

from __future__ import annotations

import json
import re
from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from noria.engine.convergence import MigrationFigures
from noria.engine.deadline import DeadlineForecast
from noria.engine.job_state import job_state
from noria.engine.status import DatasetFigures, JobStatus, Phase, SealedObjects
from noria.engine.steering.limits import PAUSED
from noria.engine.watch.advice import advice_on
from noria.engine.watch.throughput_history import ThroughputHistory
from noria.manifests.counters import Counter, Gauge, StoreRole
from noria.manifests.model import Key

SCHEMA: Final = "noria.status/1"
STUCK_SECONDS: Final = 120.0
"""Figures of a run at work that are older say that the driver hangs."""
_AT_WORK: Final = (Phase.STARTING, Phase.MOVING, Phase.VERIFYING, Phase.DRAINING)
_QUERY: Final = re.compile(r"\?\S*")
"""Of a URL: it may hold a signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusProgress:
    """How far the job is."""

    done: float
    """From 0 to 1, by bytes; by objects if there are none. 1 only once all is done."""
    objects_total: int
    objects_done: int
    """With a final outcome."""
    bytes_total: int
    bytes_done: int
    failed: int
    """Entries that someone has to look at."""
    already_there: int
    """Entries that the target had already."""
    listed: int
    """Objects at the target that reconciling has listed so far."""
    bytes_per_second: float
    objects_per_second: float
    retries_per_second: float
    listed_per_second: float
    eta_seconds: float | None
    """At this throughput. None: nothing moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusHost:
    """The workers of one machine."""

    host: str
    workers: int
    workers_lost: int
    bytes_per_second: float
    objects: int
    errors: int
    retries: int
    barred: str | None
    """Why it rests, and gets no work. None: it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusStore:
    """One end of the job."""

    store: str
    """source or target."""
    requests_most: float
    """Requests that workers may have under way, as refusals have left it."""
    throttles: int
    """Requests that it refused for being too many."""
    silent_seconds: float
    """How long workers have been waiting for it to answer; 0 if it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusError:
    """Requests that failed for one cause at one end, and were tried again."""

    store: str
    """source or target; empty if it is not known which."""
    cause: str
    count: int
    advice: str
    """What to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusFinding:
    """Objects that did not land, were damaged, or differ."""

    kind: str
    """unlanded, damaged or difference."""
    cause: str
    objects: int
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusLimit:
    """What the job is held to."""

    limit: str
    value: float
    unit: str
    """bytes_per_second, or what is counted."""
    holds: bool
    """It is what keeps the job from being faster now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusDataset:
    """One of many datasets; of those beyond the first 200, `other` has the sums."""

    dataset: str
    phase: str
    """A phase of the document; or not_planned, planned, refused, or paused, while others go on."""
    done: float
    """From 0 to 1, by bytes; by objects if there are none."""
    objects_total: int
    objects_done: int
    bytes_total: int
    bytes_done: int
    failed: int
    workers: int
    lag_seconds: float | None
    """How old the oldest change could be that the target lacked as its last pass ended."""
    priority: int
    """Those of a higher one get workers first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusHistory:
    """Throughput since the run began."""

    interval_seconds: float
    """What a point covers. It doubles as the run gets longer."""
    points: list[tuple[float, float, float]]
    """When the interval began, bytes a second, objects a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusDocument:
    """All that `/status.json` holds."""

    schema: str = SCHEMA
    job: str
    name: str
    """Of the job directory."""
    phase: str
    """How far the driver is: planning, starting, moving, verifying, draining, reconciling, finished
    or stopped."""
    state: str
    """What the job does: its phase, or what keeps it from going on: paused, paused_by_window,
    paused_by_guard, held_by_guard.
    """
    state_words: str
    """The same for people."""
    state_why: str | None
    """By whom and since when, for people. None: there is nothing to say."""
    stopped: str | None
    """Why it stopped before the end, if it did."""
    updated_seconds: float
    """When these figures were taken."""
    served_seconds: float
    """When this was served, by the same clock."""
    run_seconds: float
    """Since this run began to move."""
    progress: StatusProgress
    deadline: DeadlineForecast | None
    """None: no deadline is set."""
    workers: int
    workers_lost: int
    hosts: list[StatusHost]
    stores: list[StatusStore]
    errors: list[StatusError]
    """The most frequent first."""
    findings: list[StatusFinding]
    limits: list[StatusLimit]
    notes: list[str]
    """What holds the job up or wants to be known, in sentences."""
    datasets: list[StatusDataset]
    """Empty: a job of one."""
    migration: MigrationFigures | None
    """Of the passes that ended before. None: a job that stands alone."""
    sealed: SealedObjects | None
    """What signed checkpoints cover, by a look as the run began. None: nothing was signed."""
    history: StatusHistory

    def as_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False)


def document_of(
    status: JobStatus, history: ThroughputHistory, *, name: str, served_seconds: float
) -> StatusDocument:
    """The document of a status, served now."""
    interval_seconds, points = history.read()
    state = job_state(status)
    return StatusDocument(
        job=status.job,
        name=name,
        phase=status.phase.value,
        state=state.state,
        state_words=state.words,
        state_why=None if state.why is None else without_queries(state.why),
        stopped=None if status.stopped is None else without_queries(status.stopped),
        updated_seconds=status.updated_seconds,
        served_seconds=served_seconds,
        run_seconds=status.run_seconds,
        progress=_progress(status),
        deadline=status.deadline,
        workers=status.workers,
        workers_lost=status.workers_lost,
        hosts=[_host(name, status) for name in status.hosts],
        stores=[_store(store, status) for store in StoreRole],
        errors=_errors(status),
        findings=_findings(status),
        limits=_limits(status),
        notes=_notes(status),
        datasets=[_dataset(name, each) for name, each in status.datasets.items()],
        migration=status.migration,
        sealed=status.sealed,
        history=StatusHistory(
            interval_seconds=interval_seconds,
            points=[
                (
                    round(point.unix_seconds, 3),
                    round(point.bytes_per_second, 1),
                    round(point.objects_per_second, 2),
                )
                for point in points
            ],
        ),
    )


def stuck_seconds(status: JobStatus, now: float) -> float | None:
    """How old the figures of a run at work are, if that is too old. `now` is Unix time."""
    age = now - status.updated_seconds
    return age if status.phase in _AT_WORK and age > STUCK_SECONDS else None


def without_queries(text: str) -> str:
    """The text without what follows the question mark of a URL."""
    return _QUERY.sub("", text) if "://" in text else text


def _progress(status: JobStatus) -> StatusProgress:
    return StatusProgress(
        done=status.fraction,
        objects_total=status.objects_total,
        objects_done=status.objects_done,
        bytes_total=status.bytes_total,
        bytes_done=status.bytes_done,
        failed=status.failed,
        already_there=status.outcomes.get("ALREADY_PRESENT", 0),
        listed=status.listed,
        bytes_per_second=status.bytes_per_second,
        objects_per_second=status.objects_per_second,
        retries_per_second=status.retries_per_second,
        listed_per_second=status.listed_per_second,
        eta_seconds=status.eta_seconds,
    )


def _host(name: str, status: JobStatus) -> StatusHost:
    host = status.hosts[name]
    return StatusHost(
        host=name,
        workers=host.workers,
        workers_lost=host.workers_lost,
        bytes_per_second=host.bytes_per_second,
        objects=host.objects,
        errors=sum(host.errors.values()),
        retries=sum(host.retries.values()),
        barred=None if host.barred is None else without_queries(host.barred),
    )


def _store(store: StoreRole, status: JobStatus) -> StatusStore:
    metrics = status.metrics
    return StatusStore(
        store=store.value,
        requests_most=round(metrics.gauges.get((Gauge.CONCURRENCY, store), 0.0), 1),
        throttles=int(metrics.counters.get((Counter.THROTTLES, store), 0.0)),
        silent_seconds=metrics.gauges.get((Gauge.SILENT_SECONDS, store), 0.0),
    )


def _errors(status: JobStatus) -> list[StatusError]:
    """By end and cause. What no request ended with is of no end: of a body, or of no request."""
    by_place: Tally[tuple[str, str]] = Tally()
    by_cause: Tally[str] = Tally()
    for labels, count in status.metrics.counters.items():
        match labels:
            case (Counter.REQUEST_ERRORS, store, _, cause):
                by_place[store, cause] += round(count)
            case (Counter.ERRORS, cause):
                by_cause[cause] += round(count)
    for cause, count in by_cause.items():
        of_requests = sum(by_place[store, cause] for store in StoreRole)
        if count > of_requests:
            by_place["", cause] = count - of_requests
    return [
        StatusError(store=store, cause=cause, count=count, advice=advice_on(cause))
        for (store, cause), count in _most_first(by_place)
    ]


def _findings(status: JobStatus) -> list[StatusFinding]:
    return [
        StatusFinding(kind=kind, cause=cause, objects=objects, advice=advice_on(cause))
        for kind, counts in (
            ("unlanded", status.causes),
            ("damaged", status.damaged),
            ("difference", status.differences),
        )
        for cause, objects in _most_first(counts)
    ]


def _most_first(counts: Mapping[Key, int]) -> Iterable[tuple[Key, int]]:
    return sorted(
        ((name, count) for name, count in counts.items() if count > 0),
        key=lambda item: (-item[1], item[0]),
    )


def _dataset(name: str, figures: DatasetFigures) -> StatusDataset:
    if figures.bytes:
        done = figures.bytes_done / figures.bytes
    else:
        done = figures.objects_done / figures.objects if figures.objects else 0.0
    return StatusDataset(
        dataset=name,
        phase=figures.phase,
        done=min(done, 1.0),
        objects_total=figures.objects,
        objects_done=figures.objects_done,
        bytes_total=figures.bytes,
        bytes_done=figures.bytes_done,
        failed=figures.failed,
        workers=figures.workers,
        lag_seconds=figures.lag_seconds,
        priority=figures.priority,
    )


def _limits(status: JobStatus) -> list[StatusLimit]:
    limits = []
    if status.bandwidth is not None:
        holds, unit = status.held_at is not None, "bytes_per_second"
        limits.append(
            StatusLimit(limit="bandwidth", value=status.bandwidth, unit=unit, holds=holds)
        )
    settings = {} if status.in_force is None else status.in_force.settings
    for name, each in settings.items():
        if name not in ("bandwidth", PAUSED) and each.value:
            unit = "requests_per_second" if name.endswith("_per_second") else name
            limits.append(StatusLimit(limit=name, value=float(each.value), unit=unit, holds=False))
    return limits


def _notes(status: JobStatus) -> list[str]:
    notes = [
        f"The {store} has not answered for {seconds:.0f} s: workers wait for it."
        for store, seconds in status.silent_seconds.items()
    ]
    if status.paused is not None:
        notes.append(f"Paused {without_queries(status.paused)}: nothing new is begun.")
    notes += [
        f"The guard of the {store} leaves {100 * state.factor:.0f} % of the pace: "
        f"{without_queries(state.said)}."
        for store, state in status.held_by_guards.items()
    ]
    if given_up := status.shards.get("quarantined"):
        notes.append(f"Spans of shards that are given up in this run: {given_up}.")
    return notes
