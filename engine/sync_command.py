"""`noria sync`: another pass over a source that lives on."""

from __future__ import annotations

import os.path
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from noria.engine.cli import RunOptions, SigningKey, with_options
from noria.engine.fleet_commands import holds_datasets, sync_datasets
from noria.engine.terminal.console import (
    ending_on_signals,
    exit_codes,
    kept_log,
    print_summary,
    say_unless,
    shown,
)
from noria.manifests.errors import ConfigurationError

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.convergence import MigrationFigures
    from noria.engine.job import RunReport
    from noria.engine.passes import PassReport, PassWishes
    from noria.engine.planning import Prepared
    from noria.engine.status import JobStatus


def add_commands(app: typer.Typer) -> None:
    """Give `app` the command below, after its own."""
    app.command()(with_options(sync))


Deletions = Annotated[
    Literal["report", "mirror"] | None,
    typer.Option(
        help="What is gone there: listed, or deleted here too, if this migration wrote it and "
        "nobody changed it. Default: as the job file says, or report.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Delete however many objects are gone.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassOptions:
    """How a pass goes about it."""

    check: Annotated[
        Literal["listing", "content"],
        typer.Option(
            help="What tells a change: listings alone, or also the bytes: both ends are read where "
            "they state no checksums.",
        ),
    ] = "listing"
    inventory: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help='A newer inventory of the source, or "listing". Needed if the first pass had one.',
        ),
    ] = None
    withdraw: Annotated[
        bool,
        typer.Option(
            "--withdraw",
            help="Take back a pass that is planned and has not begun to move; move nothing.",
        ),
    ] = False
    signing_key: SigningKey = None


def sync(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A job directory: its migration goes on.")
    ],
    deletions: Deletions = None,
    until_lag: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Run passes until what the target lacks is at most so old. Default: one pass.",
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Begin a pass so often, until the lag is reached or, without one, until Ctrl-C.",
        ),
    ] = None,
    yes: Yes = False,
    *,
    how: PassOptions,
    options: RunOptions,
) -> None:
    """Move what is new or changed at the source since the last pass.

    The source is listed again and compared with what stands at the target by the receipts of all
    passes so far. What is unchanged costs no request. An object at the target is replaced only if
    this migration wrote it and it is as it was left. A pass that was begun is brought to its end
    first: repeat the command.

    \b
    Examples:
      noria sync move-1
      noria sync move-1 --deletions mirror
      noria sync move-1 --until-lag 10m --every 1h
      noria sync move-1 --withdraw
    """
    with exit_codes(options.as_json):
        if how.withdraw:
            _withdraw(directory, how.signing_key, options)
            return
        from noria.engine.passes import PassWishes
        from noria.engine.record_signatures import signer
        from noria.engine.terminal import pass_report

        mirror = None if deletions is None else deletions == "mirror"
        wishes = PassWishes(
            mirror=mirror,
            any_number=yes,
            by_content=how.check == "content",
            inventory=how.inventory,
            sign=signer(how.signing_key),
            overrides=options.overrides,
        )
        rhythm = Rhythm.of(until_lag, every)
        if _is_of_many(directory, rhythm):
            raise typer.Exit(sync_datasets(directory, wishes, options.of_many))
        if rhythm is None:
            ended = one_pass(directory, wishes, options)
        else:
            ended = _passes(directory, rhythm, wishes, options)
        summary = pass_summary(directory, ended)
        print_summary(summary, pass_report.print_pass, options.as_json)
        raise typer.Exit(ended.run.exit_code)


def _passes(directory: Path, rhythm: Rhythm, wishes: PassWishes, options: RunOptions) -> PassReport:
    """One pass after the other; returns how the last one ended. Raises StopAsked."""
    from noria.engine.presence import present

    with present(directory) as presence:
        while True:
            ended = one_pass(directory, wishes, options)
            if ended.run.exit_code:
                return ended
            if rhythm.is_over(directory, say_unless(options.silent), presence.wait):
                return ended
            presence.check()


def _withdraw(directory: Path, signing_key: Path | None, options: RunOptions) -> None:
    from noria.engine import withdrawal
    from noria.engine.passes import whole_migration
    from noria.engine.record_signatures import signer
    from noria.engine.terminal import pass_report

    record = withdrawal.withdraw(whole_migration(directory), signer(signing_key))
    summary = {"withdrawn": record.facts["pass"], "record": record.number}
    print_summary(summary, pass_report.print_withdrawn, options.as_json)


def _is_of_many(directory: Path, rhythm: Rhythm | None) -> bool:
    """Return True if the directory holds many datasets. Raises ConfigurationError."""
    if not directory.is_dir() or not holds_datasets(directory):
        return False
    if rhythm is not None:
        raise ConfigurationError(
            "--until-lag and --every are for one dataset: name its directory, or run the same "
            "command again for another pass of all"
        )
    return True


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How passes follow each other by themselves."""

    lag_seconds: float
    """The lag that is wanted; below 0: none, they go on for good."""
    every_seconds: float

    @classmethod
    def of(cls, until_lag: str | None, every: str | None) -> Rhythm | None:
        """None: one pass alone. Raises ConfigurationError."""
        from noria.engine.config.reading import duration_seconds

        if until_lag is None and every is None:
            return None
        lag = -1.0 if until_lag is None else duration_seconds(until_lag, "--until-lag")
        return cls(lag, 0.0 if every is None else duration_seconds(every, "--every"))

    def is_over(
        self, directory: Path, say: Callable[[str], None], wait: Callable[[float], None]
    ) -> bool:
        """Wait for the next pass to be due. True if there is none: the lag is reached."""
        from noria.engine.convergence import SyncAction, until
        from noria.engine.passes import past_passes
        from noria.engine.terminal.history_report import obstacle_text, step_text

        passes = past_passes(directory)
        step = until(self.lag_seconds, self.every_seconds, time.time(), passes)
        say(step_text(step))
        if self.lag_seconds >= 0 and (obstacle := obstacle_text(step)) is not None:
            say(obstacle)
        if step.action is SyncAction.WAIT:
            with ending_on_signals():
                wait(step.wait_seconds)
        return step.action is SyncAction.REACHED


def one_pass(directory: Path, wishes: PassWishes, options: RunOptions) -> PassReport:
    """Run the next pass of a migration with these options, and show how far it is."""
    with running(options) as run:
        from noria.engine import job
        from noria.engine.passes import run_pass

        job.refuse_killed_plan(directory)
        return run_pass(directory, wishes, run, say_unless(options.silent))


@contextmanager
def running(options: RunOptions) -> Iterator[Callable[[Prepared], RunReport]]:
    """What runs a planned pass with these options, and shows how far it is; workers come up."""
    from noria.engine.cluster.opening import open_cluster

    with (
        ending_on_signals(),
        open_cluster(options.address, ray=options.ray) as cluster,
        kept_log(options.log_file),
    ):
        cluster.prestart()
        from noria.engine import job

        def run(ready: Prepared) -> RunReport:
            place = ready.directory.root
            figures = _figures(place)
            with shown(place, options.metrics_address, options.shows) as show_status:

                def show(status: JobStatus) -> None:
                    show_status(replace(status, migration=figures))

                return job.run(
                    place,
                    cluster=cluster,
                    overrides=options.overrides,
                    show=show,
                    show_keys=options.show_keys,
                    planned=ready,
                )

        yield run


def _figures(place: Path) -> MigrationFigures:
    """What metrics say of the migration that this pass belongs to."""
    from noria.engine.convergence import migration_figures
    from noria.engine.passes import past_passes
    from noria.manifests.passes.migration import migration_of

    migration, _ = migration_of(place)
    return migration_figures(past_passes(migration.root))


def pass_summary(directory: Path, ended: PassReport) -> dict[str, Any]:
    """A pass as `--json` has it; `directory` is what a person names next."""
    from noria.engine.terminal import report

    summary: dict[str, Any] = report.run_summary(ended.run, directory)
    delta = None if ended.delta is None else asdict(ended.delta)
    place = ended.place if directory.is_absolute() else os.path.relpath(ended.place)
    of_pass = {"pass": ended.number, "place": str(place), "renamed": ended.renamed}
    return {**summary, **of_pass, "delta": delta}
