"""What `noria plan`, `run`, `sync` and `status` do if they are given many datasets."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.engine.terminal.console import (
    Shows,
    ending_on_signals,
    kept_log,
    print_summary,
    say_unless,
)
from noria.manifests.count_text import count_text
from noria.manifests.errors import ConfigurationError, NoriaError

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.config.datasets import DatasetConfig, FleetConfig
    from noria.engine.fleet.directory import Added, FleetDirectory
    from noria.engine.fleet.running import FleetReport, FleetWork
    from noria.engine.passes import PassWishes
    from noria.engine.status import JobStatus

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What a command was given besides the datasets."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings of [run]."""
    shows: Shows
    metrics_address: str | None = None
    log_file: Path | None = None
    as_json: bool = False
    show_keys: bool = False
    on_a_cluster: bool = False

    @property
    def say(self) -> Say:
        return say_unless(not self.shows.messages)


def holds_datasets(what: Path) -> bool:
    """Return True if a job file names many datasets, or a directory holds them."""
    if what.is_dir():
        return (what / "fleet.json").is_file()
    from noria.engine.config.datasets import names_datasets

    return names_datasets(what)


def plan_datasets(
    job_file: Path, given: Mapping[str, Mapping[str, Any]], options: FleetOptions
) -> int:
    """Plan all datasets of a job file that are not planned yet; returns the exit code."""
    from noria.engine.fleet.rows import dataset_rows
    from noria.engine.terminal import datasets_report

    with ending_on_signals():
        fleet, datasets, noted, config = _noted(job_file, given, options)
        work = _work(config.settings.run, options, plan_only=True, is_named=True)
        report = _run(fleet, datasets, work, replace(options, metrics_address="off"))
    summary = datasets_report.plan_summary(
        list(dataset_rows(fleet)), noted.added, noted.left_out, report
    )
    summary["exit_code"] = 3 if report.is_stopped else 1 if report.refused else 0
    print_summary(summary, datasets_report.print_plan, options.as_json)
    return int(summary["exit_code"])


def run_datasets(what: Path, given: Mapping[str, Mapping[str, Any]], options: FleetOptions) -> int:
    """Run all datasets of a job file or a directory to their ends; returns the exit code."""
    from noria.engine.fleet.directory import FleetDirectory
    from noria.engine.terminal import datasets_report

    with ending_on_signals():
        if what.is_dir():
            fleet = FleetDirectory(what)
            datasets: Sequence[DatasetConfig] = fleet.datasets()
            work = _work(fleet.run_config(), options, is_named=False)
        else:
            fleet, datasets, _, config = _noted(what, given, options)
            work = _work(config.settings.run, options, is_named=True)
        report = _run(fleet, datasets, work, options)
    print_summary(datasets_report.run_summary(report), datasets_report.print_run, options.as_json)
    return report.exit_code


def sync_datasets(root: Path, wishes: PassWishes, options: FleetOptions) -> int:
    """Run another pass of each dataset; returns the exit code.

    Datasets that its patterns find now, and that are not there yet, are added.
    """
    from noria.engine.fleet.directory import FleetDirectory
    from noria.engine.terminal import datasets_report

    fleet = FleetDirectory(root)
    work = _work(fleet.run_config(), options, is_named=False, pass_wishes=wishes)
    unlisted: str | None = None
    found: Sequence[str] = []
    with ending_on_signals():
        try:
            found = _found(fleet, options.say)
        except NoriaError as error:
            # Those that are known go on.
            unlisted = error.message
            options.say(f"no new datasets were looked for: {unlisted}")
        report = _run(fleet, fleet.datasets(), work, options)
    summary = datasets_report.run_summary(report)
    summary |= {"added": list(found), "unlisted": unlisted}
    if unlisted is not None:
        summary["exit_code"] = summary["exit_code"] or 1
    print_summary(summary, datasets_report.print_run, options.as_json)
    return int(summary["exit_code"])


def show_status(root: Path, most: int, as_json: bool) -> None:
    """Print the table of all datasets: `most` rows, 0: all."""
    from noria.engine.fleet.directory import FleetDirectory
    from noria.engine.fleet.rows import dataset_rows
    from noria.engine.fleet.steering_requests import run_status, steered_fleet
    from noria.engine.terminal import datasets_report

    fleet, steering = FleetDirectory(root), steered_fleet(root)
    rows = list(dataset_rows(fleet))
    damage, status = steering.damage(), run_status(fleet)
    limits = None
    if damage is None or (status is not None and status.in_force is not None):
        limits = steering.limits()
    summary = datasets_report.status_summary(rows, str(root))
    summary |= datasets_report.steering_summary(status, limits, damage)
    print_summary(summary, partial(datasets_report.print_status, most=most), as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noted:
    """What a job file brought into a directory."""

    added: Added
    left_out: Mapping[str, int]
    """URL of a pattern -> containers that it passes over."""


def _noted(
    job_file: Path, given: Mapping[str, Mapping[str, Any]], options: FleetOptions
) -> tuple[FleetDirectory, Sequence[DatasetConfig], _Noted, FleetConfig]:
    """Read a job file, find what its patterns stand for, and note all of it in the directory."""
    from noria.engine.config.datasets import read_datasets_file
    from noria.engine.fleet.directory import FleetDirectory
    from noria.engine.fleet.mapping import find_datasets

    config = read_datasets_file(job_file, given)
    fleet = FleetDirectory(_directory_of(job_file, config))
    found = find_datasets(config.patterns, config.shared, config.datasets, options.say)
    added = fleet.create_or_add(config, found.datasets)
    if added.unnamed:
        unnamed = count_text(len(added.unnamed), "dataset")
        options.say(f"{unnamed} not in the job file any more: kept")
    noted = _Noted(added=added, left_out=found.left_out)
    return fleet, fleet.datasets(), noted, config


def _found(fleet: FleetDirectory, say: Say) -> Sequence[str]:
    """Find what the patterns stand for now, and add what is new; returns its names."""
    from noria.engine.fleet.mapping import find_datasets

    patterns = fleet.patterns()
    if not patterns:
        return []
    for pattern in patterns:
        fleet.check_trust_of_listing(pattern.listed_end())
    known = fleet.datasets()
    found = find_datasets(patterns, fleet.shared, known, say)
    names = {each.name for each in known}
    new = [each for each in found.datasets if each.name not in names]
    fleet.add(new)
    if new:
        say(f"added: {', '.join(each.name for each in new[:10])}" + (", ..." * (len(new) > 10)))
    return [each.name for each in new]


def _work(run: Any, options: FleetOptions, **what: Any) -> FleetWork:
    from noria.engine.config.jobfile import RunConfig
    from noria.engine.fleet.running import FleetWork

    if options.on_a_cluster:
        raise ConfigurationError(
            "many datasets run on processes of this machine: leave out --address and --ray, or run "
            "one dataset's directory on the cluster"
        )
    given = {name: value for name, value in options.overrides.items() if value is not None}
    merged = RunConfig.model_validate({**run.model_dump(exclude_unset=True), **given})
    return FleetWork(run=merged, overrides=given, show_keys=options.show_keys, **what)


def _run(
    fleet: FleetDirectory,
    datasets: Sequence[DatasetConfig],
    work: FleetWork,
    options: FleetOptions,
) -> FleetReport:
    from noria.engine.fleet.running import FleetRun

    workers = work.run.workers or len(os.sched_getaffinity(0))
    with kept_log(options.log_file), _shown(fleet, work, options) as show:
        run = FleetRun(fleet, datasets, work, workers=workers, show=show, say=options.say)
        return run.run()


@contextmanager
def _shown(
    fleet: FleetDirectory, work: FleetWork, options: FleetOptions
) -> Iterator[Callable[[JobStatus], None]]:
    """Where the status of a run goes: its log, the terminal, and /metrics."""
    from noria.engine.log_file import log_file
    from noria.manifests.access import make_folders

    address = options.metrics_address or work.run.metrics_address or "off"
    make_folders(fleet.root / "log")
    with ExitStack() as stack:
        stack.enter_context(log_file(fleet.root / "log" / "noria.log", work.run.log_format))
        shows: list[Callable[[JobStatus], None]] = []
        if address != "off":
            from noria.engine.metrics_server import MetricsServer

            server = MetricsServer(address)
            stack.callback(server.close)
            shows.append(server.show)
        if options.shows.messages:
            from noria.engine.terminal.progress import Progress

            progress = stack.enter_context(Progress(sys.stderr))
            if address != "off":
                progress.message(f"job directory {fleet.root}, metrics {server.url}")
            if options.shows.progress:
                shows.append(progress.show)

        def show_all(status: JobStatus) -> None:
            for show in shows:
                show(status)

        yield show_all


def _directory_of(job_file: Path, config: FleetConfig) -> Path:
    if config.directory is not None:
        return job_file.parent / config.directory
    if not job_file.suffix:
        raise ConfigurationError(
            f"{job_file} has no suffix, so the job directory cannot be named like it; call it "
            f"{job_file.name}.toml, or set directory in it"
        )
    return job_file.with_suffix("")
