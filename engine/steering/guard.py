"""A guard: how much of its pace a job keeps while others need a store.

A guard is asked again and again whether the job may go on. Each "no" takes a part of what is left,
each "yes" gives a little back, and between two steps there is time for the last one to be felt. So
a job that disturbs finds a pace that does not, and is never stopped unless `floor` is 0.

Pure: time comes in with each call, in seconds on any one clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

STEP_SECONDS: Final = 10.0
"""All workers follow a step within this time; the next answer is then about its effect."""
LESS: Final = 0.6
"""What a "no" leaves of the share."""
MORE: Final = 0.05
"""What a "yes" gives back: of the whole."""
UNKNOWN_SECONDS: Final = 60.0
"""A guard that could not be asked for so long counts as a "no"; until then nothing changes."""
BASELINE_READS: Final = 5
"""A baseline is the median of so many quiet reads at least."""
BASELINE_KEPT: Final = 60
RECENT_READS: Final = 3
"""The median of so many is compared with it: one slow read means nothing."""
SLACK_SECONDS: Final = 0.005
"""A source that answers in half a millisecond is not disturbed if it takes two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardState:
    """A guard as it is told."""

    factor: float
    """Of the pace that the job had when the guard began to hold it. 1: it does not."""
    said: str
    """What it said last, for people."""

    @property
    def holds(self) -> bool:
        return self.factor < 1.0


class GuardControl:
    """Turns answers into a share from `floor` to 1. One for each guard of a run."""

    def __init__(self, floor: float) -> None:
        """`floor`: the least share. 0: the job may be stopped."""
        self._floor = floor
        self.factor = 1.0
        self._stepped_at: float | None = None
        self._unknown_since: float | None = None

    def hear(self, answer: bool | None, now: float) -> None:
        """An answer: True, the job may go on; None, the guard could not be asked."""
        if answer is None:
            if self._unknown_since is None:
                self._unknown_since = now
            if now - self._unknown_since < UNKNOWN_SECONDS:
                return
            answer = False
        else:
            self._unknown_since = None
        if self._stepped_at is not None and now - self._stepped_at < STEP_SECONDS:
            return
        before = self.factor
        if answer:
            self.factor = min(1.0, self.factor + MORE)
        else:
            less = self.factor * LESS
            # Below a step upwards there is nothing but the end.
            self.factor = self._floor if less < max(self._floor, MORE) else less
        if self.factor != before:
            self._stepped_at = now


class LatencyWatch:
    """Small reads of a store, beside the same when the job was quiet."""

    def __init__(self, factor: float, baseline_seconds: float | None = None) -> None:
        """`factor`: reads that take so many times the baseline are a "no".

        `baseline_seconds` None: learned.
        """
        self._factor = factor
        self._given = baseline_seconds
        self._quiet: deque[float] = deque(maxlen=BASELINE_KEPT)
        self._recent: deque[float] = deque(maxlen=RECENT_READS)

    @property
    def baseline_seconds(self) -> float | None:
        """None: too few quiet reads are known yet."""
        if self._given is not None:
            return self._given
        return _median(self._quiet) if len(self._quiet) >= BASELINE_READS else None

    @property
    def most_seconds(self) -> float | None:
        """What a read may take. None: not known yet."""
        baseline = self.baseline_seconds
        if baseline is None:
            return None
        return max(self._factor * baseline, baseline + SLACK_SECONDS)

    def hear(self, seconds: float, *, quiet: bool) -> bool | None:
        """A read has taken so long. True: the job may go on. None: there is no baseline yet."""
        if quiet:
            self._quiet.append(seconds)
        self._recent.append(seconds)
        most = self.most_seconds
        return None if most is None else _median(self._recent) <= most


def _median(values: Collection[float]) -> float:
    """The upper one of two in the middle. Python's own takes long to load."""
    return sorted(values)[len(values) // 2]
