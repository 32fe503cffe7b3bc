"""The passes of a migration that ended, read from its history (engine/pass_records.py wrote it)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from noria.engine.convergence import PassSummary
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.history import PASS, Facts, Record, RecordKind
from noria.manifests.strict_json import from_json

_AMOUNTS: Final = ("new", "changed", "gone", "unchanged")
_PLAIN: Final = {
    "number": PASS,
    "started_seconds": "started",
    "ended_seconds": "ended",
    "listing_seconds": "listing_seconds",
    "moving_seconds": "moving_seconds",
    "reconciling_seconds": "reconciling_seconds",
    "oldest_unmoved_seconds": "oldest_unmoved",
    "bytes_moved": "bytes_moved",
    "failed": "failed",
}
"""Field of a summary -> name of the fact."""


def passes_of(records: Iterable[Record]) -> list[PassSummary]:
    """The passes that ended, in order of their numbers; the last record of a pass counts.

    Raises JobDirectoryError for a record that does not say what its pass did.
    """
    ended = (pass_of(record) for record in records if record.kind is RecordKind.PASS_ENDED)
    latest = {summary.number: summary for summary in ended}
    return [latest[number] for number in sorted(latest)]


def pass_of(record: Record) -> PassSummary:
    """What the pass of a `pass_ended` did; amounts that it does not state are 0.

    Raises JobDirectoryError if it does not say.
    """
    facts = record.facts
    try:
        _check(facts)
        values: dict[str, Any] = {name: facts[fact] for name, fact in _PLAIN.items()}
        for name in _AMOUNTS:
            values[name] = {what: facts.get(f"{name}_{what}", 0) for what in ("objects", "bytes")}
        return from_json(PassSummary, values)
    except (LookupError, ValueError):
        raise JobDirectoryError(
            f"history/{record.number:06d}.json does not say what its pass did; use the version of "
            "Noria that wrote it"
        ) from None


def _check(facts: Facts) -> None:
    """Raise ValueError for numbers that no pass has: below 0, or beyond what sums can take."""
    for fact in facts.values():
        if isinstance(fact, int | float) and not 0 <= fact < 2**63:
            raise ValueError("a number that no pass has")
