"""`noria sync`: another pass over a source that lives on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


Deletions = Annotated[
    Literal["report", "mirror"] | None,
    typer.Option(
        help="What is gone there: listed, or deleted here too, if this migration wrote it and "
        "nobody changed it. Default: as the job file says, or report.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Delete however many objects are gone.")]


def sync(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A job directory: its migration goes on.")
    ],
    deletions: Deletions = None,
    inventory: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help='A newer inventory of the source, or "listing". Needed if the first pass had one.',
        ),
    ] = None,
    yes: Yes = False,
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
        from noria.engine.terminal import pass_report

        mirror = None if deletions is None else deletions == "mirror"
        wishes = PassWishes(mirror=mirror, any_number=yes, inventory=inventory)
        ended = one_pass(directory, wishes, options)
        summary = pass_summary(directory, ended)
        print_summary(summary, pass_report.print_pass, options.as_json)
        raise typer.Exit(ended.run.exit_code)


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
            with shown(place, options.metrics_address, options.shows) as show:
                return job.run(
                    place,
                    cluster=cluster,
                    overrides=options.overrides,
                    show=show,
                    show_keys=options.show_keys,
                    planned=ready,
                )

        yield run


def pass_summary(directory: Path, ended: PassReport) -> dict[str, Any]:
    """A pass as `--json` has it; `directory` is what a person names next."""
    from noria.engine.terminal import report

    summary: dict[str, Any] = report.run_summary(ended.run, directory)
    delta = None if ended.delta is None else asdict(ended.delta)
    return {**summary, "pass": ended.number, "delta": delta}
