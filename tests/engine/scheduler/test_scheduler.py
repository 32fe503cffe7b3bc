"""What the scheduler grants, what it accepts, and what it refuses to hear."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from noria.engine.scheduler.events import (
    Finish,
    Grant,
    Quarantine,
    SealLease,
    WorkerDraining,
    WorkerLost,
)
from noria.engine.scheduler.scheduler import SettledSpan
from noria.manifests.errors import JobDirectoryError
from noria.manifests.model import (
    LeaseEnd,
    LeaseKind,
    LeaseProgress,
)
from tests.support.scheduler_bench import Bench, leases, objects, of_kind, parts, sealed, spans
from tests.support.scheduler_ledger import cut_of, progress_of, result_of

# -- what is granted -------------------------------------------------------------------------------


def test_the_biggest_goes_first_and_ties_go_by_place() -> None:
    bench = Bench(objects(4, size=5), objects(3, size=5), objects(1, size=9), parts(2, 2, 1))
    assert spans(bench.join("a", slots=9)) == [
        (2, 0, 1),
        (2, 1, 2),
        (1, 0, 10),
        (3, 0, 10),
        (4, 0, 10),
    ]


def test_a_lease_carries_a_growing_attempt_and_its_generation() -> None:
    bench = Bench(objects(1), parts(2, 10, 5), generations={2: 3})
    granted = bench.join("a", slots=9)
    assert [lease.attempt for lease in granted] == [501, 502, 503]
    assert {lease.kind: lease.generation for lease in granted} == {
        LeaseKind.OBJECTS: 0,
        LeaseKind.PARTS: 3,
    }


def test_the_window_is_what_the_worker_offers_within_the_limit() -> None:
    bench = Bench(*map(objects, range(9)), leases_per_worker=3)
    assert len(bench.join("a", slots=2)) == 2
    assert len(bench.join("b", slots=8)) == 3
    assert bench.join("c", slots=0) == []
    assert bench.counts() == (4, 5, 0, 0)


def test_what_comes_back_goes_to_whom_waits_longest() -> None:
    bench = Bench(objects(1), objects(2))
    bench.join("a", slots=2)
    for worker in ("b", "c"):
        bench.join(worker)
    again = of_kind(Grant, bench.tell(WorkerLost(now=bench.now, worker="a")))
    assert [(grant.worker, grant.lease.shard) for grant in again] == [("b", 1), ("c", 2)]


def test_a_worker_that_holds_nothing_goes_before_one_with_a_free_slot() -> None:
    bench = Bench(objects(1), objects(2))
    (lease,) = bench.join("a", slots=1)
    bench.join("b", slots=3)
    bench.join("c", slots=1)
    (grant,) = of_kind(Grant, bench.fail("a", lease, LeaseEnd.UPLOAD_LOST)) or of_kind(
        Grant, bench.wait(10)
    )
    assert grant.worker == "c"


# -- hunger ----------------------------------------------------------------------------------------


def hungry_bench(shards: int = 99, **changes: Any) -> Bench:
    """Worker a has two slots, both full."""
    bench = Bench(*map(objects, range(shards)), **changes)
    bench.join("a", slots=2)
    return bench


def held(bench: Bench, worker: str = "a") -> list[LeaseProgress]:
    """What a worker reports of the leases that it holds."""
    return [progress_of(lease) for name, lease in bench.scheduler.live() if name == worker]


def report_hunger(bench: Bench, free_places: int) -> int:
    """Returns how many leases that brings."""
    return len(leases(bench.report("a", *held(bench), free_places=free_places)))


def test_a_hungry_worker_may_hold_four_times_as_many_leases_each_time() -> None:
    bench = hungry_bench()
    assert [report_hunger(bench, 100) for _ in range(4)] == [6, 24, 32, 0]


def test_a_worker_is_given_no_more_leases_than_it_has_places_for() -> None:
    bench = hungry_bench()
    assert [report_hunger(bench, places) for places in (1, 2, 0, 0)] == [1, 2, 0, 0]


def test_a_report_that_crossed_a_grant_says_nothing_of_hunger() -> None:
    bench = hungry_bench()
    assert leases(bench.report("a", *held(bench)[:1], free_places=9)) == []
    assert report_hunger(bench, 9) == 6


def test_hunger_goes_no_further_than_the_bound() -> None:
    bench = hungry_bench(leases_per_worker=3)
    assert [report_hunger(bench, 100) for _ in range(3)] == [1, 0, 0]


def test_what_fed_a_worker_is_kept_up_and_then_made_less_one_by_one() -> None:
    bench = hungry_bench(hunger_seconds=10)
    assert report_hunger(bench, 2) == 2
    (first, *_), _ = [lease for _, lease in bench.scheduler.live()], None
    assert len(leases(bench.finish("a", first))) == 1, "four leases still"
    brought = []
    for _ in range(4):
        bench.now += 10
        report_hunger(bench, 0)
        first = next(lease for _, lease in bench.scheduler.live())
        brought.append(len(leases(bench.finish("a", first))))
    assert brought == [0, 0, 1, 1], "three, two, and no less than its slots"


def test_free_slots_go_before_hunger() -> None:
    bench = hungry_bench(shards=3)
    bench.join("b", slots=3)
    assert report_hunger(bench, 9) == 0, "it may hold four, and nothing is ready"
    bench.report("b", *held(bench, "b"), free_places=1)
    (lease,) = [lease for name, lease in bench.scheduler.live() if name == "b"]
    (grant,) = of_kind(Grant, bench.tell(cut_of(bench.now, "b", lease, 5)))
    assert grant.worker == "b"


def test_the_last_leases_wait_for_workers_that_have_nothing_to_do() -> None:
    bench = Bench(*map(objects, range(4)))
    first, _ = bench.join("a", slots=2)
    bench.join("b", slots=2)
    assert bench.counts() == (1, 3, 0, 0), "b has one, and enough for now"
    assert leases(bench.finish("a", first)) == [], "so has a"
    (lease,) = [lease for name, lease in bench.scheduler.live() if name == "b"]
    assert len(leases(bench.finish("b", lease))) == 1


def test_a_fed_worker_is_given_more_than_it_needs_while_there_is_plenty() -> None:
    bench = Bench(*map(objects, range(6)))
    bench.join("a", slots=2)
    assert len(bench.join("b", slots=2)) == 2
    assert bench.counts() == (2, 4, 0, 0)


# -- what earlier runs have settled ----------------------------------------------------------------


def test_only_gaps_between_seals_are_granted() -> None:
    bench = Bench(objects(1), settled=[sealed(1, 6, 8), sealed(1, 0, 3)])
    assert sorted(spans(bench.join("a", slots=9))) == [(1, 3, 6), (1, 8, 10)]
    assert bench.scheduler.units() == {
        "pending": 0,
        "leased": 5,
        "settled": 5,
        "quarantined": 0,
    }


def test_gaps_of_parts_are_cut_into_leases() -> None:
    bench = Bench(parts(1, 10, 3), settled=[sealed(1, 0, 2, LeaseKind.PARTS)])
    assert sorted(spans(bench.join("a", slots=9))) == [(1, 2, 5), (1, 5, 8), (1, 8, 10)]


def test_an_upload_with_all_its_parts_only_has_to_be_completed() -> None:
    bench = Bench(parts(1), settled=[sealed(1, 0, 10, LeaseKind.PARTS)])
    (lease,) = bench.join("a")
    assert (lease.kind, lease.first, lease.end) == (LeaseKind.ASSEMBLE, 0, 0)
    assert not bench.scheduler.is_settled(1)


def test_an_assembled_object_is_done_whatever_became_of_the_seals_of_its_parts() -> None:
    seals = [sealed(1, 0, 0, LeaseKind.ASSEMBLE), sealed(1, 5, 10, LeaseKind.PARTS)]
    bench = Bench(parts(1), settled=seals)
    assert bench.scheduler.is_settled(1)
    assert bench.scheduler.complete
    assert bench.wait(1) == [Finish()]


@pytest.mark.parametrize(
    ("seals", "message"),
    [
        ([sealed(1, 0, 5), sealed(1, 4, 6)], "overlap"),
        ([sealed(1, 5, 11)], "exceed"),
        ([sealed(1, 5, 5)], "overlap"),
        ([sealed(7, 0, 1)], "not in the manifest"),
    ],
)
def test_seals_that_cannot_be_are_refused(seals: list[SettledSpan], message: str) -> None:
    with pytest.raises(JobDirectoryError, match=message):
        Bench(objects(1), settled=seals)


# -- how a lease ends ------------------------------------------------------------------------------


def test_a_finished_lease_is_sealed_before_anything_else() -> None:
    bench = Bench(objects(1), objects(2))
    (lease,) = bench.join("a")
    seal, grant = bench.finish("a", lease)
    assert seal == SealLease(result=result_of(lease))
    assert isinstance(grant, Grant)
    assert bench.scheduler.is_settled(1)
    assert not bench.scheduler.is_settled(2)


def test_the_last_seal_finishes_the_job_once() -> None:
    bench = Bench(objects(1))
    (lease,) = bench.join("a")
    assert bench.finish("a", lease)[-1] == Finish()
    assert bench.scheduler.complete
    assert bench.finish("a", lease) == []
    assert bench.wait(1000) == []
    assert bench.join("b") == []


def test_the_rest_of_a_lease_that_finished_early_is_granted_again() -> None:
    bench = Bench(objects(1))
    (lease,) = bench.join("a")
    commands = bench.end("a", result_of(lease, end=4))
    assert spans(leases(commands)) == [(1, 4, 10)]
    assert bench.counts() == (0, 1, 1, 0)


def test_the_completion_of_an_upload_goes_before_bigger_work() -> None:
    bench = Bench(parts(1, 2, 2), objects(2, size=10), objects(3, size=9))
    (lease,) = bench.join("a")
    (assembly,) = leases(bench.finish("a", lease))
    assert (assembly.kind, assembly.shard) == (LeaseKind.ASSEMBLE, 1)
    bench.finish("a", assembly)
    assert bench.scheduler.is_settled(1)


@pytest.mark.parametrize(
    "change",
    [{"end": 0}, {"end": 11}, {"kind": LeaseKind.PARTS}, {"generation": 1}],
    ids=lambda change: next(iter(change)),
)
def test_a_result_that_does_not_fit_its_lease_is_a_failure(change: dict[str, Any]) -> None:
    bench = Bench(objects(1), attempts_per_span=1)
    (lease,) = bench.join("a")
    commands = bench.end("a", replace(result_of(lease), **change))
    refused, finish = commands
    assert isinstance(refused, Quarantine)
    assert refused.cause == "bad_result"
    assert isinstance(finish, Finish)


def test_returned_work_costs_no_attempt_however_often() -> None:
    bench = Bench(objects(1))
    (lease,) = bench.join("a")
    for _ in range(20):
        assert bench.fail("a", lease, LeaseEnd.RETURNED) == [], "it rests: nobody asked for it"
        bench.report("a")
        (lease,) = leases(bench.wait(10))
    assert bench.heard(Quarantine) == []


def test_work_that_a_draining_worker_returns_goes_to_another_at_once() -> None:
    bench = Bench(objects(1))
    (lease,) = bench.join("a")
    bench.join("b")
    bench.tell(WorkerDraining(now=bench.now, worker="a"))
    (grant,) = of_kind(Grant, bench.fail("a", lease, LeaseEnd.RETURNED))
    assert grant.worker == "b"


def test_a_span_rests_longer_with_each_failure_and_then_is_quarantined() -> None:
    bench = Bench(objects(1), objects(2))
    (lease,) = bench.join("a")
    (other,) = bench.join("b")
    bench.fail("a", lease)
    assert leases(bench.wait(9)) == []
    (lease,) = leases(bench.wait(1))
    bench.fail("a", lease)
    bench.report("a")
    bench.report("b", progress_of(other))
    assert leases(bench.wait(19)) == []
    (lease,) = leases(bench.wait(1))
    (given_up,) = bench.fail("a", lease)
    assert given_up == Quarantine(
        shard=1, kind=LeaseKind.OBJECTS, first=0, end=10, cause="unavailable"
    )
    assert bench.finish("b", other)[-1] == Finish()
    assert bench.counts() == (0, 0, 1, 1)
    assert bench.scheduler.complete


def test_failures_are_inherited_by_what_is_cut_off() -> None:
    bench = Bench(objects(1), attempts_per_span=2, retry_seconds=0)
    (lease,) = bench.join("a")
    (lease,) = leases(bench.fail("a", lease))
    (rest,) = leases(bench.end("a", result_of(lease, end=4)))
    (given_up, _) = bench.fail("a", rest)
    assert isinstance(given_up, Quarantine)
    assert (given_up.first, given_up.end) == (4, 10)


def test_a_shard_with_a_quarantined_part_is_not_completed() -> None:
    bench = Bench(parts(1, 4, 2), attempts_per_span=1)
    first, second = bench.join("a", slots=2)
    bench.fail("a", first)
    assert bench.finish("a", second) == [SealLease(result=result_of(second)), Finish()]


# -- the fence -------------------------------------------------------------------------------------


def test_results_of_old_attempts_count_for_nothing() -> None:
    bench = Bench(objects(1))
    (old,) = bench.join("a")
    bench.tell(WorkerLost(now=bench.now, worker="a"))
    (new,) = bench.join("b")
    bench.join("a")
    for how in LeaseEnd:
        assert bench.end("a", result_of(old, how)) == []
    assert bench.finish("b", new)[0] == SealLease(result=result_of(new))


def test_results_of_others_and_unknown_results_count_for_nothing() -> None:
    bench = Bench(objects(1), objects(2))
    (lease,) = bench.join("a")
    bench.join("b")
    assert bench.finish("b", lease) == []
    assert bench.finish("nobody", lease) == []
    assert bench.finish("a", replace(lease, attempt=999)) == []
    assert bench.finish("a", replace(lease, shard=2)) == []
    assert bench.finish("a", replace(lease, first=1)) == []
    assert bench.counts() == (0, 2, 0, 0)


def test_a_result_counts_once() -> None:
    bench = Bench(objects(1), objects(2))
    (lease,) = bench.join("a")
    bench.finish("a", lease)
    assert bench.finish("a", lease) == []
    assert bench.counts() == (0, 1, 1, 0)


def test_a_worker_under_an_old_name_has_none_of_its_leases() -> None:
    bench = Bench(objects(1))
    (old,) = bench.join("a")
    (new,) = bench.join("a")
    assert new.attempt > old.attempt
    assert bench.finish("a", old) == []
    assert bench.finish("a", new)[-1] == Finish()
