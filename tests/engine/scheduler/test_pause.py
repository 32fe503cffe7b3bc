"""In a pause nothing is granted or split; afterwards all goes on, and nothing has failed."""

from __future__ import annotations

from noria.engine.scheduler.events import Finish, Grant, Pause, SealLease, Split, WorkerLost
from noria.manifests.model import LeaseEnd
from tests.support.scheduler_bench import Bench, leases, objects
from tests.support.scheduler_ledger import progress_of


def test_nothing_is_granted_and_what_comes_back_waits_for_nobody_afterwards() -> None:
    bench = Bench(*map(objects, range(3)))
    one, two = bench.join("a", slots=2)
    assert bench.tell(Pause(now=bench.now, on=True)) == []
    assert bench.fail("a", one, LeaseEnd.RETURNED) == []
    assert [type(each) for each in bench.finish("a", two)] == [SealLease]
    assert bench.join("b") == []
    assert bench.wait(5) == []
    assert bench.counts() == (2, 0, 1, 0)
    granted = bench.tell(Pause(now=bench.now, on=False))
    assert [type(each) for each in granted] == [Grant, Grant]
    assert {lease.attempt for lease in leases(granted)}.isdisjoint({one.attempt, two.attempt})


def test_a_lease_is_not_split_in_a_pause() -> None:
    bench = Bench(objects(1, 1000))
    (lease,) = bench.join("a")
    bench.join("b")

    def go_on(units: int) -> None:
        bench.report("a", progress_of(lease, units=units))
        bench.report("b", free_places=1)
        bench.wait(1)

    bench.tell(Pause(now=bench.now, on=True))
    for second in range(30):
        go_on(second)
    assert bench.heard(Split) == []
    bench.tell(Pause(now=bench.now, on=False))
    for second in range(30, 40):
        go_on(second)
    assert bench.heard(Split), "otherwise it would have been"


def test_a_pause_of_days_makes_nobody_late() -> None:
    bench = Bench(*map(objects, range(2)))
    one, two = bench.join("a", slots=2)
    bench.tell(Pause(now=bench.now, on=True))
    for lease in (one, two):
        bench.fail("a", lease, LeaseEnd.RETURNED)
    for _ in range(500):
        bench.wait(10)
        assert bench.report("a") == []
    assert len(leases(bench.tell(Pause(now=bench.now, on=False)))) == 2
    assert bench.counts() == (0, 2, 0, 0)


def test_a_job_whose_last_lease_ends_in_a_pause_is_done() -> None:
    bench = Bench(objects(1))
    (lease,) = bench.join("a")
    bench.tell(Pause(now=bench.now, on=True))
    assert [type(each) for each in bench.finish("a", lease)] == [SealLease, Finish]


def test_what_a_lost_worker_held_waits_for_the_end_of_the_pause() -> None:
    bench = Bench(objects(1))
    bench.join("a")
    bench.join("b")
    bench.tell(Pause(now=bench.now, on=True))
    assert bench.tell(WorkerLost(now=bench.now, worker="a")) == []
    assert len(leases(bench.tell(Pause(now=bench.now, on=False)))) == 1
