"""The running totals of a job: from seals, which count for ever, and from reports of workers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from noria.engine.interpreter import describe_interpreter
from noria.engine.status import JobStatus, Phase
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
        self._parts_of_open: Counter[int] = Counter()
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
        sizes = sums.outcome_bytes
        settled_bytes = sum(sizes.values()) - sizes.get(Outcome.SKIPPED, 0)
        bytes_done = min(
            self.bytes_total,
            settled_bytes
            + sum(self._parts_of_open.values())
            + sum(item.bytes_done for item in live),
        )
        objects_done = min(self.objects_total, sums.entries + sum(item.units_done for item in live))
        bytes_rate, objects_rate = self._rates(_Mark(now, bytes_done, objects_done))
        metrics = self._ended
        for worker_metrics in self._live.values():
            metrics += worker_metrics
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
            shards=shards,
            workers=len(self._live),
            workers_lost=self.workers_lost,
            bytes_per_second=bytes_rate,
            objects_per_second=objects_rate,
            eta_seconds=self._eta(bytes_done, objects_done, bytes_rate, objects_rate),
            interpreter=describe_interpreter(),
            metrics=metrics,
        )

    def _rates(self, mark: _Mark) -> tuple[float, float]:
        """Bytes and objects a second since the oldest mark of the window; never negative.

        What a lost worker had in progress no longer counts, which must not look like a rate.
        """
        self._marks.append(mark)
        while len(self._marks) > 2 and mark.now - self._marks[0].now > RATE_SECONDS:
            self._marks.popleft()
        first = self._marks[0]
        seconds = mark.now - first.now
        if seconds <= 0:
            return 0.0, 0.0
        return (
            max(0.0, (mark.bytes_done - first.bytes_done) / seconds),
            max(0.0, (mark.objects_done - first.objects_done) / seconds),
        )

    def _eta(
        self, bytes_done: int, objects_done: int, bytes_rate: float, objects_rate: float
    ) -> float | None:
        """Seconds left: what is slower of bytes and objects counts."""
        left = [
            (total - done) / rate if rate > 0 else None
            for total, done, rate in (
                (self.bytes_total, bytes_done, bytes_rate),
                (self.objects_total, objects_done, objects_rate),
            )
            if total > done
        ]
        known = [seconds for seconds in left if seconds is not None]
        if not left:
            return 0.0
        return max(known) if known else None


def _by_name(counts: Mapping[Key, int]) -> dict[str, int]:
    """With plain names for keys, in order, as a status shows and stores them."""
    return dict(sorted((str(key), count) for key, count in counts.items()))
