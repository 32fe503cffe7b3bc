"""What went wrong while a run went on, for who asks (-v): counted since it was last said."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from noria.engine.status import JobStatus
from noria.manifests.counters import Counter

SAY_SECONDS: Final = 10.0
"""How often it is said, if there is anything to say."""
_WORDS: Final = {
    Counter.ERRORS: "errors",
    Counter.RETRIES: "tried again",
    Counter.THROTTLES: "told to slow down, by the",
}


class Troubles:
    """Says what errors, retries and refusals came since the last time: causes and numbers alone."""

    def __init__(
        self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._said: Mapping[tuple[str, ...], float] = {}
        self._due = 0.0

    def show(self, status: JobStatus) -> None:
        """Take a status; say what is new in it, at most every SAY_SECONDS or at the end."""
        counters = status.metrics.counters
        if self._clock() < self._due and status.phase.has_driver:
            return
        parts = []
        for counter, words in _WORDS.items():
            found = [
                f"{round(new):,} {' '.join(labels[1:])}"
                for labels, total in sorted(counters.items())
                if labels[0] == counter and (new := total - self._said.get(labels, 0.0)) >= 1
            ]
            if found:
                parts.append(f"{words}: {', '.join(found)}")
        if parts:
            self._said, self._due = dict(counters), self._clock() + SAY_SECONDS
            self._say("; ".join(parts))
