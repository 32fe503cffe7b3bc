"""One lease of a shard: its units side by side, journalled, ended by a result file.

A lease is worked on by one thread of its own, which walks the units and decides; the bytes are
moved on the lanes that all leases of a process share. What is done is journalled as it
happens, and a lease starts by reading what earlier attempts journalled, so that any of this may
stop at any line and be done again by another worker.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa

from noria.manifests.counters import Counter
from noria.manifests.errors import (
    DigestRefused,
    NoriaError,
    Retryable,
    Skippable,
    SourceChanged,
    SourceMissing,
    UploadLost,
)
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.journals import (
    JournalState,
    encode_abandoned,
    encode_part,
    encode_upload,
    read_journals,
)
from noria.manifests.job.receipts import parts_of, receipt_batch
from noria.manifests.job.results import read_result, write_parts, write_receipts
from noria.manifests.job.seals import read_seals
from noria.manifests.job.uploads import read_upload, write_upload
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import (
    Lease,
    LeaseKind,
    LeaseResult,
    ObjectEntry,
    Part,
    PartRecord,
    Receipt,
    ReceiptSummary,
    Upload,
)
from noria.manifests.plan.parts import part_at
from noria.workers.context import TransferContext
from noria.workers.existing import Comparison
from noria.workers.lease.in_flight import TaskGroup
from noria.workers.lease.journal import Journal
from noria.workers.runtime.executors import Executors
from noria.workers.stores.paced import Stopped
from noria.workers.transfer import ObjectTransfer, OpenUpload
from noria.workers.verification import failed_receipt, skipped_receipt

log = logging.getLogger("noria.worker")

SOURCE_GONE = (SourceChanged, SourceMissing)
"""What ends a PARTS lease well: the ASSEMBLE lease finds the same, and says so once."""

UPLOAD_ROUNDS = 3
"""How many multipart uploads one lease opens for an object before the object has failed."""


@dataclass(slots=True)
class MovingObject:
    """A multipart object while its parts are in flight."""

    entry: ObjectEntry
    opened: OpenUpload
    parts: list[Part]
    round: int
    records: dict[int, PartRecord] = field(default_factory=dict)
    waiting: int = 0
    error: NoriaError | None = None
    sent_bytes: int = 0


class LeaseRun:
    """Works on one lease; run() blocks until it has ended and says how; `tasks` steers it
    meanwhile."""

    def __init__(
        self,
        directory: JobDirectory,
        manifest: Manifest,
        context: TransferContext,
        executors: Executors,
        lease: Lease,
    ) -> None:
        self.lease = lease
        self.tasks = TaskGroup(lease)
        self.journal = Journal(directory, lease.shard, lease.attempt)
        self._executors = executors
        self._directory = directory
        self._manifest = manifest
        self._context = context.for_lease(
            self.tasks.stopping, partial(directory.keep_journals, lease.shard)
        )
        self._lock = threading.Lock()
        self._again: deque[MovingObject] = deque()
        self._records: dict[int, PartRecord] = {}
        self._sent_bytes = 0

    def run(self) -> LeaseResult:
        work = {
            LeaseKind.OBJECTS: self._run_objects,
            LeaseKind.PARTS: self._run_parts,
            LeaseKind.ASSEMBLE: self._run_assemble,
        }[self.lease.kind]
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - told to the scheduler
            self.tasks.fail(error)
            self.tasks.wait_until_idle()
            result = self.tasks.ended_early()
        finally:
            self._close_journal()
        return result

    # -- OBJECTS: rows of a shard ------------------------------------------------------------------

    def _run_objects(self) -> LeaseResult:
        lease = self.lease
        state = read_journals(self._directory, lease.shard, lease.first, lease.end)
        done = state.rows()
        for entry in self._manifest.entries(lease.shard, lease.first, lease.end):
            if not self.tasks.begin(entry.row):
                break
            if entry.row in done:
                self.tasks.count_done(entry.size)
            elif entry.reason is not None:
                self._finish_entry(skipped_receipt(entry, lease.attempt), 0)
            elif self._manifest.fit(entry.size).parts == 0:
                self.tasks.submit(partial(self._move_whole, entry), self._executors.of(entry.size))
            else:
                self._begin_multipart(entry, state)
        self._finish_multiparts()
        if self.tasks.interrupted:
            return self.tasks.ended_early()
        return self._finish_objects()

    def _move_whole(self, entry: ObjectEntry) -> None:
        if self.tasks.stopping.is_set():
            raise Stopped
        try:
            receipt = self._transfer(entry).move()
        except (Skippable, Retryable) as error:
            receipt = failed_receipt(entry, self.lease.attempt, error)
        self._finish_entry(receipt, entry.size)

    def _begin_multipart(self, entry: ObjectEntry, state: JournalState, rounds: int = 1) -> None:
        try:
            opened = self._open(entry, state)
        except (Skippable, Retryable) as error:
            self._finish_entry(failed_receipt(entry, self.lease.attempt, error), entry.size)
            return
        if isinstance(opened, Receipt):
            self._finish_entry(opened, entry.size)
            return
        self._send_parts(entry, opened, rounds)

    def _open(self, entry: ObjectEntry, state: JournalState) -> OpenUpload | Receipt:
        """Go on with the journalled upload, or open another where there is none or it is gone."""
        open_one = partial(
            self._transfer(entry).open_upload,
            self._manifest.fit(entry.size).part_bytes,
            on_created=self._journal_upload,
        )
        earlier = state.uploads.get(entry.row)
        if earlier is not None:
            with contextlib.suppress(UploadLost):
                return open_one(earlier=earlier, acknowledged=state.parts.get(earlier.upload_id))
        return open_one()

    def _journal_upload(self, upload: Upload) -> Upload:
        self.journal.add(encode_upload(upload))
        self.journal.flush()
        return upload

    def _send_parts(self, entry: ObjectEntry, opened: OpenUpload, rounds: int) -> None:
        part_bytes = opened.upload.part_bytes
        count = -(-entry.size // part_bytes)
        parts = [part_at(entry.size, part_bytes, number) for number in range(1, count + 1)]
        todo = [part for part in parts if part.number not in opened.kept]
        moving = MovingObject(entry=entry, opened=opened, parts=parts, round=rounds)
        moving.records.update(opened.kept)
        moving.waiting = max(1, len(todo))
        if not todo:
            self.tasks.submit(partial(self._part_ended, moving), self._executors.bulk)
        for part in todo:
            self.tasks.submit(partial(self._move_part, moving, part), self._executors.bulk)

    def _move_part(self, moving: MovingObject, part: Part) -> None:
        try:
            if moving.error is None and not self.tasks.stopping.is_set():
                upload = moving.opened.upload
                record, sent_bytes = self._transfer(moving.entry).send_part(upload, part)
                self.journal.add(encode_part(upload.upload_id, record))
                with self._lock:
                    moving.records[part.number] = record
                    moving.sent_bytes += sent_bytes
        except (Skippable, Retryable) as error:
            moving.error = error
        self._part_ended(moving)

    def _part_ended(self, moving: MovingObject) -> None:
        with self._lock:
            moving.waiting -= 1
            if moving.waiting:
                return
        if moving.error is None and len(moving.records) < len(moving.parts):
            raise Stopped
        try:
            if moving.error is not None:
                raise moving.error
            records = [moving.records[part.number] for part in moving.parts]
            receipt = self._transfer(moving.entry).complete(
                moving.opened, records, bytes_moved=moving.sent_bytes
            )
        except (Skippable, Retryable) as error:
            self._multipart_failed(moving, error)
            return
        self._finish_entry(receipt, moving.entry.size)

    def _multipart_failed(self, moving: MovingObject, error: NoriaError) -> None:
        """The upload is of no more use; another one is tried where the object itself may still
        land."""
        entry, upload = moving.entry, moving.opened.upload
        self._transfer(entry).abandon(upload)
        self.journal.add(encode_abandoned(entry.row, upload.upload_id))
        lost = isinstance(error, UploadLost | DigestRefused)
        if lost and moving.round < UPLOAD_ROUNDS:
            with self._lock:
                self._again.append(moving)
        else:
            self._finish_entry(failed_receipt(entry, self.lease.attempt, error), entry.size)

    def _finish_multiparts(self) -> None:
        """Wait for everything in flight, and start again what lost its upload."""
        while True:
            self.tasks.wait_until_idle()
            if not self._again or self.tasks.interrupted:
                return
            moving = self._again.popleft()
            self._begin_multipart(moving.entry, JournalState(), moving.round + 1)

    def _finish_objects(self) -> LeaseResult:
        lease, end = self.lease, self.tasks.end
        self.journal.flush()
        receipts = read_journals(self._directory, lease.shard, lease.first, end).receipts
        assert len(receipts) == end - lease.first, "every row of a finished lease has a receipt"
        name = self._result_name()
        digest, summary = write_receipts(self._directory, name, receipts)
        return self.tasks.finished(name, digest, summary)

    # -- PARTS and ASSEMBLE: one huge object -------------------------------------------------------

    def _run_parts(self) -> LeaseResult:
        lease = self.lease
        (entry,) = self._manifest.entries(lease.shard, 0, 1)
        if self._stands_already(entry):
            return self._finish_parts([])  # the ASSEMBLE lease compares it, once
        try:
            opened = self._open_shared(entry)
        except SOURCE_GONE:
            return self._finish_parts([])  # the ASSEMBLE lease says what became of the object
        if isinstance(opened, Receipt):
            return self._finish_parts([])  # as above: it stands already
        for unit in range(lease.first, lease.end):
            if not self.tasks.begin(unit):
                break
            part = part_at(entry.size, opened.upload.part_bytes, unit + 1)
            kept = opened.kept.get(part.number)
            if kept is not None:
                self._records[part.number] = kept
                self.tasks.count_done(part.size)
            else:
                move = partial(self._move_segment_part, entry, opened.upload, part)
                self.tasks.submit(move, self._executors.bulk)
        self.tasks.wait_until_idle()
        if isinstance(self.tasks.failure, SOURCE_GONE):
            return self._finish_parts([])
        if self.tasks.interrupted:
            return self.tasks.ended_early()
        return self._finish_parts(list(self._records.values()))

    def _open_shared(self, entry: ObjectEntry) -> OpenUpload | Receipt:
        """The upload that all leases of this shard's generation feed."""
        lease = self.lease
        upload = read_upload(self._directory, lease.shard, lease.generation)
        state = read_journals(self._directory, lease.shard, 0, 1)
        context = replace(self._context, options=replace(self._context.options, look_first=False))
        return ObjectTransfer(context, entry, lease.attempt).open_upload(
            self._manifest.fit(entry.size).part_bytes,
            earlier=upload,
            acknowledged=state.parts.get(upload.upload_id) if upload else None,
            on_created=lambda upload: write_upload(
                self._directory, lease.shard, lease.generation, upload
            ),
        )

    def _move_segment_part(self, entry: ObjectEntry, upload: Upload, part: Part) -> None:
        if self.tasks.stopping.is_set():
            return
        record, sent_bytes = self._transfer(entry).send_part(upload, part)
        self.journal.add(encode_part(upload.upload_id, record))
        with self._lock:
            self._records[part.number] = record
            self._sent_bytes += sent_bytes
        self.tasks.count_done(part.size)

    def _stands_already(self, entry: ObjectEntry) -> bool:
        if not self._context.options.look_first:
            return False
        return self._context.find_existing(entry) is not None

    def _finish_parts(self, records: list[PartRecord]) -> LeaseResult:
        name = self._result_name()
        digest = write_parts(self._directory, name, records)
        part_bytes = sum(record.size for record in records)
        summary = ReceiptSummary(bytes_moved=self._sent_bytes, part_bytes=part_bytes)
        return self.tasks.finished(name, digest, summary)

    def _run_assemble(self) -> LeaseResult:
        lease = self.lease
        (entry,) = self._manifest.entries(lease.shard, 0, 1)
        try:
            receipt = self._assemble(entry)
        except UploadLost:
            raise
        except (Skippable, Retryable) as error:
            self._abandon_generation(entry)
            if isinstance(error, DigestRefused):
                raise UploadLost(error.message, key=entry.key) from error
            receipt = failed_receipt(entry, lease.attempt, error)
        name = self._result_name()
        receipts = pa.Table.from_batches([receipt_batch([receipt])])
        digest, summary = write_receipts(self._directory, name, receipts)
        self.tasks.count_done(0)
        return self.tasks.finished(name, digest, replace(summary, bytes_moved=0))

    def _abandon_generation(self, entry: ObjectEntry) -> None:
        upload = read_upload(self._directory, self.lease.shard, self.lease.generation)
        if upload is not None:
            self._transfer(entry).abandon(upload)

    def _assemble(self, entry: ObjectEntry) -> Receipt:
        lease, transfer = self.lease, self._transfer(entry)
        parts = self._sealed_parts()
        count = self._manifest.fit(entry.size).parts
        upload = read_upload(self._directory, lease.shard, lease.generation)
        if upload is None or len(parts) < count:
            self._context.pin_source(entry)
            existing = self._context.find_existing(entry)
            if existing is None:
                raise UploadLost("what stood at the target is gone", key=entry.key)
            self._abandon_generation(entry)
            return Comparison(self._context, entry, lease.attempt).receipt_of(existing)
        opened = transfer.open_upload(upload.part_bytes, earlier=upload)
        assert isinstance(opened, OpenUpload)
        records = [parts[number] for number in range(1, count + 1)]
        return transfer.complete(opened, records, bytes_moved=entry.size)

    def _sealed_parts(self) -> dict[int, PartRecord]:
        lease = self.lease
        return {
            part.number: part
            for sealed in read_seals(self._directory, shard=lease.shard)
            if sealed.kind is LeaseKind.PARTS and sealed.generation == lease.generation
            for part in parts_of(read_result(self._directory, sealed))
        }

    # -- shared by all kinds -----------------------------------------------------------------------

    def _transfer(self, entry: ObjectEntry) -> ObjectTransfer:
        return ObjectTransfer(self._context, entry, self.lease.attempt)

    def _finish_entry(self, receipt: Receipt, size: int) -> None:
        self.journal.add_receipt(receipt)
        self._context.counters.add(Counter.OBJECTS, receipt.outcome.value)
        self.tasks.count_done(size)

    def _result_name(self) -> str:
        lease = self.lease
        where = f"{lease.shard:08d}/{lease.kind}-{lease.first:08d}-{lease.attempt:018d}"
        return f"results/{where}.parquet"

    def _close_journal(self) -> None:
        try:
            self.journal.flush()
        except NoriaError:
            log.error("the journal of shard %d could not be written", self.lease.shard)
        self.journal.close()
