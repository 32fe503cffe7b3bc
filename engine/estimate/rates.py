"""How long work takes: the one cost model of `noria estimate` and of `noria simulate`.

A transfer costs its bytes, and what it takes besides, in bytes that would take as long. A worker
does so much of both a second; several do it side by side, up to what the network and the stores
give. The work of a job is even: its end, when the last parts are on their way, is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from noria.engine.estimate.counts import WorkCounts
from noria.manifests.counters import StoreOperation
from noria.manifests.plan.providers import limits_for

STREAM_RATE: Final = 40e6
"""Bytes a second of one transfer, as stores give it over a distance."""
WORKER_RATE: Final = 150e6
"""Bytes a second of one worker process on one core, over https."""
TRANSFER_BYTES: Final = 128 * 1024
"""What a transfer costs apart from its bytes: a millisecond of a worker's time."""
PAGE_SECONDS: Final = 0.1
"""Of one page of a listing."""
LISTING_STREAMS: Final = 16
FIXED_SECONDS: Final = 3.0
"""To start, to probe the target and to end."""


_WRITES: Final = (
    StoreOperation.PUT,
    StoreOperation.PUT_PART,
    StoreOperation.COMPLETE,
    StoreOperation.CREATE_UPLOAD,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateModel:
    """The constants. The defaults are those above: nobody has measured these ends."""

    worker_rate: float = WORKER_RATE
    stream_rate: float = STREAM_RATE
    transfer_bytes: float = TRANSFER_BYTES
    page_seconds: float = PAGE_SECONDS
    fixed_seconds: float = FIXED_SECONDS
    listing_seconds: float | None = None
    """What it took to list the source and to freeze the list. None: by its pages."""
    measured: str | None = None
    """By what; None: not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a job has at its disposal."""

    workers: int
    bandwidth: float | None = None
    """Bytes a second of the whole job; None: as much as the workers can use."""
    transfers: int | None = None
    """In flight at a time in all workers; None: as many as it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How long a job would work, and what it would wait for."""

    seconds: float
    """Of work, without the pauses between windows."""
    bound_by: str
    rate: float
    """Bytes a second while objects move."""


def forecast(
    counts: WorkCounts, model: RateModel, means: Means, *, source: str, target: str
) -> Forecast:
    """How long it takes between stores of these providers."""
    work = counts.bytes + model.transfer_bytes * counts.transfers
    bounds = {"workers": work / (means.workers * model.worker_rate)}
    if means.transfers is not None:
        bounds["transfers"] = work / (means.transfers * model.stream_rate)
    if means.bandwidth is not None:
        bounds["bandwidth"] = counts.bytes / means.bandwidth
    bounds |= _published(counts.source, source, "source")
    bounds |= _published(counts.target, target, "target")
    bound_by = max(bounds, key=lambda name: bounds[name])
    ends = (counts.target,) if model.listing_seconds is not None else (counts.source, counts.target)
    pages = sum(each.get(StoreOperation.LIST, 0) for each in ends)
    listing = (model.listing_seconds or 0.0) + pages * model.page_seconds / LISTING_STREAMS
    moving = bounds[bound_by]
    return Forecast(
        seconds=model.fixed_seconds + listing + moving,
        bound_by=bound_by,
        rate=counts.bytes / moving if moving else 0.0,
    )


def _published(requests: Mapping[StoreOperation, int], provider: str, end: str) -> dict[str, float]:
    """Seconds for which the rates that a provider publishes for one bucket would last."""
    limits = limits_for(provider)
    writes = sum(requests.get(kind, 0) for kind in _WRITES)
    reads = sum(requests.values()) - writes
    found = {}
    if limits.writes_per_second and writes:
        found[f"writes a second at the {end}"] = writes / limits.writes_per_second
    if limits.reads_per_second and reads:
        found[f"reads a second at the {end}"] = reads / limits.reads_per_second
    return found
