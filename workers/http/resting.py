"""Connections that one store has done with, kept for the next store of the same host.

A run of many datasets opens two stores for each, one dataset after the other, and most of them are
at the same two hosts: a TLS handshake for each connection of each dataset would take more CPU than
a hundred small objects.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Hashable, Iterator
from typing import Final

from noria.workers.http.connection import Connection
from noria.workers.runtime.greenlets import Readiness, current_pool

RESTING_MOST: Final = 256
"""Of all hosts together. Each is a file descriptor."""


class RestingConnections:
    """Idle connections by what they were opened with. Thread-safe.

    `way` stands for everything that tells one connection from another: the host, whom it trusts,
    the proxy. Nobody gets a connection that was opened in any other way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resting: dict[Hashable, deque[Connection]] = {}
        self._count = 0

    def leave(self, way: Hashable, connection: Connection) -> bool:
        """Keep an idle connection; False: there is no room, and the caller closes it."""
        with self._lock:
            if self._count >= RESTING_MOST:
                return False
            self._resting.setdefault(way, deque()).append(connection)
            self._count += 1
            return True

    def take(self, way: Hashable) -> Connection | None:
        """The one that was left last, for the calling thread or fiber; None if there is none.

        It may have been closed by the host: the caller looks.
        """
        with self._lock:
            waiting = self._resting.get(way)
            if not waiting:
                return None
            connection = waiting.pop()
            self._count -= 1
        if current_pool() is not None:
            # Whoever had it is gone with what it waited in.
            connection.readiness = Readiness(connection.sock)
        return connection

    def count(self, way: Hashable) -> int:
        """How many there are."""
        with self._lock:
            return len(self._resting.get(way, ()))

    def close_old(self, keep_seconds: float) -> None:
        """Close those that have rested for longer, of all hosts."""
        oldest = time.monotonic() - keep_seconds
        with self._lock:
            old = [*self._leaving(oldest)]
        for connection in old:
            connection.close()

    def close(self) -> None:
        """Close all."""
        self.close_old(float("-inf"))

    def _leaving(self, oldest: float) -> Iterator[Connection]:
        for way in list(self._resting):
            waiting = self._resting[way]
            while waiting and waiting[0].idle_since < oldest:
                self._count -= 1
                yield waiting.popleft()
            if not waiting:
                del self._resting[way]
