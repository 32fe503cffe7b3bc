"""Calls that run side by side, each on a thread of its own.

For the few requests of planning and cleaning up that do not depend on each other: over a distance,
what goes at once takes one round trip. A process does not wait for these threads when it ends, so a
request that hangs cannot hold up a person who stops it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

LOOK_SECONDS: Final = 0.2
"""The longest wait in one piece.

Python runs the handler of a signal between two waits; one that came just before a wait began would
be noticed at its end alone, and nobody could stop a command whose store is silent.
"""

T_co = TypeVar("T_co", covariant=True)


class BackgroundCall(Generic[T_co]):
    """One call, under way from the moment that this is made."""

    def __init__(self, call: Callable[[], T_co], name: str = "background") -> None:
        self._call = call
        self._results: list[T_co] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def result(self) -> T_co:
        """Wait for the end of the call; return its result, or raise what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def wait(self) -> None:
        """Wait for the end of the call, whatever it is."""
        while self._thread.is_alive():
            self._thread.join(LOOK_SECONDS)

    def ends_within(self, seconds: float) -> bool:
        """Wait up to `seconds`; return True if the call has ended."""
        until = time.monotonic() + seconds
        while self._thread.is_alive() and (left := until - time.monotonic()) > 0.0:
            self._thread.join(min(left, LOOK_SECONDS))
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error


def wait_for_all(calls: Iterable[BackgroundCall[object]], seconds: float) -> None:
    """Wait until all calls have ended, but no longer than `seconds` in total."""
    until = time.monotonic() + seconds
    for call in calls:
        call.ends_within(max(0.0, until - time.monotonic()))


def all_results(calls: Iterable[BackgroundCall[T_co]]) -> list[T_co]:
    """Wait for the end of all calls; return their results, or raise the first error in order."""
    calls = list(calls)
    for call in calls:
        call.wait()
    return [call.result() for call in calls]
