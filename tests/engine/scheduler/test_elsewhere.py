"""What fails on one host goes to another before it is believed."""

from __future__ import annotations

from noria.engine.scheduler.events import Grant, Quarantine, WorkerJoined, WorkerLost
from tests.support.scheduler_bench import OPTIONS, Bench, leases, objects, of_kind

REST = OPTIONS.retry_seconds


def join(bench: Bench, worker: str, host: str, hosts: int = 2) -> None:
    bench.tell(WorkerJoined(now=bench.now, worker=worker, slots=1, host=host, hosts=hosts))


def test_a_lease_of_the_only_host_is_its_last() -> None:
    bench = Bench(objects(0))
    join(bench, "1", "a", hosts=1)
    assert [grant.lease.is_last for grant in bench.heard(Grant)] == [True]


def test_a_host_that_is_first_has_not_the_last_word() -> None:
    bench = Bench(objects(0))
    join(bench, "1", "a")
    first = bench.heard(Grant)[0]
    assert not first.lease.is_last, "the other one has no worker yet"
    join(bench, "2", "b")
    bench.fail("1", first.lease)
    (second,) = of_kind(Grant, bench.wait(REST))
    assert (second.worker, second.lease.is_last) == ("2", True)


def test_with_two_hosts_the_first_attempt_is_not_the_last() -> None:
    bench = Bench(objects(0), objects(1))
    join(bench, "1", "a")
    join(bench, "2", "b")
    bench.finish("1", bench.heard(Grant)[0].lease)
    bench.fail("2", bench.heard(Grant)[1].lease)
    (third,) = of_kind(Grant, bench.wait(REST))
    assert (third.worker, third.lease.is_last) == ("1", True)


def test_what_failed_on_a_host_waits_for_another_that_is_busy() -> None:
    bench = Bench(objects(0), objects(1))
    join(bench, "1", "a")
    join(bench, "2", "b")
    ours, theirs = (grant.lease for grant in bench.heard(Grant))
    bench.fail("1", ours)
    assert not leases(bench.wait(REST)), "worker 1 is idle, but has failed"
    assert not leases(bench.wait(REST))
    bench.finish("2", theirs)
    (granted,) = of_kind(Grant, bench.wait(REST))
    assert (granted.worker, granted.lease.shard) == ("2", ours.shard)


def test_a_host_gets_it_again_once_no_other_is_left() -> None:
    bench = Bench(objects(0), objects(1))
    join(bench, "1", "a")
    join(bench, "2", "b")
    ours, theirs = (grant.lease for grant in bench.heard(Grant))
    bench.finish("2", theirs)
    bench.fail("1", ours)
    bench.tell(WorkerLost(now=bench.now, worker="2"))
    (granted,) = of_kind(Grant, bench.wait(REST))
    assert (granted.worker, granted.lease.is_last) == ("1", False), "another may come yet"


def test_the_last_of_all_attempts_is_the_last() -> None:
    bench = Bench(objects(0))
    for host in "abcd":
        join(bench, f"at {host}", host)
    seen = []
    for number in range(OPTIONS.attempts_per_span):
        grant = bench.heard(Grant)[-1]
        seen.append((grant.worker, grant.lease.is_last))
        bench.fail(grant.worker, grant.lease)
        bench.wait(REST * 2**number)
    assert [is_last for _, is_last in seen] == [False, True, True]
    assert len({worker for worker, _ in seen}) == OPTIONS.attempts_per_span
    assert len(bench.heard(Quarantine)) == 1
