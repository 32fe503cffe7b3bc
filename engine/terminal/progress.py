"""The terminal: a live display on a terminal, plain lines in a log.

Both show the figures of one JobStatus, on standard error. No object names: what is shown is counts.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from noria.engine.status import JobStatus, Phase

REDRAW_SECONDS: Final = 0.25
"""The live display is drawn at most this often."""

LINE_SECONDS: Final = 10.0
"""Plain lines come at most this often, except those that tell of a new phase."""

QUEUED_LINES: Final = 100
"""What waits for a stream that takes nothing in; the oldest is dropped."""

END_SECONDS: Final = 2.0
"""How long the end waits for such a stream."""

BAR_COLUMNS: Final = 100
"""A wider bar says no more."""

_ENDED: Final = (Phase.FINISHED, Phase.STOPPED)
_WORKING: Final = (Phase.STARTING, Phase.MOVING, Phase.VERIFYING, Phase.DRAINING)


_LOGGER: Final = logging.getLogger("noria")


class Style(StrEnum):
    AUTO = "auto"
    """Live on a terminal, plain elsewhere."""
    PLAIN = "plain"
    SILENT = "silent"
    """Nothing at all, messages included."""


class Progress:
    """Shows one job on a stream, from enter to exit. Thread-safe.

    What the `noria` loggers say meanwhile becomes a message: beside a live display it would tear
    it. `show` may be called as often as one likes, most calls draw nothing. No terminal holds up a
    job: writing is done on a thread of its own, so that a stream that takes nothing in (Ctrl-S)
    costs lines, and one that breaks (a terminal or disk is gone) ends the display, and no more.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        style: Style = Style.AUTO,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stream` is what to write to; None: what sys.stderr is at this moment."""
        self._stream = stream or sys.stderr
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: JobStatus | None = None
        self._queued: JobStatus | None = None
        self._queued_seconds = 0.0
        self._view = _view(self._stream, style)
        self._writer = None if self._view is None else _Writer(self._view)
        self._log = _LogHandler(self)

    def __enter__(self) -> Self:
        if self._writer is not None:
            _LOGGER.addHandler(self._log)
            _LOGGER.propagate = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def show(self, status: JobStatus) -> None:
        with self._lock:
            self._latest = status
            if self._view is not None and self._is_due(status, self._view.every_seconds):
                self._queue(status)

    def message(self, line: str) -> None:
        """One line that stays; above a live display."""
        encoding = self._stream.encoding or "utf-8"
        text = "".join(letter if letter.isprintable() else " " for letter in line)
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        with self._lock:
            if self._writer is not None:
                self._writer.put(lambda view: view.message(text))

    def close(self) -> None:
        """Show the latest status if it is not shown yet, and let go of the stream.

        A repeat does nothing.
        """
        if self._log in _LOGGER.handlers:
            _LOGGER.removeHandler(self._log)
            _LOGGER.propagate = True
        with self._lock:
            if self._writer is None:
                return
            if self._latest is not None and self._latest != self._queued:
                self._queue(self._latest)
            self._writer.put(lambda view: view.close())
            writer, self._writer, self._view = self._writer, None, None
        writer.end()

    def _is_due(self, status: JobStatus, every_seconds: float) -> bool:
        if self._queued is None or status.phase is not self._queued.phase:
            return True
        return self._clock() - self._queued_seconds >= every_seconds

    def _queue(self, status: JobStatus) -> None:
        self._queued, self._queued_seconds = status, self._clock()
        if self._writer is not None:
            self._writer.put(lambda view: view.show(status))


class _View(Protocol):
    every_seconds: float
    """How often a status is worth showing."""

    def show(self, status: JobStatus) -> None: ...

    def message(self, line: str) -> None: ...

    def close(self) -> None: ...


class _Writer:
    """Does all writing, on a thread that nobody waits for longer than END_SECONDS."""

    def __init__(self, view: _View) -> None:
        self._view = view
        self._calls: deque[Callable[[_View], None]] = deque(maxlen=QUEUED_LINES)
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._write, name="progress", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[_View], None]) -> None:
        with self._changed:
            self._calls.append(call)
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(END_SECONDS)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._calls or self._ending)
                if not self._calls:
                    return
                call = self._calls.popleft()
            try:
                call(self._view)
            except (OSError, ValueError):  # ValueError: the stream has been closed
                return


class _LogHandler(logging.Handler):
    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.message(f"{record.levelname.lower()}: {record.getMessage()}")


def _view(stream: TextIO, style: Style) -> _View | None:
    if style is Style.SILENT:
        return None
    if style is Style.AUTO and stream.isatty():
        console = Console(file=stream, highlight=False, markup=False, emoji=False)
        if console.is_interactive:  # False on a dumb terminal
            return _LiveView(console)
    return _PlainView(stream)


class _PlainView:
    every_seconds = LINE_SECONDS

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, status: JobStatus) -> None:
        self.message(describe(status))

    def message(self, line: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._stream.write(f"{stamp} {line}\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is held."""


class _LiveView:
    """Five lines that are drawn over and over."""

    every_seconds = REDRAW_SECONDS

    def __init__(self, console: Console) -> None:
        # What others print is not caught: it may go to a file, and comes from other processes.
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def show(self, status: JobStatus) -> None:
        self._live.update(_panel(status, self._live.console.width))
        if self._live.is_started:
            self._live.refresh()
        else:
            self._live.start(refresh=True)

    def message(self, line: str) -> None:
        self._live.console.print(line, soft_wrap=True)

    def close(self) -> None:
        self._live.stop()


def _panel(status: JobStatus, columns: int) -> Group:
    head = [status.phase.value, f"job {status.job}"]
    if status.run_seconds:
        head.append(f"for {duration_text(status.run_seconds)}")
    lines = [Text(fit(head, columns), style="bold", no_wrap=True, overflow="crop")]
    for cells in (byte_cells(status), object_cells(status), worker_cells(status)):
        lines.append(Text(fit(cells, columns), no_wrap=True, overflow="crop"))
    lines[2].highlight_regex(r"[\d,]+ failed", style="bold red")
    done = fraction(status)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=1.0, completed=done, width=max(1, min(BAR_COLUMNS, columns - 9))),
        Text(percent_text(done), no_wrap=True, overflow="crop"),
    )
    return Group(lines[0], bar, *lines[1:])


def describe(status: JobStatus) -> str:
    """All figures in one plain line."""
    cells = [*byte_cells(status), *object_cells(status), *worker_cells(status)]
    if status.objects_total:
        cells.insert(0, percent_text(fraction(status)))
    return ", ".join([status.phase.value, *cells])


def fit(cells: Sequence[str], columns: int) -> str:
    """As many cells as there is room for, the first ones first."""
    line = ""
    for cell in cells:
        longer = f"{line}   {cell}" if line else cell
        if len(longer) > columns:
            break
        line = longer
    return line


def fraction(status: JobStatus) -> float:
    """How much is done, 0 to 1, by bytes, or by objects if there are none. 1: nothing is left."""
    if not status.objects_total:
        return 1.0 if status.phase is Phase.FINISHED else 0.0
    if status.bytes_total:
        done = status.bytes_done / status.bytes_total
    else:
        done = status.objects_done / status.objects_total
    if status.objects_done < status.objects_total:
        done = min(done, 0.999)
    return min(max(done, 0.0), 1.0)


def byte_cells(status: JobStatus) -> list[str]:
    if not status.objects_total:
        return []
    cells = [f"{size_text(status.bytes_done)} of {size_text(status.bytes_total)}"]
    if status.phase not in _ENDED:
        cells.append(f"{size_text(status.bytes_per_second)}/s")
        eta = status.eta_seconds
        cells.append("ETA unknown" if eta is None else f"ETA {duration_text(eta)}")
    return cells


def object_cells(status: JobStatus) -> list[str]:
    if not status.objects_total:
        return []
    cells = [f"{status.objects_done:,} of {status.objects_total:,} objects"]
    if status.failed:
        cells.append(f"{status.failed:,} failed")
    if status.phase not in _ENDED:
        rate = status.objects_per_second
        cells.append(f"{rate:,.1f} objects/s" if 0 < rate < 10 else f"{rate:,.0f} objects/s")
    if present := status.outcomes.get("ALREADY_PRESENT"):
        cells.append(f"{present:,} already there")
    return cells


def worker_cells(status: JobStatus) -> list[str]:
    cells = []
    if status.phase in _WORKING:
        cells.append(f"{status.workers:,} worker" + ("s" if status.workers != 1 else ""))
    if status.workers_lost:
        cells.append(f"{status.workers_lost:,} lost")
    if given_up := status.shards.get("quarantined"):
        cells.append(f"{given_up:,} shards given up")
    if shards := sum(status.shards.values()):
        cells.append(f"{status.shards.get('settled', 0):,} of {shards:,} shards settled")
    return cells


def percent_text(part: float) -> str:
    """Cut, not rounded: 100 % is said if all is done, and not before."""
    return f"{int(part * 1000) / 10:.1f} %"


def size_text(size: float) -> str:
    """Three digits and a decimal unit: 0 B, 999 B, 1.00 kB, 12.3 GB, 123 TB."""
    if size < 999.5:
        return f"{size:.0f} B"
    units = ("kB", "MB", "GB", "TB", "PB", "EB")
    number, place = size / 1000, 0
    while number >= 999.5 and place < len(units) - 1:
        number, place = number / 1000, place + 1
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f} {units[place]}"


def duration_text(seconds: float) -> str:
    """The two largest units: 5 s, 3 min 20 s, 4 h 0 min, 12 d 3 h, 2 y 10 d."""
    units = (("y", 365 * 86_400), ("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    if not seconds < 100 * 365 * 86_400:
        return "over 100 y"
    left = max(0, round(seconds))
    for (unit, length), (smaller, small) in pairwise(units):
        if left >= length:
            return f"{left // length} {unit} {left % length // small} {smaller}"
    return f"{left} s"
