"""The second, read-only transfer: an object that is at the target already is compared, not moved.

Both ends are read and hashed, as far as they do not state a checksum; nothing is written. What is
equal gets a receipt; anything else is a conflict, which a person settles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from noria.manifests.counters import Counter
from noria.manifests.errors import DigestRefused, SourceChanged, SourceMissing, TargetConflict
from noria.manifests.model import ObjectEntry, Outcome, Receipt
from noria.workers.context import Resends, TransferContext
from noria.workers.digest import PartDigest
from noria.workers.stores.paced import PacedStore, Stopped
from noria.workers.stores.protocol import ObjectHead, Written
from noria.workers.verification import LandingEvidence, landed_receipt

CONFLICT = "another object stands at the target: move it away, then plan it again"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One entry and what is in its place at the target, in one attempt."""

    context: TransferContext
    entry: ObjectEntry
    attempt: int

    def receipt_of(self, existing: ObjectHead) -> Receipt:
        """Raises TargetConflict if the object is not equal, and what reading either end raises.

        Equal means the target's own CRC64NVME is that of the source's bytes as read now; a target
        that states none is read back, by this worker, which is worth no more than `counted`.
        """
        context, entry = self.context, self.entry
        if existing.size != entry.size:
            raise TargetConflict(
                "an object of another size stands at the target: move it away, then plan it again",
                key=entry.key,
            )
        source = context.pin_source(entry)
        digest = self._hash_source(source.etag)
        crc64nvme, chunks = digest.crc64nvme, digest.chunks()
        if existing.crc64nvme is not None:
            equal = existing.crc64nvme == crc64nvme
        else:
            equal = self._hash_target(existing.etag) == chunks
        if not equal:
            raise TargetConflict(CONFLICT, key=entry.key)
        if source.crc64nvme is None:
            source = replace(source, crc64nvme=digest.stated_crc64nvme)
        evidence = LandingEvidence(
            source=source,
            crc64nvme=crc64nvme,
            chunk_bytes=context.options.chunk_bytes,
            chunks=chunks,
            written=Written(
                etag=existing.etag, version_id=existing.version_id, crc64nvme=existing.crc64nvme
            ),
            txid=existing.txid,
            checked=False,
        )
        ours = context.is_ours(existing, entry)
        outcome = Outcome.TRANSFERRED if ours else Outcome.ALREADY_PRESENT
        return landed_receipt(entry, self.attempt, evidence, outcome)

    def _hash_source(self, etag: str) -> PartDigest:
        context, entry = self.context, self.entry
        name = context.source_name(entry)
        return self._hash(
            StoredObject(context, context.source, name, etag, entry.size, entry.version_id)
        )

    def _hash_target(self, etag: str) -> bytes | None:
        """The digests of the target's chunks; None if the object has changed or gone meanwhile."""
        context, entry = self.context, self.entry
        name = context.target_name(entry)
        try:
            return self._hash(
                StoredObject(context, context.target, name, etag, entry.size)
            ).chunks()
        except (SourceChanged, SourceMissing):  # as the target's read says it
            return None

    def _hash(self, stored: StoredObject) -> PartDigest:
        digest = PartDigest(self.context.options.chunk_bytes)
        stored.hash(0, stored.size, digest)
        return digest


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a store serves it now, of the size that it should have."""

    context: TransferContext
    store: PacedStore
    name: str
    etag: str | None
    size: int
    version_id: str | None = None
    counted_as: Counter | None = None
    """What grows with each byte that is read; None: nothing."""

    def hash(self, first: int, end: int, digest: PartDigest) -> None:
        """Add the bytes [first, end), through one buffer. Raises Stopped between two ranges, and as
        read()."""
        range_bytes = self.context.options.range_bytes
        with self.context.buffers.take(min(end - first, range_bytes)) as buffer:
            for offset in range(first, end, max(1, len(buffer))):
                if self.context.stopping.is_set():
                    raise Stopped
                view = buffer[: min(len(buffer), end - offset)]
                head = self.read(offset, view)
                digest.update(view)
                digest.add_stated(head.range_crc64nvme, len(view))
                if self.counted_as is not None:
                    self.context.counters.add(self.counted_as, by=len(view))

    def read(self, offset: int, into: memoryview) -> ObjectHead:
        """Read a range, again if the store says that what came are not its bytes. Raises
        SourceChanged for another size."""
        resends = Resends(self.context)
        while True:
            try:
                head = self.store.read_range(
                    self.name,
                    offset=offset,
                    into=into,
                    etag=self.etag,
                    version_id=self.version_id,
                )
            except DigestRefused as error:
                resends.again(error)
                continue
            if head.size != self.size:
                raise SourceChanged("it has another size now: plan again")
            return head
