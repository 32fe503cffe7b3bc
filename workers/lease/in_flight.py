"""The work that one lease has in flight, on the executor that all leases share.

Units are claimed in order. The first failure ends the lease.
"""

from __future__ import annotations

import logging
import math
import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from noria.manifests.errors import Fatal, NoriaError, UploadLost
from noria.manifests.model import Lease, LeaseEnd, LeaseProgress, LeaseResult, ReceiptSummary
from noria.workers.runtime.executors import Executor
from noria.workers.runtime.greenlets import Work
from noria.workers.stores.paced import Stopped

log = logging.getLogger("noria.worker")

WINDOW_WIDTH: Final = 1.5
"""Pieces of work that a lease may have queued or running, for each that may run.

What is begun cannot be given to another worker any more, so it is no more than it takes.
"""
LOOK_SECONDS: Final = 0.2
"""A lease with a full window notices at the latest after this that the window has grown."""


class TaskGroup:
    """The units and the running work of one lease. Thread-safe.

    The lease has about half as much work queued as may run at a time.
    """

    def __init__(self, lease: Lease, executor: Executor) -> None:
        self.lease = lease
        self.kind = lease.kind
        """What its units are."""
        self._executor = executor
        self.stopping = threading.Event()
        self.failure: Exception | None = None
        self._lock = threading.Lock()
        self._eased = threading.Condition(self._lock)
        self._outstanding = 0
        self._begun = lease.first
        self._end = lease.end
        self._units_done = 0
        self._units_failed = 0
        self._bytes_done = 0

    @property
    def end(self) -> int:
        """The end of the units that this lease is still responsible for."""
        return self._end

    @property
    def interrupted(self) -> bool:
        return self.failure is not None or self.stopping.is_set()

    def begin(self, unit: int) -> bool:
        """Claim the next unit. Returns False if the lease is cut before it, stopped or failed."""
        with self._lock:
            if unit >= self._end or self.interrupted:
                return False
            self._begun = unit + 1
            return True

    def cut(self, end: int) -> None:
        """Give up the units from `end` on, except those that have begun."""
        with self._lock:
            self._end = min(self._end, max(end, self._begun))

    def stop(self) -> None:
        """Begin no more units. Work in flight ends normally, or at its next retry."""
        self.stopping.set()

    def fail(self, error: Exception) -> None:
        """End the lease with this error. Only the first error counts."""
        with self._lock:
            self.failure = self.failure or error
        self.stopping.set()

    def submit(self, work: Work, *, followers: int = 0) -> None:
        """Run work; waits while the lease's window is full.

        `followers`: what it will submit itself, with submit_next(). Only the lease's own thread may
        call this.
        """
        weight = 1 + followers
        with self._eased:
            if self._outstanding >= self._window:
                # Wait until there is room for many, since one wake-up for each would cost more
                # than the work.
                while self._outstanding > self._low:
                    self._eased.wait(LOOK_SECONDS)
            self._outstanding += weight
        self._executor.submit(partial(self._guarded, work, weight))

    def submit_next(self, works: Sequence[Work]) -> None:
        """Run these before all that submit() has queued. Work that runs may call this."""
        with self._lock:
            self._outstanding += len(works)
        for work in works:
            self._executor.submit(partial(self._guarded, work), first=True)

    def count_done(self, size: int, *, units: int = 1) -> None:
        with self._lock:
            self._units_done += units
            self._bytes_done += size

    def count_failed(self) -> None:
        """Count a unit whose end is final, and whose bytes did not land."""
        with self._lock:
            self._units_done += 1
            self._units_failed += 1

    def wait_until_idle(self) -> None:
        with self._eased:
            self._eased.wait_for(lambda: not self._outstanding)

    def progress(self) -> LeaseProgress:
        with self._lock:
            return LeaseProgress(
                shard=self.lease.shard,
                first=self.lease.first,
                attempt=self.lease.attempt,
                end=self._end,
                units_done=self._units_done,
                bytes_done=self._bytes_done,
                units_failed=self._units_failed,
                kind=self.kind,
            )

    def finished(self, name: str, digest: str, summary: ReceiptSummary) -> LeaseResult:
        """Return the result of a lease whose units are all final."""
        return replace(
            self._result(LeaseEnd.FINISHED),
            end=self._end,
            result_name=name,
            result_sha256=digest,
            summary=summary,
        )

    def ended_early(self) -> LeaseResult:
        """Return the result of a lease that stopped or failed. The journal has what was done."""
        error = self.failure
        if error is None or isinstance(error, Stopped):
            return self._result(LeaseEnd.RETURNED)
        if not isinstance(error, NoriaError):
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("shard %d: %s at\n%s", self.lease.shard, type(error).__name__, frames)
            return replace(
                self._result(LeaseEnd.FAILED), cause="internal", message=type(error).__name__
            )
        how = LeaseEnd.FAILED
        if isinstance(error, UploadLost):
            how = LeaseEnd.UPLOAD_LOST
        elif isinstance(error, Fatal):
            how = LeaseEnd.FATAL
        return replace(self._result(how), cause=error.cause, message=error.message)

    @property
    def _window(self) -> int:
        return math.ceil(WINDOW_WIDTH * self._executor.places.limit)

    @property
    def _low(self) -> int:
        """The number of pieces still outstanding at which the window is filled again."""
        return self._window - max(1, self._window // 4)

    def _guarded(self, work: Work, weight: int = 1) -> None:
        try:
            work()
        except Stopped:
            pass
        except Exception as error:  # noqa: BLE001 - kept for ended_early(), for the scheduler
            self.fail(error)
        finally:
            with self._eased:
                before, self._outstanding = self._outstanding, self._outstanding - weight
                if not self._outstanding or before > self._low >= self._outstanding:
                    self._eased.notify_all()

    def _result(self, how: LeaseEnd) -> LeaseResult:
        lease = self.lease
        return LeaseResult(
            shard=lease.shard,
            kind=lease.kind,
            first=lease.first,
            end=lease.end,
            attempt=lease.attempt,
            generation=lease.generation,
            how=how,
        )
