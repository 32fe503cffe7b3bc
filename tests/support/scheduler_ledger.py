"""A second bookkeeping of a run, made from events and commands alone: the judge of the scheduler.

It shares no code with the scheduler, and keeps single units where the scheduler keeps spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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

ASSEMBLY = -1
"""The completion of a PARTS shard, among its units."""


@dataclass
class Live:
    worker: str
    lease: Lease
    end: int
    unseen: int = 0
    """Reports in a row that do not name it."""

    @property
    def units(self) -> set[tuple[int, int]]:
        if self.lease.kind is LeaseKind.ASSEMBLE:
            return {(self.lease.shard, ASSEMBLY)}
        return {(self.lease.shard, unit) for unit in range(self.lease.first, self.end)}


@dataclass
class LeaseWindow:
    """How many leases a worker may hold, by what it offered and reported."""

    slots: int
    most: int
    hungry_at: float
    hungry: bool = False
    fenced: set[int] = field(default_factory=set)
    """Attempts that are revoked, and perhaps still worked on."""

    def hear(self, free_places: int, held: int, now: float, options: SchedulerOptions) -> None:
        self.hungry = free_places > 0
        wider = min(options.leases_per_worker, 4 * held, held + free_places)
        if free_places:
            self.most, self.hungry_at = max(self.most, wider), now
        elif self.most > self.slots and now - self.hungry_at >= options.hunger_seconds:
            self.most, self.hungry_at = self.most - 1, now


@dataclass
class Ledger:
    """`take` asserts that the commands are a right answer to the event, by what went before."""

    plans: dict[int, ShardPlan]
    options: SchedulerOptions
    generations: dict[int, int] = field(default_factory=dict)
    settled: set[tuple[int, int]] = field(default_factory=set)
    quarantined: set[tuple[int, int]] = field(default_factory=set)
    live: dict[int, Live] = field(default_factory=dict)
    workers: dict[str, LeaseWindow] = field(default_factory=dict)
    """Those that may be given leases, or drain: these have no slots."""
    newest_attempt: int = 0
    clock: float | None = None
    now: float = 0.0
    """Sum of the time between events, each no longer than deaf_seconds."""
    heard_at: dict[str, float] = field(default_factory=dict)
    draining: bool = False
    stopped: bool = False
    finished: bool = False

    @classmethod
    def of(
        cls,
        plans: Iterable[ShardPlan],
        settled: Iterable[SettledSpan],
        generations: Mapping[int, int],
        *,
        first_attempt: int,
        options: SchedulerOptions,
    ) -> Ledger:
        ledger = cls({plan.shard: plan for plan in plans}, options, dict(generations))
        ledger.newest_attempt = first_attempt - 1
        for span in settled:
            ledger.settled |= {(span.shard, unit) for unit in range(span.first, span.end)}
            if span.kind is LeaseKind.ASSEMBLE:
                units = range(ASSEMBLY, ledger.plans[span.shard].units)
                ledger.settled |= {(span.shard, unit) for unit in units}
        return ledger

    def take(self, event: Event, commands: list[Command]) -> None:
        if self.finished:
            assert not commands, "nothing follows Finish"
            return
        self._keep_time(event)
        due = self._hear(event)
        for command in commands:
            self._obey(command, due)
        assert not due, f"not answered: {due}"
        gone = [live for live in self.live.values() if live.worker not in self.workers]
        assert not gone, "a lease is live whose worker is gone"
        assert all(live.unseen < 2 for live in self.live.values()), "a lost grant stays live"
        if isinstance(event, Tick):
            assert not any(map(self._silent, self.workers)), "a silent worker is not lost"

    def _keep_time(self, event: Event) -> None:
        clock = event.now if self.clock is None else self.clock
        self.now += min(self.options.max_clock_gap_seconds, max(0.0, event.now - clock))
        self.clock = max(clock, event.now)

    def _silent(self, worker: str) -> bool:
        return self.now - self.heard_at[worker] >= self.options.heartbeat_timeout_seconds

    # -- events ------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> list[Command]:
        """Book the event; returns the commands that have to be among the answer."""
        match event:
            case WorkerJoined(worker=worker, slots=slots):
                self._drop_worker(worker)
                slots = min(slots, self.options.leases_per_worker)
                self.workers[worker] = LeaseWindow(slots, slots, self.now)
                self.heard_at[worker] = self.now
            case WorkerLost(worker=worker):
                self._drop_worker(worker)
            case WorkerDraining(worker=worker) if worker in self.workers:
                self.workers[worker] = LeaseWindow(0, 0, self.now)
            case WorkerReported(worker=worker, progress=progress):
                self.heard_at[worker] = self.now
                self._hear_hunger(event)
                for live in self.live.values():
                    live.unseen += live.worker == worker
                for item in progress:
                    live_item = self._held(worker, item.shard, item.first, item.attempt)
                    if live_item is not None:
                        live_item.unseen = 0
                    self._cut(worker, item.shard, item.first, item.attempt, item.end)
            case LeaseCut():
                self._cut(event.worker, event.shard, event.first, event.attempt, event.end)
            case LeaseEnded(worker=worker, result=result):
                return self._end(worker, result)
            case Drain():
                self.draining = True
        return []

    def _hear_hunger(self, event: WorkerReported) -> None:
        window = self.workers.get(event.worker)
        if window is None:
            return
        named = {
            item.attempt
            for item in event.progress
            if self._held(event.worker, item.shard, item.first, item.attempt)
        }
        held = self._held_by(event.worker)
        if window.slots and len(named) == held:
            window.hear(event.free_places, held, self.now, self.options)
        window.fenced = {
            item.attempt
            for item in event.progress
            if self._held(event.worker, item.shard, item.first, item.attempt) is None
        }

    def _held_by(self, worker: str) -> int:
        return sum(live.worker == worker for live in self.live.values())

    def _drop_worker(self, worker: str) -> None:
        self.workers.pop(worker, None)
        for attempt in [n for n, live in self.live.items() if live.worker == worker]:
            del self.live[attempt]

    def _held(self, worker: str, shard: int, first: int, attempt: int) -> Live | None:
        live = self.live.get(attempt)
        if live is None or live.worker != worker:
            return None
        return live if (live.lease.shard, live.lease.first) == (shard, first) else None

    def _cut(self, worker: str, shard: int, first: int, attempt: int, end: int) -> None:
        live = self._held(worker, shard, first, attempt)
        if live is not None and live.lease.kind is not LeaseKind.ASSEMBLE and first < end:
            live.end = min(live.end, end)

    def _end(self, worker: str, result: LeaseResult) -> list[Command]:
        if worker in self.workers:
            self.workers[worker].fenced.discard(result.attempt)
        live = self._held(worker, result.shard, result.first, result.attempt)
        if live is None:
            return []
        del self.live[result.attempt]
        lease = live.lease
        if result.how is LeaseEnd.FINISHED:
            same = (result.kind, result.generation) == (lease.kind, lease.generation)
            fits = lease.kind is LeaseKind.ASSEMBLE or lease.first < result.end <= live.end
            return [SealLease(result=result)] if same and fits else []
        if result.how is LeaseEnd.UPLOAD_LOST and lease.kind is not LeaseKind.OBJECTS:
            return [NewGeneration(shard=lease.shard, generation=lease.generation + 1)]
        if result.how is LeaseEnd.FATAL:
            self.draining = True
            if not self.stopped:
                self.stopped = True
                return [Stop(cause=result.cause or "", message=result.message or "")]
        return []

    # -- commands ----------------------------------------------------------------------------------

    def _obey(self, command: Command, due: list[Command]) -> None:
        assert not self.finished, "Finish is the last command"
        match command:
            case Grant(worker=worker, lease=lease):
                self._grant(worker, lease)
            case Revoke(worker=worker, shard=shard, first=first, attempt=attempt):
                if self._held(worker, shard, first, attempt):
                    del self.live[attempt]
                    self.workers[worker].fenced.add(attempt)
            case LoseWorker(worker=worker, cause=cause):
                assert worker in self.workers, "only a known worker is lost"
                assert cause != "heartbeat_expired" or self._silent(worker), "it was heard"
                self._drop_worker(worker)
            case Quarantine(shard=shard, first=first, end=end, kind=kind):
                self._quarantine({(shard, unit) for unit in _range(kind, first, end)})
            case Split(worker=worker, shard=shard, first=first, attempt=attempt, end=end):
                live = self._held(worker, shard, first, attempt)
                assert live is not None, "only a live lease is split"
                assert first < end < live.end, "a split leaves both halves units"
                assert not self.draining, "a drain splits nothing"
            case SealLease(result=result):
                assert command in due, "a result that does not count is sealed"
                due.remove(command)
                self._settle(result)
            case NewGeneration(shard=shard):
                assert command in due, "no upload was lost"
                due.remove(command)
                self._begin_generation(command)
            case Stop():
                assert command in due, "nothing fatal happened"
                due.remove(command)
            case Finish():
                self._finish()

    def _grant(self, worker: str, lease: Lease) -> None:
        assert not self.draining, "a drain grants nothing"
        assert lease.attempt > self.newest_attempt, "attempts grow"
        self.newest_attempt = lease.attempt
        window = self.workers.get(worker)
        assert window is not None, "the worker is gone"
        held = self._held_by(worker) + len(window.fenced)
        assert held < window.most, "the window is full"
        if held >= window.slots:
            waiting = list(filter(self._needs_lease, self.workers))
            assert not waiting, "a lease beyond a worker's slots that another could begin"
        assert lease.generation == self.generations.get(lease.shard, 0), "an old generation"
        plan = self.plans[lease.shard]
        granted = Live(worker, lease, lease.end)
        if lease.kind is LeaseKind.ASSEMBLE:
            parts = {(lease.shard, unit) for unit in range(plan.units)}
            assert plan.kind is ShardKind.PARTS, "only an upload is completed"
            assert parts <= self.settled, "completed before its last part"
        else:
            assert lease.kind.value == plan.kind.value, "the kind is the shard's"
            assert 0 <= lease.first < lease.end <= plan.units, "outside of the shard"
        for taken in (self.settled, self.quarantined, self.live_units()):
            assert not granted.units & taken, "a unit is granted that is not pending"
        self.live[lease.attempt] = granted
        window.hungry = False

    def _needs_lease(self, worker: str) -> bool:
        """It has a slot free, and nothing to do, or not enough."""
        window = self.workers[worker]
        held = self._held_by(worker) + len(window.fenced)
        return held < window.slots and (not held or window.hungry)

    def _settle(self, result: LeaseResult) -> None:
        units = {(result.shard, unit) for unit in _range(result.kind, result.first, result.end)}
        assert not units & self.settled, "a unit is settled twice"
        assert not units & self.quarantined, "a quarantined unit is settled"
        self.settled |= units

    def _quarantine(self, units: set[tuple[int, int]]) -> None:
        assert not units & self.settled, "a settled unit is quarantined"
        assert not units & self.quarantined, "a unit is quarantined twice"
        assert not units & self.live_units(), "a live unit is quarantined"
        self.quarantined |= units

    def _begin_generation(self, command: NewGeneration) -> None:
        shard = command.shard
        assert all(live.lease.shard != shard for live in self.live.values()), "not revoked"
        self.generations[shard] = command.generation
        self.settled = {unit for unit in self.settled if unit[0] != shard}

    def _finish(self) -> None:
        assert not self.live, "a lease is live at the end"
        assert self.draining or not self.pending_units(), "a unit is forgotten"
        self.finished = True

    # -- sums --------------------------------------------------------------------------------------

    def live_units(self) -> set[tuple[int, int]]:
        return set().union(*(live.units for live in self.live.values()))

    def pending_units(self) -> set[tuple[int, int]]:
        everything = {
            (plan.shard, unit)
            for plan in self.plans.values()
            for unit in range(ASSEMBLY if plan.kind is ShardKind.PARTS else 0, plan.units)
        }
        given_up = {(shard, ASSEMBLY) for shard, _ in self.quarantined}
        return everything - self.settled - self.quarantined - given_up - self.live_units()

    def units_by_state(self) -> dict[str, int]:
        """As Scheduler.units() counts them: without completions."""
        pending = {unit for unit in self.pending_units() if unit[1] != ASSEMBLY}
        states = {
            "pending": pending,
            "leased": self.live_units(),
            "settled": self.settled,
            "quarantined": self.quarantined,
        }
        return {name: sum(unit != ASSEMBLY for _, unit in units) for name, units in states.items()}


def _range(kind: LeaseKind, first: int, end: int) -> range:
    return range(ASSEMBLY, 0) if kind is LeaseKind.ASSEMBLE else range(first, end)


def progress_of(lease: Lease, *, end: int | None = None, units: int = 0) -> LeaseProgress:
    return LeaseProgress(
        shard=lease.shard,
        first=lease.first,
        attempt=lease.attempt,
        end=lease.end if end is None else end,
        units_done=units,
        bytes_done=units * 10,
    )


def result_of(
    lease: Lease,
    how: LeaseEnd = LeaseEnd.FINISHED,
    *,
    end: int | None = None,
    cause: str | None = None,
) -> LeaseResult:
    return LeaseResult(
        shard=lease.shard,
        kind=lease.kind,
        first=lease.first,
        end=lease.end if end is None else end,
        attempt=lease.attempt,
        generation=lease.generation,
        how=how,
        cause=cause,
        message=cause,
    )


def cut_of(now: float, worker: str, lease: Lease, end: int) -> LeaseCut:
    return LeaseCut(
        now=now,
        worker=worker,
        shard=lease.shard,
        first=lease.first,
        attempt=lease.attempt,
        end=end,
    )
