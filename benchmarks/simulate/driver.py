"""A simulated driver: it hands events to the real Scheduler, and executes its commands.

It is restarted as engine/driver.py would be: from the seals, with new attempt numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from noria.benchmarks.simulate.cluster import SimulatedCluster
from noria.benchmarks.simulate.ledger import Violation
from noria.benchmarks.simulate.settings import HOUR
from noria.benchmarks.simulate.trace import Trace
from noria.benchmarks.simulate.workers import SimulatedNode, SimulatedWorker, Task
from noria.benchmarks.simulate.world import World
from noria.engine.scheduler.events import (
    Command,
    Event,
    Finish,
    Grant,
    LeaseCut,
    LeaseEnded,
    LoseWorker,
    NewGeneration,
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
from noria.manifests.model import LeaseKind

START_SECONDS = (10.0, 40.0)
"""How long a worker process takes to be up."""
KILL_SECONDS = (0.0, 30.0)
"""How long a worker that came back too late works on before its end reaches it."""
COMMAND_SECONDS = 1.0
"""A worker's exchange with the driver takes no longer, and then it hears what it is told."""


class Judge(Protocol):
    """Looks on, and raises if something is wrong."""

    def begin_run(
        self, settled: Sequence[SettledSpan], generations: Mapping[int, int], first_attempt: int
    ) -> None: ...

    def take(self, event: Event, commands: list[Command]) -> None: ...


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
        self.cluster = SimulatedCluster(world, self.exchange)
        self._scheduler: Scheduler | None = None
        self._epoch = 0
        self._known: dict[str, SimulatedWorker] = {}
        """Whom it counts on."""
        self._exchanging: SimulatedWorker | None = None
        self._paused_until = 0.0
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        """What it will hear when it moves again."""
        self._sealed_at = 0.0
        self.finished = False

    # -- its life ----------------------------------------------------------------------------------

    def begin(self) -> None:
        world = self._world
        self._epoch += 1
        self._waiting.clear()
        self._paused_until = world.now
        settled, generations = world.records.sealed()
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
        for worker in list(self.cluster.workers()):
            if worker.is_silent:
                self._forget(worker)
            else:
                self.cluster.die(worker)
        self._known.clear()

    def pause(self, seconds: float) -> None:
        """Pause: what happens meanwhile is heard afterwards, all at once."""
        self._paused_until = self._world.now + seconds
        self._world.later(seconds, self._resume, self._epoch)

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
        """Start as many workers on a node as it should have."""
        if node.gone or node.leaving:
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
        if node.gone:
            return
        worker = self.cluster.start_worker(node)
        self._known[worker.name] = worker
        self._exchanging = worker
        self._tell(WorkerJoined(now=self._world.now, worker=worker.name, slots=worker.slots))
        self._exchanging = None
        self.cluster.take_inbox(worker)

    def hear_lost(self, worker: SimulatedWorker) -> None:
        """The cluster says that a worker is gone."""
        if not self._must_wait(self.hear_lost, worker) and worker.name in self._known:
            self._forget(worker)
            self._tell(WorkerLost(now=self._world.now, worker=worker.name))
            self.staff(worker.node)

    def hear_draining(self, worker: SimulatedWorker) -> None:
        if not self._must_wait(self.hear_draining, worker) and worker.name in self._known:
            self._tell(WorkerDraining(now=self._world.now, worker=worker.name))

    def _forget(self, worker: SimulatedWorker) -> None:
        self._known.pop(worker.name, None)
        worker.forgotten = True
        self.cluster.fence(worker)

    def exchange(self, worker: SimulatedWorker) -> None:
        """Take a worker's report, and give it its commands.

        A worker that counts as lost reports once more all the same, before its end reaches it.
        """
        if self._must_wait(self.exchange, worker) or worker.is_silent:
            return
        now, stale = self._world.now, worker.forgotten
        self.cluster.note_progress(worker)
        self._exchanging = worker
        results, worker.results = worker.results, []
        for result in results:
            self._world.figures.count("stale results", int(stale))
            self._tell(LeaseEnded(now=now, worker=worker.name, result=result))
        for task in list(worker.tasks.values()):
            if task.end < task.said_end:
                self._tell_cut(task)
        progress = tuple(task.progress() for task in worker.tasks.values())
        self._tell(
            WorkerReported(
                now=now,
                worker=worker.name,
                progress=progress,
                free_places=worker.take_free_places(self._world.site.transfers),
            )
        )
        self._exchanging = None
        if stale:
            seconds = self._world.chance.uniform(*KILL_SECONDS)
            self._world.later(seconds, self.cluster.die, worker)
        elif worker.alive:
            self.cluster.take_inbox(worker)

    def _tell_cut(self, task: Task) -> None:
        lease, end = task.lease, task.end
        task.said_end = end
        self._world.figures.count("splits answered")
        self._tell(
            LeaseCut(
                now=self._world.now,
                worker=task.worker.name,
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
        self._tell(Tick(now=self._world.now))
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

    def _send(self, name: str, command: Command) -> None:
        worker = self._known[name]
        worker.inbox.append(command)
        if worker is not self._exchanging and not worker.is_silent:
            seconds = self._world.chance.uniform(0.0, COMMAND_SECONDS)
            self.cluster.exchange_by(worker, self._world.now + seconds)

    def _lose(self, worker: SimulatedWorker) -> None:
        """End its process; one that nothing reaches works on until it is heard again."""
        self._forget(worker)
        if not worker.is_silent:
            self.cluster.die(worker)
        self.staff(worker.node)
