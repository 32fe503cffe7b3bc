"""OBJECTS: move rows of a shard, small objects by one GET and one PUT, larger ones in parts.

A row of an object that the source no longer has is deleted at the target.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from noria.manifests.errors import DigestRefused, NoriaError, UploadLost
from noria.manifests.job.journals import (
    EarlierUpload,
    encode_abandoned,
    encode_part,
    encode_upload,
    read_journals,
)
from noria.manifests.job.results import write_receipts
from noria.manifests.model import (
    Delta,
    Lease,
    LeaseResult,
    ObjectEntry,
    Part,
    PartRecord,
    Receipt,
    Upload,
)
from noria.manifests.plan.parts import part_at
from noria.workers.deletion import Deletion
from noria.workers.lease.lease import LeaseRun, WorkerResources
from noria.workers.runtime.greenlets import apart
from noria.workers.stores.paced import Stopped
from noria.workers.transfer import ObjectTransfer, OpenUpload
from noria.workers.verification import failed_receipt, failure_of, skipped_receipt

UPLOAD_ROUNDS = 3
"""Multipart uploads that one lease opens for an object before the object counts as failed."""


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


def _equal_already(transfer: ObjectTransfer) -> Receipt | None:
    """The receipt of an entry whose bytes were to be compared, and are equal."""
    return transfer.compare_first() if transfer.entry.delta is Delta.CONTENT else None


class ObjectsRun(LeaseRun):
    """Moves the objects of a lease side by side."""

    def __init__(self, resources: WorkerResources, lease: Lease) -> None:
        super().__init__(resources, lease)
        self._lock = threading.Lock()
        self._again: deque[MovingObject] = deque()

    def work(self) -> LeaseResult:
        lease = self.lease
        done, uploads = self._done_earlier()
        for entry in self.manifest.entries(lease.shard, lease.first, lease.end):
            if not self.tasks.begin(entry.row):
                break
            if entry.row in done:
                self.tasks.count_done(entry.size)
            elif entry.reason is not None:
                self.finish_entry(skipped_receipt(entry, lease.attempt), 0)
            elif entry.delta is Delta.GONE:
                self.tasks.submit(partial(self._delete, entry))
            elif (parts := self.manifest.fit(entry.size).parts) == 0:
                self.tasks.submit(partial(self._move_whole, entry))
            else:
                begin = partial(self._begin_multipart, entry, uploads.get(entry.row))
                self.tasks.submit(begin, followers=parts)
        self._finish_multiparts()
        if self.tasks.interrupted:
            return self.tasks.ended_early()
        return self._finish()

    def _done_earlier(self) -> tuple[set[int], dict[int, EarlierUpload]]:
        """Rows whose end is known, and uploads that were begun. The receipts need no memory now."""
        lease = self.lease
        state = read_journals(self.directory, lease.shard, lease.first, lease.end)
        return state.final_rows(), state.earlier_uploads()

    def _move_whole(self, entry: ObjectEntry) -> None:
        transfer = self.transfer(entry)
        self._finish_with(entry, lambda: _equal_already(transfer) or transfer.move())

    def _delete(self, entry: ObjectEntry) -> None:
        self._finish_with(entry, Deletion(self.context, entry, self.lease.attempt).receipt)

    def _finish_with(self, entry: ObjectEntry, settle: Callable[[], Receipt]) -> None:
        """Finish an entry with the receipt that `settle` returns, or with that of its failure."""
        if self.tasks.stopping.is_set():
            raise Stopped
        try:
            receipt = settle()
        except Exception as error:  # noqa: BLE001 - see failure_of
            failure = failure_of(error)
            self.leave_to_others(failure)
            receipt = failed_receipt(entry, self.lease.attempt, failure)
        self.finish_entry(receipt, entry.size)

    def _begin_multipart(
        self, entry: ObjectEntry, earlier: EarlierUpload | None, rounds: int = 1
    ) -> None:
        """Open the upload of an object, and let its parts follow."""
        if self.tasks.stopping.is_set():
            raise Stopped
        try:
            equal = _equal_already(self.transfer(entry)) if earlier is None else None
            opened = equal or self._open(entry, earlier, after_loss=rounds > 1)
        except Exception as error:  # noqa: BLE001 - see failure_of
            failure = failure_of(error)
            self.leave_to_others(failure)
            opened = failed_receipt(entry, self.lease.attempt, failure)
        if not isinstance(opened, Receipt):
            self._send_parts(entry, opened, rounds)
            return
        if earlier is not None:
            self._abandon(entry, earlier.upload)
        self.finish_entry(opened, entry.size)

    def _abandon(self, entry: ObjectEntry, upload: Upload) -> None:
        self.transfer(entry).abandon(upload)
        self.journal.add(encode_abandoned(entry.row, upload.upload_id))

    def _open(
        self, entry: ObjectEntry, earlier: EarlierUpload | None, *, after_loss: bool
    ) -> OpenUpload | Receipt:
        """Resume the journalled upload; open a new one if there is none or it is gone."""
        open_one = partial(
            self.transfer(entry).open_upload,
            self.manifest.fit(entry.size).part_bytes,
            on_created=self._journal_upload,
        )
        if earlier is not None:
            with contextlib.suppress(UploadLost):
                return open_one(earlier=earlier.upload, acknowledged=earlier.parts)
        return open_one(after_loss=after_loss or earlier is not None)

    def _journal_upload(self, upload: Upload) -> Upload:
        self.journal.add(encode_upload(upload))
        apart(self.journal.flush)
        return upload

    def _send_parts(self, entry: ObjectEntry, opened: OpenUpload, rounds: int) -> None:
        part_bytes = opened.upload.part_bytes
        count = -(-entry.size // part_bytes)
        parts = [part_at(entry.size, part_bytes, number) for number in range(1, count + 1)]
        todo = [part for part in parts if part.number not in opened.kept]
        moving = MovingObject(entry=entry, opened=opened, parts=parts, round=rounds)
        moving.records.update(opened.kept)
        # Earlier attempts sent these, and no receipt counts them yet.
        moving.sent_bytes = sum(part.size for part in opened.kept.values())
        moving.waiting = max(1, len(todo))
        if todo:
            self.tasks.submit_next([partial(self._move_part, moving, part) for part in todo])
        else:
            self._part_ended(moving)

    def _move_part(self, moving: MovingObject, part: Part) -> None:
        try:
            if moving.error is None and not self.tasks.stopping.is_set():
                upload = moving.opened.upload
                record, sent_bytes = self.transfer(moving.entry).send_part(upload, part)
                self.journal.add(encode_part(upload.upload_id, record))
                with self._lock:
                    moving.records[part.number] = record
                    moving.sent_bytes += sent_bytes
        except Exception as error:  # noqa: BLE001 - see failure_of
            moving.error = failure_of(error)
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
            receipt = self.transfer(moving.entry).complete(
                moving.opened, records, bytes_moved=moving.sent_bytes
            )
        except Exception as error:  # noqa: BLE001 - see failure_of
            self._multipart_failed(moving, failure_of(error))
            return
        self.finish_entry(receipt, moving.entry.size)

    def _multipart_failed(self, moving: MovingObject, error: NoriaError) -> None:
        """Abandon the upload. If the object may still land, queue it for another upload."""
        entry, upload = moving.entry, moving.opened.upload
        lost = isinstance(error, UploadLost | DigestRefused)
        goes_on = lost and moving.round < UPLOAD_ROUNDS
        if not goes_on:
            self.leave_to_others(error)
        self._abandon(entry, upload)
        if goes_on:
            with self._lock:
                self._again.append(moving)
        else:
            self.finish_entry(failed_receipt(entry, self.lease.attempt, error), entry.size)

    def _finish_multiparts(self) -> None:
        """Wait for all work in flight, and start the objects again that lost their uploads."""
        while True:
            self.tasks.wait_until_idle()
            if not self._again or self.tasks.interrupted:
                return
            moving = self._again.popleft()
            self.tasks.submit(partial(self._begin_multipart, moving.entry, None, moving.round + 1))

    def _finish(self) -> LeaseResult:
        lease, end = self.lease, self.tasks.end
        self.journal.flush()
        receipts = read_journals(self.directory, lease.shard, lease.first, end).receipts
        assert len(receipts) == end - lease.first, "every row of a finished lease has a receipt"
        name = self.result_name()
        digest, summary = write_receipts(self.directory, name, receipts)
        return self.tasks.finished(name, digest, summary)
