"""What a pass did, as the facts of its record in the history, and read back from there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from noria.engine.convergence import Amount, PassSummary
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.history import PASS, Fact, Facts, Record, RecordKind
from noria.manifests.strict_json import from_json

_AMOUNTS: Final = ("new", "changed", "gone", "unchanged")
_PLAIN: Final = (
    "started_seconds",
    "ended_seconds",
    "listing_seconds",
    "moving_seconds",
    "reconciling_seconds",
    "oldest_unmoved_seconds",
    "bytes_moved",
    "failed",
)


def pass_facts(summary: PassSummary) -> dict[str, Fact]:
    """The facts of a `pass_ended`: `pass`, `new_objects`, `new_bytes`, ..., `failed`."""
    facts: dict[str, Fact] = {PASS: summary.number}
    for name in _AMOUNTS:
        amount: Amount = getattr(summary, name)
        facts |= {f"{name}_objects": amount.objects, f"{name}_bytes": amount.bytes}
    return facts | {name: getattr(summary, name) for name in _PLAIN}


def passes_of(records: Iterable[Record]) -> list[PassSummary]:
    """The passes that ended, in order of their numbers; the last record of a pass counts.

    Raises JobDirectoryError for a record that does not say what its pass did.
    """
    ended = (pass_of(record) for record in records if record.kind is RecordKind.PASS_ENDED)
    latest = {summary.number: summary for summary in ended}
    return [latest[number] for number in sorted(latest)]


def pass_of(record: Record) -> PassSummary:
    """What the pass of a `pass_ended` did. Raises JobDirectoryError if that does not say so."""
    facts = record.facts
    try:
        _check(facts)
        values: dict[str, Any] = {name: facts[name] for name in _PLAIN}
        for name in _AMOUNTS:
            values[name] = {"objects": facts[f"{name}_objects"], "bytes": facts[f"{name}_bytes"]}
        return from_json(PassSummary, {"number": facts[PASS], **values})
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
