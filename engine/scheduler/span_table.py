"""The coverage of a plan: every unit of every shard, and the state it is in. No workers, no time.

The state diagram is in engine.scheduler.Scheduler, which decides. Each of its arrows is a method.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from noria.engine.scheduler.events import SettledSpan
from noria.engine.scheduler.state import STEPS, Backlog, LiveLease, Shard, Span, SpanState
from noria.manifests.errors import JobDirectoryError
from noria.manifests.model import LeaseKind, ShardKind, ShardPlan


class SpanTable:
    """All spans of a plan. Between two calls, those of a shard cover each of its units once.

    Memory goes with the number of spans; a shard is forgotten once it is settled.
    """

    def __init__(
        self,
        plans: Iterable[ShardPlan],
        settled: Iterable[SettledSpan],
        generations: Mapping[int, int],
    ) -> None:
        """Raises JobDirectoryError if settled spans overlap, or are outside the plan."""
        self.backlog = Backlog()
        self.spans = dict.fromkeys(SpanState, 0)
        self.units = dict.fromkeys(SpanState, 0)
        self._units_total = 0
        self._shards: dict[int, Shard] = {}
        """Those with a span that is not settled."""
        seals: defaultdict[int, list[SettledSpan]] = defaultdict(list)
        for sealed in settled:
            seals[sealed.shard].append(sealed)
        for plan in plans:
            assert plan.units > 0 < plan.units_per_lease, "a shard has units"
            found = seals.pop(plan.shard, [])
            if _is_whole(plan, found):
                self._count_settled(plan)
                continue
            shard = Shard(plan, generations.get(plan.shard, 0), units_left=plan.units)
            assert plan.shard not in self._shards, "a shard is planned once"
            self._shards[plan.shard] = shard
            self._units_total += plan.units
            self._load(shard, found)
        if seals:
            raise JobDirectoryError(
                f"shard {min(seals)} is sealed, but not in the manifest; restore the job directory"
            )

    def check(self, leases: int) -> None:
        assert sum(self.units.values()) == self._units_total, "a unit has left the books"
        assert self.spans[SpanState.LEASED] == leases, "a leased span does not have one lease"

    def is_settled(self, shard: int) -> bool:
        return shard not in self._shards

    # -- how spans come to be ----------------------------------------------------------------------

    def _count_settled(self, plan: ShardPlan) -> None:
        """A shard of which one seal is all: most of what a driver finds late in a job."""
        self._units_total += plan.units
        self.spans[SpanState.SETTLED] += 1
        self.units[SpanState.SETTLED] += plan.units

    def _load(self, shard: Shard, seals: list[SettledSpan]) -> None:
        """Settle what is sealed; the rest is pending."""
        plan = shard.plan
        if any(sealed.kind is LeaseKind.ASSEMBLE for sealed in seals):
            self._move(self._open(shard, LeaseKind.PARTS, 0, plan.units), SpanState.SETTLED)
            self._move(self._open(shard, LeaseKind.ASSEMBLE, 0, 0), SpanState.SETTLED)
            del self._shards[plan.shard]
            return
        reached = 0
        for sealed in sorted(seals, key=lambda sealed: sealed.first):
            if not reached <= sealed.first < sealed.end <= plan.units:
                raise JobDirectoryError(
                    f"the seals of shard {plan.shard} overlap or exceed it at unit "
                    f"{sealed.first}; restore the job directory"
                )
            reached = sealed.end
            self.settle(self._open(shard, _unit_kind(plan), sealed.first, sealed.end))
        self._open_gaps(shard)

    def _open(
        self, shard: Shard, kind: LeaseKind, first: int, end: int, past: Span | None = None
    ) -> Span:
        """A new span, in no state yet; `past` has its failures."""
        span = Span(shard, kind, first, end)
        if past is not None:
            span.failures, span.failed_on = past.failures, past.failed_on
        shard.spans.append(span)
        return span

    def _open_gaps(self, shard: Shard) -> None:
        """Pending spans, as long as one lease takes at first, for all units that no span covers."""
        for first, end in list(_gaps(shard)):
            for start in range(first, end, shard.plan.units_per_lease):
                stop = min(start + shard.plan.units_per_lease, end)
                self.make_pending(self._open(shard, _unit_kind(shard.plan), start, stop))

    # -- the arrows of the diagram -----------------------------------------------------------------

    def _move(self, span: Span, state: SpanState | None) -> None:
        """The only method that changes the state of a span."""
        assert (span.state, state) in STEPS, f"no arrow leads from {span.state} to {state}"
        if span.state is not None:
            self.spans[span.state] -= 1
            self.units[span.state] -= span.units
        if state is not None:
            self.spans[state] += 1
            self.units[state] += span.units
        span.state = state

    def make_pending(self, span: Span, due: float | None = None) -> None:
        """-> PENDING: ready at once, or once it is `due`."""
        self._move(span, SpanState.PENDING)
        if due is None:
            self.backlog.push(span)
        else:
            self.backlog.push_after(span, due)

    def lease(self, live_lease: LiveLease) -> None:
        """PENDING -> LEASED."""
        assert live_lease.span.live_lease is None, "a span has one lease"
        self._move(live_lease.span, SpanState.LEASED)
        live_lease.span.live_lease = live_lease

    def settle(self, span: Span) -> None:
        """-> SETTLED. With the last unit of a PARTS shard, its completion becomes pending."""
        shard = span.shard
        self._move(span, SpanState.SETTLED)
        shard.units_left -= span.units
        if shard.units_left:
            return
        if span.kind is LeaseKind.PARTS:
            self.make_pending(self._open(shard, LeaseKind.ASSEMBLE, 0, 0))
        else:
            del self._shards[shard.plan.shard]

    def quarantine(self, span: Span) -> None:
        """LEASED -> QUARANTINED."""
        self._move(span, SpanState.QUARANTINED)

    def cut(self, span: Span, end: int) -> None:
        """A leased span ends at `end`: the rest of it becomes a pending span with the same past."""
        assert span.state is SpanState.LEASED, "only what is leased is cut"
        assert span.first < end < span.end, "both halves have units"
        rest = self._open(span.shard, span.kind, end, span.end, past=span)
        self.units[SpanState.LEASED] -= rest.units
        span.end = end
        span.units_best = min(span.units_best, span.units)
        self.make_pending(rest)

    def void(self, shard: Shard) -> None:
        """A new generation: all spans but quarantined ones go; their units are pending again."""
        self._clear(shard)
        self._open_gaps(shard)

    def give_up(self, shard: Shard) -> list[Span]:
        """A new generation that this run leaves alone. Returns the spans that this quarantines."""
        self._clear(shard)
        given_up = [
            self._open(shard, LeaseKind.PARTS, first, end) for first, end in list(_gaps(shard))
        ]
        for span in given_up:
            self._move(span, SpanState.QUARANTINED)
        return given_up

    def _clear(self, shard: Shard) -> None:
        for span in shard.spans:
            assert span.live_lease is None, "live leases are revoked before"
            if span.state is not SpanState.QUARANTINED:
                self._move(span, None)
        shard.spans = [span for span in shard.spans if span.state is SpanState.QUARANTINED]
        shard.units_left = shard.plan.units
        shard.uploads_lost += 1
        shard.generation += 1


def _is_whole(plan: ShardPlan, seals: Sequence[SettledSpan]) -> bool:
    """Whether one seal has all units of a shard of objects."""
    if len(seals) != 1 or plan.kind is ShardKind.PARTS:
        return False
    sealed = seals[0]
    return sealed.kind is LeaseKind.OBJECTS and (sealed.first, sealed.end) == (0, plan.units)


def _unit_kind(plan: ShardPlan) -> LeaseKind:
    return LeaseKind.PARTS if plan.kind is ShardKind.PARTS else LeaseKind.OBJECTS


def _gaps(shard: Shard) -> Iterator[tuple[int, int]]:
    """Units [first, end) that no span of the shard covers."""
    if not shard.spans:  # most shards of a plan, when it is loaded
        yield 0, shard.plan.units
        return
    reached = 0
    for span in sorted(shard.spans, key=lambda span: span.first):
        if reached < span.first:
            yield reached, span.first
        reached = max(reached, span.end)
    if reached < shard.plan.units:
        yield reached, shard.plan.units
