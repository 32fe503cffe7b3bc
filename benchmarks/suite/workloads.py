"""What is moved: the objects of each workload, by name and size. The same at every call.

Sizes are bytes. `share` below 1 makes a workload smaller of its kind, for warm-up and development.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
GB = 10**9

SMALL_OBJECTS = 20_000
SMALL_BYTES = 4 * KIB
SMALL_FOLDERS = 100

BULK_OBJECTS = 8
BULK_BYTES = 256 * MIB
HUGE_BYTES = 4 * GIB

DISTANT_BULK_BYTES = 8 * GB

MIXED_MEDIAN_BYTES = 40_000
MIXED_SIGMA = 3.0
"""Of the logarithm: wide enough that some two thousand draws reach the cut."""
MIXED_LARGEST_BYTES = GIB
MIXED_TOTAL_BYTES = 5 * GIB
MIXED_SEED = 1

Kind = Literal["bulk", "huge", "small", "mixed"]
"""Of objects: many large ones, one alone, many small ones, a lake of both."""
Sized = tuple[str, int]
"""A key and how many bytes are below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way from a mover to each of its two stores. Rates are bytes a second."""

    round_trip_ms: float
    rate: float | None = None
    """Of one connection, in one direction. None: as much as the machine carries."""
    line: float | None = None
    """Of all connections to one store together, in one direction."""
    jitter_ms: float = 0
    die_seconds: float | None = None
    """Connections are reset when they are that old."""

    @property
    def title(self) -> str:
        rate = "any rate" if self.rate is None else f"{self.rate / 1e6:.0f} MB/s a connection"
        line = "" if self.line is None else f", line {self.line / 1e6:.0f} MB/s"
        return f"{self.round_trip_ms:g} ms, {rate}{line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Objects, and the kind of servers they move between."""

    name: str
    kind: Kind
    title: str
    objects: tuple[Sized, ...]
    tls: bool = False
    null: bool = False
    """Between stores that cost next to nothing, rather than real servers."""
    route: Route | None = None
    """None: next to each other."""

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.objects)


def bulk(share: float = 1.0) -> Workload:
    count = max(1, round(BULK_OBJECTS * share))
    huge = _whole_mib(HUGE_BYTES * share)
    objects = (*_bulk_objects(count), ("huge/0.bin", huge))
    title = f"{count} x 256 MiB and 1 x {huge // MIB:,} MiB, Azurite to SeaweedFS, http"
    return Workload(name="bulk", kind="bulk", title=title, objects=objects)


def bulk_https(share: float = 1.0) -> Workload:
    count = max(1, round(BULK_OBJECTS * share))
    title = f"{count} x 256 MiB, Azurite to SeaweedFS, https on both sides"
    return Workload(
        name="bulk-https", kind="bulk", title=title, objects=_bulk_objects(count), tls=True
    )


def small(share: float = 1.0) -> Workload:
    objects = _small_objects(round(SMALL_OBJECTS * share))
    title = f"{len(objects):,} x 4 KiB, Azurite to SeaweedFS, http"
    return Workload(name="small", kind="small", title=title, objects=objects)


def mixed(share: float = 1.0) -> Workload:
    objects, title = _mixed_objects(share)
    return Workload(name="mixed", kind="mixed", title=f"{title}, http", objects=objects)


def null_small(share: float = 1.0) -> Workload:
    objects = _small_objects(round(SMALL_OBJECTS * share))
    title = f"{len(objects):,} x 4 KiB, null source to null sink, http"
    return Workload(name="null-small", kind="small", title=title, objects=objects, null=True)


def null_mixed(share: float = 1.0) -> Workload:
    objects, title = _mixed_objects(share)
    title = f"{title}, null source to null sink, http"
    return Workload(name="null-mixed", kind="mixed", title=title, objects=objects, null=True)


def null_bulk(total_bytes: int, *, tls: bool, suffix: str = "") -> Workload:
    """Objects that no disk holds, between a source and a sink that cost next to nothing."""
    count = max(1, round(total_bytes / BULK_BYTES))
    return Workload(
        name=("null-bulk-https" if tls else "null-bulk") + suffix,
        kind="bulk",
        title=f"{count} x 256 MiB, null source to null sink, {'https' if tls else 'http'}",
        objects=_bulk_objects(count),
        tls=tls,
        null=True,
    )


def distant(kind: Kind, route: Route, *, tls: bool, share: float = 1.0) -> Workload:
    """Work of one kind between null stores at the ends of a route."""
    made: Mapping[Kind, Callable[[], tuple[Sized, ...]]] = {
        "bulk": lambda: _bulk_objects(max(1, round(DISTANT_BULK_BYTES * share / BULK_BYTES))),
        "huge": lambda: (("huge/0.bin", _whole_mib(HUGE_BYTES * share)),),
        "small": lambda: _small_objects(max(1, round(SMALL_OBJECTS * share))),
        "mixed": lambda: _mixed_objects(share)[0],
    }
    objects = made[kind]()
    scheme = "https" if tls else "http"
    total = sum(size for _, size in objects)
    return Workload(
        name=f"road-{kind}-{route.round_trip_ms:g}ms" + ("-https" if tls else ""),
        kind=kind,
        title=f"{len(objects):,} objects, {total / GB:.1f} GB, {route.title}, {scheme}",
        objects=objects,
        tls=tls,
        null=True,
        route=route,
    )


def _small_objects(count: int) -> tuple[Sized, ...]:
    return tuple(
        (f"study-{number % SMALL_FOLDERS:02}/record-{number:06}.dat", SMALL_BYTES)
        for number in range(count)
    )


def _mixed_objects(share: float) -> tuple[tuple[Sized, ...], str]:
    """The objects of a lake, and what to say of them."""
    sizes = list(_log_normal_sizes(int(MIXED_TOTAL_BYTES * share)))
    objects = tuple(
        (f"cohort-{number % 7}/{number:06}.dat", size) for number, size in enumerate(sizes)
    )
    median = statistics.median_high(sizes)
    title = (
        f"{len(sizes):,} objects, log-normal, median {median / 1e3:.0f} kB, "
        f"largest {max(sizes) / MIB:,.0f} MiB, {sum(sizes) / GIB:.1f} GiB in all"
    )
    return objects, title


def _bulk_objects(count: int) -> tuple[Sized, ...]:
    return tuple((f"large/{number:03}.bin", BULK_BYTES) for number in range(count))


def _whole_mib(size: float) -> int:
    return max(1, round(size / MIB)) * MIB


def _log_normal_sizes(total_bytes: int) -> Iterator[int]:
    draw = random.Random(f"mixed {MIXED_SEED}")
    left = total_bytes
    while left:
        size = round(draw.lognormvariate(math.log(MIXED_MEDIAN_BYTES), MIXED_SIGMA))
        size = min(size, MIXED_LARGEST_BYTES, left)
        left -= size
        yield size
