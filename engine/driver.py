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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from noria.engine.budgets import Budgets
from noria.engine.cluster.protocol import (
    START_FAILED,
    Cluster,
    ClusterEvent,
    DrainWorker,
    Instruction,
    Lost,
    Reported,
    Started,
)
from noria.engine.concurrency.sharing import starting_number
from noria.engine.config.jobfile import JobConfig
from noria.engine.crew import Crew
from noria.engine.guards import Guards, GuardsOfRun
from noria.engine.hosts import HostWatch, Trouble
from noria.engine.live_settings import LOOK_SECONDS, LiveSettings, SettingsOfAll
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
    Pause,
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
from noria.engine.scheduler.scheduler import LEASES_FAILED, Scheduler
from noria.engine.sealing import Sealer
from noria.engine.status import (
    STATUS_FILE,
    VERIFY_STATUS_FILE,
    Ending,
    JobStatus,
    Phase,
    save_status,
)
from noria.engine.surroundings import Surroundings
from noria.engine.totals import Totals
from noria.engine.worker_spec import Mode, WorkerSpec
from noria.manifests.access import make_folders
from noria.manifests.count_text import count_text
from noria.manifests.errors import NoriaError, StopAsked, host_causes
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.fence import Fence
from noria.manifests.model import LeaseEnd, LeaseKind, LeaseResult

log = logging.getLogger("noria.driver")

Sizes = Sequence[Mapping[str, int]]
"""How many entries of which sizes are to be moved: see Manifest.sizes."""

POLL_SECONDS = 0.25
TICK_SECONDS = 1.0
BUDGET_SECONDS = 0.5
SHOW_SECONDS = 1.0
NODE_CHECK_SECONDS = 1.0
SILENT_SECONDS = 20.0
"""A store that answers nobody is said after so long: by then a host that it alone does not answer
rests."""
FENCE_SECONDS = 1.0
"""How often a driver looks whether the job is still its own; see manifests/job/fence.py."""


class StopRequest:
    """Ctrl-C, SIGTERM and SIGHUP ask for a drain; the second time, for an end at once."""

    def __init__(self) -> None:
        self.times = 0

    def ask(self, number: int = 0, frame: FrameType | None = None) -> None:
        self.times += 1


@contextmanager
def calling_on_signals(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP call `handle` while the block runs; then all is as before.

    Only the main thread of a process can hear them: on another one, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored, as SIGHUP is under nohup, stays so. What is None was not set by Python, and
    # could not be set again.
    heard = [each for each in _SIGNALS if signal.getsignal(each) not in (signal.SIG_IGN, None)]
    earlier = {number: signal.signal(number, handle) for number in heard}
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
        fence: Fence,
        sealer: Sealer,
        settings: LiveSettings,
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
        self._fence = fence
        self._sealer = sealer
        self._settings = settings
        self._phase = phase
        self._show = show
        self._stop_request = stop_request
        self._status_file = status_file
        self._ending = Ending()
        self._finished = False
        self._crew = Crew(
            cluster, config.run, objects=totals.objects_total, size=totals.bytes_total
        )
        self._crew.ask(settings.limits.number("workers"))
        self._paused_at: float | None = None
        self._lease_ends: dict[tuple[int, int, int], int] = {}
        self._shards_of: dict[str, set[int]] = {}
        """Worker -> shards of which it had a lease."""
        self._drain_began: float | None = None
        self._start_error: NoriaError | None = None
        self._hosts = HostWatch()
        self._resting: dict[str, str] = {}
        """Hosts in trouble and why, as was said."""
        self._silent: set[str] = set()
        """Stores that answer nobody, as was said."""
        self._surroundings = Surroundings(directory.root, config)
        self._started = time.monotonic()
        self._last = dict.fromkeys(("tick", "show", "nodes", "budgets", "fence", "settings"), 0.0)
        self._may_write_until = -math.inf
        """Until then workers that were not seen to end may go on with what they had in hand."""
        self._starved_since: float | None = self._started

    def run(self) -> Ending:
        """Block until the job is complete, drained or stopped.

        Raises JobDirectoryError, AnotherDriver.
        """
        self._dispatch(Tick(now=self._now()))
        self._budgets, self._spec = self._begin_budgets()
        self._follow_settings(self._now())
        self._crew.begin(self._budgets.spec(self._spec), {})
        self._keep_time()
        while not self._finished:
            events = self._cluster.poll(POLL_SECONDS)
            self._keep_fence()
            for event in events:
                self._on_event(event)
            self._keep_time()
        self._ending.complete = self._scheduler.complete
        self._ending.workers_may_write = self._now() < self._may_write_until
        self._report()
        return self._ending

    def _begin_budgets(self) -> tuple[Budgets, WorkerSpec]:
        """What all workers share, and the spec of workers that start with their share.

        Transfers start with what suits the plan, or stay at what is set.
        """
        workers = self._crew.wanted({})
        start = starting_number(self._sizes, workers=workers, part_bytes=self._part_bytes)
        budgets = Budgets(self._settings.limits, start)
        return budgets, budgets.first_share(self._spec, workers)

    # -- what people ask for meanwhile -------------------------------------------------------------

    def _look_at_settings(self, now: float) -> None:
        quiet = self._paused_at is not None and not any(True for _ in self._scheduler.live())
        before = self._settings.limits
        if self._settings.look(now, quiet=quiet) != before:
            self._follow_settings(now)
        drain = self._settings.drain
        if drain is not None and self._drain_began is None:
            self._stop("asked", f"drained on request of {drain.by}")

    def _follow_settings(self, now: float) -> None:
        limits = self._settings.limits
        self._budgets.follow(limits)
        self._crew.ask(limits.number("workers"))
        # Who is one of many leaves its workers to the others.
        self._crew.rest(limits.paused is not None and self._settings.is_of_many)
        if limits.paused and self._paused_at is None:
            self._paused_at = now
            for worker in self._crew.alive:
                self._cluster.send(worker, DrainWorker())
            self._dispatch(Pause(now=now, on=True))
        elif not limits.paused and self._paused_at is not None:
            self._paused_at = None
            self._dispatch(Pause(now=now, on=False))

    def _end_those_that_go_on(self, now: float) -> None:
        """Who has not handed back what it held so long into a pause does so by its end."""
        if self._paused_at is None or now - self._paused_at < self._run.drain_seconds:
            return
        for worker in {name for name, _ in self._scheduler.live()} & self._crew.alive:
            who = self._totals.describe_worker(worker)
            log.warning("%s works on in a pause, and is ended", who)
            self._end_at_work(worker, now, lost=False)
            if self._cluster.workers_elsewhere() is None:  # a process of this machine is gone
                self._dispatch(WorkerLost(now=now, worker=worker))

    # -- what happens ------------------------------------------------------------------------------

    def _on_event(self, event: ClusterEvent) -> None:
        now = self._now()
        match event:
            case Started(worker=worker, host=host):
                self._crew.note_up(worker)
                self._hosts.join(worker, host)
                self._totals.place_worker(worker, self._hosts.name_of(host))
                log.info("%s is up", self._totals.describe_worker(worker))
                self._starved_since, self._start_error = None, None
                self._budgets.join(worker)
                self._tell(self._budgets.decide_rates(now))
                self._dispatch(
                    WorkerJoined(
                        now=now,
                        worker=worker,
                        slots=self._run.leases,
                        host=host.id,
                        hosts=len(self._cluster.hosts()),
                    )
                )
                self._cluster.exchange(worker)
            case Reported(worker=worker):
                self._on_report(event, now)
                self._cluster.exchange(worker)
            case Lost(worker=worker, error=error):
                if event.host is not None:
                    self._totals.place_worker(worker, self._hosts.name_of(event.host))
                who = self._totals.describe_worker(worker)
                log.warning("%s is lost: %s", who, event.last_words or event.cause)
                self._note_refusal(event, now)
                if not event.ended:
                    self._expect_writes(worker)
                self._forget(worker, lost=error is None and worker not in self._crew.leaving)
                if event.ended:
                    self._dispatch(WorkerLost(now=now, worker=worker))
                else:
                    # Nobody gets its leases before it must have stopped: see runtime/hold.py.
                    self._dispatch(WorkerDraining(now=now, worker=worker))
                if event.cause == START_FAILED and self._crew.note_failed_start():
                    number = self._crew.failed_starts
                    words = f"{count_text(number, 'worker')} in a row died while they started"
                    self._stop(START_FAILED, f"{words}: {event.last_words}")

    def _note_refusal(self, event: Lost, now: float) -> None:
        """A worker could say why it cannot work: its host rests, or nobody can."""
        if event.error is None:
            return
        if event.host is None:
            self._start_error = event.error
            return
        trouble = Trouble(cause=event.error.cause, message=event.error.message)
        self._hosts.refuse_start(event.host, trouble, now)
        if not self._stops_for_hosts(now):
            self._rest_hosts(now)

    def _on_report(self, event: Reported, now: float) -> None:
        worker, report = event.worker, event.report
        self._hosts.hear(worker, report.metrics, now)
        self._totals.add_report(worker, report.progress, report.metrics, report.results)
        self._budgets.hear(worker, report)
        for result in report.results:
            judged = self._judge(worker, result, now)
            self._dispatch(LeaseEnded(now=now, worker=worker, result=judged))
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
        if worker not in self._crew.alive:
            return  # one of these was too much
        if worker in self._crew.leaving and not report.progress and self._drain_began is None:
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

    def _judge(self, worker: str, result: LeaseResult, now: float) -> LeaseResult:
        """What the end of a lease says of its host. A trouble of one host ends no run."""
        if result.how is LeaseEnd.FINISHED:
            self._hosts.succeed(worker, now)
        elif (
            result.how is LeaseEnd.FATAL
            and result.cause in host_causes()
            and self._is_live(worker, result.attempt)
        ):
            trouble = Trouble(cause=str(result.cause), message=str(result.message))
            self._hosts.blame(worker, trouble, now)
            if self._stops_for_hosts(now):
                return result
            self._rest_hosts(now)
            return replace(result, how=LeaseEnd.RETURNED)
        return result

    def _is_live(self, worker: str, attempt: int) -> bool:
        """An attempt that was revoked may end of things that are over."""
        return (worker, attempt) in ((name, held.attempt) for name, held in self._scheduler.live())

    def _stops_for_hosts(self, now: float) -> bool:
        """Stop if no host is left, and no worker is on its way; then return True."""
        known = self._cluster.hosts().keys() | self._hosts.occupied()
        verdict = None if self._cluster.waiting() else self._hosts.verdict(known, now)
        if verdict is not None:
            self._stop(verdict.cause, verdict.message)
        return verdict is not None

    def _rest_hosts(self, now: float) -> None:
        """Workers of hosts in trouble hand back what they hold, and end."""
        self._hosts.look(now)
        reasons = self._hosts.reasons(now)
        for host in sorted(reasons.keys() - self._resting.keys()):
            log.warning("host %s rests, and others get its work: %s", host, reasons[host])
        for host in sorted(self._resting.keys() - reasons.keys()):
            log.warning("host %s is tried again", host)
        self._resting = reasons
        self._totals.set_barred(reasons)
        for worker in self._hosts.workers_to_end(now):
            self._let_go(worker, now)
            if self._crew.overdue(worker, now, self._run.heartbeat_timeout_seconds):
                log.warning("%s does not let go", self._totals.describe_worker(worker))
                self._end_at_work(worker, now, lost=True)

    def _end_at_work(self, worker: str, now: float, *, lost: bool) -> None:
        """End a worker that has something in hand yet.

        Others get its leases once it is not heard for long enough.
        """
        self._expect_writes(worker)
        self._cluster.kill(worker)
        self._forget(worker, lost=lost)
        self._dispatch(WorkerDraining(now=now, worker=worker))

    def _let_go(self, worker: str, now: float) -> None:
        """A worker is to hand back what it holds; it is ended once it has."""
        if self._crew.note_leaving(worker, now):
            self._cluster.send(worker, DrainWorker())
            self._dispatch(WorkerDraining(now=now, worker=worker))

    def _end_worker(self, worker: str, now: float) -> None:
        """End a worker that is no longer needed: it counts as gone, not as lost."""
        self._cluster.kill(worker)
        self._forget(worker, lost=False)
        self._dispatch(WorkerLost(now=now, worker=worker))

    def _expect_writes(self, worker: str) -> None:
        """A worker was not seen to end, and may go on for a while.

        What it alone may know is kept: uploads that it opens yet.
        """
        self._may_write_until = self._now() + self._run.heartbeat_timeout_seconds
        self._budgets.expect_use(worker, self._may_write_until)
        if self._spec.mode is not Mode.MOVE:
            return
        for shard in self._shards_of.get(worker, ()):
            if not self._scheduler.is_settled(shard):
                self._directory.keep_journals(shard)

    def _drop_journals(self, shard: int) -> None:
        """Those of a shard that is settled. What a verification settles is not what was moved."""
        if self._spec.mode is Mode.MOVE and self._scheduler.is_settled(shard):
            self._directory.drop_journal(shard)

    def _dispatch(self, event: Event) -> None:
        for command in self._scheduler.on(event):
            self._execute(command)

    def _execute(self, command: Command) -> None:
        match command:
            case Grant(worker=worker, lease=lease):
                self._lease_ends[lease.shard, lease.first, lease.attempt] = lease.end
                self._shards_of.setdefault(worker, set()).add(lease.shard)
                self._cluster.send(worker, command)
            case Revoke(worker=worker) | Split(worker=worker):
                self._cluster.send(worker, command)
            case SealLease(result=result):
                self._fence.keep()  # time may have stood still since the last look
                sealed = self._sealer.seal(result)
                self._totals.add_seal(sealed)
                if result.kind is not LeaseKind.PARTS:
                    self._drop_journals(result.shard)
            case Quarantine():
                log.error("shard %d is given up in this run: %s", command.shard, command.cause)
                self._ending.quarantined.append(command)
            case LoseWorker(worker=worker, cause=cause):
                log.warning("%s is given up: %s", self._totals.describe_worker(worker), cause)
                if worker in self._crew.alive:
                    self._doubt_host(worker, cause)
                    self._expect_writes(worker)
                    self._cluster.kill(worker)
                    self._forget(worker, lost=True)
            case NewGeneration(shard=shard):
                self._totals.void_parts(shard)
            case Stop(cause=cause, message=message):
                self._stop(cause, message)
            case Finish():
                self._finished = True

    def _doubt_host(self, worker: str, cause: str) -> None:
        if cause == LEASES_FAILED:
            words = "leases on several shards in a row have failed there, and none ended well"
            self._hosts.doubt(worker, Trouble(cause=cause, message=words), self._now())

    # -- what time brings --------------------------------------------------------------------------

    def _keep_time(self) -> None:
        now = self._now()
        if self._due("settings", LOOK_SECONDS, now):
            self._look_at_settings(now)
        if self._due("budgets", BUDGET_SECONDS, now):
            self._tell(self._budgets.decide(now))
        if self._due("tick", TICK_SECONDS, now):
            self._dispatch(Tick(now=now))
            if self._drain_began is None:
                self._rest_hosts(now)
                resting = self._hosts.resting(now)
                spec = self._budgets.spec(self._spec)
                self._crew.fill(spec, resting, busy=self._budgets.busy, now=now)
                for worker in self._crew.surplus():
                    self._let_go(worker, now)
                self._end_those_that_go_on(now)
            self._watch_start(now)
        if self._due("nodes", NODE_CHECK_SECONDS, now):
            for worker in sorted(self._cluster.leaving()):
                self._let_go(worker, now)
        self._watch_stop(now)
        if self._due("show", SHOW_SECONDS, now):
            self._report()

    def _tell(self, told: Iterable[tuple[str, Instruction]]) -> None:
        for worker, instruction in told:
            self._cluster.send(worker, instruction)

    def _due(self, what: str, seconds: float, now: float) -> bool:
        if now - self._last[what] < seconds:
            return False
        self._last[what] = now
        return True

    def _keep_fence(self) -> None:
        if self._due("fence", FENCE_SECONDS, self._now()):
            self._fence.keep()

    def _watch_start(self, now: float) -> None:
        """A dead cluster, or workers that cannot start, end the run with a word why."""
        trouble = self._cluster.trouble()
        if trouble is not None:
            self._stop("cluster_lost", f"{trouble}; then run again")
        self._stops_for_hosts(now)
        if self._crew.alive or self._drain_began is not None:
            return
        if self._start_error is not None:
            self._stop(self._start_error.cause, self._start_error.message)
        self._starved_since = self._starved_since or now
        if now - self._starved_since > self._run.start_seconds:
            words = [
                f"no worker came up within {self._run.start_seconds:.0f} s",
                self._cluster.nodes_lost(),
                self._hosts.told(now),
                "see that the cluster has free CPUs (`ray status`), then run again",
            ]
            self._stop("no_workers", "; ".join(filter(None, words)))

    def _watch_stop(self, now: float) -> None:
        """A person's wish to stop, and the bound on how long a drain may take."""
        if self._stop_request.times and self._drain_began is None:
            self._stop("asked", "stopped on request")
        if self._drain_began is None:
            return
        over = now - self._drain_began > self._run.drain_seconds
        # What was done is in the journals; workers that nobody can reach end by themselves.
        over = over or self._cluster.trouble() is not None
        if over or self._stop_request.times > 1 or not self._crew.alive:
            at_work = {worker for worker, _ in self._scheduler.live()}
            for worker in list(self._crew.alive):
                if worker in at_work:
                    self._expect_writes(worker)
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
        for worker in self._crew.alive:
            self._cluster.send(worker, DrainWorker())
        self._dispatch(Drain(now=now))

    def _forget(self, worker: str, *, lost: bool) -> None:
        self._hosts.leave(worker, lost=lost, now=self._now())
        self._crew.note_gone(worker)
        self._shards_of.pop(worker, None)
        self._budgets.leave(worker)
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
        bandwidth = self._budgets.bandwidth
        if bandwidth.limit != math.inf:
            status = replace(status, bandwidth=bandwidth.limit, held=bandwidth.holds)
        drains = self._ending.message if self._drain_began is not None else None
        status = replace(status, in_force=self._settings.limits, drains=drains)
        status = self._surroundings.told_in(status)
        save_status(self._directory, status, self._status_file)
        try:
            self._show(status)
        except StopAsked:
            self._stop_request.ask()
        long = {store for store, s in status.silent_seconds.items() if s >= SILENT_SECONDS}
        self._say_silent(long)
        self._ending.status = status

    def _say_silent(self, stores: set[str]) -> None:
        """A line that stays when a store goes away, and when it is back."""
        for store in sorted(stores - self._silent):
            log.warning("the %s answers nobody: workers wait for it, and go on when it does", store)
        if self._crew.alive and self._drain_began is None:
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
    fence: Fence,
    show: Callable[[JobStatus], None],
    guards: GuardsOfRun = Guards(),  # noqa: B008 - there are none
    of_all: SettingsOfAll | None = None,
) -> Ending:
    """Run a scheduler on a cluster, which is closed at the end.

    `of_all`: what holds for all datasets of which this job is one.
    """
    moving = spec.mode is Mode.MOVE
    stop_request = StopRequest()
    log_directory = directory.root / "log"
    make_folders(log_directory)
    # On the main thread a job is alone; on others, others may be at work beside it.
    is_alone = threading.current_thread() is threading.main_thread()
    thread = None if is_alone else threading.get_ident()
    with log_file(log_directory / "noria.log", config.run.log_format, thread=thread), cluster:
        settings = LiveSettings(directory.root, config.run, of_all=of_all)
        settings.heed(guards)
        timeout_seconds = config.run.heartbeat_timeout_seconds
        cluster.start(log_directory, patience_seconds=timeout_seconds)
        elsewhere = cluster.workers_elsewhere()
        if moving and elsewhere is not None:
            fence.begin(elsewhere, timeout_seconds)
        with (
            calling_on_signals(stop_request.ask),
            Sealer(directory, spec.area) as sealer,
            guards,
        ):
            guards.begin()
            driver = Driver(
                directory,
                scheduler,
                cluster,
                totals,
                spec,
                config,
                sizes,
                fence=fence,
                sealer=sealer,
                settings=settings,
                phase=Phase.MOVING if moving else Phase.VERIFYING,
                show=show,
                stop_request=stop_request,
                status_file=STATUS_FILE if moving else VERIFY_STATUS_FILE,
            )
            return driver.run()
