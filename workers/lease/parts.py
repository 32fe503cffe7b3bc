"""PARTS: send a range of the parts of one huge object, whose upload several leases share."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial

from noria.manifests.errors import SourceChanged, SourceMissing
from noria.manifests.job.journals import encode_part, read_journals
from noria.manifests.job.results import write_parts
from noria.manifests.job.uploads import read_upload, write_upload
from noria.manifests.model import (
    Lease,
    LeaseResult,
    ObjectEntry,
    Part,
    PartRecord,
    Receipt,
    ReceiptSummary,
    Upload,
)
from noria.manifests.plan.parts import part_at
from noria.workers.lease.lease import LeaseRun, WorkerResources
from noria.workers.transfer import ObjectTransfer, OpenUpload

SOURCE_GONE = (SourceChanged, SourceMissing)
"""Errors that finish a PARTS lease: the ASSEMBLE lease meets them too, and reports them once."""


class PartsRun(LeaseRun):
    """Sends parts side by side. assemble.py writes the receipt of the object."""

    def __init__(self, resources: WorkerResources, lease: Lease) -> None:
        super().__init__(resources, lease)
        self._lock = threading.Lock()
        self._records: dict[int, PartRecord] = {}
        self._sent_bytes = 0

    def work(self) -> LeaseResult:
        lease = self.lease
        (entry,) = self.manifest.entries(lease.shard, 0, 1)
        if self._exists_already(entry):
            return self._finish([])  # the ASSEMBLE lease compares the object, once
        try:
            opened = self._open_shared(entry)
        except SOURCE_GONE:
            return self._finish([])  # the ASSEMBLE lease reports the error
        if isinstance(opened, Receipt):
            return self._finish([])  # the object exists already, as above
        for unit in range(lease.first, lease.end):
            if not self.tasks.begin(unit):
                break
            part = part_at(entry.size, opened.upload.part_bytes, unit + 1)
            kept = opened.kept.get(part.number)
            if kept is not None:
                self._count(kept, kept.size)  # sent by an earlier attempt, which no result counts
                self.tasks.count_done(part.size)
            else:
                self.tasks.submit(partial(self._move_part, entry, opened.upload, part))
        self.tasks.wait_until_idle()
        if isinstance(self.tasks.failure, SOURCE_GONE):
            return self._finish([])
        if self.tasks.interrupted:
            return self.tasks.ended_early()
        return self._finish(list(self._records.values()))

    def _open_shared(self, entry: ObjectEntry) -> OpenUpload | Receipt:
        """Open or resume the upload that all leases of this shard's generation share."""
        lease = self.lease
        upload = read_upload(self.directory, lease.shard, lease.generation)
        state = read_journals(self.directory, lease.shard, lease.first, lease.end)
        context = replace(self.context, options=replace(self.context.options, look_first=False))
        return ObjectTransfer(context, entry, lease.attempt).open_upload(
            self.manifest.fit(entry.size).part_bytes,
            earlier=upload,
            acknowledged=state.parts.get(upload.upload_id) if upload else None,
            on_created=lambda upload: write_upload(
                self.directory, lease.shard, lease.generation, upload
            ),
        )

    def _move_part(self, entry: ObjectEntry, upload: Upload, part: Part) -> None:
        if self.tasks.stopping.is_set():
            return
        record, sent_bytes = self.transfer(entry).send_part(upload, part)
        self.journal.add(encode_part(upload.upload_id, record))
        self._count(record, sent_bytes)
        self.tasks.count_done(part.size)

    def _count(self, record: PartRecord, sent_bytes: int) -> None:
        with self._lock:
            self._records[record.number] = record
            self._sent_bytes += sent_bytes

    def _exists_already(self, entry: ObjectEntry) -> bool:
        # An upload may also be gone because it was completed.
        after_loss = self.lease.generation > 0
        looks_first = self.context.options.look_first and entry.replaces is None
        if not looks_first and not after_loss:
            return False
        return self.transfer(entry).needs_no_parts(after_loss=after_loss)

    def _finish(self, records: list[PartRecord]) -> LeaseResult:
        name = self.result_name()
        digest = write_parts(self.directory, name, records)
        part_bytes = sum(record.size for record in records)
        summary = ReceiptSummary(bytes_moved=self._sent_bytes, part_bytes=part_bytes)
        return self.tasks.finished(name, digest, summary)
