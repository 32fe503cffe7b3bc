"""Simulated workers: leases they work on, at which pace, and what a lease leaves when it ends.

A task walks its units one after the other. What an earlier attempt journalled is not done again;
what it had in flight when it died is. Both as workers/lease/lease.py does it, without the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from noria.benchmarks.simulate.clocks import DriftingClock
from noria.engine.cluster.protocol import DrainWorker
from noria.engine.scheduler.events import Command
from noria.manifests.model import Lease, LeaseKind, LeaseProgress, LeaseResult
from noria.workers.runtime.hold import Hold

QUEUED = 2
"""Transfers that a lease has begun for each that may be in flight: the others wait."""


class Fate(StrEnum):
    """What a task comes to when it gets to `stop_at`."""

    FINISHED = "finished"
    FAILED = "failed"
    UPLOAD_LOST = "upload_lost"
    HUNG = "hung"
    WRONG = "wrong"
    """It finishes, and says something else than it did."""


@dataclass(slots=True, eq=False)
class SimulatedNode:
    number: int
    clock: DriftingClock
    workers: list[SimulatedWorker] = field(default_factory=list)
    starting: int = 0
    leaving: bool = False
    gone: bool = False
    away: bool = False
    """Cut off from the driver, or frozen."""
    speed_in_use: float = 0.0
    """Of its workers that have something to do."""

    @property
    def expected(self) -> int:
        """Workers that the driver counts on, now or soon."""
        lost = sum(worker.forgotten or worker.unreachable for worker in self.workers)
        return self.starting + len(self.workers) - lost


class Task:
    """A lease that a worker works on, deaf or not, valid or not."""

    __slots__ = (
        "at",
        "deaf",
        "end",
        "fate",
        "fenced_x",
        "journalled_x",
        "kept",
        "lanes",
        "lease",
        "moved_at",
        "pace",
        "said_end",
        "stop_at",
        "stopped_at",
        "todo",
        "todo_units",
        "unit_bytes",
        "unit_lanes",
        "unit_work",
        "version",
        "window",
        "worker",
        "x",
    )

    def __init__(
        self,
        lease: Lease,
        worker: SimulatedWorker,
        todo: Sequence[tuple[int, int]],
        *,
        unit_bytes: float,
        unit_work: float,
        unit_lanes: int,
        transfers: int,
    ) -> None:
        self.lease = lease
        self.worker = worker
        self.end = self.said_end = lease.end
        self.todo = list(todo)
        """Runs of units that no journal holds."""
        self.todo_units = sum(end - first for first, end in todo)
        self.kept = max(0, lease.end - lease.first - self.todo_units)
        self.unit_bytes = unit_bytes
        self.unit_work = unit_work
        """Bytes, and what else a unit costs, in bytes."""
        self.unit_lanes = unit_lanes
        """Transfers that may move one unit at once."""
        self.lanes = 0.0
        """Transfers in flight; less than one if it waits its turn behind others."""
        self.window = min(self.todo_units, math.ceil(QUEUED * transfers / unit_lanes))
        """Units that have begun beyond those that have ended."""
        self.x = 0.0
        """Of todo_units, how many are done: the fraction is one under way."""
        self.at = 0.0
        """The volume at which x was right."""
        self.moved_at = 0.0
        """The time of that."""
        self.pace = 0.0
        """Units for each byte of volume."""
        self.fate = Fate.FINISHED
        self.stop_at = float(self.todo_units)
        self.journalled_x = 0
        self.fenced_x: float | None = None
        """Where it was when its attempt ceased to count, and a fault was the cause."""
        self.deaf = False
        """A hung task that no Revoke ends."""
        self.stopped_at: float | None = None
        """No request of it has begun since then: it ends with what is in flight."""
        self.version = 0
        """Grows when what is due for it is not due any more."""

    def move(self, volume: float) -> float:
        """Work up to this volume. Returns the bytes that this moved."""
        before = self.x
        if self.pace:
            self.x = min(self.stop_at, before + (volume - self.at) * self.pace)
        self.at = volume
        return (self.x - before) * self.unit_bytes

    def due(self) -> float | None:
        """The volume at which it gets to `stop_at`; None if it never does."""
        if self.fate is Fate.HUNG:
            return None
        if self.x >= self.stop_at:
            return self.at
        return self.at + (self.stop_at - self.x) / self.pace if self.pace else None

    def units_at(self, first_x: int, end_x: int) -> list[tuple[int, int]]:
        """The units behind [first_x, end_x) of what is to do, as runs."""
        found, before = [], 0
        for first, end in self.todo:
            low, high = max(first_x - before, 0), min(end_x - before, end - first)
            if low < high:
                found.append((first + low, first + high))
            before += end - first
        return found

    def cut(self, end: int) -> None:
        """Give up the units from `end` on, as far as they have not begun."""
        begun = self.units_at(0, min(self.todo_units, math.floor(self.x) + self.window))
        self.end = min(self.end, max(end, begun[-1][1] if begun else self.lease.first + 1))
        self.todo = [(first, min(last, self.end)) for first, last in self.todo if first < self.end]
        units = sum(last - first for first, last in self.todo)
        self.kept = self.end - self.lease.first - units
        if self.fate in (Fate.FINISHED, Fate.WRONG) or self.stop_at >= units:
            self.stop_at = float(units)
            self.fate = Fate.FINISHED if self.fate is not Fate.WRONG else Fate.WRONG
        self.todo_units = units

    def progress(self) -> LeaseProgress:
        done = math.floor(self.x)
        return LeaseProgress(
            shard=self.lease.shard,
            first=self.lease.first,
            attempt=self.lease.attempt,
            end=self.end,
            units_done=self.kept + done,
            bytes_done=int((self.kept + self.x) * self.unit_bytes),
        )

    @property
    def lanes_most(self) -> int:
        """Transfers that it has work for: all its units at once, until the last one ends."""
        return max(1, self.todo_units * self.unit_lanes)

    @property
    def generation(self) -> tuple[int, int]:
        """The journal that it writes to."""
        return self.lease.shard, self.lease.generation

    @property
    def is_assembly(self) -> bool:
        return self.lease.kind is LeaseKind.ASSEMBLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker says in one exchange."""

    sent_at: float
    results: Sequence[LeaseResult]
    cuts: Sequence[tuple[Lease, int]]
    """Leases that end earlier now, and where."""
    progress: tuple[LeaseProgress, ...]
    free_places: int


Message = tuple[Callable[..., None], tuple[Any, ...]]
"""What happens when a message arrives."""


@dataclass(slots=True, eq=False)
class SimulatedWorker:
    """One process. The driver knows it by its name, if at all."""

    name: str
    node: SimulatedNode
    speed: float
    """Bytes a second that it could move."""
    slots: int
    hold: Hold
    tasks: dict[int, Task] = field(default_factory=dict)
    """By attempt, running."""
    results: list[LeaseResult] = field(default_factory=list)
    """Not reported yet."""
    outbox: list[Command | DrainWorker] = field(default_factory=list)
    """What the driver tells it with its next call."""
    alive: bool = True
    asleep: bool = False
    """It stands still: nothing moves, nothing is said."""
    unheard: bool = False
    """Nothing that it says gets through, nothing gets to it."""
    forgotten: bool = False
    """The driver does not count on it any more: what it still says is stale."""
    unreachable: bool = False
    """The cluster cannot reach it, and has told the driver so, which never calls it again."""
    hushed_at: float = 0.0
    """When it fell silent last."""
    sent_at: float = 0.0
    """When it sent its last report."""
    proven_at: float = 0.0
    """When it sent the last report of which it knows that it arrived."""
    watch_at: float = math.inf
    """When its hold is looked at next, at the latest."""
    exchanging: bool = False
    """It has reported, and was not called since."""
    delays: list[float] = field(default_factory=list)
    """Of its next messages, reports and calls in turn; inf: never."""
    parked: list[Message] = field(default_factory=list)
    """On their way, until it is heard again."""
    exchange_at: float = 0.0
    exchange_version: int = 0
    demand: float = 0.0
    """Bytes a second that it takes part with in the flow."""
    lanes: int = 0
    """Transfers that its tasks have in flight together."""
    free_places_least: int = 0
    """Fewest transfers that it had to spare at any time since its last report."""
    joined_at: float = 0.0
    idle_since: float | None = None

    @property
    def is_silent(self) -> bool:
        return self.asleep or self.unheard or not self.alive

    @property
    def wants(self) -> bool:
        """Whether it moves bytes, or would if it could."""
        return self.alive and not self.asleep and bool(self.tasks)

    def spread(self, transfers: int) -> None:
        """Share its transfers out evenly among its tasks, to each no more than it has work for."""
        left, waiting = float(transfers), len(self.tasks)
        for task in sorted(self.tasks.values(), key=lambda task: task.lanes_most):
            task.lanes = min(task.lanes_most, left / waiting)
            left, waiting = left - task.lanes, waiting - 1
        self.lanes = min(transfers, sum(task.lanes_most for task in self.tasks.values()))
        self.free_places_least = min(self.free_places_least, transfers - self.lanes)

    def take_free_places(self, transfers: int) -> int:
        """What it reports as `free_places`; the next report begins here."""
        free, self.free_places_least = self.free_places_least, transfers - self.lanes
        return free
