"""The figures of a job in words: what both displays, reports and plots show."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from noria.engine.job_state import job_state
from noria.engine.status import JobStatus, Phase
from noria.manifests.count_text import count_text

_ENDED: Final = (Phase.FINISHED, Phase.STOPPED)
_WORKING: Final = (Phase.STARTING, Phase.MOVING, Phase.VERIFYING, Phase.DRAINING)


def describe(status: JobStatus) -> str:
    """All figures in one plain line."""
    cells = [
        *trouble_cells(status),
        *bandwidth_cells(status),
        *listing_cells(status),
        *byte_cells(status),
        *object_cells(status),
        *worker_cells(status),
    ]
    if status.objects_total:
        cells.insert(0, percent_text(fraction(status)))
    return ", ".join([job_state(status).words, *cells])


def fit(cells: Sequence[str], columns: int) -> str:
    """As many cells as there is room for, the first ones first."""
    line = ""
    for cell in cells:
        longer = f"{line}   {cell}" if line else cell
        if len(longer) > columns:
            break
        line = longer
    return line


def fraction(status: JobStatus) -> float:
    """How much is done, 0 to 1, by bytes, or by objects if there are none. 1: nothing is left."""
    return status.fraction


def byte_cells(status: JobStatus) -> list[str]:
    if not status.objects_total:
        return []
    cells = [f"{size_text(status.bytes_done)} of {size_text(status.bytes_total)}"]
    if status.phase not in _ENDED:
        cells.append(f"{size_text(status.bytes_per_second)}/s")
        eta = status.eta_seconds
        cells.append("ETA unknown" if eta is None else f"ETA {duration_text(eta)}")
        cells += deadline_cells(status)
    return cells


def deadline_cells(status: JobStatus) -> list[str]:
    """How far ahead of its deadline it ends at this throughput, or how late."""
    found = status.deadline
    if found is None or found.spare_seconds is None:
        return []
    words = "before" if found.spare_seconds >= 0 else "AFTER"
    return [f"{duration_text(abs(found.spare_seconds))} {words} its deadline"]


def object_cells(status: JobStatus) -> list[str]:
    if not status.objects_total:
        return []
    cells = [f"{status.objects_done:,} of {count_text(status.objects_total, 'object')}"]
    if status.failed:
        cells.append(f"{status.failed:,} failed")
    if status.phase not in _ENDED:
        rate = status.objects_per_second
        cells.append(f"{rate:,.1f} objects/s" if 0 < rate < 10 else f"{rate:,.0f} objects/s")
    if present := status.outcomes.get("ALREADY_PRESENT"):
        cells.append(f"{present:,} already there")
    if deleted := status.outcomes.get("DELETED"):
        cells.append(f"{deleted:,} deleted")
    return cells


def last_cells(status: JobStatus) -> list[str]:
    """What a display with one line left says: the trouble, or the listing, or who is at work."""
    work = [*bandwidth_cells(status), *worker_cells(status)]
    return trouble_cells(status) or listing_cells(status) or work


def listing_cells(status: JobStatus) -> list[str]:
    """How far reconciling is."""
    if status.phase is not Phase.RECONCILING or not status.listed:
        return []
    return [f"{status.listed:,} listed at the target, {status.listed_per_second:,.0f}/s"]


def trouble_cells(status: JobStatus) -> list[str]:
    """What the job waits for."""
    paused = [] if status.paused is None else [f"paused {status.paused}"]
    return paused + [
        f"the {store} has not answered for {duration_text(seconds)}: waiting for it"
        for store, seconds in status.silent_seconds.items()
    ]


def bandwidth_cells(status: JobStatus) -> list[str]:
    """What keeps the job from being faster, if that was asked for."""
    guards = [guard_text(store, state.factor) for store, state in status.held_by_guards.items()]
    return guards + ([] if status.held_at is None else [held_text(status.held_at)])


def guard_text(store: str, factor: float) -> str:
    return f"the guard of the {store} leaves {factor:.0%}".replace("%", " %")


def held_text(bytes_per_second: float) -> str:
    return f"held at {size_text(bytes_per_second)}/s by bandwidth"


def worker_cells(status: JobStatus) -> list[str]:
    cells = []
    if status.phase in _WORKING:
        cells.append(count_text(status.workers, "worker"))
    if status.phase in _WORKING and status.retries_per_second >= 0.05:
        cells.append(f"{status.retries_per_second:,.1f} retries/s")
    if status.workers_lost:
        cells.append(f"{status.workers_lost:,} lost")
    if barred := len(status.barred):
        cells.append(f"{count_text(barred, 'host')} barred")
    if given_up := status.shards.get("quarantined"):
        cells.append(f"{count_text(given_up, 'shard')} given up")
    if shards := sum(status.shards.values()):
        settled = status.shards.get("settled", 0)
        cells.append(f"{settled:,} of {count_text(shards, 'shard')} settled")
    return cells


def percent_text(part: float) -> str:
    """Cut, not rounded: 100 % is said if all is done, and not before."""
    return f"{int(part * 1000) / 10:.1f} %"


def size_text(size: float) -> str:
    """Three digits and a decimal unit: 0 B, 999 B, 1.00 kB, 12.3 GB, 123 TB."""
    if size < 999.5:
        return f"{size:.0f} B"
    units = ("kB", "MB", "GB", "TB", "PB", "EB")
    number, place = size / 1000, 0
    while number >= 999.5 and place < len(units) - 1:
        number, place = number / 1000, place + 1
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f} {units[place]}"


def time_text(unix_seconds: float) -> str:
    """In UTC: 2026-11-28 04:00:00. A time that no calendar has: -."""
    with suppress(ValueError, OverflowError, OSError):
        return f"{datetime.fromtimestamp(unix_seconds, UTC):%F %T}"
    return "-"


def duration_text(seconds: float) -> str:
    """The two largest units: 5 s, 3 min 20 s, 4 h 0 min, 12 d 3 h, 2 y 10 d."""
    units = (("y", 365 * 86_400), ("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    if not seconds < 100 * 365 * 86_400:
        return "over 100 y"
    left = max(0, round(seconds))
    for (unit, length), (smaller, small) in pairwise(units):
        if left >= length:
            return f"{left // length} {unit} {left % length // small} {smaller}"
    return f"{left} s"
