"""The simulator's checks, put to the test: schedulers with one fault each, and each is noticed, for
what it did. The unharmed one passes the same seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

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
from tests.support.simulated_worlds import run_small

SEEDS = range(8)


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
    def _expire_stalled(self) -> None:
        pass


class ForgetsLostGrants(Scheduler):
    def _miss(self, live_lease: LiveLease) -> None:
        pass


class ForgetsTheRest(Scheduler):
    """What a split cuts off is never leased again."""

    def _cut(self, live_lease: LiveLease, end: int) -> None:
        pass


class NeverWakes(Scheduler):
    """Spans that rest after a failure rest for ever."""

    def _advance(self, clock: float) -> None:
        self._table.backlog.wake = lambda now: None  # type: ignore[method-assign]
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
        if self._idle and span.kind is not LeaseKind.ASSEMBLE:
            other = next(iter(self._idle))
            lease = replace(granted.lease, attempt=self._attempt)
            self._attempt += 1
            self._commands.append(Grant(worker=other, lease=lease))


class OverfillsWorkers(Scheduler):
    def _note_room(self, worker: WorkerState) -> None:
        if worker.leaving:
            super()._note_room(worker)
        else:
            self._idle.setdefault(worker.name, worker)


class GrantsToLeaving(Scheduler):
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


NOTICED: dict[type[Scheduler], str] = {
    WithoutFence: "sealed that does not count",
    SealsTheFenced: "sealed that does not count",
    ForgetsExpiry: "silent beyond its expiry",
    ExpiresTooSoon: "lost that was heard of",
    KeepsLeasesOfTheLost: "a split of what is not leased",
    ForgetsStalls: "has stalled and is not revoked",
    ForgetsLostGrants: "never got to its worker",
    ForgetsTheRest: "is lost: the run ends without it",
    NeverWakes: "the end is not reached",
    BelievesEveryResult: "sealed that does not count",
    SealsNothing: "not answered: SealLease",
    KeepsVoidSeals: "completed before its last part",
    LeavesOldUploadsLive: "leases of the last one are live",
    VoidsAtEveryFailure: "no upload was lost",
    NeverQuarantines: "failed 5 times, and is leased again",
    QuarantinesTheSettled: "quarantined",
    GrantsTwice: "are leased twice",
    OverfillsWorkers: "gone, leaving or full",
    GrantsToLeaving: "gone, leaving or full",
    ForgetsWhatIsSealed: "are leased, and sealed already",
    ForgetsGenerations: "a lease of an old generation",
    RepeatsAttempts: "an attempt's number comes again",
    FinishesTooSoon: "is lost: the run ends without it",
    SplitsNothingOff: "a split of what is not leased",
    RevokesAtEveryReport: "bytes were moved again",
    SaysNoGeneration: "not answered: NewGeneration",
}
"""By what."""


@pytest.mark.parametrize("faulty", NOTICED, ids=lambda faulty: faulty.__name__)
def test_a_fault_of_the_scheduler_is_noticed(faulty: type[Scheduler]) -> None:
    found = []
    for seed in SEEDS:
        found.append(violation_of(seed, faulty) or "none")
        if NOTICED[faulty] in found[-1]:
            return
    pytest.fail(f"it was not noticed: {found}")


def violation_of(seed: int, faulty: type[Scheduler]) -> str | None:
    return run_small(seed, scheduler_type=faulty).violation


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_fault_the_same_seeds_pass(seed: int) -> None:
    assert violation_of(seed, Scheduler) is None
