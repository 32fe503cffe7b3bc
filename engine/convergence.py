"""How fast later passes catch up with a source that changes, and how long a freeze would be.

Pure: from the summaries of passes that ended. A pass has two costs. The *fixed* one is listing,
planning, start-up and reconciling: it grows with the objects listed, not with the changes. The
other one is moving what has changed since the listing of the pass before. The *load* is the seconds
of moving that a second of changes costs. That is rate of change / throughput, whichever of requests
and bytes limits it: one divided by the other, what a change weighs falls out. Passes catch up if
the load is below 1.

The first pass moves everything, with another mix of objects, and says nothing about either cost:
only when its listing began. So figures need two passes, and are of the last LATELY of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from statistics import fmean, stdev

LATELY = 6
"""Passes that figures are of: the rate of a week ago says little about a freeze now."""
PASSES_NEEDED = 2
"""Of a forecast: the first begins what the second has gathered."""
GROWING_PASSES = 3
GROWING_BY = 1.1
"""A lag grows if each of the last three is 10 % above the one before: less is chance."""
STARTUP_SEEN = 2.0
"""How much longer the longest gap between passes has to be than the shortest, before what a pass
costs by itself can be told from what its changes cost."""
SHORTEST_GAP_SECONDS = 0.001
"""Between the listings of two passes; one that is shorter, or negative, is a clock's."""
SPREAD_OF_ONE = 0.5
"""What is assumed of a figure that was seen once: half of it, up and down."""
SPREAD_LEAST = 0.1
"""No forecast is sold as better than 10 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PassSummary:
    """What a pass did that has ended. Times are Unix seconds, by one clock."""

    number: int
    """From 1, the job that moved everything."""
    started_seconds: float
    """When its listing of the source was begun, or its inventory was made."""
    ended_seconds: float
    listing_seconds: float
    """For listing and planning."""
    moving_seconds: float
    reconciling_seconds: float
    new: Amount = field(default_factory=Amount)
    changed: Amount = field(default_factory=Amount)
    gone: Amount = field(default_factory=Amount)
    unchanged: Amount = field(default_factory=Amount)
    oldest_unmoved_seconds: float | None = None
    """When the oldest change was made that it has seen, and not moved. None: it moved all."""
    bytes_moved: int = 0
    """Those sent again included."""
    failed: int = 0
    """Objects."""

    @property
    def took_seconds(self) -> float:
        return max(0.0, self.ended_seconds - self.started_seconds)

    @property
    def lag_seconds(self) -> float:
        """How old the oldest change can be that the target lacks at the end of this pass.

        What was changed since the listing began may not have been seen.
        """
        return self.lag_at(self.ended_seconds)

    def lag_at(self, now: float) -> float:
        """The same later, if no other pass has ended since."""
        oldest = self.oldest_unmoved_seconds
        since = self.started_seconds if oldest is None else min(oldest, self.started_seconds)
        return max(0.0, now - since)

    @property
    def changes(self) -> Amount:
        """What the source had changed: a gone object has no bytes to move."""
        return Amount(
            objects=self.new.objects + self.changed.objects + self.gone.objects,
            bytes=self.new.bytes + self.changed.bytes,
        )

    @property
    def listed_objects(self) -> int:
        return self.new.objects + self.changed.objects + self.unchanged.objects

    @property
    def seen_seconds(self) -> float:
        """The middle of its listing: it has seen the average name as it was then."""
        return self.started_seconds + self.listing_seconds / 2

    @property
    def fixed_seconds(self) -> float:
        """What it took without moving anything."""
        return max(0.0, self.took_seconds - self.moving_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure over the last passes, and between what it varies from one to the next."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """How long the last pass would take if nobody wrote to the source: an estimate."""

    seconds: float
    low: float
    """Less, or more than `high`, it takes once in five times at most."""
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Convergence:
    """How passes and changes race."""

    passes: int
    """How many the figures are of, at most LATELY."""
    changed_objects: Figure
    """Objects that change at the source, a second."""
    changed_bytes: Figure
    """Bytes, a second."""
    moved_objects_per_second: float | None
    """Throughput of changes, gone objects included. None: nothing was moved, or in no time."""
    moved_bytes_per_second: float | None
    fixed: Figure
    """Seconds that the next pass takes however little has changed, without `startup_seconds`."""
    startup_seconds: float
    """The part of moving that passes take whatever they move, as far as it can be told."""
    load: float
    """Seconds of moving for a second of changes. 1 and more: passes do not catch up."""

    @property
    def catches_up(self) -> bool:
        return self.load < 1

    def steady_lag_seconds(self, every_seconds: float) -> float | None:
        """The lag that passes come to, one begun every so often, or once the one before ends.

        None: it grows without end.
        """
        if not self.catches_up:
            return None
        alone = self.fixed.value + self.startup_seconds
        return max(alone / (1 - self.load), alone + self.load * every_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationFigures:
    """What metrics show of a migration."""

    passes_ended: int
    lag_seconds: float | None = None
    """At the end of the last pass. None: none has ended."""
    lag_grows: bool = False
    changed_objects_per_second: float | None = None
    """None: two passes have to end first; so for the next ones."""
    changed_bytes_per_second: float | None = None
    freeze_seconds: float | None = None
    """Forecast for a freeze that begins as the last pass ends."""


class SyncAction(StrEnum):
    RUN = "run"
    """A pass, now."""
    WAIT = "wait"
    REACHED = "reached"


class Obstacle(StrEnum):
    """Why the lag that is wanted will not come, as things are."""

    UNMOVED = "unmoved"
    """Objects that did not move keep the lag as old as they are."""
    CHANGES_TOO_FAST = "changes_too_fast"
    """The source changes faster than changes are moved."""
    PASSES_TOO_LONG = "passes_too_long"
    """Passes come to a lag that is above the one wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStep:
    """What `noria sync --until-lag` does next."""

    action: SyncAction
    wait_seconds: float = 0.0
    lag_seconds: float | None = None
    """Now. None: no pass has ended."""
    obstacle: Obstacle | None = None
    steady_lag_seconds: float | None = None
    """With PASSES_TOO_LONG: the lag that passes come to."""


def convergence(passes: Sequence[PassSummary]) -> Convergence | None:
    """The figures of the last passes, which are in order. None: two have to end first."""
    gaps = _gaps(passes)
    if not gaps:
        return None
    latest = gaps[-1].later
    seconds = sum(gap.seconds for gap in gaps)
    moving = sum(gap.later.moving_seconds for gap in gaps)
    objects = sum(gap.later.changes.objects for gap in gaps)
    size = sum(gap.later.changes.bytes for gap in gaps)
    startup, load = _moving_cost(gaps)
    return Convergence(
        passes=len(gaps),
        changed_objects=_figure(
            objects / seconds, [gap.later.changes.objects / gap.seconds for gap in gaps]
        ),
        changed_bytes=_figure(
            size / seconds, [gap.later.changes.bytes / gap.seconds for gap in gaps]
        ),
        moved_objects_per_second=objects / moving if moving and objects else None,
        moved_bytes_per_second=size / moving if moving and size else None,
        fixed=_spread(_fixed_costs(gaps, latest.listed_objects)),
        startup_seconds=startup,
        load=load,
    )


def forecast(passes: Sequence[PassSummary], *, frozen_at: float | None = None) -> Freeze | None:
    """How long the last pass would take under a freeze that begins at `frozen_at`, Unix seconds.

    None: as the last pass ended. Returns None if two passes have to end first.
    """
    found, gaps = convergence(passes), _gaps(passes)
    if found is None:
        return None
    latest = gaps[-1].later
    begun = latest.ended_seconds if frozen_at is None else max(frozen_at, latest.ended_seconds)
    gathered = max(0.0, begun - latest.seen_seconds)
    fixed = _times(found.fixed, _growth(gaps, gathered))
    moving = _moving(gaps, found.startup_seconds, gathered)
    seconds = fixed.value + moving.value
    below = math.hypot(fixed.value - fixed.low, moving.value - moving.low)
    above = math.hypot(fixed.high - fixed.value, moving.high - moving.value)
    return Freeze(
        seconds=seconds,
        low=max(0.0, seconds - below),
        high=seconds + above + _startup_unseen(gaps, gathered),
    )


def missing_passes(passes: Sequence[PassSummary]) -> int:
    """How many more passes have to end before there can be a forecast."""
    return 0 if _gaps(passes) else max(1, PASSES_NEEDED - len(passes))


def is_growing(lags: Sequence[float]) -> bool:
    """Whether the lag at the end of each pass, in order, grows: for an alert."""
    last = lags[-GROWING_PASSES:]
    return len(last) == GROWING_PASSES and all(
        later > GROWING_BY * earlier for earlier, later in pairwise(last)
    )


def until(
    lag_target_seconds: float,
    every_seconds: float,
    now: float,
    passes: Sequence[PassSummary],
) -> SyncStep:
    """What to do next, at `now` in Unix seconds, to bring the lag down to a target.

    A pass is begun every `every_seconds`; 0: at once when the one before has ended. `passes` are
    those that ended, in order.
    """
    if not passes:
        return SyncStep(action=SyncAction.RUN)
    latest = passes[-1]
    lag = latest.lag_at(now)
    if lag <= lag_target_seconds:
        return SyncStep(action=SyncAction.REACHED, lag_seconds=lag)
    obstacle, steady = _obstacle(passes, lag_target_seconds, every_seconds)
    # A clock that was set back makes nobody wait for longer than that.
    wait = min(latest.started_seconds + every_seconds - now, every_seconds)
    return SyncStep(
        action=SyncAction.WAIT if wait > 0 else SyncAction.RUN,
        wait_seconds=max(0.0, wait),
        lag_seconds=lag,
        obstacle=obstacle,
        steady_lag_seconds=steady,
    )


def migration_figures(passes: Sequence[PassSummary]) -> MigrationFigures:
    """What metrics show after these passes, which are in order."""
    found, freeze = convergence(passes), forecast(passes)
    return MigrationFigures(
        passes_ended=len(passes),
        lag_seconds=passes[-1].lag_seconds if passes else None,
        lag_grows=is_growing([each.lag_seconds for each in passes]),
        changed_objects_per_second=None if found is None else found.changed_objects.value,
        changed_bytes_per_second=None if found is None else found.changed_bytes.value,
        freeze_seconds=None if freeze is None else freeze.seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    """A pass, and how long the changes gathered that it has moved."""

    seconds: float
    later: PassSummary


def _gaps(passes: Sequence[PassSummary]) -> list[_Gap]:
    """Of the last passes; those that a clock made are left out."""
    gaps = [
        _Gap(seconds=later.seen_seconds - earlier.seen_seconds, later=later)
        for earlier, later in pairwise(passes[-LATELY - 1 :])
    ]
    return [gap for gap in gaps if gap.seconds >= SHORTEST_GAP_SECONDS]


def _growth(gaps: Sequence[_Gap], gathered: float) -> float:
    """How many objects the next pass lists, as a part of those that the last one did."""
    latest = gaps[-1].later
    if not latest.listed_objects:
        return 1.0
    seconds = sum(gap.seconds for gap in gaps)
    more = sum(gap.later.new.objects - gap.later.gone.objects for gap in gaps) / seconds
    return max(0.0, 1 + more * gathered / latest.listed_objects)


def _fixed_costs(gaps: Sequence[_Gap], objects: int) -> list[float]:
    """What each pass would have cost without changes, if it had listed so many objects."""
    return [
        gap.later.fixed_seconds
        * (objects / gap.later.listed_objects if gap.later.listed_objects else 1.0)
        for gap in gaps
    ]


def _moving_cost(gaps: Sequence[_Gap]) -> tuple[float, float]:
    """Seconds of start-up, and the load: moving = start-up + load * gap.

    Divided by the gap that is a straight line over 1/gap, whose slope is the start-up. The line is
    fitted there, since passes vary by so many per cent, not by so many seconds.
    """
    shares = [gap.later.moving_seconds / gap.seconds for gap in gaps]
    inverses = [1 / gap.seconds for gap in gaps]
    least = min(gap.later.moving_seconds for gap in gaps)
    startup = 0.0
    if _tells_startup(gaps):
        middle, mean = fmean(inverses), fmean(shares)
        slope = sum((x - middle) * (y - mean) for x, y in zip(inverses, shares, strict=True)) / sum(
            (x - middle) ** 2 for x in inverses
        )
        startup = min(max(0.0, slope), least)
    return startup, fmean(_loads(gaps, startup))


def _tells_startup(gaps: Sequence[_Gap]) -> bool:
    seconds = [gap.seconds for gap in gaps]
    return len(gaps) > 2 and max(seconds) >= STARTUP_SEEN * min(seconds)


def _loads(gaps: Sequence[_Gap], startup: float) -> list[float]:
    return [(gap.later.moving_seconds - startup) / gap.seconds for gap in gaps]


def _moving(gaps: Sequence[_Gap], startup: float, gathered: float) -> Figure:
    """Seconds of moving what so many seconds of changes have gathered.

    After a long wait it takes longer if what seemed to be start-up is load.
    """
    found = _spread([startup + load * gathered for load in _loads(gaps, startup)])
    all_load = fmean(_loads(gaps, 0.0)) * gathered
    return replace(found, high=found.high + max(0.0, all_load - found.value))


def _startup_unseen(gaps: Sequence[_Gap], gathered: float) -> float:
    """Seconds that a short pass takes longer if what seemed to be load is start-up."""
    if _tells_startup(gaps):
        return 0.0
    least = min(gap.later.moving_seconds for gap in gaps)
    return least * max(0.0, 1 - gathered / fmean([gap.seconds for gap in gaps]))


def _obstacle(
    passes: Sequence[PassSummary], lag_target_seconds: float, every_seconds: float
) -> tuple[Obstacle | None, float | None]:
    """What is in the way, and with PASSES_TOO_LONG the lag that passes come to."""
    latest, found = passes[-1], convergence(passes)
    if latest.ended_seconds - latest.started_seconds < latest.lag_seconds:
        return Obstacle.UNMOVED, None
    if found is None:
        return None, None
    steady = found.steady_lag_seconds(every_seconds)
    if steady is None:
        return Obstacle.CHANGES_TOO_FAST, None
    if steady > lag_target_seconds:
        return Obstacle.PASSES_TOO_LONG, steady
    return None, None


def _times(figure: Figure, factor: float) -> Figure:
    return Figure(value=figure.value * factor, low=figure.low * factor, high=figure.high * factor)


def _figure(value: float, of_each: Sequence[float]) -> Figure:
    return Figure(value=value, low=min(of_each), high=max(of_each))


def _spread(values: Sequence[float]) -> Figure:
    """Their mean, and between what the next one lies in about four of five times.

    Few values say little about how far they vary: the factor is close to Student's, with the error
    of the mean: 3.9 of two, 2.6 of three, 1.8 of six.
    """
    mean = fmean(values)
    if len(values) == 1:
        margin = SPREAD_OF_ONE * mean
    else:
        factor = 1.3 * (1 + 2 / (len(values) - 1))
        margin = max(SPREAD_LEAST * mean, factor * stdev(values))
    return Figure(value=mean, low=max(0.0, mean - margin), high=mean + margin)
