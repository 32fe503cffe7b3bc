"""Simulated jobs that are steered keep every check; who does not heed it is noticed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from noria.benchmarks.simulate.driver import SimulatedDriver
from noria.benchmarks.simulate.run import Simulation, run_simulation
from noria.benchmarks.simulate.settings import MINUTE
from noria.benchmarks.simulate.steering import BEGIN, SteeringPlan, steered
from noria.engine.scheduler.events import Pause
from noria.engine.scheduler.scheduler import Scheduler
from tests.support.simulated_worlds import CADENCE, CALM, HARSH, OPTIONS, SITE, made_up_shards

CADENCE_OF_LOOKS = replace(CADENCE, report_seconds=4.0)
MONDAY_NOON = BEGIN + timedelta(hours=9)
"""So that windows open and close within the hours that a small world takes."""


def run_steered(
    seed: int,
    *,
    harsh: bool = True,
    plan: SteeringPlan | None = None,
    scheduler_type: type[Scheduler] = Scheduler,
    driver_type: type[SimulatedDriver] = SimulatedDriver,
) -> Simulation:
    drawn = replace(
        steered(SITE.source_rate),
        people_seconds=20 * MINUTE,
        others_seconds=15 * MINUTE,
        begin=MONDAY_NOON + timedelta(hours=random.Random(seed).randrange(7 * 24)),
    )
    return run_simulation(
        made_up_shards(seed),
        SITE,
        HARSH if harsh else CALM,
        options=OPTIONS,
        seed=seed,
        cadence=CADENCE_OF_LOOKS,
        scheduler_type=scheduler_type,
        driver_type=driver_type,
        steering=plan or drawn,
    )


@pytest.mark.parametrize("seed", range(10))
def test_whoever_steers_and_whatever_happens_every_check_holds(seed: int) -> None:
    assert run_steered(seed).violation is None


def test_all_of_it_happens_in_these_worlds() -> None:
    happened: Counter[str] = Counter()
    for seed in range(6):
        run = run_steered(seed)
        assert run.violation is None
        happened.update(run.figures.counts)
    for what in ("steered", "pauses", "guard steps"):
        assert happened[what] > 3, happened


def test_a_job_that_nobody_disturbs_loses_nothing_to_pauses() -> None:
    run = run_steered(3, harsh=False)
    assert run.violation is None
    assert run.figures.counts.get("quarantine", 0) == 0


def test_the_same_seed_gives_the_same_run() -> None:
    assert run_steered(5).digest == run_steered(5).digest


class GrantsInAPause(Scheduler):
    """Goes on as if nobody had paused."""

    def _grant_ready(self) -> None:
        paused, self._paused = self._paused, False
        super()._grant_ready()
        self._paused = paused


class TellsNoWorkerOfAPause(SimulatedDriver):
    """Grants nothing, and lets the workers work."""

    def pause_work(self, *, on: bool) -> None:
        self._is_held = on
        self._tell(Pause(now=self._clock(), on=on))

    def end_those_that_go_on(self) -> None:
        pass


def first_violation(**changes: type) -> str:
    for seed in range(12):
        found = run_steered(seed, harsh=False, **changes)  # type: ignore[arg-type]  # one of two types
        if found.violation is not None:
            return found.violation
    return "none"


def test_a_scheduler_that_grants_in_a_pause_is_noticed() -> None:
    assert "in a pause" in first_violation(scheduler_type=GrantsInAPause)


def test_a_driver_that_tells_nobody_is_noticed() -> None:
    assert "works on in a pause" in first_violation(driver_type=TellsNoWorkerOfAPause)


def test_a_cap_that_no_worker_keeps_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.benchmarks.simulate.flow.Flow.cap", lambda self, rate: None)
    assert "bytes in ten seconds" in first_violation()
