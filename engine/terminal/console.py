"""What all commands share: how they print, and how they exit, as cli.py promises."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TextIO, cast

import typer

from noria.engine.config.refused_settings import WrongSettings
from noria.manifests.access import open_new
from noria.manifests.errors import NoriaError, unusable_path

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.metrics_server import MetricsServer
    from noria.engine.status import JobStatus

_LOGGER: Final = logging.getLogger("noria")
PLAN_SECONDS: Final = 1.0
"""How often the live page hears how far a plan is."""


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that nothing started outlives it.

    SIGHUP comes if a terminal is gone. One that is ignored, as under nohup, stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shows:
    """What a run shows on standard error."""

    messages: bool
    progress: bool
    causes: bool
    """Which errors and retries come, by cause; in the file of --log-file, too."""


@contextmanager
def kept_log(path: Path | None) -> Iterator[None]:
    """What is said while the block runs is kept in the file as well. Raises OSError."""
    if path is None:
        yield
        return
    from noria.engine.log_file import log_file

    with open(path, "a", opener=open_new):
        pass  # one that cannot be written to is said before anything begins
    with log_file(path, "text"):
        yield


@contextmanager
def watched_plan(root: Path, metrics_address: str | None) -> Iterator[MetricsServer | None]:
    """Serve the live page and the metrics while the block plans, and runs with shown().

    None: nobody wants them.
    """
    if metrics_address is None or metrics_address == "off":
        yield None
        return
    from noria.engine.metrics_server import MetricsServer
    from noria.engine.status import JobStatus, Phase

    server = MetricsServer(metrics_address, name=root.absolute().name)
    try:
        server.show(JobStatus(job="", phase=Phase.PLANNING, updated_seconds=time.time()))
        with _telling_plan(root, server):
            yield server
    finally:
        server.close()


@contextmanager
def _telling_plan(root: Path, server: MetricsServer) -> Iterator[None]:
    """Show what the plan at root says of itself, until it has ended."""
    from noria.engine.listing_pace import PLAN_STATUS_FILE
    from noria.engine.status import load_status
    from noria.manifests.job.directory import JobDirectory

    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(PLAN_SECONDS):
            with suppress(NoriaError):
                status = load_status(JobDirectory(root), PLAN_STATUS_FILE)
                if status is not None:
                    server.show(status)

    threading.Thread(target=tell, name="plan status", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextmanager
def shown(
    root: Path,
    metrics_address: str | None,
    shows_what: Shows,
    server: MetricsServer | None = None,
) -> Iterator[Callable[[JobStatus], None]]:
    """Where a run's status goes: the terminal, the live page and /metrics.

    `server` is one that serves already, at the same address.
    """
    from noria.engine import job

    address = metrics_address or job.metrics_address(root) or "off"
    advice = job.advice(root) if shows_what.messages else None
    with ExitStack() as stack:
        shows: list[Callable[[JobStatus], None]] = []
        if address != "off":
            if server is None:
                from noria.engine.metrics_server import MetricsServer

                server = MetricsServer(address, name=root.absolute().name)
                stack.callback(server.close)
            shows.append(_with_sealed(root, server.show))
        if shows_what.messages:
            from noria.engine.terminal.progress import Progress

            progress = stack.enter_context(Progress(sys.stderr))
            if server is not None:
                progress.message(f"job directory {root}, live at {server.page}")
            if advice is not None:
                progress.message(advice)
            if shows_what.progress:
                shows.append(progress.show)
            if shows_what.causes:
                from noria.engine.terminal.troubles import Troubles

                shows.append(Troubles(progress.message).show)
        if shows_what.causes:
            from noria.engine.terminal.troubles import Troubles

            shows.append(Troubles(_LOGGER.info).show)

        def show_all(status: JobStatus) -> None:
            for show in shows:
                show(status)

        yield show_all


def _with_sealed(root: Path, show: Callable[[JobStatus], None]) -> Callable[[JobStatus], None]:
    """Shows as `show`, with what is signed; what reads that is loaded if there is a proof."""
    from noria.manifests.passes.migration import migration_of
    from noria.manifests.proof.folder import PROOF

    if not (migration_of(root)[0].root / PROOF).is_dir():
        return show
    from noria.engine.proof.sealed import SealedInRun

    found = SealedInRun(root)
    return lambda status: show(replace(status, sealed=found.of(status)))


@contextmanager
def exit_codes(as_json: bool, *, resumes: bool = True) -> Iterator[None]:
    """Turn our errors into one clear line and an exit code.

    `resumes` is False for a command that leaves nothing to go on with.
    """
    try:
        yield
    except NoriaError as error:
        _end_with(error, as_json)
    except (typer.Exit, SystemExit):
        raise
    except OSError as error:
        if error.filename is None:
            _end_unexpectedly(error, as_json, resumes=resumes)
        _end_with(unusable_path(error), as_json)
    except Exception as error:  # noqa: BLE001 - whatever it is, the job can be gone on with
        _end_unexpectedly(error, as_json, resumes=resumes)
    except KeyboardInterrupt:
        if as_json:
            with _outliving_its_reader("the error"):
                _print_error("stopped", "asked", 3)
        _say("stopped; run it again to resume" if resumes else "stopped")
        raise typer.Exit(3) from None


class _UsageError(Protocol):
    """What typer raises for arguments that it does not take: click's documented interface."""

    exit_code: int

    def format_message(self) -> str: ...

    def show(self) -> None: ...


def exit_code_of(app: typer.Typer) -> int:
    """Run the command line; with --json, arguments that are wrong are one document too."""
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _name_the_nearest(error)
        wrong = cast(_UsageError, error)
        with _outliving_its_reader("the error"):
            if "--json" in sys.argv:
                _print_error(wrong.format_message(), "usage", wrong.exit_code)
            wrong.show()
        return wrong.exit_code
    except typer.Abort:
        return 1
    return code if isinstance(code, int) else 0


def _end_with(error: NoriaError, as_json: bool) -> NoReturn:
    if as_json:
        with _outliving_its_reader("the error"):
            _print_error(error.message, error.cause, error.exit_code)
    for line in error.lines if isinstance(error, WrongSettings) else [error.message]:
        _say(line)
    raise typer.Exit(error.exit_code) from None


class _NoSuchOption(_UsageError, Protocol):
    """What typer raises for an option that there is not."""

    message: str
    option_name: str
    possibilities: Sequence[str] | None


def _name_the_nearest(error: Exception) -> None:
    """Let an error about an option that there is not name the one that was probably meant."""
    if not hasattr(error, "option_name") or not hasattr(error, "possibilities"):
        return
    unknown = cast(_NoSuchOption, error)
    near = get_close_matches(unknown.option_name, unknown.possibilities or (), n=1)
    unknown.possibilities = None
    meant = f"; did you mean {near[0]}?" if near else ""
    unknown.message = f"no such option {unknown.option_name}{meant}"


def _end_unexpectedly(error: Exception, as_json: bool, *, resumes: bool) -> NoReturn:
    """Exit with code 3 and a line that names the kind of error and its place, but no value."""
    message = f"unexpected {type(error).__name__}"
    if resumes:
        message += "; the job is as it was; run it again to resume"
    if as_json:
        with _outliving_its_reader("the error"):
            _print_error(message, "internal", 3)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    _say(f"{message} (at {place})")
    raise typer.Exit(3) from None


def print_summary(
    summary: dict[str, Any], show: Callable[[dict[str, Any]], None], as_json: bool
) -> None:
    """Print a report. The command ends as it would, also if nobody reads it any more."""
    with _outliving_its_reader("the report"):
        if as_json:
            print(json.dumps(summary, indent=1))
        else:
            show(summary)


def print_lines(lines: Iterable[str]) -> bool:
    """Print what a command finds while it finds it, and flush after each item of `lines`.

    An item may be several lines. If nobody reads any more, no more items are taken, and False is
    returned. A disk that is full ends the command with exit code 3.
    """
    for text in lines:
        try:
            print(text, flush=True)
        except BrokenPipeError:
            _abandon_if_broken(sys.stdout)
            return False
        except OSError as error:
            _abandon_if_broken(sys.stdout)
            _say(f"no more could be written ({error.strerror})")
            raise typer.Exit(3) from None
    return True


def say_unless(silent: bool) -> Callable[[str], None]:
    def say(line: str) -> None:
        _LOGGER.info("%s", line)
        if not silent:
            _say(line)

    return say


def _say(line: str) -> None:
    with _outliving_its_reader(None):
        print(f"noria: {line}", file=sys.stderr)


def _print_error(message: str, cause: str, exit_code: int) -> None:
    print(json.dumps({"error": message, "cause": cause, "exit_code": exit_code}))


@contextmanager
def _outliving_its_reader(what: str | None) -> Iterator[None]:
    """Flush what the block prints. A stream that takes nothing more in costs what was to be read.

    A pipe's reader may have left (`| head`), a terminal may be gone, a disk may be full: none of
    this changes what became of the job. `what` was lost is said unless a pipe was closed.
    """
    try:
        yield
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError as error:
        for stream in (sys.stdout, sys.stderr):
            _abandon_if_broken(stream)
        if what is not None and not isinstance(error, BrokenPipeError):
            _say(f"{what} could not be written ({error.strerror})")


def _abandon_if_broken(stream: TextIO | None) -> None:
    """Send what a broken stream still holds to nowhere: the interpreter flushes it at its end."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):  # a stream of a test has no descriptor
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
