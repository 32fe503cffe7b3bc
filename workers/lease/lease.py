"""One lease of a shard: its units side by side, journalled, ended by a result file.

A lease is worked on by one thread of its own, which walks the units and decides; the bytes are
moved by the executors that all leases of a process share. What is done is journalled as it
happens, and a lease starts by reading what earlier attempts journalled, so that any of this may
stop at any line and be done again by another worker.

How is up to a strategy: objects.py, parts.py and assemble.py move, reread.py reads back.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial

from noria.manifests.counters import Counter
from noria.manifests.errors import NoriaError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import Lease, LeaseResult, ObjectEntry, Receipt
from noria.workers.context import TransferContext
from noria.workers.lease.in_flight import TaskGroup
from noria.workers.lease.journal import Journal
from noria.workers.runtime.executors import Executors
from noria.workers.transfer import ObjectTransfer

log = logging.getLogger("noria.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResources:
    """What a process has for all its leases."""

    directory: JobDirectory
    manifest: Manifest
    context: TransferContext
    executors: Executors


class LeaseRun(ABC):
    """Works on one lease; run() blocks until it has ended and says how; `tasks` steers it
    meanwhile."""

    def __init__(self, resources: WorkerResources, lease: Lease) -> None:
        self.lease = lease
        self.tasks = TaskGroup(lease)
        self.directory = resources.directory
        self.manifest = resources.manifest
        self.executors = resources.executors
        self.journal = Journal(self.directory, lease.shard, lease.attempt)
        self.context = resources.context.for_lease(
            self.tasks.stopping, partial(self.directory.keep_journals, lease.shard)
        )

    def run(self) -> LeaseResult:
        try:
            return self.work()
        except Exception as error:  # noqa: BLE001 - told to the scheduler
            self.tasks.fail(error)
            self.tasks.wait_until_idle()
            return self.tasks.ended_early()
        finally:
            self._close_journal()

    @abstractmethod
    def work(self) -> LeaseResult:
        """The strategy: blocks until the lease has ended. What it raises ends the lease, too."""

    def transfer(self, entry: ObjectEntry) -> ObjectTransfer:
        return ObjectTransfer(self.context, entry, self.lease.attempt)

    def finish_entry(self, receipt: Receipt, size: int) -> None:
        """Journal the final word on an entry, and count it."""
        self.journal.add_receipt(receipt)
        self.context.counters.add(Counter.OBJECTS, receipt.outcome.value)
        self.tasks.count_done(size)

    def result_name(self) -> str:
        lease = self.lease
        place = f"{lease.shard:08d}/{lease.kind}-{lease.first:08d}-{lease.attempt:018d}"
        return f"results/{place}.parquet"

    def _close_journal(self) -> None:
        try:
            self.journal.flush()
        except NoriaError:
            log.error("the journal of shard %d could not be written", self.lease.shard)
        self.journal.close()
