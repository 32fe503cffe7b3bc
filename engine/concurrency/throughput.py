"""How much was done in some time, in one measure for small and large transfers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

MIB = 1024 * 1024

PRICE_PRIOR_BYTES = float(MIB)
"""A transfer costs as much as moving this many bytes, until a fit knows better.

On loopback 10^9 bytes cost 0.25 s of CPU and a request 250 us, which makes 1 MB; a stream of
50 MB/s with 20 ms to its first byte makes 1 MB too.
"""
PRICE_RANGE = 16.0
"""The fit goes no further from that than by this factor."""
PRICE_PRIOR_WEIGHT = 0.1
"""Against the rows of the fit, each of which weighs 1: it decides while sizes hardly differ."""
PRICE_MEMORY = 0.99
"""What a window weighs after the next one: it is forgotten within minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What all workers together did in `seconds`."""

    seconds: float = 0.0
    transfers: float = 0.0
    """Objects and parts that ended."""
    bytes: float = 0.0
    """Sent to the target, or read back from it."""
    transfer_seconds: float = 0.0
    """Transfers in flight, integrated over the window: one of a minute counts in each second."""
    held_seconds: float = 0.0
    """Of these, those in which transfers waited for their share of the bandwidth."""
    cpu_seconds: float = 0.0
    """Processor time of the workers."""
    requests: float = 0.0
    """Answered, other than by a throttle, at both stores."""
    throttles: float = 0.0

    def __add__(self, other: Window) -> Window:
        return self._with(other, 1.0)

    def __sub__(self, other: Window) -> Window:
        return self._with(other, -1.0)

    def _with(self, other: Window, factor: float) -> Window:
        return Window(
            **{
                field.name: getattr(self, field.name) + factor * getattr(other, field.name)
                for field in fields(Window)
            }
        )

    def times(self, factor: float) -> Window:
        return Window()._with(self, factor)

    @property
    def in_flight(self) -> float:
        """Transfers in flight on average."""
        return self.transfer_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def held_share(self) -> float:
        """The part of their time in which transfers waited for bandwidth."""
        if self.held_seconds <= 0 or self.transfer_seconds <= 0:
            return 0.0
        return min(1.0, self.held_seconds / self.transfer_seconds)

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
    """What a transfer costs beside its bytes, told from how long those of different sizes take.

    Least squares for `transfer_seconds = a x transfers + b x bytes`, each window weighed alike.
    With as many in flight, the work a x transfers + b x bytes is the same in each second whether
    objects are small or large; so a change of their sizes does not look like a change of speed.
    Only a / b counts, in bytes.
    """

    def __init__(self) -> None:
        self._rows = self._x = self._y = self._xx = self._xy = self._yy = 0.0

    def learn(self, window: Window) -> None:
        if window.transfer_seconds <= 0:
            return
        x = window.transfers / window.transfer_seconds
        y = window.bytes / window.transfer_seconds
        self._rows = PRICE_MEMORY * self._rows + 1
        self._x = PRICE_MEMORY * self._x + x
        self._y = PRICE_MEMORY * self._y + y
        self._xx = PRICE_MEMORY * self._xx + x * x
        self._xy = PRICE_MEMORY * self._xy + x * y
        self._yy = PRICE_MEMORY * self._yy + y * y

    @property
    def transfer_bytes(self) -> float:
        """Bytes whose moving costs as much as a transfer."""
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
        """What was done, in bytes."""
        return window.bytes + window.transfers * self.transfer_bytes

    def small_share(self, window: Window) -> float:
        """The share of the work that transfers cost beside their bytes: 1 for the smallest."""
        return window.transfers * self.transfer_bytes / max(1.0, self.work(window))
