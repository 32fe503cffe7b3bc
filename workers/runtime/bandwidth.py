"""The share of a job's bandwidth that one process may use, and the wait of those who want bytes.

Bytes of objects count once, as they are read: from the source while a job moves, from the target
when it is read back. Those who read ask for bytes and wait until their turn has come, in the order
in which they asked; who leaves the line gives its bytes to those behind it. So nothing is lent:
over any time, what was allowed is at most the share of that time and what the two bounds below add.

Requests a second are shared in the same way, with a request for a byte.

The share comes from the driver, which splits what the job may use (engine/concurrency/bandwidth.py)
and counts on that a worker that it cannot hear stops by itself: nothing is allowed once the hold is
over (hold.py).
"""

from __future__ import annotations

import bisect
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from noria.manifests.model import BandwidthUse
from noria.workers.runtime.greenlets import pause
from noria.workers.runtime.hold import Hold

BURST_SECONDS: Final = 0.2
"""What was not used for so long may be used later: wake-ups come late on a busy machine."""
LATE_SECONDS: Final = 0.4
"""What could have been used for longer while the whole process stood still is lost."""
LOOK_SECONDS: Final = 0.25
"""Those who wait look again after this at the latest: the share may be another one."""
PIECE_BYTES: Final = 512 * 1024
"""Smaller bodies are paid for before they are asked for, larger ones piece by piece."""


class TokenBucket:
    """Bytes that may be used, in the order in which they were asked for. Time comes in with calls.

    Asking gives a place in the line; it is reached once everything up to it is allowed.
    """

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        """Bytes a second. inf: no limit."""
        self.asked = 0.0
        """Bytes that were asked for so far."""
        self._allowed = 0.0
        self._left: list[tuple[float, int]] = []
        """Of those who left the line before their turn: where their bytes begin, and how many."""
        self._at = now

    def ask(self, size: int, now: float) -> float:
        """Return the place in the line of these bytes."""
        self._grow(now)
        self.asked += size
        return self.asked

    def wait_seconds(self, place: float, now: float) -> float:
        """How long until a place is reached at this rate; 0 if it is, inf if it never is."""
        self._grow(now)
        missing = place - self._allowed
        if missing <= 0:
            return 0.0
        missing -= sum(size for begins, size in self._left if begins < place)
        return missing / self.rate if self.rate > 0 else math.inf

    def leave(self, place: float, size: int) -> None:
        """Whoever waits at this place does not want its bytes: those behind it come up."""
        bisect.insort(self._left, (place - size, size))
        self._skip()

    def give_back(self, size: int, now: float) -> None:
        """So many bytes were allowed and are not used: who is next may have them."""
        self._grow(now)
        self._allowed += size
        self._skip()

    def set_rate(self, rate: float, now: float) -> None:
        self._grow(now)
        self.rate = rate

    def _grow(self, now: float) -> None:
        seconds, self._at = min(now - self._at, LATE_SECONDS), now
        if self.rate == math.inf:
            self._allowed = self.asked
            self._left.clear()
            return
        before = self._allowed
        self._allowed += self.rate * seconds
        self._skip()
        most = self.asked + self.rate * BURST_SECONDS
        self._allowed = max(before, min(self._allowed, most))

    def _skip(self) -> None:
        """Pass over the bytes of those who left, as far as all before them are allowed."""
        while self._left and self._left[0][0] <= self._allowed:
            self._allowed += self._left.pop(0)[1]


class Bandwidth:
    """What this process may read, for all its transfers. Thread-safe; also for fibers."""

    def __init__(
        self,
        bytes_per_second: float = math.inf,
        *,
        hold: Hold | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bytes_per_second` inf: no limit; 0: nothing until a share comes."""
        self._clock = clock
        self._hold = hold or Hold()
        self._began = clock()
        self._bucket = TokenBucket(bytes_per_second, self._began)
        self._used_bytes = 0
        self._held_seconds = 0.0
        self._lock = threading.Lock()
        self._never = threading.Event()

    @property
    def is_limited(self) -> bool:
        return self._bucket.rate != math.inf

    def now(self) -> float:
        """The time by its clock, for give_back()."""
        return self._clock()

    @property
    def held_seconds(self) -> float:
        """Time that transfers have waited here, summed."""
        return self._held_seconds

    def set_share(self, bytes_per_second: float) -> None:
        """Set the share; it holds for those who wait, too."""
        with self._lock:
            self._bucket.set_rate(bytes_per_second, self._clock())

    def use(self, transfer_seconds: float = 0.0) -> BandwidthUse:
        """What the driver needs to know to share it out.

        `transfer_seconds`: time that transfers have been in flight, summed.
        """
        with self._lock:
            return BandwidthUse(
                share=self._bucket.rate,
                seconds=self._clock() - self._began,
                used_bytes=self._used_bytes,
                transfer_seconds=transfer_seconds,
                held_seconds=self._held_seconds,
            )

    def take(self, size: int, stopping: threading.Event | None = None) -> bool:
        """Wait until so many bytes may be used.

        Without a limit they may be used at once. Returns False if `stopping` was set meanwhile, or
        the hold is over. Nothing was used then,
        nor if the wait ends by an exception. Without `stopping`, the hold alone ends the wait.
        """
        with self._lock:
            if self._bucket.rate == math.inf:
                self._used_bytes += size
                return True
            place = self._bucket.ask(size, self._clock())
        taken = False
        try:
            taken = self._wait(place, stopping)
        finally:
            with self._lock:
                if taken:
                    self._used_bytes += size
                else:
                    self._bucket.leave(place, size)
        return taken

    def give_back(self, size: int, taken_at: float) -> None:
        """So many bytes were taken at that time and are not used: their request came to nothing.

        If that is longer ago than LATE_SECONDS, nobody else gets them: they would come on top of
        what is allowed by now.
        """
        with self._lock:
            now = self._clock()
            self._used_bytes -= size
            if now - taken_at <= LATE_SECONDS:
                self._bucket.give_back(size, now)

    def _wait(self, place: float, stopping: threading.Event | None) -> bool:
        """Wait until this place is reached; False if it is left instead."""
        before = self._clock()
        while True:
            with self._lock:
                now = self._clock()
                self._held_seconds += now - before
                before = now
                seconds = self._bucket.wait_seconds(place, now)
                if self._hold.is_over:
                    return False
                if seconds <= 0:
                    return True
                if stopping is not None and stopping.is_set():
                    return False
            pause(min(seconds, LOOK_SECONDS), stopping or self._never)
