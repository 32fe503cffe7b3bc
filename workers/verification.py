"""From facts to receipts: what became of an entry, and at which level that is known."""

from __future__ import annotations

import time

from noria.manifests.errors import NoriaError, SourceChanged, SourceMissing
from noria.manifests.model import Level, ObjectEntry, Outcome, Receipt
from noria.workers.context import TransferContext
from noria.workers.digest import tree_root
from noria.workers.stores.protocol import ObjectHead, Written


def moved_receipt(
    context: TransferContext,
    entry: ObjectEntry,
    attempt: int,
    *,
    written: Written,
    crc64nvme: int,
    chunks: bytes,
    source: ObjectHead,
    bytes_moved: int,
    checked_parts: bool,
    stated_parts: int = 0,
    parts: int = 0,
    txid: str | None = None,
) -> Receipt:
    """The receipt of an entry that stands at the target, with the level the facts support."""
    level, reason = reached_level(
        source_crc=source.crc64nvme,
        read_crc=crc64nvme,
        target_crc=written.crc64nvme,
        checked_at_ingest=checked_parts,
        stated_in_part=stated_parts > 0,
    )
    return Receipt(
        row=entry.row,
        key=entry.key,
        target_key=entry.target_key,
        outcome=Outcome.TRANSFERRED,
        size=entry.size,
        level=level,
        level_reason=reason,
        source_etag=source.etag,
        source_version=source.version_id,
        target_etag=written.etag,
        target_version=written.version_id,
        txid=txid or context.transfer_id(entry, attempt),
        crc64nvme=crc64nvme,
        chunk_bytes=context.options.chunk_bytes,
        chunks=chunks,
        root=tree_root(entry.size, context.options.chunk_bytes, chunks),
        parts=parts,
        bytes_moved=bytes_moved,
        attempt=attempt,
        finished_ms=int(time.time() * 1000),
    )


def reached_level(
    *,
    source_crc: int | None,
    read_crc: int,
    target_crc: int | None,
    checked_at_ingest: bool,
    stated_in_part: bool = False,
) -> tuple[Level, str | None]:
    """The level that the facts support, and why it is not `chained`; never rounded up."""
    if source_crc not in (None, read_crc) or target_crc not in (None, read_crc):
        return Level.COUNTED, "the stated checksums differ"
    if target_crc is None and not checked_at_ingest:
        return Level.COUNTED, "the target verifies and states no checksum"
    if source_crc is None and stated_in_part:
        return Level.INGESTED, "the source stated no CRC64 of some parts"
    if source_crc is None:
        return Level.INGESTED, "the source states no CRC64"
    if target_crc is None:
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
