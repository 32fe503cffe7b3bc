"""What a simulated job leaves behind: journals, uploads and seals, as a job directory has them.

Also counts the bytes that were moved more than once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from noria.benchmarks.simulate.ledger import Violation
from noria.benchmarks.simulate.runs import Runs
from noria.benchmarks.simulate.settings import Cadence
from noria.benchmarks.simulate.workers import Task
from noria.engine.scheduler.events import SettledSpan
from noria.manifests.model import LeaseKind, LeaseResult, ShardPlan

Place = tuple[int, int]
"""Shard and generation."""


@dataclass(slots=True)
class Figures:
    """Sums of a run. Bytes that are moved and bytes that had been moved for nothing, by time."""

    cadence: Cadence
    moved: list[float] = field(default_factory=list)
    repeated: list[float] = field(default_factory=list)
    useful_bytes: float = 0.0
    """Moved and journalled, each once."""
    repeated_bytes: float = 0.0
    """Moved again, or for nothing."""
    excused_bytes: float = 0.0
    """As much as the faults so far may have cost."""
    transfers: int = 0
    """In flight now, of all workers."""
    transfers_most: int = 0
    """In flight at any time."""
    file_seconds: float = 0.0
    """That drivers have waited for the file system of the job directory."""
    idle_seconds: float = 0.0
    up_seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    marks: list[tuple[float, str]] = field(default_factory=list)
    """When what went wrong."""
    throttled: list[tuple[float, float]] = field(default_factory=list)
    """From when to when a store gave less."""

    def count(self, what: str, times: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + times

    def mark(self, now: float, what: str) -> None:
        self.count(what)
        self.marks.append((now, what))

    def count_in_flight(self, more: int) -> None:
        self.transfers += more
        self.transfers_most = max(self.transfers_most, self.transfers)

    def add_moved(self, since: float, now: float, size: float) -> None:
        """So many bytes, evenly over this time."""
        width = self.cadence.bin_seconds
        place, last = int(since / width), int(now / width)
        while place < last:
            end = width * (place + 1)
            share = size * (end - since) / (now - since)
            _add(self.moved, place, share)
            size, since, place = size - share, end, place + 1
        _add(self.moved, last, size)

    def add_repeated(self, now: float, size: float) -> None:
        self.repeated_bytes += size
        _add(self.repeated, int(now / self.cadence.bin_seconds), size)

    def excuse(self, size: float) -> None:
        self.excused_bytes += size


def _add(bins: list[float], place: int, size: float) -> None:
    if place >= len(bins):
        bins.extend([0.0] * (place + 1 - len(bins)))
    bins[place] += size


class Records:
    """Durable: it outlives workers and drivers."""

    def __init__(self, plans: Iterable[ShardPlan], figures: Figures) -> None:
        self.plans = {plan.shard: plan for plan in plans}
        self._figures = figures
        self._journals: dict[Place, Runs] = {}
        self._seals: dict[tuple[int, LeaseKind, int, int], tuple[int, int]] = {}
        """(shard, kind, generation, first) -> newest attempt, and its end."""
        self._opened: dict[int, int] = {}
        """PARTS shard -> its newest upload's generation."""
        self._void: set[Place] = set()
        self._dropped: set[int] = set()
        self.lost_uploads: set[Place] = set()

    # -- journals ----------------------------------------------------------------------------------

    def open(self, place: Place, kind: LeaseKind) -> None:
        """A lease begins: the first of a generation opens its upload."""
        shard, generation = place
        if kind is not LeaseKind.OBJECTS:
            self._opened[shard] = max(self._opened.get(shard, 0), generation)

    def gaps(self, place: Place, first: int, end: int) -> list[tuple[int, int]]:
        """What of these units no attempt has journalled."""
        journal = self._journals.get(place)
        return [(first, end)] if journal is None else journal.gaps(first, end)

    def journal(self, task: Task, now: float, done_x: int) -> None:
        """Write down that a task has done its first `done_x` units. A repeat changes nothing."""
        units = done_x - task.journalled_x
        if units <= 0 or task.is_assembly:
            return
        runs = task.units_at(task.journalled_x, done_x)
        task.journalled_x = done_x
        added = 0
        if task.lease.shard not in self._dropped and task.generation not in self._void:
            journal = self._journals.setdefault(task.generation, Runs())
            added = sum(journal.add(first, end) for first, end in runs)
        self._figures.useful_bytes += added * task.unit_bytes
        if units > added:
            self._figures.add_repeated(now, (units - added) * task.unit_bytes)

    def fence(self, task: Task, now: float, *, with_cause: bool) -> None:
        """The attempt no longer counts.

        The next attempt finds what it has done so far. What it does from now on is done twice; the
        scheduler is to blame for that if it had no cause.
        """
        self.journal(task, now, math.floor(task.x))
        if with_cause and task.fenced_x is None:
            task.fenced_x = float(math.floor(task.x))

    def void(self, shard: int, generation: int, now: float) -> None:
        """The upload of all generations before this one is gone, with all that was in it."""
        plan = self.plans[shard]
        for place in [(shard, before) for before in range(generation)]:
            self._void.add(place)
            journal = self._journals.pop(place, None)
            if journal is not None:
                size = journal.size * plan.bytes / plan.units
                self._figures.useful_bytes -= size
                self._figures.add_repeated(now, size)
                if place in self.lost_uploads:
                    self._figures.excuse(size)

    # -- seals -------------------------------------------------------------------------------------

    def seal(self, result: LeaseResult, *, settles: bool) -> None:
        """Write the seal; that of the newest attempt counts.

        Raises Violation if the units were never done.
        """
        place = result.shard, result.generation
        if result.kind is not LeaseKind.ASSEMBLE:
            journal = self._journals.get(place)
            if journal is None or journal.gaps(result.first, result.end):
                raise Violation(f"shard {result.shard} is sealed with units that were not moved")
        elif place in self.lost_uploads:
            raise Violation(f"shard {result.shard} is complete, and its upload was lost")
        name = result.shard, result.kind, result.generation, result.first
        self._seals[name] = max(self._seals.get(name, (0, 0)), (result.attempt, result.end))
        if settles:
            self._dropped.add(result.shard)
            self._journals.pop(place, None)

    def sealed(self) -> tuple[list[SettledSpan], dict[int, int]]:
        """The spans that count and the newest generations: what engine/replay.py would read."""
        generations = {shard: newest for shard, newest in self._opened.items() if newest}
        for shard, _, generation, _ in self._seals:
            if generation > generations.get(shard, 0):
                generations[shard] = generation
        spans = [
            SettledSpan(shard=shard, kind=kind, first=first, end=end)
            for (shard, kind, generation, first), (_, end) in self._seals.items()
            if kind is LeaseKind.OBJECTS or generation == generations.get(shard, 0)
        ]
        return spans, generations
