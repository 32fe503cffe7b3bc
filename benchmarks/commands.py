"""The two commands of `noria` that are about benchmarks: `bench` and `simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noria.engine.cli import Json
from noria.engine.terminal.console import exit_codes, print_summary, say_unless


def add_commands(app: typer.Typer) -> None:
    """Give `app` the commands below, after its own."""
    for command in (bench, simulate):
        app.command()(command)


def bench(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.toml", help="A job file.")],
    sweep: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=VALUE,VALUE,...",
            help="A setting of [plan] or [run] and its values. Repeat it to try all combinations.",
        ),
    ],
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each combination.")] = 3,
    warm_up: Annotated[bool, typer.Option(help="Run once first without counting it.")] = True,
    limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="About how much each run moves. Default: all."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="New directory for the results. Default: JOB-bench beside the job file."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what the runs wrote at the target.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to run on: HOST:PORT or auto. Default: processes of this machine."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Try settings on real transfers and recommend one.

    Each run moves the same objects into a new folder below the target, which is deleted again.

    \b
    Example:
      noria bench JOB.toml --limit 20GB --sweep part_bytes=8MiB,32MiB --sweep transfers=16,64

    \b
    Exit codes:
      0  every run ended well
      1  some run failed: its setting is not recommended
      2  wrong usage or configuration; nothing was moved
      3  stopped before the end
    """
    with exit_codes(as_json, resumes=False):
        from noria.benchmarks.sweep import command as sweeping
        from noria.benchmarks.sweep import report as sweep_report

        options = sweeping.BenchOptions(
            job_file=job_file,
            sweeps=sweep,
            repeats=repeats,
            warm_up=warm_up,
            limit=limit,
            output=output,
            keep=keep,
            address=address,
        )
        found = sweeping.bench(options, say_unless(as_json))
        print_summary(sweep_report.summary(found), sweep_report.print_report, as_json)
        raise typer.Exit(found.exit_code)


# -- the options of `noria simulate` ---------------------------------------------------------------

PlannedJob = Annotated[
    Path | None,
    typer.Argument(metavar="[JOB.toml|DIR]", help="A planned job. Or use --bytes and --objects."),
]
TotalBytes = Annotated[
    str | None, typer.Option("--bytes", metavar="SIZE", help="What to move: 10PB.")
]
TotalObjects = Annotated[
    str | None, typer.Option(metavar="NUMBER", help="How many objects that is: 1e9.")
]
Shards = Annotated[
    int | None,
    typer.Option(min=1, max=1_000_000, help="About how many shards. Default: as planned."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="Worker processes. Default: 400.")
]
WorkersPerNode = Annotated[
    int | None,
    typer.Option(min=1, max=1000, help="Workers that are lost together. Default: 4."),
]
WorkerRate = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Bytes a second of a worker, the median. Default: 150MB."),
]
NodeRate = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Bytes a second of a node. Default: 3.1GB.")
]
StoreRate = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Bytes a second of each store. Default: 12.5GB."),
]
Bandwidth = Annotated[
    str | None,
    typer.Option(
        metavar="RATE",
        help="Most bytes a second of all workers. Default: what the job file says, or any.",
    ),
]
MetadataPrice = Annotated[
    float,
    typer.Option(
        "--metadata-ms",
        metavar="MS",
        help="What an operation on a file name takes in the job directory: 1 to 5 on a network "
        "file system.",
    ),
]
FaultFactor = Annotated[
    float, typer.Option(help="How often faults happen, times the usual rate; 0: never.")
]
NodeLoss = Annotated[
    float | None,
    typer.Option(metavar="HOURS", help="Mean time between node losses. Default: 1."),
]
NodeCut = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        help="Mean time between nodes that are cut off from the driver. Default: 6.",
    ),
]
DriverRestart = Annotated[
    float | None,
    typer.Option(metavar="HOURS", help="Mean time between driver restarts. Default: 24."),
]
Passes = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        help="How many passes, 2 to 100, the last one under a freeze. Default: one job, no passes.",
    ),
]
Changing = Annotated[
    float | None,
    typer.Option(
        metavar="PERCENT",
        help="With --passes: of the objects, that are changed or added a day. Default: 0.5.",
    ),
]
Steered = Annotated[
    bool,
    typer.Option(
        "--steered",
        help="People cap and pause it, windows open and close, a guard of the source holds it.",
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same run.")]
PlotFile = Annotated[
    Path | None, typer.Option(metavar="FILE.png", help="Draw throughput and faults over time.")
]


def simulate(
    job: PlannedJob = None,
    size: TotalBytes = None,
    objects: TotalObjects = None,
    shards: Shards = None,
    workers: Workers = None,
    workers_per_node: WorkersPerNode = None,
    worker_rate: WorkerRate = None,
    node_rate: NodeRate = None,
    store_rate: StoreRate = None,
    bandwidth: Bandwidth = None,
    metadata_ms: MetadataPrice = 0.0,
    faults: FaultFactor = 1.0,
    node_loss: NodeLoss = None,
    node_cut: NodeCut = None,
    driver_restart: DriverRestart = None,
    passes: Passes = None,
    changing: Changing = None,
    steered: Steered = False,
    seed: Seed = 1,
    plot: PlotFile = None,
    as_json: Json = False,
) -> None:
    """Run the scheduler on a simulated cluster.

    It is the scheduler that runs jobs; workers, stores and faults are simulated, and every step is
    checked.

    \b
    Examples:
      noria simulate --bytes 10PB --objects 1e9 --workers 1000
      noria simulate JOB.toml --workers 100 --faults 3 --plot run.png
      noria simulate --bytes 10PB --objects 1e9 --workers 1000 --passes 6
      noria simulate --bytes 10PB --objects 1e9 --steered

    \b
    Exit codes:
      0  every check held
      1  a check failed: the scheduler broke a promise
      2  wrong usage or configuration
    """
    with exit_codes(as_json, resumes=False):
        from noria.benchmarks.simulate import command as simulating
        from noria.benchmarks.simulate import report as simulate_report

        options = simulating.SimulationOptions(
            job=job,
            bytes=size,
            objects=objects,
            shards=shards,
            workers=workers,
            workers_per_node=workers_per_node,
            worker_rate=worker_rate,
            node_rate=node_rate,
            store_rate=store_rate,
            bandwidth=bandwidth,
            metadata_ms=metadata_ms,
            faults=faults,
            node_loss_hours=node_loss,
            node_cut_hours=node_cut,
            driver_restart_hours=driver_restart,
            passes=passes,
            changing=changing,
            steered=steered,
            seed=seed,
            plot=plot,
        )
        found = simulating.simulate(options, say_unless(as_json))
        print_summary(simulate_report.summary(found), simulate_report.print_report, as_json)
        raise typer.Exit(found.exit_code)
