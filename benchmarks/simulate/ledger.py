"""The judge of a simulation: a second bookkeeping, made from events and commands alone.

It shares no code with the scheduler and sees nothing of its state. It outlives the driver, so that
it also sees what one scheduler does to what another one left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from noria.benchmarks.simulate.runs import Runs
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
    Stop,
    Tick,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
    WorkerReported,
)
from noria.manifests.model import (
    Lease,
    LeaseEnd,
    LeaseKind,
    LeaseProgress,
    LeaseResult,
    ShardKind,
    ShardPlan,
)

UNSEEN_REPORTS = 2
"""A live lease that its worker does not name so often in a row was lost on its way."""


class Violation(Exception):
    """The scheduler broke a promise."""


@dataclass(slots=True, eq=False)
class _Live:
    worker: str
    lease: Lease
    end: int
    done: tuple[int, int]
    """Units and bytes, as last reported."""
    unseen: int = 0


@dataclass(slots=True, eq=False)
class _Window:
    """How many leases a worker may hold: what it offered, and more while it was hungry."""

    slots: int
    most: int
    hungry_at: float

    def hear(self, free_places: int, held: int, now: float, options: SchedulerOptions) -> None:
        if free_places > 0:
            most = min(4 * held, held + free_places, options.leases_per_worker)
            self.most, self.hungry_at = max(most, self.most), now
        elif self.most > self.slots and now - self.hungry_at >= options.hunger_seconds:
            self.most, self.hungry_at = self.most - 1, now


@dataclass(slots=True, eq=False)
class _Shard:
    plan: ShardPlan
    generation: int = 0
    sealed: dict[int, Runs] = field(default_factory=dict)
    """By generation."""
    assembled: bool = False
    live: dict[int, _Live] = field(default_factory=dict)
    quarantined: Runs = field(default_factory=Runs)
    assembly_quarantined: bool = False
    failures: dict[tuple[LeaseKind, int], int] = field(default_factory=dict)
    """Of spans by where they begin; at least so many, since what is cut off counts from zero."""

    @property
    def settled(self) -> Runs:
        return self.sealed.setdefault(self.generation, Runs())


class SimulationLedger:
    """`take` raises Violation if the commands are not a right answer to the event."""

    def __init__(self, plans: Iterable[ShardPlan], options: SchedulerOptions) -> None:
        self._options = options
        self._shards = {plan.shard: _Shard(plan) for plan in plans}
        self._workers: dict[str, _Window] = {}
        """Those that drain have none."""
        self._held: dict[str, dict[int, _Live]] = {}
        self._heard: OrderedDict[str, float] = OrderedDict()
        """When, the longest silent first."""
        self._moved: OrderedDict[int, float] = OrderedDict()
        """When a live attempt last made progress, the longest stalled first."""
        self._unsure = False
        """Whether the report under way leaves out, again, what its worker should hold."""
        self._newest_attempt = 0
        self._paused = False
        self._clock: float | None = None
        self._now = 0.0
        self.finished = False

    def begin_run(
        self, settled: Sequence[SettledSpan], generations: Mapping[int, int], first_attempt: int
    ) -> None:
        """A new driver, which knows what is sealed and nothing else. No worker is its own yet."""
        _check(first_attempt > self._newest_attempt, "an attempt's number comes again")
        self._newest_attempt = first_attempt - 1
        for name in list(self._workers):
            self._drop_worker(name)
        for number, shard in self._shards.items():
            shard.generation = generations.get(number, 0)
            shard.quarantined, shard.assembly_quarantined = Runs(), False
            shard.failures.clear()
        self._clock, self.finished, self._paused = None, False, False
        self._check_settled(settled)

    def _check_settled(self, settled: Sequence[SettledSpan]) -> None:
        """What the new driver is told is what was sealed, all of it."""
        told: dict[int, int] = {}
        for span in settled:
            if span.kind is not LeaseKind.ASSEMBLE:
                told[span.shard] = told.get(span.shard, 0) + span.end - span.first
        for number, shard in self._shards.items():
            if shard.settled.size != told.get(number, 0):
                raise Violation(f"a new driver is not told right what is sealed of shard {number}")

    def take(self, event: Event, commands: Sequence[Command]) -> None:
        _check(not self.finished or not commands, "a command follows Finish")
        self._keep_time(event.now)
        due = self._hear(event)
        for command in commands:
            self._obey(command, due)
        if due:
            raise Violation(f"not answered: {due[0]}")
        if isinstance(event, Tick):
            self._check_time()
        elif isinstance(event, WorkerReported):
            self._check_grants(event.worker)

    def given_up(self) -> list[ShardPlan]:
        """Shards of which something is quarantined in this run."""
        return [
            shard.plan
            for shard in self._shards.values()
            if shard.quarantined.size or shard.assembly_quarantined
        ]

    # -- time --------------------------------------------------------------------------------------

    def _keep_time(self, now: float) -> None:
        """Time in which the driver itself stood still makes nobody late."""
        if self._clock is not None:
            self._now += min(self._options.max_clock_gap_seconds, max(0.0, now - self._clock))
        self._clock = now

    def _check_time(self) -> None:
        if self._heard:
            name = next(iter(self._heard))
            if self._is_silent(name):
                raise Violation(f"worker {name} is silent beyond its expiry and not lost")
        if self._moved:
            attempt = next(iter(self._moved))
            if self._now - self._moved[attempt] >= self._options.stall_seconds:
                raise Violation(f"attempt {attempt} has stalled and is not revoked")

    def _check_grants(self, worker: str) -> None:
        """What its worker did not name in two reports is not live any more."""
        if self._unsure:
            self._unsure = False
            for attempt, live in self._held.get(worker, {}).items():
                if live.unseen >= UNSEEN_REPORTS:
                    raise Violation(f"attempt {attempt} never got to its worker, and stays live")

    def _is_silent(self, worker: str) -> bool:
        timeout = self._options.heartbeat_timeout_seconds
        return self._now - self._heard[worker] >= timeout

    # -- events ------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> list[Command]:
        """Book the event; returns the commands that have to be among the answer."""
        match event:
            case WorkerReported():
                self._hear_report(event)
            case LeaseEnded():
                return self._hear_end(event.worker, event.result)
            case LeaseCut(worker=worker, attempt=attempt):
                live = self._live(worker, event.shard, event.first, attempt)
                if live is not None:
                    self._cut(live, event.end)
            case WorkerJoined(worker=worker, slots=slots):
                self._drop_worker(worker)
                slots = min(slots, self._options.leases_per_worker)
                self._workers[worker] = _Window(slots, slots, self._now)
                self._held[worker] = {}
                self._heard[worker] = self._now
                self._heard.move_to_end(worker)
            case WorkerLost(worker=worker):
                self._drop_worker(worker)
            case Pause(on=on):
                self._paused = on
            case WorkerDraining(worker=worker) if worker in self._workers:
                self._workers[worker] = _Window(0, 0, self._now)
        return []

    def _hear_report(self, event: WorkerReported) -> None:
        worker = event.worker
        held = self._held.get(worker)
        if held is None:
            return
        self._heard[worker] = self._now
        self._heard.move_to_end(worker)
        missing = len(held)
        for item in event.progress:
            live = held.get(item.attempt)
            if live is not None and self._matches(live, item.shard, item.first):
                live.unseen = 0
                missing -= 1
                self._note_progress(live, item)
        if not missing and self._workers[worker].slots:
            self._workers[worker].hear(event.free_places, len(held), self._now, self._options)
        if missing:
            named = {item.attempt for item in event.progress}
            self._unsure = False
            for attempt, live in held.items():
                live.unseen += attempt not in named
                self._unsure |= live.unseen >= UNSEEN_REPORTS

    def _note_progress(self, live: _Live, item: LeaseProgress) -> None:
        if item.end < live.end:
            self._cut(live, item.end)
        if item.units_done > live.done[0] or item.bytes_done > live.done[1]:
            self._moved[item.attempt] = self._now
            self._moved.move_to_end(item.attempt)
        live.done = item.units_done, item.bytes_done

    def _hear_end(self, worker: str, result: LeaseResult) -> list[Command]:
        live = self._live(worker, result.shard, result.first, result.attempt)
        if live is None:
            return []
        lease = live.lease
        self._drop_lease(result.attempt, live)
        match result.how:
            case LeaseEnd.FINISHED:
                same = (result.kind, result.generation) == (lease.kind, lease.generation)
                fits = lease.kind is LeaseKind.ASSEMBLE or lease.first < result.end <= live.end
                return [SealLease(result=result)] if same and fits else []
            case LeaseEnd.FAILED:
                failures = self._shards[lease.shard].failures
                place = lease.kind, lease.first
                failures[place] = failures.get(place, 0) + 1
            case LeaseEnd.UPLOAD_LOST if lease.kind is not LeaseKind.OBJECTS:
                return [NewGeneration(shard=lease.shard, generation=lease.generation + 1)]
        return []

    def _live(self, worker: str, shard: int, first: int, attempt: int) -> _Live | None:
        live = self._held.get(worker, {}).get(attempt)
        return live if live is not None and self._matches(live, shard, first) else None

    @staticmethod
    def _matches(live: _Live, shard: int, first: int) -> bool:
        return live.lease.shard == shard and live.lease.first == first

    def _cut(self, live: _Live, end: int) -> None:
        if live.lease.kind is not LeaseKind.ASSEMBLE and live.lease.first < end:
            live.end = min(live.end, end)

    def _drop_lease(self, attempt: int, live: _Live) -> None:
        del self._held[live.worker][attempt]
        del self._shards[live.lease.shard].live[attempt]
        del self._moved[attempt]

    def _drop_worker(self, worker: str) -> None:
        for attempt, live in list(self._held.get(worker, {}).items()):
            self._drop_lease(attempt, live)
        self._held.pop(worker, None)
        self._heard.pop(worker, None)
        self._workers.pop(worker, None)

    # -- commands ----------------------------------------------------------------------------------

    def _obey(self, command: Command, due: list[Command]) -> None:
        _check(not self.finished, "a command follows Finish")
        granted = isinstance(command, Grant | Split)
        _check(not (self._paused and granted), "a lease is granted or split in a pause")
        match command:
            case Grant(worker=worker, lease=lease):
                self._grant(worker, lease)
            case Revoke(worker=worker, attempt=attempt):
                live = self._live(worker, command.shard, command.first, attempt)
                if live is not None:
                    self._drop_lease(attempt, live)
            case Split(worker=worker, attempt=attempt, end=end):
                live = self._live(worker, command.shard, command.first, attempt)
                if live is None or not live.lease.first < end < live.end:
                    raise Violation(f"a split of what is not leased so: {command}")
            case SealLease(result=result):
                _check(command in due, "a result is sealed that does not count")
                due.remove(command)
                self._seal(result)
            case NewGeneration(shard=shard, generation=generation):
                _check(command in due, "a generation begins, and no upload was lost")
                due.remove(command)
                self._begin_generation(self._shards[shard], generation)
            case LoseWorker(worker=worker, cause=cause):
                _check(worker in self._workers, "a worker is lost that was not there")
                heard = cause == "heartbeat_expired" and not self._is_silent(worker)
                _check(not heard, "a worker is lost that was heard of")
                self._drop_worker(worker)
            case Quarantine(shard=shard, kind=kind, first=first, end=end):
                self._quarantine(self._shards[shard], kind, first, end)
            case Stop():
                raise Violation("a stop, and nothing fatal happened")
            case Finish():
                self._finish()

    def _grant(self, worker: str, lease: Lease) -> None:
        shard = self._shards[lease.shard]
        window = self._workers.get(worker)
        if window is None or window.most <= len(self._held[worker]):
            raise Violation(f"worker {worker} gets a lease; it is gone, leaving or full")
        _check(lease.attempt > self._newest_attempt, "an attempt's number comes again")
        _check(lease.generation == shard.generation, "a lease of an old generation")
        if lease.kind is LeaseKind.ASSEMBLE:
            self._check_assembly(shard)
        else:
            self._check_units(shard, lease)
        failures = shard.failures.get((lease.kind, lease.first), 0)
        if failures >= self._options.attempts_per_span:
            raise Violation(f"shard {lease.shard} failed {failures} times, and is leased again")
        self._newest_attempt = lease.attempt
        live = _Live(worker, lease, lease.end, (0, 0))
        shard.live[lease.attempt] = self._held[worker][lease.attempt] = live
        self._moved[lease.attempt] = self._now

    def _check_assembly(self, shard: _Shard) -> None:
        plan = shard.plan
        _check(plan.kind is ShardKind.PARTS, "a shard without an upload is completed")
        _check(shard.settled.size == plan.units, "an upload is completed before its last part")
        _check(not shard.assembled, "an upload is completed twice")
        _check(not shard.live, "an upload is completed while leases are live")

    def _check_units(self, shard: _Shard, lease: Lease) -> None:
        inside = 0 <= lease.first < lease.end <= shard.plan.units
        _check(inside and lease.kind.value == shard.plan.kind.value, "no such units")
        place = f"units {lease.first} to {lease.end} of shard {lease.shard}"
        if shard.settled.meets(lease.first, lease.end):
            raise Violation(f"{place} are leased, and sealed already")
        if shard.quarantined.meets(lease.first, lease.end):
            raise Violation(f"{place} are leased, and quarantined")
        for live in shard.live.values():
            if live.lease.first < lease.end and lease.first < live.end:
                raise Violation(f"{place} are leased twice, to {live.worker} and again")

    def _seal(self, result: LeaseResult) -> None:
        shard = self._shards[result.shard]
        if result.kind is LeaseKind.ASSEMBLE:
            _check(not shard.assembled, "an upload is completed twice")
            shard.assembled = True
            return
        units = result.end - result.first
        added = shard.settled.add(result.first, result.end)
        _check(added == units, "a unit is sealed twice in a generation")

    def _begin_generation(self, shard: _Shard, generation: int) -> None:
        _check(not shard.live, "a generation begins while leases of the last one are live")
        shard.generation = generation
        shard.failures.clear()

    def _quarantine(self, shard: _Shard, kind: LeaseKind, first: int, end: int) -> None:
        if kind is LeaseKind.ASSEMBLE:
            shard.assembly_quarantined = True
            return
        _check(not shard.settled.meets(first, end), "a sealed unit is quarantined")
        _check(shard.quarantined.add(first, end) == end - first, "a unit is quarantined twice")

    def _finish(self) -> None:
        _check(not self._moved, "a lease is live at the end")
        for shard in self._shards.values():
            plan = shard.plan
            over = shard.assembled or shard.assembly_quarantined
            if not over:
                known = shard.settled.size + shard.quarantined.size
                sound = plan.kind is ShardKind.OBJECTS or shard.quarantined.size > 0
                if known != plan.units or not sound:
                    raise Violation(f"shard {plan.shard} is lost: the run ends without it")
        self.finished = True


def _check(sound: bool, fault: str) -> None:
    if not sound:
        raise Violation(fault)
