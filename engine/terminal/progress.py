"""The terminal: a live display on a terminal, plain lines in a log.

Both show the figures of one JobStatus, on standard error. No object names: what is shown is counts.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from noria.engine.log_file import said_of
from noria.engine.status import JobStatus
from noria.engine.terminal.figures import describe

LINE_SECONDS: Final = 10.0
"""Plain lines come at most this often, except those that tell of a new phase."""

QUEUED_LINES: Final = 100
"""What waits for a stream that takes nothing in; the oldest is dropped."""

END_SECONDS: Final = 2.0
"""How long the end waits for such a stream."""


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
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.message(f"{record.levelname.lower()}: {said_of(record)}")


def _view(stream: TextIO, style: Style) -> _View | None:
    if style is Style.SILENT:
        return None
    if style is Style.AUTO and stream.isatty():
        # Rich takes 40 ms to load, which a log file need not wait for.
        from noria.engine.terminal.live import live_view

        return live_view(stream) or _PlainView(stream)
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
