"""The running totals of a job: from seals, which count for ever, and from reports of workers."""

from __future__ import annotations

from collections import Counter as Tally
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from noria.engine.interpreter import describe_interpreter
from noria.engine.status import JobStatus, Phase
from noria.manifests.counters import Counter, Gauge, StoreRole
from noria.manifests.job.seals import Seal
from noria.manifests.model import (
    Key,
    LeaseKind,
    LeaseProgress,
    MetricsSnapshot,
    Outcome,
    ReceiptSummary,
)

RATE_SECONDS = 30.0
"""Throughput is taken over this long."""


@dataclass(frozen=True, slots=True)
class _Mark:
    now: float
    bytes_done: int
    objects_done: int
    """Without those that failed."""
    retries: float


class Totals:
    """Adds up. Sizes with the number of seals only in what one PARTS shard has in progress."""

    def __init__(
        self,
        job: str,
        *,
        objects_total: int,
        bytes_total: int,
        earlier: MetricsSnapshot | None = None,
    ) -> None:
        self._job = job
        self.objects_total = objects_total
        self.bytes_total = bytes_total
        self._sums = ReceiptSummary()
        self._parts_of_open: Tally[int] = Tally()
        """PARTS shard -> bytes of sealed parts, until the object is assembled."""
        self._ended = (earlier or MetricsSnapshot()).without_gauges()
        self._live: dict[str, MetricsSnapshot] = {}
        self._progress: dict[str, tuple[LeaseProgress, ...]] = {}
        self._marks: deque[_Mark] = deque()
        self.workers_lost = 0

    def add_seal(self, sealed: Seal) -> None:
        self._sums += sealed.summary
        if sealed.kind is LeaseKind.PARTS:
            self._parts_of_open[sealed.shard] += sealed.summary.part_bytes
        elif sealed.kind is LeaseKind.ASSEMBLE:
            self._parts_of_open.pop(sealed.shard, None)

    def void_parts(self, shard: int) -> None:
        """A PARTS shard begins again: its sealed parts are worth nothing."""
        self._parts_of_open.pop(shard, None)

    def add_report(
        self, worker: str, progress: tuple[LeaseProgress, ...], metrics: MetricsSnapshot
    ) -> None:
        self._live[worker] = metrics
        self._progress[worker] = progress

    def drop_worker(self, worker: str, *, lost: bool) -> None:
        """The worker is gone; what it counted stays."""
        self._progress.pop(worker, None)
        metrics = self._live.pop(worker, None)
        if metrics is not None:
            self._ended += metrics.without_gauges()
        self.workers_lost += lost

    @property
    def sums(self) -> ReceiptSummary:
        """What all seals together say."""
        return self._sums

    def status(
        self, phase: Phase, *, now: float, started: float, unix: float, shards: Mapping[str, int]
    ) -> JobStatus:
        sums = self._sums
        live = [item for held in self._progress.values() for item in held]
        bytes_done = min(
            self.bytes_total,
            sums.landed_bytes
            + sum(self._parts_of_open.values())
            + sum(item.bytes_done for item in live),
        )
        objects_done = min(self.objects_total, sums.entries + sum(item.units_done for item in live))
        failing = sum(item.units_failed for item in live)
        failed = sums.outcomes.get(Outcome.FAILED, 0) + failing
        bytes_left = self.bytes_total - bytes_done - sums.outcome_bytes.get(Outcome.FAILED, 0)
        metrics = self._ended
        for worker_metrics in self._live.values():
            metrics += worker_metrics
        retries = sum(
            number for labels, number in metrics.counters.items() if labels[0] == Counter.RETRIES
        )
        bytes_rate, objects_rate, retries_rate = self._rates(
            _Mark(now, bytes_done, objects_done - failed, retries)
        )
        metrics = replace(metrics, gauges={**metrics.gauges, **self._silent_seconds()})
        return JobStatus(
            job=self._job,
            phase=phase,
            updated_seconds=unix,
            run_seconds=now - started,
            objects_total=self.objects_total,
            bytes_total=self.bytes_total,
            objects_done=objects_done,
            bytes_done=bytes_done,
            bytes_moved=sums.bytes_moved,
            outcomes=_by_name(sums.outcomes),
            outcome_bytes=_by_name(sums.outcome_bytes),
            levels=_by_name(sums.levels),
            causes=_by_name(sums.causes),
            failing=failing,
            changes=_by_name(sums.changes),
            shards=shards,
            workers=len(self._live),
            workers_lost=self.workers_lost,
            bytes_per_second=bytes_rate,
            objects_per_second=objects_rate,
            retries_per_second=retries_rate,
            eta_seconds=_eta(
                (bytes_left, bytes_rate), (self.objects_total - objects_done, objects_rate)
            ),
            interpreter=describe_interpreter(),
            metrics=metrics,
        )

    def _rates(self, mark: _Mark) -> tuple[float, float, float]:
        """Bytes, objects and retries a second since the oldest mark of the window; never negative.

        What a lost worker had in progress no longer counts, which must not look like a rate.
        """
        self._marks.append(mark)
        while len(self._marks) > 2 and mark.now - self._marks[0].now > RATE_SECONDS:
            self._marks.popleft()
        first = self._marks[0]
        seconds = mark.now - first.now
        if seconds <= 0:
            return 0.0, 0.0, 0.0
        return (
            max(0.0, (mark.bytes_done - first.bytes_done) / seconds),
            max(0.0, (mark.objects_done - first.objects_done) / seconds),
            max(0.0, (mark.retries - first.retries) / seconds),
        )

    def _silent_seconds(self) -> dict[tuple[str, ...], float]:
        """The gauge of each store: a silence does not add up, the longest counts."""
        return {
            labels: max(metrics.gauges.get(labels, 0.0) for metrics in self._live.values())
            for labels in ((Gauge.SILENT_SECONDS, role) for role in StoreRole)
            if self._live
        }


def _eta(*amounts: tuple[int, float]) -> float | None:
    """Seconds left, of amounts that are left and their rates; the slowest counts."""
    left = [amount / rate if rate > 0 else None for amount, rate in amounts if amount > 0]
    known = [seconds for seconds in left if seconds is not None]
    if not left:
        return 0.0
    return max(known) if known else None


def _by_name(counts: Mapping[Key, int]) -> dict[str, int]:
    """With plain names for keys, in order, as a status shows and stores them."""
    return dict(sorted((str(key), count) for key, count in counts.items()))
