"""The journals of a worker's leases: records wait in memory, and reach the disk all together.

However many leases a worker holds, one write and one sync settle what all of them have added: once
in each journal interval, and whenever a step relies on a record. Steps that wait while the disk is
busy are served by the next sync, all at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.journals import encode_batch, encode_receipts
from noria.manifests.job.worker_journals import JournalPointer, WorkerJournal
from noria.manifests.model import Lease, Receipt


class LeaseJournals:
    """The journals of the leases that a worker holds. Thread-safe."""

    def __init__(
        self, directory: JobDirectory, on_written: Callable[[float], None] = lambda seconds: None
    ) -> None:
        """`on_written` is told how long each write took, until it was on disk."""
        self._file = WorkerJournal(directory)
        self._on_written = on_written
        self._open: list[Journal] = []
        self._lock = threading.Lock()
        self.disk_lock = threading.Lock()
        """Whoever holds it sees nothing on its way to the disk."""

    def begin(self, lease: Lease, on_dropped: Callable[[JobDirectoryError], None]) -> Journal:
        """Return the journal of a lease. `on_dropped` is called if nobody needs it any more."""
        journal = Journal(self, lease, on_dropped)
        with self._lock:
            self._open.append(journal)
        return journal

    def end(self, journal: Journal) -> None:
        with self._lock:
            self._open.remove(journal)

    def flush(self) -> None:
        """Make all added records of all leases durable.

        Raises JobDirectoryError; then they stay queued.
        """
        with self.disk_lock:
            with self._lock:
                journals = list(self._open)
            taken = [(journal, queue) for journal in journals if (queue := journal.take())]
            try:
                self._write(taken)
            except BaseException:
                for journal, queue in taken:
                    journal.put_back(queue)
                raise

    def _write(self, taken: list[tuple[Journal, Queue]]) -> None:
        batches: dict[JournalPointer, bytes] = {}
        for journal, queue in taken:
            if journal.pointer is None:
                journal.pointer = self._file.point(journal.lease)
            elif self._file.is_dropped(journal.pointer):
                journal.drop()
                continue
            batches[journal.pointer] = queue.encoded(journal.pointer.address)
        if batches:
            began = time.monotonic()
            self._file.append(batches)
            self._on_written(time.monotonic() - began)


@dataclass(slots=True)
class Queue:
    """What was added to a journal and is not on disk."""

    records: list[bytes] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.records or self.receipts)

    def encoded(self, address: bytes) -> bytes:
        receipts = [encode_receipts(self.receipts)] if self.receipts else []
        return encode_batch(self.records + receipts, address)


class Journal:
    """The journal of one lease. Thread-safe.

    An added record is durable once a later flush() has returned.
    """

    def __init__(
        self, journals: LeaseJournals, lease: Lease, on_dropped: Callable[[JobDirectoryError], None]
    ) -> None:
        self.lease = lease
        self.pointer: JournalPointer | None = None
        """None: nothing of it was written yet."""
        self._journals = journals
        self._on_dropped = on_dropped
        self._dropped: JobDirectoryError | None = None
        self._queue = Queue()
        self._lock = threading.Lock()

    def add(self, record: bytes) -> None:
        with self._lock:
            self._queue.records.append(record)

    def add_receipt(self, receipt: Receipt) -> None:
        with self._lock:
            self._queue.receipts.append(receipt)

    def flush(self) -> None:
        """Make all added records durable. Raises JobDirectoryError, also if it was dropped."""
        self._journals.flush()
        if self._dropped is not None:
            raise self._dropped

    def close(self) -> None:
        """Forget what is not on disk. Nothing is added any more."""
        with self._journals.disk_lock:
            self._journals.end(self)
            self.take()

    def take(self) -> Queue:
        """For LeaseJournals: what is on its way to the disk now."""
        with self._lock:
            taken, self._queue = self._queue, Queue()
            return taken

    def put_back(self, queue: Queue) -> None:
        """For LeaseJournals: it did not reach the disk."""
        with self._lock:
            later = self._queue
            self._queue = Queue(queue.records + later.records, queue.receipts + later.receipts)

    def drop(self) -> None:
        """For LeaseJournals: its shard is settled, and what the lease does counts no more."""
        self._dropped = JobDirectoryError(
            f"the journal of attempt {self.lease.attempt} at shard {self.lease.shard} was dropped: "
            "the shard is settled, and this attempt is over"
        )
        self._on_dropped(self._dropped)
