"""`noria set`, `pause`, `resume` and `drain`: a running migration is steered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noria.engine.cli import Directory, Json
from noria.engine.terminal.console import exit_codes, print_summary

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.steering.limits import LimitsInForce
    from noria.engine.steering_requests import Heeded, SteeredMigration
    from noria.manifests.job.control import SettingValue

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
    Of many datasets: the same for all of them together, and priority.NAME, a whole number; those of
    a higher one get workers first.

    \b
    Examples:
      noria set move-1 bandwidth=2Gbit/s source.requests_per_second=500
      noria set move-1 workers=12 --for 8h --reason 'the night shift'
      noria set move-1
      noria set move-1 --clear bandwidth
      noria set projects bandwidth=10Gbit/s priority.genomes=5
    """
    with exit_codes(as_json, resumes=False):
        from noria.manifests.errors import ConfigurationError
        from noria.manifests.job.control import ControlKind

        steering = _steering(directory)
        seconds = None if lasts is None else _seconds(lasts)
        if not settings and not clear:
            if lasts is not None or reason is not None:
                raise ConfigurationError("--for, --reason: say what to set, as NAME=VALUE")
            raise typer.Exit(_show(directory, steering, as_json))
        if clear:
            names = _names(directory, settings or [])
            heard = steering.ask(ControlKind.CLEAR, names, reason=reason)
            raise typer.Exit(_say(directory, heard, "taken back", as_json))
        given = _settings(directory, settings or [])
        heard = steering.ask(ControlKind.SET, given, seconds=seconds, reason=reason)
        raise typer.Exit(_say(directory, heard, "set", as_json))


def pause(
    directory: Directory, lasts: For = None, reason: Reason = None, as_json: Json = False
) -> None:
    """Begin nothing new until `noria resume`; the driver and its workers stay.

    What is in flight comes to its end, part by part, within `drain_seconds`; then all leases are
    handed back. A driver that begins later is paused too. Of many datasets all are paused; one of
    them by its own directory, whose workers the others then have.

    \b
    Example:
      noria pause move-1 --reason 'the source is being patched'
    """
    with exit_codes(as_json, resumes=False):
        from noria.manifests.job.control import ControlKind

        seconds = None if lasts is None else _seconds(lasts)
        heard = _steering(directory).ask(ControlKind.PAUSE, seconds=seconds, reason=reason)
        raise typer.Exit(_say(directory, heard, "paused", as_json))


def resume(directory: Directory, reason: Reason = None, as_json: Json = False) -> None:
    """Go on after `noria pause`.

    A window that pauses goes on to do so: `noria set DIR paused=false` precedes it.
    """
    with exit_codes(as_json, resumes=False):
        from noria.manifests.job.control import ControlKind

        steering = _steering(directory)
        heard = steering.ask(ControlKind.RESUME, reason=reason)
        still = _in_force(directory, steering, heard).paused
        what = "resumed" if still is None else f"resumed, but still paused {still.why}"
        if still is None or not still.of_all:
            raise typer.Exit(_say(directory, heard, what, as_json))
        _say(directory, heard, f"{what}: `noria resume {_fleet_of(directory)}` ends that", as_json)
        raise typer.Exit(1)


def drain(directory: Directory, reason: Reason = None, as_json: Json = False) -> None:
    """Ask the driver to end as SIGTERM does: what is in flight comes to its end, exit code 3.

    `noria run` goes on later. Works from any machine that sees the job directory.
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.terminal import steering_report
        from noria.manifests.job.control import ControlKind

        steering = _steering(directory)
        if steering.driven() is None and not steering.waits():
            said = f"nothing runs in {directory}: there is nothing to drain"
            _print({"directory": str(directory), "said": said}, steering_report.print_said, as_json)
            raise typer.Exit(0)
        heard = steering.ask(ControlKind.DRAIN, reason=reason)
        raise typer.Exit(_say(directory, heard, "the driver is asked to end", as_json))


def _seconds(lasts: str) -> float:
    """Of --for. Raises ConfigurationError: what is over at once is not what anybody asks for."""
    from noria.engine.config.reading import duration_seconds
    from noria.manifests.errors import ConfigurationError

    seconds = duration_seconds(lasts, "--for")
    if seconds < 1:
        raise ConfigurationError(
            "--for: less than a second is over before it is heeded; without --for it holds for good"
        )
    return seconds


def _holds_datasets(directory: Path) -> bool:
    return (directory / "fleet.json").is_file()


def _fleet_of(directory: Path) -> Path | None:
    from noria.engine.live_settings import directory_of_all

    return directory_of_all(directory)


def _steering(directory: Path) -> SteeredMigration:
    if _holds_datasets(directory):
        from noria.engine.fleet.steering_requests import steered_fleet

        return steered_fleet(directory)
    from noria.engine.steering_requests import steered_job

    return steered_job(directory)


def _settings(directory: Path, given: list[str]) -> Mapping[str, SettingValue]:
    """What is to be set. Raises WrongSettings, ConfigurationError."""
    if _holds_datasets(directory):
        from noria.engine.fleet.steering_requests import FleetRequests

        return FleetRequests(directory).settings(given)
    from noria.engine.config.reading import steered_config

    settings = steered_config(given, "noria set").given
    _refuse_shared(directory, settings)
    return settings


def _names(directory: Path, given: list[str]) -> Mapping[str, None]:
    """Names of settings that are to be cleared. Raises WrongSettings."""
    from noria.engine.fleet.steering_requests import FleetRequests, setting_names

    return (
        FleetRequests(directory).names(given)
        if _holds_datasets(directory)
        else setting_names(given)
    )


def _refuse_shared(directory: Path, settings: Iterable[str]) -> None:
    """What one dataset has no part of its own in. Raises WrongSettings."""
    fleet = _fleet_of(directory)
    if fleet is None:
        return
    from noria.engine.config.refused_settings import WrongSettings

    wrong = [
        f"noria set: {name}: all datasets share what is in flight; set it for all, with `noria set "
        f"{fleet} {name.replace('_', '.', 1)}=...`, or set the workers of this one"
        for name in settings
        if name in _SHARED
    ]
    if wrong:
        raise WrongSettings(wrong)


_SHARED = ("transfers", "source_requests", "target_requests")


def _in_force(
    directory: Path, steering: SteeredMigration, heard: Heeded | None = None
) -> LimitsInForce:
    """What holds there, with what pauses all datasets of which it is one."""
    limits = (None if heard is None else heard.limits) or steering.limits()
    fleet = _fleet_of(directory)
    return limits if fleet is None else limits.among(_steering(fleet).limits())


def _show(directory: Path, steering: SteeredMigration, as_json: bool) -> int:
    """What is in force; returns the exit code."""
    from noria.engine.terminal import datasets_report, steering_report

    said = "in force" if steering.driven() else "in force once it runs"
    show = steering_report.print_limits
    damage = steering.damage()
    summary: dict[str, Any] = {"directory": str(directory), "said": said, "damage": damage}
    summary["limits"] = _in_force(directory, steering)
    if _holds_datasets(directory):
        from noria.engine.fleet.steering_requests import FleetRequests

        summary["priorities"] = FleetRequests(directory).priorities()
        show = datasets_report.print_limits
    _print(summary, show, as_json)
    return 0 if damage is None else 1


def _say(directory: Path, heard: Heeded, what: str, as_json: bool) -> int:
    """What became of a request; returns the exit code."""
    from noria.engine.terminal import steering_report

    record = heard.record
    place = f"control/{record.number:06d}.json"
    driver = "the run" if _holds_datasets(directory) else "the driver"
    said, code = f"{what} ({place})", 0
    if not heard.is_driven:
        said += f"; {_who_heeds(directory)}"
    elif heard.limits is not None:
        said += f"; {driver} heeds it"
    elif heard.has_ended:
        said += f"; {driver} has ended meanwhile"
    elif heard.damage is not None:
        said, code = f"{what} ({place}), and {driver} does not heed it: {heard.damage}", 1
    elif record.kind.value != "drain":
        said += f"; {driver} has not said yet that it heeds it: see `noria status`"
    if heard.damage is not None and not code:
        said += f". Another driver would not begin: {heard.damage}"
    summary: dict[str, Any] = {"directory": str(directory), "said": said, "record": record}
    if heard.limits is not None and heard.limits.changed:
        summary["limits"] = heard.limits
    _print(summary, steering_report.print_said, as_json)
    return code


def _who_heeds(directory: Path) -> str:
    """Who will, if no driver of that directory lives."""
    fleet = _fleet_of(directory)
    if fleet is not None and _steering(fleet).driven() is not None:
        return "it is not at work now: the run of all heeds it when its turn comes"
    if _steering(directory).waits():
        return "a command is between two of its steps there, and heeds it"
    return f"nothing runs in {directory} now: the next run heeds it"


def _print(summary: dict[str, Any], show: Any, as_json: bool) -> None:
    if as_json:
        for name in summary.keys() & {"limits", "record"}:
            values = asdict(summary[name])
            moments = {key: value for key, value in values.items() if isinstance(value, datetime)}
            summary[name] = values | {key: each.isoformat() for key, each in moments.items()}
    print_summary(summary, show, as_json)
