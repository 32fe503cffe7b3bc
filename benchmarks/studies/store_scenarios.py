"""Named stores and jobs that a budget has to find its knee in, with what could be had at best."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median

from noria.benchmarks.studies.simulated_stores import ClosedLoop, Pilot, Second, StoreModel
from noria.engine.concurrency.budget import Budgets
from noria.engine.concurrency.throughput import Window

KIB, MIB = 1 << 10, 1 << 20

Sizes = Callable[[], int | None]


def all_of(size: int) -> Callable[[int], Sizes]:
    return lambda seed: lambda: size


def log_normal(median_bytes: float, sigma: float) -> Callable[[int], Sizes]:
    """Sizes of requests: no part is larger than 64 MiB."""

    def of_seed(seed: int) -> Sizes:
        numbers = random.Random(seed)
        return lambda: min(64 * MIB, int(numbers.lognormvariate(math.log(median_bytes), sigma)))

    return of_seed


def in_turn(*runs: tuple[int, int]) -> Callable[[int], Sizes]:
    """Runs of (how many, of which size), again and again."""

    def of_seed(seed: int) -> Sizes:
        cycle = itertools.cycle(itertools.chain(*([size] * count for count, size in runs)))
        return lambda: next(cycle)

    return of_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A job at one store or two, and where its budget starts."""

    models: Mapping[str, StoreModel]
    sizes: Callable[[int], Sizes]
    """Seed -> sizes of the objects, one after another."""
    start: int
    workers: int = 4
    seconds: float = 240.0
    settled_after: float = 60.0
    """From here on it is judged."""

    @property
    def best_requests_per_second(self) -> float:
        """What the tightest store takes in the end, with nothing ever idle."""
        return min(self._rate(role) for role in self.models)

    def knee(self, role: str) -> float:
        """Requests in flight that keep a store as busy as the tightest one lets it be."""
        model = self.models[role]
        alone = model.base_seconds + self._mean_bytes / model.stream_bytes_per_second
        return self.best_requests_per_second * alone

    def simulate(self, seed: int, pilot: Pilot | None = None) -> ScenarioOutcome:
        budgets = pilot or Budgets(self.start)
        sizes = self.sizes(seed)
        simulation = ClosedLoop(self.models, sizes, budgets, workers=self.workers, seed=seed)
        return ScenarioOutcome(self, list(simulation.run(self.seconds)))

    def _rate(self, role: str) -> float:
        model = self.models[role]
        service = 1 / model.requests_per_second + self._mean_bytes / model.bytes_per_second
        drift = model.drift(self.seconds)
        return min(1 / service, model.throttle_per_second or math.inf) * drift

    @property
    def _mean_bytes(self) -> float:
        sizes = self.sizes(0)
        return sum(sizes() or 0 for _ in range(100_000)) / 100_000


@dataclass(frozen=True, slots=True)
class ScenarioOutcome:
    scenario: Scenario
    samples: list[Second]

    @property
    def settled(self) -> list[Second]:
        return [one for one in self.samples if one.now > self.scenario.settled_after]

    @property
    def yield_share(self) -> float:
        """Requests answered by the last store, over the best there is, once settled."""
        last = list(self.scenario.models)[-1]
        total = sum((one.windows[last] for one in self.settled), Window())
        return total.requests / total.seconds / self.scenario.best_requests_per_second

    @property
    def throttle_share(self) -> float:
        windows = (window for one in self.settled for window in one.windows.values())
        return sum(windows, Window()).throttle_share

    def budgets(self, role: str) -> list[int]:
        return [one.budgets[role] for one in self.settled]

    def usual(self, role: str) -> float:
        """The median budget."""
        return median(self.budgets(role))

    def __str__(self) -> str:
        budgets = ", ".join(
            f"{role}: knee {self.scenario.knee(role):.0f}, budget {self.usual(role):.0f}, "
            f"at most {max(self.budgets(role))}"
            for role in self.scenario.models
        )
        return f"{self.yield_share:.0%} of the best, {self.throttle_share:.2%} refused; {budgets}"


CLOUD = StoreModel(
    requests_per_second=300,
    base_seconds=0.1,
    bytes_per_second=200e6,
    stream_bytes_per_second=20e6,
)
NEAR = StoreModel(requests_per_second=600, base_seconds=0.001, thrash=0.001)
"""Loopback, where a request costs 1.7 ms of a CPU that is ours as well."""


def _doubles(now: float) -> float:
    return 1.0 if now < 60 else 2.0


def _halves(now: float) -> float:
    return 1.0 if now < 60 else 0.5


SCENARIOS = {
    "small": Scenario(models={"target": CLOUD}, sizes=all_of(4 * KIB), start=16),
    "small, from far too wide": Scenario(
        models={"target": CLOUD}, sizes=all_of(4 * KIB), start=512, seconds=400, settled_after=260
    ),
    "small, 8 partitions": Scenario(
        models={"target": replace(CLOUD, partitions=8)}, sizes=all_of(4 * KIB), start=16
    ),
    "bulk": Scenario(
        models={"target": CLOUD}, sizes=all_of(64 * MIB), start=4, seconds=600, settled_after=120
    ),
    "mixed": Scenario(models={"target": CLOUD}, sizes=log_normal(40e3, 2.5), start=16),
    "short phases": Scenario(
        models={"target": CLOUD}, sizes=in_turn((1500, 4 * KIB), (250, 4 * MIB)), start=16
    ),
    "long phases": Scenario(
        models={"target": CLOUD},
        sizes=in_turn((12_000, 4 * KIB), (500, 16 * MIB)),
        start=16,
        seconds=480,
    ),
    "loopback": Scenario(models={"target": NEAR}, sizes=all_of(4 * KIB), start=8, workers=1),
    "throttled": Scenario(
        models={"target": replace(CLOUD, requests_per_second=5000, throttle_per_second=300)},
        sizes=all_of(4 * KIB),
        start=16,
    ),
    "throttled, from far too wide": Scenario(
        models={"target": replace(CLOUD, requests_per_second=5000, throttle_per_second=300)},
        sizes=all_of(4 * KIB),
        start=256,
    ),
    "capacity doubles": Scenario(
        models={"target": replace(CLOUD, drift=_doubles)},
        sizes=all_of(4 * KIB),
        start=16,
        seconds=420,
        settled_after=240,
    ),
    "capacity halves": Scenario(
        models={"target": replace(CLOUD, drift=_halves)},
        sizes=all_of(4 * KIB),
        start=16,
        seconds=420,
        settled_after=240,
    ),
    "two stores, the target tighter": Scenario(
        models={"source": replace(CLOUD, requests_per_second=1000), "target": CLOUD},
        sizes=all_of(4 * KIB),
        start=16,
    ),
    "two stores, the source tighter": Scenario(
        models={"source": CLOUD, "target": replace(CLOUD, requests_per_second=1000)},
        sizes=all_of(4 * KIB),
        start=16,
    ),
    "two stores alike": Scenario(
        models={"source": CLOUD, "target": CLOUD},
        sizes=all_of(4 * KIB),
        start=8,
        settled_after=90,
    ),
    "two stores, mixed": Scenario(
        models={"source": replace(CLOUD, bytes_per_second=300e6), "target": CLOUD},
        sizes=log_normal(40e3, 2.5),
        start=16,
    ),
}
