"""`noria cutover`, `noria rollback`, `noria history`: a migration's end, way back, and life."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from noria.engine.cli import Directory, Json, RunOptions, SigningKey, verify_passes, with_options
from noria.engine.sync_command import Deletions, Yes, one_pass, pass_summary, running
from noria.engine.terminal.console import (
    ending_on_signals,
    exit_codes,
    print_summary,
    say_unless,
)

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.cutover import CutoverWishes


def add_commands(app: typer.Typer) -> None:
    """Give `app` the commands below, after its own."""
    app.command()(with_options(cutover))
    app.command()(with_options(rollback))
    app.command()(retire)
    app.command()(history)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoverOptions:
    """What a cutover is to do at each step."""

    freeze_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Takes the right to write to the source away. Default: the source has to be quiet "
            "by itself.",
        ),
    ] = None
    quiet_for: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="Without a command: two equal listings are so far apart."
        ),
    ] = "10m"
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything that stands back from the target.")
    ] = False
    approve_as: Annotated[
        str | None, typer.Option(metavar="NAME", help="Approve the proof under this name.")
    ] = None
    signing_key: SigningKey = None
    switch_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Makes users use the target. It is told NORIA_TARGET, NORIA_PROOF and more.",
        ),
    ] = None

    @property
    def wishes(self) -> CutoverWishes:
        """Raises ConfigurationError."""
        from noria.engine.config.reading import duration_seconds
        from noria.engine.cutover import CutoverWishes

        return CutoverWishes(
            freeze_command=self.freeze_command,
            quiet_seconds=duration_seconds(self.quiet_for, "--quiet-for"),
            verify=self.verify,
            approve_as=self.approve_as,
            signing_key=self.signing_key,
            switch_command=self.switch_command,
        )


def cutover(directory: Directory, *, steps: CutoverOptions, options: RunOptions) -> None:
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
        from noria.engine.cutover import CutoverTools
        from noria.engine.cutover import cutover as walk
        from noria.engine.passes import PassWishes
        from noria.engine.presence import present
        from noria.engine.record_signatures import signer
        from noria.engine.terminal import cutover_report

        wishes = PassWishes(
            inventory="listing",
            sign=signer(steps.signing_key),
            overrides=options.overrides,
        )
        with ending_on_signals(), present(directory) as presence:
            tools = CutoverTools(
                run_pass=lambda: one_pass(directory, wishes, options),
                verify=lambda: verify_passes(directory, options, sign=signer(steps.signing_key)),
                say=say_unless(options.silent),
                wait=presence.wait,
                check=presence.check,
                overrides=options.overrides,
            )
            found = walk(directory, steps.wishes, tools)
        summary = {**asdict(found), "exit_code": found.exit_code, "directory": str(directory)}
        print_summary(summary, cutover_report.print_cutover, options.as_json)
        raise typer.Exit(found.exit_code)


def rollback(
    directory: Directory,
    deletions: Deletions = None,
    yes: Yes = False,
    signing_key: SigningKey = None,
    *,
    options: RunOptions,
) -> None:
    """Move back to the source what changed at the target since the switch.

    The source has to take writes for that. An object there is replaced only if it is as it was when
    it was read. Repeat the command until it has ended; then the source may be used again.

    \b
    Examples:
      noria rollback move-1
      noria rollback move-1 --deletions mirror
    """
    with exit_codes(options.as_json):
        from noria.engine.passes import PassWishes, whole_migration
        from noria.engine.record_signatures import signer
        from noria.engine.rollback import rollback as way_back
        from noria.engine.terminal import cutover_report

        migration = whole_migration(directory)
        exchange_roles()
        mirror = None if deletions is None else deletions == "mirror"
        wishes = PassWishes(
            mirror=mirror,
            any_number=yes,
            sign=signer(signing_key),
            overrides=options.overrides,
        )
        with running(options) as run:
            found = way_back(migration, wishes, run, say_unless(options.silent))
        summary = {"ended": found.ended, "directory": str(directory), "back": None}
        if found.back is not None:
            summary["back"] = pass_summary(directory, found.back)
        print_summary(summary, cutover_report.print_rollback, options.as_json)
        raise typer.Exit(found.exit_code)


def retire(
    directory: Directory,
    confirmed_by: Annotated[
        str, typer.Option(metavar="NAME", help="Who has gone through the list, and gives it up.")
    ],
    signing_key: SigningKey = None,
    as_json: Json = False,
) -> None:
    """Record that the source is given up: what it still holds, and who confirmed it.

    Noria deletes nothing. The list that is printed is for the owner of the source.

    \b
    Example:
      noria retire move-1 --confirmed-by 'A. Martin'
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.retire import CHECKLIST
        from noria.engine.retire import retire as give_up
        from noria.engine.terminal import cutover_report
        from noria.manifests.passes.migration import Migration

        record, found = give_up(
            Migration(directory), confirmed_by, say_unless(as_json), signing_key=signing_key
        )
        summary = {"record": asdict(record), "source": asdict(found), "checklist": CHECKLIST}
        print_summary(summary, cutover_report.print_retired, as_json)
        raise typer.Exit(0)


def history(directory: Directory, as_json: Json = False) -> None:
    """Tell the life of a migration: passes, freezes, proofs, approvals, switches, ways back.

    Each record names the digest of the one before: one that was changed is noticed. Write down the
    last digest, and nobody can change anything before it unseen. Signatures are checked, and what
    is not signed is said to be so.
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.record_signatures import check_signatures
        from noria.engine.terminal import history_report
        from noria.manifests.job.directory import JobDirectory
        from noria.manifests.job.history import read

        job = JobDirectory.open(directory)
        records = read(job)
        check_signatures(str(job.job().get("id")), records)
        summary = history_report.history_summary(records, directory)
        print_summary(summary, history_report.print_history, as_json)
        raise typer.Exit(0)


def exchange_roles(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let what names credentials of the source do so for the target, and the other way round.

    Workers inherit it.
    """
    source, target = "NORIA_SOURCE_", "NORIA_TARGET_"
    given = {
        name: value for name, value in environment.items() if name.startswith((source, target))
    }
    for name in given:
        del environment[name]
    for name, value in given.items():
        mine, other = (source, target) if name.startswith(source) else (target, source)
        environment[other + name.removeprefix(mine)] = value
