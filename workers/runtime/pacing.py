"""Backoff, and the pacer that makes the requests to a store wait.

As long as the store refuses nothing, a pacer lets a number of requests run at a time, and that is
all. From the first 429 or 503 on, refusals.py says what was refused, the store or a prefix of its
keys, and how much of that may be in flight, until it has recovered.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final

from noria.workers.runtime.greenlets import PAUSE_SECONDS, Waiter, without_place
from noria.workers.runtime.refusals import RefusalMap, Scope

LINGER_SECONDS: Final = 1.0
"""The thread that ends timed waits ends itself if there were none for so long."""
TICK_SECONDS: Final = 0.001
"""Waits that end within the same tick are ended together."""


def backoff_seconds(
    tries: int,
    *,
    base_seconds: float,
    cap_seconds: float,
    jitter: float,
    floor_seconds: float = 0.0,
) -> float:
    """Return the pause after `tries` failed tries (from 1), with full jitter.

    It is the share `jitter` (0 to 1) of the base, which doubles with each try up to the cap. It is
    never below the floor, which a Retry-After sets.
    """
    return max(floor_seconds, jitter * min(cap_seconds, base_seconds * 2.0 ** (tries - 1)))


@dataclass(slots=True, eq=False)
class _Wait:
    """A request that waits for its turn in one scope."""

    stopping: threading.Event | None
    waiter: Waiter = field(default_factory=Waiter)
    stopped: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """The room of one request that runs."""

    key: str
    started: float
    scopes: tuple[Scope[_Wait], ...] = ()
    """The prefixes with a limit in which it counts, beside the store."""
    accepted_at: float = math.inf
    """When the narrowest of its scopes last took a request; infinite if none has a limit."""


class Pacer:
    """Lets at most `limit` requests to one store run at a time, in the order they came.

    What waits for a prefix that is refused leaves the way, and its place, to other work; what waits
    for the store as a whole keeps its place. One Pacer serves all threads and fibers of a process.
    """

    def __init__(
        self,
        requests: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self._store: Scope[_Wait] = Scope(ceiling=float(requests))
        self._only_store = (self._store,)
        self._refusals: RefusalMap[_Wait] | None = None
        self._clock = clock
        self._random = random.Random(seed)
        self._running_since = clock()
        self._in_flight_seconds = 0.0
        self._lock = threading.Lock()
        self._waits_changed = threading.Condition(self._lock)
        self._keeps_time = False

    @property
    def limit(self) -> float:
        """How many requests to the store as a whole may run at a time, now."""
        with self._lock:
            return self._store.limit(self._clock())

    @property
    def in_flight_seconds(self) -> float:
        """Seconds that all requests have been in flight so far, summed, including running ones."""
        with self._lock:
            self._count_in_flight()
            return self._in_flight_seconds

    def set_ceiling(self, requests: int) -> None:
        """Set the most requests at a time; while the store refuses, it may be fewer."""
        with self._lock:
            self._store.ceiling = float(requests)
            self._admit(self._store, self._clock())

    def acquire(self, key: str = "", stopping: threading.Event | None = None) -> Slot | None:
        """Wait for a slot for one request about this key; release() frees it.

        Returns None if `stopping` was set while it waited and the store refuses requests.
        """
        store = self._store
        with self._lock:
            if self._refusals is None and not store.queue and store.running < store.ceiling:
                now = self._count_in_flight()
                store.start(now)
                return Slot(key, now)
        return self._acquire_in_turn(key, stopping)

    def release(self, slot: Slot, *, succeeded: bool) -> None:
        """Free the slot of a request that has ended."""
        with self._lock:
            now = self._count_in_flight()
            self._leave(slot.scopes + self._only_store, now, slot.started, accepted=succeeded)
            if self._refusals is not None:
                if succeeded:
                    self._refusals.count(slot.key, now, refused=False)
                if self._refusals.forget_recovered(now):
                    self._refusals = None

    def on_throttle(self, slot: Slot, asked_seconds: float = 0.0) -> bool:
        """Lower the limit of what was refused; `slot` has been released.

        Nothing is sent there for `asked_seconds`. Returns True if that says nothing about the rest
        of the store, so that other work should go on meanwhile.
        """
        with self._lock:
            now = self._clock()
            if self._refusals is None:
                self._refusals = RefusalMap(self._store, now)
            scope, known = self._refusals.refuse(slot.key, now, slot.started, asked_seconds)
            self._keep_time()
            return scope is not self._store or not known

    def backoff(
        self, tries: int, *, base_seconds: float, cap_seconds: float, floor_seconds: float = 0.0
    ) -> float:
        """Return the seconds to wait after `tries` failed tries."""
        return backoff_seconds(
            tries,
            base_seconds=base_seconds,
            cap_seconds=cap_seconds,
            jitter=self._random.random(),
            floor_seconds=floor_seconds,
        )

    # -- turns -------------------------------------------------------------------------------------

    def _acquire_in_turn(self, key: str, stopping: threading.Event | None) -> Slot | None:
        """Pass the scopes of the key, the narrowest first and the store last."""
        held: list[Scope[_Wait]] = []
        while True:
            wait = None
            with self._lock:
                now = self._count_in_flight()
                scope = self._next_scope(key, held, now)
                if scope is None:
                    return self._slot(key, now, held)
                if scope.queue or scope.wait_seconds(now) > 0.0:
                    wait = _Wait(stopping)
                    scope.queue.append(wait)
                    self._keep_time()
                else:
                    scope.start(now)
            if wait is not None:
                with nullcontext() if scope is self._store else without_place():
                    wait.waiter.wait()
                if wait.stopped:
                    with self._lock:
                        self._leave(held, self._clock(), math.inf, accepted=False)
                    return None
            held.append(scope)

    def _next_scope(self, key: str, held: list[Scope[_Wait]], now: float) -> Scope[_Wait] | None:
        """Return the next scope to pass; None if all are held.

        If a narrower one got a limit meanwhile, the store's turn is given back: nobody keeps the
        store waiting for a prefix.
        """
        scopes = [self._store] if self._refusals is None else self._refusals.scopes(key)
        missing = next((scope for scope in scopes if scope not in held), None)
        if missing is not None and self._store in held:
            held.remove(self._store)
            self._leave([self._store], now, math.inf, accepted=False)
        return missing

    def _slot(self, key: str, now: float, held: list[Scope[_Wait]]) -> Slot:
        throttle = held[0].throttle
        accepted_at = math.inf if throttle is None else throttle.accepted_at
        return Slot(key, now, tuple(held[:-1]), accepted_at)

    def _leave(
        self, scopes: Iterable[Scope[_Wait]], now: float, started: float, *, accepted: bool
    ) -> None:
        for scope in scopes:
            scope.end(now, started, accepted=accepted)
            if scope.queue:
                self._admit(scope, now)

    def _admit(self, scope: Scope[_Wait], now: float) -> float:
        """Let in who may start, in order; return the seconds to the next, infinite if unknown."""
        while scope.queue:
            seconds = scope.wait_seconds(now)
            if seconds > 0.0:
                return seconds
            self._count_in_flight()
            scope.start(now)
            scope.queue.popleft().waiter.wake()
        return math.inf

    def _count_in_flight(self) -> float:
        """Count the time since the last call, before the number that runs changes; return now."""
        now = self._clock()
        self._in_flight_seconds += self._store.running * (now - self._running_since)
        self._running_since = now
        return now

    # -- time --------------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        """See to it that waits end in time, now that something is refused."""
        if self._refusals is None or not any(scope.queue for scope in self._scopes()):
            return
        if self._keeps_time:
            self._waits_changed.notify()
            return
        self._keeps_time = True
        threading.Thread(target=self._end_waits, name="pacer", daemon=True).start()

    def _end_waits(self) -> None:
        """End the waits whose time has come, until there have been none for LINGER_SECONDS."""
        with self._waits_changed:
            now = busy_at = self._clock()
            while now < busy_at + LINGER_SECONDS:
                if self._refusals is not None and self._refusals.forget_recovered(now):
                    self._refusals = None
                seconds = min(self._serve(scope, now) for scope in self._scopes())
                if self._refusals is not None and any(scope.queue for scope in self._scopes()):
                    busy_at = now
                self._waits_changed.wait(max(TICK_SECONDS, min(seconds, PAUSE_SECONDS)))
                now = self._clock()
            self._keeps_time = False

    def _serve(self, scope: Scope[_Wait], now: float) -> float:
        """End the waits of those that stop, then admit; return the seconds to the next."""
        stopped = [wait for wait in scope.queue if wait.stopping and wait.stopping.is_set()]
        for wait in stopped:
            wait.stopped = True
            wait.waiter.wake()
        if stopped:
            left = [wait for wait in scope.queue if not wait.stopped]
            scope.queue.clear()
            scope.queue.extend(left)
        return self._admit(scope, now)

    def _scopes(self) -> list[Scope[_Wait]]:
        return [self._store] if self._refusals is None else [*self._refusals.limited, self._store]
