"""When a job may move: windows that come back each week, such as `mon-fri 22:00-06:00`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from noria.engine.steering.week import (
    DAY_MINUTES,
    WEEK_MINUTES,
    days_of,
    minute_of_day,
    minutes_until,
)
from noria.manifests.errors import ConfigurationError

_FORM: Final = re.compile(r"(?:([a-z,-]+) )?([\d:]+) ?- ?([\d:]+)")


@dataclass(frozen=True, slots=True)
class Windows:
    """What of a week is open."""

    minutes: frozenset[int]
    """From Monday on; at least one."""

    @property
    def share(self) -> float:
        """Of all time."""
        return len(self.minutes) / WEEK_MINUTES

    def elapsed_seconds(self, work_seconds: float) -> float:
        """Until so much work is done, from the moment at which the first window opens."""
        open_seconds = 60 * len(self.minutes)
        if len(self.minutes) == WEEK_MINUTES:
            return work_seconds
        begin = min(m for m in self.minutes if (m - 1) % WEEK_MINUTES not in self.minutes)
        weeks, left = divmod(work_seconds, open_seconds)
        if weeks and not left:
            weeks, left = weeks - 1, float(open_seconds)
        places = sorted((minute - begin) % WEEK_MINUTES for minute in self.minutes)
        # Work that ends with a window does not wait for the next one.
        whole = max(0, math.ceil(left / 60) - 1)
        return weeks * 60 * WEEK_MINUTES + 60 * places[whole] + (left - 60 * whole)


def parse_windows(texts: Sequence[str]) -> Windows:
    """The windows together; one that ends before it begins ends the next day. None: always open.

    Raises ConfigurationError.
    """
    if not texts:
        return Windows(frozenset(range(WEEK_MINUTES)))
    minutes: set[int] = set()
    for text in texts:
        minutes |= _minutes(text)
    return Windows(frozenset(minutes))


def _minutes(text: str) -> set[int]:
    """The minutes of a week, from Monday on, that a window covers."""
    found = _FORM.fullmatch(" ".join(text.lower().split()))
    if found is None:
        raise _wrong(text)
    try:
        days = days_of(found[1] or "mon-sun")
        first, end = minute_of_day(found[2]), minute_of_day(found[3])
    except ValueError:
        raise _wrong(text) from None
    return {
        (day * DAY_MINUTES + minute) % WEEK_MINUTES
        for day in days
        for minute in range(first, first + minutes_until(first, end))
    }


def _wrong(text: str) -> ConfigurationError:
    return ConfigurationError(
        f'--window "{text}" is not a window: write "22:00-06:00", or "mon-fri 22:00-06:00"'
    )
