"""A store that answers nobody: its requests are held until it is back, and none of them has failed.

While a store answers some requests of an operation, one that goes on failing has a trouble of its
own. If all of them fail, the trouble is the store's: after HOLD_SECONDS requests are held, one of
them tries again every TRY_SECONDS, and the first that is answered frees them all.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from noria.workers.runtime.greenlets import pause

log = logging.getLogger("noria.worker")

HOLD_SECONDS: Final = 10.0
"""Requests are held once nothing was answered for so long; until then, they pause and retry."""
TRY_SECONDS: Final = 3.0
"""One held request tries again this long after the last try has failed."""
TRY_SECONDS_MAX: Final = 60.0
"""A try that has not ended by then does not keep others from trying."""
MANY_KEYS: Final = 8
"""So many objects that fail, and none that does not, are not each at fault."""
LOOK_SECONDS: Final = 1.0
"""Held requests notice at the latest after this that the store is back."""


@dataclass(slots=True, eq=False)
class Silence:
    """A time in which no request of one operation was answered."""

    since: float
    """When the first of those began that failed."""
    next_try_at: float
    keys: set[int] = field(default_factory=set)
    """Hashes of the keys that were asked for: MANY_KEYS at most."""
    held: bool = False
    over: bool = False

    @property
    def is_of_many(self) -> bool:
        """True if so many objects cannot each be at fault."""
        return len(self.keys) >= MANY_KEYS


class Silences:
    """Which operations a store does not answer, as all requests of one process see it.

    Thread-safe. `role` is what the log calls the store.
    """

    def __init__(self, role: str = "store", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._role = role
        self._clock = clock
        self._lock = threading.Lock()
        self._silent: dict[str, Silence] = {}
        self._held_at = -float("inf")

    @property
    def seconds(self) -> float:
        """How long requests have been waiting for the store to answer; 0 if none is held."""
        with self._lock:
            held = [silence.since for silence in self._silent.values() if silence.held]
        return self._clock() - min(held) if held else 0.0

    def was_held_after(self, moment: float) -> bool:
        """Return True if a request was held at some time after this one."""
        return self._held_at > moment

    def note_answer(self, operation: str) -> None:
        """The store has answered a request: whatever it said, it is there."""
        if operation not in self._silent:
            return
        with self._lock:
            silence = self._silent.pop(operation, None)
        if silence is not None:
            silence.over = True
            if silence.held:
                lasted = self._clock() - silence.since
                log.warning(
                    "the %s answers again (%s), after %.0f s", self._role, operation, lasted
                )

    def note_failure(self, operation: str, key: str, started: float, asked_seconds: float) -> None:
        """A request was not answered, or refused for now with a wish for a pause."""
        now = self._clock()
        with self._lock:
            silence = self._silent.get(operation)
            if silence is None:
                silence = self._silent[operation] = Silence(since=started, next_try_at=now)
            if len(silence.keys) < MANY_KEYS:
                silence.keys.add(hash(key))
            silence.next_try_at = now + max(TRY_SECONDS, asked_seconds)

    def of(self, operation: str) -> Silence | None:
        """Return the silence that goes on; None if the last request was answered."""
        return self._silent.get(operation)

    def hold(
        self, operation: str, silence: Silence, stopping: threading.Event, most_seconds: float
    ) -> bool:
        """Wait until the silence is over, it is the caller's turn to try, or it has to stop.

        Returns False if the silence has lasted for `most_seconds`.
        """
        if not silence.held:
            silence.held = True
            log.warning("the %s does not answer (%s): waiting for it", self._role, operation)
        while not (silence.over or stopping.is_set()):
            now = self._held_at = self._clock()
            if now - silence.since >= most_seconds:
                return False
            with self._lock:
                if now >= silence.next_try_at:
                    silence.next_try_at = now + TRY_SECONDS_MAX
                    return True
                left = silence.next_try_at - now
            pause(min(left, LOOK_SECONDS) * random.uniform(0.5, 1.0) + 0.01, stopping)
        return True
