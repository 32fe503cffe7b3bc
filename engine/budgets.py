"""What all workers of a run may use together, shared out: transfers, bytes and requests a second.

Each is shared by a pure class of its own (engine/concurrency); here they hear the same reports.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from noria.engine.cluster.protocol import Instruction
from noria.engine.concurrency.bandwidth import BandwidthBudget
from noria.engine.concurrency.sharing import TransferBudget
from noria.engine.config.quantities import BANDWIDTH_LEAST
from noria.engine.steering.limits import LimitsInForce
from noria.engine.worker_spec import WorkerSpec
from noria.manifests.counters import StoreRole
from noria.manifests.model import RequestShare, WorkerReport


class Budgets:
    """Hears all workers, and says what each is to be told. One for each run."""

    def __init__(self, limits: LimitsInForce, start: int) -> None:
        """`start`: transfers in flight to begin with, if `limits` does not set a number."""
        self._limits = limits
        self.bandwidth = BandwidthBudget(lambda: self._bandwidth)
        self._pace: float | None = None
        """Bytes a second that the job read when a guard began to hold it. None: none does."""
        self._requests: dict[str, BandwidthBudget] = {
            role: BandwidthBudget(partial(self._requests_per_second, role)) for role in StoreRole
        }
        self._transfers = TransferBudget(start)
        self._set_transfers()

    def follow(self, limits: LimitsInForce) -> None:
        """From here on these are in force; decide() brings them to the workers."""
        self._limits = limits
        self._set_transfers()
        self._note_pace()

    @property
    def busy(self) -> bool:
        """The processors of the workers are full."""
        return self._transfers.busy

    def spec(self, spec: WorkerSpec) -> WorkerSpec:
        """What a worker starts with that is asked for now."""
        return replace(
            spec,
            bandwidth=self.bandwidth.start,
            source_requests=self._requests[StoreRole.SOURCE].start,
            target_requests=self._requests[StoreRole.TARGET].start,
        )

    def first_share(self, spec: WorkerSpec, workers: int) -> WorkerSpec:
        """The spec of the first workers, of which none begins with more than its share."""
        split = self._transfers.limits({f"{number:05}": math.inf for number in range(workers)})
        # What is left over goes to the first.
        return replace(spec, limits=split[max(split)]) if split else spec

    def join(self, worker: str) -> None:
        self._transfers.join(worker)
        for rate in self._rates:
            rate.join(worker)

    def leave(self, worker: str) -> None:
        self._transfers.leave(worker)
        for rate in self._rates:
            rate.leave(worker)

    def expect_use(self, worker: str, until: float) -> None:
        """A worker is gone that was not seen to end: it may go on until then."""
        for rate in self._rates:
            rate.leave(worker, may_work_until=until)

    def hear(self, worker: str, report: WorkerReport) -> None:
        self._transfers.hear(worker, report.metrics)
        self.bandwidth.hear(worker, report.bandwidth)
        for role, use in report.requests.items():
            if role in self._requests:
                self._requests[role].hear(worker, use)

    def decide(self, now: float) -> Iterator[tuple[str, Instruction]]:
        """Workers, and what each of them is to be told now."""
        self._note_pace()
        yield from self._transfers.decide(now).items()
        yield from self.decide_rates(now)

    def decide_rates(self, now: float) -> Iterator[tuple[str, Instruction]]:
        """The same without transfers, as when a worker has joined that waits for its share."""
        yield from self.bandwidth.decide(now).items()
        for role, budget in self._requests.items():
            for worker, share in budget.decide(now).items():
                yield worker, RequestShare(store=role, per_second=share.bytes_per_second)

    def _note_pace(self) -> None:
        """Remember the pace of the job as a guard begins to hold it."""
        if self._limits.guard_factor >= 1.0:
            self._pace = None
        elif self._pace is None and self.bandwidth.rate > 0:
            self._pace = self.bandwidth.rate

    @property
    def _rates(self) -> list[BandwidthBudget]:
        return [self.bandwidth, *self._requests.values()]

    @property
    def _bandwidth(self) -> float:
        limit = self._limits.rate("bandwidth")
        if self._pace is None:
            return limit
        return min(limit, max(BANDWIDTH_LEAST, self._limits.guard_factor * self._pace))

    def _requests_per_second(self, role: str) -> float:
        return self._limits.rate(f"{role}_requests_per_second")

    def _set_transfers(self) -> None:
        limits = self._limits
        self._transfers.bound(
            fixed=limits.number("transfers"),
            source_most=limits.number("source_requests"),
            target_most=limits.number("target_requests"),
        )
