"""Two revisions of Noria side by side: whether a change made it cheaper.

    make bench-compare REF=main~10
    .venv/bin/python -m noria.benchmarks.suite.compare REF [--rounds 5] [--only small,null-bulk]

REF is unpacked into a temporary folder; the other side is this checkout as it lies, changes
included. Both use the packages of this environment, so what differs is Noria's own code. Prints
new over old.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.servers import ROOT
from noria.benchmarks.suite.beds import run_bed
from noria.benchmarks.suite.machine import describe_machine, describe_revision
from noria.benchmarks.suite.openssl import measured_library
from noria.benchmarks.suite.revisions import NEW, OLD, installed, paired_line, unpacked
from noria.benchmarks.suite.rounds import Contest, Entry, Measure, contests_of, run_rounds
from noria.benchmarks.suite.tools import noria
from noria.benchmarks.suite.workloads import GB, MIB, Workload, bulk, null_bulk, small

ROUNDS = 5
SMALL_SHARE = 0.25
BULK_SHARE = 0.125
NULL_BYTES = 4 * GB

WORKLOADS: Mapping[str, Callable[[float], Workload]] = {
    "small": lambda share: small(SMALL_SHARE * share),
    "null-bulk": lambda share: null_bulk(int(NULL_BYTES * share), tls=False),
    "null-bulk-https": lambda share: null_bulk(int(NULL_BYTES * share), tls=True),
    "bulk": lambda share: bulk(BULK_SHARE * share),
}


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    measure: Measure
    digits: int


COLUMNS = (
    _Column("CPU s", lambda run: run.usage.cpu_seconds, 2),
    _Column("wall s", lambda run: run.usage.wall_seconds, 2),
    _Column("peak RSS MiB", lambda run: run.usage.peak_rss_bytes / MIB, 0),
)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ref", help="a commit, branch or tag")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--only", default=",".join(WORKLOADS), help="some of: %(default)s")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of each workload's size; default: 1"
    )
    arguments = parser.parse_args()
    names = str(arguments.only).split(",")
    if unknown := sorted(set(names) - set(WORKLOADS)):
        sys.exit(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    workloads = [WORKLOADS[name](arguments.share) for name in names]
    with unpacked(arguments.ref) as tree, installed(tree) as old, installed(ROOT) as new:
        machine = describe_machine()
        print(
            f"{machine['CPU']}, {machine['memory']}, load {machine['load before (1, 5, 15 min)']}"
        )
        print(
            f"old: {arguments.ref}; new: {describe_revision(ROOT)}; {measured_library()}",
            flush=True,
        )
        programs = {OLD: old, NEW: new}
        contests = [compare(workload, programs, arguments.rounds) for workload in workloads]
    print()
    for line in table(contests):
        print(line)
    return 0


def compare(workload: Workload, programs: Mapping[str, Path], rounds: int) -> Contest:
    """`programs`: the command `noria` of each side."""
    with run_bed(workload) as test_bed:
        entries = [
            Entry(workload=workload, test_bed=test_bed, tool=noria(name=side, program=program))
            for side, program in programs.items()
        ]
        runs = list(run_rounds(entries, rounds=rounds, say=lambda line: print(line, flush=True)))
    [contest] = contests_of(entries, runs)
    return contest


def table(contests: Sequence[Contest]) -> Iterator[str]:
    """Medians of both sides, and new over old in each round: median, lowest, highest."""
    yield f"{'':16}{'':14}{'old':>10}{'new':>10}   new/old"
    for contest in contests:
        for column in COLUMNS:
            old, new = (contest.by_round(side, column.measure) for side in (OLD, NEW))
            title = f"{contest.workload.name:16}{column.title:14}"
            yield paired_line(title, old, new, column.digits)


if __name__ == "__main__":
    sys.exit(main())
