"""Noria and its peers over a distance, cell by cell of a grid.

    make bench-road
    .venv/bin/python -m noria.benchmarks.studies.road --round-trips 20,80 --rates 40 --works bulk
    .venv/bin/python -m noria.benchmarks.studies.road --whole-grid --to build/grid

Every contender gets the same time on the same route, in turns, and is stopped: what it moved is
read off the road. With --to-end each moves the same bytes instead, and the last of them are looked
at. Writes a table, a line for each run, the curves, and a picture for each kind of work.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from noria.benchmarks.null.stores import RequestCeiling
from noria.benchmarks.servers import ROOT, ToolMissing
from noria.benchmarks.studies.road.cells import (
    LINES_MB,
    RATES_MB,
    ROUND_TRIPS_MS,
    SCHEMES,
    SMALL_PER_SECOND,
    GridCell,
    grid,
    objects_of,
)
from noria.benchmarks.studies.road.plots import draw
from noria.benchmarks.studies.road.report import write_report
from noria.benchmarks.studies.road.runs import LOOK_SECONDS, RoadRun, run_on_road
from noria.benchmarks.suite.distant_peers import (
    WORKS,
    best_peers,
    fixed_noria,
    swept_peers,
)
from noria.benchmarks.suite.machine import describe_machine, describe_versions
from noria.benchmarks.suite.peers import NORIA, tools_as_they_come
from noria.benchmarks.suite.routes import run_route_bed
from noria.benchmarks.suite.tools import Tool, noria

RESULTS = ROOT / "build/road"
CONTENDERS = ("noria", "fixed", "best", "defaults")
FIXED = (8, 16, 32, 64, 128)
SECONDS = 60.0


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    asked = _parse()
    cells = list(
        grid(ROUND_TRIPS_MS, RATES_MB, LINES_MB, SCHEMES)
        if asked.whole_grid
        else grid(asked.round_trips, asked.rates, asked.lines, asked.schemes)
    )
    head = {
        "command": shlex.join(["python", "-m", "noria.benchmarks.studies.road", *sys.argv[1:]]),
        **describe_machine(),
        **describe_versions(),
    }
    runs: list[RoadRun] = []
    for cell in cells:
        for work in asked.works:
            print(f"{work}: {cell.title}", flush=True)
            for run in run_heat(cell, work, asked):
                runs.append(run)
                print(line_of(run), flush=True)
            # What is there already is there, should the next hour end early.
            path = write_report(runs, asked.to, head=head, pictures=list(draw(runs, asked.to)))
    print(path)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    _numbers(parser, "--round-trips", [20, 80], "ms; default 20,80")
    _numbers(parser, "--rates", [40], "MB/s a connection; 0: no limit; default 40")
    _numbers(parser, "--lines", [400], "MB/s; 0: no limit; default 400")
    parser.add_argument("--schemes", default=["http"], type=_words(SCHEMES), help="default http")
    parser.add_argument("--whole-grid", action="store_true", help="all routes, http and https")
    parser.add_argument(
        "--works", default=list(WORKS), type=_words(WORKS), help=f"default {','.join(WORKS)}"
    )
    parser.add_argument(
        "--contenders",
        default=list(CONTENDERS),
        type=_words((*CONTENDERS, "peers")),
        help="peers: all of their flags that are tried; default " + ",".join(CONTENDERS),
    )
    _numbers(parser, "--fixed", list(FIXED), "Noria's fixed settings; default 8,16,32,64,128")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="default 60")
    parser.add_argument("--to-end", action="store_true", help="stop nobody")
    parser.add_argument("--gigabytes", type=float, help="of work; default: more than time allows")
    parser.add_argument("--small", type=int, help="small objects; default: more than time allows")
    parser.add_argument("--ceiling", type=float, help="requests a second, then 503")
    parser.add_argument("--ceiling-at", choices=("source", "target"), default="target")
    parser.add_argument("--ceiling-prefix", help="of the keys that have it")
    parser.add_argument("--retry-after", type=int, help="seconds that a refusal asks for")
    parser.add_argument("--jitter", type=float, default=0, help="ms on top of a delay, at most")
    parser.add_argument("--die-seconds", type=float, help="after which a connection is reset")
    parser.add_argument("--to", type=Path, default=RESULTS, help="folder; default build/road")
    return parser.parse_args()


def _numbers(
    parser: argparse.ArgumentParser, name: str, default: Sequence[int], meaning: str
) -> None:
    parser.add_argument(
        name,
        default=default,
        type=lambda words: [int(word) for word in words.split(",")],
        metavar="N,N",
        help=meaning,
    )


def _words(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(words: str) -> list[str]:
        chosen = words.split(",")
        if unknown := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {known}")
        return chosen

    return parse


def contenders(work: str, kinds: Sequence[str], fixed: Sequence[int]) -> list[Tool]:
    made: Mapping[str, Callable[[], list[Tool]]] = {
        "noria": lambda: [noria(name=NORIA)],
        "fixed": lambda: [fixed_noria(transfers) for transfers in fixed],
        "best": lambda: best_peers(work),
        "defaults": tools_as_they_come,
        "peers": lambda: swept_peers(work),
    }
    return [tool for kind in kinds for tool in made[kind]()]


def run_heat(cell: GridCell, work: str, asked: argparse.Namespace) -> Iterator[RoadRun]:
    """Every contender, round after round, in another order each time."""
    total_bytes = int(
        asked.gigabytes * 1e9 if asked.gigabytes else cell.most_bytes_per_second * asked.seconds
    )
    objects = objects_of(work, total_bytes, asked.small or round(SMALL_PER_SECOND * asked.seconds))
    ceiling = None
    if asked.ceiling is not None:
        ceiling = RequestCeiling(
            per_second=asked.ceiling,
            retry_after_seconds=asked.retry_after,
            prefix=asked.ceiling_prefix,
        )
    route = replace(cell.route, jitter_ms=asked.jitter, die_seconds=asked.die_seconds)
    at_source = asked.ceiling_at == "source"
    tools = contenders(work, asked.contenders, asked.fixed)
    for number in range(1, asked.rounds + 1):
        start = (number - 1) % len(tools)
        for tool in (*tools[start:], *tools[:start]):
            with run_route_bed(
                objects,
                route,
                tls=cell.tls,
                source_ceiling=ceiling if at_source else None,
                sink_ceiling=None if at_source else ceiling,
                log_seconds=LOOK_SECONDS,
            ) as bed:
                try:
                    yield run_on_road(
                        bed,
                        cell,
                        work,
                        tool,
                        number=number,
                        expected=(len(objects), sum(size for _, size in objects)),
                        stop_seconds=None if asked.to_end else asked.seconds,
                    )
                except ToolMissing as missing:
                    print(f"  {tool.name}: {missing}", flush=True)


def line_of(run: RoadRun) -> str:
    steady = "–" if run.steady_speed is None else f"{run.steady_speed:,.0f}"
    line = (
        f"  round {run.round} {run.tool.name:32}{steady:>8} steady {run.whole_speed:8,.0f} whole "
        f"{run.unit:9}{run.cpu_seconds_per_gb or 0:7.2f} CPU s/GB"
        f"{run.usage.peak_rss_bytes / 2**20:8,.0f} MiB  machine {run.busy_share:.0%}"
    )
    return line if run.counts else f"{line}  {run.outcome}"


if __name__ == "__main__":
    sys.exit(main())
