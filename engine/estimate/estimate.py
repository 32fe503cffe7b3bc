"""An estimate: what would move, in how many requests, how long it would take and what it costs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from noria.engine.config.jobfile import JobConfig
from noria.engine.config.locations import provider_of
from noria.engine.dry_run import dry_run
from noria.engine.estimate.counts import JobTraits, WorkCounts, count_work
from noria.engine.estimate.prices import Cost, PriceList, costs
from noria.engine.estimate.rates import Forecast, Means, RateModel, forecast
from noria.engine.estimate.windows import Windows
from noria.engine.planning import Say, open_prepared
from noria.engine.worker_spec import JobFacts
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.reader import Manifest

WORKER_STEPS: Final = (0.25, 0.5, 1, 2, 4)
"""What-if: so many times the workers that were asked for."""
BANDWIDTH_STEPS: Final = (0.25, 0.5, 1, 2, 4)
BANDWIDTHS: Final = (125e6, 1.25e9, 3.125e9, 12.5e9)
"""What-if, if none was asked for: 1, 10, 25 and 100 Gbit/s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What an estimate is of: a frozen list of objects, and what is known of both ends."""

    config: JobConfig
    facts: JobFacts
    manifest: Manifest
    is_probed: bool
    """What the facts say of the target's conditions was tried."""
    seconds: float
    """What it took to look at both ends, to list the source, and to freeze the list; 0: that is
    done."""

    @property
    def traits(self) -> JobTraits:
        facts, run = self.facts, self.config.run
        return JobTraits(
            source_provider=provider_of(self.config.source),
            target_provider=facts.provider,
            range_bytes=min(run.range_bytes, run.bytes_in_flight // 2),
            # A target that was not probed is taken for one that honours conditions.
            look_first=not facts.target_was_empty or (self.is_probed and not facts.if_absent),
            atomic_complete=facts.atomic_complete or not self.is_probed,
            lists_source=self.config.inventory.kind == "listing",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """Another way to run the job."""

    means: Means
    days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    counts: WorkCounts
    traits: JobTraits
    model: RateModel
    means: Means
    windows: Windows
    forecast: Forecast
    table: tuple[WhatIf, ...]
    """By workers, then by bandwidth."""
    costs: tuple[Cost, Cost]
    prices: PriceList
    is_probed: bool

    @property
    def days(self) -> float:
        """Of the calendar."""
        return calendar_days(self.forecast, self.windows)


@contextmanager
def planned(config: JobConfig | None, root: Path | None, say: Say) -> Iterator[Planned]:
    """The plan at `root`, or, if there is none, a dry run of `config` for the block."""
    if root is not None and (config is None or JobDirectory.exists(root)):
        ready = open_prepared(root)
        yield Planned(
            config=ready.config,
            facts=ready.facts,
            manifest=ready.manifest,
            is_probed=True,
            seconds=0.0,
        )
        return
    assert config is not None, "there is a job file, or both ends"
    began = time.monotonic()
    with dry_run(config, root, say, attributes=False) as found:
        yield Planned(
            config=found.config,
            facts=found.facts,
            manifest=found.manifest,
            is_probed=found.sight.probed,
            seconds=time.monotonic() - began,
        )


def estimated(
    plan: Planned, model: RateModel, means: Means, windows: Windows, prices: PriceList
) -> Estimate:
    """Read the whole list once, and put everything together."""
    traits, model = plan.traits, replace(model, listing_seconds=plan.seconds)
    counts = count_work(plan.manifest, traits)
    return Estimate(
        counts=counts,
        traits=traits,
        model=model,
        means=means,
        windows=windows,
        forecast=_forecast(counts, model, means, traits),
        table=_table(counts, model, means, windows, traits),
        costs=costs(counts, prices, source=traits.source_provider, target=traits.target_provider),
        prices=prices,
        is_probed=plan.is_probed,
    )


def calendar_days(found: Forecast, windows: Windows) -> float:
    """Days until it is done, if it begins as a window opens, and works only while one is open."""
    return windows.elapsed_seconds(found.seconds) / 86_400


def workers_of(config: JobConfig, asked: int | None) -> int:
    """Workers of a run: as asked, as in the job file, else one for each CPU of this machine."""
    return asked or config.run.workers or os.cpu_count() or 1


def _forecast(counts: WorkCounts, model: RateModel, means: Means, traits: JobTraits) -> Forecast:
    return forecast(
        counts, model, means, source=traits.source_provider, target=traits.target_provider
    )


def _table(
    counts: WorkCounts, model: RateModel, means: Means, windows: Windows, traits: JobTraits
) -> tuple[WhatIf, ...]:
    workers = sorted({max(1, round(means.workers * step)) for step in WORKER_STEPS})
    bandwidths: Sequence[float | None] = (*BANDWIDTHS, None)
    if means.bandwidth is not None:
        bandwidths = [means.bandwidth * step for step in BANDWIDTH_STEPS]
    found = []
    for each in workers:
        for bandwidth in bandwidths:
            other = Means(workers=each, bandwidth=bandwidth)
            days = calendar_days(_forecast(counts, model, other, traits), windows)
            found.append(WhatIf(means=other, days=days))
    return tuple(found)
