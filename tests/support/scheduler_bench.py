"""A scheduler on a bench: events by hand, answers in the hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from noria.engine.scheduler.events import (
    Command,
    Grant,
    LeaseEnded,
    Tick,
    WorkerJoined,
    WorkerReported,
)
from noria.engine.scheduler.scheduler import Scheduler, SchedulerOptions, SettledSpan
from noria.manifests.model import (
    Lease,
    LeaseEnd,
    LeaseKind,
    LeaseProgress,
    LeaseResult,
    ShardKind,
    ShardPlan,
)
from tests.support.scheduler_ledger import result_of

C = TypeVar("C", bound=Command)

OPTIONS = SchedulerOptions(
    attempts_per_span=3,
    worker_failure_limit=3,
    heartbeat_timeout_seconds=60,
    stall_seconds=300,
    revoke_seconds=100,
    retry_seconds=10,
    min_split_units=2,
    split_seconds=30,
    split_timeout_seconds=20,
    max_clock_gap_seconds=1e9,
    drain_timeout_seconds=120,
)


def objects(shard: int, units: int = 10, size: int = 100) -> ShardPlan:
    return ShardPlan(
        shard=shard, kind=ShardKind.OBJECTS, units=units, bytes=size, units_per_lease=units
    )


def parts(shard: int, units: int = 10, each: int = 5) -> ShardPlan:
    return ShardPlan(
        shard=shard, kind=ShardKind.PARTS, units=units, bytes=units * 10, units_per_lease=each
    )


def sealed(shard: int, first: int, end: int, kind: LeaseKind = LeaseKind.OBJECTS) -> SettledSpan:
    return SettledSpan(shard=shard, kind=kind, first=first, end=end)


class Bench:
    """A scheduler and a clock that moves when it is told to."""

    def __init__(
        self,
        *plans: ShardPlan,
        settled: Iterable[SettledSpan] = (),
        generations: Mapping[int, int] | None = None,
        **changes: Any,
    ) -> None:
        self.now = 1000.0
        self.said: list[Command] = []
        self.scheduler = Scheduler(
            plans,
            settled=settled,
            generations=generations or {},
            first_attempt=501,
            options=replace(OPTIONS, **changes),
        )

    def tell(self, event: Any) -> list[Command]:
        commands = self.scheduler.on(event)
        self.said += commands
        return commands

    def join(self, worker: str, slots: int = 1) -> list[Lease]:
        return leases(self.tell(WorkerJoined(now=self.now, worker=worker, slots=slots)))

    def end(self, worker: str, result: LeaseResult) -> list[Command]:
        return self.tell(LeaseEnded(now=self.now, worker=worker, result=result))

    def finish(self, worker: str, lease: Lease) -> list[Command]:
        return self.end(worker, result_of(lease))

    def fail(self, worker: str, lease: Lease, how: LeaseEnd = LeaseEnd.FAILED) -> list[Command]:
        return self.end(worker, result_of(lease, how, cause="unavailable"))

    def report(self, worker: str, *progress: LeaseProgress, free_places: int = 0) -> list[Command]:
        return self.tell(
            WorkerReported(now=self.now, worker=worker, progress=progress, free_places=free_places)
        )

    def wait(self, seconds: float) -> list[Command]:
        self.now += seconds
        return self.tell(Tick(now=self.now))

    def counts(self) -> tuple[int, ...]:
        return tuple(self.scheduler.counts().values())

    def heard(self, kind: type[C]) -> list[C]:
        return of_kind(kind, self.said)


def of_kind(kind: type[C], commands: Iterable[Command]) -> list[C]:
    return [command for command in commands if isinstance(command, kind)]


def leases(commands: Iterable[Command]) -> list[Lease]:
    return [grant.lease for grant in of_kind(Grant, commands)]


def spans(found: Iterable[Lease]) -> list[tuple[int, int, int]]:
    return [(lease.shard, lease.first, lease.end) for lease in found]
