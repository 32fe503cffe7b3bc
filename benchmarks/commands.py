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
            help="A setting of [plan] or [run] and its values. May be repeated: all combinations.",
        ),
    ],
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each combination.")] = 3,
    warm_up: Annotated[bool, typer.Option(help="One run first that does not count.")] = True,
    limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Move about so much. Default: all.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A new directory. Default: JOB-bench beside the job file.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Delete nothing at the target.")] = False,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to run on: HOST:PORT or auto.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Try settings on real transfers below the job's target, and name the one to choose."""
    with exit_codes(as_json):
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


def simulate(
    job: Annotated[
        Path | None,
        typer.Argument(metavar="[JOB.toml|DIR]", help="A planned job. Or --bytes and --objects."),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--bytes", metavar="SIZE", help="What to move: 10PB.")
    ] = None,
    objects: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="In so many objects: 1e9.")
    ] = None,
    shards: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="About so many. Default: as planned.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Worker processes. Default: 400.")
    ] = None,
    workers_per_node: Annotated[
        int | None, typer.Option(min=1, max=1000, help="They are lost together. Default: 4.")
    ] = None,
    worker_rate: Annotated[
        str | None, typer.Option(metavar="SIZE", help="A second, median. Default: 150MB.")
    ] = None,
    node_rate: Annotated[
        str | None, typer.Option(metavar="SIZE", help="A second, of one node. Default: 3.1GB.")
    ] = None,
    store_rate: Annotated[
        str | None, typer.Option(metavar="SIZE", help="A second, of each store. Default: 12.5GB.")
    ] = None,
    faults: Annotated[
        float, typer.Option(help="How many times as often as usual things go wrong; 0: never.")
    ] = 1.0,
    node_loss: Annotated[
        float | None, typer.Option(metavar="HOURS", help="Between node losses. Default: 1.")
    ] = None,
    driver_restart: Annotated[
        float | None, typer.Option(metavar="HOURS", help="Between restarts. Default: 24.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same run.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw throughput and faults over time.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the scheduler with simulated workers, stores and faults, and check all it does."""
    with exit_codes(as_json):
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
            faults=faults,
            node_loss_hours=node_loss,
            driver_restart_hours=driver_restart,
            seed=seed,
            plot=plot,
        )
        found = simulating.simulate(options, say_unless(as_json))
        print_summary(simulate_report.summary(found), simulate_report.print_report, as_json)
        raise typer.Exit(found.exit_code)
