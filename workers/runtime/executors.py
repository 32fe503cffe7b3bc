"""Where the transfers of a process run: all on fibers, or each on a thread if a store is files.

A transfer mostly waits for its sockets. On one thread, hundreds of them do not fight for the
interpreter's lock; a second core is used by a second process. Files block, so they need threads.
"""

from __future__ import annotations

import threading
from typing import Protocol

from noria.workers.runtime.greenlets import FiberPool, Work, WorkQueue
from noria.workers.runtime.places import Places


class Executor(Protocol):
    """Runs work in the order it came, as much at a time as there are places.

    FiberPool and StreamPool are the two.
    """

    @property
    def places(self) -> Places: ...
    @property
    def queued(self) -> int:
        """Pieces of work that wait for a place."""

    def submit(self, work: Work, *, first: bool = False) -> None: ...
    def set_limit(self, places: int) -> None: ...
    def close(self) -> None:
        """Wait until all work is done, then end the threads."""


def make_executor(places: int, *, over_network: bool) -> Executor:
    """Return an executor with that many places, which set_limit() may lower and raise again."""
    return FiberPool(places) if over_network else StreamPool(places)


class StreamPool:
    """Runs work on at most `threads` threads, in the order it came.

    The limit may change at any time; work that runs already is not interrupted.
    """

    def __init__(self, threads: int) -> None:
        self.places = Places(threads)
        self._threads_max = threads
        self._threads: list[threading.Thread] = []
        self._work = WorkQueue()
        self._closed = False
        self._changed = threading.Condition()

    def submit(self, work: Work, *, first: bool = False) -> None:
        """Queue work, from any thread; what is `first` goes before all that is not.

        `work` must not raise: that would end the thread.
        """
        with self._changed:
            self._work.add(work, first=first)
            self._start_threads()
            self._changed.notify()

    @property
    def queued(self) -> int:
        return len(self._work)

    def set_limit(self, places: int) -> None:
        with self._changed:
            self.places.limit = max(1, min(places, self._threads_max))
            self._start_threads()
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until all work is done, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _start_threads(self) -> None:
        """Start a thread for each piece of work that no idle thread will take."""
        while len(self._threads) < min(self.places.limit, len(self._work) + self.places.running):
            thread = threading.Thread(target=self._run, name="stream", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._may_go_on)
                if not self._work:
                    return
                work = self._work.popleft()
                self.places.enter()
            work()
            with self._changed:
                self.places.leave()
                self._changed.notify()

    def _may_go_on(self) -> bool:
        return bool(self._work and self.places.free) or (self._closed and not self._work)
