"""What verifications have found and what is sealed, in words that claim no more than they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from noria.engine.proof.sealed import sealed
from noria.engine.status import SealedObjects
from noria.engine.verification_records import RecordedVerification, last_verification
from noria.manifests.count_text import count_text
from noria.manifests.errors import JobDirectoryError
from noria.manifests.passes.migration import migration_of

_SAMPLE = "sample_"


def sample_text(found: Mapping[str, Any]) -> str:
    """A SampleFinding, in one line: what may be said of all objects, or why nothing may."""
    asked = f"at most {found['damaged_at_most']} % damaged with {found['confidence']} % confidence"
    drawn, reread = found["drawn"], found["reread"]
    origin = f"drawn after the fact from the hash of checkpoint {found['checkpoint']}" + (
        " and a seed" if found["seed"] else ""
    )
    if found["is_claimed"]:
        gone = found["gone_at_both"]
        beside = f", {gone:,} more gone at both ends" if gone else ""
        stand = count_text(found["objects"], "object")
        return f"{count_text(reread, 'object')} reread{beside}, {origin}: of {stand}, {asked}"
    wrong = [
        f"{found[name]:,} {words}"
        for name, words in (
            ("damaged", "damaged, missing or replaced"),
            ("unreadable", "could not be read"),
        )
        if found[name]
    ]
    why = ", ".join(wrong) or "not all of them were read"
    return (
        f"NOTHING is claimed of the objects that were not read: of {count_text(drawn, 'object')} "
        f"{origin}, {reread:,} reread and equal to their receipts, {why}"
    )


def verification_text(facts: Mapping[str, Any]) -> str:
    """The record of a verification, in one line."""
    sample = {
        name.removeprefix(_SAMPLE): value
        for name, value in facts.items()
        if name.startswith(_SAMPLE)
    }
    if sample:
        return sample_text(sample)
    wrong = [
        f"{facts[name]:,} {words}"
        for name, words in (
            ("damaged", "damaged, missing, replaced or not readable"),
            ("unread", "without a receipt of what stands"),
            ("gone_at_both", "gone at both ends"),
            ("unsettled", "not moved yet"),
        )
        if facts[name]
    ]
    rest = ", ".join(wrong) or "all that stood, none of them damaged"
    return f"{count_text(facts['reread'], 'object')} reread and equal to their receipts; {rest}"


def sealed_text(found: SealedObjects) -> str:
    """How much a signed checkpoint covers, in one line."""
    what = count_text(found.objects, "object")
    by = f"checkpoint {found.checkpoint}, signed by {', '.join(found.signed_by)}"
    if found.is_current:
        return f"sealed: {what}, by {by}"
    return (
        f"sealed: not as it stands now: {by}, covers earlier receipts; `noria sign` covers what "
        "has come since"
    )


def proof_standing(root: Path) -> dict[str, Any]:
    """What `noria status` knows of what is signed and verified, for programs.

    `sealed` and `verified` are null if nothing is. What is damaged is said in `proof_trouble`, and
    takes nothing from the rest of a status.
    """
    migration, _ = migration_of(root)
    standing: dict[str, Any] = {"sealed": None, "verified": None, "proof_trouble": None}
    try:
        if (verification := last_verification(migration)) is not None:
            standing["verified"] = asdict(verification)
        if (found := sealed(migration)) is not None:
            standing["sealed"] = asdict(found)
    except JobDirectoryError as error:
        standing["proof_trouble"] = error.message
    return standing


def print_proof_standing(summary: Mapping[str, Any]) -> None:
    found, verified = summary["sealed"], summary["verified"]
    of = None if found is None else SealedObjects(**found)
    for line in proof_lines(of, None if verified is None else RecordedVerification(**verified)):
        print(line)
    if summary["proof_trouble"] is not None:
        print(f"NOT sealed: {summary['proof_trouble']}")


def proof_lines(
    found: SealedObjects | None, verification: RecordedVerification | None
) -> Iterator[str]:
    """What a status says of both."""
    if verification is not None:
        at = verification.at.replace("T", " ").removesuffix("Z")
        since = "; passes have moved objects since" if verification.has_moved_since else ""
        signed = found is not None and found.history >= verification.number
        how = "signed" if signed else "not signed yet"
        text = verification_text(verification.facts)
        yield f"verified at {at} UTC ({how}): {text}{since}"
    if found is not None:
        yield sealed_text(found)
