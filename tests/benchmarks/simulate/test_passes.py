"""`noria simulate --passes`: what each pass has to move, what it takes, how far behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from noria.benchmarks.simulate.command import SimulationOptions, simulate
from noria.benchmarks.simulate.passes import (
    MILLION,
    PassPrices,
    SimulatedPass,
    SourceLife,
    simulate_passes,
)
from noria.benchmarks.simulate.plan import SimulatedPlan
from noria.benchmarks.simulate.report import SimulationFindings, print_report, summary
from noria.benchmarks.simulate.run import Simulation
from noria.benchmarks.simulate.settings import DAY
from noria.engine.estimate.rates import FIXED_SECONDS
from noria.manifests.errors import ConfigurationError
from tests.support.simulated_worlds import CALM, run_small

PNG = b"\x89PNG\r\n"
SMALL = SimulationOptions(
    bytes="1TB",
    objects="1e5",
    workers=16,
    store_rate="800MB",
    worker_rate="100MB",
    passes=4,
    changing=50.0,
)
PLAN = SimulatedPlan(shards=(), objects=10 * MILLION, bytes=100 * MILLION * MILLION)
LIFE = SourceLife(changing_share=0.1, new_share=0.25)


@pytest.fixture(scope="module")
def calm_run() -> Simulation:
    return run_small(1, CALM)


class Movers:
    """Moves a pass in a given time, and keeps what it was asked."""

    def __init__(self, run: Simulation, seconds: list[float]) -> None:
        self._run = run
        self._seconds = seconds
        self.asked: list[tuple[int, int, int]] = []

    def __call__(self, number: int, objects: int, size: int) -> Simulation:
        self.asked.append((number, objects, size))
        return replace(self._run, seconds=self._seconds[number - 1])


# -- what a pass has to do -------------------------------------------------------------------------


def test_what_changes_in_a_day_and_in_many() -> None:
    assert LIFE.since(0.0, MILLION) == (0, 0)
    assert LIFE.since(DAY, MILLION) == (25_000, 75_000)
    # An object that changes twice is moved once: 1 - 0.9^2 of them are touched in two days.
    assert LIFE.since(2 * DAY, MILLION) == (47_500, 142_500)
    assert sum(LIFE.since(1_000 * DAY, MILLION)) == MILLION


def test_passes_follow_each_other_and_bring_what_changed_since_the_last_listing(
    calm_run: Simulation,
) -> None:
    prices = PassPrices(
        listing=2.0, first_plan=5.0, plan=3.0, first_state=4.0, state=1.0, reconcile=0.5
    )
    movers = Movers(calm_run, [DAY, 100.0, 50.0])
    first, second, third = simulate_passes(PLAN, LIFE, prices, 3, movers)

    assert (first.new, first.changed) == (PLAN.objects, 0)
    assert first.seconds == FIXED_SECONDS + 10 * (2 + 5) + DAY + 10 * (4 + 2 + 0.5)
    assert first.lag_seconds is None

    assert second.begun == first.seconds
    assert (second.new, second.changed) == LIFE.since(first.seconds, PLAN.objects)
    assert second.standing == PLAN.objects + second.new
    rows = second.standing / MILLION
    assert second.seconds == pytest.approx(FIXED_SECONDS + rows * (5 + 3.5) + 100)
    assert second.lag_seconds == second.end

    assert third.begun == second.end
    assert (third.new, third.changed) == LIFE.since(second.seconds, second.standing)
    assert [each.frozen for each in (first, second, third)] == [False, False, True]
    # Nothing falls behind under a freeze: only what the pass before left.
    assert third.lag_seconds == pytest.approx(second.seconds)
    moved = [each.new + each.changed for each in (first, second, third)]
    assert movers.asked == [
        (n, objects, 10 * MILLION * objects) for n, objects in enumerate(moved, 1)
    ]


def test_a_source_that_stands_still_is_looked_at_and_not_moved(calm_run: Simulation) -> None:
    movers = Movers(calm_run, [DAY])
    passes = simulate_passes(PLAN, SourceLife(changing_share=0.0), PassPrices(), 3, movers)
    assert [each.run is None for each in passes] == [False, True, True]
    assert passes[1].seconds == passes[1].fixed_seconds > 0
    assert passes[1].as_json()["digest"] is None


def test_it_ends_with_the_first_promise_that_is_broken(calm_run: Simulation) -> None:
    movers = Movers(replace(calm_run, violation="a unit was lost"), [1.0])
    assert len(simulate_passes(PLAN, LIFE, PassPrices(), 5, movers)) == 1


# -- the command -----------------------------------------------------------------------------------


def run(options: SimulationOptions = SMALL) -> SimulationFindings:
    return simulate(options, lambda line: None)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> SimulationFindings:
    return run(replace(SMALL, plot=tmp_path_factory.mktemp("plot") / "passes.png"))


def test_every_pass_holds_and_each_is_shorter_until_the_source_keeps_up(
    found: SimulationFindings,
) -> None:
    assert found.violation is None
    assert found.run is found.passes[0].run
    takes = [each.seconds for each in found.passes]
    assert takes[0] > 4 * takes[1] > 4 * takes[2]
    # Sizes are log-normal: of a thousand drawn ones the mean is off by a sixth.
    for each, error in zip(found.passes[:2], (0.03, 0.5), strict=True):
        assert each.bytes == pytest.approx((each.new + each.changed) * 1e7, rel=error)


def test_the_same_seed_gives_the_same_passes_and_another_one_others(
    found: SimulationFindings,
) -> None:
    def told(one: SimulationFindings) -> list[dict[str, object]]:
        return [each.as_json() for each in one.passes]

    assert told(run()) == told(found)
    other = run(replace(SMALL, seed=2))
    assert {each["digest"] for each in told(other)}.isdisjoint(
        each["digest"] for each in told(found)
    )


def test_the_report_says_what_each_pass_took(
    found: SimulationFindings, capsys: pytest.CaptureFixture[str]
) -> None:
    document = summary(found)
    assert document == json.loads(json.dumps(document))
    assert [each["pass"] for each in document["passes"]] == [1, 2, 3, 4]
    print_report(document)
    printed = capsys.readouterr().out
    assert f"{found.passes[1].changed:,}" in printed
    assert "under a freeze the last pass takes" in printed


def test_a_violation_in_a_later_pass_is_said(
    found: SimulationFindings, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaking(one: SimulatedPass) -> SimulatedPass:
        assert one.run is not None
        return replace(one, frozen=False, run=replace(one.run, violation="a unit was lost"))

    broken = replace(found, passes=(*found.passes[:2], breaking(found.passes[2])))
    assert broken.exit_code == 1
    print_report(summary(broken))
    printed = capsys.readouterr().out
    assert "in pass 3: a unit was lost" in printed
    assert "under a freeze" not in printed


def test_the_picture_of_passes_is_drawn(found: SimulationFindings) -> None:
    assert found.plot is not None
    assert Path(found.plot).read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (replace(SMALL, passes=1), "--passes 1 is out of range"),
        (replace(SMALL, passes=101), "--passes 101 is out of range"),
        (replace(SMALL, passes=None), "give --passes too"),
        (replace(SMALL, changing=-0.1), "--changing -0.1 is out of range"),
        (replace(SMALL, changing=float("nan")), "--changing nan is out of range"),
        (replace(SMALL, changing=51.0), "--changing 51 is out of range"),
    ],
)
def test_passes_that_cannot_be_are_refused(options: SimulationOptions, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        run(options)
