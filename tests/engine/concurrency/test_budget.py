"""Budgets start where the plan's sizes say, are shared evenly, and follow what workers report."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.engine.concurrency.budget import (
    BUDGET_MAX,
    BULK_PER_WORKER,
    IDLE_SECONDS,
    PER_WORKER_MAX,
    SMALL_PER_WORKER,
    SMALL_START_MAX,
    WINDOW_SECONDS_MAX,
    Budgets,
    shares,
    starting_budget,
    totals_of,
)
from noria.engine.concurrency.throughput import Window
from noria.manifests.model import MetricsSnapshot

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


# -- where it starts -------------------------------------------------------------------------------


def start(*objects: tuple[int, int], workers: int = 2) -> tuple[int, int]:
    """Bulk and small for a plan of (how many, of which size)."""
    sizes = [
        {"below": 1 << size.bit_length(), "objects": count, "bytes": count * size}
        for count, size in objects
    ]
    begun = starting_budget(sizes, workers=workers, part_bytes=64 * MIB)
    assert begun.requests == begun.bulk + begun.small
    return begun.bulk, begun.small


def test_small_objects_start_with_many_requests() -> None:
    assert start((20_000, 4 * KIB)) == (0, 2 * SMALL_PER_WORKER)


def test_a_large_cluster_does_not_start_with_a_storm() -> None:
    assert start((1_000_000, 4 * KIB), workers=200) == (0, SMALL_START_MAX)


def test_large_objects_start_with_few() -> None:
    assert start((8, 256 * MIB), (1, 4 * GIB)) == (2 * BULK_PER_WORKER, 0)
    assert start((100_000, 2 * GIB), workers=200) == (200 * BULK_PER_WORKER, 0)


def test_there_are_never_more_than_requests() -> None:
    assert start((3, 4 * KIB)) == (0, 3)
    assert start((1, 128 * MIB)) == (2, 0)
    assert start() == (0, 0)


def test_a_kind_that_is_less_than_half_of_the_work_gets_less() -> None:
    bulk, small = start((2000, 4 * KIB), (2000, 40 * MIB))
    assert bulk == 2 * BULK_PER_WORKER
    assert 1 <= small < SMALL_PER_WORKER / 4


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 5 * 10**12)), max_size=8),
    st.integers(1, 500),
)
def test_whatever_there_is_to_move_gets_some(objects: list[tuple[int, int]], workers: int) -> None:
    bulk, small = start(*objects, workers=workers)
    assert 0 <= bulk <= workers * BULK_PER_WORKER
    assert 0 <= small <= SMALL_START_MAX
    assert (bulk > 0) == any(size >= MIB for _, size in objects)
    assert (small > 0) == any(size < MIB for _, size in objects)


# -- shares ----------------------------------------------------------------------------------------


@given(st.integers(1, BUDGET_MAX), st.integers(1, 300))
def test_shares_are_even_and_make_up_the_budget(budget: int, workers: int) -> None:
    split = shares(budget, [f"w{number}" for number in range(workers)])
    assert len(split) == workers
    assert max(split.values()) - min(split.values()) <= 1
    assert min(split.values()) >= 1
    assert max(split.values()) <= PER_WORKER_MAX
    assert sum(split.values()) == max(workers, min(budget, PER_WORKER_MAX * workers))


def test_nobody_shares_nothing() -> None:
    assert shares(10, []) == {}


# -- what workers report ---------------------------------------------------------------------------


def metrics(
    *,
    gets: float = 0,
    seconds: float = 0,
    read: float = 0,
    in_flight: float = 0,
    throttles: float = 0,
) -> MetricsSnapshot:
    return MetricsSnapshot(
        counters={("bytes_read",): read, ("throttles", "source"): throttles},
        gauges={("in_flight_seconds", "source"): in_flight},
        histograms={("request_seconds", "source", "get"): (gets / 2, gets / 2, seconds)},
    )


def test_totals_are_told_by_store() -> None:
    told = metrics(gets=100, seconds=3, read=7000, in_flight=4, throttles=5)
    assert totals_of(told, "source", 10) == Window(
        seconds=10, requests=100, bytes=7000, request_seconds=3, in_flight_seconds=4, throttles=5
    )
    assert totals_of(told, "target", 10) == Window(seconds=10)


class Searches:
    """In the place of ConcurrencySearch: remembers what it hears."""

    def __init__(self, start: int, floor: int, ceiling: int) -> None:
        self.budget = self.base = start
        self.floor = floor
        self.trying = self.is_holding = False
        self.heard: list[Window] = []

    def set_floor(self, floor: int) -> None:
        self.floor = floor

    def hear(self, window: Window, *, may_try: bool, may_hold: bool) -> int:
        self.heard.append(window)
        self.allowed = may_try, may_hold
        return self.budget


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> Budgets:
    monkeypatch.setattr("noria.engine.concurrency.budget.ConcurrencySearch", Searches)
    return Budgets(12)


def search(budgets: Budgets, role: str = "source") -> Searches:
    found: object = budgets._searches[role]
    assert isinstance(found, Searches)
    return found


def test_a_window_adds_the_rates_of_workers_that_report_at_different_times(
    budgets: Budgets,
) -> None:
    budgets.join("a", 0.0)
    budgets.join("b", 0.0)
    budgets.decide(0.0)
    budgets.hear("a", 0.5, metrics())
    budgets.hear("b", 0.9, metrics(gets=10))
    budgets.decide(1.0)
    assert search(budgets).heard == []
    budgets.hear("a", 1.5, metrics(gets=100, read=500))
    budgets.hear("b", 2.9, metrics(gets=50))
    budgets.decide(3.0)
    (window,) = search(budgets).heard
    assert window.seconds == 3.0
    assert window.requests == pytest.approx(3.0 * (100 / 1.0 + 40 / 2.0))
    assert window.bytes == pytest.approx(3.0 * 500)


def test_a_silent_worker_holds_a_window_up_for_a_while_only(budgets: Budgets) -> None:
    for name in ("a", "silent"):
        budgets.join(name, 0.0)
        budgets.hear(name, 0.0, metrics())
    budgets.decide(0.0)
    budgets.hear("a", 1.0, metrics(gets=10))
    budgets.decide(WINDOW_SECONDS_MAX - 0.1)
    assert search(budgets).heard == []
    budgets.decide(WINDOW_SECONDS_MAX)
    assert search(budgets).heard[0].requests == pytest.approx(10 * WINDOW_SECONDS_MAX)


def test_whoever_is_lost_counts_no_more_and_leaves_its_share(budgets: Budgets) -> None:
    for name in ("a", "b"):
        budgets.join(name, 0.0)
    assert budgets.decide(0.0) == {
        "a": {"source": 6, "target": 6},
        "b": {"source": 6, "target": 6},
    }
    budgets.leave("b")
    budgets.hear("b", 0.5, metrics(gets=5))
    assert budgets.decide(0.5) == {"a": {"source": 12, "target": 12}}
    assert budgets.decide(0.6) == {}


def test_a_worker_that_joins_gets_its_share_with_the_first_word(budgets: Budgets) -> None:
    budgets.join("a", 0.0)
    budgets.decide(0.0)
    budgets.join("b", 1.0)
    assert budgets.decide(1.0)["b"] == {"source": 6, "target": 6}
    assert search(budgets).floor == 2


def test_an_idle_worker_leaves_its_share_to_the_others(budgets: Budgets) -> None:
    for name in ("a", "b"):
        budgets.join(name, 0.0)
        budgets.hear(name, 0.0, metrics())
    budgets.decide(0.0)
    news: dict[str, dict[str, int]] = {}
    for second in range(1, 1 + int(IDLE_SECONDS) + 1):
        budgets.hear("a", second, metrics(in_flight=second))
        budgets.hear("b", second, metrics())
        news |= budgets.decide(second)
    assert news["a"] == {"source": 12, "target": 12}
    assert news["b"] == news["a"], "work may come to it before the next word does"


def test_while_nobody_works_all_share(budgets: Budgets) -> None:
    for name in ("a", "b"):
        budgets.join(name, 0.0)
    budgets.decide(0.0)
    assert budgets.decide(60.0) == {}


def test_one_store_tries_at_a_time(budgets: Budgets) -> None:
    budgets.join("a", 0.0)
    for second in range(3):
        budgets.hear("a", second, metrics(gets=second))
        search(budgets, "target").trying = search(budgets, "target").is_holding = True
        budgets.decide(second)
    assert search(budgets, "source").allowed == (False, False)
    assert search(budgets, "target").allowed == (True, True)


# -- fixed -----------------------------------------------------------------------------------------


def test_a_setting_fixes_a_budget() -> None:
    budgets = Budgets(100, fixed={"target": 30})
    told: dict[str, Mapping[str, int]] = {}
    for name in ("a", "b"):
        budgets.join(name, 0.0)
    for second in range(200):
        busy = metrics(
            gets=5000 * second,
            seconds=50 * second,
            in_flight=50 * second,
            throttles=10 * second**2,
        )
        budgets.hear("a", second, busy)
        budgets.hear("b", second, busy)
        told |= budgets.decide(second)
    assert budgets.budget("target") == 30
    assert told["a"]["target"] == told["b"]["target"] == 15
    assert budgets.budget("source") != 100
