"""What may be in flight in a run of many datasets: one budget for all of its workers. Thread-safe.

Each dataset's cluster tells what its workers report, and brings them what is decided here. So a
bandwidth, or a number of transfers or requests, is that of the whole run, however many datasets are
at work. The listings of their drivers have a share of it, too.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from noria.engine.budgets import Budgets, WorkerShare
from noria.engine.cluster.protocol import Instruction
from noria.engine.concurrency.sharing import BULK_START, SMALL_START
from noria.engine.steering.limits import LimitsInForce
from noria.manifests.counters import StoreRole
from noria.manifests.model import BandwidthShare, BandwidthUse, RequestShare, WorkerReport

DECIDE_SECONDS: Final = 0.5
RESTING_SECONDS: Final = 2.0
"""So long the share of a worker that is between two datasets is kept for the next one."""
START: Final = round(math.sqrt(BULK_START * SMALL_START))
"""Transfers in flight at first: what the datasets are made of is not known."""


class RunBudgets:
    """Hears all workers of a run, and says what each may have in flight, and read each second."""

    def __init__(
        self, limits: LimitsInForce, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._budgets = Budgets(limits, START)
        self._decided = -math.inf
        self._keys = itertools.count(1)
        self._news: dict[str, list[Instruction]] = {}
        self._resting: dict[str, float] = {}
        """Workers that are between two datasets, and since when."""
        self._listings: dict[str, _Listing] = {}

    def follow(self, limits: LimitsInForce) -> None:
        """From here on these are in force for all together."""
        with self._lock:
            self._budgets.follow(limits)
            self._decided = -math.inf

    def join(self) -> tuple[str, WorkerShare]:
        """A worker begins; returns what it is called here, and what it begins with.

        It takes over the share of one that has ended its work just now. Otherwise it starts with
        what is free: the others hear of their new shares first.
        """
        with self._lock:
            if self._resting:
                key = next(iter(self._resting))
                del self._resting[key]
                share = self._budgets.restart(key)
            else:
                key = f"{next(self._keys):09}"
                self._budgets.join(key)
                share = self._budgets.start
            self._news[key] = []
            if share.limits is None:
                share = replace(share, limits=self._budgets.even_limits(self._news))
            return key, share

    def leave(self, key: str) -> None:
        """A worker does nothing any more, and never will for this dataset."""
        with self._lock:
            if self._news.pop(key, None) is not None:
                self._resting[key] = self._clock()

    def hear(self, key: str, report: WorkerReport) -> None:
        """A worker's report."""
        with self._lock:
            if key in self._news:
                self._budgets.hear(key, report)

    def news(self, key: str) -> list[Instruction]:
        """What a worker is to be told now."""
        with self._lock:
            self._decide(self._clock())
            told = self._news.get(key, [])
            if told:
                self._news[key] = []
            return told

    def begin_listing(self, role: StoreRole) -> ListingOfRun:
        """A driver lists that end of its dataset."""
        with self._lock:
            key = f"listing {next(self._keys):09}"
            bandwidth, requests = self._budgets.join_listing(key, role)
            self._listings[key] = _Listing(role=role, bandwidth=bandwidth, requests=requests)
        return ListingOfRun(self, key)

    def exchange_listing(
        self, key: str, bandwidth: BandwidthUse, requests: BandwidthUse
    ) -> tuple[float, float]:
        """What a listing has used; returns the bytes and requests a second that it may use now."""
        with self._lock:
            listing = self._listings.get(key)
            if listing is None:
                return 0.0, 0.0
            # What is in force there may be less: its own dataset may have a limit, or be paused.
            self._budgets.hear_listing(
                key,
                listing.role,
                replace(bandwidth, share=listing.bandwidth),
                replace(requests, share=listing.requests),
            )
            self._decide(self._clock())
            return listing.bandwidth, listing.requests

    def end_listing(self, key: str) -> None:
        """It makes no more requests. A repeat does nothing."""
        with self._lock:
            if self._listings.pop(key, None) is not None:
                self._budgets.leave(key)

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second of the whole run. None: any number."""
        limit = self._budgets.bandwidth.limit
        return None if limit == math.inf else limit

    @property
    def holds(self) -> bool:
        """The bandwidth holds workers up now."""
        with self._lock:
            return self._budgets.bandwidth.holds

    def _decide(self, now: float) -> None:
        if now - self._decided < DECIDE_SECONDS:
            return
        self._decided = now
        for key in [key for key, at in self._resting.items() if now - at >= RESTING_SECONDS]:
            del self._resting[key]
            self._budgets.leave(key)
        for key, told in self._budgets.decide(now):
            if key in self._news:
                self._news[key].append(told)
            elif (listing := self._listings.get(key)) is not None:
                listing.take(told)


@dataclass(slots=True)
class _Listing:
    """What a listing may use a second."""

    role: StoreRole
    bandwidth: float
    requests: float

    def take(self, told: Instruction) -> None:
        match told:
            case BandwidthShare():
                self.bandwidth = told.bytes_per_second
            case RequestShare():
                self.requests = told.per_second


class ListingOfRun:
    """See live_settings.ListingTurn."""

    def __init__(self, budgets: RunBudgets, key: str) -> None:
        self._budgets = budgets
        self._key = key

    def exchange(self, bandwidth: BandwidthUse, requests: BandwidthUse) -> tuple[float, float]:
        return self._budgets.exchange_listing(self._key, bandwidth, requests)

    def close(self) -> None:
        self._budgets.end_listing(self._key)
