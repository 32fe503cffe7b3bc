"""`noria sync`: another pass over a source that lives on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from noria.engine.cli import RunOptions, with_options
from noria.engine.terminal.console import (
    ending_on_signals,
    exit_codes,
    kept_log,
    print_summary,
    say_unless,
    shown,
)

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.job import RunReport
    from noria.engine.passes import PassReport, PassWishes
    from noria.engine.planning import Prepared


def add_commands(app: typer.Typer) -> None:
    """Give `app` the command below, after its own."""
    app.command()(with_options(sync))


def sync(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A job directory: its migration goes on.")
    ],
    deletions: Annotated[
        Literal["report", "mirror"] | None,
        typer.Option(
            help="What is gone at the source: listed, or deleted at the target too, if this "
            "migration wrote it and nobody changed it. Default: as the job file says, or report.",
        ),
    ] = None,
    inventory: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help='A newer inventory of the source, or "listing". Needed if the first pass had one.',
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Delete at the target however many objects are gone."),
    ] = False,
    *,
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
    """
    with exit_codes(options.as_json):
        from noria.engine.passes import PassWishes

        mirror = None if deletions is None else deletions == "mirror"
        wishes = PassWishes(mirror=mirror, any_number=yes, inventory=inventory)
        ended = one_pass(directory, wishes, options)
        _print(directory, ended, options.as_json)
        raise typer.Exit(ended.run.exit_code)


def one_pass(directory: Path, wishes: PassWishes, options: RunOptions) -> PassReport:
    """Run the next pass of a migration with these options, and show how far it is."""
    from noria.engine.cluster.opening import open_cluster

    with (
        ending_on_signals(),
        open_cluster(options.address, ray=options.ray) as cluster,
        kept_log(options.log_file),
    ):
        cluster.prestart()
        from noria.engine import job
        from noria.engine.passes import run_pass

        def run(ready: Prepared) -> RunReport:
            place = ready.directory.root
            with shown(place, options.metrics_address, options.shows) as show:
                return job.run(
                    place,
                    cluster=cluster,
                    overrides=options.overrides,
                    show=show,
                    show_keys=options.show_keys,
                    planned=ready,
                )

        job.refuse_killed_plan(directory)
        return run_pass(directory, wishes, run, say_unless(options.silent))


def _print(directory: Path, ended: PassReport, as_json: bool) -> None:
    from noria.engine.terminal import pass_report, report

    summary: dict[str, Any] = report.run_summary(ended.run, directory)
    delta = None if ended.delta is None else asdict(ended.delta)
    print_summary(
        {**summary, "pass": ended.number, "delta": delta}, pass_report.print_pass, as_json
    )
