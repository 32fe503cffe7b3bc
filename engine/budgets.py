"""What all workers of a run may use together, shared out: transfers, bytes and requests a second.

Each is shared by a pure class of its own (engine/concurrency); here they hear the same reports.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from noria.engine.cluster.protocol import Instruction
from noria.engine.concurrency.bandwidth import BandwidthBudget
from noria.engine.concurrency.sharing import TransferBudget
from noria.engine.config.quantities import BANDWIDTH_LEAST
from noria.engine.steering.limits import LimitsInForce
from noria.engine.worker_spec import WorkerSpec
from noria.manifests.counters import StoreRole
from noria.manifests.model import BandwidthUse, Limits, RequestShare, WorkerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShare:
    """What one worker begins with."""

    limits: Limits | None = None
    """None: nothing is said of it."""
    bandwidth: float
    """Bytes a second. inf: no limit; 0: none until it is told. So for the next, in requests."""
    source_requests: float
    target_requests: float

    def in_spec(self, spec: WorkerSpec) -> WorkerSpec:
        """The spec of a worker that begins so."""
        return replace(
            spec,
            limits=self.limits or spec.limits,
            bandwidth=self.bandwidth,
            source_requests=self.source_requests,
            target_requests=self.target_requests,
        )


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
        return self.start.in_spec(spec)

    @property
    def start(self) -> WorkerShare:
        """What a worker begins with, but for its transfers."""
        return WorkerShare(
            bandwidth=self.bandwidth.start,
            source_requests=self._requests[StoreRole.SOURCE].start,
            target_requests=self._requests[StoreRole.TARGET].start,
        )

    def first_share(self, spec: WorkerSpec, workers: int) -> WorkerSpec:
        """The spec of the first workers, of which none begins with more than its share."""
        limits = self.even_limits([f"{number:05}" for number in range(workers)])
        return spec if limits is None else replace(spec, limits=limits)

    def even_limits(self, workers: Iterable[str]) -> Limits | None:
        """What each of these workers would have in flight. None: there are none."""
        split = self._transfers.limits(dict.fromkeys(workers, math.inf))
        # What is left over goes to the first.
        return split[max(split)] if split else None

    def join(self, worker: str) -> None:
        self._transfers.join(worker)
        for rate in self._rates:
            rate.join(worker)

    def join_listing(self, name: str, role: str) -> tuple[float, float]:
        """A driver lists that store; returns the bytes and the requests a second to begin with."""
        for rate in (self.bandwidth, self._requests[role]):
            rate.join(name)
        return self.bandwidth.start, self._requests[role].start

    def hear_listing(
        self, name: str, role: str, bandwidth: BandwidthUse, requests: BandwidthUse
    ) -> None:
        """What a listing has used so far."""
        self.bandwidth.hear(name, bandwidth)
        self._requests[role].hear(name, requests)

    def restart(self, worker: str) -> WorkerShare:
        """Another worker goes on in the place of one, with the shares that this returns."""
        return WorkerShare(
            limits=self._transfers.restart(worker),
            bandwidth=self.bandwidth.restart(worker),
            source_requests=self._requests[StoreRole.SOURCE].restart(worker),
            target_requests=self._requests[StoreRole.TARGET].restart(worker),
        )

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
