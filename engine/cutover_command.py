"""`noria cutover`, `noria history`: the end of a migration, and its life."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noria.engine.cli import Directory, RunOptions, verify_passes, with_options
from noria.engine.sync_command import one_pass
from noria.engine.terminal.console import (
    ending_on_signals,
    exit_codes,
    print_summary,
    say_unless,
)

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.job import VerifyReport
    from noria.engine.passes import PassReport


def add_commands(app: typer.Typer) -> None:
    """Give `app` the commands below, after its own."""
    app.command()(with_options(cutover))


def cutover(
    directory: Directory,
    freeze_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Takes the right to write to the source away. Default: the source has to be quiet "
            "by itself.",
        ),
    ] = None,
    quiet_for: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="Without a command: two equal listings are so far apart."
        ),
    ] = "10m",
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything that stands back from the target.")
    ] = False,
    approve_as: Annotated[
        str | None, typer.Option(metavar="NAME", help="Approve the proof under this name.")
    ] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ed25519 private key that signs the approval."),
    ] = None,
    switch_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Makes users use the target. It is told NORIA_TARGET, NORIA_PROOF and more.",
        ),
    ] = None,
    *,
    options: RunOptions,
) -> None:
    """Freeze the source, prove that the target is equal, and switch: step by step, each recorded.

    Goes on from where the migration stands, and stops with a reason at the first step that does
    not hold: repeat the command when that is mended. Nothing is deleted at the source.

    \b
    Examples:
      noria cutover move-1 --quiet-for 10m
      noria cutover move-1 --freeze-command ./revoke.sh --verify
      noria cutover move-1 --approve-as 'A. Martin' --switch-command ./switch.sh
    """
    with exit_codes(options.as_json):
        from noria.engine.config.jobfile import duration_seconds
        from noria.engine.cutover import CutoverTools, CutoverWishes
        from noria.engine.cutover import cutover as walk
        from noria.engine.passes import PassWishes
        from noria.engine.terminal import cutover_report

        def run_pass() -> PassReport:
            return one_pass(directory, PassWishes(inventory="listing"), options)

        def verify_everything() -> VerifyReport:
            return verify_passes(directory, options)

        wishes = CutoverWishes(
            freeze_command=freeze_command,
            quiet_seconds=duration_seconds(quiet_for, "--quiet-for"),
            verify=verify,
            approve_as=approve_as,
            signing_key=signing_key,
            switch_command=switch_command,
        )
        tools = CutoverTools(
            run_pass=run_pass, verify=verify_everything, say=say_unless(options.silent)
        )
        with ending_on_signals():
            found = walk(directory, wishes, tools)
        summary = {**asdict(found), "exit_code": found.exit_code, "directory": str(directory)}
        print_summary(summary, cutover_report.print_cutover, options.as_json)
        raise typer.Exit(found.exit_code)
