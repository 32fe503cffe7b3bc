"""Whatever happens, in whatever order: no unit lost, none settled twice, none leased twice, an end.

Hypothesis makes up jobs, workers and events, honest and not. The ledger judges each answer. At the
end of each run workers come that behave, though slowly at first, and the job has to end. The same
properties are then put to schedulers with one fault each, and have to find it.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from noria.engine.scheduler.scheduler import Scheduler
from noria.engine.scheduler.state import LiveLease, Shard, WorkerState
from noria.manifests.model import LeaseResult
from tests.support.scheduler_machine import QUIET, SchedulerMachine


def test_no_unit_is_lost_or_settled_or_leased_twice() -> None:
    run_state_machine_as_test(SchedulerMachine, settings=settings(QUIET, max_examples=250))


# -- the properties themselves, put to the test ----------------------------------------------------


class WithoutFence(Scheduler):
    """Any result for a span is taken for that of its live lease."""

    def _held(self, worker: str, shard: int, first: int, attempt: int) -> LiveLease | None:
        for live_lease in self._live.values():
            if (live_lease.span.shard.plan.shard, live_lease.span.first) == (shard, first):
                return live_lease
        return None


class TrustsAnyWorker(Scheduler):
    """An attempt is enough to be heard, from whatever worker."""

    def _held(self, worker: str, shard: int, first: int, attempt: int) -> LiveLease | None:
        live_lease = self._live.get(attempt)
        return live_lease and super()._held(live_lease.worker.name, shard, first, attempt)


class ForgetsExpiry(Scheduler):
    def _expire_workers(self) -> None:
        pass


class ForgetsStalls(Scheduler):
    def _expire_stalled(self) -> None:
        pass


class ForgetsLostGrants(Scheduler):
    def _miss(self, live_lease: LiveLease) -> None:
        pass


class ForgetsTheRest(Scheduler):
    """A lease that ends early is taken for the whole span."""

    def _cut(self, live_lease: LiveLease, end: int) -> None:
        pass


class NeverWakes(Scheduler):
    """Spans that rest after a failure rest for ever."""

    def _advance(self, clock: float) -> None:
        self._table.backlog.wake = lambda now: None  # type: ignore[method-assign]
        super()._advance(clock)


class BelievesEveryResult(Scheduler):
    def _accept(self, live_lease: LiveLease, result: LeaseResult) -> None:
        self._settle(live_lease, result)


class LeavesOldUploadsLive(Scheduler):
    """A new generation begins while workers still feed the old upload."""

    def _void(self, shard: Shard) -> None:
        for span in shard.spans:
            if span.live_lease is not None:
                self._release(span.live_lease)
        super()._void(shard)


class OverfillsWorkers(Scheduler):
    def _note_room(self, worker: WorkerState) -> None:
        if worker.leaving:
            super()._note_room(worker)
        else:
            self._idle.setdefault(worker.name, worker)


class GrantsToLeaving(Scheduler):
    def _leave(self, worker: WorkerState) -> None:
        pass


class GrantsWhileDraining(Scheduler):
    def _drain(self) -> None:
        super()._drain()
        drain_at, self._drain_at = self._drain_at, None
        self._grant_ready()
        self._drain_at = drain_at


class FinishesTooSoon(Scheduler):
    """A drain does not wait for live leases."""

    def _finish_if_over(self) -> None:
        live, self._live = self._live, {} if self._drain_at is not None else self._live
        super()._finish_if_over()
        self._live = live


@pytest.mark.parametrize(
    "faulty",
    [
        WithoutFence,
        TrustsAnyWorker,
        ForgetsExpiry,
        ForgetsStalls,
        ForgetsLostGrants,
        ForgetsTheRest,
        NeverWakes,
        BelievesEveryResult,
        LeavesOldUploadsLive,
        OverfillsWorkers,
        GrantsToLeaving,
        GrantsWhileDraining,
        FinishesTooSoon,
    ],
)
def test_the_properties_find_a_fault(faulty: type[Scheduler]) -> None:
    class FaultyMachine(SchedulerMachine):
        scheduler_type = faulty

    hunt = settings(QUIET, max_examples=1500, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(FaultyMachine, settings=hunt)
