"""Schedulers with one fault each: what checks of the scheduler have to notice.

The simulator's checks and the properties are both put to the test with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from noria.engine.scheduler.events import (
    Grant,
    LeaseEnded,
    LoseWorker,
    NewGeneration,
    Quarantine,
    SchedulerOptions,
    SealLease,
    SettledSpan,
    Split,
    WorkerReported,
)
from noria.engine.scheduler.scheduler import Scheduler
from noria.engine.scheduler.span_table import SpanTable
from noria.engine.scheduler.state import LiveLease, Shard, Span, SpanState, WorkerState
from noria.manifests.model import LeaseKind, LeaseResult, ShardPlan


class WithoutFence(Scheduler):
    """Any result for a span is taken for that of its live lease."""

    def _held(self, worker: str, shard: int, first: int, attempt: int) -> LiveLease | None:
        for live_lease in self._live.values():
            if (live_lease.span.shard.plan.shard, live_lease.span.first) == (shard, first):
                return live_lease
        return None


class SealsTheFenced(Scheduler):
    """What a worker says it finished is sealed, whoever has the lease by now."""

    def _take_end(self, event: LeaseEnded) -> None:
        before = len(self._commands)
        super()._take_end(event)
        if len(self._commands) == before and event.result.how == "finished":
            self._commands.append(SealLease(result=event.result))


class ForgetsExpiry(Scheduler):
    """A silent worker keeps its leases for ever."""

    def _expire_workers(self) -> None:
        pass


class ExpiresTooSoon(Scheduler):
    """Half of the time-out is enough."""

    def _expire_workers(self) -> None:
        readiness = self._options.heartbeat_timeout_seconds / 2
        for worker in list(self._workers.values()):
            if self._now - worker.heard_at >= readiness:
                self._commands.append(LoseWorker(worker=worker.name, cause="heartbeat_expired"))
                self._lose(worker, "worker_lost")


class KeepsLeasesOfTheLost(Scheduler):
    """A lost worker's leases are not given back."""

    def _lose(self, worker: WorkerState, cause: str) -> None:
        del self._workers[worker.name]
        self._leave(worker)


class ForgetsStalls(Scheduler):
    """A lease that makes no progress is never revoked."""

    def _expire_stalled(self) -> None:
        pass


class ForgetsLostGrants(Scheduler):
    """A grant that did not reach its worker is not given out again."""

    def _miss(self, live_lease: LiveLease) -> None:
        pass


class ForgetsTheRest(Scheduler):
    """What a split cuts off is never leased again."""

    def _cut(self, live_lease: LiveLease, end: int) -> None:
        pass


class NeverWakes(Scheduler):
    """Spans that rest after a failure rest for ever."""

    def _advance(self, clock: float) -> None:
        self._table.backlog.wake = lambda now: None  # type: ignore[method-assign]  # a fault on purpose
        super()._advance(clock)


class BelievesEveryResult(Scheduler):
    """A result is settled before it is seen whether it fits."""

    def _accept(self, live_lease: LiveLease, result: LeaseResult) -> None:
        self._settle(live_lease, result)


class SealsNothing(Scheduler):
    """Results count, and no seal is written: the next driver knows nothing of them."""

    def _settle(self, live_lease: LiveLease, result: LeaseResult) -> None:
        super()._settle(live_lease, result)
        self._commands = [item for item in self._commands if not isinstance(item, SealLease)]


class _KeepsVoidSeals(SpanTable):
    def void(self, shard: Shard) -> None:
        settled = [span for span in shard.spans if span.state is SpanState.SETTLED]
        shard.spans = [span for span in shard.spans if span.state is not SpanState.SETTLED]
        left = shard.units_left
        self._clear(shard)
        shard.spans += settled
        shard.units_left = left
        self._open_gaps(shard)


class KeepsVoidSeals(Scheduler):
    """Parts of a lost upload still count in its next generation."""

    def __init__(
        self,
        shards: Iterable[ShardPlan],
        *,
        settled: Iterable[SettledSpan],
        generations: Mapping[int, int],
        first_attempt: int,
        options: SchedulerOptions,
    ) -> None:
        plans, spans = list(shards), list(settled)
        super().__init__(
            plans,
            settled=spans,
            generations=generations,
            first_attempt=first_attempt,
            options=options,
        )
        self._table = _KeepsVoidSeals(plans, spans, generations)


class LeavesOldUploadsLive(Scheduler):
    """A new generation begins while workers still feed the old upload."""

    def _void(self, shard: Shard) -> None:
        for span in shard.spans:
            if span.live_lease is not None:
                self._release(span.live_lease)
        super()._void(shard)


class VoidsAtEveryFailure(Scheduler):
    """A failed lease is taken for a lost upload."""

    def _fault(self, live_lease: LiveLease, cause: str) -> None:
        if live_lease.span.kind is LeaseKind.OBJECTS:
            super()._fault(live_lease, cause)
        else:
            self._lose_upload(live_lease)


class NeverQuarantines(Scheduler):
    """Failures are not counted, so that no span is ever given up."""

    def _fail(self, live_lease: LiveLease, cause: str, *, rest: bool) -> None:
        live_lease.span.failures = 0
        super()._fail(live_lease, cause, rest=rest)


class QuarantinesTheSettled(Scheduler):
    """What it gives up is one unit too much."""

    def _say_quarantined(self, span: Span, cause: str) -> None:
        super()._say_quarantined(span, cause)
        if span.kind is not LeaseKind.ASSEMBLE:
            self._say_twice(span, cause)

    def _say_twice(self, span: Span, cause: str) -> None:
        last = self._commands[-1]
        assert isinstance(last, Quarantine)
        self._commands[-1] = replace(last, end=last.end + 1, first=max(0, last.first - 1))
        self._commands.append(replace(last, first=last.end - 1))


class GrantsTwice(Scheduler):
    """The same units go to two workers."""

    def _grant(self, span: Span, worker: WorkerState) -> None:
        super()._grant(span, worker)
        granted = self._commands[-1]
        assert isinstance(granted, Grant)
        other = next(iter(self._waiting), None)
        if other is not None and span.kind is not LeaseKind.ASSEMBLE:
            lease = replace(granted.lease, attempt=self._attempt)
            self._attempt += 1
            self._commands.append(Grant(worker=other.name, lease=lease))


class OverfillsWorkers(Scheduler):
    """A worker is given leases beyond its room."""

    def _note_room(self, worker: WorkerState) -> None:
        window, worker.window = worker.window, worker.window + 1
        super()._note_room(worker)
        worker.window = window


class GrowsUnasked(Scheduler):
    """A worker may hold more leases whether it is hungry or not."""

    def _take_report(self, event: WorkerReported) -> None:
        super()._take_report(replace(event, free_places=max(1, event.free_places)))


class FeedsTheHungryFirst(Scheduler):
    """A hungry worker is given leases that idle ones could begin."""

    def _note_room(self, worker: WorkerState) -> None:
        super()._note_room(worker)
        first, *_, hungry = self._waiting._turns
        if worker.name in hungry:
            first[worker.name] = hungry.pop(worker.name)
            first.move_to_end(worker.name, last=False)


class GrantsToLeaving(Scheduler):
    """A worker that leaves is ready for more."""

    def _leave(self, worker: WorkerState) -> None:
        self._note_room(worker)


class ForgetsWhatIsSealed(Scheduler):
    """A new driver begins from nothing."""

    def __init__(
        self,
        shards: Iterable[ShardPlan],
        *,
        settled: Iterable[SettledSpan],
        generations: Mapping[int, int],
        first_attempt: int,
        options: SchedulerOptions,
    ) -> None:
        super().__init__(
            shards,
            settled=(),
            generations=generations,
            first_attempt=first_attempt,
            options=options,
        )


class ForgetsGenerations(Scheduler):
    """A new driver takes every upload for the first one."""

    def __init__(
        self,
        shards: Iterable[ShardPlan],
        *,
        settled: Iterable[SettledSpan],
        generations: Mapping[int, int],
        first_attempt: int,
        options: SchedulerOptions,
    ) -> None:
        super().__init__(
            shards,
            settled=settled,
            generations={},
            first_attempt=first_attempt,
            options=options,
        )


class RepeatsAttempts(Scheduler):
    """Each driver counts attempts from one."""

    def __init__(
        self,
        shards: Iterable[ShardPlan],
        *,
        settled: Iterable[SettledSpan],
        generations: Mapping[int, int],
        first_attempt: int,
        options: SchedulerOptions,
    ) -> None:
        super().__init__(
            shards, settled=settled, generations=generations, first_attempt=1, options=options
        )


class FinishesTooSoon(Scheduler):
    """What rests before its next attempt is forgotten at the end."""

    @property
    def complete(self) -> bool:
        return self._table.backlog.peek() is None and not self._live


class SplitsNothingOff(Scheduler):
    """A split that leaves the other half nothing."""

    def _split_tail(self) -> None:
        before = len(self._commands)
        super()._split_tail()
        for place, command in enumerate(self._commands[before:], before):
            if isinstance(command, Split):
                self._commands[place] = replace(command, end=command.first)


class RevokesAtEveryReport(Scheduler):
    """A lease is taken away after each report, and given out again: nothing is ever finished."""

    def _take_report(self, event: WorkerReported) -> None:
        super()._take_report(event)
        for item in event.progress:
            live_lease = self._live.get(item.attempt)
            if live_lease is not None and live_lease.units_done == live_lease.base_units:
                self._revoke(live_lease)
                self._give_back(live_lease)


class SaysNoGeneration(Scheduler):
    """The upload is made anew, and nobody is told that the seals of the last one are void."""

    def _void(self, shard: Shard) -> None:
        super()._void(shard)
        self._commands = [item for item in self._commands if not isinstance(item, NewGeneration)]


class TrustsAnyWorker(Scheduler):
    """An attempt is enough to be heard, from whatever worker."""

    def _held(self, worker: str, shard: int, first: int, attempt: int) -> LiveLease | None:
        live_lease = self._live.get(attempt)
        return live_lease and super()._held(live_lease.worker.name, shard, first, attempt)


class GrantsWhileDraining(Scheduler):
    """A drain does not keep new leases back."""

    def _drain(self) -> None:
        super()._drain()
        drain_at, self._drain_at = self._drain_at, None
        self._grant_ready()
        self._drain_at = drain_at


class KeepsLeavingReady(Scheduler):
    """A worker that leaves stays among those that may be given leases."""

    def _leave(self, worker: WorkerState) -> None:
        pass


class DrainsTooSoon(Scheduler):
    """A drain does not wait for live leases."""

    def _finish_if_over(self) -> None:
        live, self._live = self._live, {} if self._drain_at is not None else self._live
        super()._finish_if_over()
        self._live = live
