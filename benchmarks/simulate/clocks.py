"""Clocks of simulated hosts: each shows a time of its own, and runs at a rate of its own."""

from __future__ import annotations

import random
from collections.abc import Callable

LONGEST_UP_SECONDS = 1e6
"""Hosts have been up for so long at most: what one clock shows says nothing about another."""


class DriftingClock:
    """A monotonic clock in seconds. It goes on while the processes of its host stand still."""

    def __init__(self, now: Callable[[], float], *, rate: float = 1.0, ahead: float = 0.0) -> None:
        """`now` is the simulated time; `ahead` is what the clock shows at its beginning."""
        self._now = now
        self.rate = rate
        self._ahead = ahead

    @classmethod
    def drawn(cls, now: Callable[[], float], drift: float, chance: random.Random) -> DriftingClock:
        """Return one that runs at most `drift` too fast or too slow; 0: a perfect one."""
        if not drift:
            return cls(now)
        rate = chance.uniform(1 - drift, 1 + drift)
        return cls(now, rate=rate, ahead=chance.uniform(0.0, LONGEST_UP_SECONDS))

    def __call__(self) -> float:
        return self._ahead + self.rate * self._now()

    def lasts(self, seconds: float) -> float:
        """How long it takes until this clock has gone on by so many seconds."""
        return seconds / self.rate
