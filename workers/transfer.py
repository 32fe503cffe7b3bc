"""THE HEART: one object, from the source's bytes to a verified receipt.

    small   move           one GET, one PUT
    bulk    open_upload    pin the source, open or resume the multipart upload
            send_part      read range(s), hash them, send a part; the unit of resending
            complete       combine the checksums, complete, look at the result

Every range is read with If-Match on the planned ETag. The checksum is computed once, from the bytes
as they come from the source. Each part is sent with it, the parts' checksums combine to that of the
whole object, and the target's own checksum of the whole is compared with the result.

If the outcome of a write is unknown, it is settled by looking at the target. The object counts as
ours only if its transfer id, its size and any checksum that the target states are right. That some
object is there proves nothing.

An entry of a later pass replaces the object that an earlier one left, known by its ETag, and no
other: the target compares it as it writes, or the store looks right before (protocol.py). If
somebody has deleted that object, the entry is written as a new one.

The stores retry single requests (stores/paced.py). This file retries a whole step, from its first
byte. Nothing is remembered between calls, and each call may be repeated at any point. The lease
journals what must be remembered.
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
    TagsDenied,
    TagsRefused,
    TargetConflict,
    TargetRefused,
    UploadLost,
)
from noria.manifests.model import (
    AttributeChange,
    ConflictPolicy,
    Guard,
    ObjectEntry,
    Part,
    PartRecord,
    Receipt,
    Treatment,
    Upload,
)
from noria.workers.carriage import Carriage
from noria.workers.context import Resends, TransferContext
from noria.workers.digest import PartDigest, combine_parts
from noria.workers.existing import Comparison, conflict_of, refuse_or_keep
from noria.workers.part import PartTransfer
from noria.workers.stores.paced import Stopped
from noria.workers.stores.protocol import Checksum, ObjectHead, Written
from noria.workers.verification import LandingEvidence, landed_receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenUpload:
    """A multipart upload that is ready for parts."""

    upload: Upload
    carriage: Carriage
    source_crc64nvme: int | None
    source_version: str | None
    kept: Mapping[int, PartRecord]
    """Parts that are in the journal and that the target still holds."""


@dataclass(frozen=True, slots=True)
class ObjectTransfer:
    """The transfer of one object in one attempt."""

    context: TransferContext
    entry: ObjectEntry
    attempt: int

    @property
    def source_name(self) -> str:
        return self.context.source_name(self.entry)

    @property
    def target_name(self) -> str:
        return self.context.target_name(self.entry)

    @property
    def txid(self) -> str:
        """The transfer id that this attempt stores with the object."""
        return self.context.transfer_id(self.entry, self.attempt)

    # -- one GET, one PUT --------------------------------------------------------------------------

    def compare_first(self) -> Receipt | None:
        """Return the receipt of an entry that stands as it was left, and is equal to the source.

        None: it has to be moved. Raises what reading either end raises.
        """
        existing = self.look()
        if existing is None or existing.etag != self.entry.replaces:
            return None
        try:
            return self._compare(existing)
        except TargetConflict:
            return None

    def move(self) -> Receipt:
        """Move the object with one GET and one PUT.

        If an object is at the target already that the entry does not replace, it is compared
        instead. Raises Skippable, Fatal, Stopped, or a Retryable whose budget is spent.
        """
        existing, replaces = self._look_first(), self.entry.replaces
        resends: Resends | None = None
        while True:
            if existing is None:
                with self.context.buffers.take(self.entry.size) as body:
                    moved = self._read_and_put(body, replaces)
                if isinstance(moved, Receipt):
                    return moved
                existing = moved
            # The comparison takes a buffer of its own, so ours must be back in the pool by now.
            try:
                return self._compare(existing)
            except TargetConflict as error:
                self._refuse_or_keep(existing, error)
                if resends is None:
                    resends = Resends(self.context)
                else:
                    resends.again(error)  # somebody writes there at this moment
                replaces, existing = existing.etag, None

    def _read_and_put(self, body: memoryview, replaces: str | None) -> Receipt | ObjectHead:
        """Return the receipt if the object landed, else the existing object to compare with.

        `replaces` is the ETag of what it replaces.
        """
        target = self.context.target.metered()
        ours = self.txid
        resends = Resends(self.context)
        refused_tags: TagsDenied | TagsRefused | None = None
        while True:
            head, digest = self._read_whole(body)
            carriage = self._carriage(head, refused_tags)
            txid: str | None = ours
            try:
                written = target.put_object(
                    self.target_name,
                    body,
                    attributes=carriage.attributes,
                    txid=ours,
                    crc64nvme=digest.crc64nvme,
                    replaces=replaces,
                )
                self._refuse_other_bytes(written, digest.crc64nvme)
            except (TagsDenied, TagsRefused) as error:
                refused_tags = error
                continue
            except DigestRefused as error:
                resends.again(error)
                continue
            except (OutcomeUnknown, TargetConflict) as error:
                existing = self.look()
                if existing is None and replaces is not None:
                    replaces = None  # somebody has deleted it
                    continue
                is_settled = existing is not None and self._is_settled_by(existing)
                if existing is None or (existing.etag == replaces and not is_settled):
                    resends.again(error)
                    continue
                if not is_settled:
                    return existing
                written, txid = self._accept(existing, digest.crc64nvme), existing.txid
            evidence = LandingEvidence(
                source=head,
                crc64nvme=digest.crc64nvme,
                chunk_bytes=self.context.options.chunk_bytes,
                chunks=digest.chunks(),
                written=written,
                txid=txid,
                checked=target.capabilities.checksum is not Checksum.NONE,
                bytes_moved=target.sent.total,
                changes=carriage.changes,
                guard=self.context.guard(replaces, of_upload=False),
            )
            return landed_receipt(self.entry, self.attempt, evidence)

    def _read_whole(self, body: memoryview) -> tuple[ObjectHead, PartDigest]:
        """Fill `body` with the object and hash it.

        Reads again if the bytes do not have the CRC64 that the source states.
        """
        resends = Resends(self.context)
        while True:
            try:
                return self._read_once(body)
            except DigestRefused as error:
                resends.again(error)

    def _read_once(self, body: memoryview) -> tuple[ObjectHead, PartDigest]:
        entry = self.entry
        digest = PartDigest(self.context.options.chunk_bytes)
        head = self.context.source.read_object(
            self.source_name,
            into=body,
            etag=entry.etag,
            version_id=entry.version_id,
            listener=digest,
        )
        self.context.counters.add(Counter.BYTES_READ, by=entry.size)
        self.context.check_stated_md5(entry, head, body)
        for stated in (head.crc64nvme, entry.crc64nvme):
            self.context.check_stated_crc(entry, stated, digest.crc64nvme)
        if head.crc64nvme is None and entry.crc64nvme is not None:
            head = replace(head, crc64nvme=entry.crc64nvme)
        return head, digest

    def _refuse_other_bytes(self, written: Written, crc64nvme: int) -> None:
        if written.crc64nvme not in (None, crc64nvme):
            raise TargetRefused(
                "the target states a checksum of other bytes than were sent: look at the object "
                "there before you run the job again",
                key=self.entry.key,
            )

    # -- a multipart upload ------------------------------------------------------------------------

    def open_upload(
        self,
        part_bytes: int,
        *,
        earlier: Upload | None = None,
        acknowledged: Mapping[int, PartRecord] | None = None,
        after_loss: bool = False,
        on_created: Callable[[Upload], Upload] = lambda upload: upload,
    ) -> OpenUpload | Receipt:
        """Pin the source and open a multipart upload, or resume an earlier one.

        `on_created` journals a new upload before its first part. If it returns another upload than
        the one it was given, another worker was first: that upload is used and ours is aborted.
        `after_loss` looks at the target first: an upload may be gone because it was completed.
        Returns a Receipt if the target already holds the object. Raises UploadLost if an upload
        that must be resumed is gone and the object has not landed.
        """
        entry = self.entry
        head = self.context.pin_source(entry)
        if earlier is None:
            existing = self.look() if after_loss else self._look_first()
            if existing is not None and not self._is_to_be_replaced(existing):
                try:
                    return self._compare(existing)
                except TargetConflict as error:
                    self._refuse_or_keep(existing, error)
        carriage = self._carriage(head)
        if earlier is None:
            try:
                upload = self._create_upload(part_bytes, carriage, head.etag, on_created)
            except (TagsDenied, TagsRefused) as error:
                carriage = self._carriage(head, error)
                upload = self._create_upload(part_bytes, carriage, head.etag, on_created)
        else:
            upload = earlier
        if upload.untagged:
            carriage = carriage.without_tags(AttributeChange.TAGS_REFUSED)
        if upload.etag != head.etag:
            raise SourceChanged(
                "the source changed after its upload was opened: plan again", key=entry.key
            )
        kept: Mapping[int, PartRecord] = {}
        if acknowledged:
            held = self._still_held(upload, acknowledged)
            if held is None or len(held) < len(acknowledged):
                # A completed upload has no parts left, and its receipt may have been lost.
                existing = self.look()
                if existing is not None and self.context.is_ours(existing, entry):
                    return self._compare(existing)
            if held is None:
                raise UploadLost(
                    "the upload of an earlier attempt is gone: start another one", key=entry.key
                )
            kept = held
        return OpenUpload(
            upload=upload,
            carriage=carriage,
            source_crc64nvme=entry.crc64nvme if entry.crc64nvme is not None else head.crc64nvme,
            source_version=head.version_id,
            kept=kept,
        )

    def needs_no_parts(self, *, after_loss: bool) -> bool:
        """Return True if what is at the target is to be compared before any part is sent.

        `after_loss`: an upload was lost, or what stands there was compared and is to be replaced.
        """
        existing = self.look()
        if existing is None or self._is_to_be_replaced(existing):
            return False
        gives_way = self.context.options.conflicts is ConflictPolicy.REPLACE or (
            self.context.is_unreceipted(existing.txid, self.entry)
        )
        return not (after_loss and gives_way) or self.context.is_ours(existing, self.entry)

    def settle_without_parts(self) -> Receipt:
        """Compare what is at the target, if no parts were sent because of it.

        Raises UploadLost if parts are needed after all, and what the comparison raises.
        """
        existing = self.look()
        if existing is None or self._is_to_be_replaced(existing):
            raise UploadLost(
                "the object at the target is gone again: start an upload", key=self.entry.key
            )
        try:
            return self._compare(existing)
        except TargetConflict as error:
            self._refuse_or_keep(existing, error)
            raise UploadLost(
                "the object at the target is to be replaced: start an upload", key=self.entry.key
            ) from error

    def send_part(self, upload: Upload, part: Part) -> tuple[PartRecord, int]:
        """Read, hash and send one part. Returns its record and the bytes that were sent for it.

        The bytes of repeated requests are included. Raises UploadLost, and what move() raises.
        """
        target = self.context.target.metered()
        transfer = PartTransfer(self.context, self.entry, upload, part, target)
        resends = Resends(self.context)
        while True:
            try:
                record = transfer.send()
                self.context.counters.add(Counter.PARTS)
                return record, target.sent.total
            except (DigestRefused, OutcomeUnknown) as error:
                resends.again(error)

    def complete(
        self, opened: OpenUpload, parts: Sequence[PartRecord], *, bytes_moved: int
    ) -> Receipt:
        """Complete the upload from all its `parts`, in order, and see that the object is there.

        Raises UploadLost if the upload is gone and the object has not landed, and DigestRefused if
        the source or the target states another checksum for the whole object.
        """
        crc64nvme, chunks = combine_parts(parts)
        stated = opened.source_crc64nvme
        self.context.check_stated_crc(self.entry, stated, crc64nvme)
        if stated is None and all(part.stated for part in parts):
            stated = crc64nvme
        try:
            existing, guard = self._complete_and_settle(opened, parts, crc64nvme)
        except (TagsDenied, TagsRefused) as error:
            opened = replace(opened, carriage=self._without_tags(opened.carriage, error))
            existing, guard = self._complete_and_settle(opened, parts, crc64nvme)
        if existing.txid != opened.upload.txid and existing.crc64nvme is None:
            return self._compare(existing)
        evidence = LandingEvidence(
            source=ObjectHead(
                size=self.entry.size,
                etag=opened.upload.etag,
                version_id=opened.source_version,
                crc64nvme=stated,
            ),
            crc64nvme=crc64nvme,
            chunk_bytes=self.context.options.chunk_bytes,
            chunks=chunks,
            written=self._accept(existing, crc64nvme),
            txid=existing.txid,
            checked=all(part.checked for part in parts),
            stated_in_part=any(part.stated for part in parts),
            parts=len(parts),
            bytes_moved=bytes_moved,
            changes=opened.carriage.changes,
            guard=guard,
        )
        return landed_receipt(self.entry, self.attempt, evidence)

    def abandon(self, upload: Upload) -> None:
        """Abort an upload that will not be completed.

        If that fails, the upload stays open; this is counted, and `on_left_open` is called.
        """
        try:
            self._abort(upload)
        except (NoriaError, Stopped):
            self.context.counters.add(Counter.ERRORS, "abort_failed")
            self.context.on_left_open()

    def _create_upload(
        self,
        part_bytes: int,
        carriage: Carriage,
        etag: str,
        on_created: Callable[[Upload], Upload],
    ) -> Upload:
        upload_id = self.context.target.create_upload(
            self.target_name,
            attributes=carriage.attributes,
            txid=self.txid,
            size=self.entry.size,
        )
        ours = Upload(
            row=self.entry.row,
            upload_id=upload_id,
            txid=self.txid,
            part_bytes=part_bytes,
            etag=etag,
            untagged=AttributeChange.TAGS_REFUSED in carriage.changes,
        )
        try:
            used = on_created(ours)
        except NoriaError:
            self.abandon(ours)  # nobody else knows of it
            raise
        if used != ours:
            self._abort(ours)
        return used

    def _abort(self, upload: Upload) -> None:
        self.context.target.abort_upload(self.target_name, upload.upload_id)

    def _still_held(
        self, upload: Upload, acknowledged: Mapping[int, PartRecord]
    ) -> dict[int, PartRecord] | None:
        """Return the journalled parts that the target lists with the same size and ETag.

        None if the upload is gone.
        """
        listed = self.context.target.list_parts(self.target_name, upload.upload_id)
        if listed is None:
            return None
        return {
            number: part
            for number, part in acknowledged.items()
            if listed.get(number) == (part.size, part.etag)
        }

    def _complete_and_settle(
        self, opened: OpenUpload, parts: Sequence[PartRecord], crc64nvme: int
    ) -> tuple[ObjectHead, Guard | None]:
        """Complete the upload and return the whole object that is at the target then.

        The object may come from an earlier upload of this job. The guard is what kept the
        completion from replacing anything but what the entry replaces.
        """
        upload, replaces = opened.upload, self.entry.replaces
        if replaces is None and not self.context.target.capabilities.atomic_complete:
            # If-None-Match does not hold for sure, so this look protects what has come meanwhile.
            before = self.look()
            if before is not None and self._is_whole_and_ours(before, crc64nvme):
                self.abandon(upload)
                return before, None
            if before is not None:
                self._refuse_or_keep(before, conflict_of(self.entry))
                replaces = before.etag
        resends = Resends(self.context)
        while True:
            try:
                written = self.context.target.complete_upload(
                    self.target_name,
                    upload.upload_id,
                    parts,
                    size=self.entry.size,
                    crc64nvme=crc64nvme,
                    attributes=opened.carriage.attributes,
                    txid=upload.txid,
                    replaces=replaces,
                )
                existing = self._settle(crc64nvme)
                if existing is None:
                    raise OutcomeUnknown(
                        "the upload was completed, but the object is not there",
                        key=self.entry.key,
                    )
                existing = replace(existing, version_id=existing.version_id or written.version_id)
                return existing, self.context.guard(replaces, of_upload=True)
            except (OutcomeUnknown, UploadLost, TargetConflict) as error:
                existing = self.look()
                if existing is not None and self._is_whole_and_ours(existing, crc64nvme):
                    if existing.txid != upload.txid:
                        self.abandon(upload)
                    return existing, self.context.guard(replaces, of_upload=True)
                if existing is None:
                    replaces = None  # if there was something to replace, somebody has deleted it
                elif existing.etag != replaces:
                    self._refuse_or_keep(existing, conflict_of(self.entry))
                    replaces = existing.etag
                if isinstance(error, UploadLost):
                    raise
                resends.again(error)

    # -- looking at the source and the target ------------------------------------------------------

    def _carriage(
        self, head: ObjectHead, refused_tags: TagsDenied | TagsRefused | None = None
    ) -> Carriage:
        """Return the attributes to write with the object, fitted to the target.

        `refused_tags` is the error by which the target has refused the object's tags.
        """
        carriage = self.context.carriage(self.entry, head, self.context.options.policy)
        if refused_tags is not None:
            carriage = self._without_tags(carriage, refused_tags)
        return carriage

    def _without_tags(self, carriage: Carriage, error: TagsDenied | TagsRefused) -> Carriage:
        """Return the carriage without the tags that the target refuses, if that is the policy.

        Else the error is raised: to try again would not change it.
        """
        policy = self.context.options.policy
        if policy.tags is Treatment.REFUSE or policy.lossless:
            raise error
        return carriage.without_tags(AttributeChange.TAGS_REFUSED)

    def look(self) -> ObjectHead | None:
        """Return the head of the object under the entry's name at the target, or None."""
        return self.context.target.head(self.target_name)

    def _look_first(self) -> ObjectHead | None:
        """Look at the target before anything is sent, if an object may be there.

        What the entry replaces is looked at as it is written.
        """
        is_asked = self.context.options.look_first and self.entry.replaces is None
        return self.look() if is_asked else None

    def _settle(self, crc64nvme: int) -> ObjectHead | None:
        """Look at the target after a write whose outcome is unknown.

        Returns the object if it is ours and whole, None if there is no object. Raises
        TargetConflict if any other object is there.
        """
        head = self.look()
        if head is not None:
            self._accept(head, crc64nvme)
        return head

    def _accept(self, head: ObjectHead, crc64nvme: int) -> Written:
        """Accept the object at the target as written by this attempt or an earlier one.

        Raises TargetConflict if it is not ours or not whole.
        """
        if not self._is_whole_and_ours(head, crc64nvme):
            raise conflict_of(self.entry)
        return Written(etag=head.etag, version_id=head.version_id, crc64nvme=head.crc64nvme)

    def _is_whole_and_ours(self, head: ObjectHead, crc64nvme: int) -> bool:
        whole = head.size == self.entry.size and head.crc64nvme in (None, crc64nvme)
        return whole and self.context.is_ours(head, self.entry)

    def _is_to_be_replaced(self, existing: ObjectHead) -> bool:
        """Return True if the object at the target is still the one that an earlier pass left.

        Ours of this pass may have its ETag: the same bytes, with other attributes.
        """
        is_left = self.entry.replaces is not None and existing.etag == self.entry.replaces
        return is_left and not self.context.is_ours(existing, self.entry)

    def _refuse_or_keep(self, existing: ObjectHead, error: TargetConflict) -> None:
        """Raise what an existing object that is not equal comes to: see refuse_or_keep()."""
        try:
            refuse_or_keep(self.context, self.entry, existing)
        except TargetConflict:
            raise error from None

    def _is_settled_by(self, existing: ObjectHead) -> bool:
        """Return True if the object at the target settles the outcome of our write.

        It must be ours. If an earlier attempt wrote it, it must state a checksum too, because that
        attempt may have read other bytes.
        """
        if not self.context.is_ours(existing, self.entry):
            return False
        return existing.txid == self.txid or existing.crc64nvme is not None

    def _compare(self, existing: ObjectHead) -> Receipt:
        return Comparison(self.context, self.entry, self.attempt).receipt_of(existing)
