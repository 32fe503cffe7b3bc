"""How much was done at a store in some time, in one measure for small and large requests."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

MIB = 1024 * 1024

PRICE_PRIOR_BYTES = float(MIB)
"""A request costs as much as moving this many bytes, until a fit knows better.

On loopback 10^9 bytes cost 0.25 s of CPU and a request 250 us, which makes 1 MB; a stream of
50 MB/s with 20 ms to its first byte makes 1 MB too.
"""
PRICE_RANGE = 16.0
"""The fit goes no further from that than by this factor."""
PRICE_PRIOR_WEIGHT = 0.1
"""Against the rows of the fit, each of which weighs 1: it decides while sizes hardly differ."""
PRICE_MEMORY = 0.99
"""What a window weighs after the next one: it is forgotten within minutes."""
SECONDS_MIN = 1e-6
"""No request was ever answered sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What all workers together did at one store, in `seconds`."""

    seconds: float = 0.0
    requests: float = 0.0
    """Answered, other than by a throttle."""
    bytes: float = 0.0
    """In their bodies, read or written."""
    request_seconds: float = 0.0
    """Time they took: the sum of their latencies."""
    in_flight_seconds: float = 0.0
    """Requests in flight, integrated over the window.

    By Little's law the same as request_seconds in the long run; but a request of a minute counts
    here in the minute that it takes, there in the second in which it ends.
    """
    throttles: float = 0.0

    def __add__(self, other: Window) -> Window:
        return Window(
            seconds=self.seconds + other.seconds,
            requests=self.requests + other.requests,
            bytes=self.bytes + other.bytes,
            request_seconds=self.request_seconds + other.request_seconds,
            in_flight_seconds=self.in_flight_seconds + other.in_flight_seconds,
            throttles=self.throttles + other.throttles,
        )

    def __sub__(self, other: Window) -> Window:
        return self + other.times(-1.0)

    def times(self, factor: float) -> Window:
        return Window(
            seconds=self.seconds * factor,
            requests=self.requests * factor,
            bytes=self.bytes * factor,
            request_seconds=self.request_seconds * factor,
            in_flight_seconds=self.in_flight_seconds * factor,
            throttles=self.throttles * factor,
        )

    @property
    def in_flight(self) -> float:
        """Requests in flight on average."""
        return self.in_flight_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def latency_seconds(self) -> float:
        return self.request_seconds / self.requests if self.requests > 0 else 0.0

    @property
    def throttle_share(self) -> float:
        return self.throttles / (self.requests + self.throttles) if self.throttles > 0 else 0.0


def added_rates(windows: Iterable[Window], seconds: float) -> Window:
    """What several workers did at the same time, each at the rate of its own window, in `seconds`.

    They do not report at the same moments.
    """
    total = Window()
    for window in windows:
        if window.seconds > 0:
            total += window.times(seconds / window.seconds)
    return replace(total, seconds=seconds)


class Prices:
    """What a request costs beside its bytes, told from how long requests of different sizes take.

    Least squares for `request_seconds = a x requests + b x bytes`, each window weighed alike. With
    as many requests in flight, the work a x requests + b x bytes is the same in each second whether
    objects are small or large; so a change of their sizes does not look like a change of speed.
    Only a / b counts, in bytes.
    """

    def __init__(self) -> None:
        self._rows = self._x = self._y = self._xx = self._xy = self._yy = 0.0

    def learn(self, window: Window) -> None:
        if window.requests < 1 or window.request_seconds < SECONDS_MIN:
            return
        x, y = window.requests / window.request_seconds, window.bytes / window.request_seconds
        self._rows = PRICE_MEMORY * self._rows + 1
        self._x = PRICE_MEMORY * self._x + x
        self._y = PRICE_MEMORY * self._y + y
        self._xx = PRICE_MEMORY * self._xx + x * x
        self._xy = PRICE_MEMORY * self._xy + x * y
        self._yy = PRICE_MEMORY * self._yy + y * y

    @property
    def request_bytes(self) -> float:
        """Bytes whose moving costs as much as a request."""
        if self._rows == 0:
            return PRICE_PRIOR_BYTES
        # The prior is one row more: `a - prior x b = 0`, in the scale of a mean row.
        scale = PRICE_PRIOR_WEIGHT * (self._x + self._y / PRICE_PRIOR_BYTES) / self._rows
        weight = scale * scale * self._rows
        xx = self._xx + weight
        xy = self._xy - weight * PRICE_PRIOR_BYTES
        yy = self._yy + weight * PRICE_PRIOR_BYTES**2
        # Cramer's rule; the determinant falls out of a / b.
        a, b = self._x * yy - self._y * xy, self._y * xx - self._x * xy
        most, least = PRICE_PRIOR_BYTES * PRICE_RANGE, PRICE_PRIOR_BYTES / PRICE_RANGE
        return most if b <= 0 else min(max(a / b, least), most)

    def work(self, window: Window) -> float:
        """Work a second, as a logarithm: differences are shares."""
        done = window.bytes + window.requests * self.request_bytes
        return math.log(max(1.0, done / window.seconds))
