"""The driver's loop: news from the cluster in, scheduler commands out, seals written in between.

One thread, no per-object work: it handles leases, heartbeats and sums. Whatever it knows beyond the
job directory may be lost with it; the next driver starts from the seals.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from noria.engine.cluster.protocol import (
    START_FAILED,
    Cluster,
    ClusterEvent,
    DrainWorker,
    Lost,
    Reported,
    Started,
)
from noria.engine.concurrency.sharing import TransferBudget, starting_number
from noria.engine.config.jobfile import JobConfig
from noria.engine.log_file import log_file
from noria.engine.scheduler.events import (
    Command,
    Drain,
    Event,
    Finish,
    Grant,
    LeaseCut,
    LeaseEnded,
    LoseWorker,
    NewGeneration,
    Quarantine,
    Revoke,
    SealLease,
    Split,
    Stop,
    Tick,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
    WorkerReported,
)
from noria.engine.scheduler.scheduler import Scheduler
from noria.engine.status import (
    STATUS_FILE,
    VERIFY_STATUS_FILE,
    Ending,
    JobStatus,
    Phase,
    save_status,
)
from noria.engine.totals import Totals
from noria.engine.worker_spec import Mode, WorkerSpec
from noria.manifests.access import make_folders
from noria.manifests.errors import NoriaError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.seals import seal
from noria.manifests.model import LeaseKind

log = logging.getLogger("noria.driver")

Sizes = Sequence[Mapping[str, int]]
"""How many entries of which sizes are to be moved: see Manifest.sizes."""

POLL_SECONDS = 0.25
TICK_SECONDS = 1.0
BUDGET_SECONDS = 0.5
SHOW_SECONDS = 1.0
NODE_CHECK_SECONDS = 1.0
FAILED_STARTS = 3
"""So many workers that die in a row before they are up end the run: another would die too."""
RESTART_SECONDS = 1.0
"""A lost worker is replaced no sooner than this after the last one was."""
WORKER_OBJECTS = 25_000
WORKER_BYTES = 1024 * 1024 * 1024
"""A worker is worth its start, half a second of CPU, where one of these falls to its share: some
five seconds of a core, or half a second of one."""


def worthwhile_workers(objects: int, size: int) -> int:
    """How many workers a job of that size keeps busy for longer than they take to start."""
    return 1 + max(objects // WORKER_OBJECTS, size // WORKER_BYTES)


class StopRequest:
    """Ctrl-C, SIGTERM and SIGHUP ask for a drain; the second time, for an end at once."""

    def __init__(self) -> None:
        self.times = 0

    def ask(self, number: int = 0, frame: FrameType | None = None) -> None:
        self.times += 1

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen while the block runs; only the main thread of a process can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # What is ignored, as SIGHUP is under nohup, stays so.
        heard = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        earlier = {number: signal.signal(number, self.ask) for number in heard}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Driver:
    """Runs a scheduler on a cluster until it finishes. Use once."""

    def __init__(
        self,
        directory: JobDirectory,
        scheduler: Scheduler,
        cluster: Cluster,
        totals: Totals,
        spec: WorkerSpec,
        config: JobConfig,
        sizes: Sizes,
        *,
        area: str,
        phase: Phase,
        show: Callable[[JobStatus], None],
        stop_request: StopRequest,
        status_file: str,
    ) -> None:
        self._directory = directory
        self._scheduler = scheduler
        self._cluster = cluster
        self._totals = totals
        self._spec = spec
        self._run = config.run
        assert config.plan.part_bytes is not None, "what is driven is planned"
        self._part_bytes = config.plan.part_bytes
        self._sizes = sizes
        self._area = area
        self._phase = phase
        self._show = show
        self._stop_request = stop_request
        self._status_file = status_file
        self._ending = Ending()
        self._finished = False
        self._alive: set[str] = set()
        self._leaving: set[str] = set()
        """Of these, those on nodes that are drained: they have been told to hand all back."""
        self._names = 0
        self._lease_ends: dict[tuple[int, int, int], int] = {}
        self._drain_began: float | None = None
        self._start_error: NoriaError | None = None
        self._crew = 0
        """Workers that the work needs, as far as is known."""
        self._silent: set[str] = set()
        """Stores that answer nobody, as was said."""
        self._failed_starts = 0
        """Workers in a row that died before they were up."""
        self._started = time.monotonic()
        self._last = dict.fromkeys(("tick", "show", "nodes", "restart", "budgets"), 0.0)
        self._starved_since: float | None = self._started

    def run(self) -> Ending:
        """Block until the job is complete, drained or stopped. Raises JobDirectoryError."""
        self._dispatch(Tick(now=self._now()))
        self._budget, self._spec = self._begin_budget()
        for _ in range(self._workers_wanted()):
            self._start_worker()
        self._keep_time()
        while not self._finished:
            for event in self._cluster.poll(POLL_SECONDS):
                self._on_event(event)
            self._keep_time()
        self._ending.complete = self._scheduler.complete
        self._report()
        return self._ending

    def _begin_budget(self) -> tuple[TransferBudget, WorkerSpec]:
        """The budget of transfers, and the spec of workers that start with their share.

        It starts with what suits the plan, or stays at what is set.
        """
        run, workers = self._run, self._workers_wanted()
        start = starting_number(self._sizes, workers=workers, part_bytes=self._part_bytes)
        budget = TransferBudget(
            start,
            fixed=run.transfers,
            source_most=run.source_requests,
            target_most=run.target_requests,
        )
        split = budget.limits({f"{number:05}": math.inf for number in range(workers)})
        # What is left over goes to the first: none is to begin with more than its share.
        return budget, replace(self._spec, limits=split[max(split)])

    # -- what happens ------------------------------------------------------------------------------

    def _on_event(self, event: ClusterEvent) -> None:
        now = self._now()
        match event:
            case Started(worker=worker):
                self._alive.add(worker)
                self._starved_since = None
                self._failed_starts = 0
                self._budget.join(worker)
                self._dispatch(WorkerJoined(now=now, worker=worker, slots=self._run.leases))
                self._cluster.exchange(worker)
            case Reported(worker=worker):
                self._on_report(event, now)
                self._cluster.exchange(worker)
            case Lost(worker=worker, error=error):
                log.warning("worker %s is lost: %s", worker, event.last_words or event.cause)
                self._start_error = error or self._start_error
                self._forget(worker, lost=error is None and worker not in self._leaving)
                if event.ended:
                    self._dispatch(WorkerLost(now=now, worker=worker))
                else:
                    # Nobody gets its leases before it must have stopped: see runtime/hold.py.
                    self._dispatch(WorkerDraining(now=now, worker=worker))
                if event.cause == START_FAILED:
                    self._on_failed_start(event.last_words)

    def _on_failed_start(self, last_words: str | None) -> None:
        self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS:
            self._stop(
                START_FAILED,
                f"{self._failed_starts} workers in a row died while they started: {last_words}",
            )

    def _on_report(self, event: Reported, now: float) -> None:
        worker, report = event.worker, event.report
        for result in report.results:
            self._dispatch(LeaseEnded(now=now, worker=worker, result=result))
            self._lease_ends.pop((result.shard, result.first, result.attempt), None)
        for item in report.progress:
            place = item.shard, item.first, item.attempt
            if item.end < self._lease_ends.get(place, item.end):
                self._lease_ends[place] = item.end
                self._dispatch(
                    LeaseCut(
                        now=now,
                        worker=worker,
                        shard=item.shard,
                        first=item.first,
                        attempt=item.attempt,
                        end=item.end,
                    )
                )
        self._totals.add_report(worker, report.progress, report.metrics)
        self._budget.hear(worker, report.metrics)
        if worker in self._leaving and not report.progress and self._drain_began is None:
            # Whoever takes its place may need its CPU.
            self._end_worker(worker, now)
            return
        self._dispatch(
            WorkerReported(
                now=now,
                worker=worker,
                progress=report.progress,
                free_places=report.free_places,
            )
        )

    def _end_worker(self, worker: str, now: float) -> None:
        """End a worker that is no longer needed: it counts as gone, not as lost."""
        self._cluster.kill(worker)
        self._forget(worker, lost=False)
        self._dispatch(WorkerLost(now=now, worker=worker))

    def _dispatch(self, event: Event) -> None:
        for command in self._scheduler.on(event):
            self._execute(command)

    def _execute(self, command: Command) -> None:
        match command:
            case Grant(worker=worker, lease=lease):
                self._lease_ends[lease.shard, lease.first, lease.attempt] = lease.end
                self._cluster.send(worker, command)
            case Revoke(worker=worker) | Split(worker=worker):
                self._cluster.send(worker, command)
            case SealLease(result=result):
                sealed = seal(self._directory, result, self._area)
                self._totals.add_seal(sealed)
                if result.kind is not LeaseKind.PARTS and self._scheduler.is_settled(result.shard):
                    self._directory.drop_journal(result.shard)
            case Quarantine():
                log.error("shard %d is given up in this run: %s", command.shard, command.cause)
                self._ending.quarantined.append(command)
            case LoseWorker(worker=worker, cause=cause):
                log.warning("worker %s is given up: %s", worker, cause)
                if worker in self._alive:
                    self._cluster.kill(worker)
                    self._forget(worker, lost=True)
            case NewGeneration(shard=shard):
                self._totals.void_parts(shard)
            case Stop(cause=cause, message=message):
                self._stop(cause, message)
            case Finish():
                self._finished = True

    # -- what time brings --------------------------------------------------------------------------

    def _keep_time(self) -> None:
        now = self._now()
        if self._due("budgets", BUDGET_SECONDS, now):
            for worker, limits in self._budget.decide(now).items():
                self._cluster.send(worker, limits)
        if self._due("tick", TICK_SECONDS, now):
            self._dispatch(Tick(now=now))
            if self._drain_began is None:
                self._replace_workers(now)
                self._add_workers()
            self._watch_start(now)
        if self._due("nodes", NODE_CHECK_SECONDS, now):
            for worker in (self._cluster.leaving() & self._alive) - self._leaving:
                self._leaving.add(worker)
                self._cluster.send(worker, DrainWorker())
                self._dispatch(WorkerDraining(now=now, worker=worker))
        self._watch_stop(now)
        if self._due("show", SHOW_SECONDS, now):
            self._report()

    def _due(self, what: str, seconds: float, now: float) -> bool:
        if now - self._last[what] < seconds:
            return False
        self._last[what] = now
        return True

    def _start_worker(self) -> None:
        self._names += 1
        name = f"{self._names}"
        self._cluster.start_worker(replace(self._spec, name=name))

    def _workers_wanted(self) -> int:
        """As many as asked for; otherwise one for each machine at first, and more if CPU is short.

        Never more than there are CPUs, nor than there is work for.
        """
        if self._run.workers:
            return self._run.workers
        self._crew = self._crew or self._cluster.machines()
        worth = worthwhile_workers(self._totals.objects_total, self._totals.bytes_total)
        return max(1, min(worth, self._cluster.cpus(), self._crew))

    def _add_workers(self) -> None:
        """Twice as many, if all are up and their processors are full."""
        before = self._workers_wanted()
        if not self._budget.busy or len(self._alive - self._leaving) < before:
            return
        self._crew = 2 * before
        for _ in range(self._workers_wanted() - before):
            self._start_worker()

    def _replace_workers(self, now: float) -> None:
        staying = len(self._alive - self._leaving)
        missing = self._workers_wanted() - staying - len(self._cluster.waiting())
        if missing > 0 and self._due("restart", RESTART_SECONDS, now):
            self._start_worker()

    def _watch_start(self, now: float) -> None:
        """A dead cluster, or workers that cannot start, end the run with a word why."""
        trouble = self._cluster.trouble()
        if trouble is not None:
            self._stop("cluster_lost", f"{trouble}; start it again, then run again")
        if self._alive or self._drain_began is not None:
            return
        if self._start_error is not None:
            self._stop(self._start_error.cause, self._start_error.message)
        self._starved_since = self._starved_since or now
        if now - self._starved_since > self._run.start_seconds:
            self._stop(
                "no_workers",
                f"no worker came up within {self._run.start_seconds:.0f} s; see that the cluster "
                "has free CPUs (`ray status`), then run again",
            )

    def _watch_stop(self, now: float) -> None:
        """A person's wish to stop, and the bound on how long a drain may take."""
        if self._stop_request.times and self._drain_began is None:
            self._stop("asked", "stopped on request")
        if self._drain_began is None:
            return
        over = now - self._drain_began > self._run.drain_seconds
        if over or self._stop_request.times > 1 or not self._alive:
            for worker in list(self._alive):
                self._end_worker(worker, now)
            self._finished = True

    def _stop(self, cause: str, message: str) -> None:
        if self._ending.cause is None:
            self._ending.cause, self._ending.message = cause, message
        self._begin_drain(self._now())

    def _begin_drain(self, now: float) -> None:
        if self._drain_began is not None:
            return
        self._drain_began = now
        self._phase = Phase.DRAINING
        for worker in self._alive:
            self._cluster.send(worker, DrainWorker())
        self._dispatch(Drain(now=now))

    def _forget(self, worker: str, *, lost: bool) -> None:
        self._alive.discard(worker)
        self._leaving.discard(worker)
        self._budget.leave(worker)
        self._totals.drop_worker(worker, lost=lost)

    # -- what is shown -----------------------------------------------------------------------------

    def _report(self) -> None:
        """Save, then show: what has been seen from outside is never taken back by the next run."""
        now = self._now()
        status = self._totals.status(
            self._phase,
            now=now,
            started=self._started,
            unix=time.time(),
            shards=self._scheduler.counts(),
        )
        save_status(self._directory, status, self._status_file)
        self._show(status)
        self._say_silent(set(status.silent_seconds))
        self._ending.status = status

    def _say_silent(self, stores: set[str]) -> None:
        """A line that stays when a store goes away, and when it is back."""
        for store in sorted(stores - self._silent):
            log.warning("the %s answers nobody: workers wait for it, and go on when it does", store)
        if self._alive and self._drain_began is None:
            for store in sorted(self._silent - stores):
                log.warning("the %s answers again", store)
            self._silent = stores

    @staticmethod
    def _now() -> float:
        return time.monotonic()


def drive(
    directory: JobDirectory,
    scheduler: Scheduler,
    totals: Totals,
    spec: WorkerSpec,
    config: JobConfig,
    sizes: Sizes,
    *,
    cluster: Cluster,
    show: Callable[[JobStatus], None],
) -> Ending:
    """Run a scheduler on a cluster, which is closed at the end."""
    moving = spec.mode is Mode.MOVE
    stop_request = StopRequest()
    log_directory = directory.root / "log"
    make_folders(log_directory)
    with log_file(log_directory / "noria.log", config.run.log_format), cluster:
        cluster.start(log_directory)
        with stop_request.on_signals():
            driver = Driver(
                directory,
                scheduler,
                cluster,
                totals,
                spec,
                config,
                sizes,
                area=spec.area,
                phase=Phase.MOVING if moving else Phase.VERIFYING,
                show=show,
                stop_request=stop_request,
                status_file=STATUS_FILE if moving else VERIFY_STATUS_FILE,
            )
            return driver.run()
