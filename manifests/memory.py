"""How much memory planning and joins out of core take: by their rows, and by this machine.

A plan sorts ranges of keys, each in memory, side by side. Its memory goes by the processors that do
so, not by the rows; with less than it takes for all of them, fewer ranges are sorted at a time.

A join goes by its rows. DuckDB sorts runs that fit into memory, and merges them. Both the number of
runs and what each keeps at hand grow, so the least that a merge takes grows by the square root of
the rows: with two threads it was 67 MB for a million, 210 MB for ten, 370 MB for thirty. A join
takes about as much. Each further thread takes its own, so their number is fixed, however many
processors there are.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Final

from noria.manifests.errors import JobDirectoryError

RANGE_BYTES: Final = 64 << 20
"""Most bytes of the rows of a range of keys, of Arrow: some 400,000 rows of 160 bytes."""
RANGE_COPIES: Final = 4
"""A range is read, sorted, completed, and its successor waits to be written."""
PLAN_BYTES: Final = 768 << 20
"""What planning takes besides: the interpreter, rows on their way in and out, files' buffers."""
ROW_THREADS: Final = 4
"""Most threads that prepare rows on their way in: what follows is one thread, which waits for no
more."""
PLAN_THREADS: Final = 16
"""Most ranges that are sorted at a time: writing them comes one after the other."""
THREADS: Final = 2
LEAST_BYTES: Final = 1 << 30
MERGE_BYTES: Final = 67_000_000
"""Of a million rows."""
SPARE: Final = 2.0
"""Times the least: names that are longer, rows with more columns."""
_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Of a container, in both versions."""


def plan_threads() -> int:
    """How many ranges of keys a plan sorts at a time, on all processors if memory allows.

    Raises JobDirectoryError if it does not allow one.
    """
    machine = machine_bytes()
    each = RANGE_COPIES * RANGE_BYTES
    if machine < PLAN_BYTES + each:
        raise JobDirectoryError(
            f"to plan takes {(PLAN_BYTES + each) / 1e9:.1f} GB of memory, and this machine has "
            f"{machine / 1e9:.1f} GB: use a larger one"
        )
    return min(_processors(), PLAN_THREADS, (machine - PLAN_BYTES) // each)


def row_threads() -> int:
    """How many threads prepare rows on their way in."""
    return min(_processors(), ROW_THREADS)


def out_of_core_bytes(rows: int, what: str) -> int:
    """Memory for `what` is done with so many rows.

    Raises JobDirectoryError if this machine has less than it takes at least, before hours of work
    show that.
    """
    least = math.ceil(MERGE_BYTES * math.sqrt(rows / 1e6))
    machine = machine_bytes()
    if least > machine:
        raise JobDirectoryError(
            f"to {what} {rows:,} rows takes {least / 1e9:.1f} GB of memory, and this machine has "
            f"{machine / 1e9:.1f} GB: use a larger one"
        )
    return min(max(LEAST_BYTES, round(SPARE * least)), max(least, machine // 2))


def machine_bytes() -> int:
    """The memory that this process may take: the machine's, or its container's."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [whole]
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no container, or `max`
            limits.append(int(path.read_text()))
    return min(limits)


def _processors() -> int:
    return len(os.sched_getaffinity(0))
