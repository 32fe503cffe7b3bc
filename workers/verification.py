"""From evidence to receipts: what became of an entry, and at which level that is known."""

from __future__ import annotations

import time
from dataclasses import dataclass

from noria.manifests.errors import NoriaError, SourceChanged, SourceMissing
from noria.manifests.model import Level, ObjectEntry, Outcome, Receipt
from noria.workers.digest import tree_root
from noria.workers.stores.protocol import ObjectHead, Written


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingEvidence:
    """What is known of an object that is at the target."""

    source: ObjectHead
    """As it was read; with the checksum that the source, or the plan, states of the whole."""
    crc64nvme: int
    """Of the whole, as it was read."""
    chunk_bytes: int
    chunks: bytes
    """The digest of each chunk that was read."""
    written: Written
    """As it is at the target."""
    txid: str | None
    """Who wrote it; None for an object that Noria did not write."""
    checked: bool
    """The target has verified all that it took in."""
    stated_in_part: bool = False
    """The source stated a checksum of some of its parts, and not of the others."""
    parts: int = 0
    bytes_moved: int = 0


def landed_receipt(
    entry: ObjectEntry,
    attempt: int,
    evidence: LandingEvidence,
    outcome: Outcome = Outcome.TRANSFERRED,
) -> Receipt:
    """The receipt of an entry that is at the target, with the level that the evidence supports."""
    source, written = evidence.source, evidence.written
    level, reason = reached_level(evidence)
    return Receipt(
        row=entry.row,
        key=entry.key,
        target_key=entry.target_key,
        outcome=outcome,
        size=entry.size,
        level=level,
        level_reason=reason,
        source_etag=source.etag,
        source_version=source.version_id,
        target_etag=written.etag,
        target_version=written.version_id,
        txid=evidence.txid,
        crc64nvme=evidence.crc64nvme,
        chunk_bytes=evidence.chunk_bytes,
        chunks=evidence.chunks,
        root=tree_root(entry.size, evidence.chunk_bytes, evidence.chunks),
        parts=evidence.parts,
        bytes_moved=evidence.bytes_moved,
        attempt=attempt,
        finished_ms=int(time.time() * 1000),
    )


def reached_level(evidence: LandingEvidence) -> tuple[Level, str | None]:
    """The level that the evidence supports, and why it is not `chained`; never rounded up."""
    read = evidence.crc64nvme
    source, target = evidence.source.crc64nvme, evidence.written.crc64nvme
    if source not in (None, read) or target not in (None, read):
        return Level.COUNTED, "the stated checksums differ"
    if target is None and not evidence.checked:
        return Level.COUNTED, "the target verifies and states no checksum"
    if source is None and evidence.stated_in_part:
        return Level.INGESTED, "the source stated no CRC64 of some parts"
    if source is None:
        return Level.INGESTED, "the source states no CRC64"
    if target is None:
        return Level.INGESTED, "the target states no full-object CRC64NVME"
    return Level.CHAINED, None


def failed_receipt(entry: ObjectEntry, attempt: int, error: NoriaError) -> Receipt:
    """The final word on an entry that did not land."""
    outcome = Outcome.FAILED
    if isinstance(error, SourceChanged):
        outcome = Outcome.SOURCE_CHANGED
    elif isinstance(error, SourceMissing):
        outcome = Outcome.SOURCE_MISSING
    return Receipt(
        row=entry.row,
        key=entry.key,
        target_key=entry.target_key,
        outcome=outcome,
        size=entry.size,
        cause=error.cause,
        message=error.message,
        attempt=attempt,
        finished_ms=int(time.time() * 1000),
    )


def skipped_receipt(entry: ObjectEntry, attempt: int) -> Receipt:
    """The final word on an entry that the plan does not move."""
    assert entry.reason is not None, "only the plan skips an entry"
    return Receipt(
        row=entry.row,
        key=entry.key,
        target_key=entry.target_key,
        outcome=Outcome.SKIPPED,
        size=entry.size,
        cause=entry.reason.value,
        attempt=attempt,
        finished_ms=int(time.time() * 1000),
    )
