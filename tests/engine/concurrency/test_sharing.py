"""The number starts where the plan's sizes say, is shared out by use, and follows the reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.engine.concurrency.sharing import (
    BULK_START,
    SMALL_START,
    TransferBudget,
    shares,
    starting_number,
)
from noria.manifests.counters import Counter, Gauge, StoreRole
from noria.manifests.model import Limits, MetricsSnapshot

MIB = 1 << 20


def row(below: int, objects: int, size: int) -> dict[str, int]:
    return {"below": below, "objects": objects, "bytes": size}


SMALL = row(64 * 1024, 1_000_000, 4_000_000_000)
BULK = row(1 << 30, 1_000, 256_000_000_000)


@pytest.mark.parametrize(
    ("sizes", "workers", "number"),
    [
        ([SMALL], 1, SMALL_START),
        ([BULK], 1, BULK_START),
        ([BULK], 100, 200),
        ([row(1 << 30, 3, 3 * 64 * MIB)], 1, 3),
        ([row(1024, 5, 5)], 1, 5),
        ([], 1, 1),
    ],
)
def test_it_starts_as_the_sizes_suit(
    sizes: list[dict[str, int]], workers: int, number: int
) -> None:
    assert starting_number(sizes, workers=workers, part_bytes=64 * MIB) == number


def test_a_mixture_starts_in_between() -> None:
    assert BULK_START < starting_number([SMALL, BULK], workers=1, part_bytes=64 * MIB) < SMALL_START


@given(
    number=st.integers(1, 5_000),
    wants=st.dictionaries(
        st.text(max_size=3), st.one_of(st.floats(0, 1e4), st.just(float("inf"))), max_size=30
    ),
)
def test_all_is_shared_out_among_those_who_want_it(number: int, wants: dict[str, float]) -> None:
    split = shares(number, wants)
    assert split.keys() == wants.keys()
    assert all(share >= 1 for share in split.values())
    assert sum(split.values()) == max(number, len(wants)) or not wants
    greedy = [split[name] for name, want in wants.items() if want == float("inf")]
    if greedy:
        assert max(greedy) - min(greedy) <= 1
        assert all(split[name] <= max(greedy) + 1 for name in wants)


class Reporter:
    """A worker that reports each second how many transfers it has in flight."""

    def __init__(self, budget: TransferBudget, name: str, cpu: float = 0.1) -> None:
        self.budget, self.name, self.cpu, self.share = budget, name, cpu, 0
        self.seconds = self.ended = 0.0
        budget.join(name)

    def report(self, now: float, most: float, throttles: float = 0.0) -> None:
        in_flight = min(self.share, most)
        self.seconds += in_flight
        self.ended += in_flight
        gauges: dict[tuple[str, ...], float] = {
            (Gauge.TRANSFER_SECONDS,): self.seconds,
            (Gauge.TRANSFERS_ENDED,): self.ended,
            (Gauge.WORKER_SECONDS,): now,
            (Gauge.CPU_SECONDS,): now * self.cpu,
        }
        counters: dict[tuple[str, ...], float] = {
            (Counter.BYTES_WRITTEN,): self.ended * MIB,
            (Counter.THROTTLES, StoreRole.TARGET): throttles,
        }
        self.budget.hear(
            self.name, MetricsSnapshot(counters=counters, gauges=gauges, histograms={})
        )


def play(budget: TransferBudget, workers: dict[Reporter, float], first: int, end: int) -> None:
    """Let seconds pass: each worker has use for so many transfers."""
    for now in range(first, end):
        news = budget.decide(float(now))
        for worker, most in workers.items():
            if worker.name in news:
                worker.share = news[worker.name].transfers
            worker.report(float(now), most)


def transfers_of(limits: dict[str, Limits]) -> dict[str, int]:
    return {name: of.transfers for name, of in limits.items()}


def is_busy(budget: TransferBudget) -> bool:
    return budget.busy


def test_a_share_that_is_not_used_goes_to_others() -> None:
    budget = TransferBudget(64, fixed=64)
    busy, idle = Reporter(budget, "busy"), Reporter(budget, "idle")
    play(budget, {busy: 1000, idle: 1000}, 0, 5)
    assert (busy.share, idle.share) == (32, 32)
    play(budget, {busy: 1000, idle: 4}, 5, 10)
    assert idle.share <= 8
    assert busy.share >= 56
    play(budget, {busy: 1000, idle: 1000}, 10, 30)
    assert (busy.share, idle.share) == (32, 32)


def test_who_leaves_leaves_its_share_and_who_joins_gets_one_at_once() -> None:
    budget = TransferBudget(64, fixed=64)
    one, other = Reporter(budget, "one"), Reporter(budget, "other")
    play(budget, {one: 1000, other: 1000}, 0, 5)
    budget.leave("other")
    assert transfers_of(budget.decide(5.0)) == {"one": 64}
    budget.join("third")
    assert transfers_of(budget.decide(5.1)) == {"one": 32, "third": 32}


def test_full_processors_are_said_until_the_next_worker_is_there() -> None:
    budget = TransferBudget(32)
    first = Reporter(budget, "first", cpu=0.97)
    play(budget, {first: 1000}, 0, 5)
    assert is_busy(budget)
    assert budget.number == 32, "nothing is tried meanwhile"
    second = Reporter(budget, "second", cpu=0.4)
    assert not is_busy(budget)
    play(budget, {first: 1000, second: 1000}, 5, 10)
    assert not is_busy(budget)


def test_a_silent_worker_holds_a_window_up_for_a_while_only() -> None:
    budget = TransferBudget(8)
    loud, silent = Reporter(budget, "loud", cpu=0.97), Reporter(budget, "silent", cpu=0.1)
    play(budget, {loud: 1000, silent: 1000}, 0, 3)
    assert not is_busy(budget)
    play(budget, {loud: 1000}, 3, 7)
    assert not is_busy(budget)
    play(budget, {loud: 1000}, 7, 10)
    assert is_busy(budget)


def test_a_few_of_many_that_come_and_go_stop_no_search() -> None:
    budget = TransferBudget(200)
    workers = {Reporter(budget, f"{number:02}"): 1000.0 for number in range(20)}
    for now in range(60):
        play(budget, workers, now, now + 1)
        budget.leave(f"spot {now}")
        budget.join(f"spot {now + 1}")
        workers = {worker: most for worker, most in workers.items() if "spot" not in worker.name}
    assert budget.number > 200


@pytest.mark.parametrize("most", [3, 10, 64])
def test_no_store_sees_more_than_a_person_allows(most: int) -> None:
    budget = TransferBudget(64, fixed=64, source_most=most)
    workers = {Reporter(budget, name): 1000.0 for name in ("a", "b", "c")}
    limits = budget.decide(0.0)
    assert sum(of.source for of in limits.values()) == most
    assert sum(of.target for of in limits.values()) == 64
    play(budget, workers, 1, 20)
    budget.leave("a")
    assert sum(of.source for of in budget.decide(20.0).values()) == most
