"""The search fills every line, keeps to what serves it, and follows as the world changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from noria.engine.concurrency.search import TransferSearch
from noria.engine.concurrency.throughput import Window
from tests.engine.concurrency.lines import MB, CoupledStores, Line

MOST = 65_536
START = 32
SETTLED_SECONDS = 15
RUN_SECONDS = 60

TRIPS = (0.002, 0.02, 0.08, 0.2, 0.4)
CONNECTIONS = (10 * MB, 40 * MB, 100 * MB)
LINES = (1e12, 400 * MB)
GRID = [
    Line(trip_seconds=trip, connection=connection, line=line)
    for trip, connection, line in itertools.product(TRIPS, CONNECTIONS, LINES)
]


def moved(line: Line, search: TransferSearch | float, seconds: int, seed: int = 1) -> list[float]:
    """Bytes in each second, found by the search or with a fixed number."""
    road, found, before = CoupledStores(line, seed=seed), [], 0.0
    for _ in range(seconds):
        number = search if isinstance(search, int | float) else search.number
        window, busy = road.second(number)
        if isinstance(search, TransferSearch):
            search.hear(window, busy=busy)
        found.append(road.moved - before)
        before = road.moved
    return found


def best_fixed(line: Line, seconds: int, first: int = 0) -> float:
    numbers = (2**power for power in range(1, 11))
    return max(sum(moved(line, number, seconds)[first:]) for number in numbers)


@pytest.mark.parametrize("line", GRID, ids=str)
@pytest.mark.parametrize("start", [4, START, 256])
def test_every_line_is_filled(line: Line, start: int) -> None:
    found = moved(line, TransferSearch(start, MOST), RUN_SECONDS)
    if start >= START:
        best = best_fixed(line, RUN_SECONDS, SETTLED_SECONDS)
        assert sum(found[SETTLED_SECONDS:]) >= (0.9 if line.trip_seconds <= 0.2 else 0.85) * best
        assert sum(found) >= 0.85 * best_fixed(line, RUN_SECONDS)
    else:
        assert sum(found[30:]) >= 0.9 * best_fixed(line, RUN_SECONDS, 30)


@pytest.mark.parametrize("line", GRID, ids=str)
def test_no_more_are_kept_than_serve_it(line: Line) -> None:
    search = TransferSearch(START, MOST)
    moved(line, search, 600)
    assert search.number <= max(START, 4 * line.knee)


SLOW = Line(trip_seconds=0.002, connection=100 * MB, store=60 * MB, body_bytes=1 * MB)


@pytest.mark.parametrize("crowd_cost", [0.0, 0.005])
def test_a_slow_store_is_not_crowded(crowd_cost: float) -> None:
    line = replace(SLOW, crowd_cost=crowd_cost)
    search = TransferSearch(256, MOST)
    found = moved(line, search, 120)
    assert search.number <= 64
    assert sum(found[60:]) >= 0.9 * best_fixed(line, 120, 60)


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_it_follows_a_line_that_changes(factor: float) -> None:
    line = Line(trip_seconds=0.08, connection=10 * MB, line=160 * MB, processors=4e9)
    search = TransferSearch(START, MOST)
    moved(line, search, 600)
    changed = replace(line, line=line.line * factor)
    found = moved(changed, search, 60)
    assert sum(found[20:]) >= 0.9 * best_fixed(changed, 60, 20)


def test_it_is_not_led_astray_by_noise() -> None:
    line = Line(trip_seconds=0.02, connection=40 * MB, line=400 * MB, noise=0.15)
    for seed in range(10):
        search = TransferSearch(START, MOST)
        found = moved(line, search, 600, seed)
        assert search.number <= 512
        assert sum(found[60:]) >= 0.85 * 400 * MB * 540


def test_a_number_that_is_not_used_does_not_grow() -> None:
    search, road = TransferSearch(START, MOST), CoupledStores(GRID[0])
    for _ in range(120):
        search.hear(road.second(search.number, work=10)[0])
    assert search.number == START


def test_nothing_is_tried_while_a_store_refuses_or_processors_are_full() -> None:
    line = Line(trip_seconds=0.02, connection=10 * MB)
    for refuses in (True, False):
        search, road = TransferSearch(START, MOST), CoupledStores(line)
        for _ in range(30):
            window, _ = road.second(search.number)
            throttles = 0.1 * window.requests if refuses else 0.0
            search.hear(replace(window, throttles=throttles), busy=not refuses)
        assert search.number == START


def test_workers_that_come_are_a_reason_to_look_at_once() -> None:
    line = Line(trip_seconds=0.02, connection=40 * MB, line=400 * MB)
    search = TransferSearch(START, MOST)
    moved(line, search, 300)
    before = search.number
    search.wake()
    road = CoupledStores(replace(line, line=4e9, processors=8e9))
    for _ in range(30):
        search.hear(road.second(search.number)[0])
    assert search.number >= 2 * before


def test_a_change_of_sizes_is_no_change_of_speed() -> None:
    """Half of the time small bodies, half of the time large ones, over the same line."""
    search = TransferSearch(START, MOST)
    large = Line(trip_seconds=0.08, connection=10 * MB, line=400 * MB)
    small = replace(large, body_bytes=0.1 * MB)
    for turn in range(20):
        road = CoupledStores(small if turn % 2 else large, seed=turn)
        for _ in range(10):
            search.hear(road.second(search.number)[0])
    assert search.number <= 4 * small.knee


def test_nothing_done_is_nothing_learnt() -> None:
    search = TransferSearch(START, MOST)
    for _ in range(50):
        search.hear(Window(seconds=1.0))
    assert search.number == START


FAR = Line(trip_seconds=0.4, connection=10 * MB)
FAR_AND_FAST = Line(trip_seconds=0.2, connection=100 * MB)


@pytest.mark.parametrize(
    ("constant", "value", "test"),
    [
        ("WORTH", 1.5, lambda: test_every_line_is_filled(FAR, START)),
        ("FREE", -1.0, lambda: test_a_slow_store_is_not_crowded(0.0)),
        ("CHANGED", 1e9, lambda: test_it_follows_a_line_that_changes(4.0)),
        ("USED", 0.01, test_a_number_that_is_not_used_does_not_grow),
        ("WINDOWS_MAX", 2, lambda: test_every_line_is_filled(FAR_AND_FAST, START)),
    ],
)
def test_each_rule_is_needed(
    constant: str, value: float, test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"noria.engine.concurrency.search.{constant}", value)
    with pytest.raises(AssertionError):
        test()


def test_an_outage_in_the_middle_of_anything_stops_nothing() -> None:
    for first in range(20):
        search, road = TransferSearch(START, MOST), CoupledStores(FAR)
        for second in range(60):
            window, _ = road.second(search.number)
            if first <= second < first + 5:
                stalled = Window(seconds=1.0, transfer_seconds=float(search.number))
                search.hear(stalled)
            else:
                search.hear(window)
        assert search.number >= 2 * START
