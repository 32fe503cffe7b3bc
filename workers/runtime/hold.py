"""How long a worker may go on without its driver.

A lease is worth something only as long as nobody else has it. The driver gives the leases of a
worker that is silent to others, so a worker that cannot be heard has to stop before that. It counts
from the moment at which it sent the last report of which it knows that it arrived. The driver heard
that one later, and waits for longer than the worker goes on. Only durations are compared, each by
one clock; no two clocks have to show the same time.

    worker    report sent ├────────── seconds ──────────┤ no request begins
                          ├───────────── 1.5 x seconds ────────────┤ the process ends
    driver        report heard ├──────────────── 2 x seconds ──────────────┤ given to others
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

SHARE_OF_TIMEOUT: Final = 0.5
"""Of the driver's patience with a silent worker: what is left covers requests in flight, clocks
that run apart, and how coarsely either side looks at them."""
END: Final = 1.5
"""The process ends after this many times the hold, if anything is still in flight."""


class Hold:
    """The right to begin requests, until it is not renewed in time. Thread-safe."""

    def __init__(
        self, seconds: float = math.inf, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`seconds` inf: for a process that answers to nobody."""
        self._seconds = seconds
        self._clock = clock
        self._proven = clock()
        self._sent = self._proven

    def note_sent(self) -> None:
        """A report is sent now; whether it arrives is not known yet."""
        self._sent = self._clock()

    def renew(self) -> None:
        """The driver was heard, which proves that the last report has arrived."""
        self._proven = self._sent

    @property
    def is_over(self) -> bool:
        """Return True if no request may begin."""
        return self._clock() - self._proven >= self._seconds

    @property
    def must_end(self) -> bool:
        """Return True if what is still in flight must be cut off."""
        return self._clock() - self._proven >= END * self._seconds
