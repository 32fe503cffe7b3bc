"""What the scheduler does when workers, uploads or whole runs fail, slow down or leave."""

from __future__ import annotations

from typing import Any

import pytest

from noria.engine.scheduler.events import (
    Drain,
    Finish,
    Grant,
    LoseWorker,
    NewGeneration,
    Quarantine,
    Revoke,
    SealLease,
    Split,
    Stop,
    WorkerDraining,
    WorkerLost,
)
from noria.engine.scheduler.scheduler import SchedulerOptions
from noria.manifests.errors import ConfigurationError
from noria.manifests.model import (
    Lease,
    LeaseEnd,
    LeaseKind,
)
from tests.support.scheduler_bench import Bench, leases, objects, of_kind, parts, sealed, spans
from tests.support.scheduler_ledger import cut_of, progress_of, result_of

# -- workers that are lost, silent, stuck or broken ------------------------------------------------


def test_a_lost_worker_costs_an_attempt_and_its_work_goes_on_at_once() -> None:
    bench = Bench(objects(1))
    for worker in ("a", "b"):
        bench.join(worker)
        assert bench.tell(WorkerLost(now=bench.now, worker=worker)) == []
    bench.join("c")
    given_up, finish = bench.tell(WorkerLost(now=bench.now, worker="c"))
    assert isinstance(given_up, Quarantine)
    assert given_up.cause == "worker_lost"
    assert finish == Finish()


def test_nodes_that_come_and_go_do_not_use_up_what_gets_ahead() -> None:
    bench = Bench(objects(1, units=100))
    for done in (20, 40, 60, 70, 80, 90):
        (lease,) = bench.join("a")
        bench.report("a", progress_of(lease, units=done))
        assert bench.tell(WorkerLost(now=bench.now, worker="a")) == []


@pytest.mark.parametrize("done", [(60, 60, 64, 64), (60, 10, 0, 60), (10**9, 10**9, 10**9, 0)])
def test_what_kills_its_workers_stops_to_get_ahead_and_is_given_up(done: tuple[int, ...]) -> None:
    bench = Bench(objects(1, units=100))
    for units in done:
        (lease,) = bench.join("a")
        bench.report("a", progress_of(lease, units=units))
        bench.tell(WorkerLost(now=bench.now, worker="a"))
    assert [given_up.cause for given_up in bench.heard(Quarantine)] == ["worker_lost"]


def test_what_a_leaving_worker_takes_along_has_not_failed() -> None:
    bench = Bench(objects(1))
    for _ in range(5):
        bench.join("a")
        bench.tell(WorkerDraining(now=bench.now, worker="a"))
        assert bench.tell(WorkerLost(now=bench.now, worker="a")) == []


def test_a_silent_worker_is_lost_and_its_work_given_to_another() -> None:
    bench = Bench(objects(1))
    (lease,) = bench.join("a")
    bench.wait(30)
    bench.join("b")
    bench.report("a", progress_of(lease))
    bench.wait(30)
    bench.report("b")
    assert of_kind(LoseWorker, bench.wait(29)) == []
    lost, grant = bench.wait(1)
    assert lost == LoseWorker(worker="a", cause="heartbeat_expired")
    assert isinstance(grant, Grant)
    assert grant.worker == "b"


def test_nobody_is_late_while_the_driver_itself_stood_still() -> None:
    bench = Bench(objects(1), max_clock_gap_seconds=20)
    (lease,) = bench.join("a")
    assert bench.wait(3600) == []
    bench.report("a", progress_of(lease, units=1))
    for _ in range(2):
        assert bench.wait(3600) == []
    assert [type(command) for command in bench.wait(3600)] == [LoseWorker]


def test_time_never_runs_backwards() -> None:
    bench = Bench(objects(1))
    bench.join("a")
    bench.wait(50)
    bench.wait(-40)
    assert bench.wait(40 + 9) == []
    assert len(bench.wait(1)) == 1


def test_a_grant_that_two_reports_do_not_name_is_lost() -> None:
    bench = Bench(objects(1), retry_seconds=0)
    (lost,) = bench.join("a")
    assert bench.report("a") == [], "it may have crossed the grant"
    revoke, *rest = bench.report("a")
    assert revoke == Revoke(worker="a", shard=1, first=0, attempt=lost.attempt)
    assert rest == [], "its slot is taken until it is seen to be free"
    assert spans(leases(bench.report("a"))) == [(1, 0, 10)]
    assert bench.finish("a", lost) == []


def test_a_report_that_names_the_lease_forgives_the_one_before() -> None:
    bench = Bench(objects(1))
    (lease,) = bench.join("a")
    for _ in range(3):
        assert bench.report("a") == []
        assert bench.report("a", progress_of(lease)) == []


def test_a_lease_without_progress_is_revoked_and_slow_progress_is_enough() -> None:
    bench = Bench(objects(1), objects(2))
    stuck, slow = bench.join("a", slots=2)
    for units in range(29):
        bench.report("a", progress_of(stuck), progress_of(slow, units=units // 10))
        assert bench.wait(10) == []
    bench.report("a", progress_of(stuck), progress_of(slow, units=3))
    (revoke,) = bench.wait(10)
    assert revoke == Revoke(worker="a", shard=1, first=0, attempt=stuck.attempt)
    assert bench.finish("a", stuck) == []


def test_a_revoked_lease_keeps_its_slot_until_the_worker_lets_go() -> None:
    bench = Bench(objects(1), stall_seconds=20, retry_seconds=0)
    (stuck,) = bench.join("a")
    bench.report("a", progress_of(stuck))
    assert [type(command) for command in bench.wait(20)] == [Revoke]
    assert [type(command) for command in bench.report("a", progress_of(stuck))] == [Revoke]
    assert len(leases(bench.fail("a", stuck, LeaseEnd.RETURNED))) == 1


def test_a_worker_that_ignores_a_revoke_is_ended() -> None:
    bench = Bench(objects(1), objects(2, size=1), stall_seconds=20)
    (stuck,) = bench.join("a")
    bench.report("a", progress_of(stuck))
    bench.wait(20)
    for _ in range(3):
        bench.wait(30)
        assert bench.heard(LoseWorker) == []
        bench.report("a", progress_of(stuck))
    bench.wait(10)
    bench.report("a", progress_of(stuck))
    assert bench.heard(LoseWorker) == [LoseWorker(worker="a", cause="revoke_ignored")]


def test_a_worker_that_fails_on_several_shards_is_ended_and_its_other_work_unharmed() -> None:
    bench = Bench(*map(objects, range(5)), attempts_per_span=2)
    bystander, *failing = bench.join("bad", slots=4)
    for lease in failing[:2]:
        assert of_kind(LoseWorker, bench.fail("bad", lease)) == []
    (lost,) = of_kind(LoseWorker, bench.fail("bad", failing[2]))
    assert lost == LoseWorker(worker="bad", cause="leases_failed")
    (lease,) = bench.join("good")
    assert lease.shard == bystander.shard
    bench.fail("good", lease)
    assert bench.heard(Quarantine) == [], "it had one failure, of two"


def test_a_success_clears_a_workers_record() -> None:
    bench = Bench(*map(objects, range(9)))
    (lease,) = bench.join("a")
    for _ in range(3):
        (lease,) = leases(bench.fail("a", lease))
        (lease,) = leases(bench.finish("a", lease))
    assert bench.heard(LoseWorker) == []


def test_failures_on_one_shard_are_the_shards() -> None:
    bench = Bench(objects(1), attempts_per_span=9, retry_seconds=0)
    (lease,) = bench.join("a")
    for _ in range(8):
        (lease,) = leases(bench.fail("a", lease))
    assert bench.heard(LoseWorker) == []


# -- an upload that is lost ------------------------------------------------------------------------


def test_a_lost_upload_voids_what_was_settled_and_revokes_what_is_live() -> None:
    bench = Bench(parts(1, 9, 3))
    first, second, third = bench.join("a", slots=3)
    bench.finish("a", first)
    commands = bench.fail("a", third, LeaseEnd.UPLOAD_LOST)
    revoke, new, *grants = commands
    assert revoke == Revoke(worker="a", shard=1, first=3, attempt=second.attempt)
    assert new == NewGeneration(shard=1, generation=1)
    assert spans(leases(grants)) == [(1, 0, 3), (1, 3, 6)], "one slot is still held"
    assert {lease.generation for lease in leases(grants)} == {1}
    assert of_kind(SealLease, bench.finish("a", second)) == []
    assert bench.scheduler.units()["settled"] == 0


def test_an_upload_lost_at_its_completion_begins_again_too() -> None:
    bench = Bench(parts(1, 4, 2), settled=[sealed(1, 0, 4, LeaseKind.PARTS)])
    (assembly,) = bench.join("a")
    new, *grants = bench.fail("a", assembly, LeaseEnd.UPLOAD_LOST)
    assert new == NewGeneration(shard=1, generation=1)
    assert spans(leases(grants)) == [(1, 0, 2)]


def test_a_shard_that_loses_every_upload_is_quarantined() -> None:
    bench = Bench(parts(1, 4, 4))
    (lease,) = bench.join("a")
    for _ in range(2):
        (lease,) = leases(bench.fail("a", lease, LeaseEnd.UPLOAD_LOST))
    assert bench.fail("a", lease, LeaseEnd.UPLOAD_LOST) == [
        NewGeneration(shard=1, generation=3),
        Quarantine(shard=1, kind=LeaseKind.PARTS, first=0, end=4, cause="upload_lost"),
        Finish(),
    ]


def test_a_quarantined_part_stays_so_in_a_new_generation() -> None:
    bench = Bench(parts(1, 6, 2), attempts_per_span=2, retry_seconds=0)
    _, middle, last = bench.join("a", slots=3)
    (middle,) = leases(bench.fail("a", middle))
    bench.fail("a", middle)
    bench.fail("a", last, LeaseEnd.UPLOAD_LOST)
    bench.report("a")
    live = sorted(spans(lease for _, lease in bench.scheduler.live()))
    assert live == [(1, 0, 2), (1, 4, 6)]


# -- the tail --------------------------------------------------------------------------------------


def tail(**changes: Any) -> tuple[Bench, Lease, Lease]:
    """Two leases of 100 units, 50 and 11 of them done after 100 s; worker c is idle."""
    bench = Bench(objects(1, units=100), objects(2, units=100), **changes)
    (fast,) = bench.join("a")
    (slow,) = bench.join("b")
    bench.report("a", progress_of(fast))
    bench.report("b", progress_of(slow))
    bench.now += 50
    bench.report("a", progress_of(fast, units=25))
    bench.report("b", progress_of(slow, units=5))
    bench.now += 50
    bench.report("a", progress_of(fast, units=50))
    bench.report("b", progress_of(slow, units=11))
    bench.join("c")
    return bench, fast, slow


def test_the_lease_that_would_end_last_is_halved_for_an_idle_worker() -> None:
    bench, _, slow = tail()
    (split,) = bench.wait(0)
    assert split == Split(worker="b", shard=2, first=0, attempt=slow.attempt, end=56)
    (grant,) = of_kind(Grant, bench.tell(cut_of(bench.now, "b", slow, 60)))
    assert (grant.worker, *spans([grant.lease])) == ("c", (2, 60, 100))
    assert of_kind(SealLease, bench.end("b", result_of(slow, end=60)))


def test_each_worker_that_holds_nothing_asks_for_one_split() -> None:
    bench, fast, slow = tail()
    bench.join("d", slots=5)
    assert [split.attempt for split in of_kind(Split, bench.wait(0))] == [
        slow.attempt,
        fast.attempt,
    ]
    assert bench.wait(1) == [], "both are asked already"


def test_a_split_may_be_asked_for_again_after_its_time_out() -> None:
    bench, _, slow = tail()
    assert len(bench.wait(0)) == 1
    assert bench.tell(cut_of(bench.now, "b", slow, 100)) == [], "refused"
    assert bench.wait(19) == []
    assert len(bench.wait(1)) == 1


def test_a_split_that_was_answered_may_be_followed_by_another() -> None:
    bench, _, slow = tail()
    bench.wait(0)
    bench.tell(cut_of(bench.now, "b", slow, 56))
    bench.join("d")
    (split,) = of_kind(Split, bench.wait(0))
    assert (split.attempt, split.end) == (slow.attempt, 34)


def test_nothing_is_split_for_a_worker_that_gets_what_another_lost() -> None:
    bench, fast, _ = tail()
    bench.wait(0)
    bench.now += 20
    bench.report("a", progress_of(fast, units=51))
    bench.report("c")
    (lost, grant) = bench.wait(40)
    assert isinstance(lost, LoseWorker)
    assert isinstance(grant, Grant)
    assert (lost.worker, grant.worker) == ("b", "c")


def test_an_end_seen_in_a_report_is_a_cut() -> None:
    bench, _, slow = tail()
    commands = bench.report("b", progress_of(slow, end=70, units=10))
    assert spans(leases(commands)) == [(2, 70, 100)]
    assert [lease.end for _, lease in bench.scheduler.live()] == [100, 70, 100]


def test_a_result_past_its_cut_is_not_sealed() -> None:
    bench, _, slow = tail()
    bench.tell(cut_of(bench.now, "b", slow, 60))
    assert of_kind(SealLease, bench.end("b", result_of(slow, end=100))) == []


def test_nothing_is_split_while_work_is_ready_or_nobody_idle() -> None:
    bench = Bench(objects(1, units=100), objects(2, units=100))
    (lease,) = bench.join("a")
    for units in range(50):
        bench.report("a", progress_of(lease, units=units))
        assert bench.wait(10) == []


def test_a_lease_is_split_for_a_hungry_worker_and_never_for_its_own() -> None:
    bench = Bench(objects(1, units=100), objects(2, units=100))
    (one,) = bench.join("a", slots=1)
    (two,) = bench.join("b", slots=1)
    bench.report("a", progress_of(one))
    bench.report("b", progress_of(two))
    bench.now += 40
    bench.report("a", progress_of(one, units=20))
    bench.report("b", progress_of(two, units=10), free_places=3)
    (split,) = of_kind(Split, bench.wait(0))
    assert (split.worker, split.end) == ("a", 60), "b would not gain by half of its own"
    (grant,) = of_kind(Grant, bench.tell(cut_of(bench.now, "a", one, 60)))
    assert grant.worker == "b"


def test_a_worker_alone_or_fed_has_nothing_split_for_it() -> None:
    bench = Bench(objects(1, units=100))
    (lease,) = bench.join("a", slots=2)
    bench.report("a", progress_of(lease))
    bench.now += 40
    bench.report("a", progress_of(lease, units=10), free_places=3)
    assert bench.wait(0) == []
    bench.join("b", slots=0)
    assert bench.wait(0) == []


def test_a_large_lease_is_halved_before_its_pace_is_known() -> None:
    bench = Bench(parts(1, units=100, each=100), min_split_bytes=500)
    (lease,) = bench.join("a")
    assert of_kind(Split, bench.wait(0)) == []
    bench.join("b")
    (split,) = of_kind(Split, bench.wait(0))
    assert (split.attempt, split.end) == (lease.attempt, 50)
    bench = Bench(parts(1, units=100, each=100), min_split_bytes=501)
    bench.join("a")
    bench.join("b")
    assert bench.wait(0) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"split_seconds": 810}, "it ends soon"),
        ({"min_split_units": 46}, "a half is too small"),
    ],
    ids=["soon", "small"],
)
def test_a_lease_is_not_split_when(changes: dict[str, Any], why: str) -> None:
    bench, *_ = tail(**changes)
    assert bench.wait(0) == [], why


def test_a_new_lease_is_not_judged_before_it_has_had_time() -> None:
    bench = Bench(objects(1, units=100))
    (lease,) = bench.join("a")
    bench.join("b")
    bench.report("a", progress_of(lease))
    assert bench.wait(29) == []
    bench.report("a", progress_of(lease))
    assert len(of_kind(Split, bench.wait(1))) == 1


def test_what_an_earlier_attempt_did_says_nothing_of_the_pace() -> None:
    bench = Bench(objects(1, units=100))
    (lease,) = bench.join("a")
    bench.join("b")
    bench.report("a", progress_of(lease, units=90))
    bench.now += 25
    bench.report("a", progress_of(lease, units=91))
    assert len(of_kind(Split, bench.wait(0))) == 1, "9 units at 25 s each"


# -- leaving, draining, stopping -------------------------------------------------------------------


def test_a_draining_worker_ends_what_it_has_and_gets_nothing_more() -> None:
    bench = Bench(objects(1), objects(2))
    (lease,) = bench.join("a")
    bench.tell(WorkerDraining(now=bench.now, worker="a"))
    assert [type(command) for command in bench.finish("a", lease)] == [SealLease]
    assert bench.counts() == (1, 0, 1, 0)


def test_a_drain_waits_for_live_leases_and_grants_nothing() -> None:
    bench = Bench(*map(objects, range(3)))
    one, two = bench.join("a", slots=2)
    assert bench.tell(Drain(now=bench.now)) == []
    assert bench.join("b") == []
    assert [type(command) for command in bench.finish("a", one)] == [SealLease]
    assert bench.fail("a", two, LeaseEnd.RETURNED) == [Finish()]
    assert not bench.scheduler.complete
    assert bench.counts() == (2, 0, 1, 0)


def test_a_drain_that_takes_too_long_revokes() -> None:
    bench = Bench(objects(1))
    (lease,) = bench.join("a")
    bench.tell(Drain(now=bench.now))
    bench.wait(59)
    bench.report("a", progress_of(lease))
    assert bench.tell(Drain(now=bench.now)) == [], "asking again wins no time"
    bench.wait(59)
    bench.report("a", progress_of(lease))
    assert bench.wait(1) == []
    revoke = Revoke(worker="a", shard=1, first=0, attempt=lease.attempt)
    assert bench.wait(1) == [revoke, Finish()]


def test_a_fatal_result_stops_once_and_drains() -> None:
    bench = Bench(*map(objects, range(3)))
    one, two, three = bench.join("a", slots=3)
    (stop,) = bench.fail("a", one, LeaseEnd.FATAL)
    assert stop == Stop(cause="unavailable", message="unavailable")
    assert bench.fail("a", two, LeaseEnd.FATAL) == []
    assert bench.finish("a", three) == [SealLease(result=result_of(three)), Finish()]
    assert bench.counts() == (2, 0, 1, 0)


def test_work_without_workers_waits_and_does_not_finish() -> None:
    bench = Bench(objects(1))
    assert bench.wait(1e6) == []
    assert bench.counts() == (1, 0, 0, 0)
    (lease,) = bench.join("a")
    assert bench.finish("a", lease) == [SealLease(result=result_of(lease)), Finish()]


def test_a_drain_without_workers_finishes() -> None:
    bench = Bench(objects(1))
    assert bench.tell(Drain(now=bench.now)) == [Finish()]


def test_a_job_without_work_finishes_with_the_first_event() -> None:
    bench = Bench()
    assert bench.scheduler.complete
    assert bench.wait(0) == [Finish()]


def test_a_bound_of_zero_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="stall_seconds"):
        SchedulerOptions(stall_seconds=0)
    assert SchedulerOptions(retry_seconds=0, split_seconds=0, drain_timeout_seconds=0)
