"""The executors of a process: stream threads for bodies, fibers for small requests.

A body keeps a thread and a core busy; a small request mostly waits. So bodies get a few threads,
and small objects share hundreds of fibers on one more thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from noria.workers.runtime.greenlets import FiberPool, Work

SMALL_BYTES: Final = 1024 * 1024
"""Larger objects are not moved on fibers: hashing them would hold up the thread's other fibers."""
WINDOW_WIDTH: Final = 2
"""Pieces of work that a lease may have queued or running, for each that can run."""


class _Runs(Protocol):
    def submit(self, work: Work) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Executor:
    runs: _Runs
    running_max: Callable[[], int]
    """Returns how many pieces of work may run here now."""

    @property
    def window(self) -> int:
        """The most pieces of work that one lease may have queued or running here."""
        return WINDOW_WIDTH * self.running_max()

    def submit(self, work: Work) -> None:
        self.runs.submit(work)


class StreamPool:
    """Runs work on at most `limit` threads, in the order it came.

    The limit may change at any time; work that runs already is not interrupted.
    """

    def __init__(self, threads: int) -> None:
        self._threads_max = threads
        self._limit = threads
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._work: deque[Work] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def submit(self, work: Work) -> None:
        """Queue work, from any thread. `work` must not raise: that would end the thread."""
        with self._changed:
            self._work.append(work)
            self._start_threads()
            self._changed.notify()

    @property
    def limit(self) -> int:
        return self._limit

    def set_limit(self, limit: int) -> None:
        with self._changed:
            self._limit = max(1, min(limit, self._threads_max))
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
        while (
            len(self._work) > len(self._threads) - self._busy and len(self._threads) < self._limit
        ):
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
                self._busy += 1
            work()
            with self._changed:
                self._busy -= 1
                self._changed.notify()

    def _may_go_on(self) -> bool:
        return bool(self._work and self._busy < self._limit) or (self._closed and not self._work)


class Executors:
    """Both executors of one process: `bulk` on threads and `small` on fibers.

    If `requests` is 0, `small` is `bulk`: stores that are files block, so they need threads.
    """

    def __init__(self, streams: int, requests: int) -> None:
        self._streams = StreamPool(streams)
        self._fibers = FiberPool(requests) if requests else None
        self.bulk = Executor(runs=self._streams, running_max=lambda: self._streams.limit)
        self.small = (
            self.bulk
            if self._fibers is None
            else Executor(runs=self._fibers, running_max=lambda: requests)
        )

    def of(self, size: int) -> Executor:
        """Return the executor for an object of `size` bytes that is moved in one request."""
        return self.small if size <= SMALL_BYTES else self.bulk

    def limit_streams(self, streams: int) -> None:
        """Set how many large bodies may be in flight: each takes a buffer and processor cache."""
        self._streams.set_limit(streams)

    def close(self) -> None:
        """Wait for all submitted work, then end all threads."""
        self._streams.close()
        if self._fibers is not None:
            self._fibers.close()
