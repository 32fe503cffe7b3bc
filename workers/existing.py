"""Looking: what stands at the source and at the target, and whether it is what it should be."""

from __future__ import annotations

from dataclasses import replace

from noria.manifests.errors import SourceChanged, SourceMissing, TargetConflict
from noria.manifests.model import ObjectEntry, Outcome, Receipt
from noria.workers.context import Stopped, TransferContext, read_step, step
from noria.workers.digest import PartDigest
from noria.workers.stores.protocol import ObjectHead, SourceStore, Written
from noria.workers.verification import moved_receipt


def pin_source(context: TransferContext, entry: ObjectEntry) -> ObjectHead:
    """The source's head, pinned to the planned ETag; refuses another size."""
    head = step(
        context,
        "source",
        "head",
        lambda: context.source.read_range(
            context.source_name(entry),
            offset=0,
            into=memoryview(b""),
            etag=entry.etag,
            version_id=entry.version_id,
        ),
    )
    if head.size != entry.size:
        raise SourceChanged("the source has another size than planned", key=entry.key)
    return head


def look(context: TransferContext, entry: ObjectEntry) -> ObjectHead | None:
    return step(context, "target", "head", lambda: context.target.head(context.target_name(entry)))


def settle(context: TransferContext, entry: ObjectEntry, crc64nvme: int) -> ObjectHead | None:
    """After a write of unknown outcome: what stands there, if it is ours and whole; None if nothing
    does.

    Raises TargetConflict where something else stands there.
    """
    head = look(context, entry)
    if head is not None:
        accept(context, entry, head, crc64nvme)
    return head


def accept(
    context: TransferContext, entry: ObjectEntry, head: ObjectHead, crc64nvme: int
) -> Written:
    """What stands there as a write of ours, by this attempt or an earlier one. Raises
    TargetConflict where it is not ours, or not whole."""
    whole = head.size == entry.size and head.crc64nvme in (None, crc64nvme)
    if not context.is_ours(head, entry) or not whole:
        raise TargetConflict(
            "another object stands at the target: move it away, then plan it anew",
            key=entry.key,
        )
    return Written(etag=head.etag, version_id=head.version_id, crc64nvme=head.crc64nvme)


def compare_present(
    context: TransferContext, entry: ObjectEntry, existing: ObjectHead, attempt: int
) -> Receipt:
    """What to say of an object that stands at the target already: equal, or a conflict. Writes
    nothing.

    Equal means the target's own CRC64NVME is that of the source's bytes as read now; a target that
    states none is read back, by this worker, which is worth no more than `counted`.
    """
    if existing.size != entry.size:
        raise TargetConflict(
            "an object of another size stands at the target: move it away, then plan it anew",
            key=entry.key,
        )
    head = pin_source(context, entry)
    digest = _hash(context, entry, context.source, context.source_name(entry), head.etag)
    crc64nvme, chunks = digest.crc64nvme, digest.chunks()
    if head.crc64nvme is None:
        head = replace(head, crc64nvme=digest.stated_crc64nvme)
    if existing.crc64nvme is not None:
        equal = existing.crc64nvme == crc64nvme
        written = Written(
            etag=existing.etag, version_id=existing.version_id, crc64nvme=existing.crc64nvme
        )
    else:
        name = context.target_name(entry)
        try:
            equal = chunks == _hash(context, entry, context.target, name, existing.etag).chunks()
        except (SourceChanged, SourceMissing):  # as the target's read says it
            equal = False
        written = Written(etag=existing.etag, version_id=existing.version_id)
    if not equal:
        raise TargetConflict(
            "another object stands at the target: move it away, then plan it anew",
            key=entry.key,
        )
    receipt = moved_receipt(
        context,
        entry,
        attempt,
        written=written,
        crc64nvme=crc64nvme,
        chunks=chunks,
        source=head,
        bytes_moved=0,
        checked_parts=False,
    )
    ours = context.is_ours(existing, entry)
    return replace(
        receipt,
        outcome=Outcome.TRANSFERRED if ours else Outcome.ALREADY_PRESENT,
        txid=existing.txid,
    )


def _hash(
    context: TransferContext, entry: ObjectEntry, store: SourceStore, name: str, etag: str
) -> PartDigest:
    """That of a whole object as a store serves it now."""
    role = "source" if store is context.source else "target"
    version = entry.version_id if role == "source" else None
    digest = PartDigest(context.options.chunk_bytes)
    with context.buffers.take(min(entry.size, context.options.range_bytes)) as buffer:
        for offset in range(0, entry.size, max(1, len(buffer))):
            view = buffer[: min(len(buffer), entry.size - offset)]
            if context.stopping.is_set():
                raise Stopped
            head = read_step(
                context,
                role,
                lambda offset=offset, view=view: store.read_range(  # type: ignore[misc]
                    name, offset=offset, into=view, etag=etag, version_id=version
                ),
            )
            digest.update(view)
            digest.add_stated(head.range_crc64nvme, len(view))
    return digest
