"""Small simulated worlds, with more going wrong in an hour than elsewhere in a month."""

from __future__ import annotations

import random
from collections.abc import Sequence

from noria.benchmarks.simulate.driver import Judge, SimulatedDriver
from noria.benchmarks.simulate.run import Simulation, run_simulation
from noria.benchmarks.simulate.settings import DAY, HOUR, MINUTE, Cadence, Faults, Site
from noria.engine.scheduler.events import SchedulerOptions
from noria.engine.scheduler.scheduler import Scheduler
from noria.manifests.model import ShardKind, ShardPlan
from noria.workers.runtime.hold import Hold

SITE = Site(
    workers=8,
    workers_per_node=2,
    worker_rate=20e6,
    connection_rate=4e6,
    source_rate=120e6,
    target_rate=150e6,
    node_rate=45e6,
    in_flight_bytes=64_000_000,
)
HARSH = Faults(
    node_loss_seconds=HOUR,
    node_drain_seconds=2 * HOUR,
    worker_crash_seconds=HOUR,
    zombie_seconds=4 * MINUTE,
    node_cut_seconds=HOUR,
    node_freeze_seconds=2 * HOUR,
    late_message_seconds=2 * MINUTE,
    lost_message_seconds=30 * MINUTE,
    throttle_seconds=HOUR,
    driver_pause_seconds=2 * HOUR,
    driver_restart_seconds=25 * MINUTE,
    failed_leases=0.05,
    lost_uploads=0.05,
    hung_leases=0.02,
    lost_grants=0.02,
    wrong_results=0.03,
    poisoned_shards=0.05,
)
CALM = Faults().scaled(0)
CADENCE = Cadence(report_seconds=10.0, tick_seconds=4.0, bin_seconds=60.0)
OPTIONS = SchedulerOptions(stall_seconds=20 * MINUTE, attempts_per_span=5)
SHARDS = 40
LONGEST_SECONDS = DAY
"""No world here takes longer, however harsh."""


def made_up_shards(seed: int) -> list[ShardPlan]:
    """Shards of a few minutes each, a third of them huge objects of several leases."""
    chance = random.Random(f"shards {seed}")
    shards = []
    for number in range(SHARDS):
        kind = ShardKind.PARTS if chance.random() < 0.3 else ShardKind.OBJECTS
        units = chance.randint(2, 30) if kind is ShardKind.PARTS else chance.randint(1, 400)
        each = 600_000_000 if kind is ShardKind.PARTS else chance.lognormvariate(17, 0.8)
        shards.append(
            ShardPlan(
                shard=number,
                kind=kind,
                units=units,
                bytes=int(units * each),
                units_per_lease=8 if kind is ShardKind.PARTS else units,
            )
        )
    return shards


def run_small(
    seed: int,
    faults: Faults = HARSH,
    scheduler_type: type[Scheduler] = Scheduler,
    judges: Sequence[Judge] = (),
    options: SchedulerOptions = OPTIONS,
    driver_type: type[SimulatedDriver] = SimulatedDriver,
    hold_type: type[Hold] = Hold,
) -> Simulation:
    return run_simulation(
        made_up_shards(seed),
        SITE,
        faults,
        options=options,
        seed=seed,
        cadence=CADENCE,
        scheduler_type=scheduler_type,
        driver_type=driver_type,
        hold_type=hold_type,
        judges=judges,
    )
