"""Compare an object that is at the target already with the source, instead of moving it.

The source is read and hashed. The target is read only if it does not state a checksum. Nothing is
written. An equal object gets a receipt; any other is a conflict, which a person has to settle, now
or beforehand by a policy for all conflicts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from noria.manifests.counters import Counter
from noria.manifests.errors import (
    DigestRefused,
    SourceChanged,
    SourceMissing,
    TargetConflict,
    TargetKept,
)
from noria.manifests.model import ConflictPolicy, ObjectEntry, Outcome, Receipt
from noria.workers.context import Resends, TransferContext
from noria.workers.digest import PartDigest
from noria.workers.stores.paced import PacedStore, Stopped
from noria.workers.stores.protocol import ObjectHead, Written
from noria.workers.verification import LandingEvidence, landed_receipt

CONFLICT = "another object is at the target under this name: move it away, then run `noria retry`"
OTHER_SIZE = (
    "an object of another size is at the target under this name: move it away, then run "
    "`noria retry`"
)
CHANGED = (
    "this job wrote the object at the target, and its bytes are not the source's any more: if the "
    "source is right, delete it at the target, then run `noria retry`"
)
NOT_AS_LEFT = (
    "what is at the target under this name is not what this migration left there: look who wrote "
    "it, move it away, then run `noria retry`"
)


def conflict_of(entry: ObjectEntry, text: str = CONFLICT) -> TargetConflict:
    """Return the error for an entry if what is at the target is not what it may replace.

    `text` is for an entry that replaces nothing.
    """
    return TargetConflict(text if entry.replaces is None else NOT_AS_LEFT, key=entry.key)


def refuse_or_keep(context: TransferContext, entry: ObjectEntry, existing: ObjectHead) -> None:
    """Raise TargetKept if the object at the target is to be kept, by policy, TargetConflict if not.

    Return if it is to be replaced all the same. What a transfer of this job wrote is never kept: it
    is damaged, or of another source. What an earlier pass wrote without a receipt gives way.
    """
    policy = context.options.conflicts
    if policy is ConflictPolicy.REPLACE or context.is_unreceipted(existing.txid, entry):
        return
    if policy is ConflictPolicy.KEEP and not context.is_ours(existing, entry):
        raise TargetKept(
            "another object is at the target under this name, and is kept", key=entry.key
        )
    raise conflict_of(entry)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of one entry with the object at the target, in one attempt."""

    context: TransferContext
    entry: ObjectEntry
    attempt: int

    def receipt_of(self, existing: ObjectHead) -> Receipt:
        """Return the receipt of an equal object; raise TargetConflict if it is not equal.

        Equal means that the target states the CRC64NVME of the source's bytes as they are read now.
        If the target states none, this worker reads the object back and compares the digests; that
        alone supports no higher level than `counted`. Reading errors of both ends are raised too.
        """
        context, entry = self.context, self.entry
        if context.is_unreceipted(existing.txid, entry):
            raise conflict_of(entry)  # even if its bytes are right: its attributes may be old
        ours = context.is_ours(existing, entry)
        if existing.size != entry.size:
            raise conflict_of(entry, CHANGED if ours else OTHER_SIZE)
        source = context.pin_source(entry)
        digest = self._hash_source(source.etag)
        crc64nvme, chunks = digest.crc64nvme, digest.chunks()
        if existing.crc64nvme is not None:
            equal = existing.crc64nvme == crc64nvme
        else:
            equal = self._hash_target(existing.etag) == chunks
        if not equal:
            raise conflict_of(entry, CHANGED if ours else CONFLICT)
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
            # What an attempt of this job wrote differs as the policy says, but was not refused.
            changes=(
                context.carriage(entry, source, context.options.policy.without_refusals()).changes
                if ours
                else frozenset()
            ),
            guard=context.guard(entry.replaces, of_upload=True) if ours else None,
        )
        outcome = Outcome.TRANSFERRED if ours else Outcome.ALREADY_PRESENT
        return landed_receipt(entry, self.attempt, evidence, outcome)

    def _hash_source(self, etag: str) -> PartDigest:
        context, entry = self.context, self.entry
        name = context.source_name(entry)
        return self._hash(
            StoredObject(context, context.source, name, etag, entry.size, entry.version_id)
        )

    def _hash_target(self, etag: str) -> bytes | None:
        """Return the digests of the target's chunks; None if the object has changed or is gone."""
        context, entry = self.context, self.entry
        name = context.target_name(entry)
        try:
            return self._hash(
                StoredObject(context, context.target, name, etag, entry.size)
            ).chunks()
        except (SourceChanged, SourceMissing):  # here the target is the one that is read
            return None

    def _hash(self, stored: StoredObject) -> PartDigest:
        digest = PartDigest(self.context.options.chunk_bytes)
        stored.hash(0, stored.size, digest)
        return digest


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in a store, with the size and ETag that it should have."""

    context: TransferContext
    store: PacedStore
    name: str
    etag: str | None
    size: int
    version_id: str | None = None
    counted_as: Counter | None = None
    """The counter that grows with each byte read; None: no counter."""

    def hash(self, first: int, end: int, digest: PartDigest) -> None:
        """Read the bytes [first, end) through one buffer and add them to `digest`.

        Raises Stopped between two ranges if the lease is handed back, and what read() raises.
        """
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
        """Fill `into` from `offset` on; read again if the bytes do not have the stated checksum.

        Raises SourceChanged if the object has another size than expected.
        """
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
                raise SourceChanged("the object has another size now: plan again")
            return head
