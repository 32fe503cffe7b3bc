"""Sizes and ages of filters, as rclone's users write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

SIZE = re.compile(r"(\d+\.?\d*|\.\d+)([kmgtpe]i?b?|b)?", re.IGNORECASE)
UNITS = "bkmgtpe"
"""Each is 1024 times the one before it; 1000 times if a B follows it at once."""
DECIMAL = re.compile(r"[kmgtpe]b", re.IGNORECASE)
LARGEST = 1 << 62

SPANS = {"d": 86_400.0, "w": 7 * 86_400.0, "M": 30 * 86_400.0, "y": 365 * 86_400.0}
"""Seconds of a unit that stands alone."""
CLOCK_SPANS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
"""Seconds of units that may follow each other: 1h30m."""
NUMBER = r"(?:\d+\.?\d*|\.\d+)"
CLOCK = re.compile(rf"(?:{NUMBER}(?:ms|[smh]))+")
CLOCK_STEP = re.compile(rf"({NUMBER})(ms|[smh])")
SPAN = re.compile(rf"({NUMBER})([dwMy]?)")
DATE = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d+)?)?|"
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
)


def parse_bound_size(text: str | int) -> int:
    """Bytes from an integer, or from a text with a unit.

    10M and 10MiB are 10 * 1024 * 1024, as rclone has it; 10MB, which rclone does not know, are
    10,000,000. A text without a unit is refused: rclone takes it for KiB, everybody else for bytes.
    Raises ValueError.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    found = SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError("this is not a size; write 10M or 10MiB, 10MB, or 100B for bytes")
    number, unit = found[1], (found[2] or "").lower()
    if not unit and float(number):
        raise ValueError("this size has no unit; write 100B for bytes, 100K for KiB")
    step = 1000.0 if DECIMAL.fullmatch(unit) else 1024.0
    size = float(number) * step ** UNITS.index(unit[:1] or "b")
    if size > LARGEST:
        raise ValueError("this is more than any object has")
    return int(size)


def parse_age(text: str) -> timedelta | datetime:
    """An age (90s, 1h30m, 2d, 2w, 1M, 1y; seconds without a unit), or the moment that it names.

    A month is 30 days and a year 365. Dates are 2026-01-31, 2026-01-31 08:00:00 or with a T, in
    this machine's time zone, or 2026-01-31T08:00:00Z. Raises ValueError.
    """
    wrong = ValueError("this is not an age; write 1h, 2d, 2w, 1M, 1y, or 2026-01-31")
    try:
        if CLOCK.fullmatch(text):
            steps = CLOCK_STEP.findall(text)
            return timedelta(seconds=sum(float(n) * CLOCK_SPANS[unit] for n, unit in steps))
        if found := SPAN.fullmatch(text):
            return timedelta(seconds=float(found[1]) * SPANS.get(found[2], 1.0))
        if DATE.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong from None
    raise wrong


def moment_of(age: str, now: datetime) -> datetime:
    """The moment at which an object was written that has this age now. Raises ValueError."""
    found = parse_age(age)
    if isinstance(found, datetime):
        return found
    try:
        return now - found
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
