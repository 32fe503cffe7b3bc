"""Where a process does its work: stream threads for bodies, fibers for small requests.

A body keeps a thread and a core busy; a small request mostly waits. So bodies get a few threads,
and small objects get hundreds of fibers on one more thread.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

from workers.fibers import FiberPool, Work

SMALL_BYTES: Final = 1024 * 1024
"""Larger bodies would keep the other fibers of their thread waiting while they are hashed."""
WINDOW_WIDTH: Final = 2
"""A lease may have so many pieces of work queued for each that can run."""


class _Runs(Protocol):
    def submit(self, work: Work) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lane:
    runs: _Runs
    window: int
    """Most pieces of work of one lease that may be queued here or running."""

    def submit(self, work: Work) -> None:
        self.runs.submit(work)


class Lanes:
    """Both lanes of one process. `requests` 0 leaves the small lane out: where stores are files,
    calls block and have to have threads."""

    def __init__(self, streams: int, requests: int) -> None:
        self._threads = ThreadPoolExecutor(streams, thread_name_prefix="stream")
        self._fibers = FiberPool(requests) if requests else None
        self.bulk = Lane(runs=self._threads, window=WINDOW_WIDTH * streams)
        self.small = (
            self.bulk
            if self._fibers is None
            else Lane(runs=self._fibers, window=WINDOW_WIDTH * requests)
        )

    def of(self, size: int) -> Lane:
        """Where an object of `size` bytes that goes in one request is moved."""
        return self.small if size <= SMALL_BYTES else self.bulk

    def close(self) -> None:
        """Wait for what was submitted, then end all threads."""
        self._threads.shutdown()
        if self._fibers is not None:
            self._fibers.close()
