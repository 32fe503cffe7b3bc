"""A listing that tells how far it is: to plan or reconcile a large store takes hours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

LINE_SECONDS = 10.0
"""How often a line tells it; a display may be told more often."""
SHOW_SECONDS = 1.0

Tell = Callable[[int, float], None]
"""Takes the rows listed so far, and how many came each second since it was told before."""


def telling(
    batches: Iterable[pa.RecordBatch],
    tell: Tell,
    *,
    every_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[pa.RecordBatch]:
    """Yield the same batches but for empty ones, and tell how many rows they had, at most so often.

    It is told between two batches: a store that stops to answer is told by whoever asks it.
    """
    listed, before, since = 0, 0, clock()
    for batch in batches:
        listed += batch.num_rows
        seconds = clock() - since
        if seconds >= every_seconds:
            tell(listed, (listed - before) / seconds)
            before, since = listed, since + seconds
        if batch.num_rows:
            yield batch


def as_line(say: Callable[[str], None], where: str) -> Tell:
    """Tells it as a line."""
    return lambda listed, rate: say(
        f"{listed:,} listed at the {where} so far, {rate:,.0f} a second"
    )
