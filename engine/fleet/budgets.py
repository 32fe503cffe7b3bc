"""What may be in flight in a run of many datasets: one budget for all of its workers. Thread-safe.

Each dataset's cluster tells what its workers report, and brings them what is decided here. So a
bandwidth, or a number of transfers or requests, is that of the whole run, however many datasets are
at work.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from noria.engine.cluster.protocol import Instruction
from noria.engine.concurrency.bandwidth import BandwidthBudget
from noria.engine.concurrency.sharing import BULK_START, SMALL_START, TransferBudget
from noria.engine.config.jobfile import RunConfig
from noria.manifests.model import Limits, WorkerReport

DECIDE_SECONDS: Final = 0.5
RESTING_SECONDS: Final = 2.0
"""So long the share of a worker that is between two datasets is kept for the next one."""
START: Final = round(math.sqrt(BULK_START * SMALL_START))
"""Transfers in flight at first: what the datasets are made of is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a worker begins with."""

    key: str
    """What it is called here."""
    limits: Limits
    bandwidth: float
    """Bytes a second. inf: no limit; 0: none until it is told."""


class RunBudgets:
    """Hears all workers of a run, and says what each may have in flight, and read each second."""

    def __init__(self, run: RunConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._transfers = TransferBudget(
            START,
            fixed=run.transfers,
            source_most=run.source_requests,
            target_most=run.target_requests,
        )
        self._bandwidth = BandwidthBudget(lambda: run.bandwidth or math.inf)
        self._decided = -math.inf
        self._keys = itertools.count(1)
        self._news: dict[str, list[Instruction]] = {}
        self._resting: dict[str, float] = {}
        """Workers that are between two datasets, and since when."""

    def join(self) -> Beginning:
        """A worker begins. It takes over the share of one that has ended its work just now.

        Otherwise it starts with what is free: the others hear of their new shares first.
        """
        with self._lock:
            if self._resting:
                key = next(iter(self._resting))
                del self._resting[key]
                limits, bandwidth = self._transfers.restart(key), self._bandwidth.restart(key)
            else:
                key, limits = f"{next(self._keys):09}", None
                self._transfers.join(key)
                self._bandwidth.join(key)
                bandwidth = self._bandwidth.start
            self._news[key] = []
            if limits is None:
                split = self._transfers.limits(dict.fromkeys(self._news, math.inf))
                limits = split[max(split)]
            return Beginning(key=key, limits=limits, bandwidth=bandwidth)

    def leave(self, key: str) -> None:
        """A worker does nothing any more, and never will for this dataset."""
        with self._lock:
            if self._news.pop(key, None) is not None:
                self._resting[key] = self._clock()

    def hear(self, key: str, report: WorkerReport) -> None:
        """A worker's report."""
        with self._lock:
            if key in self._news:
                self._transfers.hear(key, report.metrics)
                self._bandwidth.hear(key, report.bandwidth)

    def news(self, key: str) -> list[Instruction]:
        """What a worker is to be told now."""
        with self._lock:
            self._decide(self._clock())
            told = self._news.get(key, [])
            if told:
                self._news[key] = []
            return told

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second of the whole run. None: any number."""
        limit = self._bandwidth.limit
        return None if limit == math.inf else limit

    @property
    def holds(self) -> bool:
        """The bandwidth holds workers up now."""
        with self._lock:
            return self._bandwidth.holds

    def _decide(self, now: float) -> None:
        if now - self._decided < DECIDE_SECONDS:
            return
        self._decided = now
        for key in [key for key, at in self._resting.items() if now - at >= RESTING_SECONDS]:
            del self._resting[key]
            self._transfers.leave(key)
            self._bandwidth.leave(key)
        decided = (self._transfers.decide(now), self._bandwidth.decide(now))
        for shares in decided:
            for key, share in shares.items():
                if key in self._news:
                    self._news[key].append(share)
