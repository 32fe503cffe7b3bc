"""What people ask of a migration while it runs: numbered records, each written once, never changed.

    control/000001.json   {"at": "2026-11-28T07:20:14Z", "by": "ann@mover-1", "kind": "set",
                           "number": 1, "reason": null, "settings": {"bandwidth": 200000000.0},
                           "until": null}
    control/000002.json   ...

They lie in the directory of the migration, and are of all its passes and ways back. What they make
together is told by engine/steering. A driver looks for the next number every second or two, which
costs it two calls, however many there are.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory, disk_errors
from noria.manifests.job.history import whoami
from noria.manifests.strict_json import Pattern, read_strictly

CONTROL = "control"
MOST_RECORDS = 999_999
MOST_LOST_RACES = 100
"""Somebody else's record was written first, that often: then something is wrong."""
MOST_LETTERS = 256
"""Of `by` and of a reason."""
_NAME = re.compile(rf"{CONTROL}/([0-9]{{6}})\.json")
_SETTING = re.compile(r"[a-z][a-z_]{0,63}(\.[A-Za-z0-9_][A-Za-z0-9._-]{0,99})?")
"""Behind a dot: the dataset that it is of. Such a number may be below 0."""
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"

SettingValue = int | float | bool
"""Of a setting that is steered. 0: any number, or as many as Noria finds right."""


class ControlKind(StrEnum):
    """What is asked."""

    SET = "set"
    """The settings named have these values from now on, or until `until`."""
    CLEAR = "clear"
    """What was set of the settings named is taken back; of all of them, if none is named."""
    PAUSE = "pause"
    RESUME = "resume"
    """A pause is taken back."""
    DRAIN = "drain"
    """The driver that lives now ends as SIGTERM ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRecord:
    """One thing that a person asked for."""

    number: int
    """From 1, without gaps."""
    kind: ControlKind
    at: datetime
    """UTC, to the second, by the clock of the machine that wrote it."""
    by: str
    """user@host"""
    settings: Mapping[str, SettingValue | None]
    """Name -> value. Of CLEAR: names with None."""
    until: datetime | None
    """When it is over by itself. None: it stays."""
    reason: str | None
    """In words of whoever asked."""


def append(
    directory: JobDirectory,
    kind: ControlKind,
    settings: Mapping[str, SettingValue | None] | None = None,
    *,
    until: datetime | None = None,
    reason: str | None = None,
    by: str | None = None,
    at: datetime | None = None,
) -> ControlRecord:
    """Write the next record, durably, and return it.

    `by` is this user on this host if it is None, `at` now. Of two writers at once one is first, and
    the other goes on behind it. Raises JobDirectoryError for a damaged record and for a disk that
    fails, ValueError for values of another form.
    """
    moment = (at or datetime.now(UTC)).astimezone(UTC)
    for _ in range(MOST_LOST_RACES):
        number = _last_number(directory) + 1
        if number > MOST_RECORDS:
            raise JobDirectoryError(f"{directory.root}/{CONTROL} has no room for another record")
        data = _canonical(
            _StatedControl(
                number=number,
                kind=kind,
                at=_time_text(moment),
                by=whoami() if by is None else by,
                settings=dict(settings or {}),
                until=None if until is None else _time_text(until.astimezone(UTC)),
                reason=None if reason is None else _fitted(reason),
            )
        )
        if directory.write_once(_name(number), data):
            return _parsed(directory, number, data)
    raise JobDirectoryError(
        f"{directory.root}/{CONTROL}: others wrote {MOST_LOST_RACES} records meanwhile; run again"
    )


def read(directory: JobDirectory) -> list[ControlRecord]:
    """All records, in order. Raises JobDirectoryError, with the file's name, if one is damaged."""
    return [_read(directory, number) for number in range(1, _last_number(directory) + 1)]


class ControlLog:
    """The records of a migration, for whoever looks again and again."""

    def __init__(self, directory: JobDirectory) -> None:
        """Raises JobDirectoryError as read() does."""
        self._directory = directory
        self.records: list[ControlRecord] = read(directory)

    def look(self) -> Sequence[ControlRecord]:
        """Records that have come since the last look. Raises as read() does, at each look."""
        folder = self._directory.root / CONTROL
        with disk_errors(self._directory.root):
            try:
                # A client of NFS that knows of no such file looks again once it has opened its
                # folder.
                os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
            except FileNotFoundError:
                return ()
        before = len(self.records)
        while (self._directory.root / _name(len(self.records) + 1)).exists():
            self.records.append(_read(self._directory, len(self.records) + 1))
        return self.records[before:]


@dataclass(frozen=True, slots=True, kw_only=True)
class _StatedControl:
    """A record as its file has it."""

    number: int
    kind: ControlKind
    at: Annotated[str, Pattern(_TIME)]
    by: str
    settings: dict[str, Any]
    until: Annotated[str, Pattern(_TIME)] | None
    reason: str | None


def _last_number(directory: JobDirectory) -> int:
    """Of a folder without gaps."""
    last = 0
    for name in directory.names(CONTROL):
        found = _NAME.fullmatch(name)
        if not found:
            raise JobDirectoryError(
                f"{directory.root}/{name} is not a record of what was asked: take it away"
            )
        last += 1
        if int(found[1]) != last:
            raise _damaged(directory, _name(last), f"is missing, and {name} is there")
    return last


def _read(directory: JobDirectory, number: int) -> ControlRecord:
    data = directory.read(_name(number))
    if data is None:
        raise _damaged(directory, _name(number), "is missing")
    return _parsed(directory, number, data)


def _parsed(directory: JobDirectory, number: int, data: bytes) -> ControlRecord:
    try:
        stated = read_strictly(_StatedControl, data)
        if _canonical(stated) != data or stated.number != number:
            raise ValueError
        return ControlRecord(
            number=stated.number,
            kind=stated.kind,
            at=_time(stated.at),
            by=stated.by,
            settings=stated.settings,
            until=None if stated.until is None else _time(stated.until),
            reason=stated.reason,
        )
    except (ValueError, TypeError, RecursionError):
        raise _damaged(
            directory, _name(number), "is changed, truncated, or of a newer version"
        ) from None


def _canonical(stated: _StatedControl) -> bytes:
    """The one form of a record. Raises ValueError for values of another form."""
    for text in (stated.by, stated.reason):
        if text is not None and text != _fitted(text):
            raise ValueError("a name or a reason is a short line of printable letters")
    for name, value in stated.settings.items():
        if not _SETTING.fullmatch(name):
            raise ValueError("the name of a setting is a short word in lower case")
        least = 0 if "." not in name else -(2**31)
        if value is not None and not (
            isinstance(value, int | float) and math.isfinite(value) and least <= value < 2**63
        ):
            raise ValueError("the value of a setting is a finite number, true, false or null")
    values = {name: getattr(stated, name) for name in _StatedControl.__dataclass_fields__}
    return (json.dumps(values, sort_keys=True, separators=(",", ":")) + "\n").encode()


def _fitted(text: str) -> str:
    shown = "".join(sign if sign.isprintable() else "?" for sign in text)
    return shown[:MOST_LETTERS]


def _time_text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _name(number: int) -> str:
    return f"{CONTROL}/{number:06d}.json"


def _damaged(directory: JobDirectory, name: str, what: str) -> JobDirectoryError:
    return JobDirectoryError(f"{directory.root}/{name} {what}; restore control/ from a copy")
