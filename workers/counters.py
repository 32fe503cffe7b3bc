"""Counters of one worker process. Totals only grow; the driver takes differences and exports them.

Labels come from bounded sets: store roles, operations, causes, outcomes; never a key or a shard.
"""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

from noria.manifests.counters import Counter, Gauge, Histogram
from noria.manifests.model import LATENCY_BUCKETS, MetricsSnapshot


class CounterRegistry:
    """Thread-safe counters, gauges and latency histograms; manifests.counters names them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._histograms: dict[tuple[str, ...], list[float]] = {}
        self._gauges: dict[tuple[str, ...], Callable[[], float]] = {}
        self._counted: dict[tuple[str, ...], Callable[[], Mapping[str, float]]] = {}

    def add(self, metric: Counter, *labels: str, by: float = 1) -> None:
        with self._lock:
            self._counters[metric, *labels] += by

    def observe(self, metric: Histogram, *labels: str, seconds: float) -> None:
        place = bisect.bisect_left(LATENCY_BUCKETS, seconds)
        with self._lock:
            counts = self._histograms.get((metric, *labels))
            if counts is None:
                counts = self._histograms[metric, *labels] = [0.0] * (len(LATENCY_BUCKETS) + 2)
            counts[place] += 1
            counts[-1] += seconds

    def gauge(self, metric: Gauge, *labels: str, read: Callable[[], float]) -> None:
        """Register a value that is read at each snapshot."""
        self._gauges[metric, *labels] = read

    def counted(
        self, metric: Counter, *labels: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """Register totals that are counted elsewhere: last label -> total, at each snapshot."""
        self._counted[metric, *labels] = read

    def total(self, metric: Counter, *labels: str) -> float:
        with self._lock:
            return self._counters.get((metric, *labels), 0.0)

    def snapshot(self) -> MetricsSnapshot:
        gauges = {labels: read() for labels, read in self._gauges.items()}
        counted = {
            (*labels, label): total
            for labels, read in self._counted.items()
            for label, total in read().items()
        }
        with self._lock:
            return MetricsSnapshot(
                counters={**self._counters, **counted},
                gauges=gauges,
                histograms={labels: tuple(counts) for labels, counts in self._histograms.items()},
            )
