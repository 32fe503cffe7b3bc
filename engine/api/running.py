"""A run on a thread of its own, from which a program takes progress and the result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from types import FrameType, TracebackType
from typing import Final, Generic, Self, TypeVar

from noria.engine.api.notebook import html_of, open_display
from noria.engine.driver import calling_on_signals
from noria.engine.job import Show
from noria.engine.status import JobStatus, Phase
from noria.engine.terminal.figures import describe
from noria.manifests.errors import StopAsked
from noria.workers.stores.background import LOOK_SECONDS, BackgroundCall

Report_co = TypeVar("Report_co", covariant=True)

_STOPPABLE: Final = (Phase.MOVING, Phase.VERIFYING, Phase.DRAINING, Phase.RECONCILING)
"""Phases in which whoever shows a status may ask for the end."""
HARD: Final = 2
"""So many requests to stop end a run at once."""


class RunningJob(Generic[Report_co]):
    """A run, or a verification, under way while the program goes on.

    Use it once, as a block:

        with noria.start("move-1") as running:
            for progress in running:
                print(progress.objects_done, "of", progress.objects_total)
        report = running.result()

    It begins with the block, and has ended when the block is left: no thread, no process and no
    signal handler stays. A block that is left early waits for the end; one that is left by an
    exception stops the run first. What the run raises, leaving the block raises.

    On the main thread, Ctrl-C, SIGTERM and SIGHUP within the block are stop(); from the third on,
    and after the end of the run, they are KeyboardInterrupt. Elsewhere signals are left alone.

    Its methods may be called from any thread, until the block is left, and afterwards.
    """

    def __init__(self, work: Callable[[Show], Report_co]) -> None:
        """`work` is given what takes each status, and obeys StopAsked from there as run() does."""
        self._work = work
        self._call: BackgroundCall[Report_co] | None = None
        self._hearing: AbstractContextManager[None] = calling_on_signals(self._hear)
        self._changed = threading.Condition()
        self._latest: JobStatus | None = None
        self._shown = 0
        """How many statuses there were."""
        self._asked = 0
        """How often somebody asked for the end."""
        self._passed_on = 0
        """How many of these the run has been told of."""

    def __enter__(self) -> Self:
        if self._call is not None:
            raise RuntimeError("it has begun already: start another one")
        self._hearing.__enter__()
        self._call = BackgroundCall(partial(self._work, self._show), "noria-run")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None and not self._asked:
                self.stop()
            self._begun.wait()
        finally:
            self._hearing.__exit__(None, None, None)
        if error is None:
            self.result()

    def __iter__(self) -> Iterator[JobStatus]:
        """Each status from now on, about one a second, until the end; the last one always.

        Whoever is slow gets the latest, and misses those before. Raises nothing of the run.
        """
        begun, seen = self._begun, 0
        while True:
            with self._changed:
                while self._shown == seen and not begun.ends_within(0):
                    self._changed.wait(LOOK_SECONDS)
                if self._shown == seen:
                    return
                seen, status = self._shown, self._latest
            assert status is not None, "what was shown is there"
            yield status

    def result(self) -> Report_co:
        """Wait for the end; return the report, or raise what ended the run without one.

        A run that was stopped while it moved has a report, whose `stopped` says so. One that was
        stopped later, while it reconciles, has none: StopAsked.
        """
        return self._begun.result()

    def stop(self) -> None:
        """Ask for a drain: what is in flight ends, the rest stays for the next run.

        The second time: for an end without that. Nothing of what was done is lost either way. It
        returns at once.
        """
        self._asked += 1

    def watch(self) -> Report_co:
        """Wait for the end, and in a notebook show the progress meanwhile; then as result()."""
        redraw = open_display(self)
        for _ in self:
            redraw()
        return self.result()

    @property
    def progress(self) -> JobStatus | None:
        """The latest status; None before the first."""
        return self._latest

    def __repr__(self) -> str:
        latest = self._latest
        words = "not begun" if self._call is None else "starting"
        return f"<RunningJob: {words if latest is None else describe(latest)}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        latest = self._latest
        bundle = {"text/plain": repr(self)}
        return bundle if latest is None else {**bundle, "text/html": html_of(latest)}

    @property
    def _begun(self) -> BackgroundCall[Report_co]:
        if self._call is None:
            raise RuntimeError("it has not begun: use it as `with noria.start(...) as running:`")
        return self._call

    def _show(self, status: JobStatus) -> None:
        """What the run calls, on its own thread."""
        with self._changed:
            self._latest, self._shown = status, self._shown + 1
            self._changed.notify_all()
        if self._passed_on < self._asked and status.phase in _STOPPABLE:
            self._passed_on += 1
            raise StopAsked

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """What a signal calls, on the main thread, wherever that is."""
        if self._asked >= HARD or (self._call is not None and self._call.ends_within(0)):
            raise KeyboardInterrupt
        self.stop()
