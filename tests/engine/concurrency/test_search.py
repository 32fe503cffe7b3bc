"""A budget finds its knee, whatever the store and the sizes, and what each rule is there for."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.benchmarks.studies.simulated_stores import ClosedLoop, LoopWorker
from noria.benchmarks.studies.store_scenarios import (
    CLOUD,
    KIB,
    MIB,
    SCENARIOS,
    ScenarioOutcome,
    all_of,
    in_turn,
)
from noria.engine.concurrency.budget import PER_WORKER_MAX, Budgets
from noria.engine.concurrency.search import ConcurrencySearch, SearchOptions
from noria.engine.concurrency.throughput import Prices, Window

SEED = 4

YIELD_MIN = 0.8
"""Of the best there is, over all the time after the first minutes, trials included."""
WIDTH_MAX = 4.0
"""The usual budget, in knees."""
GREATEST_WIDTH_MAX = 8.0
"""Any budget, those of trials included."""
THROTTLE_SHARE_MAX = 0.005


def finds_the_knee(outcome: ScenarioOutcome) -> bool:
    return outcome.yield_share >= YIELD_MIN and is_narrow(outcome)


def is_narrow(outcome: ScenarioOutcome) -> bool:
    """A knee of less than 2 requests says nothing about a budget of a few."""
    return all(
        median <= WIDTH_MAX * max(2.0, outcome.scenario.knee(role))
        and greatest <= GREATEST_WIDTH_MAX * max(2.0, outcome.scenario.knee(role))
        for role in outcome.scenario.models
        for median, greatest in [(outcome.usual(role), max(outcome.budgets(role)))]
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_budget_finds_the_knee(name: str) -> None:
    outcome = SCENARIOS[name].simulate(SEED)
    print(outcome)
    assert outcome.yield_share >= YIELD_MIN
    assert is_narrow(outcome)
    assert outcome.throttle_share <= THROTTLE_SHARE_MAX


@pytest.mark.parametrize("name", ["small", "mixed", "two stores, the target tighter"])
def test_it_is_there_within_half_a_minute(name: str) -> None:
    scenario = replace(SCENARIOS[name], seconds=50, settled_after=30)
    assert scenario.simulate(SEED).yield_share >= YIELD_MIN


def wanders(outcome: ScenarioOutcome) -> bool:
    """Trials take some of the time, less and less of it."""
    at_its_usual = outcome.budgets("target").count(int(outcome.usual("target")))
    return at_its_usual < 0.75 * len(outcome.settled)


@pytest.mark.parametrize("name", ["small", "mixed"])
def test_it_stays_there_while_the_store_stays_the_same(name: str) -> None:
    assert not wanders(replace(SCENARIOS[name], seconds=900).simulate(SEED))


def test_the_same_seed_gives_the_same_run() -> None:
    scenario = replace(SCENARIOS["mixed"], seconds=60)
    assert scenario.simulate(SEED).samples == scenario.simulate(SEED).samples
    assert scenario.simulate(SEED).samples != scenario.simulate(SEED + 1).samples


# -- work that runs low or out ---------------------------------------------------------------------


def simulate_with_a_lull() -> tuple[list[int], ScenarioOutcome]:
    """Work for 100 s, then a fifth of it for 200 s, then work again.

    The budgets of the lull, and how it went on.
    """
    scenario = replace(SCENARIOS["small"], seconds=400, settled_after=320)
    budgets = Budgets(scenario.start)
    taken = 0

    def sizes() -> int | None:
        nonlocal taken
        if 100 <= simulation.now < 300:
            if taken >= 60 * (simulation.now - 100):
                return None
            taken += 1
        return 4 * KIB

    simulation = ClosedLoop(scenario.models, sizes, budgets, workers=4, seed=SEED)
    samples = list(simulation.run(scenario.seconds))
    lull = [one.budgets["target"] for one in samples if 130 <= one.now < 300]
    return lull, ScenarioOutcome(scenario, samples)


def test_a_lull_says_nothing_about_the_knee() -> None:
    lull, outcome = simulate_with_a_lull()
    assert len(set(lull)) == 1
    assert finds_the_knee(outcome)


def test_work_that_runs_out_changes_nothing() -> None:
    scenario, left = SCENARIOS["small"], 20_000

    def sizes() -> int | None:
        nonlocal left
        left -= 1
        return 4 * KIB if left >= 0 else None

    budgets = Budgets(scenario.start)
    simulation = ClosedLoop(scenario.models, sizes, budgets, workers=4, seed=SEED)
    simulation.run(60)
    at_work = budgets.budget("target")
    simulation.run(60)
    assert sum(worker.done for worker in simulation.workers.values()) == 20_000
    assert scenario.knee("target") / 2 <= budgets.budget("target") <= 2 * at_work


# -- workers that come and go ----------------------------------------------------------------------


def test_workers_that_come_and_go_share_alike() -> None:
    scenario = SCENARIOS["small"]
    budgets = Budgets(scenario.start)
    simulation = ClosedLoop(scenario.models, all_of(4 * KIB)(SEED), budgets, workers=4, seed=SEED)
    simulation.run(60)
    for _ in range(4):
        simulation.join()
    simulation.run(60)
    assert_alike(simulation, workers=8)
    for name in ("w1", "w3", "w5", "w6", "w8"):
        simulation.leave(name)
    simulation.run(60)
    assert_alike(simulation, workers=3)
    samples = [*simulation.run(30)]
    total = sum((one.windows["target"] for one in samples), Window())
    assert total.requests / total.seconds >= YIELD_MIN * scenario.best_requests_per_second


def assert_alike(simulation: ClosedLoop, *, workers: int) -> None:
    before = {name: worker.done for name, worker in simulation.workers.items()}
    simulation.run(30)
    done = [worker.done - before[name] for name, worker in simulation.workers.items()]
    assert len(done) == workers
    assert max(done) <= 1.5 * min(done)  # 30 over 8 workers is 4 for some, 3 for others


# -- what each rule is there for: without it, the scenario that needs it fails ---------------------


class NaiveSearch(ConcurrencySearch):
    """AIMD alone: up by one with each window, down on a throttle. It knows no knee."""

    def hear(self, window: Window, *, may_try: bool = True, may_hold: bool = True) -> int:
        if window.throttle_share > 0:
            self._base = self._within(int(0.7 * self._base))
        else:
            self._base = self._within(self._base + 1)
        return self._base


def test_mutant_without_a_knee_climbs_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.engine.concurrency.budget.ConcurrencySearch", NaiveSearch)
    outcome = replace(SCENARIOS["loopback"], seconds=300).simulate(SEED)
    assert outcome.yield_share >= YIELD_MIN / 2
    assert outcome.samples[-1].windows["target"].in_flight == pytest.approx(PER_WORKER_MAX, abs=1)
    assert not finds_the_knee(outcome)


def change_options(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    options = replace(SearchOptions(), **changes)
    monkeypatch.setattr("noria.engine.concurrency.search.SearchOptions", lambda: options)


def test_mutant_that_widens_for_any_gain_widens_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change_options(monkeypatch, worth=0.0, cheap=0.0)
    long = replace(SCENARIOS["small, 8 partitions"], seconds=600)
    assert not is_narrow(long.simulate(SEED))


def test_mutant_that_looks_once_wanders_with_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    change_options(
        monkeypatch,
        errors_to_widen=0.0,
        errors_to_narrow=0.0,
        errors_at_last=0.0,
        blocks_max=1,
    )
    assert wanders(replace(SCENARIOS["mixed"], seconds=900).simulate(SEED))


def test_mutant_that_judges_unused_budgets_learns_from_a_lull(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change_options(monkeypatch, used_share=0.0, low_share=0.0)
    lull, _ = simulate_with_a_lull()
    assert len(set(lull)) > 1


def test_mutant_without_loans_never_gets_two_stores_off_the_ground(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        ConcurrencySearch,
        "_leave_unjudged",
        lambda search, *_: search._begin_anew(search._base, _[1]),
    )
    assert SCENARIOS["two stores alike"].simulate(SEED).yield_share < 0.5


def test_mutant_worker_that_holds_objects_for_one_store_only_uses_neither_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An object is at one store at a time: to fill both, a worker holds as many as both let in."""

    def room(worker: LoopWorker) -> int:
        return max(executor.share for executor in worker.executors.values()) - worker.held

    monkeypatch.setattr(LoopWorker, "room", property(room))
    outcome = SCENARIOS["two stores alike"].simulate(SEED)
    assert set(outcome.budgets("target")) == {outcome.scenario.start}
    assert outcome.yield_share < 0.5


@pytest.mark.parametrize("request_bytes", [1.0, 1e12], ids=["bytes alone", "requests alone"])
def test_mutant_that_counts_one_thing_only_is_fooled_by_sizes(
    monkeypatch: pytest.MonkeyPatch, request_bytes: float
) -> None:
    monkeypatch.setattr(Prices, "request_bytes", request_bytes)
    outcomes = [SCENARIOS[name].simulate(SEED) for name in ("short phases", "long phases")]
    assert not all(map(is_narrow, outcomes))


def test_mutant_that_hears_no_throttle_is_refused_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change_options(monkeypatch, throttle_share=1.0)
    assert SCENARIOS["throttled"].simulate(SEED).throttle_share > 0.02


# -- bounds, by hand -------------------------------------------------------------------------------

WINDOWS = st.builds(
    Window,
    seconds=st.floats(0.1, 10),
    requests=st.floats(0, 1e6),
    bytes=st.floats(0, 1e12),
    request_seconds=st.floats(0, 1e6),
    in_flight_seconds=st.floats(0, 1e6),
    throttles=st.floats(0, 1e4),
)


@given(st.integers(-5, 500), st.integers(1, 50), st.integers(0, 400), st.lists(WINDOWS))
def test_it_stays_within_its_bounds(
    start: int, floor: int, more: int, windows: list[Window]
) -> None:
    search = ConcurrencySearch(start, floor, floor + more)
    assert floor <= search.budget <= floor + more
    for window in windows:
        assert floor <= search.hear(window) <= floor + more


@given(st.lists(WINDOWS))
def test_a_fixed_budget_never_changes(windows: list[Window]) -> None:
    search = ConcurrencySearch(7, 12, 12)
    assert {search.hear(window) for window in windows} <= {12}
    assert search.budget == 12


def refused(share: float, *, in_flight: float = 100) -> Window:
    return Window(
        seconds=1,
        requests=1000 * (1 - share),
        request_seconds=in_flight,
        in_flight_seconds=in_flight,
        throttles=1000 * share,
    )


def settled(search: ConcurrencySearch) -> ConcurrencySearch:
    for _ in range(2):
        search.hear(Window(seconds=1))
    return search


@pytest.mark.parametrize(("share", "left"), [(0.004, 100), (0.01, 89), (0.2, 70), (0.9, 50)])
def test_a_fall_is_as_deep_as_what_was_refused(share: float, left: int) -> None:
    assert settled(ConcurrencySearch(100, 1, 1000)).hear(refused(share)) == left


def test_a_fall_is_from_what_was_in_flight_and_not_from_what_might_have_been() -> None:
    assert settled(ConcurrencySearch(100, 1, 1000)).hear(refused(0.1, in_flight=20)) == 16


def test_a_storm_of_throttles_is_one_fall() -> None:
    search = settled(ConcurrencySearch(100, 1, 1000))
    first = search.hear(refused(0.1))
    assert search.hear(refused(0.1)) == first == 80
    search.hear(refused(0.1))
    assert search.hear(refused(0.1)) < first


# -- prices ----------------------------------------------------------------------------------------


def test_prices_are_told_from_latencies_once_sizes_differ() -> None:
    prices = Prices()
    assert prices.request_bytes == MIB
    numbers = in_turn((1, 4 * KIB), (1, 4 * MIB))(SEED)
    for _ in range(200):
        size = numbers() or 0
        seconds = 0.05 + size / 20e6
        prices.learn(Window(seconds=1, requests=10, bytes=10 * size, request_seconds=10 * seconds))
    assert 0.8e6 <= prices.request_bytes <= 1.2e6


def test_work_is_the_same_for_any_sizes_at_the_same_speed() -> None:
    """As many requests in flight, small ones or large ones: the same work in a second."""
    prices = Prices()
    windows = [
        Window(seconds=1, requests=30 / took, bytes=30 / took * size, request_seconds=30)
        for size in (4 * KIB, 300 * KIB, 4 * MIB)
        for took in [0.1 + size / 20e6]
    ]
    for _ in range(50):
        for window in windows:
            prices.learn(window)
    works = [prices.work(window) for window in windows]
    assert max(works) - min(works) < 0.1


@given(st.lists(WINDOWS))
def test_a_price_keeps_near_what_is_known_of_stores(windows: list[Window]) -> None:
    prices = Prices()
    for window in windows:
        prices.learn(window)
        assert MIB / 16 <= prices.request_bytes <= MIB * 16


def test_the_model_of_a_store_has_the_knee_that_it_is_said_to_have() -> None:
    """Fixed budgets below, at and far above the knee of a store without noise."""
    steady = replace(SCENARIOS["small"], models={"target": replace(CLOUD, noise=0.0)}, seconds=90)
    search = round(steady.knee("target"))
    half, at, above = (
        steady.simulate(SEED, Budgets(budget, fixed={"target": budget})).yield_share
        for budget in (search // 2, search, 4 * search)
    )
    assert half == pytest.approx(0.5, abs=0.05)
    assert at == pytest.approx(1.0, abs=0.05)
    assert above == pytest.approx(1.0, abs=0.02)
