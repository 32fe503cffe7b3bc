"""The life of a migration: numbered records in its directory, each written once, never changed.

    history/000001.json   {"at": "2026-11-28T07:20:14Z", "by": "ann@mover-1", "facts": {"pass": 1},
                          "kind": "planned", "number": 1, "previous": "000...0"}
    history/000002.json   ...

Records may be signed: such a one also has `key` and `signature`, Ed25519 in hex, over the rest of
it and the id of the job (signed_text).

A record is canonical JSON: sorted keys, no spaces, ASCII, a newline at the end. `previous` is the
SHA-256 of the bytes of the record before, so a record that was changed, or is missing, is seen by
whoever reads the next one. What vouches for the last one is its own digest, the head: a person can
write it down. Whoever replaces the end of the history, or all of it, cannot make a digest that
somebody wrote down earlier appear in it again.

Facts are numbers, names of commands, exit codes, digests. No object names and no secrets.
"""

from __future__ import annotations

import functools
import getpass
import hashlib
import json
import math
import os
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.strict_json import Pattern, read_strictly

HISTORY = "history"
FIRST_PREVIOUS = "0" * 64
"""What stands for the digest of the record before the first."""
MOST_RECORDS = 999_999
MOST_LOST_RACES = 100
"""Somebody else's record was written first, that often: then something is wrong."""
CHAINS_KNOWN = 8
"""Histories whose records a process remembers: a thousand take about a megabyte."""
MOST_LETTERS = 256
"""Of a fact, and of `by`."""
DAMAGED_ADVICE = "restore history/ from a copy; nothing goes on with it as it is"
PASS = "pass"
"""The fact that says which pass a record is about: its number, from 1."""
_NAME = re.compile(rf"{HISTORY}/([0-9]{{6}})\.json")

Fact = str | int | float | bool | None
Facts = Mapping[str, Fact]
_Stamp = tuple[int, int, int, int]


class RecordKind(StrEnum):
    """What happened."""

    PLANNED = "planned"
    """A pass is planned from here on: its source is listed after this. Has the fact `pass`."""
    PASS_ENDED = "pass_ended"
    """A pass has moved what it planned. Has the fact `pass`."""
    WITHDRAWN = "withdrawn"
    """A pass that was planned, and had moved nothing, was taken back. Has the fact `pass`."""
    CONVERGING = "converging"
    """Passes are run one after the other from here on, to bring the lag down."""
    FROZEN = "frozen"
    """Nobody writes to the source any more."""
    PROVING = "proving"
    """The target is being compared with the source."""
    PROVED = "proved"
    """They are equal."""
    APPROVED = "approved"
    """A person has seen the proof, and wants the switch."""
    SWITCHED = "switched"
    """Readers and writers use the target."""
    GRACE = "grace"
    """The source is kept, for a while."""
    ROLLED_BACK = "rolled_back"
    """Readers and writers use the source again."""
    RETIRED = "retired"
    """The source is not needed any longer."""
    VERIFIED = "verified"
    """What stands was read back from the target, all of it or a sample, to the end."""
    STOPPED = "stopped"
    """A step ended before its end; the migration stands where it stood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    number: int
    """From 1, without gaps."""
    kind: RecordKind
    at: str
    """UTC, to the second: 2026-11-28T07:20:14Z. By the clock of the machine that wrote it."""
    by: str
    """user@host"""
    previous: str
    """Digest of the record before."""
    facts: Facts
    digest: str
    """SHA-256 of this record's bytes, in hex."""
    key: str | None = None
    """Public half of the key that signed it. None: it is not signed."""
    signature: str | None = None
    """Read as it stands: engine/record_signatures.py says whether it is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSignature:
    """A public key and what its private half made of a text, in hex."""

    key: str
    signature: str


Sign = Callable[[bytes], RecordSignature]


def append(
    directory: JobDirectory,
    kind: RecordKind,
    facts: Facts,
    *,
    by: str | None = None,
    at: datetime | None = None,
    check: Callable[[Sequence[Record]], None] | None = None,
    sign: Sign | None = None,
) -> Record:
    """Write the next record, durably, and return it.

    `by` is this user on this host if it is None, `at` now. Of two writers at once one is first, and
    the other goes on behind it. Before each try `check` sees all records that stand before the new
    one, and may refuse it by raising: so of two writers who may not both succeed, one does. A crash
    leaves a whole record or none; whoever repeats the call after one looks first whether the record
    is there. Raises JobDirectoryError for a damaged history and for a disk that fails, ValueError
    for facts of another form.
    """
    said_by = whoami() if by is None else by
    moment = (at or datetime.now(UTC)).astimezone(UTC)
    for _ in range(MOST_LOST_RACES):
        records = read(directory)
        if check is not None:
            check(records)
        if len(records) >= MOST_RECORDS:
            raise JobDirectoryError(f"{directory.root}/{HISTORY} has no room for another record")
        stated = _Stated(
            number=len(records) + 1,
            kind=kind,
            at=f"{moment:%Y-%m-%dT%H:%M:%S}Z",
            by=said_by,
            previous=head(records),
            facts=dict(facts),
        )
        if sign is not None:
            signed = sign(_text_to_sign(_job_id(directory), stated))
            stated = replace(stated, key=signed.key, signature=signed.signature)
        data = _canonical(stated)
        if directory.write_once(_name(stated.number), data):
            return _record(stated, data)
    raise JobDirectoryError(
        f"{directory.root}/{HISTORY}: others wrote {MOST_LOST_RACES} records meanwhile; run again"
    )


def read(directory: JobDirectory) -> list[Record]:
    """All records, in order, each checked against the digest that the next one has of it.

    A process reads a record once, and again if its file is not the same any more: another inode,
    size or time. So a step costs what has come since the last one, and a look at each file's
    status. Raises JobDirectoryError, with the file's name, for a record that is changed, missing,
    truncated, or none of ours.
    """
    return _known_chain(directory.root.absolute()).read(directory)


@functools.lru_cache(CHAINS_KNOWN)
def _known_chain(root: Path) -> _Chain:
    """What this process has read of a history."""
    return _Chain()


class _Chain:
    """The records of a history as they were read and checked. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._stamps: list[_Stamp | None] = []
        """Of the file of each record, from before it was read."""

    def read(self, directory: JobDirectory) -> list[Record]:
        """As read() of the module."""
        with self._lock:
            count = 0
            for name in directory.names(HISTORY):
                found = _NAME.fullmatch(name)
                if not found or not int(found[1]):
                    raise JobDirectoryError(
                        f"{directory.root}/{name} is not a record of a history: take it away from "
                        "there"
                    )
                if int(found[1]) != count + 1:
                    raise _damaged(directory, _name(count + 1), f"is missing, and {name} is there")
                self._take(directory, name, count)
                count += 1
            self._forget_from(count)
            return list(self._records)

    def _take(self, directory: JobDirectory, name: str, place: int) -> None:
        """Have the record at this place as its file is now, and none behind one that is read."""
        stamp = _stamp(f"{directory.root}/{name}")
        if place < len(self._records) and stamp is not None and stamp == self._stamps[place]:
            return
        self._forget_from(place)
        record = _read_record(directory, name, place + 1, head(self._records))
        self._records.append(record)
        self._stamps.append(stamp)

    def _forget_from(self, place: int) -> None:
        del self._records[place:], self._stamps[place:]


def _stamp(path: str) -> _Stamp | None:
    """What is another as soon as the file is another, or was written to. None: it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def last(directory: JobDirectory, kind: RecordKind) -> Record | None:
    """The newest record of a kind, or None. Raises as read() does."""
    return next((each for each in reversed(read(directory)) if each.kind is kind), None)


def signed_text(job_id: str, record: Record) -> bytes:
    """What the signature of a record is of. `job_id` is of the migration's first job."""
    values = {name: getattr(record, name) for name in _Stated.__dataclass_fields__}
    stated = _Stated(**{**values, "facts": dict(record.facts)})
    return _text_to_sign(job_id, replace(stated, key=None, signature=None))


def head(records: Sequence[Record]) -> str:
    """The digest of the last record: as long as it is the same, nothing before it was changed."""
    return records[-1].digest if records else FIRST_PREVIOUS


def whoami() -> str:
    """user@host, for `by`. In a container the user may have a number alone."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid-{os.getuid()}"
    return _fitted(f"{user}@{socket.gethostname()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stated:
    """A record as its file has it."""

    number: int
    kind: RecordKind
    at: Annotated[str, Pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")]
    by: str
    previous: Annotated[str, Pattern(r"[0-9a-f]{64}")]
    facts: dict[str, Any]
    key: Annotated[str, Pattern(r"[0-9a-f]{64}")] | None = None
    signature: Annotated[str, Pattern(r"[0-9a-f]{128}")] | None = None


def _text_to_sign(job_id: str, stated: _Stated) -> bytes:
    return f"noria-record-1\n{job_id}\n".encode() + _canonical(stated)


def _job_id(directory: JobDirectory) -> str:
    return str(directory.job().get("id"))


def _read_record(directory: JobDirectory, name: str, number: int, previous: str) -> Record:
    data = directory.read(name)
    if data is None:
        raise _damaged(directory, name, "is missing")
    try:
        stated = read_strictly(_Stated, data)
        is_whole = _canonical(stated) == data
    except (ValueError, TypeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise _damaged(directory, name, "is changed, truncated, or of a newer version")
    if stated.number != number:
        raise _damaged(directory, name, f"is another record: it says number {stated.number}")
    if stated.previous != previous:
        before = _name(number - 1) if number > 1 else "the beginning"
        raise _damaged(directory, name, f"does not follow {before}: one of them was changed")
    return _record(stated, data)


def _record(stated: _Stated, data: bytes) -> Record:
    return Record(
        number=stated.number,
        kind=stated.kind,
        at=stated.at,
        by=stated.by,
        previous=stated.previous,
        facts=stated.facts,
        digest=hashlib.sha256(data).hexdigest(),
        key=stated.key,
        signature=stated.signature,
    )


def _canonical(stated: _Stated) -> bytes:
    """The one form of a record. Raises ValueError for facts or a writer of another form."""
    if stated.by != _fitted(stated.by):
        raise ValueError("`by` is not a short line of printable letters")
    values = {name: getattr(stated, name) for name in _Stated.__dataclass_fields__}
    if stated.key is None and stated.signature is None:
        del values["key"], values["signature"]
    values["facts"] = {_checked_name(name): _checked(fact) for name, fact in stated.facts.items()}
    return (json.dumps(values, sort_keys=True, separators=(",", ":")) + "\n").encode()


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        raise ValueError("the name of a fact is a short word in lower case")
    return name


def _checked(fact: object) -> Fact:
    """Short and printable: a history is shown on terminals."""
    if isinstance(fact, str) and fact == _fitted(fact):
        return fact
    if fact is None or isinstance(fact, bool):
        return fact
    if isinstance(fact, int) and -(2**63) <= fact < 2**63:
        return fact
    if isinstance(fact, float) and math.isfinite(fact):
        return fact
    raise ValueError("a fact is a finite number, a short printable text, true, false or null")


def _fitted(text: str) -> str:
    shown = "".join(sign if sign.isprintable() else "?" for sign in text)
    return shown[:MOST_LETTERS]


def _name(number: int) -> str:
    return f"{HISTORY}/{number:06d}.json"


def _damaged(directory: JobDirectory, name: str, what: str) -> JobDirectoryError:
    return JobDirectoryError(f"{directory.root}/{name} {what}; {DAMAGED_ADVICE}")
