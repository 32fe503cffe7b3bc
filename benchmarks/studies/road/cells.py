"""What is measured: the routes of the grid, and the work that is moved over them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from noria.benchmarks.suite.workloads import (
    MIB,
    MIXED_TOTAL_BYTES,
    SMALL_BYTES,
    SMALL_FOLDERS,
    Route,
    Sized,
    mixed,
    null_bulk,
)

ROUND_TRIPS_MS = (2, 20, 80, 200)
RATES_MB = (10, 40, 100)
LINES_MB = (0, 400)
SCHEMES = ("http", "https")

UNLIMITED_MB = 600
"""What a line without limit carries at most here: two cores are full before that."""
SMALL_PER_SECOND = 2000
"""More than two cores move."""
ALL_SHARES = {"bulk": 0.4, "huge": 0.3, "mixed": 0.3}
"""Of the bytes of everything in one job; small objects come on top, of SMALL_SHARE."""
SMALL_SHARE = 0.25
"""Of the objects of a job of small ones alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridCell:
    """One route, over http or https."""

    route: Route
    tls: bool

    @property
    def scheme(self) -> str:
        return SCHEMES[self.tls]

    @property
    def title(self) -> str:
        return f"{self.route.title}, {self.scheme}"

    @property
    def most_bytes_per_second(self) -> float:
        """No contender moves more."""
        return min(self.route.line or UNLIMITED_MB * 1e6, UNLIMITED_MB * 1e6)


def grid(
    round_trips_ms: Sequence[float],
    rates_mb: Sequence[float],
    lines_mb: Sequence[float],
    schemes: Sequence[str],
) -> Iterator[GridCell]:
    """Every combination; 0 stands for a rate or a line without limit."""
    for scheme, round_trip_ms, rate, line in itertools.product(
        schemes, round_trips_ms, rates_mb, lines_mb
    ):
        route = Route(
            round_trip_ms=round_trip_ms,
            rate=rate * 1e6 or None,
            line=line * 1e6 or None,
        )
        yield GridCell(route=route, tls=scheme == "https")


def objects_of(work: str, total_bytes: int, small_count: int) -> tuple[Sized, ...]:
    """The objects of a kind of work; small ones by `small_count`, the others by `total_bytes`.

    Raises KeyError if there is no such work.
    """
    if work == "all":
        parts = [objects_of(one, int(total_bytes * of), 0) for one, of in ALL_SHARES.items()]
        return (*itertools.chain(*parts), *_small(round(small_count * SMALL_SHARE)))
    if work == "bulk":
        return null_bulk(total_bytes, tls=False).objects
    if work == "huge":
        return (("huge/0.bin", max(1, total_bytes // MIB) * MIB),)
    if work == "mixed":
        return mixed(total_bytes / MIXED_TOTAL_BYTES).objects
    if work == "small":
        return _small(small_count)
    raise KeyError(work)


def _small(count: int) -> tuple[Sized, ...]:
    return tuple(
        (f"study-{number % SMALL_FOLDERS:02}/record-{number:06}.dat", SMALL_BYTES)
        for number in range(count)
    )
