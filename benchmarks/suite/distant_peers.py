"""Who moves what over a distance: Noria as it comes, with fixed settings, and its peers.

A peer comes with its defaults, and with the flags that
`python -m noria.benchmarks.studies.road --contenders peers` found best.
"""

from __future__ import annotations

from pathlib import Path

from noria.benchmarks.suite.peers import (
    JUICEFS,
    LEAN,
    NO_CHECKSUM,
    NO_METADATA,
    NORIA,
    TRUSTING,
    UNHEADED,
    WHOLE,
)
from noria.benchmarks.suite.tools import Ends, Invocation, Tool, juicefs, noria, noria_role, rclone

WORKS = ("bulk", "huge", "small", "mixed", "all")
FIXED_STREAMS = 32
"""What a worker has by default; more requests need more."""
TRANSFERS = (16, 32, 64, 128)
"""Of rclone and of juicefs: the sweep."""


def fixed_settings(transfers: int) -> dict[str, int]:
    """[run] of a job that has `transfers` in flight, come what may."""
    return {
        "source_requests": transfers,
        "target_requests": transfers,
        "streams": max(FIXED_STREAMS, transfers),
    }


def fixed_noria(transfers: int) -> Tool:
    """Noria without its search for concurrency."""
    settings = fixed_settings(transfers)

    def invoke(ends: Ends, folder: Path) -> Invocation:
        job = folder / "fixed.toml"
        trust = "" if ends.ca_bundle is None else f'ca_bundle = "{ends.ca_bundle}"\n'
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        job.write_text(
            f'[source]\nurl = "az://{ends.account}/{ends.container}"\n{trust}'
            f'[target]\nurl = "s3://{ends.bucket}"\n{trust}[run]\n{lines}'
        )
        by_default = noria().invoke(ends, folder)
        output = ["--quiet", "--json", "--metrics-address", "off"]
        return Invocation(
            command=[by_default.command[0], "run", str(job), *output],
            environment=by_default.environment,
        )

    said = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return Tool(
        name=f"{NORIA}, {transfers} fixed",
        tool="noria",
        invoke=invoke,
        flags=f"noria run JOB.toml --quiet --json; [run] {said}",
        roles=noria_role,
    )


def peers_as_they_come() -> list[Tool]:
    return [
        rclone([], name="rclone, defaults"),
        juicefs([], name=f"{JUICEFS}, defaults", note=NO_METADATA),
    ]


def rclone_in_parts(transfers: int, parts: int) -> Tool:
    """Parts of one object go at once; a large source is read by several requests too."""
    flags = ["--transfers", str(transfers), "--multi-thread-streams", str(parts)]
    flags += ["--multi-thread-chunk-size", "16M", "--s3-chunk-size", "16M"]
    flags += ["--s3-upload-concurrency", str(parts), *TRUSTING, *UNHEADED, *LEAN]
    return rclone(flags, name=f"rclone, {transfers} x {parts} parts")


def rclone_whole(transfers: int) -> Tool:
    flags = ["--transfers", str(transfers), "--checkers", "16"]
    flags += [*WHOLE, *TRUSTING, *UNHEADED, *LEAN]
    return rclone(flags, name=f"rclone, {transfers}, one request", note=NO_CHECKSUM)


def juicefs_threads(threads: int) -> Tool:
    return juicefs(
        ["--threads", str(threads)], name=f"{JUICEFS}, {threads} threads", note=NO_METADATA
    )


def swept_peers(work: str) -> list[Tool]:
    """Every set of flags that is tried for a work of WORKS."""
    whole = [] if work == "huge" else [rclone_whole(transfers) for transfers in TRANSFERS]
    parts = [rclone_in_parts(4, 32), rclone_in_parts(1, 64)] if work != "small" else []
    return [*whole, *parts, *(juicefs_threads(threads) for threads in TRANSFERS)]


def best_peers(work: str) -> list[Tool]:
    """One of each kind, with the flags that did best."""
    transfers = {"small": 128}.get(work, 64)
    flagged = rclone_in_parts(1, 64) if work == "huge" else rclone_whole(transfers)
    return [flagged, juicefs_threads(transfers)]
