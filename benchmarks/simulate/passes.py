"""A migration in passes over a source that lives on: what each has to move, and how long it takes.

A pass lists and plans, moves what is new or changed since the last one's listing began, and proves
it. Moving is the scheduler's own simulation (run.py), which the caller brings; the rest is a price
for each object that stands, as measured. The last pass is under a freeze: nothing changes at the
source from its beginning on. A change counts for the first listing that begins after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from noria.benchmarks.simulate.plan import SimulatedPlan
from noria.benchmarks.simulate.run import Simulation
from noria.benchmarks.simulate.settings import DAY
from noria.engine.estimate.rates import FIXED_SECONDS

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLife:
    """What becomes of a source from day to day."""

    changing_share: float = 0.005
    """Of the objects, that are changed or added a day; which ones is chance."""
    new_share: float = 0.2
    """Of these, that are added."""

    def since(self, seconds: float, objects: int) -> tuple[int, int]:
        """New objects, and others changed at least once, after so long, of so many."""
        touched = objects * (1 - (1 - self.changing_share) ** (seconds / DAY))
        return round(touched * self.new_share), round(touched * (1 - self.new_share))


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPrices:
    """Seconds for a million objects, whether they have changed or not, on one driver of two cores.

    CPU seconds of thirty million (benchmarks/results/2026-11-28-passes.md) as if one core did all,
    rounded up; listings as they took (2026-11-28-billion.md).
    """

    listing: float = 8.3
    """Of the source; of the target as much again."""
    first_plan: float = 3.2
    plan: float = 2.9
    """Of a later pass, compared with the state after the last one."""
    first_state: float = 2.1
    state: float = 1.4
    reconcile: float = 0.9

    def before(self, objects: int, *, is_first: bool) -> float:
        """Seconds until the first byte of a pass moves."""
        plan = self.first_plan if is_first else self.plan
        return FIXED_SECONDS + (self.listing + plan) * objects / MILLION

    def after(self, objects: int, *, is_first: bool) -> float:
        """Seconds from the last byte to the proof."""
        state = self.first_state if is_first else self.state
        return (state + self.listing + self.reconcile) * objects / MILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPass:
    """How a pass went. Times are seconds since the first pass began."""

    number: int
    begun: float
    """So did its listing."""
    standing: int
    """Objects that it lists."""
    new: int
    changed: int
    before_seconds: float
    after_seconds: float
    run: Simulation | None
    """None: nothing had to be moved."""
    previous_begun: float | None
    frozen: bool

    @property
    def bytes(self) -> int:
        """That it moved."""
        return 0 if self.run is None else round(self.run.figures.useful_bytes)

    @property
    def moving_seconds(self) -> float:
        return 0.0 if self.run is None else self.run.seconds

    @property
    def fixed_seconds(self) -> float:
        return self.before_seconds + self.after_seconds

    @property
    def seconds(self) -> float:
        return self.before_seconds + self.moving_seconds + self.after_seconds

    @property
    def end(self) -> float:
        return self.begun + self.seconds

    @property
    def lag_seconds(self) -> float | None:
        """How far the target has fallen behind right before this pass ends; None: it is the first.

        Until then it is as the source was when the pass before began; from then on as it was when
        this one began. Under a freeze nothing falls behind any further.
        """
        if self.previous_begun is None:
            return None
        return (self.begun if self.frozen else self.end) - self.previous_begun

    def as_json(self) -> dict[str, Any]:
        lag = self.lag_seconds
        return {
            "pass": self.number,
            "frozen": self.frozen,
            "begun_seconds": round(self.begun, 3),
            "standing": self.standing,
            "new": self.new,
            "changed": self.changed,
            "bytes": self.bytes,
            "before_seconds": round(self.before_seconds, 3),
            "moving_seconds": round(self.moving_seconds, 3),
            "after_seconds": round(self.after_seconds, 3),
            "seconds": round(self.seconds, 3),
            "lag_seconds": None if lag is None else round(lag, 3),
            "digest": None if self.run is None else self.run.digest,
        }


Move = Callable[[int, int, int], Simulation]
"""Simulates how a pass moves: its number, objects, bytes."""


def simulate_passes(
    plan: SimulatedPlan, life: SourceLife, prices: PassPrices, passes: int, move: Move
) -> Sequence[SimulatedPass]:
    """So many passes one after the other, the last one under a freeze.

    It ends early if the scheduler breaks a promise.
    """
    found: list[SimulatedPass] = []
    standing, begun, object_bytes = 0, 0.0, plan.bytes / plan.objects
    for number in range(1, passes + 1):
        is_first = number == 1
        new, changed, size = plan.objects, 0, plan.bytes
        if not is_first:
            new, changed = life.since(begun - found[-1].begun, standing)
            size = round((new + changed) * object_bytes)
        standing += new
        found.append(
            SimulatedPass(
                number=number,
                begun=begun,
                standing=standing,
                new=new,
                changed=changed,
                before_seconds=prices.before(standing, is_first=is_first),
                after_seconds=prices.after(standing, is_first=is_first),
                run=move(number, new + changed, size) if size else None,
                previous_begun=None if is_first else found[-1].begun,
                frozen=number == passes,
            )
        )
        run = found[-1].run
        if run is not None and run.violation is not None:
            break
        begun = found[-1].end
    return found
