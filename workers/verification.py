"""Make receipts from evidence: the outcome of an entry, and the level at which it is verified."""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from noria.manifests.errors import (
    EntryBroken,
    NoriaError,
    Retryable,
    Skippable,
    SourceChanged,
    SourceMissing,
    TargetKept,
)
from noria.manifests.model import AttributeChange, Guard, Level, ObjectEntry, Outcome, Receipt
from noria.workers.digest import tree_root
from noria.workers.stores.paced import Stopped
from noria.workers.stores.protocol import Deleted, ObjectHead, Written

log = logging.getLogger("noria.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingEvidence:
    """What is known about an object that is at the target."""

    source: ObjectHead
    """The source as it was read, with the full-object checksum that it or the plan states."""
    crc64nvme: int
    """Of the whole object, computed from the bytes read."""
    chunk_bytes: int
    chunks: bytes
    """The digest of each chunk, from the bytes read."""
    written: Written
    """The object at the target."""
    txid: str | None
    """The transfer that wrote it; None if Noria did not write it."""
    checked: bool
    """The target verified a checksum of everything that was sent to it."""
    stated_in_part: bool = False
    """The source stated a checksum for some of its parts only."""
    parts: int = 0
    bytes_moved: int = 0
    changes: frozenset[AttributeChange] = frozenset()
    """How the attributes that were written differ from the source's."""
    guard: Guard | None = None
    """What kept the write from replacing anything else; None if nothing stood there."""


def landed_receipt(
    entry: ObjectEntry,
    attempt: int,
    evidence: LandingEvidence,
    outcome: Outcome = Outcome.TRANSFERRED,
) -> Receipt:
    """Return the receipt of an entry that is at the target, at the level the evidence supports."""
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
        changes=",".join(sorted(evidence.changes)) or None,
        delta=entry.delta,
        guard=evidence.guard,
    )


def deleted_receipt(
    entry: ObjectEntry, attempt: int, deleted: Deleted | None, guard: Guard
) -> Receipt:
    """Return the receipt of an entry whose object is not at the target any more.

    `deleted` is None if it was gone already.
    """
    return Receipt(
        row=entry.row,
        key=entry.key,
        target_key=entry.target_key,
        outcome=Outcome.DELETED,
        size=entry.size,
        source_etag=entry.etag,
        source_version=entry.version_id,
        target_etag=entry.replaces,
        target_version=None if deleted is None else deleted.version_id,
        attempt=attempt,
        finished_ms=int(time.time() * 1000),
        delta=entry.delta,
        guard=None if deleted is None else guard,
    )


def reached_level(evidence: LandingEvidence) -> tuple[Level, str | None]:
    """Return the level that the evidence supports, and the reason if that is not `chained`.

    The level is never rounded up.
    """
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


def failure_of(error: Exception) -> NoriaError:
    """Return what ended one entry, so that it ends no other: any error is that entry's failure.

    An error that nobody expected is EntryBroken, with its type and place: its own message may hold
    a name or a value. Raises `error` again if it concerns more than an entry: Fatal, Stopped, and
    want of memory.
    """
    if isinstance(error, Skippable | Retryable):
        return error
    if isinstance(error, NoriaError | Stopped | MemoryError):
        raise error
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
    log.error("an entry failed: %s at %s", type(error).__name__, " > ".join(places))
    return EntryBroken(
        f"unexpected {type(error).__name__} (at {places[-1] if places else 'an unknown place'}): "
        "report it; all other objects went on"
    )


def failed_receipt(entry: ObjectEntry, attempt: int, error: NoriaError) -> Receipt:
    """Return the receipt of an entry that did not land."""
    outcome = Outcome.FAILED
    if isinstance(error, SourceChanged):
        outcome = Outcome.SOURCE_CHANGED
    elif isinstance(error, SourceMissing):
        outcome = Outcome.SOURCE_MISSING
    elif isinstance(error, TargetKept):
        outcome = Outcome.SKIPPED
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
        delta=entry.delta,
    )


def skipped_receipt(entry: ObjectEntry, attempt: int) -> Receipt:
    """Return the receipt of an entry that the plan does not move."""
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
        delta=entry.delta,
    )
