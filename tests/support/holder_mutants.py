"""Holds and drivers with one fault each, of the kind that lets two workers write to one place.

What checks promise I17 in the simulator is put to the test with them.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.benchmarks.simulate.clocks import DriftingClock
from noria.benchmarks.simulate.driver import Judge, SimulatedDriver
from noria.benchmarks.simulate.workers import SimulatedWorker
from noria.benchmarks.simulate.world import World
from noria.engine.scheduler.events import SchedulerOptions
from noria.engine.scheduler.scheduler import Scheduler
from noria.workers.runtime.hold import Hold


class NeverOver(Hold):
    """A worker goes on for ever without its driver."""

    @property
    def is_over(self) -> bool:
        return False

    @property
    def must_end(self) -> bool:
        return False


class NeverEnds(Hold):
    """What is in flight when the hold is over may take as long as it likes."""

    @property
    def must_end(self) -> bool:
        return False


class RenewedWhenSent(Hold):
    """A report is taken to arrive."""

    def note_sent(self) -> None:
        super().note_sent()
        self.renew()


class RenewedWhenCalled(Hold):
    """It counts from the call, however long that was on its way."""

    def renew(self) -> None:
        self.note_sent()
        super().renew()


class GivesAwayTheUnreachable(SimulatedDriver):
    """A worker that the cluster cannot reach is taken to have ended."""

    def hear_unreachable(self, worker: SimulatedWorker) -> None:
        self.hear_lost(worker)


class FollowsAtOnce(SimulatedDriver):
    """A new driver does not wait for workers of the last one."""

    def follow(self) -> None:
        if self._scheduler is None:
            self.begin()


class FourTimesTooFast(SimulatedDriver):
    """By its clock the time-out is over after a quarter of it."""

    def __init__(
        self,
        world: World,
        options: SchedulerOptions,
        scheduler_type: type[Scheduler],
        judges: Sequence[Judge],
    ) -> None:
        super().__init__(world, options, scheduler_type, judges)
        self._clock = DriftingClock(lambda: world.now, rate=4.0)
