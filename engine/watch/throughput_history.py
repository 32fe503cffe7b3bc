"""Throughput since the run began, in a bounded number of points.

The whole run is kept, not its last minutes: if there is no room for another point, each two become
one that covers twice the time. So a run of a week has as many points as one of an hour.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

FIRST_INTERVAL_SECONDS = 2.0
"""What a point covers while the run is short."""
MOST_POINTS = 360
"""At least half as many are kept, once there were so many."""


@dataclass(slots=True)
class _Point:
    place: int
    """It covers from place * interval to (place + 1) * interval, in Unix time."""
    samples: int
    bytes_per_second: float
    """Of all its samples, added up; so for the next."""
    objects_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputPoint:
    """The mean over one interval."""

    unix_seconds: float
    """When the interval began."""
    bytes_per_second: float
    objects_per_second: float


class ThroughputHistory:
    """Fed by the driver's thread, read by others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interval_seconds = FIRST_INTERVAL_SECONDS
        self._points: list[_Point] = []

    def add(
        self, unix_seconds: float, *, bytes_per_second: float, objects_per_second: float
    ) -> None:
        """Note the throughput of a moment. A clock that is set back adds to the last point."""
        with self._lock:
            place = math.floor(unix_seconds / self._interval_seconds)
            last = self._points[-1] if self._points else None
            if last is not None and place <= last.place:
                last.samples += 1
                last.bytes_per_second += bytes_per_second
                last.objects_per_second += objects_per_second
                return
            self._points.append(_Point(place, 1, bytes_per_second, objects_per_second))
            if len(self._points) > MOST_POINTS:
                self._halve()

    def read(self) -> tuple[float, list[ThroughputPoint]]:
        """The seconds that a point covers, and the points in order of time."""
        with self._lock:
            interval_seconds = self._interval_seconds
            return interval_seconds, [
                ThroughputPoint(
                    unix_seconds=point.place * interval_seconds,
                    bytes_per_second=point.bytes_per_second / point.samples,
                    objects_per_second=point.objects_per_second / point.samples,
                )
                for point in self._points
            ]

    def _halve(self) -> None:
        """Double the interval until there is room; a run that stood still may need it twice."""
        while len(self._points) > MOST_POINTS:
            self._interval_seconds *= 2
            joined: list[_Point] = []
            for point in self._points:
                place = point.place // 2
                if joined and joined[-1].place == place:
                    joined[-1].samples += point.samples
                    joined[-1].bytes_per_second += point.bytes_per_second
                    joined[-1].objects_per_second += point.objects_per_second
                else:
                    point.place = place
                    joined.append(point)
            self._points = joined
