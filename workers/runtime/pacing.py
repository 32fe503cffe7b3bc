"""How fast to go: pure calculators for backoff and concurrency, and the pacer that makes threads
wait.

Concurrency follows AIMD, as TCP does: up by one for each round of requests without a throttle, down
to a fraction at once when the store says 429 or 503, and no second time within one latency of the
last fall, since answers to requests sent before it still come in.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from noria.workers.runtime.greenlets import Waiter


def backoff_seconds(
    tries: int,
    *,
    base_seconds: float,
    cap_seconds: float,
    jitter: float,
    floor_seconds: float = 0.0,
) -> float:
    """Full jitter: a share `jitter` (0 to 1) of the doubled base, capped; never below the floor
    that a Retry-After asks for. `tries` is how many tries have failed, from 1."""
    return max(floor_seconds, jitter * min(cap_seconds, base_seconds * 2.0 ** (tries - 1)))


@dataclass(slots=True)
class AdaptiveLimit:
    """AIMD over the number of requests in flight. Pure: time comes in with each call, in
    seconds."""

    limit: float
    floor: float = 1.0
    ceiling: float = 256.0
    fall: float = 0.7
    quiet_seconds: float = 1.0
    """A second fall waits this long after the first."""
    _last_fall: float = float("-inf")

    def on_success(self) -> None:
        self.limit = min(self.ceiling, self.limit + 1.0 / max(1.0, self.limit))

    def set_ceiling(self, ceiling: float) -> None:
        """A limit that stands at its ceiling goes along with it; one that has fallen climbs."""
        if self.limit >= self.ceiling or self.limit > ceiling:
            self.limit = ceiling
        self.ceiling = ceiling

    def on_throttle(self, now: float) -> None:
        if now - self._last_fall >= self.quiet_seconds:
            self.limit = max(self.floor, self.limit * self.fall)
            self._last_fall = now


class Pacer:
    """Lets at most `limit` requests to one store run at a time in this process, in the order they
    came."""

    def __init__(
        self,
        requests: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self._adaptive = AdaptiveLimit(limit=float(requests), ceiling=float(requests))
        self._clock = clock
        self._random = random.Random(seed)
        self._running = 0
        self._running_since = clock()
        self._in_flight_seconds = 0.0
        self._queue: deque[Waiter] = deque()
        self._lock = threading.Lock()

    @property
    def limit(self) -> float:
        return self._adaptive.limit

    @property
    def in_flight_seconds(self) -> float:
        """Seconds that all requests together have been in flight so far, unfinished ones
        included."""
        with self._lock:
            self._count_running(0)
            return self._in_flight_seconds

    def set_ceiling(self, requests: int) -> None:
        """The limit from now on, below which throttles may push it."""
        with self._lock:
            self._adaptive.set_ceiling(float(requests))
            self._admit()

    def acquire(self) -> None:
        """Wait for room for one request; release() gives it back."""
        waiter = None
        with self._lock:
            if self._queue or self._running >= int(self._adaptive.limit):
                waiter = Waiter()
                self._queue.append(waiter)
            else:
                self._count_running(1)
        if waiter is not None:
            waiter.wait()

    def release(self, *, succeeded: bool) -> None:
        """The request has ended. A success lets one more in, sooner or later."""
        with self._lock:
            self._count_running(-1)
            if succeeded:
                self._adaptive.on_success()
            self._admit()

    def on_throttle(self) -> None:
        with self._lock:
            self._adaptive.on_throttle(self._clock())

    def _admit(self) -> None:
        """Whoever's turn it is gets the room that was left to it."""
        while self._queue and self._running < int(self._adaptive.limit):
            self._count_running(1)
            self._queue.popleft().wake()

    def _count_running(self, more: int) -> None:
        now = self._clock()
        self._in_flight_seconds += self._running * (now - self._running_since)
        self._running_since = now
        self._running += more

    def backoff(
        self, tries: int, *, base_seconds: float, cap_seconds: float, floor_seconds: float = 0.0
    ) -> float:
        """Seconds to wait after `tries` failed tries."""
        return backoff_seconds(
            tries,
            base_seconds=base_seconds,
            cap_seconds=cap_seconds,
            jitter=self._random.random(),
            floor_seconds=floor_seconds,
        )
