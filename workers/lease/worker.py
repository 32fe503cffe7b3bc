"""The worker of one process: the leases it holds, and its reports.

The engine runs a Worker in a process or a Ray actor; this file does not depend on either. Calls
from the engine return at once; only report() may wait, for at most `wait_seconds`.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from noria.manifests.model import (
    BandwidthShare,
    Lease,
    LeaseResult,
    Limits,
    RequestShare,
    WorkerReport,
)
from noria.workers.counters import CounterRegistry
from noria.workers.lease.lease import LeaseRun
from noria.workers.runtime.bandwidth import Bandwidth
from noria.workers.runtime.executors import Executor
from noria.workers.runtime.hold import Hold

log = logging.getLogger("noria.worker")

HOLD_WATCH_SECONDS: Final = 0.25
"""How often it is looked at whether the hold is over; requests look for themselves."""
LAST_WORDS_SECONDS: Final = 0.2
"""How long the last line of a log may take."""


class Worker:
    """Holds leases and works on them. Thread-safe.

    `start_run` makes the LeaseRun of a lease, whose work runs on `executor`; `set_limits` gets new
    limits; `flush_journals` is called every `journal_seconds`. Results are kept until the next
    report returns them. If a report is lost with its worker, its results are lost too, and the
    leases are granted again.

    A lease has a thread, which works on another one afterwards: there are as many as leases were
    ever held at once.

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
        flush_journals: Callable[[], None],
        journal_seconds: float,
        hold: Hold,
        end_process: Callable[[], None],
        bandwidth: Bandwidth | None = None,
        requests: Mapping[str, Bandwidth] | None = None,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        """`requests`: what may be begun at each store, by its role.

        `let_go` gives back what the worker holds besides its threads: files, connections.
        """
        self.name = name
        self.incarnation = uuid.uuid4().hex
        self._start_run = start_run
        self._counters = counters
        self._executor = executor
        self._free_before = 0
        self._set_limits = set_limits
        self._flush_journals = flush_journals
        self._journal_seconds = journal_seconds
        self._hold = hold
        self._end_process = end_process
        self._bandwidth = bandwidth or Bandwidth()
        self._requests = dict(requests or {})
        self._runs: dict[tuple[int, int, int], LeaseRun] = {}
        self._waiting: deque[LeaseRun] = deque()
        """Of these, those that no thread has taken up yet."""
        self._threads = 0
        self._results: list[LeaseResult] = []
        self._changed = threading.Condition()
        self._let_go = let_go
        self._closed = threading.Event()
        threading.Thread(target=self._keep_journals, name="journal", daemon=True).start()
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
            self._waiting.append(run)
            self._changed.notify_all()
            if self._threads < len(self._runs):
                self._threads += 1
                threading.Thread(target=self._work_on_leases, name="lease", daemon=True).start()

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

    def share_bandwidth(self, share: BandwidthShare) -> None:
        """Set how many bytes a second may be read here from now on."""
        self._bandwidth.set_share(share.bytes_per_second)

    def share_requests(self, share: RequestShare) -> None:
        """Set how many requests a second may begin at one store from now on."""
        self._requests[share.store].set_share(share.per_second)

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
            bandwidth=self._bandwidth.use(self._executor.places.seconds),
            requests={
                store: requests.use(self._executor.places.seconds)
                for store, requests in self._requests.items()
            },
        )

    def close(self) -> bool:
        """End all threads and give everything back; False, and nothing is done, if it has leases.

        For a process that goes on as another worker. Nothing may be called afterwards.
        """
        with self._changed:
            if self._runs:
                return False
            self._closed.set()
            self._changed.notify_all()
        self._executor.close()
        self._let_go()
        return True

    def _work_on_leases(self) -> None:
        while self._work(self._next_run()):  # in no variable: a thread that waits holds no lease
            pass

    def _next_run(self) -> LeaseRun | None:
        """Wait for a lease to work on; None once the worker is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed.is_set())
            return self._waiting.popleft() if self._waiting else None

    def _work(self, run: LeaseRun | None) -> bool:
        if run is None:
            return False
        result = run.run()
        with self._changed:
            del self._runs[_place(run.lease)]
            self._results.append(result)
            self._changed.notify_all()
        return True

    def _watch_hold(self) -> None:
        while not self._closed.wait(HOLD_WATCH_SECONDS):
            if not self._hold.is_over:
                continue
            with self._changed:
                runs = list(self._runs.values())
            if runs and self._hold.must_end:
                # The log may lie on what cannot be reached: it has a moment, and no more.
                words = "no word from the driver, and requests in flight: this process ends"
                last = threading.Thread(target=log.warning, args=(words,), daemon=True)
                last.start()
                last.join(LAST_WORDS_SECONDS)
                self._end_process()
            for run in runs:
                run.tasks.stop()

    def _keep_journals(self) -> None:
        while not self._closed.wait(self._journal_seconds):
            try:
                self._flush_journals()
            except Exception as error:  # noqa: BLE001 - reported to the scheduler by each lease
                with self._changed:
                    runs = list(self._runs.values())
                for run in runs:
                    run.tasks.fail(error)


def _place(lease: Lease) -> tuple[int, int, int]:
    return lease.shard, lease.first, lease.attempt
