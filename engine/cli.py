"""The command `noria`: arguments in, reports out, one exit code (see HELP).

With --json, standard output holds one JSON document and nothing else; progress and messages go to
standard error.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import inspect
import logging
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noria.engine.cluster.child import end_process, open_streams, spare_start_up
from noria.engine.config.locations import METRICS_ADDRESS
from noria.engine.filter_options import FilterOptions
from noria.engine.fleet_commands import (
    FleetOptions,
    holds_datasets,
    plan_datasets,
    run_datasets,
    show_status,
)
from noria.engine.setting_options import SettingOptions
from noria.engine.terminal.command_list import CommandList
from noria.engine.terminal.console import (
    Shows,
    ending_on_signals,
    exit_code_of,
    exit_codes,
    kept_log,
    print_summary,
    say_unless,
    shown,
    watched_plan,
)
from noria.manifests.errors import ConfigurationError
from noria.version import VERSION

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.config.jobfile import JobConfig
    from noria.engine.doctor import Diagnosis
    from noria.engine.repair import AskedAgain
    from noria.engine.sampling import SampleWishes
    from noria.engine.verifying import VerifyReport
    from noria.manifests.job.history import Sign

HELP = """Move object stores between clouds, and prove that every byte arrived.

\b
First steps:
  noria doctor az://ACCOUNT/CONTAINER s3://BUCKET/PREFIX
  noria copy az://ACCOUNT/CONTAINER s3://BUCKET/PREFIX --job move-1
  noria status move-1
  noria verify move-1

\b
Exit codes:
  0  everything moved and verified
  1  finished, but some objects failed or were refused: noria failures DIR
  2  wrong usage or configuration; nothing was written
  3  stopped before the end: run the same command again

\b
Environment:
  AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_KEY,
  or whatever azure-identity finds; with NORIA_SOURCE_ or NORIA_TARGET_ in
  front, for one end
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, ...: AWS's own chain
  AWS_REGION, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
  AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE,
  SSL_CERT_DIR: whom to trust over https
  RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH: the token of the cluster of --address
  XDG_CACHE_HOME: where what a target can do is kept for an hour (~/.cache)
  NORIA_PYTHONPATH: more folders that workers import from, which ignore
  PYTHONPATH
"""

app = typer.Typer(
    name="noria",
    cls=CommandList,
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

FORMS = "az://ACCOUNT/CONTAINER/PREFIX, s3://BUCKET/PREFIX, a path; or an https URL."
Endpoint = Annotated[
    str | None, typer.Option(metavar="URL", help="Where the service answers: https://HOST[:PORT].")
]
Bandwidth = Annotated[
    str | None,
    typer.Option(
        metavar="RATE",
        help="Most bytes a second of all workers, such as 200MB/s or 2Gbit/s, in this run alone. "
        "Default: as the job file says, else any.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document and nothing else."),
]
SigningKey = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="NORIA_SIGNING_KEY",
        help="Ed25519 private key that signs the records of the history, and an approval.",
    ),
]
ShowKeys = Annotated[
    bool, typer.Option("--show-keys", help="Show objects' keys instead of pseudonyms.")
]
Create = Annotated[
    bool,
    typer.Option(
        "--create", help="Make the target's bucket or container, private, if it is missing."
    ),
]
JobOrDirectory = Annotated[
    Path, typer.Argument(metavar="JOB.toml|DIR", help="A job file, or a job directory.")
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would move and what would not; write nothing."),
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
        int | None, typer.Option(min=1, max=4096, help="Most transfers at a time in each worker.")
    ] = None
    transfers: Annotated[
        int | None,
        typer.Option(min=0, help="Transfers at a time in all workers. Default: found by itself."),
    ] = None
    bandwidth: Bandwidth = None
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="By when it should be done: 2026-12-31T06:00:00+01:00."),
    ] = None
    metrics_address: Annotated[
        str | None,
        typer.Option(
            help=f'HOST:PORT of the live page and of /metrics, or "off". '
            f"Default: {METRICS_ADDRESS}."
        ),
    ] = None
    show_keys: ShowKeys = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False
    progress: Annotated[
        bool,
        typer.Option("--progress/--no-progress", help="Show progress on standard error."),
    ] = True
    log_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also keep what is said there; put aside at 10 MB."),
    ] = None
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say which errors and retries come, by cause.")
    ] = False
    as_json: Json = False

    @property
    def overrides(self) -> dict[str, Any]:
        """Settings of [run] that were given."""
        given = {
            "workers": self.workers,
            "streams": self.streams,
            "transfers": self.transfers,
            "bandwidth": self.bandwidth,
            "deadline": self.deadline,
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def silent(self) -> bool:
        return self.quiet or self.as_json

    @property
    def of_many(self) -> FleetOptions:
        """The same for a run of many datasets."""
        return FleetOptions(
            overrides=self.overrides,
            shows=self.shows,
            metrics_address=self.metrics_address,
            log_file=self.log_file,
            as_json=self.as_json,
            show_keys=self.show_keys,
            on_a_cluster=self.ray or self.address is not None,
        )

    @property
    def shows(self) -> Shows:
        """What a run shows on standard error."""
        return Shows(
            messages=not self.silent,
            progress=self.progress and not self.silent,
            causes=self.verbose,
        )


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are dataclasses of options are filled from these options."""
    own = inspect.signature(command, eval_str=True)
    parameters = dict(own.parameters)
    groups: dict[str, type] = {
        name: parameter.annotation
        for name, parameter in own.parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }
    for name, group in groups.items():
        del parameters[name]
        parameters |= inspect.signature(group, eval_str=True).parameters

    @functools.wraps(command)
    def filled(**given: Any) -> None:
        options = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**given, **options)

    keyword_only = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters.values()
    ]
    filled.__signature__ = own.replace(parameters=keyword_only)  # type: ignore[attr-defined]  # typer reads it
    return filled


def _show_version(asked: bool) -> None:
    if asked:
        from noria.engine.interpreter import describe_interpreter

        typer.echo(f"noria {VERSION}, {describe_interpreter()}")
        raise typer.Exit(0)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
@with_options
def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=FORMS)],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Where it goes; written in the same way.")
    ],
    job_directory: Annotated[
        Path | None,
        typer.Option("--job", help="Job directory. Default: one below noria-jobs."),
    ] = None,
    source_endpoint: Endpoint = None,
    target_endpoint: Endpoint = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Read the source without credentials.")
    ] = False,
    create: Create = False,
    dry_run: DryRunOption = False,
    *,
    filters: FilterOptions,
    settings: SettingOptions,
    options: RunOptions,
) -> None:
    """Plan a job and run it. Repeat the command to resume it.

    What lies below SOURCE arrives below TARGET under the same relative names. A SOURCE that names
    one object copies that object. An object has to pass every filter. Patterns are of names below
    SOURCE. Included ones come first, so name what to leave out of them in rules (--filter-from).

    \b
    Examples:
      noria copy az://account/container/data s3://bucket/data --job move-1
      noria copy s3://bucket file:///mnt/copy --include '/2024/**' --max-size 1G
      noria copy s3://bucket file:///mnt/copy --workers 8
      noria copy az://account/container/data s3://bucket/data --dry-run
    """
    with exit_codes(options.as_json):
        from noria.engine.config.reading import job_config, with_endpoints

        source_end = {"url": source, "endpoint": source_endpoint, "anonymous": anonymous}
        target_end = {"url": target, "endpoint": target_endpoint, "create": create}
        given = settings.given()
        config = job_config(
            {
                "source": source_end | given["source"],
                "target": target_end | given["target"],
                "filter": filters.given(),
                "plan": given["plan"],
            },
            "noria copy",
        )
        root = job_directory or _default_directory(with_endpoints(config))
        if dry_run:
            from noria.engine.terminal.dry_report import say_what_would_move

            say_what_would_move(config, root, options.as_json, say_unless(options.silent))
        _plan_and_run(config, root, options)


@app.command()
def doctor(
    what: Annotated[
        str, typer.Argument(metavar="JOB.toml|URL", help=f"A job file, or a location: {FORMS}")
    ],
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="Where it would go.")
    ] = None,
    as_target: Annotated[
        bool,
        typer.Option("--target", help="URL is a target: write small objects, and remove them."),
    ] = False,
    endpoint: Endpoint = None,
    target_endpoint: Endpoint = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Read URL without credentials.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what both ends can do, what the job lacks, and what to do about it.

    Nothing is moved. A URL alone is looked at as a source: nothing is written there. At a target,
    small objects are written below .noria-probe-*/ and removed again.

    \b
    Examples:
      noria doctor genomes.toml
      noria doctor az://account/container/data s3://bucket/data
      noria doctor s3://bucket/data --target
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.terminal import diagnosis

        given = {"url": what, "endpoint": endpoint, "anonymous": anonymous}
        other = {"url": target, "endpoint": target_endpoint}
        with ending_on_signals():
            found = _examined(what, given, None if target is None else other, as_target)
        summary = diagnosis.diagnosis_summary(found)
        print_summary(summary, diagnosis.print_diagnosis, as_json)
        raise typer.Exit(found.exit_code)


def _examined(
    what: str, given: dict[str, Any], target: dict[str, Any] | None, as_target: bool
) -> Diagnosis:
    """Look at what `noria doctor` was asked about. Raises ConfigurationError."""
    from noria.engine import doctor
    from noria.engine.config.reading import job_config, read_job_file, with_endpoints

    path = Path(what)
    if path.is_file() and target is None and path.suffix == ".toml":
        config = with_endpoints(read_job_file(path))
        return doctor.examine_job(config, directory_of(path, config))
    if what.endswith(".toml") and "://" not in what:
        raise ConfigurationError(f"{what} is not a job file that can be read")
    if target is not None and as_target:
        raise ConfigurationError("--target is for one URL: of two, the second is the target")
    end = {"source": given, "target": target or {key: given[key] for key in ("url", "endpoint")}}
    config = with_endpoints(job_config(end, "noria doctor"))
    if target is not None:
        return doctor.examine_ends(config.source, config.target)
    return doctor.examine_end(config.target if as_target else config.source, as_target=as_target)


@app.command()
@with_options
def plan(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.toml", help="A job file.")],
    create: Create = False,
    dry_run: DryRunOption = False,
    as_json: Json = False,
    bandwidth: Bandwidth = None,
    *,
    filters: FilterOptions,
    settings: SettingOptions,
) -> None:
    """Freeze the list of objects and say what will move.

    Prints what cannot move, too, and why; and asks up to 256 objects, spread over all, what they
    have besides their bytes that the target cannot hold. Nothing is moved yet. An option
    that is given here precedes the same setting of the job file.

    \b
    Examples:
      noria plan genomes.toml
      noria plan genomes.toml --max-age 30d --exclude-tier Archive
    """
    with exit_codes(as_json):
        from noria.engine import job
        from noria.engine.attribute_look import look_at_attributes
        from noria.engine.config.reading import read_job_file, with_settings
        from noria.engine.terminal import report

        given = {**settings.given(), "filter": filters.given()}
        if create:
            given["target"]["create"] = True
        if bandwidth is not None:
            given["run"] = {"bandwidth": bandwidth}
        if holds_datasets(job_file):
            _refuse_dry_run(dry_run)
            shows = Shows(messages=not as_json, progress=not as_json, causes=False)
            raise typer.Exit(
                plan_datasets(job_file, given, FleetOptions(shows=shows, as_json=as_json))
            )
        config = with_settings(read_job_file(job_file), given, "noria plan")
        root = directory_of(job_file, config)
        if dry_run:
            from noria.engine.terminal.dry_report import say_what_would_move

            say_what_would_move(config, root, as_json, say_unless(as_json))
        with ending_on_signals():
            prepared = job.plan(config, root, say_unless(as_json))
            look = look_at_attributes(prepared, config.run)
        summary = report.plan_summary(prepared, look)
        print_summary(summary, report.print_plan, as_json)
        raise typer.Exit(0)


@app.command()
@with_options
def run(target: JobOrDirectory, *, settings: SettingOptions, options: RunOptions) -> None:
    """Run a job, or resume it; reconcile at the end.

    \b
    Examples:
      noria run genomes.toml
      noria run move-1
      noria run /shared/move-1 --address 10.0.0.1:6379
    """
    with exit_codes(options.as_json):
        if holds_datasets(target):
            if target.is_dir():
                settings.refuse(target)
            raise typer.Exit(run_datasets(target, settings.given(), options.of_many))
        if target.is_dir():
            settings.refuse(target)
            _plan_and_run(None, target, options)
        else:
            from noria.engine.config.reading import read_job_file, with_settings

            config = with_settings(read_job_file(target), settings.given(), "noria run")
            _plan_and_run(config, directory_of(target, config), options)


@app.command()
@with_options
def retry(
    directory: Directory,
    cause: Annotated[
        list[str] | None,
        typer.Option(
            "--cause",
            help="Of the entries to try again, as `noria status` names it; repeatable. "
            "Default: all.",
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys", metavar="FILE", help="Names of the entries to try again, one on a line."
        ),
    ] = None,
    *,
    options: RunOptions,
) -> None:
    """Try entries again that failed or were found damaged; reconcile at the end.

    `noria run` does that for failures whose cause may pass by itself. Objects that `noria verify`
    or `noria reconcile` found gone are sent again; one that is damaged is replaced if it is still
    the one that this job wrote. Nothing else at the target is overwritten: what somebody changed or
    wrote there is deleted by hand first. Names in FILE are as --show-keys and failures.parquet have
    them.

    \b
    Examples:
      noria retry move-1
      noria retry move-1 --cause target_conflict --cause damaged
      noria retry move-1 --keys names.txt
    """
    with exit_codes(options.as_json):
        from noria.engine.passes import damage_of_earlier_passes
        from noria.engine.repair import RETRY_CAUSES, AskedAgain
        from noria.manifests.count_text import count_text

        if cause and keys:
            raise ConfigurationError("--cause and --keys: give one of them")
        if unknown := set(cause or ()) - RETRY_CAUSES:
            raise ConfigurationError(
                f"{', '.join(sorted(unknown))}: no such cause; `noria status {directory}` names "
                "those of this job"
            )
        asked = AskedAgain(causes=cause or RETRY_CAUSES, keys=keys)
        if count := damage_of_earlier_passes(directory).total():
            say_unless(options.silent)(
                f"{count_text(count, 'damaged object')} of earlier passes: `noria sync "
                f"{directory}` sends them again"
            )
        _plan_and_run(None, directory, options, asked)


@app.command()
def status(
    directory: Directory,
    hosts: Annotated[
        bool, typer.Option("--hosts", help="Also each host: workers, pace, errors, retries.")
    ] = False,
    show_keys: ShowKeys = False,
    every: Annotated[
        bool, typer.Option("--all", help="Of many datasets, show each of them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show progress, ETA and failures by cause.

    Works during a run, between runs and after the last one, from any terminal. Of many datasets, a
    row for each, those first that somebody has to look at.
    """
    with exit_codes(as_json, resumes=False):
        if directory.is_dir() and holds_datasets(directory):
            from noria.engine.terminal.datasets_report import ROWS

            show_status(directory, 0 if every else ROWS, as_json)
            raise typer.Exit(0)
        from noria.engine import job
        from noria.engine.passes import current_pass, damage_of_earlier_passes, past_passes
        from noria.engine.terminal import history_report, report
        from noria.engine.terminal.verification_text import print_proof_standing, proof_standing

        place = current_pass(directory)
        found = job.status(place)
        earlier = damage_of_earlier_passes(directory)
        found = replace(found, damaged=dict(earlier + Counter(found.damaged)))
        failures = job.read_failures(place, show_keys)
        show = report.print_status_by_host if hosts else report.print_status
        summary = report.status_summary(found, failures, directory)
        summary |= proof_standing(directory)
        if passes := past_passes(directory):
            summary |= history_report.passes_summary(passes)
        print_summary(summary, show, as_json)
        if not as_json:
            print_proof_standing(summary)
        if passes and not as_json:
            print_summary(summary, history_report.print_passes, as_json)
        raise typer.Exit(0)


@app.command()
@with_options
def verify(
    directory: Directory,
    level: Annotated[str, typer.Option(help="Only reread, which reads every byte.")] = "reread",
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT@CONFIDENCE",
            help="Read only what is drawn, by the hash of the newest signed checkpoint: so many "
            "objects that it shows, with this confidence, that no more are damaged.",
        ),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="WORD", help="For --sample: what nobody knew when the checkpoint was signed."
        ),
    ] = None,
    signing_key: SigningKey = None,
    *,
    options: RunOptions,
) -> None:
    """Read everything back, or a sample, and compare it with the receipts.

    What it found is recorded in the history; what is signed after that covers it, too. If the job
    file names a key, that is done at once.

    \b
    Examples:
      noria verify move-1
      noria verify move-1 --sample 0.1%@99%
    """
    with exit_codes(options.as_json):
        from noria.engine.record_signatures import signer
        from noria.engine.sampling import sample_wishes
        from noria.engine.terminal import report

        if level != "reread":
            raise ConfigurationError(f"--level {level} cannot be verified after a run; use reread")
        wishes, sign = sample_wishes(sample, seed), signer(signing_key)
        found = verify_passes(directory, options, wishes, sign)
        print_summary(report.verify_summary(found, directory), report.print_verify, options.as_json)
        raise typer.Exit(found.exit_code)


@app.command()
def reconcile(directory: Directory, as_json: Json = False) -> None:
    """Compare manifest, receipts and target.

    The target is listed again: nothing may be missing, different, merged or extra.
    """
    with exit_codes(as_json):
        from noria.engine import job
        from noria.engine.passes import current_pass
        from noria.engine.terminal import report

        found = job.reconcile_job(current_pass(directory), say_unless(as_json))
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
            help="Also abort uploads that no journal knows, if they are on this job's names and "
            "younger than the job.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Abort the multipart uploads that a job left open, and remove unfinished files."""
    with exit_codes(as_json):
        from noria.engine import job
        from noria.engine.passes import current_pass
        from noria.engine.terminal import report

        found = job.clean(current_pass(directory), unclaimed=unclaimed)
        print_summary(report.clean_summary(found), report.print_clean, as_json)
        raise typer.Exit(found.exit_code)


def _refuse_dry_run(dry_run: bool) -> None:
    if dry_run:
        raise ConfigurationError("--dry-run is for a job of one; many datasets have none yet")


def run_command(app: typer.Typer) -> None:
    """Run the command line to its end: the process exits."""
    spare_start_up()
    open_streams()
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)
    end_process(exit_code_of(app))


def _plan_and_run(
    config: JobConfig | None,
    root: Path,
    options: RunOptions,
    asked_again: AskedAgain | None = None,
) -> None:
    from noria.engine.cluster.opening import open_cluster

    overrides, metrics_address = options.overrides, options.metrics_address
    with (
        ending_on_signals(),
        open_cluster(options.address, ray=options.ray) as cluster,
        kept_log(options.log_file),
        ExitStack() as stack,
    ):
        # A worker comes up while all this is loaded, which takes as long here as there.
        cluster.prestart()
        from noria.engine import job
        from noria.engine.passes import current_pass
        from noria.engine.planning import prepared
        from noria.engine.proof.at_the_end import end_signing, with_proof
        from noria.engine.terminal import report
        from noria.manifests.job.directory import JobDirectory
        from noria.manifests.passes.migration import Migration

        # What is loaded stays: nobody has to look through it again, not even at the end.
        gc.freeze()
        planned, server = None, None
        if config is not None:
            in_file = config.run.model_dump(exclude_unset=True)
            overrides = {**in_file, **overrides}
            metrics_address = metrics_address or in_file.get("metrics_address")
            if metrics_address is None and not JobDirectory.exists(root):
                metrics_address = config.run.metrics_address
            server = stack.enter_context(watched_plan(root, metrics_address))
            say = say_unless(options.silent)
            planned = stack.enter_context(prepared(config, root, say, overrides=overrides))
        else:
            job.refuse_killed_plan(root)
        place = current_pass(root)
        if Migration(root).last > 1:  # the first pass has ended, and others followed
            planned = None
        signing = end_signing(root, config)
        with shown(place, metrics_address, options.shows, server) as show:
            ended = job.run(
                place,
                cluster=cluster,
                overrides=overrides,
                show=show,
                show_keys=options.show_keys,
                planned=planned,
                asked_again=asked_again,
            )
        ended = with_proof(ended, place, signing)
    print_summary(report.run_summary(ended, root), report.print_run, options.as_json)
    raise typer.Exit(ended.exit_code)


def verify_passes(
    directory: Path,
    options: RunOptions,
    sample: SampleWishes | None = None,
    sign: Sign | None = None,
) -> VerifyReport:
    """Read back what stands by all passes of a migration, and show how far it is.

    `sign` signs the record of it; a checkpoint is signed after it, if the job names a key.
    """
    from noria.engine.cluster.opening import open_cluster
    from noria.engine.passes import current_pass
    from noria.engine.proof.at_the_end import end_signing, signed_now
    from noria.engine.verifying import verify

    signing = end_signing(directory)
    with (
        ending_on_signals(),
        kept_log(options.log_file),
        open_cluster(options.address, ray=options.ray) as cluster,
        shown(current_pass(directory), options.metrics_address, options.shows) as show,
    ):
        found = verify(
            directory,
            cluster=cluster,
            overrides=options.overrides,
            show=show,
            show_keys=options.show_keys,
            sample=sample,
            sign=sign,
        )
    if signing is None or found.record is None:
        return found
    return replace(found, proof=signed_now(directory, signing))


def _default_directory(config: JobConfig) -> Path:
    """noria-jobs/SOURCE-to-TARGET-HASH, the same each time for the same ends and filter."""
    from noria.engine.config.locations import parse_location

    asked: list[Any] = [(end.url, end.endpoint) for end in (config.source, config.target)]
    if config.filter.asked:
        asked.append(config.filter.asked)
    names = [
        Path(parse_location(end.url).container).name or "root"
        for end in (config.source, config.target)
    ]
    short = hashlib.sha256(repr(asked).encode()).hexdigest()[:8]
    return Path("noria-jobs") / f"{'-to-'.join(names)}-{short}"


def directory_of(job_file: Path, config: JobConfig) -> Path:
    """The job directory of a job file: as it says, or named like it. Raises ConfigurationError."""
    if config.directory is not None:
        return job_file.parent / config.directory
    if not job_file.suffix:
        raise ConfigurationError(
            f"{job_file} has no suffix, so the job directory cannot be named like it; call it "
            f"{job_file.name}.toml, or set directory in it"
        )
    return job_file.with_suffix("")
