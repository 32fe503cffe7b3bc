"""The rows of the suite: each a workload, its test bed, and the tools that meet on it.

`make bench` runs those that have a `brief` scale, in half an hour on two idle cores; `make
bench-full` runs all of them at their full size.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from noria.benchmarks.null.stores import BUCKET, loop_command
from noria.benchmarks.servers import free_ports
from noria.benchmarks.suite import peers
from noria.benchmarks.suite.beds import (
    NullTestBed,
    TestBed,
    run_bed,
    run_null_bed,
    run_real_beds,
)
from noria.benchmarks.suite.distant_peers import best_peers
from noria.benchmarks.suite.goals import LOOP, SHORT
from noria.benchmarks.suite.openssl import library_environment
from noria.benchmarks.suite.rounds import Contest, Entry, contests_of, run_rounds
from noria.benchmarks.suite.routes import run_route_bed
from noria.benchmarks.suite.tools import NOTHING, Ends, Invocation, Tool, noria
from noria.benchmarks.suite.workloads import (
    GB,
    Kind,
    Route,
    Workload,
    bulk,
    bulk_https,
    distant,
    mixed,
    null_bulk,
    null_mixed,
    null_small,
    small,
)

QUICK_SHARE = 0.1
BULK_HTTPS_SHARE = 0.5
WARM_UP_SHARE = 0.04
"""Of a workload, for the round that does not count: the servers have been busy at being filled."""
CHECK = "-check"
"""Ends the name of a workload on real servers that is too short for a goal."""

NULL_BYTES = 16 * GB
NULL_SHORT_BYTES = 4 * GB
LOOP_KEY = "loop"
LOOP_STREAMS = 2
"""As many as Noria has workers on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything."""

    rounds: int
    share: float
    """Of each workload's size."""
    side_rounds: int = 2
    """Of the rounds, for tools that no goal or few goals name."""

    def quick(self) -> Scale:
        """Enough to see whether it works."""
        return replace(self, rounds=1, side_rounds=1, share=self.share * QUICK_SHARE)


ROUND_TRIPS_MS = (20, 80)
CONNECTION_RATE, LINE_RATE = 40e6, 400e6
"""Bytes a second: ten connections fill the line."""
DISTANT_PART = 0.25
DISTANT_PARTS: Mapping[Kind, float] = {"small": 0.1}

FULL = Scale(rounds=5, share=1.0)
HALF = Scale(rounds=3, share=0.5, side_rounds=1)
DISTANT_FULL = Scale(rounds=3, share=1.0, side_rounds=1)
DISTANT_BRIEF = Scale(rounds=1, share=0.5, side_rounds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRow:
    """What the suite knows by one name."""

    run: Callable[[Scale], list[Contest]]
    brief: Scale | None
    """In `make bench`. None: it is not part of that."""
    full: Scale | None = FULL
    """In `make bench-full`. None: something longer takes its place there."""


def side_tools(tools: Sequence[Tool]) -> set[str]:
    """Names of those that get fewer rounds: slow ones, and ways that are shown beside the best."""
    beside = {
        *peers.AS_THEY_COME,
        *(tool.name for tool in tools if tool.tool == "msc"),
        peers.RCLONE_PARTS,
        peers.CLUSTER_NORIA,
        peers.OLD_LIBRARY_NORIA,
    }
    return beside & {tool.name for tool in tools}


# -- real servers ----------------------------------------------------------------------------------


def run_real(
    make: Callable[[float], Workload], tools: Sequence[Tool], scale: Scale
) -> list[Contest]:
    started = time.monotonic()
    workload, warm_up = make(scale.share), make(scale.share * WARM_UP_SHARE)
    with run_real_beds([workload, warm_up], tls=workload.tls) as [test_bed, warm_up_bed]:
        say(f"  servers filled in {time.monotonic() - started:.0f} s")
        entries = entries_of(workload, test_bed, tools, scale)
        warming = [Entry(workload=warm_up, test_bed=warm_up_bed, tool=one) for one in tools]
        runs = run_rounds(entries, rounds=scale.rounds, say=say, warm_up=warming)
        return contests_of(entries, list(runs))


def run_small(scale: Scale) -> list[Contest]:
    (port,) = free_ports(1)
    tools = [
        *peers.small_object_tools(),
        peers.cluster_noria(port),
        *peers.tools_as_they_come(),
    ]
    return run_real(small, tools, scale)


def run_bulk(scale: Scale) -> list[Contest]:
    tools = [*peers.large_object_tools(), *peers.tools_as_they_come()]
    return run_real(bulk, tools, scale)


def run_bulk_https(scale: Scale) -> list[Contest]:
    tools = [*peers.large_object_tools(), *peers.tools_as_they_come()]
    return run_real(
        lambda share: bulk_https(share * BULK_HTTPS_SHARE), peers.with_old_library(tools), scale
    )


def run_mixed(scale: Scale) -> list[Contest]:
    tools = [*peers.mixed_object_tools(), *peers.tools_as_they_come()]
    return run_real(mixed, tools, scale)


def run_check(scale: Scale) -> list[Contest]:
    """That all tools work between real servers, and about how they compare."""

    def named(make: Callable[[float], Workload]) -> Callable[[float], Workload]:
        def make_named(share: float) -> Workload:
            workload = make(share)
            return replace(workload, name=workload.name + CHECK)

        return make_named

    return [
        *run_real(named(small), peers.small_object_tools(), scale),
        *run_real(named(bulk_https), peers.large_object_tools(), scale),
        *run_real(named(mixed), peers.mixed_object_tools(), scale),
    ]


# -- null stores -----------------------------------------------------------------------------------


def run_null(scale: Scale, *, tls: bool) -> list[Contest]:
    """Noria with many bytes and with fewer; the C loop and the peers with the fewer.

    Their start costs nothing, so there is nothing to take out by two sizes.
    """
    long = null_bulk(int(NULL_BYTES * scale.share), tls=tls)
    short = null_bulk(int(NULL_SHORT_BYTES * scale.share), tls=tls, suffix=SHORT)
    stream_bytes = short.bytes // LOOP_STREAMS
    looped = replace(
        short, objects=tuple((f"{LOOP_KEY}-{n}", stream_bytes) for n in range(LOOP_STREAMS))
    )
    tools = [*peers.large_object_tools(), *peers.tools_as_they_come()]
    with contextlib.ExitStack() as stack:
        long_bed = stack.enter_context(run_null_bed(long.objects, tls=tls))
        short_bed = stack.enter_context(run_null_bed(short.objects, tls=tls))
        loop_bed = stack.enter_context(
            run_null_bed([(LOOP_KEY, stream_bytes)], tls=tls, bucket=BUCKET)
        )
        loop = loop_tool(loop_bed, stream_bytes)
        entries = [
            Entry(workload=long, test_bed=long_bed, tool=noria(name=peers.NORIA)),
            *entries_of(short, short_bed, peers.with_old_library(tools) if tls else tools, scale),
            Entry(workload=looped, test_bed=loop_bed, tool=loop),
        ]
        warm_up = [one for one in entries[1:] if one.rounds is None]
        runs = run_rounds(entries, rounds=scale.rounds, say=say, warm_up=warm_up)
        return contests_of(entries, list(runs))


def run_null_objects(workload: Workload, tools: Sequence[Tool], scale: Scale) -> list[Contest]:
    with run_bed(workload) as test_bed:
        entries = entries_of(workload, test_bed, [*tools, *peers.tools_as_they_come()], scale)
        warm_up = [one for one in entries if one.rounds is None]
        runs = run_rounds(entries, rounds=scale.rounds, say=say, warm_up=warm_up)
        return contests_of(entries, list(runs))


def run_null_small(scale: Scale) -> list[Contest]:
    return run_null_objects(null_small(scale.share), peers.small_object_tools(), scale)


def run_null_mixed(scale: Scale) -> list[Contest]:
    return run_null_objects(null_mixed(scale.share), peers.mixed_object_tools(), scale)


# -- at a distance ---------------------------------------------------------------------------------


def run_distant(
    scale: Scale, *, kind: Kind, round_trip_ms: float, tls: bool = False
) -> list[Contest]:
    """Noria and its peers on one route. No round is for warm-up: no server gets slower or faster.

    Slow tools, and peers as they come, move a part of it, and speeds are compared: with little in
    flight, small objects would take them minutes.
    """
    route = Route(round_trip_ms=round_trip_ms, rate=CONNECTION_RATE, line=LINE_RATE)
    whole = distant(kind, route, tls=tls, share=scale.share)
    part = distant(kind, route, tls=tls, share=scale.share * DISTANT_PARTS.get(kind, DISTANT_PART))
    tools = [noria(name=peers.NORIA), *best_peers(kind), *peers.tools_as_they_come()]
    sides = side_tools(tools)
    moved = f"{len(part.objects):,} objects, {part.bytes / GB:.2f} GB"
    with (
        run_route_bed(whole.objects, route, tls=tls) as whole_bed,
        run_route_bed(part.objects, route, tls=tls) as part_bed,
    ):
        entries = [
            *entries_of(whole, whole_bed, [one for one in tools if one.name not in sides], scale),
            *entries_of(
                part,
                part_bed,
                [
                    replace(one, note=f"{moved}; {one.note}".removesuffix("; "))
                    for one in tools
                    if one.name in sides
                ],
                scale,
            ),
        ]
        runs = run_rounds(entries, rounds=scale.rounds, say=say, warm_up=[])
        return contests_of(entries, list(runs))


def distant_rows() -> Iterator[tuple[str, SuiteRow]]:
    """Over https, `make bench` has large objects alone: small ones take little of TLS."""
    kinds: tuple[Kind, ...] = ("bulk", "huge", "small", "mixed")
    for tls, round_trip_ms, kind in itertools.product((False, True), ROUND_TRIPS_MS, kinds):
        run = functools.partial(run_distant, kind=kind, round_trip_ms=round_trip_ms, tls=tls)
        brief = DISTANT_BRIEF if kind == "bulk" or not tls else None
        name = f"road-{kind}-{round_trip_ms}ms" + ("-https" if tls else "")
        yield name, SuiteRow(run=run, brief=brief, full=DISTANT_FULL)


# -- the tools and the rows ------------------------------------------------------------------------


def loop_tool(test_bed: NullTestBed, stream_bytes: int) -> Tool:
    """The plain C loop: recv, XXH3-128, send."""

    def invoke(ends: Ends, folder: Path) -> Invocation:
        command = loop_command(
            test_bed.source, test_bed.sink, key=LOOP_KEY, size=stream_bytes, streams=LOOP_STREAMS
        )
        return Invocation(
            command=command, environment={"PATH": os.defpath, **library_environment()}
        )

    return Tool(
        name=LOOP,
        tool="loop",
        invoke=invoke,
        flags=f"null-loop SOURCE SINK, {LOOP_STREAMS} threads, parts of 64 MiB",
        note="benchmarks/null/loop.c: recv, XXH3-128, send, on the same sockets",
        proves=f"{NOTHING}: its hash goes nowhere",
    )


def entries_of(
    workload: Workload, test_bed: TestBed, tools: Sequence[Tool], scale: Scale
) -> list[Entry]:
    """One for each tool; the side tools take part in the first rounds only."""
    sides = side_tools(tools)
    return [
        Entry(
            workload=workload,
            test_bed=test_bed,
            tool=one,
            rounds=scale.side_rounds if one.name in sides else None,
        )
        for one in tools
    ]


def say(line: str) -> None:
    print(line, flush=True)


ROWS: Mapping[str, SuiteRow] = {
    **dict(distant_rows()),
    "null-bulk": SuiteRow(run=lambda scale: run_null(scale, tls=False), brief=HALF),
    "null-bulk-https": SuiteRow(run=lambda scale: run_null(scale, tls=True), brief=HALF),
    "null-small": SuiteRow(run=run_null_small, brief=HALF),
    "null-mixed": SuiteRow(run=run_null_mixed, brief=HALF),
    "check": SuiteRow(run=run_check, brief=Scale(rounds=1, share=0.05, side_rounds=1), full=None),
    "small": SuiteRow(run=run_small, brief=None),
    "bulk": SuiteRow(run=run_bulk, brief=None),
    "bulk-https": SuiteRow(run=run_bulk_https, brief=None),
    "mixed": SuiteRow(run=run_mixed, brief=None),
}
"""Name -> row, in the order in which they run and are shown."""
