"""Who moves what over a distance: Noria as it comes, with fixed settings, and its peers.

A peer comes with the flags that `python -m noria.benchmarks.studies.road --contenders peers` found
best; peers.tools_as_they_come() has those without any.
"""

from __future__ import annotations

from noria.benchmarks.suite.peers import (
    JUICEFS,
    LEAN,
    MSC,
    NO_METADATA,
    NO_RESUME,
    NO_STREAM,
    NORIA,
    PROVEN_BY_JUICEFS,
    PROVEN_BY_PARTS,
    PROVEN_IF_STATED,
    SILENT,
    TRUSTING,
    UNCHECKED,
    UNHEADED,
    WHOLE,
)
from noria.benchmarks.suite.tools import (
    NOTHING,
    Tool,
    juicefs,
    msc,
    noria,
    rclone,
)

WORKS = ("bulk", "huge", "small", "mixed", "all")
TRANSFERS = (16, 32, 64, 128)
"""Of rclone and of juicefs: the sweep."""


def fixed_noria(transfers: int) -> Tool:
    """Noria without its search for concurrency."""
    return noria(name=f"{NORIA}, {transfers} fixed", flags=("--transfers", str(transfers)))


def rclone_in_parts(transfers: int, parts: int) -> Tool:
    """Parts of one object go at once; a large source is read by several requests too."""
    flags = ["--transfers", str(transfers), "--multi-thread-streams", str(parts)]
    flags += ["--multi-thread-chunk-size", "16M", "--s3-chunk-size", "16M"]
    flags += ["--s3-upload-concurrency", str(parts), *TRUSTING, *UNHEADED, *LEAN]
    return rclone(flags, name=f"rclone, {transfers} x {parts} parts", proves=PROVEN_BY_PARTS)


def rclone_whole(transfers: int) -> Tool:
    flags = ["--transfers", str(transfers), "--checkers", "16"]
    flags += [*WHOLE, *TRUSTING, *UNHEADED, *LEAN]
    return rclone(
        flags,
        name=f"rclone, {transfers}, one request",
        note=NO_RESUME,
        proves=PROVEN_IF_STATED,
    )


def juicefs_threads(threads: int) -> Tool:
    return juicefs(
        ["--threads", str(threads)],
        name=f"{JUICEFS}, {threads} threads",
        note=NO_METADATA,
        proves=PROVEN_BY_JUICEFS,
    )


def msc_threads(threads: int, processes: int) -> Tool:
    """`threads` of each process; each moves a batch of objects, 16 of them at a time."""
    settings = [f"MSC_NUM_PROCESSES={processes}", f"MSC_NUM_THREADS_PER_PROCESS={threads}"]
    return msc(
        [SILENT, UNCHECKED, *settings],
        name=f"{MSC}, {processes} x {threads} threads",
        note=NO_STREAM,
        proves=NOTHING,
    )


def swept_peers(work: str) -> list[Tool]:
    """Every set of flags that is tried for a work of WORKS."""
    whole = [] if work == "huge" else [rclone_whole(transfers) for transfers in TRANSFERS]
    pairs = () if work == "small" else ((1, 32), (1, 64), (4, 32), (16, 4))
    parts = [rclone_in_parts(transfers, parts) for transfers, parts in pairs]
    threads = [juicefs_threads(threads) for threads in TRANSFERS]
    return [*whole, *parts, *threads, msc_threads(16, 2), msc_threads(32, 1), msc_threads(32, 2)]


def best_peers(work: str) -> list[Tool]:
    """One of each kind, with the flags that did best."""
    transfers = {"small": 128}.get(work, 64)
    flagged = rclone_in_parts(1, 64) if work == "huge" else rclone_whole(transfers)
    return [flagged, juicefs_threads(transfers), msc_threads(32, 1)]
