"""What all commands share: how they print, and how they exit, as cli.py promises."""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from noria.manifests.errors import (
    AccessDenied,
    AnotherDriver,
    ConfigurationError,
    InventoryError,
    NoriaError,
)

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.status import JobStatus

NEEDS_A_PERSON = (ConfigurationError, InventoryError, AccessDenied, AnotherDriver)
"""Errors of exit code 2: running the job again changes nothing until somebody corrects them."""


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that nothing that was started outlives it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


@contextmanager
def shown(
    root: Path, metrics_address: str | None, silent: bool
) -> Iterator[Callable[[JobStatus], None]]:
    """Where a run's status goes: the terminal, and /metrics."""
    from noria.engine import job

    address = metrics_address or job.metrics_address(root) or "off"
    advice = None if silent else job.advice(root)
    with ExitStack() as stack:
        shows: list[Callable[[JobStatus], None]] = []
        if address != "off":
            from noria.engine.metrics_server import MetricsServer

            server = MetricsServer(address)
            stack.callback(server.close)
            shows.append(server.show)
        if not silent:
            from noria.engine.terminal.progress import Progress

            progress = stack.enter_context(Progress(sys.stderr))
            if address != "off":
                progress.message(f"job directory {root}, metrics {server.url}")
            if advice is not None:
                progress.message(advice)
            shows.append(progress.show)

        def show_all(status: JobStatus) -> None:
            for show in shows:
                show(status)

        yield show_all


@contextmanager
def exit_codes(as_json: bool) -> Iterator[None]:
    """Turn our errors into one clear line and an exit code."""
    try:
        yield
    except NoriaError as error:
        code = 2 if isinstance(error, NEEDS_A_PERSON) else 3
        if as_json:
            print(json.dumps({"error": error.message, "cause": error.cause, "exit_code": code}))
        print(f"noria: {error.message}", file=sys.stderr)
        raise typer.Exit(code) from None
    except (typer.Exit, SystemExit):
        raise
    except OSError as error:
        if error.filename is None:
            _end_unexpectedly(error, as_json)
        # A hardened container: no home, a root that is read-only, a user without a name.
        message = (
            f"cannot use {error.filename}: {error.strerror}; make room or access, or name another"
        )
        if as_json:
            print(json.dumps({"error": message, "cause": "configuration", "exit_code": 2}))
        print(f"noria: {message}", file=sys.stderr)
        raise typer.Exit(2) from None
    except Exception as error:  # noqa: BLE001 - whatever it is, the job can be gone on with
        _end_unexpectedly(error, as_json)
    except KeyboardInterrupt:
        print("noria: stopped; run it again to resume", file=sys.stderr)
        raise typer.Exit(3) from None


def _end_unexpectedly(error: Exception, as_json: bool) -> NoReturn:
    """Exit with code 3 and a line that names the kind of error and its place, but no value."""
    message = f"unexpected {type(error).__name__}; the job is as it was; run it again to resume"
    if as_json:
        print(json.dumps({"error": message, "cause": "internal", "exit_code": 3}))
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    print(f"noria: {message} (at {place})", file=sys.stderr)
    raise typer.Exit(3) from None


def print_summary(
    summary: dict[str, Any], show: Callable[[dict[str, Any]], None], as_json: bool
) -> None:
    if as_json:
        print(json.dumps(summary, indent=1))
    else:
        show(summary)


def say_unless(silent: bool) -> Callable[[str], None]:
    def say(line: str) -> None:
        if not silent:
            print(f"noria: {line}", file=sys.stderr)

    return say
