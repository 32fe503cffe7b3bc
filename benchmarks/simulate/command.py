"""`noria simulate`: the scheduler itself, with simulated workers, stores, faults and clock.

    noria simulate --bytes 10PB --objects 1e9 --workers 400
    noria simulate JOB.toml --workers 100 --faults 3 --plot run.png
    noria simulate --bytes 10PB --objects 1e9 --passes 6 --changing 0.5

Discrete events on one core; every event and command is judged by a bookkeeping of its own, and the
same seed gives the same run, to the last command.
"""

from __future__ import annotations

import importlib.util
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from noria.benchmarks.simulate.passes import (
    PassPrices,
    SimulatedPass,
    SourceLife,
    simulate_passes,
)
from noria.benchmarks.simulate.plan import SimulatedPlan, made_up_job, planned_job
from noria.benchmarks.simulate.report import SimulationFindings
from noria.benchmarks.simulate.run import Simulation, ideal_seconds, run_simulation
from noria.benchmarks.simulate.settings import HOUR, Cadence, Faults, Site
from noria.benchmarks.simulate.steering import SteeringPlan, steered
from noria.engine.config.jobfile import RunConfig
from noria.engine.config.quantities import parse_size
from noria.engine.job import STALL_SECONDS
from noria.engine.scheduler.events import SchedulerOptions
from noria.engine.terminal.figures import size_text
from noria.manifests.count_text import count_text
from noria.manifests.errors import ConfigurationError

FACTOR_MOST = 100.0
"""With more faults than that, hardly anything is ever done."""

METADATA_MS_MOST = 1000.0
PASSES_MOST = 100
CHANGING_MOST = 50.0
"""Percent a day."""
PASS_SEEDS = 1_000_003
"""Between the seeds of two passes: those of two runs that a user asks for are closer."""
LATER_REPORTS = 200_000
"""Of all workers in a later pass, which is short: half a minute of one core."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """The options of `noria simulate`, sizes and counts as the user wrote them.

    None means what the job file says, or else the default of Site and Faults.
    """

    job: Path | None = None
    bytes: str | None = None
    objects: str | None = None
    shards: int | None = None
    workers: int | None = None
    workers_per_node: int | None = None
    worker_rate: str | None = None
    node_rate: str | None = None
    store_rate: str | None = None
    bandwidth: str | None = None
    metadata_ms: float = 0.0
    faults: float = 1.0
    node_loss_hours: float | None = None
    node_cut_hours: float | None = None
    driver_restart_hours: float | None = None
    passes: int | None = None
    changing: float | None = None
    steered: bool = False
    seed: int = 1
    plot: Path | None = None


def simulate(options: SimulationOptions, say: Say) -> SimulationFindings:
    """Simulate the whole job.

    Raises ConfigurationError before it begins if the options cannot be simulated.
    """
    _check_plot(options.plot)
    faults, life = _faults(options), _life(options)
    plan = _plan(options)
    run_config = plan.config.run if plan.config else RunConfig()
    site = _site(options, run_config)
    say(
        f"simulating {count_text(len(plan.shards), 'shard')} on "
        f"{count_text(site.workers, 'worker')}, seed {options.seed}"
    )
    started = time.monotonic()
    world = _World(
        plan=plan,
        site=site,
        faults=faults,
        options=SchedulerOptions(
            heartbeat_timeout_seconds=run_config.heartbeat_timeout_seconds,
            attempts_per_span=run_config.attempts,
            stall_seconds=STALL_SECONDS,
        ),
        seed=options.seed,
        say=say,
        steering=_steering(options, run_config, site),
    )
    passes: Sequence[SimulatedPass] = ()
    if options.passes is None:
        run = world.move_first()
    else:
        passes = simulate_passes(plan, life, PassPrices(), options.passes, world.move)
        first = passes[0].run
        assert first is not None, "a job has bytes"
        run = first
    found = SimulationFindings(
        plan=plan,
        site=site,
        faults=faults,
        seed=options.seed,
        run=run,
        real_seconds=time.monotonic() - started,
        passes=passes,
    )
    return found if options.plot is None else _plotted(found, options.plot)


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """In which the passes of a migration move, each by a run of its own."""

    plan: SimulatedPlan
    """Of the first."""
    site: Site
    faults: Faults
    options: SchedulerOptions
    seed: int
    say: Say
    steering: SteeringPlan | None

    def move_first(self) -> Simulation:
        return run_simulation(
            self.plan.shards,
            self.site,
            self.faults,
            options=self.options,
            seed=self.seed,
            say=self.say,
            steering=self.steering,
        )

    def move(self, number: int, objects: int, size: int) -> Simulation:
        """Move a pass. What changes is drawn from all objects, so its sizes are as theirs."""
        if number == 1:
            return self.move_first()
        self.say(f"pass {number}: {count_text(objects, 'object')}, {size_text(size)}")
        chance = random.Random(f"plan {self.seed} {number}")
        shards = made_up_job(size, objects, None, chance).shards
        seconds = ideal_seconds(shards, self.site)
        return run_simulation(
            shards,
            self.site,
            self.faults,
            options=self.options,
            seed=self.seed + PASS_SEEDS * number,
            cadence=Cadence.fitting(self.site.workers, seconds, LATER_REPORTS),
        )


def _steering(options: SimulationOptions, run: RunConfig, site: Site) -> SteeringPlan | None:
    """Who steers the first job: the windows of the job file; with --steered all that there is."""
    windows = tuple(each.window(number) for number, each in enumerate(run.windows, 1))
    if options.steered:
        drawn = steered(min(site.source_rate, site.target_rate))
        return replace(drawn, windows=windows or drawn.windows)
    return SteeringPlan(windows=windows) if windows else None


def _life(options: SimulationOptions) -> SourceLife:
    if options.passes is None:
        if options.changing is not None:
            raise ConfigurationError("--changing is about passes: give --passes too")
        return SourceLife()
    if not 2 <= options.passes <= PASSES_MOST:
        raise ConfigurationError(
            f"--passes {options.passes} is out of range; give 2 to {PASSES_MOST}"
        )
    if options.changing is None:
        return SourceLife()
    if not 0 <= options.changing <= CHANGING_MOST:
        raise ConfigurationError(
            f"--changing {options.changing:g} is out of range; give percent a day from 0 to "
            f"{CHANGING_MOST:g}"
        )
    return SourceLife(changing_share=options.changing / 100)


def _plan(options: SimulationOptions) -> SimulatedPlan:
    made_up = {"--bytes": options.bytes, "--objects": options.objects, "--shards": options.shards}
    given = [name for name, value in made_up.items() if value is not None]
    if options.job is not None:
        if given:
            raise ConfigurationError(f"{options.job} says what to move; leave out {given[0]}")
        return planned_job(options.job)
    if options.bytes is None or options.objects is None:
        raise ConfigurationError(
            "say what to move: JOB.toml of a planned job, or --bytes 10PB --objects 1e9"
        )
    total, objects = _size("--bytes", options.bytes), _count("--objects", options.objects)
    return made_up_job(total, objects, options.shards, random.Random(f"plan {options.seed}"))


def _site(options: SimulationOptions, run: RunConfig) -> Site:
    site = replace(Site(), leases=run.leases, journal_seconds=run.journal_seconds)
    changes: dict[str, float] = {}
    if options.workers or run.workers:
        changes["workers"] = options.workers or run.workers
    if options.workers_per_node:
        changes["workers_per_node"] = options.workers_per_node
    if options.worker_rate is not None:
        changes["worker_rate"] = _size("--worker-rate", options.worker_rate)
    if options.node_rate is not None:
        changes["node_rate"] = _size("--node-rate", options.node_rate)
    if options.store_rate is not None:
        rate = _size("--store-rate", options.store_rate)
        changes.update(source_rate=rate, target_rate=rate)
    bandwidth = run.bandwidth
    if options.bandwidth is not None:
        bandwidth = _size("--bandwidth", options.bandwidth.removesuffix("/s"))
    if bandwidth:
        # All workers together read no more: it is as if the source gave no more.
        changes["source_rate"] = min(bandwidth, changes.get("source_rate", site.source_rate))
    if not 0 <= options.metadata_ms <= METADATA_MS_MOST:
        raise ConfigurationError(
            f"--metadata-ms {options.metadata_ms:g} is out of range; give milliseconds from 0 to "
            f"{METADATA_MS_MOST:g}"
        )
    changes["metadata_seconds"] = options.metadata_ms / 1000
    return replace(site, **changes)  # type: ignore[arg-type]  # workers are int if given


def _faults(options: SimulationOptions) -> Faults:
    if not 0 <= options.faults <= FACTOR_MOST:
        raise ConfigurationError(
            f"--faults {options.faults:g} is out of range; give a factor from 0 (none at all) to "
            f"{FACTOR_MOST:.0f}"
        )
    faults = Faults().scaled(options.faults)
    hours = {
        "node_loss_seconds": ("--node-loss", options.node_loss_hours),
        "node_cut_seconds": ("--node-cut", options.node_cut_hours),
        "driver_restart_seconds": ("--driver-restart", options.driver_restart_hours),
    }
    for field, (name, value) in hours.items():
        if value is None:
            continue
        if not (value == 0 or 0.01 <= value < float("inf")):
            raise ConfigurationError(
                f"{name} {value:g} is out of range; give hours, at least 0.01, or 0 for never"
            )
        faults = replace(faults, **{field: value * HOUR})
    return faults


def _size(name: str, text: str) -> int:
    """Bytes, or bytes a second. Raises ConfigurationError."""
    try:
        size = parse_size(text)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    if size < 1:
        raise ConfigurationError(f"{name} {text} is too little; raise it")
    return size


def _count(name: str, text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 1 <= number < 1e15:
        raise ConfigurationError(f"{name} {text} is not a count; write a number such as 1e9")
    return int(number)


def _check_plot(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix.lower() != ".png" or path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigurationError(f"--plot {path}: name a FILE.png in a directory that exists")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigurationError(
            "--plot needs matplotlib; install noria[bench], or leave --plot out"
        )


def _plotted(found: SimulationFindings, path: Path) -> SimulationFindings:
    from noria.benchmarks.simulate.plots import plot_passes, plot_run

    try:
        (plot_passes if found.passes else plot_run)(found, path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}; see --plot") from error
    return replace(found, plot=str(path))
