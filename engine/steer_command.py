"""`noria set`, `pause`, `resume` and `drain`: a running migration is steered."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noria.engine.cli import Directory, Json
from noria.engine.terminal.console import exit_codes, print_summary

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.steering_requests import Heeded

Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Why, for whoever reads the status.")
]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="DURATION", help="Over by itself after 90s, 45m, 2h."),
]


def add_commands(app: typer.Typer) -> None:
    """Give `app` the commands below, after its own."""
    app.command("set")(set_settings)
    app.command()(pause)
    app.command()(resume)
    app.command()(drain)


def set_settings(
    directory: Directory,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Settings of [run].")
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Take back what was set: all, or the names given.")
    ] = False,
    lasts: For = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Change settings of a migration, also while it runs; without any, show what is in force.

    bandwidth, source.requests_per_second, target.requests_per_second, workers, transfers,
    source.requests, target.requests, paused. What is set here precedes windows and the job file,
    holds for all passes, and survives the driver. "none" lifts a limit, "auto" leaves it to Noria.

    \b
    Examples:
      noria set move-1 bandwidth=2Gbit/s source.requests_per_second=500
      noria set move-1 workers=12 --for 8h --reason 'the night shift'
      noria set move-1
      noria set move-1 --clear bandwidth
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.config.reading import duration_seconds, steered_config
        from noria.engine.steering_requests import SteeredJob
        from noria.engine.terminal import steering_report
        from noria.manifests.errors import ConfigurationError
        from noria.manifests.job.control import ControlKind

        steering = SteeredJob(directory)
        seconds = None if lasts is None else duration_seconds(lasts, "--for")
        if not settings and not clear:
            if lasts is not None or reason is not None:
                raise ConfigurationError("--for, --reason: say what to set, as NAME=VALUE")
            limits = steering.limits()
            said = "in force" if steering.driven() else "in force once it runs"
            summary = {"directory": str(directory), "said": said, "limits": limits}
            _print(summary, steering_report.print_limits, as_json)
        elif clear:
            heard = steering.ask(ControlKind.CLEAR, _names(settings or []), reason=reason)
            _say(directory, heard, "taken back", as_json)
        else:
            given = steered_config(settings or [], "noria set").given
            heard = steering.ask(ControlKind.SET, given, seconds=seconds, reason=reason)
            _say(directory, heard, "set", as_json)
        raise typer.Exit(0)


def pause(
    directory: Directory, lasts: For = None, reason: Reason = None, as_json: Json = False
) -> None:
    """Begin nothing new until `noria resume`; the driver and its workers stay.

    What is in flight comes to its end, part by part, within `drain_seconds`; then all leases are
    handed back. A driver that begins later is paused too.

    \b
    Example:
      noria pause move-1 --reason 'the source is being patched'
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.config.reading import duration_seconds
        from noria.engine.steering_requests import SteeredJob
        from noria.manifests.job.control import ControlKind

        seconds = None if lasts is None else duration_seconds(lasts, "--for")
        heard = SteeredJob(directory).ask(ControlKind.PAUSE, seconds=seconds, reason=reason)
        _say(directory, heard, "paused", as_json)
        raise typer.Exit(0)


def resume(directory: Directory, reason: Reason = None, as_json: Json = False) -> None:
    """Go on after `noria pause`.

    A window that pauses goes on to do so: `noria set DIR paused=false` precedes it.
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.steering_requests import SteeredJob
        from noria.manifests.job.control import ControlKind

        steering = SteeredJob(directory)
        heard = steering.ask(ControlKind.RESUME, reason=reason)
        still = (heard.limits or steering.limits()).paused
        what = "resumed" if still is None else f"resumed, but still paused {still.why}"
        _say(directory, heard, what, as_json)
        raise typer.Exit(0)


def drain(directory: Directory, reason: Reason = None, as_json: Json = False) -> None:
    """Ask the driver to end as SIGTERM does: what is in flight comes to its end, exit code 3.

    `noria run` goes on later. Works from any machine that sees the job directory.
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.steering_requests import SteeredJob
        from noria.engine.terminal import steering_report
        from noria.manifests.job.control import ControlKind

        steering = SteeredJob(directory)
        if steering.driven() is None:
            said = f"nothing runs in {directory}: there is nothing to drain"
            _print({"directory": str(directory), "said": said}, steering_report.print_said, as_json)
            raise typer.Exit(0)
        heard = steering.ask(ControlKind.DRAIN, reason=reason)
        _say(directory, heard, "the driver is asked to end", as_json)
        raise typer.Exit(0)


def _names(settings: list[str]) -> dict[str, None]:
    """Names of settings that are to be cleared. Raises ConfigurationError."""
    from noria.engine.config.reading import steered_name
    from noria.engine.config.refused_settings import WrongSettings, nearest_name
    from noria.engine.steering.limits import STEERED

    names = {steered_name(each.partition("=")[0]): None for each in settings}
    wrong = [
        f"noria set: {name}: no such setting{nearest_name(name, {'': STEERED}, '')}"
        for name in names
        if name not in STEERED
    ]
    if wrong:
        raise WrongSettings(wrong)
    return names


def _say(directory: Path, heard: Heeded, what: str, as_json: bool) -> None:
    from noria.engine.terminal import steering_report

    record = heard.record
    place = f"control/{record.number:06d}.json"
    if not heard.is_driven:
        said = f"{what} ({place}); nothing runs in {directory} now: the next run heeds it"
    elif heard.limits is not None:
        said = f"{what} ({place}); the driver heeds it"
    elif record.kind.value == "drain":
        said = f"{what} ({place})"
    else:
        said = f"{what} ({place}); the driver has not said yet that it heeds it: see `noria status`"
    summary: dict[str, Any] = {"directory": str(directory), "said": said, "record": record}
    if heard.limits is not None and heard.limits.changed:
        summary["limits"] = heard.limits
    _print(summary, steering_report.print_said, as_json)


def _print(summary: dict[str, Any], show: Any, as_json: bool) -> None:
    if as_json:
        for name in summary.keys() & {"limits", "record"}:
            values = asdict(summary[name])
            moments = {key: value for key, value in values.items() if isinstance(value, datetime)}
            summary[name] = values | {key: each.isoformat() for key, each in moments.items()}
    print_summary(summary, show, as_json)
