"""Requests in flight at each store: the budget of a run, and each worker's share of it.

A worker's own pacer keeps to its share and falls below it at once when the store answers 429 or
503; the budget, which knows all workers, follows within seconds (search.py says how).

Pure: time comes in with each call, in seconds on any one clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from noria.engine.concurrency.search import ConcurrencySearch
from noria.engine.concurrency.throughput import PRICE_PRIOR_BYTES, Window, added_rates
from noria.manifests.counters import Counter, Gauge, Histogram, StoreRole
from noria.manifests.model import MetricsSnapshot

ROLES: tuple[str, ...] = tuple(StoreRole)

PER_WORKER_MAX = 256
"""No worker has more requests in flight at one store: each has a connection of its own."""
BUDGET_MAX = 16_384
"""All workers together. If they have less work, the budget is not used and does not grow."""
BULK_PER_WORKER = 2
"""Large bodies in flight for each worker and direction at first; a streamed one counts in both.

On one core each more costs CPU, most over https: four took about a quarter more there. Between
stores that pause to write, four were a tenth faster. Trials find more if it pays.
"""
SMALL_PER_WORKER = 64
"""Small requests in flight for each worker and direction at first.

A core has time for some 2,000 a second; at 30 ms each, that takes 60.
"""
SMALL_START_MAX = 256
"""Small requests in flight for the job at first.

S3 promises 3,500 writes a second for a prefix: at 70 ms that is 245, and a larger job may be
refused at once. Trials find more within seconds.
"""
SMALL_BYTES = 1024 * 1024
"""What is below costs more as a request than by its bytes (see PRICE_PRIOR_BYTES)."""

WINDOW_SECONDS = 1.0
WINDOW_SECONDS_MAX = 5.0
"""A window ends when every worker has reported, and at last after this."""
IDLE_SECONDS = 5.0
"""A worker without a request for so long leaves its share to the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartingBudget:
    """Requests in flight to begin with, at each store, all workers together."""

    bulk: int
    """Of these, bodies of SMALL_BYTES and more: each needs a buffer, and perhaps a thread."""
    small: int

    @property
    def requests(self) -> int:
        return self.bulk + self.small


def starting_budget(
    sizes: Iterable[Mapping[str, int]], *, workers: int, part_bytes: int
) -> StartingBudget:
    """What suits the sizes of a plan: `sizes` of manifest.json, rows of {below, objects, bytes}.

    A kind of request that makes up half of the work or more gets as many as it can use, another in
    proportion fewer; never more than there are requests, and at least one if there are any.
    """
    small, bulk = Window(), Window()
    for row in sizes:
        parts = max(row["objects"], math.ceil(row["bytes"] / part_bytes))
        if row["below"] <= SMALL_BYTES:
            small += Window(requests=parts, bytes=row["bytes"])
        else:
            bulk += Window(requests=parts, bytes=row["bytes"])
    works = [kind.bytes + kind.requests * PRICE_PRIOR_BYTES for kind in (small, bulk)]
    share = works[0] / max(1.0, sum(works))
    return StartingBudget(
        bulk=_at_first(workers * BULK_PER_WORKER, 1 - share, bulk),
        small=_at_first(min(workers * SMALL_PER_WORKER, SMALL_START_MAX), share, small),
    )


def _at_first(most: int, share: float, kind: Window) -> int:
    return min(math.ceil(most * min(1.0, 2 * share)), int(kind.requests))


def shares(budget: int, workers: Collection[str]) -> dict[str, int]:
    """The budget split evenly; each worker has at least 1 and at most PER_WORKER_MAX.

    What is left over goes to the first by name, one each.
    """
    each, left = divmod(budget, max(1, len(workers)))
    return {
        name: min(max(1, each + (place < left)), PER_WORKER_MAX)
        for place, name in enumerate(sorted(workers))
    }


@dataclass(slots=True)
class _SharingWorker:
    """A worker: its totals by store, as last heard and as last counted, and what it was told."""

    worked_at: float
    heard: Mapping[str, Window] | None = None
    counted: Mapping[str, Window] | None = None
    told: dict[str, int] = field(default_factory=dict)

    @property
    def has_news(self) -> bool:
        return self.heard is not self.counted

    def take(self) -> dict[str, Window]:
        """What is new, by store; it counts as taken."""
        heard, counted = self.heard, self.counted
        assert heard is not None
        assert counted is not None
        self.counted = heard
        return {role: heard[role] - counted[role] for role in ROLES}


class Budgets:
    """Hears all workers, and says what each may have in flight. Use one for each run."""

    def __init__(self, start: int, *, fixed: Mapping[str, int] | None = None) -> None:
        """`start`: requests in flight at each store. `fixed`: store -> a fixed number."""
        self._fixed = fixed or {}
        self._searches = {role: self._search(role, start) for role in ROLES}
        self._members: dict[str, _SharingWorker] = {}
        self._sharing: frozenset[str] = frozenset()
        self._window_began: float | None = None

    def budget(self, role: str) -> int:
        """Requests in flight at a store, all workers together."""
        return self._searches[role].budget

    def join(self, worker: str, now: float) -> None:
        self._members[worker] = _SharingWorker(worked_at=now)

    def leave(self, worker: str) -> None:
        self._members.pop(worker, None)

    def hear(self, worker: str, now: float, metrics: MetricsSnapshot) -> None:
        """A worker's report: what it has counted since it started."""
        member = self._members.get(worker)
        if member is None:
            return
        totals = {role: totals_of(metrics, role, now) for role in ROLES}
        if member.heard is None or _has_worked(member.heard, totals):
            member.worked_at = now
        member.heard = totals
        member.counted = member.counted or totals

    def decide(self, now: float) -> dict[str, dict[str, int]]:
        """Worker -> store -> its share, for those whose share has changed since the last call."""
        self._see_who_shares(now)
        if self._window_is_whole(now):
            self._turn(self._close_window(now))
        return self._news()

    # -- who ---------------------------------------------------------------------------------------

    def _see_who_shares(self, now: float) -> None:
        busy = frozenset(
            name for name, member in self._members.items() if now - member.worked_at <= IDLE_SECONDS
        )
        sharing = busy or frozenset(self._members)
        if sharing and sharing != self._sharing:
            self._sharing = sharing
            for role in ROLES:
                if role not in self._fixed:
                    self._searches[role].set_floor(len(sharing))

    def _search(self, role: str, start: int) -> ConcurrencySearch:
        fixed = self._fixed.get(role)
        return (
            ConcurrencySearch(start, 1, BUDGET_MAX)
            if fixed is None
            else ConcurrencySearch(fixed, fixed, fixed)
        )

    def _news(self) -> dict[str, dict[str, int]]:
        news: dict[str, dict[str, int]] = {}
        split = {role: shares(self.budget(role), self._sharing) for role in ROLES}
        for name, member in self._members.items():
            # An idle worker has a share too: work may reach it before its next share does.
            told = {role: of.get(name) or min(of.values()) for role, of in split.items()}
            if told != member.told:
                member.told = news[name] = told
        return news

    # -- what they did -----------------------------------------------------------------------------

    def _window_is_whole(self, now: float) -> bool:
        if self._window_began is None:
            self._window_began = now
        seconds = now - self._window_began
        return seconds >= WINDOW_SECONDS_MAX or (
            seconds >= WINDOW_SECONDS and all(member.has_news for member in self._members.values())
        )

    def _close_window(self, now: float) -> dict[str, Window]:
        assert self._window_began is not None
        seconds, self._window_began = now - self._window_began, now
        since = [member.take() for member in self._members.values() if member.has_news]
        return {role: added_rates((one[role] for one in since), seconds) for role in ROLES}

    def _turn(self, windows: Mapping[str, Window]) -> None:
        """Let one store try at a time.

        If a trial has changed its budget, the others look again: that budget may have limited them.
        """
        for role, search in self._searches.items():
            others = [other for other in self._searches.values() if other is not search]
            tried_from = search.base if search.trying else None
            search.hear(
                windows[role],
                may_try=not any(other.trying for other in others),
                may_hold=not any(other.is_holding for other in others),
            )
            if tried_from in (None, search.base):
                continue
            for other in others:
                other.wake()
                if not search.is_holding:
                    other.confirm_hold()


def totals_of(metrics: MetricsSnapshot, role: str, now: float) -> Window:
    """What a worker has done at a store since it started; `now` stands for the seconds.

    Without the gauge in_flight_seconds(store) a budget counts as unused, and stays as it is.
    """
    histograms = [
        counts
        for labels, counts in metrics.histograms.items()
        if labels[:2] == (Histogram.REQUEST_SECONDS, role)
    ]
    return Window(
        seconds=now,
        requests=sum(sum(counts[:-1]) for counts in histograms),
        bytes=sum(metrics.counters.get((counter,), 0.0) for counter in _BYTES[role]),
        request_seconds=sum(counts[-1] for counts in histograms),
        in_flight_seconds=metrics.gauges.get((Gauge.IN_FLIGHT_SECONDS, role), 0.0),
        throttles=metrics.counters.get((Counter.THROTTLES, role), 0.0),
    )


_BYTES: Mapping[str, tuple[Counter, ...]] = {
    StoreRole.SOURCE: (Counter.BYTES_READ,),
    StoreRole.TARGET: (Counter.BYTES_WRITTEN, Counter.BYTES_REREAD),
}


def _has_worked(before: Mapping[str, Window], after: Mapping[str, Window]) -> bool:
    return any(after[role].in_flight_seconds > before[role].in_flight_seconds for role in ROLES)
