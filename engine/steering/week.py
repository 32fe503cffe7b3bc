"""Days and times of a week, as people write them: `mon-fri`, `22:00`."""

from __future__ import annotations

import re
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60
WEEK_MINUTES: Final = 7 * DAY_MINUTES
_TIME: Final = re.compile(r"(\d\d?):(\d\d)")


def minute_of_day(text: str) -> int:
    """Minutes since midnight, 24:00 included. Raises ValueError."""
    found = _TIME.fullmatch(text.strip())
    minute = DAY_MINUTES + 1 if found is None else int(found[1]) * 60 + int(found[2])
    if found is None or int(found[2]) > 59 or minute > DAY_MINUTES:
        raise ValueError('this is not a time of day; write "06:30" or "22:00"')
    return minute


def days_of(text: str) -> frozenset[int]:
    """Days of the week, from Monday as 0 on, of a text such as `mon-fri,sun`. Raises ValueError."""
    found: set[int] = set()
    for span in text.lower().replace(" ", "").split(","):
        first, dash, last = span.partition("-")
        last = last if dash else first
        if first not in DAYS or last not in DAYS:
            raise ValueError('these are not days; write "mon-fri", "sat,sun" or "mon"')
        begin, end = DAYS.index(first), DAYS.index(last)
        found |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
    return frozenset(found)


def minutes_until(first: int, end: int) -> int:
    """How long a window is on the clock; one that ends before it begins ends the next day."""
    return end - first if end > first else end + DAY_MINUTES - first
