"""The worker of one process: the leases it holds, and its reports.

The engine runs a Worker in a process or a Ray actor; this file does not depend on either. Calls
from the engine return at once; only report() may wait, for at most `wait_seconds`.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Final

from noria.manifests.errors import NoriaError
from noria.manifests.model import Lease, LeaseResult, Limits, WorkerReport
from noria.workers.counters import CounterRegistry
from noria.workers.lease.lease import LeaseRun
from noria.workers.runtime.executors import Executor
from noria.workers.runtime.hold import Hold

log = logging.getLogger("noria.worker")

HOLD_WATCH_SECONDS: Final = 0.25
"""How often it is looked at whether the hold is over; requests look for themselves."""


class Worker:
    """Holds leases and works on them. Thread-safe.

    `start_run` makes the LeaseRun of a lease, whose work runs on `executor`; `set_limits` gets new
    limits. Results are kept until the next report returns them. If a report is lost with its
    worker, its results are lost too, and the leases are granted again.

    The driver calls hear() whenever it is heard. Once `hold` is over no request begins, all leases
    are handed back, and `end_process` is called if one of them takes too long over that.
    """

    def __init__(
        self,
        name: str,
        start_run: Callable[[Lease], LeaseRun],
        counters: CounterRegistry,
        executor: Executor,
        set_limits: Callable[[Limits], None],
        *,
        journal_seconds: float,
        hold: Hold,
        end_process: Callable[[], None],
    ) -> None:
        self.name = name
        self.incarnation = uuid.uuid4().hex
        self._start_run = start_run
        self._counters = counters
        self._executor = executor
        self._free_before = 0
        self._set_limits = set_limits
        self._journal_seconds = journal_seconds
        self._hold = hold
        self._end_process = end_process
        self._runs: dict[tuple[int, int, int], LeaseRun] = {}
        self._results: list[LeaseResult] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._flush_journals, name="journal", daemon=True).start()
        threading.Thread(target=self._watch_hold, name="hold", daemon=True).start()

    def hear(self) -> None:
        """The driver has called, and has therefore got the last report."""
        self._hold.renew()

    def grant(self, lease: Lease) -> None:
        """Begin a lease. Granting the same one twice begins it once."""
        with self._changed:
            if _place(lease) in self._runs:
                return
            run = self._start_run(lease)
            self._runs[_place(lease)] = run
        threading.Thread(target=self._work, args=(run,), name="lease", daemon=True).start()

    def revoke(self, shard: int, first: int, attempt: int) -> None:
        """Hand a lease back. Its result will be RETURNED, or FINISHED if it was about to finish."""
        with self._changed:
            run = self._runs.get((shard, first, attempt))
        if run is not None:
            run.tasks.stop()

    def split(self, shard: int, first: int, attempt: int, end: int) -> None:
        """End a lease earlier. The next report's progress has the end that was possible."""
        with self._changed:
            run = self._runs.get((shard, first, attempt))
        if run is not None:
            run.tasks.cut(end)

    def limit(self, limits: Limits) -> None:
        """Set how much may be in flight here from now on."""
        self._set_limits(limits)

    def drain(self) -> None:
        """Hand every lease back."""
        with self._changed:
            runs = list(self._runs.values())
        for run in runs:
            run.tasks.stop()

    def report(self, wait_seconds: float) -> WorkerReport:
        """Return new results and all progress; waits up to `wait_seconds` for a lease to end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._results), timeout=wait_seconds)
            results, self._results = tuple(self._results), []
            free = 0 if self._executor.queued else self._executor.places.free
            still_free, self._free_before = min(free, self._free_before), free
            progress = tuple(run.tasks.progress() for run in self._runs.values())
        self._hold.note_sent()
        return WorkerReport(
            worker=self.name,
            incarnation=self.incarnation,
            progress=progress,
            results=results,
            metrics=self._counters.snapshot(),
            free_places=still_free,
        )

    def _work(self, run: LeaseRun) -> None:
        result = run.run()
        with self._changed:
            del self._runs[_place(run.lease)]
            self._results.append(result)
            self._changed.notify_all()

    def _watch_hold(self) -> None:
        while True:
            time.sleep(HOLD_WATCH_SECONDS)
            if not self._hold.is_over:
                continue
            with self._changed:
                runs = list(self._runs.values())
            if runs and self._hold.must_end:
                log.warning("no word from the driver, and requests in flight: this process ends")
                self._end_process()
            for run in runs:
                run.tasks.stop()

    def _flush_journals(self) -> None:
        while True:
            time.sleep(self._journal_seconds)
            with self._changed:
                runs = list(self._runs.values())
            for run in runs:
                try:
                    run.journal.flush()
                except NoriaError as error:
                    run.tasks.fail(error)


def _place(lease: Lease) -> tuple[int, int, int]:
    return lease.shard, lease.first, lease.attempt
