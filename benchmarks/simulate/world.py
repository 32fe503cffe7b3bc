"""What all parts of a simulation share: its clock, what is due, its stores, and what it leaves."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from noria.benchmarks.simulate.clocks import DriftingClock
from noria.benchmarks.simulate.flow import Flow
from noria.benchmarks.simulate.holders import HolderLedger
from noria.benchmarks.simulate.records import Figures, Records
from noria.benchmarks.simulate.settings import Cadence, Faults, Site
from noria.benchmarks.simulate.workers import Task
from noria.workers.runtime.hold import Hold


class Agenda:
    """What happens at which time; first come, first served."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    @property
    def next_time(self) -> float:
        return self._due[0][0] if self._due else math.inf

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        self._serial += 1
        heapq.heappush(self._due, (when, self._serial, action, arguments))

    def pop(self) -> tuple[Callable[..., None], tuple[Any, ...]]:
        _, _, action, arguments = heapq.heappop(self._due)
        return action, arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Handed to each part; the parts know each other by it alone."""

    site: Site
    faults: Faults
    cadence: Cadence
    flow: Flow[Task]
    agenda: Agenda
    records: Records
    figures: Figures
    holders: HolderLedger
    hold_seconds: float
    """How long a worker goes on without its driver."""
    hold_type: type[Hold]
    chance: random.Random

    @property
    def now(self) -> float:
        return self.flow.now

    def draw_clock(self) -> DriftingClock:
        """The clock of one more host."""
        return DriftingClock.drawn(lambda: self.flow.now, self.faults.clock_drift, self.chance)

    def later(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        self.agenda.at(self.flow.now + seconds, action, *arguments)
