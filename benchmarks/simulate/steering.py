"""A simulated job that is steered: windows, people who cap and pause it, and a guard of its source.

What is in force is decided by the real code (engine/steering); what people do, and how busy the
source is with others, is drawn. `SteeringWatch` looks on every ten seconds.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from noria.benchmarks.simulate.driver import SimulatedDriver
from noria.benchmarks.simulate.ledger import Violation
from noria.benchmarks.simulate.settings import HOUR
from noria.benchmarks.simulate.world import World
from noria.engine.steering.guard import GuardControl, GuardState
from noria.engine.steering.limits import STEERED, LimitsInForce, limits_in_force
from noria.engine.steering.week import days_of, minute_of_day
from noria.engine.steering.windows import SettingsWindow
from noria.manifests.job.control import ControlKind, ControlRecord, SettingValue

BEGIN: Final = datetime(2026, 10, 19, tzinfo=UTC)
"""A Monday; in its first week the clocks of Europe are put back."""
FOLLOW_SECONDS: Final = 5.0
"""Between two looks. A driver looks more often; with the way to the workers it is not more."""
WATCH_SECONDS: Final = 10.0
TOLERANCE: Final = 0.05
DRAIN_SECONDS: Final = 20.0
"""How long into a pause workers may go on with what is in flight, before they are ended."""
OTHERS_SHARES: Final = (0.0, 0.0, 0.3, 0.6, 0.95)
"""Of the source's rate."""
FULL: Final = 0.9
"""Small reads are slow while the source gives more than this share of its rate."""
UNANSWERED: Final = 0.02
"""Of the times that the guard is asked."""
GUARD_FLOOR: Final = 0.1
LEAST_RATE: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringPlan:
    """Who steers the job."""

    windows: tuple[SettingsWindow, ...] = ()
    people: bool = False
    guard: bool = False
    people_seconds: float = 4 * HOUR
    """Between two things that people ask for, on average."""
    others_seconds: float = 2 * HOUR
    """How long others use the source as much as they do, on average."""
    begin: datetime = BEGIN


def steered(rate: float) -> SteeringPlan:
    """All of it, fitted to a job that may move so many bytes a second."""
    paris = ZoneInfo("Europe/Paris")
    office = SettingsWindow(
        name="office",
        days=days_of("mon-fri"),
        first_minute=minute_of_day("08:00"),
        end_minute=minute_of_day("18:00"),
        zone=paris,
        values={"bandwidth": rate / 4},
    )
    backup = SettingsWindow(
        name="backup",
        days=days_of("mon-sun"),
        first_minute=minute_of_day("02:30"),
        end_minute=minute_of_day("03:30"),
        zone=paris,
        values={"paused": True},
    )
    noon = SettingsWindow(
        name="noon",
        days=days_of("mon-sat"),
        first_minute=minute_of_day("11:30"),
        end_minute=minute_of_day("14:00"),
        zone=paris,
        values={"bandwidth": rate / 10},
    )
    return SteeringPlan(windows=(office, backup, noon), people=True, guard=True)


class Steersman:
    """What a driver does of what is asked: it looks, and has its workers follow."""

    def __init__(
        self, world: World, driver: SimulatedDriver, plan: SteeringPlan, chance: random.Random
    ) -> None:
        self._world = world
        self._driver = driver
        self._plan = plan
        self._chance = chance
        self._own: dict[str, SettingValue] = dict.fromkeys(STEERED, 0)
        self._records: list[ControlRecord] = []
        self._others = 0.0
        self._guard = GuardControl(GUARD_FLOOR)
        self._pace: float | None = None
        self._moved = 0.0
        self._asked = self._guarded = limits_in_force(self._own, (), (), plan.begin)
        """What was folded last, without and with the guard."""
        self._same_until = plan.begin
        """Until then it would be folded to the same."""
        self.limits = self._fold()
        self.cap = math.inf
        """Bytes a second of all workers, as in force there."""
        self._cap_most = math.inf
        self.paused = False
        self._paused_at = 0.0

    def begin(self) -> None:
        self._look()
        if self._plan.people:
            self._world.later(self._draw(self._plan.people_seconds), self._ask)
        if self._plan.guard:
            self._world.later(self._draw(self._plan.others_seconds), self._change_others)

    def take_cap_most(self) -> float:
        """The highest cap that was in force at any time since the last call."""
        most, self._cap_most = self._cap_most, self.cap
        return most

    def take_over(self) -> None:
        """The next driver begins: what was asked for is in force before its first lease."""
        self.limits = self._fold()
        self.paused = self.limits.paused is not None
        self._paused_at = self._world.now
        if self.paused:
            self._driver.pause_work(on=True)

    def _look(self) -> None:
        self._world.later(FOLLOW_SECONDS, self._look)
        if not self._driver.is_at_work:
            return  # nobody looks; workers keep to what they were told
        if self._plan.guard:
            self._ask_guard()
        self.limits = self._fold()
        if self._guard.factor >= 1.0:
            self._pace = None
        guarded = math.inf
        if self._pace is not None:
            guarded = max(LEAST_RATE, self._guard.factor * self._pace)
        self.cap = min(self.limits.rate("bandwidth"), guarded)
        self._cap_most = max(self._cap_most, self.cap)
        self._world.flow.cap(self.cap)
        if (self.limits.paused is not None) != self.paused:
            self.paused = not self.paused
            self._world.figures.count("pauses", int(self.paused))
            self._paused_at = self._world.now
            self._driver.pause_work(on=self.paused)
        elif self.paused and self._world.now - self._paused_at >= DRAIN_SECONDS:
            self._driver.end_those_that_go_on()

    def _fold(self) -> LimitsInForce:
        """What is in force now. It is the same until a minute or a request ends, or one comes."""
        now = self._plan.begin + timedelta(seconds=self._world.now)
        if now >= self._same_until or len(self._records) != self._asked.records:
            self._asked = limits_in_force(self._own, self._plan.windows, self._records, now)
            minute = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
            ends = (each.until for each in self._records if each.until is not None)
            self._same_until = min((end for end in ends if end > now), default=minute)
            self._same_until = min(self._same_until, minute)
        elif self._guarded.guard_factor == self._guard.factor:
            return self._guarded
        guard = GuardState(factor=self._guard.factor, said="")
        self._guarded = self._asked.guarded({"source": guard})
        return self._guarded

    # -- who steers --------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Somebody sets a cap for a while, lifts all, pauses, or resumes."""
        self._world.later(self._draw(self._plan.people_seconds), self._ask)
        kind = self._chance.choice(
            [ControlKind.SET, ControlKind.SET, ControlKind.CLEAR, ControlKind.PAUSE]
        )
        now = self._plan.begin + timedelta(seconds=self._world.now)
        seconds = self._chance.uniform(0.05, 2.0) * self._plan.people_seconds
        settings: dict[str, SettingValue | None] = {}
        if kind is ControlKind.SET:
            settings["bandwidth"] = self._world.site.source_rate * self._chance.uniform(0.01, 1.2)
        if kind is ControlKind.PAUSE:
            seconds /= 8
        self._records.append(
            ControlRecord(
                number=len(self._records) + 1,
                kind=kind,
                at=now,
                by="somebody",
                settings=settings,
                until=now + timedelta(seconds=seconds),
                reason=None,
            )
        )
        self._world.figures.count("steered")

    def _change_others(self) -> None:
        self._others = self._chance.choice(OTHERS_SHARES)
        self._world.later(self._draw(self._plan.others_seconds), self._change_others)

    def _ask_guard(self) -> None:
        flow, source = self._world.flow, self._world.site.source_rate
        rate, self._moved = (flow.moved - self._moved) / FOLLOW_SECONDS, flow.moved
        before = self._guard.factor
        answer = None
        if self._chance.random() >= UNANSWERED:
            answer = rate + self._others * source <= FULL * source
        self._guard.hear(answer, self._world.now)
        if self._guard.factor < 1.0 and self._pace is None and rate > 0:
            self._pace = rate
        self._world.figures.count("guard steps", int(self._guard.factor != before))

    def _draw(self, mean_seconds: float) -> float:
        return self._chance.expovariate(1 / mean_seconds)


class SteeringWatch:
    """Raises Violation if more moves than is in force, or if who can be told goes on in a pause."""

    def __init__(self, world: World, driver: SimulatedDriver, steersman: Steersman) -> None:
        self._world = world
        self._driver = driver
        self._steersman = steersman
        self._moved = 0.0
        self._paused_since: float | None = None

    def begin(self) -> None:
        self._look()

    def _look(self) -> None:
        world, now = self._world, self._world.now
        world.later(WATCH_SECONDS, self._look)
        moved, self._moved = world.flow.moved - self._moved, world.flow.moved
        most = self._steersman.take_cap_most()
        if moved > (1 + TOLERANCE) * most * WATCH_SECONDS:
            raise Violation(f"{moved:.0f} bytes in ten seconds, where {most:.0f} a second may be")
        if not self._steersman.paused or not self._driver.is_at_work:
            self._paused_since = None
            return
        if self._paused_since is None:
            self._paused_since = now
        if now - self._paused_since < 2 * DRAIN_SECONDS:
            return
        for worker in self._driver.cluster.workers():
            if worker.tasks and not worker.is_silent and not worker.forgotten:
                if worker.unreachable or worker.delays or worker.parked or worker.hold.is_over:
                    continue  # nobody can tell it; it stops by itself
                if worker.exchanging or all(
                    task.stopped_at is not None or task.deaf for task in worker.tasks.values()
                ):
                    continue  # a message is late; or what is in flight comes to its end
                raise Violation(f"worker {worker.name} works on in a pause")
