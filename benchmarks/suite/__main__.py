"""Noria beside its peers: the suite, its goals, and what it leaves as files.

    .venv/bin/python -m noria.benchmarks.suite                # half an hour: make bench
    .venv/bin/python -m noria.benchmarks.suite --full         # all of it: make bench-full
    .venv/bin/python -m noria.benchmarks.suite --only small,bulk --rounds 5
    .venv/bin/python -m noria.benchmarks.suite --quick        # a look whether it works

Servers and tools are all on this machine: nothing else should run meanwhile. Results go to
benchmarks/results; those of --quick to a temporary folder, since they prove nothing.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from noria.benchmarks.suite.goals import check_goals
from noria.benchmarks.suite.machine import describe_machine, describe_versions
from noria.benchmarks.suite.report import Results, write_results
from noria.benchmarks.suite.rounds import Contest
from noria.benchmarks.suite.rows import ROWS, Scale, SuiteRow, say
from noria.engine.config.jobfile import RunConfig

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    arguments = _parse()
    names = arguments.only.split(",") if arguments.only else None
    if names is not None and (unknown := sorted(set(names) - set(ROWS))):
        sys.exit(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    scales = choose_scales(names, full=arguments.full)
    if arguments.rounds is not None:
        scales = {name: replace(scale, rounds=arguments.rounds) for name, scale in scales.items()}
    if arguments.quick:
        scales = {name: scale.quick() for name, scale in scales.items()}
    folder = arguments.results
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="noria-bench-")) if arguments.quick else RESULTS
    results = run_suite(scales)
    path = write_results(results, folder, today())
    for goal in results.goals:
        verdict = {True: "met", False: "NOT MET", None: "not measured"}[goal.met]
        found = "" if goal.value is None else goal.value.text(goal.digits)
        print(f"{goal.workload:22}{goal.what:66}{goal.wanted:10}{found:26}{verdict}")
    print(path)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help=f"some of: {','.join(ROWS)}")
    parser.add_argument("--full", action="store_true", help="every row at its full size")
    parser.add_argument("--rounds", type=int, help="that count; default: each row's own")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, one round")
    parser.add_argument("--results", type=Path, help="the folder to write to")
    return parser.parse_args()


def choose_scales(names: list[str] | None, *, full: bool) -> dict[str, Scale]:
    """The rows to run, and how large each is.

    Rows that are named are run at their brief scale if they have one, and at their full one if not.
    """
    chosen: dict[str, Scale] = {}
    for name, row in ROWS.items():
        scale = _scale_of(row, full=full, named=names is not None)
        if scale is not None and (names is None or name in names):
            chosen[name] = scale
    return chosen


def _scale_of(row: SuiteRow, *, full: bool, named: bool) -> Scale | None:
    scale, other = (row.full, row.brief) if full else (row.brief, row.full)
    return scale or (other if named else None)


def run_suite(scales: Mapping[str, Scale]) -> Results:
    machine, versions = describe_machine(), describe_versions()
    contests: list[Contest] = []
    seconds: dict[str, float] = {}
    for name, scale in scales.items():
        say(f"{name}:")
        started = time.monotonic()
        contests += ROWS[name].run(scale)
        seconds[name] = time.monotonic() - started
        say(f"{name}: {seconds[name]:.0f} s")
    return Results(
        command=shlex.join([".venv/bin/python", "-m", "noria.benchmarks.suite", *sys.argv[1:]]),
        machine=machine,
        versions=versions,
        contests=contests,
        goals=check_goals(
            {contest.workload.name: contest for contest in contests},
            RunConfig().bytes_in_flight,
        ),
        seconds=seconds,
    )


def today() -> str:
    return datetime.datetime.now().astimezone().date().isoformat()


if __name__ == "__main__":
    sys.exit(main())
