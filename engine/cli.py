"""The command `noria`: arguments in, reports out, one exit code.

0 all moved and verified; 1 finished with entries that failed or were refused; 2 wrong usage or
configuration; 3 stopped before the end, resumable. With --json, standard output holds one JSON
document and nothing else; progress and messages go to standard error.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from engine import job, report
from engine.config import (
    JobConfig,
    job_config,
    parse_location,
    read_job_file,
    with_endpoints,
)
from engine.metrics import DEFAULT_ADDRESS, MetricsServer
from engine.progress import Progress
from engine.status import JobStatus
from manifests.errors import ConfigurationError, Fatal, InventoryError, NoriaError

app = typer.Typer(
    name="noria",
    help="Move object stores between clouds, and prove that every byte arrived.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

FORMS = "az://ACCOUNT/CONTAINER/PREFIX, s3://BUCKET/PREFIX or file:///PATH"
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
ShowKeys = Annotated[
    bool, typer.Option("--show-keys", help="Name objects by their keys, not by pseudonyms.")
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to run on: HOST:PORT or auto. Default: a local Ray."),
]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Worker processes. Default: one for each CPU.")
]
Streams = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Transfers side by side in each worker.")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics-address", help=f'HOST:PORT of /metrics, or "off". Default: {DEFAULT_ADDRESS}.'
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")]
JobOrDirectory = Annotated[
    Path, typer.Argument(metavar="JOB.toml|DIR", help="A job file, or a job directory.")
]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A job directory.")]


def _show_version(asked: bool) -> None:
    if asked:
        print(f"noria {importlib.metadata.version('noria')}")
        raise typer.Exit(0)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say which Noria."),
    ] = False,
) -> None:
    pass


@app.command()
def copy(
    source: Annotated[str, typer.Argument(help=FORMS)],
    target: Annotated[str, typer.Argument(help="Where it goes, written the same way.")],
    job_directory: Annotated[
        Path | None,
        typer.Option("--job", help="The job directory. Default: one named after both ends."),
    ] = None,
    source_endpoint: Annotated[str | None, typer.Option(help="https://HOST[:PORT]")] = None,
    target_endpoint: Annotated[str | None, typer.Option(help="https://HOST[:PORT]")] = None,
    address: Address = None,
    workers: Workers = None,
    streams: Streams = None,
    metrics_address: Metrics = None,
    show_keys: ShowKeys = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Plan and run in one go. Running it again goes on where it stopped."""
    with _ending_well(as_json):
        config = job_config(
            {
                "source": {"url": source, "endpoint": source_endpoint},
                "target": {"url": target, "endpoint": target_endpoint},
            },
            "noria copy",
        )
        root = job_directory or _default_directory(with_endpoints(config))
        _plan_and_run(
            config,
            root,
            address=address,
            overrides={"workers": workers, "streams": streams},
            metrics_address=metrics_address,
            show_keys=show_keys,
            quiet=quiet,
            as_json=as_json,
        )


@app.command()
def plan(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.toml", help="A job file.")],
    as_json: Json = False,
) -> None:
    """Read the inventory and freeze the manifest; print what will move and what cannot, and why."""
    with _ending_well(as_json):
        config = read_job_file(job_file)
        say = (lambda line: None) if as_json else _say
        prepared = job.plan(config, _directory_of(job_file, config), say)
        summary = report.plan_summary(prepared)
        _print(summary, report.print_plan, as_json)
        raise typer.Exit(0)


@app.command()
def run(
    target: JobOrDirectory,
    address: Address = None,
    workers: Workers = None,
    streams: Streams = None,
    metrics_address: Metrics = None,
    show_keys: ShowKeys = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a job, or go on with it, and reconcile at the end."""
    with _ending_well(as_json):
        if target.is_dir():
            config, root = None, target
        else:
            config = read_job_file(target)
            root = _directory_of(target, config)
        _plan_and_run(
            config,
            root,
            address=address,
            overrides={"workers": workers, "streams": streams},
            metrics_address=metrics_address,
            show_keys=show_keys,
            quiet=quiet,
            as_json=as_json,
        )


@app.command()
def status(directory: Directory, show_keys: ShowKeys = False, as_json: Json = False) -> None:
    """Progress, throughput, ETA and failures by cause; during, after and between runs."""
    with _ending_well(as_json):
        found = job.status(directory)
        failures = job.read_failures(directory, show_keys)
        _print(report.status_summary(found, failures), report.print_status, as_json)
        raise typer.Exit(0)


@app.command()
def verify(
    directory: Directory,
    level: Annotated[str, typer.Option(help="reread: every byte is read back.")] = "reread",
    address: Address = None,
    workers: Workers = None,
    streams: Streams = None,
    metrics_address: Metrics = None,
    show_keys: ShowKeys = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read the target back and compare it with the receipts."""
    with _ending_well(as_json):
        if level != "reread":
            raise ConfigurationError(f"--level {level} cannot be verified after a run; use reread")
        with _shown(directory, metrics_address, quiet or as_json) as show:
            found = job.verify(
                directory,
                address=address,
                overrides={"workers": workers, "streams": streams},
                show=show,
                show_keys=show_keys,
            )
        _print(report.verify_summary(found), report.print_verify, as_json)
        raise typer.Exit(found.exit_code)


@app.command()
def reconcile(directory: Directory, as_json: Json = False) -> None:
    """Manifest against receipts against a fresh listing of the target."""
    with _ending_well(as_json):
        found = job.reconcile_job(directory)
        summary = {**asdict(found), "reconciled": found.reconciled}
        _print(summary, report.print_reconciliation, as_json)
        raise typer.Exit(0 if found.reconciled else 1)


def main() -> None:
    """Entry point of the command."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    app()


def _plan_and_run(
    config: JobConfig | None,
    root: Path,
    *,
    address: str | None,
    overrides: dict[str, Any],
    metrics_address: str | None,
    show_keys: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    if config is not None:
        in_file = config.run.model_dump(exclude_unset=True)
        overrides = {**in_file, **{k: v for k, v in overrides.items() if v is not None}}
        metrics_address = metrics_address or in_file.get("metrics_address")
        job.plan(config, root, (lambda line: None) if quiet or as_json else _say)
    with _shown(root, metrics_address, quiet or as_json) as show:
        ended = job.run(root, address=address, overrides=overrides, show=show, show_keys=show_keys)
    _print(report.run_summary(ended, root), report.print_run, as_json)
    if not ended.left_well:
        sys.stdout.flush()
        os._exit(ended.exit_code)
    raise typer.Exit(ended.exit_code)


@contextmanager
def _shown(
    root: Path, metrics_address: str | None, silent: bool
) -> Iterator[Callable[[JobStatus], None]]:
    """Where a run's status goes: the terminal, and /metrics."""
    address = metrics_address or job.metrics_address(root) or "off"
    with ExitStack() as stack:
        shows: list[Callable[[JobStatus], None]] = []
        if address != "off":
            server = MetricsServer(address)
            stack.callback(server.close)
            shows.append(server.show)
        if not silent:
            progress = stack.enter_context(Progress(sys.stderr))
            if address != "off":
                progress.message(f"job directory {root}, metrics {server.url}")
            shows.append(progress.show)

        def show_all(status: JobStatus) -> None:
            for show in shows:
                show(status)

        yield show_all


@contextmanager
def _ending_well(as_json: bool) -> Iterator[None]:
    """Turn our errors into one clear line and an exit code."""
    try:
        yield
    except NoriaError as error:
        code = 2 if isinstance(error, ConfigurationError | InventoryError) else 3
        if isinstance(error, Fatal) and error.cause in ("access_denied", "another_driver"):
            code = 2
        if as_json:
            print(json.dumps({"error": error.message, "cause": error.cause, "exit_code": code}))
        print(f"noria: {error.message}", file=sys.stderr)
        raise typer.Exit(code) from None
    except (typer.Exit, SystemExit):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the job can be gone on with
        message = f"unexpected {type(error).__name__}; the job is as it was, run it again to go on"
        if as_json:
            print(json.dumps({"error": message, "cause": "internal", "exit_code": 3}))
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        print(f"noria: {message} (at {place})", file=sys.stderr)
        raise typer.Exit(3) from None
    except KeyboardInterrupt:
        print("noria: stopped; run it again to go on", file=sys.stderr)
        raise typer.Exit(3) from None


def _print(summary: dict[str, Any], show: Callable[[dict[str, Any]], None], as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary, indent=1))
    else:
        show(summary)


def _say(line: str) -> None:
    print(f"noria: {line}", file=sys.stderr)


def _default_directory(config: JobConfig) -> Path:
    """noria-jobs/SOURCE-to-TARGET-HASH, the same each time for the same ends."""
    ends = repr([(end.url, end.endpoint) for end in (config.source, config.target)])
    names = [
        Path(parse_location(end.url).container).name or "root"
        for end in (config.source, config.target)
    ]
    short = hashlib.sha256(ends.encode()).hexdigest()[:8]
    return Path("noria-jobs") / f"{'-to-'.join(names)}-{short}"


def _directory_of(job_file: Path, config: JobConfig) -> Path:
    if config.directory is not None:
        return job_file.parent / config.directory
    return job_file.with_suffix("")
