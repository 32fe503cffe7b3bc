"""Backoff and concurrency: pure calculators, and the pacer that makes requests wait.

Concurrency follows AIMD, as TCP does. The limit grows by one for each round of requests without a
throttle. It falls to a fraction at once if the store answers 429 or 503. It does not fall a second
time within `quiet_seconds`, because requests sent before the first fall are still being answered.
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
    """Return the pause after `tries` failed tries (from 1), with full jitter.

    It is the share `jitter` (0 to 1) of the base, which doubles with each try up to the cap. It is
    never below the floor, which a Retry-After sets.
    """
    return max(floor_seconds, jitter * min(cap_seconds, base_seconds * 2.0 ** (tries - 1)))


@dataclass(slots=True)
class AdaptiveLimit:
    """AIMD over the number of requests in flight. Pure: callers pass the time, in seconds."""

    limit: float
    floor: float = 1.0
    ceiling: float = 256.0
    fall: float = 0.7
    quiet_seconds: float = 1.0
    """The shortest time between two falls."""
    _last_fall: float = float("-inf")

    def on_success(self) -> None:
        self.limit = min(self.ceiling, self.limit + 1.0 / max(1.0, self.limit))

    def set_ceiling(self, ceiling: float) -> None:
        """Set the ceiling. A limit at the old ceiling moves to the new one; a lower one stays."""
        if self.limit >= self.ceiling or self.limit > ceiling:
            self.limit = ceiling
        self.ceiling = ceiling

    def on_throttle(self, now: float) -> None:
        if now - self._last_fall >= self.quiet_seconds:
            self.limit = max(self.floor, self.limit * self.fall)
            self._last_fall = now


class Pacer:
    """Lets at most `limit` requests to one store run at a time, in the order they came.

    One Pacer serves all threads and fibers of a process.
    """

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
        """Seconds that all requests have been in flight so far, summed, including running ones."""
        with self._lock:
            self._count_running(0)
            return self._in_flight_seconds

    def set_ceiling(self, requests: int) -> None:
        """Set the ceiling of the limit; throttles may push the limit below it."""
        with self._lock:
            self._adaptive.set_ceiling(float(requests))
            self._admit()

    def acquire(self) -> None:
        """Wait for a slot for one request; release() frees it."""
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
        """Free the slot of a request that has ended. Successes raise the limit slowly."""
        with self._lock:
            self._count_running(-1)
            if succeeded:
                self._adaptive.on_success()
            self._admit()

    def on_throttle(self) -> None:
        with self._lock:
            self._adaptive.on_throttle(self._clock())

    def _admit(self) -> None:
        """Give free slots to the waiting requests, in order."""
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
        """Return the seconds to wait after `tries` failed tries."""
        return backoff_seconds(
            tries,
            base_seconds=base_seconds,
            cap_seconds=cap_seconds,
            jitter=self._random.random(),
            floor_seconds=floor_seconds,
        )
