"""The tail of a job: nothing is left to lease, and workers wait while others are still at it.

Slow is not dead. A slow lease keeps what it has begun and gives away from its end.
"""

from __future__ import annotations

from collections.abc import Collection

from noria.engine.scheduler.events import SchedulerOptions, Split
from noria.engine.scheduler.state import Holding


def choose_splits(
    live: Collection[Holding], *, room: int, now: float, options: SchedulerOptions
) -> list[Holding]:
    """The leases that would end last: one at most for each free slot that no open split fills."""
    open_splits = sum(_is_open(holding, now, options) for holding in live)
    candidates = [holding for holding in live if _may_split(holding, now, options)]
    candidates.sort(key=lambda holding: (-holding.seconds_left(now), holding.attempt))
    return candidates[: max(0, room - open_splits)]


def split_in_half(holding: Holding) -> Split:
    """Ask for half of what is left to do."""
    return Split(
        worker=holding.worker.name,
        shard=holding.span.shard.plan.shard,
        first=holding.span.first,
        attempt=holding.attempt,
        end=holding.span.end - holding.units_left // 2,
    )


def _is_open(holding: Holding, now: float, options: SchedulerOptions) -> bool:
    asked_at = holding.split_at
    return asked_at is not None and now - asked_at < options.split_timeout_seconds


def _may_split(holding: Holding, now: float, options: SchedulerOptions) -> bool:
    return (
        holding.units_left >= 2 * options.min_split_units
        and not _is_open(holding, now, options)
        and holding.is_paced(now, options.split_seconds)
        and holding.seconds_left(now) > options.split_seconds
    )
