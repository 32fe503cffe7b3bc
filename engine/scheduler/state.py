"""What the scheduler keeps its books of: shards, spans, workers, live leases, and the backlog."""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from noria.manifests.model import Lease, LeaseKind, LeaseProgress, ShardPlan

GAIN_PARTS = 8
"""An attempt has gained if it did one of so many parts of what was left to do.

Of a span of 100,000 units not more than 8 * ln(100,000) = 92 attempts can.
"""


FED = 2
"""Turn of a worker that has a slot free, and enough to do: see Waiting."""


class SpanState(StrEnum):
    """The diagram is in Scheduler."""

    PENDING = "pending"
    LEASED = "leased"
    SETTLED = "settled"
    QUARANTINED = "quarantined"


STEPS: frozenset[tuple[SpanState | None, SpanState | None]] = frozenset(
    {
        (None, SpanState.PENDING),
        (None, SpanState.SETTLED),
        (None, SpanState.QUARANTINED),
        (SpanState.PENDING, SpanState.LEASED),
        (SpanState.PENDING, None),
        (SpanState.LEASED, SpanState.PENDING),
        (SpanState.LEASED, SpanState.SETTLED),
        (SpanState.LEASED, SpanState.QUARANTINED),
        (SpanState.LEASED, None),
        (SpanState.SETTLED, None),
    }
)
"""The arrows of the diagram; None is a span that is not opened yet, or is void."""


@dataclass(slots=True, eq=False)
class Shard:
    plan: ShardPlan
    generation: int
    units_left: int
    """Units that are not settled."""
    uploads_lost: int = 0
    spans: list[Span] = field(default_factory=list)
    """They cover each unit once. The completion of a PARTS shard joins them once it is due."""


@dataclass(slots=True, eq=False)
class Span:
    """Units [first, end) of a shard, or its completion: a span of kind ASSEMBLE, without units."""

    shard: Shard
    kind: LeaseKind
    first: int
    end: int
    failures: int = 0
    """Of this span and of those that it was cut from."""
    failed_on: frozenset[str] = frozenset()
    """Hosts on which it has failed, it or those that it was cut from."""
    units_best: int = 0
    """The most of its units that any attempt is known to have done, journalled ones included."""
    state: SpanState | None = None
    live_lease: LiveLease | None = None
    """Set while the span is leased."""

    @property
    def units(self) -> int:
        return self.end - self.first

    @property
    def rank(self) -> tuple[bool, int, int, int]:
        """Who goes first: what completes an object, then the most bytes; ties by place."""
        share, plan = self.bytes_of(self.units), self.shard.plan
        return self.kind is not LeaseKind.ASSEMBLE, -share, plan.shard, self.first

    def bytes_of(self, units: int) -> int:
        """So many units of its shard, each taken to be as large as the others."""
        return self.shard.plan.bytes * units // max(1, self.shard.plan.units)


@dataclass(slots=True, eq=False)
class WorkerState:
    name: str
    host: str
    slots: int
    window: int
    """The most leases that it may hold now: its slots, and more while they leave it hungry."""
    heard_at: float
    hungry_at: float
    """When it was last hungry, or last gave up one lease of its window."""
    is_hungry: bool = False
    """As of its last report, unless it was given a lease since."""
    leaving: bool = False
    """Draining or lost."""
    live_leases: dict[int, LiveLease] = field(default_factory=dict)
    """Its live leases, by attempt."""
    fenced: dict[int, float] = field(default_factory=dict)
    """Attempts that it may still work on though they do not count any more, and since when."""
    failed_shards: set[int] = field(default_factory=set)
    """Since its last success."""

    @property
    def room(self) -> int:
        """Revoked work keeps its place until the worker is seen to have let go of its memory."""
        return 0 if self.leaving else self.window - self._held

    @property
    def turn(self) -> int:
        """Its place among those with room, as the names of Waiting.TURNS say."""
        if not self._held:
            return 0
        if self._held >= self.slots:
            return 3
        return 1 if self.is_hungry else FED

    @property
    def splits_wanted(self) -> int:
        """How many leases it needs at once if nothing is ready: what others hold is split."""
        return max(0, self.room) if self.is_hungry or not self._held else 0

    @property
    def _held(self) -> int:
        return len(self.live_leases) + len(self.fenced)

    def grow_hungry(self, free_places: int, now: float, *, leases_max: int) -> None:
        """It could have done more: it may hold a lease more for each place, fourfold at most."""
        held = len(self.live_leases)
        self.window = max(self.window, min(4 * held, held + free_places, leases_max))
        self.is_hungry, self.hungry_at = True, now

    def be_fed(self, now: float, *, hunger_seconds: float) -> None:
        """It had enough. After a while it may hold one lease less, down to its slots."""
        self.is_hungry = False
        if self.window > self.slots and now - self.hungry_at >= hunger_seconds:
            self.window -= 1
            self.hungry_at = now


class Waiting:
    """Workers that may be given a lease: by turn, and of one turn who waits longest first."""

    TURNS = ("holds nothing", "below its slots and hungry", "below its slots", "hungry")

    def __init__(self) -> None:
        self._turns: tuple[OrderedDict[str, WorkerState], ...] = tuple(
            OrderedDict() for _ in self.TURNS
        )

    def __iter__(self) -> Iterator[WorkerState]:
        return itertools.chain.from_iterable(turn.values() for turn in self._turns)

    def note(self, worker: WorkerState) -> None:
        """Keep the order true after any change of what a worker holds or may hold."""
        mine = worker.turn if worker.room > 0 else None
        for number, turn in enumerate(self._turns):
            if number == mine:
                turn.setdefault(worker.name, worker)
            else:
                turn.pop(worker.name, None)

    def take(self, *, scarce: bool, elsewhere: frozenset[str] = frozenset()) -> WorkerState | None:
        """Remove the worker whose turn it is, and return it; None if nobody waits.

        While work is scarce, those that have enough of it for now are passed over: another worker
        may be without sooner. Those on the hosts `elsewhere` names are passed over too.
        """
        for number, turn in enumerate(self._turns):
            if scarce and number == FED:
                continue
            for worker in turn.values():
                if worker.host not in elsewhere:
                    del turn[worker.name]
                    return worker
        return None


@dataclass(slots=True, eq=False)
class LiveLease:
    """A live lease: who has which span, and how fast it goes."""

    span: Span
    worker: WorkerState
    attempt: int
    is_last: bool
    """See Lease."""
    moved_at: float
    """When progress was last seen."""
    base_at: float
    base_units: int = 0
    """What the first report found done: an earlier attempt's work, no sign of this one's pace."""
    reported: bool = False
    units_done: int = 0
    bytes_done: int = 0
    unseen: int = 0
    """Reports of its worker in a row that do not name it."""
    split_at: float | None = None
    """When the outstanding Split was asked for."""

    @property
    def lease(self) -> Lease:
        span = self.span
        return Lease(
            shard=span.shard.plan.shard,
            kind=span.kind,
            first=span.first,
            end=span.end,
            attempt=self.attempt,
            generation=span.shard.generation,
            is_last=self.is_last,
        )

    @property
    def gained(self) -> bool:
        """True if this attempt did at least 1/GAIN_PARTS of what earlier attempts left to do.

        A span that kills its workers stops gaining, and is quarantined; one whose workers die for
        other reasons keeps shrinking.
        """
        best = self.span.units_best
        gain = min(self.units_done, self.span.units) - best
        return gain > 0 and gain * GAIN_PARTS >= self.span.units - best

    @property
    def units_left(self) -> int:
        return max(0, self.span.units - self.units_done)

    def observe(self, progress: LeaseProgress, now: float) -> None:
        if progress.units_done > self.units_done or progress.bytes_done > self.bytes_done:
            self.moved_at = now
        self.units_done = progress.units_done
        self.bytes_done = progress.bytes_done
        self.unseen = 0
        if not self.reported:
            self.reported, self.base_at, self.base_units = True, now, progress.units_done

    def is_paced(self, now: float, patience_seconds: float) -> bool:
        """Whether its pace may be judged: a unit has been seen to end, or to take too long."""
        return self.units_done > self.base_units or now - self.base_at >= patience_seconds

    def seconds_left(self, now: float) -> float:
        """At its own pace. A lease that has finished no unit yet is taken to be about to."""
        seconds_for_each = (now - self.base_at) / max(1, self.units_done - self.base_units)
        return self.units_left * seconds_for_each


class Backlog:
    """Pending spans: the ready ones by rank, and those that rest before their next attempt.

    A span that is void or taken stays in the heaps until it comes up, and is passed over then.
    """

    def __init__(self) -> None:
        self._ready: list[tuple[tuple[bool, int, int, int], int, Span]] = []
        self._resting: list[tuple[float, int, Span]] = []
        self._serial = itertools.count()

    def push(self, span: Span) -> None:
        heapq.heappush(self._ready, (span.rank, next(self._serial), span))

    def push_after(self, span: Span, due: float) -> None:
        heapq.heappush(self._resting, (due, next(self._serial), span))

    def wake(self, now: float) -> None:
        """Spans that have rested long enough are ready."""
        while self._resting and self._resting[0][0] <= now:
            self.push(heapq.heappop(self._resting)[-1])

    def peek(self) -> Span | None:
        """The span that goes next."""
        while self._ready and self._ready[0][-1].state is not SpanState.PENDING:
            heapq.heappop(self._ready)
        return self._ready[0][-1] if self._ready else None

    def pop(self) -> Span:
        return heapq.heappop(self._ready)[-1]
