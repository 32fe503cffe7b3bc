"""The simulator's checks, put to the test: schedulers with one fault each are noticed.

Each is noticed for what it does. The unharmed one passes the same seeds.
"""

from __future__ import annotations

import pytest

from noria.engine.scheduler.scheduler import Scheduler
from tests.support.scheduler_mutants import (
    BelievesEveryResult,
    ExpiresTooSoon,
    FinishesTooSoon,
    ForgetsExpiry,
    ForgetsGenerations,
    ForgetsLostGrants,
    ForgetsStalls,
    ForgetsTheRest,
    ForgetsWhatIsSealed,
    GrantsToLeaving,
    GrantsTwice,
    KeepsLeasesOfTheLost,
    KeepsVoidSeals,
    LeavesOldUploadsLive,
    NeverQuarantines,
    NeverWakes,
    OverfillsWorkers,
    QuarantinesTheSettled,
    RepeatsAttempts,
    RevokesAtEveryReport,
    SaysNoGeneration,
    SealsNothing,
    SealsTheFenced,
    SplitsNothingOff,
    VoidsAtEveryFailure,
    WithoutFence,
)
from tests.support.simulated_worlds import run_small

SEEDS = range(24)

NOTICED: dict[type[Scheduler], str] = {
    WithoutFence: "no upload was lost",
    SealsTheFenced: "sealed that does not count",
    ForgetsExpiry: "silent beyond its expiry",
    ExpiresTooSoon: "lost that was heard of",
    KeepsLeasesOfTheLost: "a split of what is not leased",
    ForgetsStalls: "has stalled and is not revoked",
    ForgetsLostGrants: "never got to its worker",
    ForgetsTheRest: "a split of what is not leased so",
    NeverWakes: "the end is not reached",
    BelievesEveryResult: "sealed that does not count",
    SealsNothing: "not answered: SealLease",
    KeepsVoidSeals: "completed before its last part",
    LeavesOldUploadsLive: "leases of the last one are live",
    VoidsAtEveryFailure: "no upload was lost",
    NeverQuarantines: "failed 5 times, and is leased again",
    QuarantinesTheSettled: "quarantined",
    GrantsTwice: "are leased twice",
    OverfillsWorkers: "gone, leaving or full",
    GrantsToLeaving: "gone, leaving or full",
    ForgetsWhatIsSealed: "are leased, and sealed already",
    ForgetsGenerations: "a lease of an old generation",
    RepeatsAttempts: "an attempt's number comes again",
    FinishesTooSoon: "is lost: the run ends without it",
    SplitsNothingOff: "a split of what is not leased",
    RevokesAtEveryReport: "bytes were moved again",
    SaysNoGeneration: "not answered: NewGeneration",
}
"""Faulty scheduler -> words of the violation that it is found by."""


@pytest.mark.parametrize("faulty", NOTICED, ids=lambda faulty: faulty.__name__)
def test_a_fault_of_the_scheduler_is_noticed(faulty: type[Scheduler]) -> None:
    found = []
    for seed in SEEDS:
        found.append(violation_of(seed, faulty) or "none")
        if NOTICED[faulty] in found[-1]:
            return
    pytest.fail(f"it was not noticed: {found}")


def violation_of(seed: int, faulty: type[Scheduler]) -> str | None:
    return run_small(seed, scheduler_type=faulty).violation


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_fault_the_same_seeds_pass(seed: int) -> None:
    assert violation_of(seed, Scheduler) is None
