"""Nodes and the workers on them: how they come, work, fall silent and go. No decisions.

A worker reports, and the driver's next call brings what it is told: there is one message under way
for each worker. It may be late, or never arrive. As workers/lease/worker.py does, a worker goes on
without its driver until its hold is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from noria.benchmarks.simulate.workers import Fate, Report, SimulatedNode, SimulatedWorker, Task
from noria.benchmarks.simulate.world import World
from noria.engine.cluster.protocol import DrainWorker
from noria.engine.scheduler.events import Command, Grant, Revoke, Split
from noria.manifests.model import Lease, LeaseEnd, LeaseKind, LeaseResult
from noria.workers.runtime.hold import END

SLOWNESS = 0.1
STOP_SECONDS = (1.0, 10.0)
"""How long what is in flight takes to end once a lease is handed back."""
STUCK_SHARE = 0.2
"""Of the leases that are handed back at the end of a hold: what is in flight may take longer."""
KILL_SECONDS = (0.0, 30.0)
"""How long a worker that came back too late works on before its end reaches it."""
WATCH_SECONDS = 0.25
"""How often a worker looks whether its hold is over. Requests look for themselves."""
ROUNDING_SECONDS = 1e-6
"""After its end a hold is surely over, however floats are rounded."""
LATE_SECONDS = (10.0, 180.0)
"""After which a late answer to a Split comes."""
PART_ASSEMBLY_BYTES = 1e5
"""What completing an upload costs for each of its parts, in bytes that would take as long."""


class SimulatedCluster:
    """All nodes and workers of a simulation."""

    def __init__(
        self,
        world: World,
        on_exchange: Callable[[SimulatedWorker], None],
        on_ended: Callable[[SimulatedWorker], None],
    ) -> None:
        """`on_exchange` is called with a worker that has a result, or whose next report is due.

        `on_ended` is called if a worker that can be reached ended by itself.
        """
        self._world = world
        self._on_exchange = on_exchange
        self._on_ended = on_ended
        self._names = 0
        self.nodes: dict[int, SimulatedNode] = {}
        self.poisoned = {
            shard
            for shard in world.records.plans
            if world.chance.random() < world.faults.poisoned_shards
        }

    def workers(self) -> Iterator[SimulatedWorker]:
        """All that are alive."""
        return (worker for node in self.nodes.values() for worker in node.workers)

    # -- coming and going --------------------------------------------------------------------------

    def add_node(self) -> SimulatedNode:
        node = SimulatedNode(self._names, self._world.draw_clock())
        self._names += 1
        self.nodes[node.number] = node
        return node

    @property
    def missing(self) -> int:
        """Nodes that the site should have."""
        site = self._world.site
        return -(-site.workers // site.workers_per_node) - len(self.nodes)

    def start_worker(self, node: SimulatedNode) -> SimulatedWorker:
        """A new process on a node that is there. It waits for its first call."""
        world = self._world
        site, chance = world.site, world.chance
        speed = site.worker_rate * chance.lognormvariate(0.0, site.worker_spread)
        if chance.random() < site.slow_share:
            speed *= SLOWNESS
        self._names += 1
        hold = world.hold_type(world.hold_seconds, clock=node.clock)
        worker = SimulatedWorker(f"{self._names}", node, speed, site.leases, hold)
        worker.joined_at = worker.idle_since = worker.sent_at = worker.proven_at = world.now
        worker.exchanging = True
        worker.free_places_least = site.transfers
        node.workers.append(worker)
        self._watch(worker)
        return worker

    def die(self, worker: SimulatedWorker) -> None:
        """At once: what is not journalled is lost. A repeat does nothing."""
        if not worker.alive:
            return
        world = self._world
        for task in list(worker.tasks.values()):
            self._move(task)
            bound = task.unit_bytes + world.site.in_flight_bytes
            bound += worker.speed * world.site.journal_seconds
            world.figures.excuse(bound)
            unflushed = worker.demand * world.site.journal_seconds / max(1.0, task.unit_work)
            done = max(0, math.floor(task.x - unflushed * world.chance.random()))
            done = max(done, task.journalled_x)
            begun = min(world.site.in_flight_bytes, (task.todo_units - task.x) * task.unit_bytes)
            begun *= world.chance.random()
            world.figures.add_moved(world.now, world.now, begun)
            self._end(task, done, lost=begun + (task.x - done) * task.unit_bytes)
        worker.alive = False
        world.figures.up_seconds += world.now - worker.joined_at
        self._note_work(worker)
        worker.node.workers.remove(worker)
        worker.results.clear()

    def lose_node(self, node: SimulatedNode) -> None:
        node.gone = True
        self.nodes.pop(node.number, None)
        for worker in list(node.workers):
            self.die(worker)

    def hush(self, worker: SimulatedWorker, *, asleep: bool) -> None:
        """From now on it is not heard; asleep, it does not work either."""
        for task in worker.tasks.values():
            self._move(task)
            self._world.records.journal(task, self._world.now, math.floor(task.x))
        worker.asleep, worker.unheard = asleep, not asleep
        worker.hushed_at = self._world.now
        self._note_work(worker)

    def wake(self, worker: SimulatedWorker, *, in_vain: bool) -> None:
        """It is there again, and what was on its way arrives; `in_vain`: it is lost."""
        if worker.node.away:
            return
        if not worker.alive:
            if not worker.node.gone:
                self._on_ended(worker)
            return
        parked, worker.parked = worker.parked, []
        slept, worker.asleep, worker.unheard = worker.asleep, False, False
        self._note_work(worker)
        # Whichever of its threads is first, no request begins before the hold is looked at.
        if slept and self._world.chance.random() < 0.5:
            self._stop_work(worker, begun_until=worker.hushed_at)
        if in_vain and parked:
            self._world.figures.mark(self._world.now, "message lost")
        else:
            for action, arguments in parked:
                action(*arguments)
            self._on_exchange(worker)
        if slept:
            self._rouse(worker)
        if worker.forgotten:
            self._world.later(self._world.chance.uniform(*KILL_SECONDS), self.die, worker)

    def _rouse(self, worker: SimulatedWorker) -> None:
        """It stood still: its tasks go on, or are handed back if the hold is over meanwhile."""
        world = self._world
        world.holders.note_woken(worker, world.now)
        for task in worker.tasks.values():
            if task.stopped_at is not None:
                world.later(world.chance.uniform(*STOP_SECONDS), self._return, task)
        self._stop_work(worker, begun_until=worker.hushed_at)
        seconds = worker.node.clock.lasts(world.chance.uniform(0.0, WATCH_SECONDS))
        world.later(seconds, self._look_at_hold, worker)
        self._watch(worker)

    def fence(self, worker: SimulatedWorker, attempt: int | None = None) -> None:
        """One of its attempts, or all, do not count any more, whether it knows or not."""
        for task in list(worker.tasks.values()):
            if attempt is None or task.lease.attempt == attempt:
                self._move(task)
                with_cause = (
                    worker.is_silent
                    or worker.unreachable
                    or task.fate is Fate.HUNG
                    or task.generation in self._world.records.lost_uploads
                )
                self._world.records.fence(task, self._world.now, with_cause=with_cause)

    # -- exchanges ---------------------------------------------------------------------------------

    def exchange_by(self, worker: SimulatedWorker, when: float) -> None:
        """See to it that the worker has its next exchange then, or before."""
        if worker.exchange_at <= self._world.now or when < worker.exchange_at:
            worker.exchange_version += 1
            worker.exchange_at = when
            self._world.agenda.at(when, self._exchange, worker, worker.exchange_version)

    def _exchange(self, worker: SimulatedWorker, version: int) -> None:
        if version == worker.exchange_version:
            self._on_exchange(worker)

    def report(self, worker: SimulatedWorker) -> Report | None:
        """The worker's report leaves it now; None if it cannot, or waits to be called."""
        if worker.exchanging or worker.asleep or not worker.alive:
            return None
        self.note_progress(worker)
        worker.exchanging, worker.sent_at = True, self._world.now
        worker.hold.note_sent()
        results, worker.results = worker.results, []
        cuts = [
            (task.lease, task.end) for task in worker.tasks.values() if task.end < task.said_end
        ]
        for lease, end in cuts:
            worker.tasks[lease.attempt].said_end = end
        return Report(
            sent_at=worker.sent_at,
            results=results,
            cuts=cuts,
            progress=tuple(task.progress() for task in worker.tasks.values()),
            free_places=worker.take_free_places(self._world.site.transfers),
        )

    def carry(self, worker: SimulatedWorker, action: Callable[..., None], *arguments: Any) -> None:
        """A message leaves for the driver, or for the worker; `action` is what it does there."""
        delay = worker.delays.pop(0) if worker.delays else 0.0
        if not delay:
            self._arrive(worker, action, *arguments)
        elif math.isfinite(delay):
            self._world.later(delay, self._arrive, worker, action, *arguments)

    def _arrive(
        self, worker: SimulatedWorker, action: Callable[..., None], *arguments: Any
    ) -> None:
        if worker.unheard:
            worker.parked.append((action, arguments))
        else:
            action(*arguments)

    def take_call(self, worker: SimulatedWorker, commands: Sequence[Command | DrainWorker]) -> None:
        """The worker is called: it takes its commands, and its next exchange is set.

        That is at its usual time, or sooner if it has to answer.
        """
        if not worker.alive:
            return
        if worker.asleep:
            worker.parked.append((self.take_call, (worker, commands)))
            return
        world = self._world
        worker.hold.renew()
        worker.exchanging, worker.proven_at = False, worker.sent_at
        self._watch(worker)
        seconds = world.cadence.report_seconds * world.chance.uniform(0.9, 1.0)
        for command in commands:
            match command:
                case Grant(lease=lease):
                    self._take_grant(worker, lease)
                case Revoke(attempt=attempt) if attempt in worker.tasks:
                    self.hand_back(worker.tasks[attempt])
                case Split(attempt=attempt, end=end) if attempt in worker.tasks:
                    self._take_split(worker.tasks[attempt], end)
                    seconds = min(seconds, world.chance.uniform(0.2, 1.0))
                case DrainWorker():
                    for task in list(worker.tasks.values()):
                        self.hand_back(task)
        if commands:
            self._note_work(worker)
        worker.exchange_at = 0.0
        self.exchange_by(worker, world.now + (0.0 if worker.results else seconds))

    # -- the hold ----------------------------------------------------------------------------------

    def _watch(self, worker: SimulatedWorker) -> None:
        """See to it that the hold is looked at when it may be over, or the worker has to end."""
        world, lasts = self._world, worker.node.clock.lasts
        due = worker.proven_at + lasts(world.hold_seconds)
        if due >= worker.watch_at:
            return
        if worker.hold.is_over:
            due = worker.proven_at + lasts(END * world.hold_seconds)
        if due <= world.now:
            due = world.now + WATCH_SECONDS
        if due < worker.watch_at:
            worker.watch_at = due
            world.agenda.at(due + ROUNDING_SECONDS, self._watch_hold, worker, due)

    def _watch_hold(self, worker: SimulatedWorker, due: float) -> None:
        if due != worker.watch_at:
            return  # it was looked at before
        worker.watch_at = math.inf
        self._look_at_hold(worker)
        if worker.alive and not worker.asleep and (worker.tasks or not worker.hold.is_over):
            self._watch(worker)

    def _look_at_hold(self, worker: SimulatedWorker) -> None:
        """Once it is over all is handed back; if that takes too long, the process ends."""
        if not worker.alive or worker.asleep or not worker.hold.is_over:
            return
        if not (worker.tasks and worker.hold.must_end):
            self._stop_work(worker, begun_until=self._world.now)
            return
        self._world.figures.mark(self._world.now, "worker ended itself")
        self.die(worker)
        if not worker.unheard:
            self._on_ended(worker)

    def _stop_work(self, worker: SimulatedWorker, *, begun_until: float) -> None:
        """Hand back what it holds if the hold is over. No request has begun since `begun_until`."""
        if not worker.alive or not worker.hold.is_over:
            return
        world = self._world
        going = [task for task in worker.tasks.values() if task.stopped_at is None]
        if going:
            world.figures.count("hold over")
        for task in going:
            task.stopped_at = begun_until
            stuck = world.chance.random() < STUCK_SHARE
            self.hand_back(task, *((0.0, world.hold_seconds) if stuck else STOP_SECONDS))

    # -- leases ------------------------------------------------------------------------------------

    def _take_grant(self, worker: SimulatedWorker, lease: Lease) -> None:
        world = self._world
        if world.chance.random() < world.faults.lost_grants:
            world.figures.mark(world.now, "grant lost")
            return
        place = lease.shard, lease.generation
        plan, site = world.records.plans[lease.shard], world.site
        world.records.open(place, lease.kind)
        if lease.kind is LeaseKind.ASSEMBLE:
            todo, unit_bytes, unit_work = [(0, 1)], 0.0, PART_ASSEMBLY_BYTES * plan.units
            unit_lanes = site.transfers
        else:
            todo = world.records.gaps(place, lease.first, lease.end)
            unit_bytes = plan.bytes / plan.units
            unit_work = unit_bytes + site.object_bytes
            unit_lanes = max(1, math.ceil(unit_bytes / site.part_bytes))
        task = Task(
            lease,
            worker,
            todo,
            unit_bytes=unit_bytes,
            unit_work=unit_work,
            unit_lanes=unit_lanes,
            transfers=site.transfers,
        )
        task.at, task.moved_at = world.flow.volume, world.now
        self._draw_fate(task)
        worker.tasks[lease.attempt] = task
        if worker.hold.is_over:  # the call was too long on its way
            task.stopped_at = worker.proven_at
            self._return(task)

    def _draw_fate(self, task: Task) -> None:
        """Draw how the lease will end, and at which unit a fault strikes."""
        world = self._world
        faults, lease = world.faults, task.lease
        draw, where = world.chance.random(), world.chance.random()
        lost_uploads = 0.0 if lease.kind is LeaseKind.OBJECTS else faults.lost_uploads
        if task.generation in world.records.lost_uploads:
            task.fate, where = Fate.UPLOAD_LOST, 0.0
        elif lease.shard in self.poisoned:
            task.fate = Fate.FAILED
        else:
            chances = {
                Fate.FAILED: faults.failed_leases,
                Fate.UPLOAD_LOST: lost_uploads,
                Fate.HUNG: faults.hung_leases,
                Fate.WRONG: faults.wrong_results,
            }
            for fate, chance in chances.items():
                if draw < chance:
                    task.fate = fate
                    break
                draw -= chance
        if task.fate not in (Fate.FINISHED, Fate.WRONG):
            task.stop_at = task.todo_units * where
        if task.fate is Fate.HUNG:
            task.deaf = world.chance.random() < 0.5
            world.figures.mark(world.now, "lease hung")

    def reach(self, task: Task) -> None:
        """The task has come to the unit at which its fate strikes."""
        world, lease = self._world, task.lease
        self._move(task)
        task.x = task.stop_at
        world.holders.note_write(task, world.now)
        result = _result_of(task, LeaseEnd.FINISHED)
        match task.fate:
            case Fate.FAILED:
                world.figures.count("leases failed")
                result = _result_of(task, LeaseEnd.FAILED, "unavailable")
            case Fate.UPLOAD_LOST:
                result = self._lose_upload(task)
            case Fate.WRONG:
                world.figures.mark(world.now, "wrong result")
                result = self._garbled(task, result)
        self._end_well(task)
        task.worker.results.append(result)
        self._note_work(task.worker)
        self.exchange_by(task.worker, world.now)
        if task.worker.unheard and lease.kind is LeaseKind.ASSEMBLE:
            world.figures.count("completions unheard")

    def _lose_upload(self, task: Task) -> LeaseResult:
        """Whoever else feeds the same upload finds the same, soon."""
        world = self._world
        if task.generation not in world.records.lost_uploads:
            world.records.lost_uploads.add(task.generation)
            world.figures.mark(world.now, "upload lost")
            for worker in self.workers():
                for other in worker.tasks.values():
                    if other.generation == task.generation and other is not task:
                        world.later(world.chance.uniform(0.1, 5.0), self._find_upload_lost, other)
        return _result_of(task, LeaseEnd.UPLOAD_LOST, "upload_lost")

    def _find_upload_lost(self, task: Task) -> None:
        if self._runs(task) and not task.worker.asleep:
            self._move(task)
            task.fate, task.stop_at = Fate.UPLOAD_LOST, task.x
            self.reach(task)

    def _garbled(self, task: Task, result: LeaseResult) -> LeaseResult:
        """More than was leased, or of another generation."""
        lease = task.lease
        more = self._world.chance.random() < 0.5 and lease.kind is not LeaseKind.ASSEMBLE
        return LeaseResult(
            shard=lease.shard,
            kind=lease.kind,
            first=lease.first,
            end=lease.end + 1 if more else task.end,
            attempt=lease.attempt,
            generation=lease.generation if more else lease.generation + 1,
            how=LeaseEnd.FINISHED,
        )

    def hand_back(
        self, task: Task, least: float = STOP_SECONDS[0], most: float = STOP_SECONDS[1]
    ) -> None:
        """Begin nothing more, and end with what is in flight, within so many seconds.

        A deaf task continues.
        """
        if not (task.deaf and task.x >= task.stop_at):
            if task.stopped_at is None:
                task.stopped_at = self._world.now
            self._world.later(self._world.chance.uniform(least, most), self._return, task)

    def _return(self, task: Task) -> None:
        if not self._runs(task) or task.worker.asleep:
            return
        self._move(task)
        whole = min(float(task.todo_units), math.ceil(task.x))
        if task.fate is Fate.FINISHED:
            now = self._world.now
            self._world.figures.add_moved(now, now, (whole - task.x) * task.unit_bytes)
            if whole > task.x:
                self._world.holders.note_write(task, now)
            task.x = whole
        result = _result_of(task, LeaseEnd.RETURNED)
        self._end_well(task)
        task.worker.results.append(result)
        self._note_work(task.worker)
        self.exchange_by(task.worker, self._world.now)

    def _take_split(self, task: Task, end: int) -> None:
        world = self._world
        draw = world.chance.random()
        if draw < world.faults.lost_splits:
            world.figures.count("splits lost")
        elif draw < world.faults.lost_splits + world.faults.late_splits:
            world.figures.count("splits late")
            world.later(world.chance.uniform(*LATE_SECONDS), self._cut, task, end)
        else:
            self._cut(task, end)

    def _cut(self, task: Task, end: int) -> None:
        if not self._runs(task) or task.worker.asleep:
            return
        self._move(task)
        task.cut(end)
        self._expect(task)
        self._note_work(task.worker)
        self.exchange_by(task.worker, self._world.now + 1.0)

    def _runs(self, task: Task) -> bool:
        return task.worker.tasks.get(task.lease.attempt) is task

    # -- how a task ends ---------------------------------------------------------------------------

    def _end_well(self, task: Task) -> None:
        done = math.floor(task.x)
        self._world.figures.excuse(task.unit_bytes if task.x > done else 0.0)
        self._end(task, done, lost=(task.x - done) * task.unit_bytes)

    def _end(self, task: Task, done: int, *, lost: float) -> None:
        world = self._world
        task.version += 1
        del task.worker.tasks[task.lease.attempt]
        world.records.journal(task, world.now, done)
        if lost:
            world.figures.add_repeated(world.now, lost)
        if task.fenced_x is not None:
            world.figures.excuse((task.x - task.fenced_x) * task.unit_bytes + task.unit_bytes)

    # -- the pace of work --------------------------------------------------------------------------

    def _move(self, task: Task) -> None:
        flow, before = self._world.flow, task.x
        moved = task.move(flow.volume)
        if moved:
            self._world.figures.add_moved(task.moved_at, flow.now, moved)
        if task.x > before:
            self._world.holders.note_write(task, flow.now)
        task.moved_at = flow.now

    def note_progress(self, worker: SimulatedWorker) -> None:
        """Bring its tasks up to now."""
        flow, figures, holders = self._world.flow, self._world.figures, self._world.holders
        now, volume = flow.now, flow.volume
        for task in worker.tasks.values():
            before = task.x
            moved = task.move(volume)
            if moved:
                figures.add_moved(task.moved_at, now, moved)
            if task.x > before:
                holders.note_write(task, now)
            task.moved_at = now

    def _note_work(self, worker: SimulatedWorker) -> None:
        """Keep paces true after any change of what the worker has to do."""
        self._note_idle(worker)
        node = worker.node
        if worker.wants != (worker.demand > 0):
            before = node.speed_in_use
            node.speed_in_use = sum(one.speed for one in node.workers if one.wants)
            if max(before, node.speed_in_use) > self._world.site.node_rate:
                for neighbour in node.workers:
                    if neighbour is not worker:
                        self._set_pace(neighbour)
        self._set_pace(worker)

    def _set_pace(self, worker: SimulatedWorker) -> None:
        """Its part of the node's rate, as far as its connections carry it; each moves the same."""
        site, demand = self._world.site, 0.0
        lanes_before = worker.lanes
        worker.spread(site.transfers)
        self._world.figures.count_in_flight(worker.lanes - lanes_before)
        if worker.wants:
            crowd = max(1.0, worker.node.speed_in_use / site.node_rate)
            demand = min(worker.speed / crowd, worker.lanes * site.connection_rate)
        if demand != worker.demand:
            self._world.flow.change_demand(demand - worker.demand)
            worker.demand = demand
        each = demand / max(1, worker.lanes)
        for task in worker.tasks.values():
            pace = each * task.lanes / max(1.0, task.unit_work)
            if pace != task.pace:
                self._move(task)
                task.pace = pace
                self._expect(task)
            elif task.version == 0:
                self._expect(task)

    def _expect(self, task: Task) -> None:
        task.version += 1
        due = task.due()
        if due is not None and not task.worker.asleep:
            self._world.flow.add(due, task)

    def _note_idle(self, worker: SimulatedWorker) -> None:
        now = self._world.now
        idle = worker.alive and not worker.tasks and not worker.is_silent
        if worker.idle_since is not None and not idle:
            self._world.figures.idle_seconds += now - worker.idle_since
            worker.idle_since = None
        elif worker.idle_since is None and idle:
            worker.idle_since = now


def _result_of(task: Task, how: LeaseEnd, cause: str | None = None) -> LeaseResult:
    lease = task.lease
    return LeaseResult(
        shard=lease.shard,
        kind=lease.kind,
        first=lease.first,
        end=task.end if how is LeaseEnd.FINISHED else lease.end,
        attempt=lease.attempt,
        generation=lease.generation,
        how=how,
        cause=cause,
        message=cause,
    )
