"""One simulation from its first event to Finish, and what is checked at its end.

Discrete events: a heap of what happens when, and the flow of bytes, which says what ends when. No
clock, no thread, and no chance but that of the seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from noria.benchmarks.simulate.driver import Judge, SimulatedDriver
from noria.benchmarks.simulate.faults import FaultInjector
from noria.benchmarks.simulate.flow import Flow
from noria.benchmarks.simulate.holders import HolderLedger
from noria.benchmarks.simulate.ledger import SimulationLedger, Violation
from noria.benchmarks.simulate.records import Figures, Records
from noria.benchmarks.simulate.settings import MINUTE, Cadence, Faults, Site
from noria.benchmarks.simulate.steering import SteeringPlan, SteeringWatch, Steersman
from noria.benchmarks.simulate.workers import Task
from noria.benchmarks.simulate.world import Agenda, World
from noria.engine.scheduler.events import SchedulerOptions
from noria.engine.scheduler.scheduler import Scheduler
from noria.engine.terminal.figures import duration_text
from noria.manifests.model import ShardPlan
from noria.workers.runtime.hold import SHARE_OF_TIMEOUT, Hold

REPORTS = 2_000_000
"""Of all workers together: a few minutes of one core."""
STEERED_STRETCH = 3
"""A job that is steered takes so many times as long, about."""
ANNOUNCEMENTS = 10
ROUNDING = 1e-6
"""Of all bytes: sums of floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """How a simulation went."""

    seconds: float
    """Simulated, to Finish or to the violation."""
    events: int
    commands: int
    digest: str
    figures: Figures
    cadence: Cadence
    options: SchedulerOptions
    violation: str | None
    """What went wrong; None if every check held."""


def ideal_seconds(shards: Sequence[ShardPlan], site: Site) -> float:
    """How long it takes if nothing goes wrong and nobody ever waits."""
    work = sum(shard.bytes for shard in shards)
    return work / min(site.workers * site.worker_rate, site.source_rate, site.target_rate)


def run_simulation(
    shards: Sequence[ShardPlan],
    site: Site,
    faults: Faults,
    *,
    options: SchedulerOptions,
    seed: int,
    cadence: Cadence | None = None,
    scheduler_type: type[Scheduler] = Scheduler,
    driver_type: type[SimulatedDriver] = SimulatedDriver,
    hold_type: type[Hold] = Hold,
    judges: Sequence[Judge] = (),
    steering: SteeringPlan | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Simulation:
    """Run the scheduler until it finishes, or breaks a promise.

    `options` are those of a real run; they are fitted to the cadence. The same arguments give the
    same run, event for event.
    """
    if cadence is None:
        stretch = 1 if steering is None else STEERED_STRETCH
        cadence = Cadence.fitting(site.workers, stretch * ideal_seconds(shards, site), REPORTS)
    options = cadence.options(options)
    figures, timeout_seconds = Figures(cadence), options.heartbeat_timeout_seconds
    holders = HolderLedger(timeout_seconds)
    world = World(
        site=site,
        faults=faults,
        cadence=cadence,
        flow=Flow(site.source_rate, site.target_rate),
        agenda=Agenda(),
        records=Records(shards, figures),
        figures=figures,
        holders=holders,
        hold_seconds=SHARE_OF_TIMEOUT * timeout_seconds,
        hold_type=hold_type,
        chance=random.Random(f"world {seed}"),
    )
    ledger = SimulationLedger(shards, options)
    driver = driver_type(world, options, scheduler_type, [ledger, holders, *judges])
    FaultInjector(world, driver, random.Random(f"weather {seed}"), timeout_seconds).begin()
    violation = None
    if steering is not None:
        steersman = Steersman(world, driver, steering, random.Random(f"steering {seed}"))
        driver.steering = steersman
    try:
        driver.begin()
        if steering is not None:
            steersman.begin()
            SteeringWatch(world, driver, steersman).begin()
        _announce(world, say, ideal_seconds(shards, site) / ANNOUNCEMENTS)
        _play(world, driver)
        _close(world, driver, ledger)
    except Violation as found:
        violation = str(found)
    return Simulation(
        seconds=world.now,
        events=driver.trace.events,
        commands=driver.trace.commands,
        digest=driver.trace.digest,
        figures=figures,
        cadence=cadence,
        options=options,
        violation=violation,
    )


def _announce(world: World, say: Callable[[str], None], seconds: float) -> None:
    if world.now:
        total = sum(plan.bytes for plan in world.records.plans.values())
        figures = world.figures
        share = (sum(figures.moved) - figures.repeated_bytes) / max(1, total)
        say(f"after {duration_text(world.now)}: {share:.0%} of the bytes")
    world.later(max(MINUTE, seconds), _announce, world, say, seconds)


def _play(world: World, driver: SimulatedDriver) -> None:
    flow: Flow[Task] = world.flow
    agenda, cluster = world.agenda, driver.cluster
    while not driver.finished:
        due = flow.next_time()
        if due <= agenda.next_time:
            flow.advance(due)
            cluster.reach(flow.pop())
        else:
            flow.advance(agenda.next_time)
            action, arguments = agenda.pop()
            action(*arguments)


def _close(world: World, driver: SimulatedDriver, ledger: SimulationLedger) -> None:
    """Check what has to hold at the end of a run.

    All bytes are there, and no more were moved again than the faults account for.
    """
    figures, records = world.figures, world.records
    for worker in list(driver.cluster.workers()):
        driver.cluster.die(worker)
    total = sum(plan.bytes for plan in records.plans.values())
    given_up = sum(plan.bytes for plan in ledger.given_up())
    rounding = ROUNDING * max(total, 1)
    if not total - given_up - rounding <= figures.useful_bytes <= total + rounding:
        raise Violation(f"{figures.useful_bytes:.0f} of {total} bytes were moved at the end")
    if figures.repeated_bytes > figures.excused_bytes + rounding:
        raise Violation(
            f"{figures.repeated_bytes:.0f} bytes were moved again; "
            f"the faults explain {figures.excused_bytes:.0f}"
        )
    moved = sum(figures.moved)
    if abs(moved - figures.useful_bytes - figures.repeated_bytes) > rounding:
        raise Violation(f"{moved:.0f} bytes were moved, and not all are accounted for")
