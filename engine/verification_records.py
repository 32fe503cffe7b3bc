"""What verifications have found, as records of a migration's history.

Records name each other by digest, and a checkpoint names the last one of them: so what is signed
after a verification covers what it found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Facts, Record, RecordKind, Sign, append, read
from noria.manifests.passes.migration import Migration


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVerification:
    """The newest verification that came to its end."""

    number: int
    """Of its record."""
    at: str
    """UTC, to the second, as the record has it."""
    by: str
    facts: Facts
    has_moved_since: bool
    """A pass was planned or ended after it: what that moved was not verified."""


def note_verified(migration: Migration, facts: Facts, sign: Sign | None = None) -> Record:
    """Record what a verification found, which came to its end. Raises JobDirectoryError."""
    return append(JobDirectory.open(migration.root), RecordKind.VERIFIED, facts, sign=sign)


def last_verification(migration: Migration) -> RecordedVerification | None:
    """None: none was recorded. Raises JobDirectoryError if the history is damaged."""
    return newest_verification(read(JobDirectory(migration.root)))


def newest_verification(records: Sequence[Record]) -> RecordedVerification | None:
    """The newest one among records, which are in order."""
    moves = (RecordKind.PLANNED, RecordKind.PASS_ENDED, RecordKind.ROLLED_BACK)
    found = None
    for record in records:
        if record.kind is RecordKind.VERIFIED:
            found = record
    if found is None:
        return None
    return RecordedVerification(
        number=found.number,
        at=found.at,
        by=found.by,
        facts=found.facts,
        has_moved_since=any(each.kind in moves for each in records[found.number :]),
    )
