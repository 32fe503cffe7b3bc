"""Promise I17 in the simulator: what the check allows, what it does not, and that it can fail."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from noria.benchmarks.simulate.clocks import DriftingClock
from noria.benchmarks.simulate.cluster import WATCH_SECONDS
from noria.benchmarks.simulate.driver import SimulatedDriver
from noria.benchmarks.simulate.holders import WAKING_SECONDS, HolderLedger
from noria.benchmarks.simulate.ledger import Violation
from noria.benchmarks.simulate.settings import HOUR, MINUTE, Faults
from noria.benchmarks.simulate.workers import SimulatedNode, SimulatedWorker, Task
from noria.engine.scheduler.events import (
    Command,
    Grant,
    LeaseCut,
    LeaseEnded,
    LoseWorker,
    Revoke,
    Tick,
    WorkerLost,
)
from noria.manifests.model import Lease, LeaseEnd, LeaseKind, LeaseResult
from noria.workers.lease.worker import HOLD_WATCH_SECONDS
from noria.workers.runtime.hold import Hold
from tests.support.holder_mutants import (
    FollowsAtOnce,
    FourTimesTooFast,
    GivesAwayTheUnreachable,
    NeverEnds,
    NeverOver,
    RenewedWhenCalled,
    RenewedWhenSent,
)
from tests.support.simulated_worlds import CALM, HARSH, run_small

TIMEOUT = 60.0
SEEDS = range(24)
BEGINS = "begins a request later than half"
WRITES = "writes later than three quarters"
GRANTED = "has been granted, and nobody has told it"


# -- the check by itself ---------------------------------------------------------------------------


@dataclass
class TwoWorkers:
    """Workers a and b, heard last at 0. Worker a has attempt 1, of units 0 to 9 of shard 0."""

    rate: float = 1.0
    """Of the clocks of both."""
    ledger: HolderLedger = field(default_factory=lambda: HolderLedger(TIMEOUT))

    def __post_init__(self) -> None:
        node = SimulatedNode(0, DriftingClock(lambda: 0.0, rate=self.rate))
        self.a, self.b = (SimulatedWorker(name, node, 1e6, 2, Hold()) for name in "ab")
        self.ledger.note_heard(self.a, 0.0)
        self.ledger.note_heard(self.b, 0.0)
        self.task = task_of(self.a, 0, 10, attempt=1)
        self.tell(Grant(worker="a", lease=self.task.lease))

    def tell(self, *commands: Command) -> None:
        self.ledger.take(Tick(now=0.0), commands)

    def grant_to_b(self, first: int, end: int, *, generation: int = 0) -> Task:
        task = task_of(self.b, first, end, attempt=2, generation=generation)
        self.tell(Grant(worker="b", lease=task.lease))
        return task

    def found(self, task: Task, now: float) -> str:
        try:
            self.ledger.note_write(task, now)
        except Violation as violation:
            return str(violation)
        return ""


def task_of(
    worker: SimulatedWorker, first: int, end: int, *, attempt: int, generation: int = 0
) -> Task:
    lease = Lease(
        shard=0,
        kind=LeaseKind.PARTS,
        first=first,
        end=end,
        attempt=attempt,
        generation=generation,
    )
    return Task(
        lease, worker, [(first, end)], unit_bytes=1.0, unit_work=1.0, unit_lanes=1, transfers=8
    )


@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
def test_a_request_may_begin_for_half_of_the_timeout_by_the_workers_own_clock(rate: float) -> None:
    scene = TwoWorkers(rate=rate)
    assert not scene.found(scene.task, 30.0 / rate)
    assert BEGINS in scene.found(scene.task, 30.1 / rate)


@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
def test_what_is_in_flight_may_end_within_three_quarters(rate: float) -> None:
    scene = TwoWorkers(rate=rate)
    scene.task.stopped_at = 30.0 / rate
    assert not scene.found(scene.task, 45.0 / rate)
    assert WRITES in scene.found(scene.task, 45.1 / rate)


def test_time_counts_from_when_a_report_was_sent_that_was_heard() -> None:
    scene = TwoWorkers()
    scene.ledger.note_heard(scene.a, 20.0)
    assert not scene.found(scene.task, 50.0)
    assert BEGINS in scene.found(scene.task, 50.1)


def test_a_process_that_stood_still_has_a_moment_for_what_was_in_flight() -> None:
    scene = TwoWorkers()
    scene.task.stopped_at = 10.0
    scene.tell(LoseWorker(worker="a", cause="heartbeat_expired"))
    scene.grant_to_b(0, 10)
    scene.ledger.note_woken(scene.a, 100.0)
    assert not scene.found(scene.task, 100.2)
    assert WRITES in scene.found(scene.task, 100.3)
    scene.task.stopped_at = None
    assert BEGINS in scene.found(scene.task, 100.2), "but for nothing new"


@pytest.mark.parametrize("taken_for_dead", [False, True])
def test_nobody_writes_what_another_was_granted_unless_it_was_told(taken_for_dead: bool) -> None:
    scene = TwoWorkers()
    if taken_for_dead:
        scene.ledger.take(WorkerLost(now=0.0, worker="a"), [])
    else:
        scene.tell(LoseWorker(worker="a", cause="heartbeat_expired"))
    assert not scene.found(scene.task, 5.0)
    other = scene.grant_to_b(4, 6)
    assert GRANTED in scene.found(scene.task, 5.0)
    assert not scene.found(other, 5.0)


def test_what_was_handed_back_or_taken_back_may_be_granted_again() -> None:
    told: Sequence[Command] = [
        Revoke(worker="a", shard=0, first=0, attempt=1),
        LoseWorker(worker="a", cause="leases_failed"),
    ]
    for command in told:
        scene = TwoWorkers()
        scene.tell(command)
        scene.grant_to_b(0, 10)
        assert not scene.found(scene.task, 5.0)
    scene = TwoWorkers()
    lease = scene.task.lease
    result = LeaseResult(
        shard=0,
        kind=lease.kind,
        first=0,
        end=10,
        attempt=1,
        generation=0,
        how=LeaseEnd.RETURNED,
    )
    scene.ledger.take(LeaseEnded(now=0.0, worker="a", result=result), [])
    scene.tell(LoseWorker(worker="a", cause="heartbeat_expired"))
    scene.grant_to_b(0, 10)
    assert not scene.found(scene.task, 5.0)


def test_workers_of_an_earlier_driver_must_not_meet_those_of_the_next() -> None:
    scene = TwoWorkers()
    scene.ledger.begin_run([], {}, 1001)
    assert not scene.found(scene.task, 5.0)
    scene.grant_to_b(0, 10)
    assert GRANTED in scene.found(scene.task, 5.0)


def test_other_units_and_another_upload_are_other_places() -> None:
    scene = TwoWorkers()
    scene.ledger.take(LeaseCut(now=0.0, worker="a", shard=0, first=0, attempt=1, end=5), [])
    scene.tell(LoseWorker(worker="a", cause="heartbeat_expired"))
    scene.grant_to_b(5, 10)
    scene.grant_to_b(0, 10, generation=1)
    assert not scene.found(scene.task, 5.0)
    scene.grant_to_b(4, 10)
    assert GRANTED in scene.found(scene.task, 5.0)


# -- clocks ----------------------------------------------------------------------------------------


def test_a_clock_shows_a_time_of_its_own_at_a_rate_of_its_own() -> None:
    chance = random.Random(3)
    now = 0.0
    clocks = [DriftingClock.drawn(lambda: now, 0.1, chance) for _ in range(200)]
    shown = [clock() for clock in clocks]
    now = 1000.0
    rates = [(clock() - before) / 1000.0 for clock, before in zip(clocks, shown, strict=True)]
    assert rates == pytest.approx([clock.rate for clock in clocks])
    assert 0.9 <= min(rates) < 0.92
    assert 1.08 < max(rates) <= 1.1
    assert len(set(shown)) == len(shown)
    assert clocks[0].lasts(clocks[0].rate) == pytest.approx(1.0)
    assert DriftingClock.drawn(lambda: now, 0.0, chance)() == now


def test_a_simulated_worker_looks_at_its_hold_as_often_as_a_real_one() -> None:
    assert WATCH_SECONDS == WAKING_SECONDS == HOLD_WATCH_SECONDS


# -- whole worlds ----------------------------------------------------------------------------------

ONE_FAULT = {
    "node cut off": replace(CALM, node_cut_seconds=10 * MINUTE),
    "node frozen": replace(CALM, node_freeze_seconds=10 * MINUTE),
    "message late": replace(CALM, late_message_seconds=2 * MINUTE),
    "message lost": replace(CALM, lost_message_seconds=10 * MINUTE),
}


@pytest.mark.parametrize("what", ONE_FAULT)
def test_workers_stop_in_time_and_the_job_goes_on(what: str) -> None:
    """Of what they do nothing comes too late for their driver, but what they end by force."""
    run = run_small(1, replace(ONE_FAULT[what], clock_drift=0.1))
    assert run.violation is None
    assert run.figures.counts[what]
    assert run.figures.counts["hold over"]
    assert run.figures.counts["worker lost: heartbeat_expired"]


def test_a_driver_that_stands_still_gets_back_what_its_workers_held() -> None:
    run = run_small(1, replace(CALM, driver_pause_seconds=HOUR / 4, clock_drift=0.1))
    assert run.violation is None
    assert run.figures.counts["driver stood still"]
    assert run.figures.counts["hold over"]
    assert "worker lost: heartbeat_expired" not in run.figures.counts


HOLDS: dict[type[Hold], str] = {
    NeverOver: BEGINS,
    RenewedWhenSent: BEGINS,
    RenewedWhenCalled: BEGINS,
    NeverEnds: WRITES,
}
"""Faulty hold -> words of the violation that it is found by."""


@pytest.mark.parametrize("faulty", HOLDS, ids=lambda faulty: faulty.__name__)
def test_a_worker_that_goes_on_too_long_is_noticed(faulty: type[Hold]) -> None:
    assert_noticed(HOLDS[faulty], hold_type=faulty)


@pytest.mark.parametrize(
    "faulty", [GivesAwayTheUnreachable, FourTimesTooFast], ids=lambda faulty: faulty.__name__
)
def test_a_driver_that_gives_leases_away_too_early_is_noticed(
    faulty: type[SimulatedDriver],
) -> None:
    assert_noticed(GRANTED, driver_type=faulty)


def test_a_driver_that_does_not_wait_for_workers_of_the_last_one_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("noria.benchmarks.simulate.faults.RESTART_SECONDS", (1.0, 2.0))
    monkeypatch.setattr("noria.benchmarks.simulate.driver.START_SECONDS", (1.0, 2.0))
    often = replace(HARSH, driver_restart_seconds=10 * MINUTE, zombie_seconds=MINUTE)
    assert_noticed(GRANTED, often, driver_type=FollowsAtOnce)
    for seed in range(4):
        assert run_small(seed, often).violation is None


def test_clocks_that_run_further_apart_than_promised_are_noticed() -> None:
    assert_noticed(GRANTED, replace(HARSH, clock_drift=0.6))


def assert_noticed(
    words: str,
    faults: Faults = HARSH,
    *,
    hold_type: type[Hold] = Hold,
    driver_type: type[SimulatedDriver] = SimulatedDriver,
) -> None:
    found = []
    for seed in SEEDS:
        run = run_small(seed, faults, hold_type=hold_type, driver_type=driver_type)
        found.append(run.violation or "none")
        if words in found[-1]:
            return
    pytest.fail(f"it was not noticed: {found}")
