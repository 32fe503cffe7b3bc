"""Two revisions of Noria side by side: did a change make it cheaper?

    .venv/bin/python -m noria.benchmarks.suite.compare REF [--rounds 5] [--only small,bulk]

REF is unpacked into a temporary folder; the other side is this checkout as it lies, changes
included. Both use this .venv, so that what differs is Noria's own code. Prints new over old.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.measure.spread import paired_ratios, spread_of
from noria.benchmarks.servers import ROOT
from noria.benchmarks.suite.beds import TestBed, run_null_stand, run_real_stands
from noria.benchmarks.suite.machine import describe_machine, describe_revision
from noria.benchmarks.suite.rounds import (
    Contest,
    Entry,
    Measure,
    contests_of,
    run_rounds,
    temporary_folder,
)
from noria.benchmarks.suite.tools import noria
from noria.benchmarks.suite.workloads import GB, MIB, Workload, bulk, null_bulk, small

OLD, NEW = "old", "new"
ROUNDS = 5
SMALL_SHARE = 0.25
BULK_SHARE = 0.125
NULL_BYTES = 4 * GB

# Ray's workers put the driver's folder and its script's first: what they import is asked of them.
WHERE = """
import json, ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
def where():
    from noria import engine, manifests, workers
    return [engine.__file__, manifests.__file__, workers.__file__]
print(json.dumps(where() + ray.get(ray.remote(where).remote())))
"""


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
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="small,null-bulk,bulk", help="of these workloads, some")
    arguments = parser.parse_args()
    with unpacked(arguments.ref) as old:
        for tree in (old, ROOT):
            check_imports(tree)
        machine = describe_machine()
        print(
            f"{machine['CPU']}, {machine['memory']}, load {machine['load before (1, 5, 15 min)']}"
        )
        print(f"old: {arguments.ref}; new: {describe_revision(ROOT)}", flush=True)
        contests = [compare(name, old, arguments.rounds) for name in str(arguments.only).split(",")]
    print()
    for line in table(contests):
        print(line)
    return 0


@contextlib.contextmanager
def unpacked(ref: str) -> Iterator[Path]:
    """The files of a revision, in a folder that goes again; the repository is only read."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", ref], stdout=subprocess.PIPE, check=False
    )
    if archive.returncode != 0:
        sys.exit(f"{ref} is no revision of this repository")
    with temporary_folder() as folder:
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
        yield folder


def check_imports(tree: Path) -> None:
    """Make sure that driver and workers run the code of `tree`. Raises RuntimeError."""
    with temporary_folder() as folder:
        environment = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "RAY_TMPDIR": str(folder),
            "PYTHONPATH": str(tree),
        }
        done = subprocess.run(
            [sys.executable, "-c", WHERE],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"Noria of {tree} cannot be imported: {done.stderr[-2000:]}")
    elsewhere = [
        path
        for path in json.loads(done.stdout.splitlines()[-1])
        if not Path(path).is_relative_to(tree)
    ]
    if elsewhere:
        raise RuntimeError(f"instead of {tree}, Python imports {', '.join(elsewhere)}")


def compare(name: str, old: Path, rounds: int) -> Contest:
    with _stand(name) as (workload, test_bed):
        entries = [
            Entry(workload=workload, test_bed=test_bed, tool=noria(name=side, tree=tree))
            for side, tree in ((OLD, old), (NEW, ROOT))
        ]
        runs = list(run_rounds(entries, rounds=rounds, say=lambda line: print(line, flush=True)))
    [contest] = contests_of(entries, runs)
    return contest


@contextlib.contextmanager
def _stand(name: str) -> Iterator[tuple[Workload, TestBed]]:
    if name == "null-bulk":
        workload = null_bulk(NULL_BYTES, tls=False)
        with run_null_stand(workload.objects, tls=False) as null_stand:
            yield workload, null_stand
        return
    if name not in ("small", "bulk"):
        sys.exit(f"no such workload: {name}; there are small, null-bulk, bulk")
    workload = small(SMALL_SHARE) if name == "small" else bulk(BULK_SHARE)
    with run_real_stands([workload]) as [test_bed]:
        yield workload, test_bed


def table(contests: Sequence[Contest]) -> Iterator[str]:
    """Medians of both sides, and new over old in each round: median, lowest, highest."""
    yield f"{'':12}{'':14}{'old':>10}{'new':>10}   new/old"
    for contest in contests:
        for column in COLUMNS:
            old, new = (contest.by_round(side, column.measure) for side in (OLD, NEW))
            line = f"{contest.workload.name:12}{column.title:14}"
            ratio, before, after = (
                paired_ratios(new, old),
                spread_of(old.values()),
                spread_of(new.values()),
            )
            if ratio is None or before is None or after is None:
                yield line + "no pair of valid runs"
                continue
            yield (
                f"{line}{before.median:10,.{column.digits}f}{after.median:10,.{column.digits}f}"
                f"   {ratio.text()}"
            )


if __name__ == "__main__":
    sys.exit(main())
