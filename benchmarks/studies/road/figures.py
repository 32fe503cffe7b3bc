"""What a run comes to, from what was seen of it from outside: pure arithmetic.

A curve is (seconds since the start, bytes that had arrived at the target's end of the road), heads
and TLS included, in the order of time.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from noria.benchmarks.null.stores import StoreSecond

STEADY_FROM_SECONDS = 15.0
"""What comes before that is start-up, and the search for the right concurrency."""
STEADY_LEAST_SECONDS = 5.0
REFUSED_FROM_SECONDS = 60.0
"""Refusals before that are how a ceiling is found."""
TAIL_SHARE = 0.1
START_SHARE = 0.01
MEGABYTE = 1e6

Curve = Sequence[tuple[float, int]]


def bytes_at(curve: Curve, seconds: float) -> float:
    """Between two looks, in proportion."""
    place = bisect.bisect_left(curve, seconds, key=lambda look: look[0])
    if place == 0:
        return curve[0][1]
    if place == len(curve):
        return curve[-1][1]
    (before, low), (after, high) = curve[place - 1], curve[place]
    return low + (high - low) * (seconds - before) / (after - before)


def seconds_until(curve: Curve, wanted: float) -> float:
    """When `wanted` bytes had arrived. No more than arrived at all."""
    place = bisect.bisect_left(curve, wanted, key=lambda look: look[1])
    if place == 0:
        return curve[0][0]
    (before, low), (after, high) = curve[place - 1], curve[place]
    return before + (after - before) * (wanted - low) / (high - low)


def rate_between(curve: Curve, start: float, end: float) -> float:
    """Megabytes a second."""
    return (bytes_at(curve, end) - bytes_at(curve, start)) / (end - start) / MEGABYTE


def steady_rate(curve: Curve, end: float) -> float | None:
    """Megabytes a second from second 15 on; None if it ended too soon after."""
    if end < STEADY_FROM_SECONDS + STEADY_LEAST_SECONDS:
        return None
    return rate_between(curve, STEADY_FROM_SECONDS, end)


def tail_ratio(curve: Curve) -> float | None:
    """How fast the last tenth of the bytes came, over how fast those before it did.

    The first hundredth is left out: who waits for it waits for the start-up. None if nothing came.
    """
    total = curve[-1][1] if curve else 0
    if total == 0:
        return None
    began, tail, end = (
        seconds_until(curve, share * total) for share in (START_SHARE, 1 - TAIL_SHARE, 1)
    )
    if not began < tail < end:
        return None
    before = (1 - TAIL_SHARE - START_SHARE) / (tail - began)
    return TAIL_SHARE / (end - tail) / before


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a store was asked in a stretch of a run, and what it refused."""

    seconds: float
    requests: int
    limited: int
    """Those that a ceiling is for; `refused` of them were above it."""
    refused: int
    objects: int

    @property
    def refused_share(self) -> float:
        return self.refused / self.limited if self.limited else 0.0

    def ceiling_share(self, ceiling_per_second: float) -> float:
        """What got through, over what could have."""
        return (self.limited - self.refused) / (self.seconds * ceiling_per_second)

    @property
    def others_per_second(self) -> float:
        """Requests that no ceiling is for."""
        return (self.requests - self.limited) / self.seconds

    @property
    def objects_per_second(self) -> float:
        return self.objects / self.seconds


def served_between(rows: Sequence[StoreSecond], start: float, end: float) -> Served | None:
    """The difference of two looks, at or after these moments; None if there are no two."""
    within = [row for row in rows if start <= row.unix_seconds <= end]
    if len(within) < 2:
        return None
    first, last = within[0], within[-1]
    return Served(
        seconds=last.unix_seconds - first.unix_seconds,
        requests=last.requests - first.requests,
        limited=last.limited - first.limited,
        refused=last.refused - first.refused,
        objects=last.objects - first.objects,
    )
