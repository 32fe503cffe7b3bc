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
from tests.support.scheduler_machine import QUIET, SchedulerMachine
from tests.support.scheduler_mutants import (
    BelievesEveryResult,
    DrainsTooSoon,
    FeedsTheHungryFirst,
    ForgetsExpiry,
    ForgetsLostGrants,
    ForgetsStalls,
    ForgetsTheRest,
    GrantsWhileDraining,
    GrowsUnasked,
    KeepsLeavingReady,
    LeavesOldUploadsLive,
    NeverWakes,
    OverfillsWorkers,
    TrustsAnyWorker,
    WithoutFence,
)


def test_no_unit_is_lost_or_settled_or_leased_twice() -> None:
    run_state_machine_as_test(SchedulerMachine, settings=settings(QUIET, max_examples=250))


# -- the properties themselves, put to the test ----------------------------------------------------


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
        GrowsUnasked,
        FeedsTheHungryFirst,
        KeepsLeavingReady,
        GrantsWhileDraining,
        DrainsTooSoon,
    ],
)
def test_the_properties_find_a_fault(faulty: type[Scheduler]) -> None:
    class FaultyMachine(SchedulerMachine):
        scheduler_type = faulty

    hunt = settings(QUIET, max_examples=1500, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(FaultyMachine, settings=hunt)
