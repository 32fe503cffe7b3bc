"""The command `noria`: arguments in, reports out, one exit code.

0 all moved and verified; 1 finished with entries that failed or were refused; 2 wrong usage or
configuration; 3 stopped before the end, resumable. With --json, standard output holds one JSON
document and nothing else; progress and messages go to standard error.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noria.engine.cluster.child import spare_start_up
from noria.engine.config.locations import METRICS_ADDRESS
from noria.engine.terminal.console import (
    ending_on_sigterm,
    exit_codes,
    print_summary,
    say_unless,
    shown,
)
from noria.manifests.errors import ConfigurationError

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.config.jobfile import JobConfig

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
JobOrDirectory = Annotated[
    Path, typer.Argument(metavar="JOB.toml|DIR", help="A job file, or a job directory.")
]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A job directory.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of every command that starts workers."""

    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to run on: HOST:PORT or auto. Default: processes of this machine."
        ),
    ] = None
    ray: Annotated[
        bool, typer.Option("--ray", help="Start a Ray on this machine for the time of the run.")
    ] = False
    workers: Annotated[
        int | None, typer.Option(min=0, help="Worker processes. Default: up to one for each CPU.")
    ] = None
    streams: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Transfers side by side in each worker.")
    ] = None
    metrics_address: Annotated[
        str | None,
        typer.Option(help=f'HOST:PORT of /metrics, or "off". Default: {METRICS_ADDRESS}.'),
    ] = None
    show_keys: ShowKeys = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False
    as_json: Json = False

    @property
    def overrides(self) -> dict[str, Any]:
        """Settings of [run] that were given."""
        given = {"workers": self.workers, "streams": self.streams}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def silent(self) -> bool:
        return self.quiet or self.as_json


def _with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `options` is filled from the options of RunOptions."""

    @functools.wraps(command)
    def filled(**given: Any) -> None:
        options = RunOptions(**{field.name: given.pop(field.name) for field in fields(RunOptions)})
        command(**given, options=options)

    own = inspect.signature(command, eval_str=True)
    parameters = {
        **own.parameters,
        **inspect.signature(RunOptions, eval_str=True).parameters,
    }
    del parameters["options"]
    keyword_only = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters.values()
    ]
    filled.__signature__ = own.replace(parameters=keyword_only)  # type: ignore[attr-defined]  # typer reads it
    return filled


def _show_version(asked: bool) -> None:
    if asked:
        import importlib.metadata

        typer.echo(f"noria {importlib.metadata.version('noria')}")
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
@_with_run_options
def copy(
    source: Annotated[str, typer.Argument(help=FORMS)],
    target: Annotated[str, typer.Argument(help="Where it goes, written the same way.")],
    job_directory: Annotated[
        Path | None,
        typer.Option("--job", help="The job directory. Default: one named after both ends."),
    ] = None,
    source_endpoint: Annotated[str | None, typer.Option(help="https://HOST[:PORT]")] = None,
    target_endpoint: Annotated[str | None, typer.Option(help="https://HOST[:PORT]")] = None,
    *,
    options: RunOptions,
) -> None:
    """Plan and run in one go. Running it again goes on where it stopped."""
    with exit_codes(options.as_json):
        from noria.engine.config.jobfile import job_config, with_endpoints

        config = job_config(
            {
                "source": {"url": source, "endpoint": source_endpoint},
                "target": {"url": target, "endpoint": target_endpoint},
            },
            "noria copy",
        )
        root = job_directory or _default_directory(with_endpoints(config))
        _plan_and_run(config, root, options)


@app.command()
def plan(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.toml", help="A job file.")],
    as_json: Json = False,
) -> None:
    """Read the inventory and freeze the manifest; print what will move and what cannot, and why."""
    with exit_codes(as_json):
        from noria.engine import job
        from noria.engine.config.jobfile import read_job_file
        from noria.engine.terminal import report

        config = read_job_file(job_file)
        prepared = job.plan(config, _directory_of(job_file, config), say_unless(as_json))
        summary = report.plan_summary(prepared)
        print_summary(summary, report.print_plan, as_json)
        raise typer.Exit(0)


@app.command()
@_with_run_options
def run(target: JobOrDirectory, *, options: RunOptions) -> None:
    """Run a job, or go on with it, and reconcile at the end."""
    with exit_codes(options.as_json):
        if target.is_dir():
            _plan_and_run(None, target, options)
        else:
            from noria.engine.config.jobfile import read_job_file

            config = read_job_file(target)
            _plan_and_run(config, _directory_of(target, config), options)


@app.command()
def status(directory: Directory, show_keys: ShowKeys = False, as_json: Json = False) -> None:
    """Progress, throughput, ETA and failures by cause; during, after and between runs."""
    with exit_codes(as_json):
        from noria.engine import job
        from noria.engine.terminal import report

        found = job.status(directory)
        failures = job.read_failures(directory, show_keys)
        print_summary(report.status_summary(found, failures), report.print_status, as_json)
        raise typer.Exit(0)


@app.command()
@_with_run_options
def verify(
    directory: Directory,
    level: Annotated[str, typer.Option(help="reread: every byte is read back.")] = "reread",
    *,
    options: RunOptions,
) -> None:
    """Read the target back and compare it with the receipts."""
    with exit_codes(options.as_json):
        from noria.engine import job
        from noria.engine.cluster.opening import open_cluster
        from noria.engine.terminal import report

        if level != "reread":
            raise ConfigurationError(f"--level {level} cannot be verified after a run; use reread")
        with (
            ending_on_sigterm(),
            open_cluster(options.address, ray=options.ray) as cluster,
            shown(directory, options.metrics_address, options.silent) as show,
        ):
            found = job.verify(
                directory,
                cluster=cluster,
                overrides=options.overrides,
                show=show,
                show_keys=options.show_keys,
            )
        print_summary(report.verify_summary(found), report.print_verify, options.as_json)
        raise typer.Exit(found.exit_code)


@app.command()
def reconcile(directory: Directory, as_json: Json = False) -> None:
    """Manifest against receipts against a fresh listing of the target."""
    with exit_codes(as_json):
        from noria.engine import job
        from noria.engine.terminal import report

        found = job.reconcile_job(directory)
        summary = {**asdict(found), "reconciled": found.reconciled}
        print_summary(summary, report.print_reconciliation, as_json)
        raise typer.Exit(0 if found.reconciled else 1)


@app.command()
def clean(
    directory: Directory,
    unclaimed: Annotated[
        bool,
        typer.Option(
            "--unclaimed",
            help="Also uploads that no journal knows, on names of this job and younger than it.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Abort the multipart uploads that a job has left open at its target."""
    with exit_codes(as_json):
        from noria.engine import job
        from noria.engine.terminal import report

        found = job.clean(directory, unclaimed=unclaimed)
        print_summary(report.clean_summary(found), report.print_clean, as_json)
        raise typer.Exit(found.exit_code)


def run_command(app: typer.Typer) -> None:
    """Run the command line to its end: the process exits."""
    spare_start_up()
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    app()


def _plan_and_run(config: JobConfig | None, root: Path, options: RunOptions) -> None:
    from noria.engine import job
    from noria.engine.cluster.opening import open_cluster
    from noria.engine.terminal import report

    overrides, metrics_address = options.overrides, options.metrics_address
    say = say_unless(options.silent)
    with (
        ending_on_sigterm(),
        open_cluster(options.address, ray=options.ray) as cluster,
    ):
        if config is not None:
            in_file = config.run.model_dump(exclude_unset=True)
            overrides = {**in_file, **overrides}
            metrics_address = metrics_address or in_file.get("metrics_address")
            job.plan(config, root, say, accepted=cluster.prestart)
        with shown(root, metrics_address, options.silent) as show:
            ended = job.run(
                root, cluster=cluster, overrides=overrides, show=show, show_keys=options.show_keys
            )
    print_summary(report.run_summary(ended, root), report.print_run, options.as_json)
    raise typer.Exit(ended.exit_code)


def _default_directory(config: JobConfig) -> Path:
    """noria-jobs/SOURCE-to-TARGET-HASH, the same each time for the same ends."""
    from noria.engine.config.locations import parse_location

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
    if not job_file.suffix:
        raise ConfigurationError(
            f"{job_file} has no suffix, so the job directory cannot be named like it; call it "
            f"{job_file.name}.toml, or set directory in it"
        )
    return job_file.with_suffix("")
