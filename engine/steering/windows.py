"""Windows of a week in which settings have other values, by the clock on the wall of a zone.

A window is one span of time: from when that clock first says its beginning on that day, until it
last says its end. So in the night in which the clock is put back, a window that touches the hour
which comes twice covers both; in the one in which it is put on, a time that never comes counts as
the moment of the jump, and a window of nothing else does not come.

Pure: the moment comes in with each call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from noria.engine.steering.week import minutes_until
from noria.manifests.job.control import SettingValue


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsWindow:
    """Comes back each week."""

    name: str
    days: frozenset[int]
    """Of its beginning; Monday is 0."""
    first_minute: int
    end_minute: int
    """Of the day. Not after `first_minute`: of the next day."""
    zone: ZoneInfo
    values: Mapping[str, SettingValue] = field(default_factory=dict)

    def end_of(self, now: datetime) -> datetime | None:
        """When the span ends in which `now` lies, in UTC. None: the window is not open."""
        today = now.astimezone(self.zone).date()
        for days_ago in (0, 1, 2):  # a span may be as long as a day, and an hour more
            day = today - timedelta(days=days_ago)
            if day.weekday() not in self.days:
                continue
            begins, ends = _span(day, self.first_minute, self.end_minute, self.zone)
            if begins <= now < ends:
                return ends
        return None


@lru_cache(maxsize=256)
def _span(day: date, first: int, end: int, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """When a window begins and ends that begins on this day, in UTC."""
    length = minutes_until(first, end)
    return _moment(day, first, zone, fold=0), _moment(day, first + length, zone, fold=1)


def _moment(day: date, minute: int, zone: ZoneInfo, *, fold: int) -> datetime:
    """When the clock says that minute of the day, in UTC: the first time, or with fold 1 the last.

    The moment of the jump, if it never does.
    """
    wall = datetime.combine(day, time()) + timedelta(minutes=minute)
    # Of a time that is jumped over, one of the two lies before the jump, the other behind it.
    before, behind = sorted(wall.replace(tzinfo=zone, fold=each).astimezone(UTC) for each in (0, 1))
    told = {each.astimezone(zone).replace(tzinfo=None, fold=0) for each in (before, behind)}
    if told != {wall}:
        return _jump(before, behind, zone)
    return behind if fold else before


def _jump(before: datetime, behind: datetime, zone: ZoneInfo) -> datetime:
    """The second in which the clock is put on, between these two moments."""
    offset = before.astimezone(zone).utcoffset()
    while behind - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(behind - before) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            behind = middle
    return behind
