"""Workers before stores that refuse above a ceiling, simulated event by event.

Each worker has its own Scope and RefusalMap, as a Pacer has, and no worker knows of another. Time
is that of the events. A request takes a latency that varies by a fifth; a store decides halfway.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from noria.workers.runtime.refusals import RefusalMap, Scope

BACKOFF_SECONDS = 0.5
BACKOFF_CAP_SECONDS = 60.0
WINDOW_WIDTH = 2


@dataclass
class SimulatedCeiling:
    """A token bucket: so many requests a second, and those of `burst_seconds` at once."""

    requests: float
    burst_seconds: float = 1.0
    below: str = ""
    """Only keys below this prefix count, and are refused."""
    _tokens: float = field(init=False)
    _at: float = 0.0

    def __post_init__(self) -> None:
        self._tokens = self._room

    @property
    def _room(self) -> float:
        return max(1.0, self.requests * self.burst_seconds)

    def takes(self, now: float) -> bool:
        self._tokens = min(self._room, self._tokens + (now - self._at) * self.requests)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@dataclass
class Tally:
    accepted: int = 0
    refused: int = 0

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.accepted + self.refused)


@dataclass
class RefusingWorld:
    """What is simulated."""

    latency_seconds: float
    workers: int = 1
    places: int = 64
    """Requests in flight of each worker, if nothing is refused."""
    ceilings: Sequence[SimulatedCeiling] = ()
    retry_after_seconds: float = 0.0
    folders: Sequence[str] = ("data/",)
    """Each worker has a lease on each, and takes turns."""
    refused_anyway: float = 0.0
    """The share of requests that are refused whatever the rate is."""
    seed: int = 1


@dataclass(eq=False)
class _Work:
    lease: _Lease
    key: str
    place: bool = True
    held: list[Scope[_Work]] = field(default_factory=list)
    tries: int = 0
    started: float = 0.0


@dataclass(eq=False)
class _Lease:
    folder: str
    under_way: int = 0
    keys: itertools.count[int] = field(default_factory=itertools.count)


class _Worker:
    """One worker: its places, its leases, and what its pacer does."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.store: Scope[_Work] = Scope(ceiling=float(run.world.places))
        self.refusals: RefusalMap[_Work] | None = None
        self.free = run.world.places
        self.leases = [_Lease(folder) for folder in run.world.folders]
        self.turns = itertools.cycle(self.leases)
        self.ticking_at = math.inf

    def begin(self) -> None:
        """Begin work while there are places and windows."""
        window = WINDOW_WIDTH * self.run.world.places
        while self.free > 0:
            lease = next(
                (lease for lease in itertools.islice(self.turns, len(self.leases))
                 if lease.under_way < window), None
            )  # fmt: skip
            if lease is None:
                return
            lease.under_way += 1
            self.free -= 1
            self.acquire(_Work(lease, f"{lease.folder}{next(lease.keys) % 997}"))

    def acquire(self, work: _Work) -> None:
        now = self.run.now
        while True:
            scopes = [self.store] if self.refusals is None else self.refusals.scopes(work.key)
            scope = next((scope for scope in scopes if scope not in work.held), None)
            if scope is None:
                self._send(work)
                return
            if self.store in work.held:
                work.held.remove(self.store)
                self._leave([self.store], math.inf, accepted=False)
            if scope.queue or scope.wait_seconds(now) > 0.0:
                scope.queue.append(work)
                self._set_place(work, scope is self.store)
                self._tick_in(scope.wait_seconds(now))
                return
            scope.start(now)
            work.held.append(scope)

    def _set_place(self, work: _Work, place: bool) -> None:
        if work.place != place:
            work.place = place
            self.free += -1 if place else 1
            if not place:
                self.run.after(0.0, self.begin)

    def _send(self, work: _Work) -> None:
        run = self.run
        self._set_place(work, True)
        work.started = run.now
        seconds = run.world.latency_seconds * run.random.uniform(0.8, 1.2)
        run.after(seconds / 2.0, lambda: self._arrived(work, seconds))

    def _arrived(self, work: _Work, seconds: float) -> None:
        accepted = self.run.takes(work.key)
        self.run.after(seconds / 2.0, lambda: self._answered(work, accepted))

    def _answered(self, work: _Work, accepted: bool) -> None:
        run, held = self.run, work.held
        work.held = []
        self._leave(held, work.started, accepted=accepted)
        if accepted:
            if self.refusals is not None:
                self.refusals.count(work.key, run.now, refused=False)
            work.lease.under_way -= 1
            self.free += 1
            self.begin()
        else:
            self._refused(work)
        if self.refusals is not None and self.refusals.forget_recovered(run.now):
            self.refusals = None
            self._admit(self.store)

    def _refused(self, work: _Work) -> None:
        run = self.run
        if self.refusals is None:
            self.refusals = RefusalMap(self.store, run.now)
        asked = run.world.retry_after_seconds
        scope, known = self.refusals.refuse(work.key, run.now, work.started, asked)
        self._set_place(work, scope is self.store and known)
        work.tries += 1
        backoff = min(BACKOFF_CAP_SECONDS, BACKOFF_SECONDS * 2.0 ** (work.tries - 1))
        run.after(max(asked, run.random.random() * backoff), lambda: self.acquire(work))
        self._tick_in(0.0)

    def _leave(self, scopes: Sequence[Scope[_Work]], started: float, *, accepted: bool) -> None:
        for scope in scopes:
            scope.end(self.run.now, started, accepted=accepted)
            self._admit(scope)

    def _admit(self, scope: Scope[_Work]) -> None:
        now = self.run.now
        while scope.queue:
            seconds = scope.wait_seconds(now)
            if seconds > 0.0:
                self._tick_in(seconds)
                return
            scope.start(now)
            work = scope.queue.popleft()
            work.held.append(scope)
            self.run.after(0.0, partial(self.acquire, work))

    def _tick_in(self, seconds: float) -> None:
        due = self.run.now + max(0.001, seconds)
        if due < self.ticking_at:
            self.ticking_at = due
            self.run.after(due - self.run.now, lambda: self._tick(due))

    def _tick(self, due: float) -> None:
        if due != self.ticking_at:
            return  # An earlier one was set meanwhile.
        self.ticking_at = math.inf
        scopes = [] if self.refusals is None else self.refusals.limited
        for scope in (*scopes, self.store):
            self._admit(scope)


class Run:
    """One run of a world; `tallies` counts by the folder of the key, from `counted_from` on."""

    def __init__(self, world: RefusingWorld, *, counted_from: float = 60.0) -> None:
        self.world = world
        self.now = 0.0
        self.random = random.Random(world.seed)
        self.counted_from = counted_from
        self.tallies = {folder: Tally() for folder in world.folders}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self.workers = [_Worker(self) for _ in range(world.workers)]

    @property
    def total(self) -> Tally:
        tallies = self.tallies.values()
        return Tally(sum(t.accepted for t in tallies), sum(t.refused for t in tallies))

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        if seconds == math.inf:
            return
        heapq.heappush(self._events, (self.now + seconds, next(self._serial), event))

    def until(self, seconds: float) -> Run:
        if self.now == 0.0:
            for worker in self.workers:
                self.after(self.random.random() * self.world.latency_seconds, worker.begin)
        while self._events and self._events[0][0] < seconds:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = seconds
        return self

    def takes(self, key: str) -> bool:
        """Ask the store, and count what it says."""
        concerned = [one for one in self.world.ceilings if key.startswith(one.below)]
        accepted = all(one.takes(self.now) for one in concerned) and not (
            self.random.random() < self.world.refused_anyway
        )
        if self.now >= self.counted_from:
            tally = self.tallies[key[: key.rindex("/") + 1]]
            tally.accepted += accepted
            tally.refused += not accepted
        return accepted
