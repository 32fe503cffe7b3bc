"""The journal of one lease: records wait in memory for a moment and reach the disk in batches."""

from __future__ import annotations

import threading

from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.journals import encode_receipts
from noria.manifests.model import Receipt


class Journal:
    """The journal of one lease. Thread-safe.

    An added record is durable once a later flush() has returned. flush() is called once in each
    journal interval, and before any step that relies on a record.
    """

    def __init__(self, directory: JobDirectory, shard: int, attempt: int) -> None:
        self._appender = directory.journal(shard, attempt)
        self._records: list[bytes] = []
        self._receipts: list[Receipt] = []
        self._lock = threading.Lock()
        self._disk_lock = threading.Lock()

    def add(self, record: bytes) -> None:
        with self._lock:
            self._records.append(record)

    def add_receipt(self, receipt: Receipt) -> None:
        with self._lock:
            self._receipts.append(receipt)

    def flush(self) -> None:
        """Make all added records durable. Raises JobDirectoryError; then they stay queued."""
        with self._disk_lock:
            with self._lock:
                records, self._records = self._records, []
                receipts, self._receipts = self._receipts, []
            if receipts:
                records.append(encode_receipts(receipts))
            if not records:
                return
            try:
                self._appender.append(b"".join(records))
            except BaseException:
                with self._lock:
                    self._records = records + self._records
                raise

    def close(self) -> None:
        self._appender.close()
