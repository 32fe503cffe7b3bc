"""Forecasts of a freeze, against simulated migrations whose last pass is then really run."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from noria.engine.convergence import (
    Amount,
    Freeze,
    Obstacle,
    PassSummary,
    SyncAction,
    SyncStep,
    convergence,
    forecast,
    is_growing,
    migration_figures,
    missing_passes,
    until,
)

WITHIN = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedWorld:
    """A source, a target, and what is between them."""

    objects: int = 2_000_000
    """At the beginning."""
    rate: float = 5.0
    """Objects that change a second."""
    mean_bytes: float = 1e6
    bytes_per_second: float = 50e6
    objects_per_second: float = 400.0
    listed_per_second: float = 5_000.0
    startup_seconds: float = 5.0
    """Of moving: workers, connections, concurrency that is found."""
    other_seconds: float = 10.0
    """Outside of all phases."""
    noise: float = 0.05
    """Standard deviation of every duration, as a part of it."""
    hot_names: int | None = None
    """All changes are of so many names. None: each is of a name of its own."""
    by_day: float = 0.0
    """How far the rate swings over a day, as a part of it."""


class SimulatedMigration:
    """Runs passes in simulated time; changes are seen if the listing has not passed their name."""

    def __init__(self, world: SimulatedWorld, seed: int) -> None:
        self.world = world
        self._random = np.random.default_rng(seed)
        self._now = 1_700_000_000.0
        self._known_until = self._now
        self._frozen_at = float("inf")
        self._objects = world.objects
        self._changes = np.empty((0, 4))
        """Rows: when, the place of the name in the listing (0 to 1), bytes, name."""
        self.passes: list[PassSummary] = []

    def run(self, passes: int, every_seconds: float = 0.0) -> None:
        for _ in range(passes):
            if self.passes:
                begun = self.passes[-1].started_seconds
                self._now = max(self._now, begun + every_seconds)
            self.passes.append(self._pass())

    def cutover(self, *, after_seconds: float = 0.0) -> float:
        """Freeze the source, run the last pass, and return what it took."""
        self._now += after_seconds
        self._frozen_at = self._now
        return self._pass().took_seconds

    def _noisy(self, seconds: float) -> float:
        return seconds * float(np.exp(self._random.normal(0, self.world.noise)))

    def _pass(self) -> PassSummary:
        world, started = self.world, self._now
        first = not self.passes
        listing = self._noisy(self._objects / world.listed_per_second)
        seen = self._seen(started, listing)
        objects = world.objects if first else len(np.unique(seen[:, 3]))
        size = world.objects * world.mean_bytes if first else float(seen[:, 2].sum())
        new = objects // 4
        work = max(size / world.bytes_per_second, objects / world.objects_per_second)
        moving = self._noisy(world.startup_seconds + work)
        self._objects += 0 if first else new
        reconciling = self._noisy(self._objects / world.listed_per_second / 2)
        self._now += listing + moving + reconciling + self._noisy(world.other_seconds)
        return PassSummary(
            number=len(self.passes) + 1,
            started_seconds=started,
            ended_seconds=self._now,
            listing_seconds=listing,
            moving_seconds=moving,
            reconciling_seconds=reconciling,
            new=Amount(objects=new, bytes=round(size / 4)),
            changed=Amount(objects=objects - new, bytes=round(size * 3 / 4)),
            unchanged=Amount(objects=max(0, self._objects - objects)),
            bytes_moved=round(size),
        )

    def _seen(self, started: float, listing: float) -> NDArray[np.float64]:
        self._make_changes(min(started + listing, self._frozen_at))
        when, place = self._changes[:, 0], self._changes[:, 1]
        seen = when < started + place * listing
        found, self._changes = self._changes[seen], self._changes[~seen]
        return found

    def _make_changes(self, end: float) -> None:
        seconds = max(0.0, end - self._known_until)
        swing, hot = self.world.by_day, self.world.hot_names
        most = self._random.poisson(self.world.rate * (1 + swing) * seconds)
        when = self._random.uniform(self._known_until, self._known_until + seconds, most)
        rate = 1 + swing * np.sin(2 * np.pi * when / 86_400)
        when = when[self._random.uniform(0, 1 + swing, most) < rate]
        count = len(when)
        made = np.column_stack(
            [
                when,
                self._random.uniform(0, 1, count),
                self._random.lognormal(np.log(self.world.mean_bytes) - 0.5, 1.0, count),
                self._random.integers(0, hot, count) if hot else self._random.random(count),
            ]
        )
        self._changes = np.vstack([self._changes, made])
        self._known_until = max(self._known_until, end)


GRID = [
    SimulatedWorld(
        objects=objects,
        rate=rate,
        mean_bytes=mean_bytes,
        bytes_per_second=bytes_per_second,
        objects_per_second=objects_per_second,
        listed_per_second=listed_per_second,
    )
    for objects, rate, listed_per_second in itertools.product(
        (20_000, 300_000), (0.05, 1.0, 10.0), (300.0, 10e3)
    )
    for mean_bytes, bytes_per_second, objects_per_second in (
        (20e3, 300e6, 400.0),
        (20e3, 300e6, 15.0),
        (2e6, 300e6, 400.0),
        (2e6, 30e6, 400.0),
    )
]
"""Requests limit two of four, bytes the others; at the highest rate with a load of two thirds."""
SECONDS_EITHER_WAY = 10.0
"""Nobody plans a freeze by less."""

Run = tuple[SimulatedWorld, Freeze, float]
"""A world, the forecast, and what the last pass took under a freeze then."""


@cache
def runs(passes: int, every_seconds: float, by_day: float = 0.0) -> list[Run]:
    """For each world of the grid, with two seeds."""
    found = []
    for seed, world in itertools.product(range(2), GRID):
        migration = SimulatedMigration(replace(world, by_day=by_day), seed)
        migration.run(passes, every_seconds)
        freeze = forecast(migration.passes)
        assert freeze is not None
        assert 0 <= freeze.low <= freeze.seconds <= freeze.high
        found.append((world, freeze, migration.cutover()))
    return found


@pytest.mark.parametrize("passes", [2, 3, 5])
@pytest.mark.parametrize("every_seconds", [0.0, 3600.0])
def test_a_forecast_is_near_what_the_freeze_takes(passes: int, every_seconds: float) -> None:
    found = runs(passes, every_seconds)
    off = [
        (world, freeze, took)
        for world, freeze, took in found
        if abs(freeze.seconds - took) > max(WITHIN * took, SECONDS_EITHER_WAY)
    ]
    assert not off, f"{len(off)} of {len(found)}"


@pytest.mark.parametrize(
    ("passes", "every_seconds", "by_day"),
    [
        *((passes, every, 0.0) for passes in (2, 3, 5) for every in (0.0, 3600.0)),
        (2, 0.0, 0.8),
        (5, 3600.0, 0.8),
    ],
)
def test_intervals_are_honest(passes: int, every_seconds: float, by_day: float) -> None:
    found = runs(passes, every_seconds, by_day)
    inside = sum(freeze.low <= took <= freeze.high for _, freeze, took in found)
    assert inside / len(found) >= 0.8


def test_intervals_become_narrower_with_passes() -> None:
    def width(passes: int) -> float:
        found = runs(passes, 0.0)
        return median((freeze.high - freeze.low) / freeze.seconds for _, freeze, _ in found)

    assert width(5) < 0.3 < width(3) < 0.8 < width(2)


@pytest.mark.parametrize("hot_names", [50, 5_000])
def test_names_that_change_again_and_again_are_within_the_interval(hot_names: int) -> None:
    """A short gap gathers nearly as many names as a long one: the high end allows for that."""
    world = SimulatedWorld(objects=20_000, rate=5.0, hot_names=hot_names, objects_per_second=20.0)
    for seed in range(5):
        migration = SimulatedMigration(world, seed)
        migration.run(4, 3600.0)
        freeze = forecast(migration.passes)
        assert freeze is not None
        assert freeze.low <= migration.cutover() <= freeze.high


def test_a_freeze_that_begins_later_has_gathered_more() -> None:
    world = SimulatedWorld(rate=10.0, mean_bytes=2e6, bytes_per_second=30e6, objects=20_000)
    later, inside, seeds = 2 * 3600.0, 0, 20
    for seed in range(seeds):
        migration = SimulatedMigration(world, seed)
        migration.run(5)
        ended = migration.passes[-1].ended_seconds
        at_once, freeze = (
            forecast(migration.passes, frozen_at=ended + wait) for wait in (0.0, later)
        )
        assert at_once == forecast(migration.passes)
        assert at_once is not None
        assert freeze is not None
        assert freeze.seconds > at_once.seconds + 0.5 * later * 2 / 3
        took = migration.cutover(after_seconds=later)
        assert abs(freeze.seconds / took - 1) < WITHIN
        inside += freeze.low <= took <= freeze.high
    assert inside / seeds >= 0.8


# -- figures, by hand ------------------------------------------------------------------------------


def a_pass(number: int, started: float, **values: Any) -> PassSummary:
    """One that lists for 100 s, moves for 200, reconciles for 50, and takes 360 in all."""
    summary = PassSummary(
        number=number,
        started_seconds=started,
        ended_seconds=started + 360,
        listing_seconds=100,
        moving_seconds=200,
        reconciling_seconds=50,
        new=Amount(objects=100, bytes=1_000_000),
        changed=Amount(objects=200, bytes=2_000_000),
        gone=Amount(objects=100, bytes=7_000_000),
        unchanged=Amount(objects=1000, bytes=10_000_000),
    )
    return replace(summary, **values)


HOURLY = [a_pass(number, 3600.0 * number) for number in (1, 2, 3, 4)]


def test_figures_are_of_all_passes_but_the_first() -> None:
    first = a_pass(1, 3600.0, moving_seconds=1e6, new=Amount(objects=10**9, bytes=10**15))
    found = convergence([first, *HOURLY[1:]])
    assert found is not None
    assert found.passes == 3
    assert found.changed_objects.value == pytest.approx(400 / 3600)
    assert found.changed_bytes.value == pytest.approx(3_000_000 / 3600), "gone bytes do not move"
    assert found.moved_objects_per_second == pytest.approx(2.0)
    assert found.moved_bytes_per_second == pytest.approx(15_000)
    assert found.fixed.value == pytest.approx(160)
    assert found.load == pytest.approx(200 / 3600)
    assert found.catches_up


def test_a_rate_has_the_least_and_the_most_of_a_pass() -> None:
    busy = replace(HOURLY[2], changed=Amount(objects=3800, bytes=35_000_000))
    found = convergence([*HOURLY[:2], busy, HOURLY[3]])
    assert found is not None
    assert found.changed_objects.low == pytest.approx(400 / 3600)
    assert found.changed_objects.high == pytest.approx(4000 / 3600)
    assert found.changed_bytes.high == pytest.approx(36_000_000 / 3600)


def test_only_the_last_passes_count() -> None:
    long_ago = [
        a_pass(number, 3600.0 * number, listing_seconds=0, ended_seconds=3600.0 * number + 9e3)
        for number in range(1, 4)
    ]
    lately = [a_pass(number, 3600.0 * number) for number in range(4, 12)]
    assert convergence([*long_ago, *lately]) == convergence(lately)


def test_what_a_forecast_is_made_of() -> None:
    freeze = forecast(HOURLY)
    assert freeze is not None
    # Fixed, and what was gathered since the middle of the last listing: 360 - 100 / 2 seconds.
    # More objects than the last pass listed by 0 a second: as many are gone as are new.
    assert freeze.seconds == pytest.approx(160 + 310 * 200 / 3600)
    assert freeze.low == pytest.approx(freeze.seconds - math.hypot(16, 0.1 * 310 * 200 / 3600))
    # With gaps of one length, all of the moving may be start-up.
    assert freeze.high > 160 + 195


def test_start_up_is_told_from_load_if_gaps_vary() -> None:
    starts = list(itertools.accumulate([0.0, 4000.0, 8000.0, 2000.0, 1000.0]))
    gaps = [0.0, 4000.0, 8000.0, 2000.0, 1000.0]
    passes = [
        a_pass(
            number,
            started,
            moving_seconds=30 + 0.1 * gap,
            ended_seconds=started + 190 + 0.1 * gap,
        )
        for number, (started, gap) in enumerate(zip(starts, gaps, strict=True), 1)
    ]
    found, freeze = convergence(passes), forecast(passes)
    assert found is not None
    assert freeze is not None
    assert found.startup_seconds == pytest.approx(30)
    assert found.load == pytest.approx(0.1)
    assert freeze.seconds == pytest.approx(160 + 30 + 0.1 * (290 - 50))


def test_fixed_costs_grow_with_the_objects_listed() -> None:
    grown = replace(HOURLY[-1], unchanged=Amount(objects=2300), ended_seconds=4 * 3600.0 + 520)
    found = convergence([*HOURLY[:3], grown])
    assert found is not None
    assert found.fixed.value == pytest.approx(320)


def test_the_last_pass_lists_what_is_new_since() -> None:
    """1300 objects were listed, and the number grows by a tenth of that in an hour."""
    growing = [replace(each, gone=Amount(), new=Amount(objects=130)) for each in HOURLY]
    growing = [replace(each, unchanged=Amount(objects=970)) for each in growing]
    freeze = forecast(growing, frozen_at=4 * 3600.0 + 50 + 3600)
    assert freeze is not None
    assert freeze.seconds == pytest.approx(160 * 1.1 + 200)


@pytest.mark.parametrize("passes", [[], HOURLY[:1]])
def test_without_two_passes_nothing_is_guessed(passes: list[PassSummary]) -> None:
    assert convergence(passes) is None
    assert forecast(passes) is None
    assert missing_passes(passes) == 2 - len(passes)
    figures = migration_figures(passes)
    assert figures.passes_ended == len(passes)
    assert figures.freeze_seconds is None
    assert figures.changed_objects_per_second is None


def test_a_clock_that_was_set_back_is_not_believed() -> None:
    back = [HOURLY[1], a_pass(2, 3600.0)]
    assert convergence(back) is None
    assert missing_passes(back) == 1
    assert convergence([a_pass(1, 0.0), a_pass(2, 5e-324)]) is None
    later = forecast([*back, a_pass(3, 7200.0)])
    assert later is not None
    assert later.seconds > 0


def test_passes_in_which_nothing_happened_are_forecast_too() -> None:
    idle = [
        replace(each, new=Amount(), changed=Amount(), gone=Amount(), moving_seconds=0.0)
        for each in HOURLY
    ]
    empty = [replace(each, unchanged=Amount()) for each in idle]
    for passes in (idle, empty):
        found, freeze = convergence(passes), forecast(passes)
        assert found is not None
        assert freeze is not None
        assert found.moved_objects_per_second is None
        assert found.moved_bytes_per_second is None
        assert freeze.seconds == pytest.approx(360)


def test_the_lag_is_since_the_listing_or_since_what_did_not_move() -> None:
    assert HOURLY[0].lag_seconds == 360
    stuck = replace(HOURLY[0], oldest_unmoved_seconds=600.0)
    assert stuck.lag_seconds == 3360
    fresh = replace(HOURLY[0], oldest_unmoved_seconds=3700.0)
    assert fresh.lag_seconds == 360, "the listing may have passed that name before"
    assert stuck.lag_at(10_000.0) == 9400


@pytest.mark.parametrize(
    ("lags", "grows"),
    [
        ([], False),
        ([1.0, 2.0], False),
        ([100.0, 120.0, 140.0], True),
        ([900.0, 100.0, 120.0, 140.0], True),
        ([100.0, 140.0, 120.0], False),
        ([100.0, 105.0, 110.0], False),
        ([100.0, 120.0, 140.0, 100.0], False),
        ([0.0, 0.0, 0.0], False),
    ],
)
def test_a_lag_grows_if_the_last_three_do(lags: list[float], grows: bool) -> None:
    assert is_growing(lags) is grows


def test_metrics_are_of_the_last_pass() -> None:
    figures = migration_figures(HOURLY)
    freeze = forecast(HOURLY)
    assert freeze is not None
    assert figures.passes_ended == 4
    assert figures.lag_seconds == 360
    assert not figures.lag_grows
    assert figures.changed_objects_per_second == pytest.approx(400 / 3600)
    assert figures.changed_bytes_per_second == pytest.approx(3_000_000 / 3600)
    assert figures.freeze_seconds == freeze.seconds
    longer = [replace(each, ended_seconds=each.ended_seconds * 1.2) for each in HOURLY]
    assert migration_figures(longer).lag_grows


# -- until -----------------------------------------------------------------------------------------

ENDED = HOURLY[-1].ended_seconds


def test_without_a_pass_one_is_run() -> None:
    assert until(600, 3600, 0.0, []) == SyncStep(action=SyncAction.RUN)


def test_a_lag_that_is_small_enough_is_reached() -> None:
    step = until(600, 3600, ENDED, HOURLY)
    assert step == SyncStep(action=SyncAction.REACHED, lag_seconds=360)


def test_a_lag_that_was_small_enough_grows_while_nobody_runs() -> None:
    step = until(600, 3600, ENDED + 241, HOURLY)
    assert step.action is SyncAction.WAIT
    assert step.lag_seconds == 601
    assert step.wait_seconds == 3600 - 601
    assert step.obstacle is None
    assert until(600, 3600, ENDED + 3600 - 360, HOURLY).action is SyncAction.RUN
    assert until(600, 0, ENDED + 241, HOURLY).action is SyncAction.RUN


def test_a_clock_that_was_set_back_makes_nobody_wait_longer() -> None:
    late = replace(HOURLY[-1], oldest_unmoved_seconds=-1e9)
    step = until(600, 3600, 0.0, [*HOURLY[:3], late])
    assert step.action is SyncAction.WAIT
    assert step.wait_seconds == 3600


def test_a_lag_below_what_a_pass_takes_cannot_be_reached() -> None:
    step = until(120, 3600, ENDED, HOURLY)
    assert step.action is SyncAction.WAIT
    assert step.obstacle is Obstacle.PASSES_TOO_LONG
    assert step.steady_lag_seconds == pytest.approx(160 + 200)
    more_often = until(120, 0, ENDED, HOURLY)
    assert more_often.steady_lag_seconds == pytest.approx(160 / (1 - 200 / 3600))


def test_a_source_that_changes_faster_than_changes_are_moved_is_told() -> None:
    racing = [
        replace(each, moving_seconds=3700.0, ended_seconds=each.started_seconds + 3860)
        for each in HOURLY
    ]
    found = convergence(racing)
    assert found is not None
    assert not found.catches_up
    assert found.steady_lag_seconds(3600) is None
    assert until(600, 3600, racing[-1].ended_seconds, racing).obstacle is Obstacle.CHANGES_TOO_FAST


def test_what_did_not_move_is_told_before_anything_else() -> None:
    stuck = replace(HOURLY[-1], oldest_unmoved_seconds=0.0, failed=3)
    step = until(600, 3600, ENDED, [*HOURLY[:-1], stuck])
    assert step.obstacle is Obstacle.UNMOVED


@pytest.mark.parametrize(("rate", "reached"), [(2.0, True), (16.0, False)])
def test_a_loop_of_passes_ends_if_it_can(rate: float, reached: bool) -> None:
    """At 20 MB/s, 1 MB each: a load of 0.1, and of 0.8."""
    world = SimulatedWorld(objects=20_000, rate=rate, mean_bytes=1e6, bytes_per_second=20e6)
    migration = SimulatedMigration(world, seed=3)
    for _ in range(12):
        now = migration.passes[-1].ended_seconds if migration.passes else 0.0
        step = until(60.0, 0.0, now, migration.passes)
        if step.action is SyncAction.REACHED:
            break
        assert step.action is SyncAction.RUN
        migration.run(1)
    assert (step.action is SyncAction.REACHED) is reached
    if not reached:
        assert step.obstacle is Obstacle.PASSES_TOO_LONG
