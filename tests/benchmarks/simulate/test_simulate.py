"""`noria simulate`: small worlds whole, the parts they are made of, and what the command says."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest

from noria.benchmarks.simulate.command import SimulationOptions, simulate
from noria.benchmarks.simulate.flow import Flow
from noria.benchmarks.simulate.ledger import SimulationLedger, Violation
from noria.benchmarks.simulate.plan import made_up_job
from noria.benchmarks.simulate.records import Figures
from noria.benchmarks.simulate.report import SimulationFindings, print_report, summary, tail_seconds
from noria.benchmarks.simulate.run import Simulation, ideal_seconds, run_simulation
from noria.benchmarks.simulate.runs import Runs
from noria.benchmarks.simulate.settings import HOUR, SEAL_OPERATIONS, Cadence, Faults, Site
from noria.engine.job import STALL_SECONDS
from noria.engine.scheduler.events import (
    Command,
    Event,
    Finish,
    Grant,
    SchedulerOptions,
    SettledSpan,
    WorkerJoined,
    WorkerReported,
)
from noria.engine.scheduler.scheduler import Scheduler
from noria.manifests.errors import ConfigurationError
from noria.manifests.model import Lease, LeaseKind, ShardKind, ShardPlan
from noria.manifests.plan.shards import MIN_SHARD_BYTES
from tests.support.moves import NORIA
from tests.support.scheduler_ledger import Ledger as UnitLedger
from tests.support.simulated_worlds import (
    CALM,
    HARSH,
    LONGEST_SECONDS,
    OPTIONS,
    SITE,
    made_up_shards,
    run_small,
)

PNG = b"\x89PNG\r\n"
SEEDS = range(100, 108)
SMALL = SimulationOptions(
    bytes="1TB", objects="1e5", workers=16, store_rate="800MB", worker_rate="100MB"
)


# -- whole worlds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_the_job_ends_and_every_check_holds(seed: int) -> None:
    run = run_small(seed)
    assert run.violation is None
    assert run.seconds < LONGEST_SECONDS


def test_everything_that_may_go_wrong_does_in_these_worlds() -> None:
    happened = sum((Counter(run_small(seed).figures.counts) for seed in SEEDS), Counter[str]())
    wanted = {
        "node lost",
        "node drained",
        "worker crashed",
        "worker silent",
        "worker lost: heartbeat_expired",
        "node cut off",
        "node frozen",
        "message late",
        "message lost",
        "worker unreachable",
        "hold over",
        "worker ended itself",
        "throttled",
        "driver stood still",
        "driver restarted",
        "leases failed",
        "upload lost",
        "generations lost",
        "lease hung",
        "grant lost",
        "wrong result",
        "quarantine",
        "splits answered",
        "splits late",
        "splits lost",
        "stale results",
    }
    assert wanted <= set(+happened)


def test_nothing_is_moved_twice_where_nothing_goes_wrong() -> None:
    run = run_small(1, CALM)
    assert run.violation is None
    assert run.figures.repeated_bytes == 0
    shards = made_up_shards(1)
    assert run.figures.useful_bytes == pytest.approx(sum(plan.bytes for plan in shards))
    assert ideal_seconds(shards, SITE) < run.seconds < 1.5 * ideal_seconds(shards, SITE)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_that_is_away_for_hours_changes_nothing_but_the_time(seed: int) -> None:
    """Leases of workers that wait for it do not stall: see STALL_SECONDS of engine/job.py."""
    patient = replace(OPTIONS, stall_seconds=STALL_SECONDS)
    calm = run_small(seed, CALM, options=patient)
    away = run_small(seed, replace(CALM, outage_seconds=calm.seconds / 3), options=patient)
    outages = away.figures.counts.get("store away", 0)
    assert away.violation is None
    assert away.figures.repeated_bytes == 0
    assert away.figures.useful_bytes == pytest.approx(calm.figures.useful_bytes)
    assert not away.figures.counts.get("quarantine", 0)
    assert away.seconds < 2 * calm.seconds + 2 * HOUR * outages


def test_stores_that_are_away_among_all_other_faults_lose_nothing() -> None:
    run = run_small(1, replace(HARSH, outage_seconds=3 * HOUR))
    assert run.violation is None
    assert run.figures.counts["store away"]


def test_the_same_seed_gives_the_same_trace_and_another_one_another() -> None:
    first, again, other = run_small(1), run_small(1), run_small(2)
    assert first.digest == again.digest
    assert (first.events, first.commands, first.seconds) == (
        again.events,
        again.commands,
        again.seconds,
    )
    assert other.digest != first.digest


class ByUnits:
    """The judge of the scheduler's own tests, one for each driver's life: it keeps single units."""

    def __init__(self, plans: Sequence[ShardPlan]) -> None:
        self._plans = plans
        self.runs = 0
        self.finished = False

    def begin_run(
        self, settled: Sequence[SettledSpan], generations: Mapping[int, int], first_attempt: int
    ) -> None:
        self.runs += 1
        options = Cadence(report_seconds=10, tick_seconds=4, bin_seconds=60).options(OPTIONS)
        self._ledger = UnitLedger.of(
            self._plans, settled, generations, first_attempt=first_attempt, options=options
        )

    def take(self, event: Event, commands: list[Command]) -> None:
        self._ledger.take(event, commands)
        self.finished |= any(isinstance(command, Finish) for command in commands)


def test_two_judges_that_know_nothing_of_each_other_agree() -> None:
    by_units = ByUnits(made_up_shards(3))
    assert run_small(3, judges=[by_units]).violation is None
    assert by_units.runs > 1
    assert by_units.finished


def test_the_price_of_a_file_system_is_the_drivers_to_pay() -> None:
    free, dear = (
        simulate(replace(SMALL, faults=0.0, metadata_ms=price), lambda line: None)
        for price in (0.0, 50.0)
    )
    assert (free.run.violation, dear.run.violation) == (None, None)
    assert free.run.figures.file_seconds == 0.0
    seals = dear.run.figures.counts["seals"]
    assert dear.run.figures.file_seconds == pytest.approx(seals * SEAL_OPERATIONS * 0.05)
    assert dear.run.seconds >= free.run.seconds
    printed = summary(dear)
    assert 0.0 < printed["file_share"] < 1.0


def test_slow_workers_do_not_hold_up_the_end() -> None:
    """The slowest has a tenth of the speed: its last lease alone would take hours."""
    shards = [
        ShardPlan(shard=n, kind=ShardKind.OBJECTS, units=1000, bytes=10**11, units_per_lease=1000)
        for n in range(40)
    ]
    site = replace(Site(), workers=20, worker_rate=50e6, worker_spread=0.0, slow_share=0.2)
    run = run_simulation(shards, site, CALM, options=OPTIONS, seed=1)
    assert run.violation is None
    alone = 10**11 / (site.worker_rate / 10)
    assert run.seconds < 1.4 * ideal_seconds(shards, site) < alone
    assert tail_seconds(run) < 10 * 60


# -- few leases, many connections ------------------------------------------------------------------

ROAD = replace(
    Site(),
    workers=2,
    workers_per_node=1,
    worker_rate=1e9,
    worker_spread=0.0,
    slow_share=0.0,
    connection_rate=4e6,
    transfers=32,
)
"""Two workers between stores that give a connection 4 MB/s, and may have 64 of them."""
SECOND = Cadence(report_seconds=1.0, tick_seconds=1.0, bin_seconds=1.0)


class IgnoresHunger(Scheduler):
    """As many leases for each worker as it offers, whatever it reports."""

    def on(self, event: Event) -> list[Command]:
        if isinstance(event, WorkerReported):
            event = replace(event, free_places=0)
        return super().on(event)


def moved_by(
    shards: Sequence[ShardPlan], site: Site, scheduler_type: type[Scheduler] = Scheduler
) -> Simulation:
    run = run_simulation(
        shards,
        site,
        CALM,
        options=SchedulerOptions(),
        seed=1,
        cadence=SECOND,
        scheduler_type=scheduler_type,
    )
    assert run.violation is None
    assert run.figures.repeated_bytes == 0
    return run


def object_shards(each: Sequence[int], size: int) -> list[ShardPlan]:
    return [
        ShardPlan(shard=number, kind=ShardKind.OBJECTS, units=n, bytes=n * size, units_per_lease=n)
        for number, n in enumerate(each)
    ]


def test_few_leases_of_few_objects_keep_all_connections_busy() -> None:
    """65 objects of 1.6 GB in 17 shards of four: two leases a worker would be 16 in flight."""
    shards = object_shards([4] * 16 + [1], 1_600_000_000)
    site = replace(ROAD, part_bytes=2_000_000_000)
    alone = 1_600_000_000 / site.connection_rate
    held_back = moved_by(shards, site, IgnoresHunger)
    assert held_back.figures.transfers_most == 16
    assert held_back.seconds > 4 * alone
    run = moved_by(shards, site)
    assert run.figures.transfers_most == 64
    assert run.seconds < 2.2 * alone, "64 at once, and the last one"


def test_small_shards_are_enough_for_a_worker_that_asks_for_many() -> None:
    """Sixty objects of 64 MiB, one to a lease: 16 s each."""
    shards = object_shards([1] * 60, 64 * 1024**2)
    held_back, run = moved_by(shards, ROAD, IgnoresHunger), moved_by(shards, ROAD)
    assert held_back.figures.transfers_most == 4
    assert run.figures.transfers_most > 50
    assert run.seconds < held_back.seconds / 4


@pytest.mark.parametrize(("size", "part"), [(6 * 1024**3, 16), (10**12, 104)])
@pytest.mark.parametrize("workers", [2, 64])
def test_a_huge_object_alone_keeps_all_workers_busy(size: int, part: int, workers: int) -> None:
    part_bytes = part * 1024**2
    parts = -(-size // part_bytes)
    shard = ShardPlan(
        shard=0,
        kind=ShardKind.PARTS,
        units=parts,
        bytes=size,
        units_per_lease=4 * 1024**3 // part_bytes,
    )
    site = replace(ROAD, workers=workers, transfers=64 // workers, part_bytes=part_bytes)
    run = moved_by([shard], site)
    assert run.figures.transfers_most == 64
    # Workers take up to 40 s to start.
    assert run.seconds < size / (64 * site.connection_rate) * 1.1 + 60


@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("objects", [24, 128])
def test_the_last_tenth_is_hardly_slower_than_the_rest(
    workers: int, objects: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects of 256 MiB, four to a lease if there are many."""
    monkeypatch.setattr("noria.benchmarks.simulate.driver.START_SECONDS", (1.0, 2.0))
    each = 4 if objects > 32 else 1
    shards = object_shards([each] * (objects // each), 256 * 1024**2)
    site = replace(ROAD, workers=workers, transfers=64 // workers, part_bytes=16 * 1024**2)
    moved = moved_by(shards, site).figures.moved
    tenth, seconds, last = sum(moved) / 10, 0.0, 0.0
    while last < tenth:
        last += moved[-1 - int(seconds)]
        seconds += 1
    rest = len(moved) - seconds - 1
    assert tenth / seconds > 0.6 * 9 * tenth / rest, "counted in whole seconds"


# -- parts of it -----------------------------------------------------------------------------------


def test_runs_are_a_set_of_numbers() -> None:
    chance = random.Random(5)
    runs, plain = Runs(), set[int]()
    for _ in range(400):
        first = chance.randrange(200)
        end = first + chance.randrange(12)
        asked = set(range(first, end))
        assert runs.meets(first, end) == bool(asked & plain)
        gaps = {n for low, high in runs.gaps(first, end) for n in range(low, high)}
        assert gaps == asked - plain
        if chance.random() < 0.3:
            assert runs.add(first, end) == len(asked - plain)
            plain |= asked
        assert runs.size == len(plain)
        listed = list(runs)
        assert listed == sorted(listed)
        assert {n for low, high in listed for n in range(low, high)} == plain


class Item:
    version = 0


def test_workers_that_want_more_than_a_store_gives_get_an_even_share() -> None:
    flow = Flow[Item](100.0, 200.0)
    flow.change_demand(50.0)
    item = Item()
    flow.add(10.0, item)
    assert flow.next_time() == 10.0
    flow.change_demand(150.0)
    assert flow.next_time() == 20.0
    flow.advance(10.0)
    flow.throttle("target", 0.25)
    assert flow.next_time() == 30.0
    flow.throttle("target", 1.0)
    flow.throttle("source", 0.5)
    assert flow.next_time() == 30.0
    item.version += 1
    assert flow.next_time() == float("inf")


def test_a_made_up_plan_is_what_the_planner_would_cut() -> None:
    plan = made_up_job(10**15, 10**8, None, random.Random(1))
    assert plan.bytes == pytest.approx(10**15, rel=0.02)
    assert 14_500 < len(plan.shards) < 18_000
    huge = [shard for shard in plan.shards if shard.kind is ShardKind.PARTS]
    assert sum(shard.units for shard in plan.shards if shard not in huge) == pytest.approx(
        10**8, rel=0.01
    )
    assert 300 < len(huge) < 3000
    for shard in huge:
        assert shard.bytes > 4 * 1024**3
        assert 1 <= shard.units_per_lease <= shard.units
    assert [shard.shard for shard in plan.shards] == list(range(len(plan.shards)))


def test_a_made_up_plan_has_about_as_many_shards_as_asked_for() -> None:
    plan = made_up_job(10**13, 10**6, 500, random.Random(1))
    assert 500 <= len(plan.shards) < 700
    small = made_up_job(10**9, 1000, 10**6, random.Random(1))
    assert len(small.shards) == pytest.approx(10**9 / MIN_SHARD_BYTES, rel=0.3)


def test_moved_bytes_are_booked_over_the_time_they_took() -> None:
    figures = Figures(Cadence(report_seconds=1, tick_seconds=1, bin_seconds=10))
    figures.add_moved(5.0, 35.0, 300.0)
    figures.add_moved(12.0, 13.0, 7.0)
    figures.add_moved(40.0, 40.0, 1.0)
    assert figures.moved == pytest.approx([50.0, 107.0, 100.0, 50.0, 1.0])


def test_no_faults_are_none_and_more_are_more_often() -> None:
    assert {getattr(CALM, item.name) for item in fields(Faults)} == {0}
    assert HARSH.scaled(2).node_loss_seconds == HARSH.node_loss_seconds / 2
    assert Faults(failed_leases=0.3).scaled(10).failed_leases == 0.5
    assert HARSH.scaled(100).clock_drift == HARSH.clock_drift, "as far apart as is promised"


def test_a_lease_for_an_unknown_worker_is_a_violation() -> None:
    plans = made_up_shards(1)[:1]
    ledger = SimulationLedger(plans, OPTIONS)
    ledger.begin_run([], {}, 1)
    lease = Lease(shard=0, kind=LeaseKind.OBJECTS, first=0, end=1, attempt=1, generation=0)
    joined = WorkerJoined(now=0.0, worker="a", slots=1)
    with pytest.raises(Violation, match="gone, leaving or full"):
        ledger.take(joined, [Grant(worker="b", lease=lease)])


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> SimulationFindings:
    return simulate(
        replace(SMALL, plot=tmp_path_factory.mktemp("plot") / "run.png"), lambda line: None
    )


def test_the_report_says_what_was_found(
    found: SimulationFindings, capsys: pytest.CaptureFixture[str]
) -> None:
    document = summary(found)
    assert document["violation"] is None
    assert document["exit_code"] == 0
    assert document["seconds"] > document["ideal_seconds"] > 0
    assert 0 < document["tail_seconds"] < document["seconds"]
    assert 0 <= document["rework_bytes"] <= document["rework_bound_bytes"]
    assert document["leases"] >= document["job"]["shards"]
    assert document == json.loads(json.dumps(document))
    print_report(document)
    printed = capsys.readouterr().out
    for word in ("duration", "moved again", "idle", "tail", "splits", found.run.digest):
        assert word in printed


def test_a_violation_is_said_and_is_exit_code_1(
    found: SimulationFindings, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(found, run=replace(found.run, violation="a [unit] was lost"))
    document = summary(broken)
    assert document["exit_code"] == 1
    print_report(document)
    printed = capsys.readouterr().out
    assert "a [unit] was lost" in printed
    assert "held" not in printed


def test_the_picture_is_drawn(found: SimulationFindings) -> None:
    assert found.plot is not None
    assert Path(found.plot).read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (SimulationOptions(), "say what to move"),
        (SimulationOptions(bytes="1TB"), "--objects 1e9"),
        (SimulationOptions(bytes="1XB", objects="10"), "--bytes: "),
        (SimulationOptions(bytes="1TB", objects="many"), "write a number such as 1e9"),
        (SimulationOptions(bytes="1TB", objects="0.5"), "write a number such as 1e9"),
        (SimulationOptions(bytes="0", objects="10"), "raise it"),
        (SimulationOptions(bytes="10PB", objects="10"), "raise --objects"),
        (SimulationOptions(bytes="10EB", objects="1e12"), "--shards"),
        (replace(SMALL, faults=-1.0), "give a factor from 0"),
        (replace(SMALL, faults=float("nan")), "give a factor from 0"),
        (replace(SMALL, node_loss_hours=-1.0), "0 for never"),
        (replace(SMALL, node_cut_hours=0.001), "--node-cut 0.001 is out of range"),
        (replace(SMALL, driver_restart_hours=float("inf")), "0 for never"),
        (replace(SMALL, store_rate="fast"), "--store-rate: "),
        (replace(SMALL, metadata_ms=-1.0), "--metadata-ms -1 is out of range"),
        (replace(SMALL, metadata_ms=float("nan")), "--metadata-ms nan is out of range"),
        (replace(SMALL, plot=Path("run.jpg")), "name a FILE.png"),
        (replace(SMALL, plot=Path("/nowhere/run.png")), "in a directory that exists"),
        (replace(SMALL, job=Path("job.toml")), "leave out --bytes"),
        (SimulationOptions(job=Path("/nowhere/job.toml")), "cannot read /nowhere/job.toml"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_with_the_next_step(
    options: SimulationOptions, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        simulate(options, lambda line: None)
    assert "\n" not in str(refused.value)


def command(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(NORIA), "simulate", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=False,
    )


def test_the_command_prints_one_document_and_the_same_one_in_any_process() -> None:
    arguments = ("--bytes", "1TB", "--objects", "1e5", "--workers", "20", "--store-rate", "2GB")
    documents = [
        json.loads(command(*arguments, "--json", hash_seed=seed).stdout) for seed in ("1", "2")
    ]
    assert documents[0]["digest"] == documents[1]["digest"]
    assert documents[0]["events"] > 100


def test_the_command_refuses_in_one_line_with_exit_code_2() -> None:
    refused = command("--bytes", "1TB")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr == (
        "noria: say what to move: JOB.toml of a planned job, or --bytes 10PB --objects 1e9\n"
    )


def test_a_planned_job_is_simulated_by_its_own_shards(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "target").mkdir()
    for number in range(100):
        (source / f"{number}.bin").write_bytes(b"x" * (1 + number))
    job = tmp_path / "job.toml"
    job.write_text(f'source = "file://{source}"\ntarget = "file://{tmp_path}/target"\n')
    with pytest.raises(ConfigurationError, match="noria plan"):
        simulate(SimulationOptions(job=job), lambda line: None)
    planned = subprocess.run(
        [str(NORIA), "plan", str(job)], capture_output=True, text=True, check=False
    )
    assert planned.returncode == 0, planned.stderr
    for path in (job, tmp_path / "job"):
        found = simulate(SimulationOptions(job=path, workers=3, faults=0), lambda line: None)
        assert found.run.violation is None
        assert (found.plan.objects, found.plan.bytes) == (100, 5050)
        assert found.run.figures.useful_bytes == pytest.approx(5050)


def test_driver_restarts_come_as_often_as_asked_for() -> None:
    options = replace(SMALL, faults=0.0, driver_restart_hours=0.1, node_loss_hours=0.0)
    found = simulate(options, lambda line: None)
    restarts = [when for when, what in found.run.figures.marks if what == "driver restarted"]
    assert found.run.violation is None
    assert restarts == pytest.approx([0.1 * HOUR * (n + 1) for n in range(len(restarts))])
    assert len(restarts) == int(found.run.seconds / (0.1 * HOUR))
