"""How much work may run in a process at a time, and how much does."""

from __future__ import annotations

import time
from collections.abc import Callable


class Places:
    """Counts the pieces of work that run, against a limit that may change at any time.

    Work that waits for something scarcer than a place may step out meanwhile, so that other work
    has its place; it never waits to step back in, so a few more than `limit` may run for a moment.

    One thread at a time may change it; any thread may read.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.ended = 0
        """Pieces of work that have ended so far."""
        self._clock = clock
        self._usage = (0, clock(), 0.0)
        """How many run, since when, and the seconds they had run before, summed."""

    @property
    def running(self) -> int:
        return self._usage[0]

    @property
    def free(self) -> int:
        return max(0, self.limit - self.running)

    @property
    def seconds(self) -> float:
        """Seconds that all work has run so far, summed, including what runs now."""
        running, since, seconds = self._usage
        return seconds + running * (self._clock() - since)

    def enter(self) -> None:
        self._add(1)

    def leave(self) -> None:
        self._add(-1)
        self.ended += 1

    def step_out(self) -> None:
        self._add(-1)

    def step_in(self) -> None:
        self._add(1)

    def _add(self, more: int) -> None:
        now = self._clock()
        running, since, seconds = self._usage
        self._usage = (running + more, now, seconds + running * (now - since))
