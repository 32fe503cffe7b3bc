"""Sizes and ages are taken as rclone's users write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from noria.manifests.plan.bounds import moment_of, parse_age, parse_bound_size

KIB = 1024
NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *((10, 10), ("0", 0), ("100B", 100), ("100b", 100), ("1k", KIB), ("1K", KIB)),
        *(("10M", 10 * KIB**2), ("10Mi", 10 * KIB**2), ("10MiB", 10 * KIB**2)),
        *(("10MB", 10_000_000), ("1.5kb", 1500)),
        *(("1.5G", 3 * KIB**3 // 2), (".5T", KIB**4 // 2), ("2P", 2 * KIB**5)),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_bound_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "10X", "-1M", "1e3", "10", "1.5", "1 M", True, 1.5])
def test_what_is_no_size(text: Any) -> None:
    with pytest.raises(ValueError, match=r"10M or 10MiB|100B for bytes"):
        parse_bound_size(text)


def test_a_size_that_nothing_has() -> None:
    with pytest.raises(ValueError, match="more than any object has"):
        parse_bound_size("99E")


@pytest.mark.parametrize(
    ("text", "age"),
    [
        *(("90", DAY / 960), ("90s", DAY / 960), ("1.5h", DAY / 16), ("1h30m", DAY / 16)),
        *(("100ms", timedelta(milliseconds=100)), ("1m", DAY / 1440), ("2d", 2 * DAY)),
        *(("2w", 14 * DAY), ("1M", 30 * DAY), ("1y", 365 * DAY), ("0.5d", DAY / 2)),
    ],
)
def test_ages(text: str, age: timedelta) -> None:
    assert parse_age(text) == age
    assert moment_of(text, NOW) == NOW - age


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T08:00:00Z", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T08:00:00.5+02:00", datetime(2026, 1, 31, 6, 0, 0, 500_000, UTC)),
        ("2026-01-31", datetime(2026, 1, 31).astimezone()),
        ("2026-01-31 08:00:00", datetime(2026, 1, 31, 8).astimezone()),
        ("2026-01-31T08:00:00", datetime(2026, 1, 31, 8).astimezone()),
    ],
)
def test_dates(text: str, moment: datetime) -> None:
    assert parse_age(text) == moment
    assert moment_of(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["", "d", "-1h", "1x", "1D", "yesterday", "2026-13-01", "2026-01", "1d12h", "99999999999y"],
)
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="is not an age; write 1h, 2d"):
        parse_age(text)


def test_an_age_before_all_dates_is_the_first_date() -> None:
    assert moment_of("2500y", NOW).year == 1
