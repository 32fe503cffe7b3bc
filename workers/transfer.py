"""THE HEART: one object, from the source's bytes to a verified receipt.

    small lane   transfer_object          one GET, one PUT
    bulk lane    open_upload              pin the source, open or resume the multipart upload
                 send_part                range(s) -> chunk hashes and CRC -> part; the unit of
                 retry
                 complete_upload          combine, complete, settle by looking

Every range is read with If-Match on the planned ETag. The checksum is taken once, from the bytes as
they came from the source, and travels: the part goes out with it, the whole is combined from the
parts, and the target's own word for the whole is compared with it. A write whose outcome is unknown
is settled by looking at the target: our transfer id, the size, the checksum; never by hope, and
never by "an object is there".

Functions here hold no state between calls and may be repeated at any point; what must be remembered
is journalled by shard.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from noria.manifests.counters import Counter
from noria.manifests.errors import (
    DigestRefused,
    NoriaError,
    OutcomeUnknown,
    SourceChanged,
    TargetConflict,
    TargetRefused,
    UploadLost,
)
from noria.manifests.model import (
    Attributes,
    ObjectEntry,
    Part,
    PartRecord,
    Receipt,
    Upload,
)
from noria.workers.context import RetryState, Stopped, TransferContext, read_step, step
from noria.workers.counters import Sent
from noria.workers.digest import PartDigest, combine_parts
from noria.workers.existing import accept, compare_present, look, pin_source, settle
from noria.workers.part import is_streamed, refuse_flipped, send_buffered, send_streamed
from noria.workers.stores.protocol import Checksum, ObjectHead, Written
from noria.workers.verification import moved_receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenUpload:
    """A multipart upload that is ready to take parts."""

    upload: Upload
    attributes: Attributes
    source_crc64nvme: int | None
    source_version: str | None
    kept: Mapping[int, PartRecord]
    """Parts that are journalled and that the target still holds."""


def transfer_object(context: TransferContext, entry: ObjectEntry, attempt: int) -> Receipt:
    """Move an object with one GET and one PUT. Raises Skippable, Fatal, Stopped, or Retryable past
    its budget."""
    if context.options.look_first:
        existing = look(context, entry)
        if existing is not None:
            return compare_present(context, entry, existing, attempt)
    with context.buffers.take(entry.size) as body:
        outcome = _move(context, entry, body, attempt)
    if isinstance(outcome, Receipt):
        return outcome
    # This takes a buffer of its own: so the first one is given back before.
    return compare_present(context, entry, outcome, attempt)


def open_upload(
    context: TransferContext,
    entry: ObjectEntry,
    attempt: int,
    part_bytes: int,
    *,
    earlier: Upload | None = None,
    acknowledged: Mapping[int, PartRecord] | None = None,
    on_created: Callable[[Upload], Upload] = lambda upload: upload,
) -> OpenUpload | Receipt:
    """Pin the source and open a multipart upload, or go on with an earlier one.

    `on_created` journals a new upload before its first part; where it returns another upload than
    the one it was given (someone else's came first), that one is used and ours is aborted. A
    Receipt comes back where the target already holds the object. Raises UploadLost where an upload
    that must be resumed is gone and the object has not landed.
    """
    head = pin_source(context, entry)
    if earlier is None and context.options.look_first:
        existing = look(context, entry)
        if existing is not None:
            return compare_present(context, entry, existing, attempt)
    attributes = _attributes(context, entry, head)
    upload = earlier
    if upload is None:
        upload = _create_upload(context, entry, attempt, part_bytes, attributes, head.etag)
        existing_upload = on_created(upload)
        if existing_upload != upload:
            _abort(context, entry, upload)
            upload = existing_upload
    if upload.etag != head.etag:
        raise SourceChanged("the source changed since its upload was opened", key=entry.key)
    kept: Mapping[int, PartRecord] = {}
    if acknowledged:
        held = _still_held(context, entry, upload, acknowledged)
        if held is None or len(held) < len(acknowledged):
            # What makes an object of an upload takes its parts away, and the receipt may be lost.
            existing = look(context, entry)
            if existing is not None and context.is_ours(existing, entry):
                return compare_present(context, entry, existing, attempt)
        if held is None:
            raise UploadLost("the upload of an earlier attempt is gone", key=entry.key)
        kept = held
    return OpenUpload(
        upload=upload,
        attributes=attributes,
        source_crc64nvme=entry.crc64nvme if entry.crc64nvme is not None else head.crc64nvme,
        source_version=head.version_id,
        kept=kept,
    )


def send_part(
    context: TransferContext, entry: ObjectEntry, upload: Upload, part: Part
) -> tuple[PartRecord, int]:
    """Read one part's bytes, hash them, send them; also says how many bytes were sent for it.
    Raises as transfer_object, and UploadLost."""
    send = send_streamed if is_streamed(context, part) else send_buffered
    retry_state = RetryState(context)
    sent = Sent(context.counters)
    while True:
        try:
            record = send(context, entry, upload, part, sent)
            context.counters.add(Counter.PARTS)
            return record, sent.bytes
        except (DigestRefused, OutcomeUnknown) as error:
            retry_state.again(error)


def complete_upload(
    context: TransferContext,
    entry: ObjectEntry,
    attempt: int,
    opened: OpenUpload,
    parts: Sequence[PartRecord],
    *,
    bytes_moved: int,
) -> Receipt:
    """Make the object out of its parts and settle that it stands. `parts` in order, all of them.

    Raises UploadLost where the upload is gone and the object has not landed; DigestRefused where
    the target's word for the whole differs from what was read.
    """
    crc64nvme, chunks = combine_parts(parts)
    source_crc64nvme = opened.source_crc64nvme
    refuse_flipped(entry, source_crc64nvme, crc64nvme)
    if source_crc64nvme is None and all(part.stated for part in parts):
        source_crc64nvme = crc64nvme
    existing = _complete(context, entry, opened, parts, crc64nvme)
    if existing.txid != opened.upload.txid and existing.crc64nvme is None:
        return compare_present(context, entry, existing, attempt)
    return moved_receipt(
        context,
        entry,
        attempt,
        written=accept(context, entry, existing, crc64nvme),
        crc64nvme=crc64nvme,
        chunks=chunks,
        source=ObjectHead(
            size=entry.size,
            etag=opened.upload.etag,
            version_id=opened.source_version,
            crc64nvme=source_crc64nvme,
        ),
        bytes_moved=bytes_moved,
        checked_parts=all(part.checked for part in parts),
        stated_parts=sum(part.stated for part in parts),
        parts=len(parts),
        txid=existing.txid,
    )


def _move(
    context: TransferContext, entry: ObjectEntry, body: memoryview, attempt: int
) -> Receipt | ObjectHead:
    """The receipt of an object that landed, or what stands in its place and has to be compared."""
    retry_state = RetryState(context)
    sent = Sent(context.counters)
    while True:
        head, digest = _read_whole(context, entry, body)
        attributes = _attributes(context, entry, head)
        existing: ObjectHead | None = None
        try:
            written = _put(context, entry, body, attributes, digest.crc64nvme, attempt, sent)
        except DigestRefused as error:
            retry_state.again(error)
            continue
        except (OutcomeUnknown, TargetConflict) as error:
            existing = look(context, entry)
            if existing is None:
                retry_state.again(error)
                continue
            if not _known_by_checksum(context, entry, existing, attempt):
                return existing
            written = accept(context, entry, existing, digest.crc64nvme)
        return moved_receipt(
            context,
            entry,
            attempt,
            written=written,
            crc64nvme=digest.crc64nvme,
            chunks=digest.chunks(),
            source=head,
            bytes_moved=sent.bytes,
            checked_parts=context.target.capabilities.checksum is not Checksum.NONE,
            txid=None if existing is None else existing.txid,
        )


def _known_by_checksum(
    context: TransferContext, entry: ObjectEntry, existing: ObjectHead, attempt: int
) -> bool:
    """True where what stands there is ours, and either of this attempt or told by its checksum: an
    earlier attempt may have read other bytes."""
    if not context.is_ours(existing, entry):
        return False
    this_attempt = existing.txid == context.transfer_id(entry, attempt)
    return this_attempt or existing.crc64nvme is not None


def _read_whole(
    context: TransferContext, entry: ObjectEntry, body: memoryview
) -> tuple[ObjectHead, PartDigest]:
    """Fill body with the object and hash it, again while the source's own CRC64 says the bytes are
    wrong."""
    name = context.source_name(entry)

    def read() -> tuple[ObjectHead, PartDigest]:
        digest = PartDigest(context.options.chunk_bytes)
        head = context.source.read_object(
            name,
            into=body,
            etag=entry.etag,
            version_id=entry.version_id,
            on_bytes=digest.update,
        )
        context.counters.add(Counter.BYTES_READ, by=entry.size)
        for stated in (head.crc64nvme, entry.crc64nvme):
            refuse_flipped(entry, stated, digest.crc64nvme)
        if head.crc64nvme is None and entry.crc64nvme is not None:
            head = replace(head, crc64nvme=entry.crc64nvme)
        return head, digest

    return read_step(context, "source", read)


def _put(
    context: TransferContext,
    entry: ObjectEntry,
    body: memoryview,
    attributes: Attributes,
    crc64nvme: int,
    attempt: int,
    sent: Sent,
) -> Written:
    def put() -> Written:
        sent.add(len(body))
        return context.target.put_object(
            context.target_name(entry),
            body,
            attributes=attributes,
            txid=context.transfer_id(entry, attempt),
            crc64nvme=crc64nvme,
        )

    written = step(context, "target", "put", put)
    if written.crc64nvme not in (None, crc64nvme):
        raise TargetRefused(
            "the target says it stored other bytes than were sent: look at it before anything else",
            key=entry.key,
        )
    return written


def _attributes(context: TransferContext, entry: ObjectEntry, head: ObjectHead) -> Attributes:
    """What travels with the object; tags cost a request, so only where the source announces
    some."""
    if head.tag_count == 0:
        return head.attributes
    tags = step(
        context,
        "source",
        "tags",
        lambda: context.source.read_tags(context.source_name(entry), version_id=entry.version_id),
    )
    return replace(head.attributes, tags=tags)


def _create_upload(
    context: TransferContext,
    entry: ObjectEntry,
    attempt: int,
    part_bytes: int,
    attributes: Attributes,
    etag: str,
) -> Upload:
    txid = context.transfer_id(entry, attempt)
    upload_id = step(
        context,
        "target",
        "create_upload",
        lambda: context.target.create_upload(
            context.target_name(entry), attributes=attributes, txid=txid, size=entry.size
        ),
    )
    return Upload(row=entry.row, upload_id=upload_id, txid=txid, part_bytes=part_bytes, etag=etag)


def _abort(context: TransferContext, entry: ObjectEntry, upload: Upload) -> None:
    name = context.target_name(entry)
    step(context, "target", "abort", lambda: context.target.abort_upload(name, upload.upload_id))


def abandon_upload(context: TransferContext, entry: ObjectEntry, upload: Upload) -> None:
    """Drop an upload whose object will not be made. Where that fails the upload stays open, and is
    counted and remembered."""
    try:
        _abort(context, entry, upload)
    except (NoriaError, Stopped):
        context.counters.add(Counter.ERRORS, "abort_failed")
        context.on_left_open()


def _still_held(
    context: TransferContext,
    entry: ObjectEntry,
    upload: Upload,
    acknowledged: Mapping[int, PartRecord],
) -> dict[int, PartRecord] | None:
    """Of the journalled parts, those that the target lists with the same size and ETag. None where
    the upload is gone."""
    name = context.target_name(entry)
    listed = step(
        context, "target", "list_parts", lambda: context.target.list_parts(name, upload.upload_id)
    )
    if listed is None:
        return None
    return {
        number: part
        for number, part in acknowledged.items()
        if listed.get(number) == (part.size, part.etag)
    }


def _complete(
    context: TransferContext,
    entry: ObjectEntry,
    opened: OpenUpload,
    parts: Sequence[PartRecord],
    crc64nvme: int,
) -> ObjectHead:
    """Complete, and return what stands there then: the whole object, by this upload or by an
    earlier one of ours."""
    name = context.target_name(entry)
    upload = opened.upload
    if not context.target.capabilities.if_absent:
        # Nothing but a look keeps Complete from replacing what came since the upload was opened.
        before = settle(context, entry, crc64nvme)
        if before is not None:
            abandon_upload(context, entry, upload)
            return before
    retry_state = RetryState(context)
    while True:
        try:
            written = step(
                context,
                "target",
                "complete",
                lambda: context.target.complete_upload(
                    name,
                    upload.upload_id,
                    parts,
                    size=entry.size,
                    crc64nvme=crc64nvme,
                    attributes=opened.attributes,
                    txid=upload.txid,
                ),
            )
            existing = settle(context, entry, crc64nvme)
            if existing is None:
                raise OutcomeUnknown("completed, yet nothing stands there", key=entry.key)
            return replace(existing, version_id=existing.version_id or written.version_id)
        except (OutcomeUnknown, UploadLost, TargetConflict) as error:
            existing = settle(context, entry, crc64nvme)
            if existing is not None:
                if existing.txid != upload.txid:
                    abandon_upload(context, entry, upload)
                return existing
            if isinstance(error, UploadLost):
                raise
            retry_state.again(error)
