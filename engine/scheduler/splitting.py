"""The tail of a job: nothing is left to lease, and workers wait while others are still at it.

Slow is not dead. A slow lease keeps what it has begun and gives away from its end.
"""

from __future__ import annotations

from collections.abc import Collection

from noria.engine.scheduler.events import SchedulerOptions, Split
from noria.engine.scheduler.state import LiveLease


def choose_splits(
    live: Collection[LiveLease], *, wanted: int, now: float, options: SchedulerOptions
) -> list[LiveLease]:
    """The leases that would end last: one at most for each wanted one that no open split brings.

    No lease is split for its own worker: the same worker would do the same work.
    """
    wanted -= sum(_is_open(live_lease, now, options) for live_lease in live)
    candidates = [live_lease for live_lease in live if _may_split(live_lease, now, options)]
    candidates.sort(key=lambda live_lease: (-live_lease.seconds_left(now), live_lease.attempt))
    chosen: list[LiveLease] = []
    for live_lease in candidates:
        if len(chosen) >= wanted:
            break
        if len(chosen) < wanted - live_lease.worker.splits_wanted:
            chosen.append(live_lease)
    return chosen


def split_in_half(live_lease: LiveLease) -> Split:
    """Ask for half of what is left to do."""
    return Split(
        worker=live_lease.worker.name,
        shard=live_lease.span.shard.plan.shard,
        first=live_lease.span.first,
        attempt=live_lease.attempt,
        end=live_lease.span.end - live_lease.units_left // 2,
    )


def _is_open(live_lease: LiveLease, now: float, options: SchedulerOptions) -> bool:
    asked_at = live_lease.split_at
    return asked_at is not None and now - asked_at < options.split_timeout_seconds


def _may_split(live_lease: LiveLease, now: float, options: SchedulerOptions) -> bool:
    if live_lease.units_left < 2 * options.min_split_units or _is_open(live_lease, now, options):
        return False
    if not live_lease.is_paced(now, options.split_seconds):
        return live_lease.span.bytes_of(live_lease.units_left // 2) >= options.min_split_bytes
    return live_lease.seconds_left(now) > options.split_seconds
