"""Read landed objects back and compare them with their receipts, to reach the level `reread`.

Units are the rows of an OBJECTS shard, or the parts of a PARTS shard's only object. Large objects
are read in slices of a part, side by side. Every chunk is hashed as the target serves it now, and
compared with the digest of the source's bytes. Nothing is written to either store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.counters import Counter
from noria.manifests.errors import SourceChanged, SourceMissing
from noria.manifests.job.read_backs import ReadBacks
from noria.manifests.job.receipts import receipt_batch, receipts_of
from noria.manifests.job.results import read_result, write_receipts
from noria.manifests.job.seals import read_seals
from noria.manifests.model import (
    Lease,
    LeaseKind,
    LeaseResult,
    Level,
    Outcome,
    Receipt,
    ShardKind,
)
from noria.workers.digest import DIGEST_BYTES, PartDigest
from noria.workers.existing import StoredObject
from noria.workers.lease.lease import LeaseRun, WorkerResources
from noria.workers.verification import failure_of

_MESSAGES = {
    "damaged": "the bytes at the target are not those of the receipt",
    "target_missing": "the object is gone from the target",
    "target_changed": (
        "the object at the target was changed or replaced after this job wrote it: if the source "
        "is right, delete it at the target, then run `noria retry`"
    ),
}


class RereadRun(LeaseRun):
    """Reads the objects of a lease back, side by side."""

    def __init__(self, resources: WorkerResources, lease: Lease, read_backs: ReadBacks) -> None:
        super().__init__(resources, lease)
        self._read_backs = read_backs
        self._lock = threading.Lock()
        self._verdicts: dict[int, Receipt] = {}
        self._slices_left: dict[int, int] = {}
        """Of the rows that are read in several slices."""

    def work(self) -> LeaseResult:
        self._job = self._read_backs.of(self.lease.shard)
        for receipt, first_byte, end_byte in self._slices():
            self.tasks.submit(partial(self._check, receipt, first_byte, end_byte))
        self.tasks.wait_until_idle()
        return self.tasks.ended_early() if self.tasks.interrupted else self._finish()

    def _slices(self) -> Iterator[tuple[Receipt, int, int]]:
        """Yield what to read, in order: a receipt and the bytes [first, end) of its object."""
        if self._job.manifest.shard(self._job.shard).kind is ShardKind.PARTS:
            self.tasks.kind = LeaseKind.PARTS  # the scheduler walks all shards alike
            yield from self._slices_of_huge(next(self._receipts(0, 1), None))
            return
        for receipt in self._receipts(self.lease.first, self.lease.end):
            if not self.tasks.begin(receipt.row):
                return
            if not self._stands(receipt):
                self.tasks.count_done(0)
                continue
            fit = self._job.manifest.fit(receipt.size)
            self._slices_left[receipt.row] = max(1, fit.parts)
            for first_byte in range(0, max(1, receipt.size), fit.part_bytes):
                yield receipt, first_byte, min(receipt.size, first_byte + fit.part_bytes)

    def _slices_of_huge(self, receipt: Receipt | None) -> Iterator[tuple[Receipt, int, int]]:
        """The same of a PARTS shard. None: its object is not moved yet, and nothing is read."""
        for unit in range(self.lease.first, self.lease.end):
            if not self.tasks.begin(unit):
                return
            if receipt is None or not self._stands(receipt):
                self.tasks.count_done(0)
                continue
            part_bytes = self._job.manifest.fit(receipt.size).part_bytes
            yield receipt, unit * part_bytes, min(receipt.size, (unit + 1) * part_bytes)

    def _stands(self, receipt: Receipt) -> bool:
        """Whether its object should be there; a later pass may have replaced or deleted it."""
        return receipt.outcome.landed and receipt.row not in self._job.superseded

    def _receipts(self, first: int, end: int) -> Iterator[Receipt]:
        directory, shard = self._job.directory, self._job.shard
        for sealed in read_seals(directory, shard=shard):
            if sealed.kind is LeaseKind.PARTS:
                continue
            receipts = read_result(directory, sealed)
            if self._job.drawn is not None:
                drawn = pa.array(sorted(self._job.drawn), pa.int32())
                receipts = receipts.filter(pc.is_in(receipts["row"], value_set=drawn))
            for receipt in receipts_of(receipts):
                if first <= receipt.row < end:
                    yield _turned(receipt) if self._job.is_way_back else receipt

    def _check(self, receipt: Receipt, first_byte: int, end_byte: int) -> None:
        try:
            equal = self._equal(receipt, first_byte, end_byte)
            cause = None if equal else "damaged"
        except SourceMissing:
            cause = "target_missing"
        except SourceChanged:
            cause = "target_changed"
        except Exception as error:  # noqa: BLE001 - see failure_of
            failure = failure_of(error)
            self.leave_to_others(failure)
            cause = failure.cause
        verdict = replace(
            receipt,
            size=end_byte - first_byte,
            outcome=receipt.outcome if cause is None else Outcome.FAILED,
            level=Level.REREAD if cause is None else None,
            level_reason=None,
            cause=cause,
            message=None if cause is None else _MESSAGES.get(cause, "it could not be read back"),
            bytes_moved=0,
            attempt=self.lease.attempt,
            finished_ms=int(time.time() * 1000),
        )
        is_last = self._add_verdict(verdict)
        self.tasks.count_done(end_byte - first_byte, units=is_last)

    def _equal(self, receipt: Receipt, first_byte: int, end_byte: int) -> bool:
        assert receipt.chunks is not None, "what landed has digests"
        assert receipt.chunk_bytes is not None, "what landed has digests"
        context = self.context
        name = context.target_prefix + receipt.target_key
        stored = StoredObject(
            context,
            context.target,
            name,
            receipt.target_etag,
            receipt.size,
            counted_as=Counter.BYTES_REREAD,
        )
        if receipt.size == 0:
            stored.read(0, memoryview(b""))
        digest = PartDigest(receipt.chunk_bytes)
        stored.hash(first_byte, end_byte, digest)
        first_chunk = first_byte // receipt.chunk_bytes * DIGEST_BYTES
        found = digest.chunks()
        return found == receipt.chunks[first_chunk : first_chunk + len(found)]

    def _add_verdict(self, verdict: Receipt) -> bool:
        """Merge the verdicts on the slices of one object: sizes add up, and a failure wins.

        Returns True if it ends a unit: the last slice of a row, or any part of a PARTS shard.
        """
        with self._lock:
            left = self._slices_left[verdict.row] = self._slices_left.get(verdict.row, 1) - 1
            if left <= 0:
                del self._slices_left[verdict.row]
            known = self._verdicts.get(verdict.row)
            if known is not None:
                total = known.size + verdict.size
                worse = known if known.outcome is Outcome.FAILED else verdict
                verdict = replace(worse, size=total)
            self._verdicts[verdict.row] = verdict
            return left <= 0

    def _finish(self) -> LeaseResult:
        verdicts = sorted(self._verdicts.values(), key=lambda verdict: verdict.row)
        receipts = pa.Table.from_batches([receipt_batch(verdicts)])
        name = f"{self._read_backs.area}/{self.result_name()}"
        digest, summary = write_receipts(self.directory, name, receipts)
        return self.tasks.finished(name, digest, summary)


def _turned(receipt: Receipt) -> Receipt:
    """A receipt of a way back with its ends exchanged: it read what stands at this target."""
    return replace(
        receipt,
        key=receipt.target_key,
        target_key=receipt.key,
        source_etag=receipt.target_etag,
        source_version=receipt.target_version,
        target_etag=receipt.source_etag,
        target_version=receipt.source_version,
    )
