"""`noria estimate`: what a job would take, before it is run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noria.engine.cli import FORMS, Endpoint, Json, directory_of, with_options
from noria.engine.filter_options import FilterOptions
from noria.engine.terminal.console import (
    ending_on_signals,
    exit_codes,
    print_summary,
    say_unless,
)
from noria.manifests.count_text import count_text
from noria.manifests.errors import ConfigurationError

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.config.jobfile import JobConfig
    from noria.engine.estimate.estimate import Estimate


def add_commands(app: typer.Typer) -> None:
    """Give `app` the command below, after its own."""
    app.command()(with_options(estimate))


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateOptions:
    """What a job would have at its disposal, and what it is priced by."""

    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes. Default: one for each CPU here.")
    ] = None
    transfers: Annotated[
        int | None, typer.Option(min=1, help="Transfers at a time in all workers.")
    ] = None
    bandwidth: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="Of the whole job: 200MB/s, 2Gbit/s. Default: as the job file says.",
        ),
    ] = None
    windows: Annotated[
        list[str] | None,
        typer.Option(
            "--window",
            metavar="[DAYS ]HH:MM-HH:MM",
            help='When it may move: "22:00-06:00", "sat,sun 00:00-24:00"; repeatable.',
        ),
    ] = None
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Other prices than Noria's own.")
    ] = None
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Move a sample to the target, and remove it: how fast is it here?"
        ),
    ] = False
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw days by workers and bandwidth.")
    ] = None


def estimate(
    what: Annotated[
        str, typer.Argument(metavar="SOURCE|JOB.toml|DIR", help=f"A source: {FORMS} Or a job.")
    ],
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]", help="Its target.")] = None,
    source_endpoint: Endpoint = None,
    target_endpoint: Endpoint = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Read the source without credentials.")
    ] = False,
    as_json: Json = False,
    *,
    filters: FilterOptions,
    options: EstimateOptions,
) -> None:
    """Say what a job would take: requests, days and money.

    The source is listed as for a dry run, or the plan of a job is read. Nothing is written but with
    --probe, which moves some 1,400 objects and at most 1.4 GB to .noria-probe-*/ at the target, and
    removes them.

    \b
    Examples:
      noria estimate az://account/container s3://bucket --workers 40 --bandwidth 10Gbit/s
      noria estimate genomes.toml --window "mon-fri 20:00-06:00" --window "sat,sun 00:00-24:00"
      noria estimate move-1 --plot move-1.svg
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.config.reading import job_config, read_job_file, with_settings
        from noria.engine.terminal import estimate_report

        _check_plot(options.plot)
        config: JobConfig | None = None
        if target is not None:
            given: dict[str, Any] = {
                "source": {"url": what, "endpoint": source_endpoint, "anonymous": anonymous},
                "target": {"url": target, "endpoint": target_endpoint},
                "filter": filters.given(),
            }
            config, root = job_config(given, "noria estimate"), None
        elif Path(what).is_dir():
            root = Path(what)
        else:
            config = with_settings(
                read_job_file(Path(what)), {"filter": filters.given()}, "noria estimate"
            )
            root = directory_of(Path(what), config)
        found = _estimated(config, root, options, as_json)
        if options.plot is not None:
            _draw(found, options.plot)
        print_summary(
            estimate_report.estimate_summary(found), estimate_report.print_estimate, as_json
        )
        raise typer.Exit(0)


def _estimated(
    config: JobConfig | None, root: Path | None, options: EstimateOptions, as_json: bool
) -> Estimate:
    from noria.engine.estimate.estimate import estimated, planned, workers_of
    from noria.engine.estimate.prices import read_prices
    from noria.engine.estimate.rates import Means, RateModel
    from noria.engine.estimate.windows import parse_windows

    windows, prices = parse_windows(options.windows or ()), read_prices(options.prices)
    asked = None if options.bandwidth is None else _rate(options.bandwidth)
    with ending_on_signals(), planned(config, root, say_unless(as_json)) as plan:
        means = Means(
            workers=workers_of(plan.config, options.workers),
            bandwidth=asked or plan.config.run.bandwidth or None,
            transfers=options.transfers or plan.config.run.transfers or None,
        )
        model = RateModel()
        if options.probe:
            from noria.engine.estimate.probe import measure

            here = min(means.workers, os.cpu_count() or 1)
            model = measure(plan, here, say_unless(as_json))
        return estimated(plan, model, means, windows, prices)


def _rate(text: str) -> float:
    from noria.engine.config.quantities import parse_rate

    try:
        rate = parse_rate(text)
    except ValueError as error:
        raise ConfigurationError(f"--bandwidth: {error}") from error
    if not isinstance(rate, int | float) or rate <= 0:
        raise ConfigurationError(f"--bandwidth {text} is too little; raise it")
    return rate


def _check_plot(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix.lower() != ".svg" or path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigurationError(f"--plot {path}: name a FILE.svg in a directory that exists")


def _draw(found: Estimate, path: Path) -> None:
    from noria.engine.estimate.picture import draw
    from noria.engine.terminal.figures import duration_text, size_text

    counts = found.counts
    title = (
        f"{size_text(counts.bytes)} in {count_text(counts.objects, 'object')}: "
        f"{duration_text(found.days * 86_400)} with "
        f"{count_text(found.means.workers, 'worker')}"
    )
    try:
        path.write_text(draw(found, title), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}; see --plot") from error
