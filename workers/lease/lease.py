"""The work on one lease of a shard: its units side by side, journalled, ended by a result file.

Each lease has a thread to itself, which walks the units and decides. The bytes are moved by the
executor that all leases of a process share. Everything done is journalled at once, and a lease
starts by reading what earlier attempts journalled. So a lease may stop at any line, and another
worker may do it again.

The strategies are objects.py, parts.py and assemble.py, which move, and reread.py, which reads
back.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from noria.manifests.counters import Counter
from noria.manifests.errors import NoriaError, Retryable
from noria.manifests.job.directory import JobDirectory, shard_folder
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import Lease, LeaseResult, ObjectEntry, Outcome, Receipt
from noria.workers.context import TransferContext
from noria.workers.lease.in_flight import TaskGroup
from noria.workers.lease.journal import LeaseJournals
from noria.workers.runtime.executors import Executor
from noria.workers.transfer import ObjectTransfer

log = logging.getLogger("noria.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResources:
    """What a process has for all its leases."""

    directory: JobDirectory
    manifest: Manifest
    context: TransferContext
    executor: Executor
    journals: LeaseJournals


class LeaseRun(ABC):
    """The work on one lease. Other threads may stop or cut it through `tasks` while run() runs."""

    def __init__(self, resources: WorkerResources, lease: Lease) -> None:
        self.lease = lease
        self.tasks = TaskGroup(lease, resources.executor)
        self.directory = resources.directory
        self.manifest = resources.manifest
        self.journal = resources.journals.begin(lease, self.tasks.fail)
        self.context = resources.context.for_lease(
            self.tasks.stopping, partial(self.directory.keep_journals, lease.shard)
        )

    def run(self) -> LeaseResult:
        """Work until the lease has ended; return how it ended. Errors are part of the result."""
        try:
            result = self._end()
            # Also if it has finished: its result may never be sealed.
            self._save_journal()
            return result
        finally:
            self.journal.close()
            # Arrow keeps what tables of a whole lease took for this thread's next ones.
            pa.default_memory_pool().release_unused()

    def _end(self) -> LeaseResult:
        try:
            return self.work()
        except Exception as error:  # noqa: BLE001 - reported to the scheduler
            self.tasks.fail(error)
            self.tasks.wait_until_idle()
            return self.tasks.ended_early()

    @abstractmethod
    def work(self) -> LeaseResult:
        """Block until the lease has ended; this is the strategy. An error ends the lease too."""

    def transfer(self, entry: ObjectEntry) -> ObjectTransfer:
        return ObjectTransfer(self.context, entry, self.lease.attempt)

    def finish_entry(self, receipt: Receipt, size: int) -> None:
        """Journal the receipt of an entry, and count the entry as done."""
        self.journal.add_receipt(receipt)
        self.context.counters.add(Counter.OBJECTS, receipt.outcome.value)
        if receipt.outcome is Outcome.FAILED:
            self.tasks.count_failed()
        else:
            self.tasks.count_done(size if receipt.outcome.landed else 0)

    def leave_to_others(self, error: NoriaError) -> None:
        """Raise `error`, which ends the lease, if another host is to try before it is final.

        What keeps one host from a store, or damages bytes on it, says nothing about an object.
        """
        if isinstance(error, Retryable) and not self.lease.is_last:
            raise error

    def result_name(self) -> str:
        lease = self.lease
        folder = shard_folder("results", lease.shard)
        return f"{folder}/{lease.kind}-{lease.first:08d}-{lease.attempt:018d}.parquet"

    def _save_journal(self) -> None:
        try:
            self.journal.flush()
        except Exception:  # noqa: BLE001 - the lease has ended, and is to be reported
            log.error("the journal of shard %d could not be written", self.lease.shard)
