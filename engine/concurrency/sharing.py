"""The transfers in flight of a run, shared out to its workers.

A worker that cannot use its share leaves it to others; which workers there are, and what they did,
is told to the search (search.py), which finds how many there are to share.

Pure: time comes in with each call, in seconds on any one clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from noria.engine.concurrency.search import USED, TransferSearch
from noria.engine.concurrency.throughput import MIB, PRICE_PRIOR_BYTES, Window, added_rates
from noria.manifests.counters import Counter, Gauge, Histogram, StoreRole
from noria.manifests.model import Limits, MetricsSnapshot

TRANSFERS_MAX = 65_536
"""All workers together. With less work they are not used, and their number does not grow."""
BULK_START, SMALL_START = 64, 256
"""In flight at first, for a job of large bodies and for one of small objects.

A connection carries 10 to 100 MB/s, and waits for three round trips between two parts, which is as
long as a part takes where the way is long: 64 fill most lines, or show quickly that there is more;
on a short way they cost no more than 32. S3 promises 3,500 writes a second for a prefix, which at
70 ms is 245, and more may be refused at once.
"""
SMALL_BYTES = MIB
"""What is below costs more as a transfer than by its bytes (see PRICE_PRIOR_BYTES)."""
_BYTES = (Counter.BYTES_WRITTEN, Counter.BYTES_REREAD)
WINDOW_SECONDS, WINDOW_SECONDS_MAX = 1.0, 5.0
"""A window ends when every worker has reported, and at last after the second of these."""
CHURN = 0.1
"""Where fewer workers than this share come and go, the search goes on."""
BUSY = 0.9
"""Processors are full where workers use this share of a core each."""


def starting_number(sizes: Iterable[Mapping[str, int]], *, workers: int, part_bytes: int) -> int:
    """Transfers that suit a plan: `sizes` of manifest.json, rows of {below, objects, bytes}.

    Between the two starts as work is large or small; at least two for each worker, and never more
    than there are transfers.
    """
    works, transfers = [0.0, 0.0], 0
    for row in sizes:
        count = max(row["objects"], math.ceil(row["bytes"] / part_bytes))
        works[row["below"] <= SMALL_BYTES] += row["bytes"] + count * PRICE_PRIOR_BYTES
        transfers += count
    small = works[True] / max(1.0, sum(works))
    start = max(2 * workers, round(math.pow(BULK_START, 1 - small) * math.pow(SMALL_START, small)))
    return max(1, min(start, int(transfers)))


@dataclass(slots=True)
class _Member:
    """A worker: its totals as last heard and as last counted, what it used, what it was told."""

    heard: Window | None = None
    counted: Window | None = None
    used: float | None = None
    """Transfers that it had in flight. None: not known yet."""
    told: Limits | None = None

    @property
    def has_news(self) -> bool:
        return self.heard is not self.counted

    def take(self) -> Window:
        """What is new; it counts as taken."""
        assert self.heard is not None
        assert self.counted is not None
        new, self.counted = self.heard - self.counted, self.heard
        self.used = new.in_flight
        return new

    @property
    def wants(self) -> float:
        """Transfers that it has a use for: without bound if it uses what it has."""
        if self.used is None or self.told is None or self.used >= USED * self.told.transfers:
            return math.inf
        return self.used / USED + 1


class TransferBudget:
    """Hears all workers, and says how many transfers each may have in flight. One for each run."""

    def __init__(
        self, start: int, *, fixed: int = 0, source_most: int = 0, target_most: int = 0
    ) -> None:
        """`fixed`: the number, which is then not searched for.

        `source_most`, `target_most`: most requests at that store. 0: none is set.
        """
        self._search = TransferSearch(start, TRANSFERS_MAX)
        self._fixed = fixed
        self._source_most, self._target_most = source_most, target_most
        self._members: dict[str, _Member] = {}
        self._window_began: float | None = None
        self._woken_with = 0
        self.busy = False
        """The processors of the workers are full: more in flight would bring nothing."""

    def bound(self, *, fixed: int, source_most: int, target_most: int) -> None:
        """Set what the constructor was given once more. A search begins again where it was."""
        if self._fixed and not fixed:
            self._search.wake()
        self._fixed = fixed
        self._source_most, self._target_most = source_most, target_most

    @property
    def number(self) -> int:
        """Transfers in flight, all workers together."""
        return self._fixed or self._search.number

    def join(self, worker: str) -> None:
        self._members[worker] = _Member()
        self._change()

    def restart(self, worker: str) -> Limits | None:
        """Another worker goes on in its place, with its share; None: it was told none yet.

        What it did so far counts; the other one counts from its own start. Nothing else changes.
        """
        told = self._members[worker].told
        self._members[worker] = _Member(told=told)
        return told

    def leave(self, worker: str) -> None:
        if self._members.pop(worker, None) is not None:
            self._change()

    def _change(self) -> None:
        if abs(len(self._members) - self._woken_with) <= CHURN * self._woken_with:
            return
        self._woken_with, self.busy = len(self._members), False
        self._search.wake()

    def hear(self, worker: str, metrics: MetricsSnapshot) -> None:
        """A worker's report: what it has counted since it started."""
        member = self._members.get(worker)
        if member is not None:
            member.heard = totals_of(metrics)
            member.counted = member.counted or member.heard

    def decide(self, now: float) -> dict[str, Limits]:
        """Worker -> its share, for those whose share has changed since the last call."""
        if self._window_is_whole(now):
            self._close_window(now)
        split = self.limits({name: one.wants for name, one in self._members.items()})
        news = {name: share for name, share in split.items() if share != self._members[name].told}
        for name, share in news.items():
            self._members[name].told = share
        return news

    def limits(self, wants: Mapping[str, float]) -> dict[str, Limits]:
        """Worker -> its share, given what each has a use for.

        A transfer has one request at a time at each store, unless a person allows fewer.
        """
        transfers = shares(self.number, wants)
        source = shares(self._source_most, wants) if self._source_most else transfers
        target = shares(self._target_most, wants) if self._target_most else transfers
        return {
            name: Limits(transfers=transfers[name], source=source[name], target=target[name])
            for name in wants
        }

    def _window_is_whole(self, now: float) -> bool:
        if self._window_began is None:
            self._window_began = now
        seconds = now - self._window_began
        return seconds >= WINDOW_SECONDS_MAX or (
            seconds >= WINDOW_SECONDS and all(member.has_news for member in self._members.values())
        )

    def _close_window(self, now: float) -> None:
        assert self._window_began is not None
        seconds, self._window_began = now - self._window_began, now
        news = [member.take() for member in self._members.values() if member.has_news]
        window = added_rates(news, seconds)
        if news:
            self.busy = window.cpu_seconds >= BUSY * seconds * len(news)
        if not self._fixed:
            self._search.hear(window, busy=self.busy, workers=len(news))


def shares(number: int, wants: Mapping[str, float]) -> dict[str, int]:
    """The number split evenly among those who want that much; each has at least 1.

    What some do not want goes to the others; what nobody wants, to all: they may want it soon.
    """
    split: dict[str, int] = {}
    left = number
    for place, name in enumerate(sorted(wants, key=lambda name: (wants[name], name))):
        even = -(-left // (len(wants) - place))
        split[name] = max(1, min(even, math.ceil(min(wants[name], even))))
        left = max(0, left - split[name])
    each, over = divmod(left, max(1, len(wants)))
    return {name: split[name] + each + (place < over) for place, name in enumerate(sorted(split))}


def totals_of(metrics: MetricsSnapshot) -> Window:
    """What a worker has done since it started; its own clock stands for the seconds."""
    requests = sum(
        sum(counts[:-1])
        for labels, counts in metrics.histograms.items()
        if labels[0] == Histogram.REQUEST_SECONDS
    )
    return Window(
        seconds=metrics.gauges.get((Gauge.WORKER_SECONDS,), 0.0),
        transfers=metrics.gauges.get((Gauge.TRANSFERS_ENDED,), 0.0),
        bytes=sum(metrics.counters.get((counter,), 0.0) for counter in _BYTES),
        transfer_seconds=metrics.gauges.get((Gauge.TRANSFER_SECONDS,), 0.0),
        held_seconds=metrics.gauges.get((Gauge.HELD_SECONDS,), 0.0),
        cpu_seconds=metrics.gauges.get((Gauge.CPU_SECONDS,), 0.0),
        requests=requests,
        throttles=sum(metrics.counters.get((Counter.THROTTLES, role), 0.0) for role in StoreRole),
    )
