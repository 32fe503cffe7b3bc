"""Values as people write them, each checked once: sizes, rates, durations, times, addresses, names.

A text that is refused is told how to be written, by ValueError: pydantic adds which setting it was.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    TypeAdapter,
)

from noria.engine.config.locations import check_endpoint, parse_location
from noria.engine.steering.week import days_of, minute_of_day
from noria.manifests.errors import ConfigurationError
from noria.manifests.proof.note import check_name

BANDWIDTH_LEAST = 64 * 1024
"""A piece of a body then comes every eight seconds; stores close what stands still for twenty."""


def _check_url(value: str) -> str:
    try:
        parse_location(value)
    except ConfigurationError as error:
        raise ValueError(error.message) from error
    return value


def _check_key_name(value: str) -> str:
    check_name(value)
    return value


def _check_printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("it holds a character that cannot be printed")
    return value


_SIZE = TypeAdapter(ByteSize)
_SIZE_TEXT = re.compile(r"\s*[0-9]*\.?[0-9]+\s*[A-Za-z]*\s*")
_BINARY = re.compile(r"(?i)(?<=[0-9\s])([kmgtpe])i?\s*\Z")
"""Units that are written shorter than KiB."""


def parse_size(text: str | int) -> int:
    """Bytes from a number or a text. Raises ValueError.

    One rule for sizes and rates, in filters as well (manifests/plan/bounds.py): 8M and 8MiB are
    8 * 1024 * 1024, as rclone has it, and 8MB are 8,000,000.
    """
    try:
        # The adapter would pass over what follows a size.
        if isinstance(text, bool) or (isinstance(text, str) and not _SIZE_TEXT.fullmatch(text)):
            raise ValueError
        full = _BINARY.sub(r"\1iB", text) if isinstance(text, str) else text
        return int(_SIZE.validate_python(full))
    except (ValueError, OverflowError):
        raise ValueError(
            "this is not a size; write a number of bytes, 8M or 8MiB (8 * 1024 * 1024), 8MB "
            "(8,000,000)"
        ) from None


def parse_duration(value: object) -> object:
    """Seconds from a text such as 90s, 5m, 1h30m or 2d; anything else is returned as it is.

    Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    text = value.strip().lower().replace(" ", "")
    if not _DURATION.fullmatch(text):
        raise ValueError("this is not a duration; write a number of seconds, or 90s, 5m, 1h30m, 2d")
    parts = _DURATION_PART.findall(text)
    return sum(float(number) * _UNIT_SECONDS[unit or "s"] for number, unit in parts)


def parse_rate(value: object) -> object:
    """Bytes a second from a text such as 1KiB/s or 2Gbit/s; else the value is returned as it is.

    Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    size = re.sub(r"(?i)(/s|ps)$", "", value.strip())
    try:
        return parse_size(size) if size != "0" else 0
    except ValueError:
        raise ValueError(
            "this is not a rate; write a number of bytes a second, or 64KiB/s, 200MB/s, 2Gbit/s"
        ) from None


def parse_moment(value: object) -> str:
    """A time of TOML or a text of ISO 8601, as such a text. Raises ValueError without a zone."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            "this is not a time with its zone; write 2026-12-31T06:00:00+01:00, or "
            "2026-12-31T05:00:00Z"
        )
    return moment.isoformat()


_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|min|m|h|d|w|)")
_DURATION = re.compile(r"[0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?(ms|s|min|m|h|d|w))+", re.ASCII)


def _check_bandwidth(value: float) -> float:
    if 0 < value < BANDWIDTH_LEAST:
        raise ValueError("stores give up on what comes so slowly; give 64KiB/s or more, 0 for any")
    return value


def _check_per_second(value: float) -> float:
    if 0 < value < 1:
        raise ValueError("less than one request a second moves nothing; give 1 or more, 0 for any")
    return value


def auto_is_none(value: object) -> object:
    """None for "auto": chosen by Noria."""
    return None if value == "auto" else value


def _check_days(value: str) -> str:
    days_of(value)
    return value


def _check_time(value: str) -> str:
    minute_of_day(value)
    return value


def _check_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, LookupError):
        raise ValueError(
            'this machine knows no such zone; write one such as "Europe/Paris" or "UTC"'
        ) from None
    return value


def none_is_zero(value: object) -> object:
    """0 for "none" and "auto": no bound, or one that Noria finds."""
    return 0 if value in ("none", "auto") else value


Url = Annotated[str, AfterValidator(_check_url)]
Endpoint = Annotated[str, AfterValidator(check_endpoint)]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0, le=1 << 60)]
AutoSize = Annotated[Size | None, BeforeValidator(auto_is_none)]
"""None, written as "auto": chosen by Noria."""
Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=1e9)]
"""Up to 30 years: what clocks and waits can take."""
SecondsOrZero = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, le=1e9)]
"""0 has a meaning of its own."""
Rate = Annotated[float, BeforeValidator(parse_rate), Field(ge=0, le=1e9)]
"""Bytes a second."""
Bandwidth = Annotated[
    float, BeforeValidator(parse_rate), Field(ge=0, le=1e15), AfterValidator(_check_bandwidth)
]
"""Bytes a second; 0: any number."""
Days = Annotated[str, AfterValidator(_check_days)]
TimeOfDay = Annotated[str, AfterValidator(_check_time)]
Zone = Annotated[str, AfterValidator(_check_zone)]
PerSecond = Annotated[float, Field(ge=0, le=1e9), AfterValidator(_check_per_second)]
"""Requests a second; 0: any number."""
Moment = Annotated[str, BeforeValidator(parse_moment)]
"""A time with its zone, as ISO 8601 writes it."""
Printable = Annotated[str, AfterValidator(_check_printable)]
KeyName = Annotated[str, AfterValidator(_check_key_name)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Region = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
