"""ASSEMBLE: make one huge object from the parts that the leases of its shard have sent."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from noria.manifests.errors import DigestRefused, Retryable, Skippable, UploadLost
from noria.manifests.job.receipts import parts_of, receipt_batch
from noria.manifests.job.results import read_result, write_receipts
from noria.manifests.job.seals import read_seals
from noria.manifests.job.uploads import read_upload
from noria.manifests.model import LeaseKind, LeaseResult, ObjectEntry, PartRecord, Receipt
from noria.workers.lease.lease import LeaseRun
from noria.workers.transfer import OpenUpload
from noria.workers.verification import failed_receipt


class AssembleRun(LeaseRun):
    """Completes the upload of a shard's generation, and writes the receipt of its object."""

    def work(self) -> LeaseResult:
        lease = self.lease
        (entry,) = self.manifest.entries(lease.shard, 0, 1)
        try:
            receipt = self._assemble(entry)
        except UploadLost:
            raise
        except (Skippable, Retryable) as error:
            if not isinstance(error, DigestRefused):
                self.leave_to_others(error)
            self._abandon_generation(entry)
            if isinstance(error, DigestRefused):
                raise UploadLost(error.message, key=entry.key) from error
            receipt = failed_receipt(entry, lease.attempt, error)
        receipts = pa.Table.from_batches([receipt_batch([receipt])])
        name = self.result_name()
        digest, summary = write_receipts(self.directory, name, receipts)
        self.tasks.count_done(0)
        return self.tasks.finished(name, digest, replace(summary, bytes_moved=0))

    def _abandon_generation(self, entry: ObjectEntry) -> None:
        upload = read_upload(self.directory, self.lease.shard, self.lease.generation)
        if upload is not None:
            self.transfer(entry).abandon(upload)

    def _assemble(self, entry: ObjectEntry) -> Receipt:
        lease, transfer = self.lease, self.transfer(entry)
        parts = self._sealed_parts()
        count = self.manifest.fit(entry.size).parts
        upload = read_upload(self.directory, lease.shard, lease.generation)
        if upload is None or len(parts) < count:
            self.context.pin_source(entry)
            receipt = transfer.settle_without_parts()
            self._abandon_generation(entry)
            return receipt
        opened = transfer.open_upload(upload.part_bytes, earlier=upload)
        assert isinstance(opened, OpenUpload)
        records = [parts[number] for number in range(1, count + 1)]
        return transfer.complete(opened, records, bytes_moved=entry.size)

    def _sealed_parts(self) -> dict[int, PartRecord]:
        lease = self.lease
        return {
            part.number: part
            for sealed in read_seals(self.directory, shard=lease.shard)
            if sealed.kind is LeaseKind.PARTS and sealed.generation == lease.generation
            for part in parts_of(read_result(self.directory, sealed))
        }
