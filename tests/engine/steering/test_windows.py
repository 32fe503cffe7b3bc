"""Windows open and close by the clock on the wall, also in the nights in which it is put."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.engine.steering.week import days_of, minute_of_day
from noria.engine.steering.windows import SettingsWindow

PARIS = ZoneInfo("Europe/Paris")
SPRING = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
"""02:00 becomes 03:00, a Sunday."""
AUTUMN = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
"""03:00 becomes 02:00, a Sunday."""
MINUTE = timedelta(minutes=1)


def window(begins: str, ends: str, days: str = "mon-sun", zone: ZoneInfo = PARIS) -> SettingsWindow:
    return SettingsWindow(
        name="w",
        days=days_of(days),
        first_minute=minute_of_day(begins),
        end_minute=minute_of_day(ends),
        zone=zone,
    )


def spans(opens: SettingsWindow, around: datetime) -> list[tuple[str, str]]:
    """When it is open within twelve hours of a moment, in UTC."""
    found: list[list[datetime]] = []
    for minutes in range(-720, 720):
        now = around + timedelta(minutes=minutes)
        ends = opens.end_of(now)
        if ends is None:
            continue
        if not found or found[-1][1] != ends:
            found.append([now, ends])
    return [(f"{a:%H:%M}", f"{b:%H:%M}") for a, b in found]


def test_a_window_of_days_is_open_on_them_alone() -> None:
    office = window("08:00", "18:00", "mon-fri")
    assert office.end_of(datetime(2026, 11, 27, 7, 0, tzinfo=UTC)) == datetime(
        2026, 11, 27, 17, 0, tzinfo=UTC
    )
    assert office.end_of(datetime(2026, 11, 27, 6, 59, tzinfo=UTC)) is None
    assert office.end_of(datetime(2026, 11, 27, 17, 0, tzinfo=UTC)) is None, "a Friday evening"
    assert office.end_of(datetime(2026, 11, 28, 9, 0, tzinfo=UTC)) is None, "a Saturday"


def test_one_that_ends_before_it_begins_ends_the_next_day_whatever_day_that_is() -> None:
    night = window("22:00", "06:00", "fri")
    assert night.end_of(datetime(2026, 11, 28, 4, 59, tzinfo=UTC)) is not None
    assert night.end_of(datetime(2026, 11, 28, 5, 0, tzinfo=UTC)) is None
    assert night.end_of(datetime(2026, 11, 27, 20, 59, tzinfo=UTC)) is None
    assert night.end_of(datetime(2026, 11, 28, 21, 30, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("begins", "ends", "span"),
    [
        ("01:00", "04:00", ("00:00", "02:00")),  # an hour shorter
        ("02:30", "05:00", ("01:00", "03:00")),  # begins as the clock is put on
        ("00:00", "02:30", ("23:00", "01:00")),  # ends then
    ],
)
def test_a_time_that_never_comes_is_the_moment_of_the_jump(
    begins: str, ends: str, span: tuple[str, str]
) -> None:
    assert spans(window(begins, ends, "sun"), SPRING) == [span]


def test_a_window_of_times_that_never_come_does_not_come() -> None:
    assert spans(window("02:15", "02:45", "sun"), SPRING) == []


@pytest.mark.parametrize(
    ("begins", "ends", "span"),
    [
        ("01:00", "04:00", ("23:00", "03:00")),  # an hour longer
        ("02:30", "05:00", ("00:30", "04:00")),  # from the first 02:30
        ("00:00", "02:30", ("22:00", "01:30")),  # to the last one
        ("02:15", "02:45", ("00:15", "01:45")),
        ("03:00", "04:00", ("02:00", "03:00")),  # that comes once
    ],
)
def test_a_time_that_comes_twice_begins_at_the_first_and_ends_at_the_last(
    begins: str, ends: str, span: tuple[str, str]
) -> None:
    assert spans(window(begins, ends, "sun"), AUTUMN) == [span]


@given(
    first=st.integers(0, 1439),
    end=st.integers(0, 1440),
    minutes=st.integers(0, 2 * 365 * 1440),
    zone=st.sampled_from(["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "UTC"]),
)
def test_where_the_clock_is_not_put_it_is_open_as_the_clock_says(
    first: int, end: int, minutes: int, zone: str
) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    place = ZoneInfo(zone)
    shifts = {
        (moment + timedelta(hours=hours)).astimezone(place).utcoffset() for hours in (-49, 0, 49)
    }
    opens = SettingsWindow(
        name="w", days=frozenset(range(7)), first_minute=first, end_minute=end, zone=place
    )
    if len(shifts) > 1:
        return
    wall = moment.astimezone(place)
    minute = wall.hour * 60 + wall.minute
    length = (end - first) % 1440 or 1440
    assert (opens.end_of(moment) is not None) == ((minute - first) % 1440 < length)


@pytest.mark.parametrize("text", ["mo-fr", "", "mon-", "monday"])
def test_days_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="days"):
        days_of(text)


@pytest.mark.parametrize("text", ["24:01", "7", "07:60", "7h", "25:00", ""])
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time of day"):
        minute_of_day(text)
