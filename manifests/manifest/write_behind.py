"""A thread that writes while the caller prepares what comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

DEPTH = 3
"""Calls that may wait or run at once: it bounds the memory that they hold."""


class WriteBehind:
    """Runs calls one after the other on a thread of its own.

    What a call raises comes out of a later submit() or of drain(). close() waits for the call that
    runs and forgets the others; it may be repeated.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting: deque[Future[Any]] = deque()

    def submit(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Have call(*arguments) made in turn; waits while DEPTH calls are not done."""
        while len(self._waiting) >= DEPTH:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(call, *arguments))

    def drain(self) -> None:
        """Wait until every call is made."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
