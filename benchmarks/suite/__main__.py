"""Noria beside rclone and juicefs sync: the whole suite, its goals, and what it leaves as files.

    .venv/bin/python -m noria.benchmarks.suite                # all of it, about an hour
    .venv/bin/python -m noria.benchmarks.suite --only small,bulk --rounds 5
    .venv/bin/python -m noria.benchmarks.suite --quick        # a look whether it works

Real servers on both sides, all on this machine: nothing else should run meanwhile. Results go to
benchmarks/results; those of --quick to a temporary folder, since they prove nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from noria.benchmarks.null.stores import BUCKET, loop_command
from noria.benchmarks.servers import free_ports
from noria.benchmarks.suite import peers
from noria.benchmarks.suite.beds import NullTestBed, run_null_bed, run_real_beds
from noria.benchmarks.suite.goals import LOOP, SHORT, check_goals
from noria.benchmarks.suite.machine import describe_machine, describe_versions
from noria.benchmarks.suite.report import Results, write_results
from noria.benchmarks.suite.rounds import Contest, Entry, contests_of, run_rounds
from noria.benchmarks.suite.tools import Ends, Invocation, Tool, noria
from noria.benchmarks.suite.workloads import GB, Workload, bulk, bulk_https, mixed, null_bulk, small
from noria.engine.config.jobfile import RunConfig

RESULTS = Path(__file__).resolve().parents[1] / "results"
ROUNDS = 5
QUICK_ROUNDS = 1
QUICK_SHARE = 0.1
BULK_HTTPS_SHARE = 0.5
WARM_UP_SHARE = 0.04
"""Of a workload, for the round that does not count: the servers have been busy at being filled."""

NULL_BYTES = 16 * GB
NULL_SHORT_BYTES = 4 * GB
NULL_PEER_ROUNDS = 2
"""No goal asks for them."""
LOOP_KEY = "loop"
LOOP_STREAMS = 2
"""As many as Noria has workers on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything."""

    rounds: int
    share: float
    """Of each workload's size."""


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    arguments = _parse()
    names = arguments.only.split(",") if arguments.only else list(WORKLOADS)
    if unknown := sorted(set(names) - set(WORKLOADS)):
        sys.exit(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    scale = Scale(
        rounds=arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS),
        share=QUICK_SHARE if arguments.quick else 1.0,
    )
    folder = arguments.results
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="noria-bench-")) if arguments.quick else RESULTS
    results = run_suite(names, scale)
    path = write_results(results, folder, today())
    for goal in results.goals:
        verdict = {True: "met", False: "NOT MET", None: "not measured"}[goal.met]
        found = "" if goal.value is None else goal.value.text(goal.digits)
        print(f"{goal.workload:16}{goal.what:60}{goal.wanted:10}{found:26}{verdict}")
    print(path)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help=f"some of: {','.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, help=f"that count; default {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, one round")
    parser.add_argument("--results", type=Path, help="the folder to write to")
    return parser.parse_args()


def run_suite(names: Sequence[str], scale: Scale) -> Results:
    machine, versions = describe_machine(), describe_versions()
    contests: list[Contest] = []
    seconds: dict[str, float] = {}
    for name in names:
        print(f"{name}:", flush=True)
        started = time.monotonic()
        contests += WORKLOADS[name](scale)
        seconds[name] = time.monotonic() - started
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
    return Results(
        command=shlex.join([".venv/bin/python", "-m", "noria.benchmarks.suite", *sys.argv[1:]]),
        machine=machine,
        versions=versions,
        contests=contests,
        goals=check_goals(
            {contest.workload.name: contest for contest in contests},
            RunConfig().bytes_in_flight,
        ),
        rounds=scale.rounds,
        seconds=seconds,
    )


# -- workloads -------------------------------------------------------------------------------------


def run_real(
    make: Callable[[float], Workload],
    tools: Sequence[Tool],
    scale: Scale,
    *,
    sides: Mapping[str, int],
) -> list[Contest]:
    """`sides`: tools that are shown beside the goals -> the rounds they get."""
    started = time.monotonic()
    workload, warm_up = make(scale.share), make(scale.share * WARM_UP_SHARE)
    with run_real_beds([workload, warm_up], tls=workload.tls) as [test_bed, warm_up_bed]:
        _say(f"  servers filled in {time.monotonic() - started:.0f} s")
        entries = [
            Entry(workload=workload, test_bed=test_bed, tool=one, rounds=sides.get(one.name))
            for one in tools
        ]
        warming = [Entry(workload=warm_up, test_bed=warm_up_bed, tool=one) for one in tools]
        runs = run_rounds(entries, rounds=scale.rounds, say=_say, warm_up=warming)
        return contests_of(entries, list(runs))


def run_small(scale: Scale) -> list[Contest]:
    (port,) = free_ports(1)
    tools = peers.small_object_tools(port)
    return run_real(small, tools, scale, sides={peers.CLUSTER_NORIA: 1})


def run_bulk(scale: Scale) -> list[Contest]:
    tools = peers.large_object_tools()
    return run_real(bulk, tools, scale, sides={peers.RCLONE_PARTS: 1})


def run_bulk_https(scale: Scale) -> list[Contest]:
    tools = peers.large_object_tools()
    return run_real(
        lambda share: bulk_https(share * BULK_HTTPS_SHARE),
        tools,
        scale,
        sides={peers.RCLONE_PARTS: 2},
    )


def run_mixed(scale: Scale) -> list[Contest]:
    return run_real(mixed, peers.mixed_object_tools(), scale, sides={})


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
    with contextlib.ExitStack() as stack:
        long_bed = stack.enter_context(run_null_bed(long.objects, tls=tls))
        short_bed = stack.enter_context(run_null_bed(short.objects, tls=tls))
        loop_bed = stack.enter_context(
            run_null_bed([(LOOP_KEY, stream_bytes)], tls=tls, bucket=BUCKET)
        )
        loop = loop_tool(loop_bed, stream_bytes)
        brief = [
            Entry(workload=short, test_bed=short_bed, tool=noria(name=peers.NORIA)),
            Entry(workload=looped, test_bed=loop_bed, tool=loop),
            *(
                Entry(workload=short, test_bed=short_bed, tool=peer, rounds=NULL_PEER_ROUNDS)
                for peer in peers.large_object_tools()
                if peer.name in (peers.RCLONE_WHOLE, peers.JUICEFS)
            ),
        ]
        entries = [
            Entry(workload=long, test_bed=long_bed, tool=noria(name=peers.NORIA)),
            *brief,
        ]
        runs = run_rounds(entries, rounds=scale.rounds, say=_say, warm_up=brief)
        return contests_of(entries, list(runs))


def loop_tool(test_bed: NullTestBed, stream_bytes: int) -> Tool:
    """The plain C loop: recv, XXH3-128, send."""

    def invoke(ends: Ends, folder: Path) -> Invocation:
        command = loop_command(
            test_bed.source, test_bed.sink, key=LOOP_KEY, size=stream_bytes, streams=LOOP_STREAMS
        )
        return Invocation(command=command, environment={"PATH": os.defpath})

    return Tool(
        name=LOOP,
        tool="loop",
        invoke=invoke,
        flags=f"null-loop SOURCE SINK, {LOOP_STREAMS} threads, parts of 64 MiB",
        note="benchmarks/null/loop.c: recv, XXH3-128, send, on the same sockets",
    )


def today() -> str:
    return datetime.datetime.now().astimezone().date().isoformat()


def _say(line: str) -> None:
    print(line, flush=True)


WORKLOADS: dict[str, Callable[[Scale], list[Contest]]] = {
    "small": run_small,
    "bulk": run_bulk,
    "bulk-https": run_bulk_https,
    "mixed": run_mixed,
    "null-bulk": lambda scale: run_null(scale, tls=False),
    "null-bulk-https": lambda scale: run_null(scale, tls=True),
}

if __name__ == "__main__":
    sys.exit(main())
