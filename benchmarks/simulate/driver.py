"""A simulated driver: it hands events to the real Scheduler, and executes its commands.

It is restarted as engine/driver.py would be: from the seals, with new attempt numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from noria.benchmarks.simulate.cluster import SimulatedCluster
from noria.benchmarks.simulate.ledger import Violation
from noria.benchmarks.simulate.settings import HOUR, READ_OPERATIONS, SEAL_OPERATIONS
from noria.benchmarks.simulate.trace import Trace
from noria.benchmarks.simulate.workers import Report, SimulatedNode, SimulatedWorker
from noria.benchmarks.simulate.world import World
from noria.engine.cluster.protocol import DrainWorker
from noria.engine.scheduler.events import (
    Command,
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
    SchedulerOptions,
    SealLease,
    SettledSpan,
    Split,
    Tick,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
    WorkerReported,
)
from noria.engine.scheduler.scheduler import Scheduler
from noria.manifests.job.directory import ATTEMPTS_PER_EPOCH
from noria.manifests.job.seals import SEGMENT_SEALS
from noria.manifests.model import Lease, LeaseKind

START_SECONDS = (10.0, 40.0)
"""How long a worker process takes to be up."""
COMMAND_SECONDS = 1.0
"""A worker's exchange with the driver takes no longer, and then it hears what it is told."""


class Judge(Protocol):
    """Looks on, and raises if something is wrong."""

    def begin_run(
        self, settled: Sequence[SettledSpan], generations: Mapping[int, int], first_attempt: int
    ) -> None: ...

    def take(self, event: Event, commands: list[Command]) -> None: ...


class Steering(Protocol):
    """Whoever steers the job."""

    def take_over(self) -> None:
        """A driver begins, and has not granted anything yet."""


class SimulatedDriver:
    """One after the other: between two of them nobody hears the workers."""

    def __init__(
        self,
        world: World,
        options: SchedulerOptions,
        scheduler_type: type[Scheduler],
        judges: Sequence[Judge],
    ) -> None:
        self._world = world
        self._options = options
        self._scheduler_type = scheduler_type
        self._judges = judges
        self.trace = Trace()
        self.cluster = SimulatedCluster(world, self.exchange, self.hear_lost)
        self._clock = world.draw_clock()
        self._scheduler: Scheduler | None = None
        self._epoch = 0
        self._known: dict[str, SimulatedWorker] = {}
        """Whom it counts on."""
        self._exchanging: SimulatedWorker | None = None
        self._paused_until = 0.0
        self._stopped_at = 0.0
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        """What it will hear when it moves again."""
        self._sealed_at = 0.0
        self._is_held = False
        """The job is paused."""
        self.finished = False
        self.steering: Steering | None = None

    @property
    def is_at_work(self) -> bool:
        """There is a driver, and it moves."""
        return self._scheduler is not None and self._world.now >= self._paused_until

    # -- its life ----------------------------------------------------------------------------------

    def begin(self) -> None:
        world = self._world
        self._epoch += 1
        self._waiting.clear()
        self._paused_until = world.now
        settled, generations = world.records.sealed()
        self._use_files(READ_OPERATIONS * -(-len(settled) // SEGMENT_SEALS))
        first_attempt = self._epoch * ATTEMPTS_PER_EPOCH + 1
        for judge in self._judges:
            judge.begin_run(settled, generations, first_attempt)
        self._scheduler = self._scheduler_type(
            world.records.plans.values(),
            settled=settled,
            generations=generations,
            first_attempt=first_attempt,
            options=self._options,
        )
        if self.steering is not None:
            self.steering.take_over()
        self._tick(self._epoch)
        if self._epoch == 1:
            for _ in range(self.cluster.missing):
                self.cluster.add_node()
        for node in self.cluster.nodes.values():
            node.starting = 0
            self.staff(node)

    def stop(self) -> None:
        """At once. Its workers end with it, but those that nothing reaches."""
        self._scheduler = None
        self._stopped_at = self._clock()
        for worker in list(self.cluster.workers()):
            if worker.is_silent:
                self._forget(worker)
            else:
                self.cluster.die(worker)
        self._known.clear()

    def follow(self) -> None:
        """The next driver begins, once.

        If workers of the last one are left, it waits until they must have ended, as
        manifests/job/fence.py says.
        """
        if self._scheduler is not None:
            return
        seconds = self._stopped_at + self._options.heartbeat_timeout_seconds - self._clock()
        if seconds > 0 and any(True for _ in self.cluster.workers()):
            self._world.later(self._clock.lasts(seconds), self.follow)
        else:
            self.begin()

    def pause(self, seconds: float) -> None:
        """Pause: what happens meanwhile is heard afterwards, all at once."""
        self._paused_until = max(self._paused_until, self._world.now + seconds)
        self._world.later(self._paused_until - self._world.now, self._resume, self._epoch)

    def pause_work(self, *, on: bool) -> None:
        """Have all workers hand back what they hold, and grant nothing; or go on."""
        self._is_held = on
        if on:
            for worker in self._known.values():
                self._send(worker.name, DrainWorker())
        self._tell(Pause(now=self._clock(), on=on))

    def end_those_that_go_on(self) -> None:
        """Of those that can be reached, whoever has not handed back all by now is ended."""
        for worker in list(self._known.values()):
            if worker.tasks and not worker.is_silent and not worker.unreachable:
                self._world.figures.count("ended in a pause")
                self._tell(WorkerDraining(now=self._clock(), worker=worker.name))
                self.cluster.die(worker)
                self.hear_lost(worker)

    def _use_files(self, operations: int) -> None:
        """Wait for the file system of the job directory, and for nothing else meanwhile."""
        seconds = operations * self._world.site.metadata_seconds
        if seconds:
            self._world.figures.file_seconds += seconds
            self.pause(max(0.0, self._paused_until - self._world.now) + seconds)

    def _resume(self, epoch: int) -> None:
        if epoch == self._epoch:
            waiting, self._waiting = self._waiting, []
            for action, arguments in waiting:
                action(*arguments)

    def _must_wait(self, action: Callable[..., None], *arguments: Any) -> bool:
        if self._world.now >= self._paused_until:
            return False
        self._waiting.append((action, arguments))
        return True

    # -- workers -----------------------------------------------------------------------------------

    def staff(self, node: SimulatedNode) -> None:
        """Start as many workers on a node as it should have, if they can be reached there."""
        if node.gone or node.leaving or node.away:
            return
        site = self._world.site
        missing = min(site.workers_per_node - node.expected, site.workers - self._expected())
        for _ in range(max(0, missing)):
            self._start_worker(node)

    def _expected(self) -> int:
        return sum(node.expected for node in self.cluster.nodes.values())

    def _start_worker(self, node: SimulatedNode) -> None:
        node.starting += 1
        seconds = self._world.chance.uniform(*START_SECONDS)
        self._world.later(seconds, self._join, node, self._epoch)

    def _join(self, node: SimulatedNode, epoch: int) -> None:
        if self._must_wait(self._join, node, epoch):
            return
        if epoch != self._epoch or self._scheduler is None:
            return
        node.starting -= 1
        if node.gone or node.away:
            return
        worker = self.cluster.start_worker(node)
        self._known[worker.name] = worker
        self._world.holders.note_heard(worker, worker.sent_at)
        self._exchanging = worker
        self._tell(
            WorkerJoined(
                now=self._clock(),
                worker=worker.name,
                slots=worker.slots,
                host=f"{worker.node.number}",
            )
        )
        self._exchanging = None
        self._call(worker)

    def hear_lost(self, worker: SimulatedWorker) -> None:
        """The cluster says that a worker's process has ended."""
        if not self._must_wait(self.hear_lost, worker) and self._counts_on(worker):
            self._forget(worker)
            self._tell(WorkerLost(now=self._clock(), worker=worker.name))
            self.staff(worker.node)

    def hear_unreachable(self, worker: SimulatedWorker) -> None:
        """The cluster has lost a worker, and cannot say whether its process has ended.

        It is never called again, and its leases are its own until its time is over.
        """
        if not self._must_wait(self.hear_unreachable, worker) and self._counts_on(worker):
            self._world.figures.mark(self._world.now, "worker unreachable")
            worker.unreachable = True
            self._tell(WorkerDraining(now=self._clock(), worker=worker.name))
            self.staff(worker.node)

    def hear_draining(self, worker: SimulatedWorker) -> None:
        if not self._must_wait(self.hear_draining, worker) and self._counts_on(worker):
            self._tell(WorkerDraining(now=self._clock(), worker=worker.name))

    def _counts_on(self, worker: SimulatedWorker) -> bool:
        return worker.name in self._known and not worker.unreachable

    def _forget(self, worker: SimulatedWorker) -> None:
        self._known.pop(worker.name, None)
        worker.forgotten = True
        self.cluster.fence(worker)

    def exchange(self, worker: SimulatedWorker) -> None:
        """A worker's report is due: it goes out, is heard, and is answered by the next call."""
        report = self.cluster.report(worker)
        if report is not None:
            self.cluster.carry(worker, self._hear_report, worker, report)

    def _hear_report(self, worker: SimulatedWorker, report: Report) -> None:
        """Take a report, and call the worker.

        That of a worker which counts as lost is heard all the same, and not answered.
        """
        if self._must_wait(self._hear_report, worker, report) or worker.unreachable:
            return
        now, stale = self._clock(), worker.name not in self._known
        if not stale:
            self._world.holders.note_heard(worker, report.sent_at)
        self._exchanging = worker
        for result in report.results:
            self._world.figures.count("stale results", int(stale))
            self._tell(LeaseEnded(now=now, worker=worker.name, result=result))
        for lease, end in report.cuts:
            self._tell_cut(worker, lease, end)
        self._tell(
            WorkerReported(
                now=now,
                worker=worker.name,
                progress=report.progress,
                free_places=report.free_places,
            )
        )
        self._exchanging = None
        if self._counts_on(worker):
            self._call(worker)

    def _call(self, worker: SimulatedWorker) -> None:
        commands, worker.outbox = worker.outbox, []
        self.cluster.carry(worker, self.cluster.take_call, worker, commands)

    def _tell_cut(self, worker: SimulatedWorker, lease: Lease, end: int) -> None:
        self._world.figures.count("splits answered")
        self._tell(
            LeaseCut(
                now=self._clock(),
                worker=worker.name,
                shard=lease.shard,
                first=lease.first,
                attempt=lease.attempt,
                end=end,
            )
        )

    # -- the scheduler -----------------------------------------------------------------------------

    def _tick(self, epoch: int) -> None:
        if epoch != self._epoch or self._scheduler is None:
            return
        if self._must_wait(self._tick, epoch):
            return
        self._world.later(self._world.cadence.tick_seconds, self._tick, epoch)
        self._tell(Tick(now=self._clock()))
        if self._is_held:
            self._sealed_at = self._world.now
        readiness = 4 * self._options.stall_seconds + HOUR
        if self._world.now - self._sealed_at > readiness and not self.finished:
            raise Violation(f"the end is not reached: nothing was sealed for {readiness:.0f} s")

    def _tell(self, event: Event) -> None:
        if self._scheduler is None or self.finished:
            return
        commands = self._scheduler.on(event)
        self.trace.add(event, commands)
        for judge in self._judges:
            judge.take(event, commands)
        for command in commands:
            self._obey(command)

    def _obey(self, command: Command) -> None:
        world = self._world
        match command:
            case Grant(worker=worker):
                world.figures.count("leases")
                self._send(worker, command)
            case Revoke(worker=worker, attempt=attempt):
                world.figures.count("revokes")
                if worker in self._known:
                    self.cluster.fence(self._known[worker], attempt)
                    self._send(worker, command)
            case Split(worker=worker):
                world.figures.count("splits")
                self._send(worker, command)
            case SealLease(result=result):
                self._sealed_at = world.now
                world.figures.count("seals")
                assert self._scheduler is not None, "only a scheduler seals"
                settles = result.kind is not LeaseKind.PARTS
                settles = settles and self._scheduler.is_settled(result.shard)
                world.records.seal(result, settles=settles)
                self._use_files(SEAL_OPERATIONS)
            case Quarantine():
                world.figures.mark(world.now, "quarantine")
            case LoseWorker(worker=worker, cause=cause):
                world.figures.mark(world.now, f"worker lost: {cause}")
                self._lose(self._known[worker])
            case NewGeneration(shard=shard, generation=generation):
                world.figures.count("generations lost")
                world.records.void(shard, generation, world.now)
            case Finish():
                self.finished = True

    def _send(self, name: str, command: Command | DrainWorker) -> None:
        worker = self._known[name]
        worker.outbox.append(command)
        if worker is not self._exchanging and not worker.is_silent:
            seconds = self._world.chance.uniform(0.0, COMMAND_SECONDS)
            self.cluster.exchange_by(worker, self._world.now + seconds)

    def _lose(self, worker: SimulatedWorker) -> None:
        """End its process; one that nothing reaches works on for as long as it may."""
        self._forget(worker)
        if not worker.is_silent and not worker.unreachable:
            self.cluster.die(worker)
        self.staff(worker.node)
