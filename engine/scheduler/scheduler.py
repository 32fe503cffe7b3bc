"""Who works on what: a pure state machine, without clock, network or chance.

The driver runs it for real, the simulator runs the same object for thousands of workers. Nothing
in it is durable: seals say which units are settled, and all else is made again from the plan.
"""

from __future__ import annotations

import itertools
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from typing import assert_never

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
    SchedulerOptions,
    SealLease,
    SettledSpan,
    Stop,
    Tick,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
    WorkerReported,
)
from noria.engine.scheduler.span_table import SpanTable
from noria.engine.scheduler.splitting import choose_splits, split_in_half
from noria.engine.scheduler.state import LiveLease, Shard, Span, SpanState, Waiting, WorkerState
from noria.manifests.model import Lease, LeaseEnd, LeaseKind, LeaseResult, ShardPlan

__all__ = ["Scheduler", "SchedulerOptions", "SettledSpan"]

LEASES_FAILED = "leases_failed"
"""Why a worker is ended whose leases fail."""
ELSEWHERE_SECONDS = 1.0
"""How long a span waits each time that only hosts on which it has failed have room."""
UNSEEN_REPORTS = 2
"""One report without the lease may have crossed the grant on its way; a second one may not."""


class Scheduler:
    """Leases every unit of the plan to workers until it is settled.

    A span is a run of units [first, end) of a shard. Spans are cut, never joined. Their states:

                    LeaseEnded(RETURNED)
               ┌───────────────────────────┐
               ▼           Grant           │    FINISHED: SealLease
        ┌─▶ PENDING ──────────────────▶ LEASED ────────────────▶ SETTLED
        │      ▲                           │                        ╎
        │      └─── attempts are left ─────┤ FAILED, stalled,       ╎
        │                                  │ vanished, worker lost  ╎
        │                                  ▼                        ╎
        │           all are spent ──▶ QUARANTINED                   ╎
        │                                                           ╎
        └╌╌╌╌╌╌╌╌╌╌ UPLOAD_LOST: NewGeneration of the whole shard ╌╌┘

    A lost worker costs no attempt if it was leaving, or if its lease got well ahead of all before.
    What a cut or an early end leaves over is a new PENDING span. Once all units of a PARTS shard
    are settled, a span without units (ASSEMBLE, first = end = 0) completes it in the same states.

    Promises, whatever the order, number or truth of the events:
    - a unit has at most one live lease, and is sealed at most once in a generation of its shard;
    - attempts grow; a result counts only if its attempt is live, and from the worker that has it;
    - no unit is forgotten: only a drain finishes a run before all are settled or quarantined;
    - in a pause nothing is granted or split, and what is handed back is not late;
    - with more than one host, an object fails for a passing cause only if it did so on two, or if
      its span has spent its attempts; what failed on one host goes to another next, if it can;
    - a worker holds its slots' leases at most; one that reports free places four times as many,
      again and again, up to leases_per_worker, but none that another below its slots could begin;
    - the same events give the same commands.

    `settled` is what earlier runs sealed; overlapping or unknown spans raise JobDirectoryError.
    `generations` names the shards whose generation is not 0. Attempts count from `first_attempt`.
    """

    def __init__(
        self,
        shards: Iterable[ShardPlan],
        *,
        settled: Iterable[SettledSpan],
        generations: Mapping[int, int],
        first_attempt: int,
        options: SchedulerOptions,
    ) -> None:
        self._options = options
        self._clock: float | None = None
        """As the newest event tells it."""
        self._now = 0.0
        """Seconds since the first event, without those in which the driver stood still."""
        self._attempt = first_attempt
        self._table = SpanTable(shards, settled, generations)
        self._workers: dict[str, WorkerState] = {}
        self._hosts: Tally[str] = Tally()
        """Host -> workers there that are not leaving."""
        self._hosts_known = 1
        self._waiting = Waiting()
        self._live: dict[int, LiveLease] = {}
        """By attempt."""
        self._commands: list[Command] = []
        self._drain_at: float | None = None
        self._paused = False
        self._stopped = False
        self._finished = False

    # -- what a driver asks ------------------------------------------------------------------------

    def on(self, event: Event) -> list[Command]:
        """Take one event; what to do about it, in order. After Finish, nothing any more."""
        if self._finished:
            return []
        self._commands = []
        self._advance(event.now)
        self._take(event)
        self._grant_ready()
        self._finish_if_over()
        self._table.check(leases=len(self._live))
        return self._commands

    @property
    def complete(self) -> bool:
        """Every span is settled or quarantined: this run has nothing left to do."""
        return not self._table.spans[SpanState.PENDING] and not self._live

    def counts(self) -> dict[str, int]:
        """pending, leased, settled, quarantined -> spans. A PARTS shard's completion is one."""
        return {state.value: number for state, number in self._table.spans.items()}

    def units(self) -> dict[str, int]:
        """pending, leased, settled, quarantined -> units; their sum never changes."""
        return {state.value: number for state, number in self._table.units.items()}

    def live(self) -> Iterator[tuple[str, Lease]]:
        """Who holds what, oldest lease first, with the ends that hold after cuts."""
        return ((live_lease.worker.name, live_lease.lease) for live_lease in self._live.values())

    def is_settled(self, shard: int) -> bool:
        """Every unit of this shard of the plan is final, and its object complete."""
        return self._table.is_settled(shard)

    def _advance(self, clock: float) -> None:
        self._clock = clock if self._clock is None else self._clock
        self._now += min(max(0.0, clock - self._clock), self._options.max_clock_gap_seconds)
        self._clock = max(self._clock, clock)
        self._table.backlog.wake(self._now)

    # -- what becomes of a lease -------------------------------------------------------------------

    def _grant(self, span: Span, worker: WorkerState) -> None:
        live_lease = LiveLease(
            span,
            worker,
            self._attempt,
            is_last=(
                self._hosts_known == 1
                or len(span.failed_on | {worker.host}) > 1
                or span.failures + 1 >= self._options.attempts_per_span
            ),
            moved_at=self._now,
            base_at=self._now,
        )
        self._attempt += 1
        self._table.lease(live_lease)
        worker.live_leases[live_lease.attempt] = self._live[live_lease.attempt] = live_lease
        worker.is_hungry = False
        self._commands.append(Grant(worker=worker.name, lease=live_lease.lease))

    def _release(self, live_lease: LiveLease) -> Span:
        """The lease is over, its attempt counts for nothing any more. The caller moves the span."""
        del self._live[live_lease.attempt], live_lease.worker.live_leases[live_lease.attempt]
        span = live_lease.span
        span.live_lease = None
        span.units_best = max(span.units_best, min(live_lease.units_done, span.units))
        self._note_room(live_lease.worker)
        return span

    def _settle(self, live_lease: LiveLease, result: LeaseResult) -> None:
        self._commands.append(SealLease(result=result))
        self._cut(live_lease, result.end)
        self._table.settle(self._release(live_lease))

    def _give_back(self, live_lease: LiveLease, *, rest_seconds: float = 0.0) -> None:
        """Nobody is to blame: back to pending, as often as it takes."""
        due = self._now + rest_seconds if rest_seconds else None
        self._table.make_pending(self._release(live_lease), due)

    def _fail(self, live_lease: LiveLease, cause: str, *, rest: bool) -> None:
        """Back to pending while attempts are left; quarantined once they are spent."""
        span = self._release(live_lease)
        span.failures += 1
        if span.failures >= self._options.attempts_per_span:
            self._table.quarantine(span)
            self._say_quarantined(span, cause)
        elif rest and self._options.retry_seconds:
            rest_seconds = self._options.retry_seconds * 2.0 ** (span.failures - 1)
            self._table.make_pending(span, self._now + rest_seconds)
        else:
            self._table.make_pending(span)

    def _cut(self, live_lease: LiveLease, end: int) -> None:
        """The worker stops at `end`. One that does not lie inside the span changes nothing."""
        if live_lease.span.first < end < live_lease.span.end:
            self._table.cut(live_lease.span, end)
            live_lease.split_at = None

    def _void(self, shard: Shard) -> None:
        """The upload is gone: what was settled or is live in this generation is worth nothing."""
        for span in shard.spans:
            if span.live_lease is not None:
                self._revoke(span.live_lease)
                self._release(span.live_lease)
        if shard.uploads_lost + 1 < self._options.attempts_per_span:
            self._table.void(shard)
            given_up = []
        else:
            given_up = self._table.give_up(shard)
        self._commands.append(NewGeneration(shard=shard.plan.shard, generation=shard.generation))
        for span in given_up:
            self._say_quarantined(span, "upload_lost")

    def _say_quarantined(self, span: Span, cause: str) -> None:
        self._commands.append(
            Quarantine(
                shard=span.shard.plan.shard,
                kind=span.kind,
                first=span.first,
                end=span.end,
                cause=cause,
            )
        )

    # -- workers -----------------------------------------------------------------------------------

    def _note_room(self, worker: WorkerState) -> None:
        self._waiting.note(worker)

    def _grant_ready(self) -> None:
        """What is ready, the biggest first, to whose turn it is; one lease for each in turn.

        With fewer pending spans than workers, nobody gets a second one before it needs it.
        """
        if self._drain_at is not None or self._paused:
            return
        backlog = self._table.backlog
        while (span := backlog.peek()) is not None:
            scarce = self._table.spans[SpanState.PENDING] < len(self._workers)
            elsewhere = span.failed_on if self._others(span.failed_on) else frozenset[str]()
            worker = self._waiting.take(scarce=scarce, elsewhere=elsewhere)
            if worker is not None:
                self._grant(backlog.pop(), worker)
                self._note_room(worker)
            elif elsewhere:
                backlog.push_after(backlog.pop(), self._now + ELSEWHERE_SECONDS)
            else:
                return

    def _others(self, hosts: frozenset[str]) -> bool:
        """Return True if a worker that stays is on none of these hosts."""
        return any(host not in hosts for host in itertools.islice(self._hosts, len(hosts) + 1))

    def _revoke(self, live_lease: LiveLease) -> None:
        """Tell the worker to let go; its slot stays taken until it is seen to have done so."""
        worker, span = live_lease.worker, live_lease.span
        worker.fenced[live_lease.attempt] = self._now
        self._say_revoked(worker, span.shard.plan.shard, span.first, live_lease.attempt)

    def _say_revoked(self, worker: WorkerState, shard: int, first: int, attempt: int) -> None:
        self._commands.append(Revoke(worker=worker.name, shard=shard, first=first, attempt=attempt))

    def _join(self, event: WorkerJoined) -> None:
        if event.worker in self._workers:
            self._lose(self._workers[event.worker], "worker_lost")
        slots = min(event.slots, self._options.leases_per_worker)
        worker = self._workers[event.worker] = WorkerState(
            event.worker,
            event.host,
            slots,
            window=slots,
            heard_at=self._now,
            hungry_at=self._now,
        )
        self._hosts[event.host] += 1
        self._hosts_known = max(event.hosts, len(self._hosts))
        self._note_room(worker)

    def _leave(self, worker: WorkerState) -> None:
        if not worker.leaving:
            self._hosts[worker.host] -= 1
            if not self._hosts[worker.host]:
                del self._hosts[worker.host]
        worker.leaving = True
        self._note_room(worker)

    def _lose(self, worker: WorkerState, cause: str) -> None:
        """The worker is gone. A span may have killed it, so each that it held has failed once.

        Not if the worker was about to leave anyway, or if the span got well ahead: nodes may be
        lost more often than a span may fail.
        """
        expected = worker.leaving
        del self._workers[worker.name]
        self._leave(worker)
        for live_lease in list(worker.live_leases.values()):
            if expected or live_lease.gained:
                self._give_back(live_lease)
            else:
                self._fail(live_lease, cause, rest=False)

    def _expel(self, worker: WorkerState, cause: str) -> None:
        """End a worker for what it did itself: the other leases that it holds have not failed."""
        del self._workers[worker.name]
        self._leave(worker)
        self._commands.append(LoseWorker(worker=worker.name, cause=cause))
        for live_lease in list(worker.live_leases.values()):
            self._give_back(live_lease)

    def _fault(self, live_lease: LiveLease, cause: str) -> None:
        """A lease failed, its worker lives: the fault may lie with either, so both are marked."""
        worker, span = live_lease.worker, live_lease.span
        shard = span.shard.plan.shard
        self._fail(live_lease, cause, rest=True)
        if span.failed_on - {worker.host}:
            # It is the span: nobody is to blame for it any more.
            for other in self._workers.values():
                if other.host in span.failed_on:
                    other.failed_shards.discard(shard)
            return
        worker.failed_shards.add(shard)
        if len(worker.failed_shards) >= self._options.worker_failure_limit:
            self._expel(worker, LEASES_FAILED)

    # -- events ------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        match event:
            case WorkerReported():
                self._take_report(event)
            case LeaseEnded():
                self._take_end(event)
            case Tick():
                self._take_tick()
            case LeaseCut():
                self._take_cut(event)
            case WorkerJoined():
                self._join(event)
            case WorkerLost():
                if event.worker in self._workers:
                    self._lose(self._workers[event.worker], "worker_lost")
            case WorkerDraining():
                if event.worker in self._workers:
                    self._leave(self._workers[event.worker])
            case Pause(on=on):
                self._paused = on
            case Drain():
                self._drain()
            case _:
                assert_never(event)

    def _held(self, worker: str, shard: int, first: int, attempt: int) -> LiveLease | None:
        """The fence: the live lease of that attempt, if it is this worker's and begins there."""
        live_lease = self._live.get(attempt)
        if live_lease is None or live_lease.worker.name != worker:
            return None
        span = live_lease.span
        return live_lease if (span.shard.plan.shard, span.first) == (shard, first) else None

    def _take_report(self, event: WorkerReported) -> None:
        worker = self._workers.get(event.worker)
        if worker is None:
            return
        worker.heard_at = self._now
        fenced: dict[int, float] = {}
        missing = dict(worker.live_leases)
        for item in event.progress:
            live_lease = self._held(worker.name, item.shard, item.first, item.attempt)
            if live_lease is not None:
                missing.pop(item.attempt, None)
                live_lease.observe(item, self._now)
                self._cut(live_lease, item.end)
            else:
                fenced[item.attempt] = worker.fenced.get(item.attempt, self._now)
                self._say_revoked(worker, item.shard, item.first, item.attempt)
        worker.fenced = fenced
        if not missing:  # otherwise the report has crossed a grant, and is from before it
            self._take_hunger(worker, event.free_places)
        self._note_room(worker)
        for live_lease in missing.values():
            self._miss(live_lease)
        ignores_us = any(
            self._now - since >= self._options.revoke_seconds for since in fenced.values()
        )
        if ignores_us and worker.name in self._workers:
            self._expel(worker, "revoke_ignored")

    def _take_cut(self, event: LeaseCut) -> None:
        live_lease = self._held(event.worker, event.shard, event.first, event.attempt)
        if live_lease is not None:
            self._cut(live_lease, event.end)

    def _take_hunger(self, worker: WorkerState, free_places: int) -> None:
        options = self._options
        if free_places > 0:
            worker.grow_hungry(free_places, self._now, leases_max=options.leases_per_worker)
        else:
            worker.be_fed(self._now, hunger_seconds=options.hunger_seconds)

    def _miss(self, live_lease: LiveLease) -> None:
        live_lease.unseen += 1
        if live_lease.unseen >= UNSEEN_REPORTS and live_lease.attempt in self._live:
            self._revoke(live_lease)
            self._fault(live_lease, "vanished")

    def _take_end(self, event: LeaseEnded) -> None:
        result = event.result
        worker = self._workers.get(event.worker)
        if worker is not None and worker.fenced.pop(result.attempt, None) is not None:
            self._note_room(worker)
        live_lease = self._held(event.worker, result.shard, result.first, result.attempt)
        if live_lease is None:
            return
        match result.how:
            case LeaseEnd.FINISHED:
                self._accept(live_lease, result)
            case LeaseEnd.RETURNED:
                # A worker that hands back work unasked would get it again at once, and again.
                asked = live_lease.worker.leaving or self._drain_at is not None or self._paused
                self._give_back(
                    live_lease, rest_seconds=0.0 if asked else self._options.retry_seconds
                )
            case LeaseEnd.FAILED:
                live_lease.span.failed_on |= {live_lease.worker.host}
                self._fault(live_lease, result.cause or "failed")
            case LeaseEnd.UPLOAD_LOST:
                self._lose_upload(live_lease)
            case LeaseEnd.FATAL:
                self._give_back(live_lease)
                self._stop(result)
            case _:
                assert_never(result.how)

    def _accept(self, live_lease: LiveLease, result: LeaseResult) -> None:
        """Seal what is finished. A result of more than was leased, or of nothing, is a failure."""
        span = live_lease.span
        fits = span.first < result.end <= span.end or span.kind is LeaseKind.ASSEMBLE
        if (result.kind, result.generation, fits) != (span.kind, span.shard.generation, True):
            self._fault(live_lease, "bad_result")
            return
        live_lease.worker.failed_shards.clear()
        self._settle(live_lease, result)

    def _lose_upload(self, live_lease: LiveLease) -> None:
        if live_lease.span.kind is LeaseKind.OBJECTS:
            self._fault(live_lease, "upload_lost")
            return
        self._release(live_lease)
        self._void(live_lease.span.shard)

    def _stop(self, result: LeaseResult) -> None:
        if not self._stopped:
            self._stopped = True
            self._commands.append(
                Stop(cause=result.cause or "fatal", message=result.message or "a worker stopped")
            )
        self._drain()

    def _drain(self) -> None:
        if self._drain_at is None:
            self._drain_at = self._now

    # -- time --------------------------------------------------------------------------------------

    def _take_tick(self) -> None:
        self._expire_workers()
        self._expire_stalled()
        self._end_drain()
        self._split_tail()

    def _expire_workers(self) -> None:
        for worker in list(self._workers.values()):
            if self._now - worker.heard_at >= self._options.heartbeat_timeout_seconds:
                self._commands.append(LoseWorker(worker=worker.name, cause="heartbeat_expired"))
                self._lose(worker, "worker_lost")

    def _expire_stalled(self) -> None:
        limit = self._options.stall_seconds
        stalled = [held for held in self._live.values() if self._now - held.moved_at >= limit]
        for live_lease in stalled:
            if live_lease.attempt in self._live:
                self._revoke(live_lease)
                self._fault(live_lease, "stalled")

    def _end_drain(self) -> None:
        """A drain that takes too long revokes what is live; the journals keep what was done."""
        if self._drain_at is None or (
            self._now - self._drain_at < self._options.drain_timeout_seconds
        ):
            return
        for live_lease in list(self._live.values()):
            self._revoke(live_lease)
            self._give_back(live_lease)

    def _split_tail(self) -> None:
        """Nothing is ready, workers are idle or hungry: halve the leases that would end last."""
        if self._drain_at is not None or self._paused or self._table.backlog.peek():
            return
        wanted = sum(worker.splits_wanted for worker in self._waiting)
        if not wanted:
            return
        live = self._live.values()
        for live_lease in choose_splits(live, wanted=wanted, now=self._now, options=self._options):
            live_lease.split_at = self._now
            self._commands.append(split_in_half(live_lease))

    def _finish_if_over(self) -> None:
        if not self._live and (self._drain_at is not None or self.complete):
            self._finished = True
            self._commands.append(Finish())
