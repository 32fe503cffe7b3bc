"""The status of a job at one moment: what the terminal, /metrics and `noria status` show."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from noria.engine.convergence import MigrationFigures
from noria.engine.deadline import DeadlineForecast, forecast
from noria.engine.scheduler.events import Quarantine
from noria.engine.steering.guard import GuardState
from noria.engine.steering.limits import RUN, LimitsInForce, Steered
from noria.manifests.counters import Gauge, StoreRole
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import BY_POLICY
from noria.manifests.model import LeaseProgress, MetricsSnapshot, Outcome


class Phase(StrEnum):
    PLANNING = "planning"
    STARTING = "starting"
    """Workers are being started."""
    MOVING = "moving"
    VERIFYING = "verifying"
    DRAINING = "draining"
    RECONCILING = "reconciling"
    FINISHED = "finished"
    STOPPED = "stopped"
    """Ended before the end; resumable."""

    @property
    def is_steered(self) -> bool:
        """Whether a driver sends requests to the stores, which people may hold."""
        return self.has_driver and self is not Phase.STARTING

    @property
    def has_driver(self) -> bool:
        """Whether a living driver says so; it may be dead since."""
        return self not in (Phase.FINISHED, Phase.STOPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """What the workers of one host do, and what they have counted over the life of the job."""

    workers: int = 0
    """Those that report."""
    workers_lost: int = 0
    """In this run."""
    cpu_seconds: float = 0.0
    """Processor time of the present workers; so for the next."""
    memory_bytes: int = 0
    bytes_per_second: float = 0.0
    """Sent to the target or read back from it, over the last half minute."""
    written_bytes: int = 0
    """Sent to the target, repeated requests included."""
    objects: int = 0
    """Entries that they finished; what was done twice counts twice."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Cause -> requests that failed."""
    retries: Mapping[str, int] = field(default_factory=dict)
    """Cause -> requests and objects tried again."""
    barred: str | None = None
    """Why it rests, and gets no work meanwhile. None: it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFigures:
    """One of many datasets of a migration, as metrics have it."""

    phase: str
    """A Phase, or one of NOT_PLANNED, PLANNED, REFUSED and DATASET_PAUSED."""
    objects: int = 0
    bytes: int = 0
    objects_done: int = 0
    bytes_done: int = 0
    failed: int = 0
    """Entries that someone has to look at."""
    workers: int = 0
    lag_seconds: float | None = None
    """As noria_lag_seconds. None: no pass has ended."""
    priority: int = 0
    """As it is in force."""


NOT_PLANNED, PLANNED = "not_planned", "planned"
DATASET_PAUSED = "paused"
"""It is paused by itself, while others go on."""
REFUSED = "refused"
"""It could not be planned, or did not go on: somebody has to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedObjects:
    """What the newest signed checkpoint covers."""

    checkpoint: int
    signed_by: Sequence[str]
    """Names in its signatures that are right, by the keys that lie beside them."""
    objects: int
    """Objects that stood at the target as it was signed, and whose receipts signed checkpoints
    cover."""
    is_current: bool
    """The receipts of all passes are still those that were signed. Otherwise it is not known how
    many of the objects still stand as they did."""
    history: int
    """The last record of the history that it covers; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """Totals cover the whole life of the job, all its runs; rates the last half minute."""

    job: str
    phase: Phase
    updated_seconds: float
    """Unix time of this snapshot."""
    run_seconds: float = 0.0
    """Since this run began to move."""
    objects_total: int = 0
    """Entries of the manifest."""
    bytes_total: int = 0
    objects_done: int = 0
    """Entries with a final outcome: sealed, and those of live leases as workers report them."""
    bytes_done: int = 0
    """Bytes of what landed, also of live leases and of parts of what has not landed yet."""
    bytes_moved: int = 0
    """Bytes that were handed to the network for the target, those sent again included."""
    bytes_moved_at_least: bool = False
    """Something ended without a last report: what it sent since the one before is not counted."""
    sealed_sent_bytes: int = 0
    """Of these, those of sealed entries, as their receipts have them."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Outcome -> sealed entries."""
    outcome_bytes: Mapping[str, int] = field(default_factory=dict)
    levels: Mapping[str, int] = field(default_factory=dict)
    causes: Mapping[str, int] = field(default_factory=dict)
    """Why entries did not land: plan reasons and error causes -> sealed entries."""
    failing: int = 0
    """Entries of live leases that failed, not sealed yet."""
    handed_back: tuple[LeaseProgress, ...] = ()
    """How far leases were that nobody holds, as in a pause: their journals have it, and the next
    driver shows it from its beginning. Of more than HANDED_BACK_KEPT, so many."""
    changes: Mapping[str, int] = field(default_factory=dict)
    """How attributes differ from the source's: AttributeChange -> sealed entries."""
    shards: Mapping[str, int] = field(default_factory=dict)
    """pending, leased, settled, quarantined -> shards, or spans of shards."""
    workers: int = 0
    workers_lost: int = 0
    bytes_per_second: float = 0.0
    objects_per_second: float = 0.0
    retries_per_second: float = 0.0
    eta_seconds: float | None = None
    """None while nothing moves."""
    deadline_seconds: float | None = None
    """Unix time by which it should be done. None: it has no deadline."""
    bandwidth: float | None = None
    """Bytes a second that all workers together may read. None: any number."""
    held: bool = False
    """That holds workers up: they could read more."""
    in_force: LimitsInForce | None = None
    """Settings that may change while a job runs; None: no driver said them."""
    interpreter: str = ""
    """Versions of the driver's Python and TLS library; empty before the first run."""
    listed: int = 0
    """Objects at the target that reconciling has listed so far."""
    listed_per_second: float = 0.0
    drains: str | None = None
    """Why its driver ends before the job has; None: it does not."""
    stopped: str | None = None
    """Why it stopped before the end, if it did."""
    stop_cause: str | None = None
    """The same as a cause. None: it did not, or a person asked for it."""
    reconciled: bool | None = None
    """Whether manifest, receipts and target agreed at the end. None: that was not looked at yet."""
    free_bytes: int | None = None
    """Room for the job directory. None: not known."""
    credentials_end: Mapping[str, float] = field(default_factory=dict)
    """Store -> Unix time at which its credentials are over; those without an end are left out."""
    damaged: Mapping[str, int] = field(default_factory=dict)
    """Cause -> objects that were found damaged at the target, and not sent again since."""
    differences: Mapping[str, int] = field(default_factory=dict)
    """What the last reconcile of a finished job found, if that was not in order."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Cause -> entries of the inventory that are not in the manifest, as in RunReport."""
    hosts: Mapping[str, HostStatus] = field(default_factory=dict)
    """Name -> host, in the order in which they were met; see totals.MOST_HOSTS."""
    migration: MigrationFigures | None = None
    """Of the passes that ended before; None: a job that stands alone."""
    sealed: SealedObjects | None = None
    """What is signed of the migration. None: nothing is, or nobody looked. Not kept on disk."""
    datasets: Mapping[str, DatasetFigures] = field(default_factory=dict)
    """Of a run of many: each by its name; all else is their sum. Not kept on disk."""
    metrics: MetricsSnapshot = field(default_factory=MetricsSnapshot)
    """All workers' counters added up, gauges as of now."""

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1, by bytes, or by objects if there are none. 1: all of it."""
        if not self.objects_total:
            return 1.0 if self.phase is Phase.FINISHED else 0.0
        by_objects = self.objects_done / self.objects_total
        done = self.bytes_done / self.bytes_total if self.bytes_total else by_objects
        if self.objects_done < self.objects_total:
            done = min(done, 0.999)
        return min(max(done, 0.0), 1.0)

    @property
    def deadline(self) -> DeadlineForecast | None:
        """When it ends at this throughput, beside its deadline. None: it has none."""
        if self.deadline_seconds is None:
            return None
        return forecast(
            self.deadline_seconds,
            now=self.updated_seconds,
            eta_seconds=self.eta_seconds,
            ended=self.phase is Phase.FINISHED,
        )

    @property
    def spare_seconds(self) -> float | None:
        """From its end at this throughput to its deadline. None: not known, or it has none."""
        return None if self.deadline is None else self.deadline.spare_seconds

    @property
    def is_cut_off(self) -> bool:
        """Whether the driver that said this last, if it is dead, died while its workers worked."""
        return self.phase in (Phase.MOVING, Phase.DRAINING)

    @property
    def silent_seconds(self) -> Mapping[str, float]:
        """Store -> how long workers have been waiting for it to answer; empty while both answer."""
        found = {
            role: self.metrics.gauges.get((Gauge.SILENT_SECONDS, role), 0) for role in StoreRole
        }
        return {str(role): seconds for role, seconds in found.items() if seconds > 0}

    @property
    def held_at(self) -> float | None:
        """The limit of the bandwidth that holds workers up now; None if none does."""
        working = self.phase in (Phase.MOVING, Phase.VERIFYING, Phase.DRAINING)
        return self.bandwidth if self.held and working else None

    @property
    def own_bandwidth(self) -> float | None:
        """The limit that the job file or the command line of the run gave; None: none."""
        if self.in_force is None:
            return self.bandwidth
        found = self.in_force.settings.get("bandwidth")
        return float(found.value) or None if found is not None and found.by == RUN else None

    @property
    def held_by_guards(self) -> Mapping[str, GuardState]:
        """Store -> its guard, of those that hold the job back now."""
        working = self.phase in (Phase.MOVING, Phase.VERIFYING, Phase.DRAINING)
        if not working or self.in_force is None:
            return {}
        return {store: state for store, state in self.in_force.guards.items() if state.holds}

    @property
    def pause(self) -> Steered | None:
        """What keeps anything new from being begun; None if nothing does."""
        return self.in_force.paused if self.phase.is_steered and self.in_force else None

    @property
    def paused(self) -> str | None:
        """By whom, since when and why nothing new is begun; None if something is."""
        return None if self.pause is None else self.pause.why

    @property
    def barred(self) -> Mapping[str, str]:
        """Host -> why it rests."""
        return {name: host.barred for name, host in self.hosts.items() if host.barred is not None}

    @property
    def failed(self) -> int:
        """Entries that someone has to look at."""
        right = sum(self.outcomes.get(outcome, 0) for outcome in Outcome if outcome.as_planned)
        policy = sum(self.causes.get(cause, 0) for cause in BY_POLICY)
        return sum(self.outcomes.values()) - right - policy + self.failing


def at_rest(hosts: Mapping[str, HostStatus]) -> dict[str, HostStatus]:
    """The same hosts when nobody works any more."""
    return {
        name: replace(host, workers=0, cpu_seconds=0.0, memory_bytes=0, bytes_per_second=0.0)
        for name, host in hosts.items()
    }


@dataclass(slots=True)
class Ending:
    """How a driver's loop ended."""

    complete: bool = False
    """Every span is settled or quarantined."""
    cause: str | None = None
    """Why it stopped before that; None for a drain that a person asked for."""
    message: str | None = None
    quarantined: list[Quarantine] = field(default_factory=list)
    status: JobStatus | None = None
    """The last one that was shown."""
    workers_may_write: bool = False
    """Some had work, and were not seen to end."""


HANDED_BACK_KEPT = 4096
"""The file is written every second, and each of these takes a hundred bytes of it."""
STATUS_FILE = "status.json"
VERIFY_STATUS_FILE = "verify-status.json"
RECONCILE_STATUS_FILE = "reconcile-status.json"
"""What `noria reconcile` says of itself while it works; it goes with its end."""
_METRICS_OF_EARLIER_VERSIONS = "tally"
"""The name of `metrics` in their status files."""


def save_status(directory: JobDirectory, status: JobStatus, name: str = STATUS_FILE) -> None:
    """Keep the snapshot as a cache for `noria status`, and for the counters of the next run."""
    values: dict[str, Any] = {
        item.name: getattr(status, item.name)
        for item in fields(status)
        if item.name not in ("metrics", "datasets", "sealed")
    }
    values["metrics"] = {
        name: [[list(labels), value] for labels, value in getattr(status.metrics, name).items()]
        for name in ("counters", "gauges", "histograms")
    }
    directory.replace(name, (json.dumps(values, default=_plain) + "\n").encode())


def _plain(value: Any) -> dict[str, Any]:
    """What JSON does not know: a dataclass, or another mapping than a dict. Raises TypeError.

    asdict() would copy all that is below as well, which takes longer than to write it.
    """
    if isinstance(value, Mapping):
        return dict(value)
    return {item.name: getattr(value, item.name) for item in fields(value)}


def load_status(directory: JobDirectory, name: str = STATUS_FILE) -> JobStatus | None:
    """The last snapshot, or None if the job never ran or the cache is not readable."""
    data = directory.read(name)
    if data is None:
        return None
    try:
        values = json.loads(data)
        stored = values["metrics" if "metrics" in values else _METRICS_OF_EARLIER_VERSIONS]
        stated = {
            name: [(tuple(labels), value) for labels, value in stored[name]]
            for name in ("counters", "gauges", "histograms")
        }
        if not _is_bounded(values):
            return None
        of_metrics, of_status = _adapters()
        metrics = of_metrics.validate_python({name: dict(pairs) for name, pairs in stated.items()})
        status = of_status.validate_json(json.dumps({**values, "metrics": {}}), strict=True)
        return replace(status, metrics=metrics)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None  # a cache: what counts is in the seals


@functools.cache
def _adapters() -> tuple[TypeAdapter[MetricsSnapshot], TypeAdapter[JobStatus]]:
    """Made once: a thousand datasets have as many status files."""
    return TypeAdapter(MetricsSnapshot), TypeAdapter(JobStatus)


def _is_bounded(value: Any) -> bool:
    """Every number in it is one that sums and displays can take: finite, and of 63 bits."""
    if isinstance(value, dict):
        return all(map(_is_bounded, value.values()))
    if isinstance(value, list):
        return all(map(_is_bounded, value))
    return not isinstance(value, int | float) or -(2**63) < value < 2**63
