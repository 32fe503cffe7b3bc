"""A simulated road between two stores: transfers hold a connection at both ends at once.

A fluid: each transfer in flight carries what its two connections let it, all together what the
line, the slower store and the processors let them. Whoever is new needs a few round trips before
its first byte, and a limit that falls ends nobody in flight.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from noria.engine.concurrency.throughput import Window

MB = 1e6
STEP_SECONDS = 0.25
SETUP_TRIPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What lies between two stores. Bytes a second."""

    trip_seconds: float
    connection: float = 40 * MB
    line: float = 1e12
    processors: float = 800 * MB
    """All that our processors can move."""
    store: float = 1e12
    """All that the slower store can serve; more in flight only wait."""
    body_bytes: float = 16 * MB
    crowd_cost: float = 0.0
    """Share of the store's work that each transfer beyond those it can serve costs."""
    noise: float = 0.03

    @property
    def alone(self) -> float:
        """Bytes a second of one transfer that meets no other, from its first request to its end."""
        seconds = self.body_bytes / self.connection + 3 * self.trip_seconds
        return self.body_bytes / seconds

    def carried(self, in_flight: float) -> float:
        """Bytes a second of so many transfers."""
        served = min(self.line, self.processors, self.store)
        crowd = max(0.0, in_flight - served / self.alone)
        return min(in_flight * self.alone, served / (1 + self.crowd_cost * crowd))

    @property
    def knee(self) -> float:
        return min(self.line, self.processors, self.store) / self.alone


@dataclass(slots=True)
class CoupledStores:
    """The line over time, under a number of transfers that may change at any time."""

    line: Line
    seed: int = 1
    busy_share: float = 0.97
    """Our processors count as full beyond this share of what they can move."""
    moved: float = 0.0
    _ready: float = 0.0
    _setting_up: list[tuple[float, float]] = field(default_factory=list)
    """(due, transfers)"""
    _now: float = 0.0

    def second(self, number: float, work: float = 1e12) -> tuple[Window, bool]:
        """Let a second pass; what was done, and whether our processors were full."""
        total = Window()
        dice = random.Random(f"{self.seed} {self._now}")
        for _ in range(round(1 / STEP_SECONDS)):
            total += self._step(min(number, work))
        noisy = max(0.1, dice.gauss(1.0, self.line.noise))
        window = replace(
            total,
            bytes=total.bytes * noisy,
            transfers=total.transfers * noisy,
        )
        self.moved += window.bytes
        return window, total.bytes >= self.busy_share * self.line.processors

    def _step(self, number: float) -> Window:
        line = self.line
        self._now += STEP_SECONDS
        while self._setting_up and self._setting_up[0][0] <= self._now:
            self._ready += self._setting_up.pop(0)[1]
        in_flight = self._ready + sum(count for _, count in self._setting_up)
        if in_flight < number:
            due = self._now + SETUP_TRIPS * line.trip_seconds
            self._setting_up.append((due, number - in_flight))
            in_flight = number
        done = line.carried(self._ready) * STEP_SECONDS
        ended = done / line.body_bytes
        self._ready -= min(self._ready, ended, max(0.0, in_flight - number))
        return Window(
            seconds=STEP_SECONDS,
            bytes=done,
            transfers=ended,
            transfer_seconds=in_flight * STEP_SECONDS,
            requests=4 * ended,
        )
