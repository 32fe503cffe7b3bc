"""Stores that exist in arithmetic only, and workers that send them requests, to try budgets on.

A store is a queue. Each partition works off one request after another; each request also takes its
own time, however empty the store is; capacity moves from second to second; above some rate the
answer is 503. Workers behave as Noria's do: a limit of requests in flight for each store, which
falls by itself on a throttle; a backoff before a retry; an object is read from one store, then
written to the other. They report each second, each at its own moment, and hear of a new share when
they next do. Time is simulated, and everything comes from one seed.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from noria.engine.concurrency.throughput import Window
from noria.manifests.model import MetricsSnapshot

REPORT_SECONDS = 1.0
DECIDE_SECONDS = 0.25
BACKOFF_SECONDS = 0.4


def steady(_now: float) -> float:
    return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreModel:
    """What a store can do, and how it takes more than that."""

    requests_per_second: float
    bytes_per_second: float = 1e12
    base_seconds: float
    """Latency of a small request while nothing waits."""
    stream_bytes_per_second: float = 1e12
    """What one request reaches for itself."""
    partitions: int = 1
    """Requests fall on one of so many queues at random: more of them make a softer knee."""
    throttle_per_second: float | None = None
    """Requests above this rate get a 503. None: all wait."""
    thrash: float = 0.0
    """Each request in flight makes all of them take this share longer."""
    noise: float = 0.2
    """Capacity is multiplied by it in each second, and latency for each request, by 1 +- this."""
    drift: Callable[[float], float] = steady
    """Capacity at a time, as a factor."""


class Store:
    def __init__(self, model: StoreModel, seed: int) -> None:
        self.model = model
        self.in_flight = 0
        self._random = random.Random(seed)
        self._free_at = [0.0] * model.partitions
        self._factors: list[float] = []
        self._tokens = self._tokens_at = 0.0

    def answer(self, now: float, size: int) -> tuple[float, bool]:
        """When a request is answered that is sent now, and whether with a throttle."""
        model = self.model
        capacity = self._capacity(now)
        latency = model.base_seconds * (1 + model.noise * self._random.uniform(-1, 1))
        if not self._admits(now, capacity):
            return now + latency / 2, True
        service = 1 / model.requests_per_second + size / model.bytes_per_second
        service *= (1 + model.thrash * self.in_flight) / capacity * model.partitions
        place = self._random.randrange(model.partitions)
        self._free_at[place] = max(now, self._free_at[place]) + service
        alone = now + latency + size / model.stream_bytes_per_second
        return max(alone, self._free_at[place]), False

    def _capacity(self, now: float) -> float:
        while len(self._factors) <= int(now):
            self._factors.append(1 + self.model.noise * self._random.uniform(-1, 1))
        return self._factors[int(now)] * self.model.drift(now)

    def _admits(self, now: float, capacity: float) -> bool:
        if self.model.throttle_per_second is None:
            return True
        rate = self.model.throttle_per_second * capacity
        self._tokens = min(rate / 4, self._tokens + (now - self._tokens_at) * rate)
        self._tokens_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(slots=True)
class StoreTotals:
    """What was done at one store since the start."""

    requests: int = 0
    bytes: int = 0
    request_seconds: float = 0.0
    in_flight_seconds: float = 0.0
    throttles: int = 0

    def window(self, now: float) -> Window:
        return Window(
            seconds=now,
            requests=self.requests,
            bytes=self.bytes,
            request_seconds=self.request_seconds,
            in_flight_seconds=self.in_flight_seconds,
            throttles=self.throttles,
        )


@dataclass(slots=True)
class SimulatedExecutor:
    """One worker's requests to one store."""

    limit: float = 1.0
    share: int = 1
    running: int = 0
    counted_at: float = 0.0
    fell_at: float = -1e9
    queue: deque[int] = field(default_factory=deque)
    totals: StoreTotals = field(default_factory=StoreTotals)

    def take_share(self, share: int) -> None:
        """More room opens at once: a limit that has fallen rises by itself only."""
        self.limit = max(1.0, min(share, self.limit + max(0, share - self.share)))
        self.share = share

    def on_success(self) -> None:
        self.limit = min(self.share, self.limit + 1 / max(1.0, self.limit))

    def on_throttle(self, now: float) -> None:
        if now - self.fell_at >= 1.0:
            self.limit, self.fell_at = max(1.0, 0.7 * self.limit), now

    def count(self, now: float, change: int = 0) -> None:
        """Requests in flight change."""
        self.totals.in_flight_seconds += self.running * (now - self.counted_at)
        self.counted_at = now
        self.running += change


@dataclass(slots=True)
class LoopWorker:
    """One worker of a ClosedLoop."""

    executors: dict[str, SimulatedExecutor]
    held: int = 0
    """Objects on their way."""
    done: int = 0
    told: dict[str, int] = field(default_factory=dict)
    """Shares that it hears of with its next exchange."""

    @property
    def room(self) -> int:
        return sum([executor.share for executor in self.executors.values()]) - self.held

    def metrics(self, now: float) -> MetricsSnapshot:
        counters: dict[tuple[str, ...], float] = {}
        gauges: dict[tuple[str, ...], float] = {}
        histograms: dict[tuple[str, ...], tuple[float, ...]] = {}
        for role, executor in self.executors.items():
            executor.count(now)
            totals = executor.totals
            counters[_BYTES[role],] = float(totals.bytes)
            counters["throttles", role] = float(totals.throttles)
            gauges["in_flight_seconds", role] = totals.in_flight_seconds
            histogram = (float(totals.requests), totals.request_seconds)
            histograms["request_seconds", role, "get"] = histogram
        return MetricsSnapshot(counters=counters, gauges=gauges, histograms=histograms)


_BYTES = {"source": "bytes_read", "target": "bytes_written"}


class Pilot(Protocol):
    """noria.engine.concurrency.budget.Budgets, or what is tried in its place."""

    def budget(self, role: str) -> int: ...
    def join(self, worker: str, now: float) -> None: ...
    def leave(self, worker: str) -> None: ...
    def hear(self, worker: str, now: float, metrics: MetricsSnapshot) -> None: ...
    def decide(self, now: float) -> dict[str, dict[str, int]]: ...


@dataclass(frozen=True, slots=True)
class Second:
    """One second as it was, by store."""

    now: float
    budgets: Mapping[str, int]
    windows: Mapping[str, Window]


class ClosedLoop:
    """Workers that each keep as many objects on their way as all their shares let in."""

    def __init__(
        self,
        models: Mapping[str, StoreModel],
        sizes: Callable[[], int | None],
        pilot: Pilot,
        *,
        workers: int,
        seed: int,
    ) -> None:
        """`models` are by role, in the order in which an object meets them.

        `sizes` returns the size of the next object, or None while there is no work.
        """
        self._roles = tuple(models)
        self._stores = {
            role: Store(model, 1000 * seed + place)
            for place, (role, model) in enumerate(models.items())
        }
        self._sizes = sizes
        self._pilot = pilot
        self._random = random.Random(seed)
        self._names = 0
        self.workers: dict[str, LoopWorker] = {}
        self.samples: list[Second] = []
        self._gone = {role: StoreTotals().window(0.0) for role in models}
        self._seen = dict(self._gone)
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = 0
        self.now = 0.0
        for _ in range(workers):
            self.join()
        self._at(0.0, self._decide)
        self._at(1.0, self._sample)

    def join(self) -> str:
        self._names += 1
        name = f"w{self._names}"
        executors = {role: SimulatedExecutor(counted_at=self.now) for role in self._roles}
        self.workers[name] = LoopWorker(executors)
        self._pilot.join(name, self.now)
        self._at(self.now + self._random.random() * REPORT_SECONDS, self._report, name)
        return name

    def leave(self, name: str) -> None:
        """A worker is gone, and what it had in flight with it."""
        worker = self.workers.pop(name)
        for role, executor in worker.executors.items():
            self._stores[role].in_flight -= executor.running
            executor.count(self.now, -executor.running)
            self._gone[role] += executor.totals.window(0.0)
        self._pilot.leave(name)

    def run(self, seconds: float) -> Sequence[Second]:
        """Go on for so long; returns the samples of this time."""
        first, end = len(self.samples), self.now + seconds
        while self._events[0][0] <= end:
            self.now, _, happens, about = heapq.heappop(self._events)
            happens(*about)
        self.now = end
        return self.samples[first:]

    # -- what the driver sees ----------------------------------------------------------------------

    def _decide(self) -> None:
        for name, told in self._pilot.decide(self.now).items():
            self.workers[name].told = told
        self._at(self.now + DECIDE_SECONDS, self._decide)

    def _report(self, name: str) -> None:
        worker = self.workers.get(name)
        if worker is None:
            return
        self._pilot.hear(name, self.now, worker.metrics(self.now))
        for role, share in worker.told.items():
            if role in worker.executors:
                worker.executors[role].take_share(share)
        worker.told = {}
        self._pump(name)
        self._at(self.now + REPORT_SECONDS, self._report, name)

    def _sample(self) -> None:
        totals = dict(self._gone)
        for worker in self.workers.values():
            for role, executor in worker.executors.items():
                executor.count(self.now)
                totals[role] += executor.totals.window(0.0)
        windows = {role: totals[role] - self._seen[role] for role in totals}
        self._seen = totals
        one = Window(seconds=1.0)
        budgets = {role: self._pilot.budget(role) for role in self._roles}
        windows = {role: window + one for role, window in windows.items()}
        self.samples.append(Second(self.now, budgets, windows))
        self._at(self.now + 1.0, self._sample)

    # -- what workers do ---------------------------------------------------------------------------

    def _pump(self, name: str) -> None:
        """Take on objects while there is room, and send what its store's limit lets through."""
        worker = self.workers[name]
        for _ in range(worker.room):
            size = self._sizes()
            if size is None:
                break
            worker.executors[self._roles[0]].queue.append(size)
            worker.held += 1
        for role, executor in worker.executors.items():
            while executor.queue and executor.running < max(1, int(executor.limit)):
                self._send(name, role, executor, executor.queue.popleft())

    def _send(self, name: str, role: str, executor: SimulatedExecutor, size: int) -> None:
        store = self._stores[role]
        executor.count(self.now, 1)
        store.in_flight += 1
        done, throttled = store.answer(self.now, size)
        self._at(done, self._answered, name, role, size, self.now, throttled)

    def _answered(self, name: str, role: str, size: int, started: float, throttled: bool) -> None:
        worker = self.workers.get(name)
        if worker is None:
            return
        executor = worker.executors[role]
        executor.count(self.now, -1)
        self._stores[role].in_flight -= 1
        if throttled:
            executor.totals.throttles += 1
            executor.on_throttle(self.now)
            backoff = self._random.random() * BACKOFF_SECONDS
            self._at(self.now + backoff, self._enqueue, name, role, size)
        else:
            executor.totals.requests += 1
            executor.totals.bytes += size
            executor.totals.request_seconds += self.now - started
            executor.on_success()
            self._pass_on(worker, role, size)
        self._pump(name)

    def _pass_on(self, worker: LoopWorker, role: str, size: int) -> None:
        if role == self._roles[-1]:
            worker.held -= 1
            worker.done += 1
        else:
            worker.executors[self._roles[self._roles.index(role) + 1]].queue.append(size)

    def _enqueue(self, name: str, role: str, size: int) -> None:
        if name in self.workers:
            self.workers[name].executors[role].queue.append(size)
            self._pump(name)

    def _at(self, when: float, happens: Callable[..., None], *about: object) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, happens, about))
