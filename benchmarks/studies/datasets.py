"""Many small datasets in one migration beside one dataset of as many objects: the CPU of both.

    .venv/bin/python -m noria.benchmarks.studies.datasets [--datasets 50 100 200] [--objects 1000]

From the null source to the null sink, which cost next to nothing, over plain http; objects of 4
KiB. The datasets are containers of one account, and go below prefixes of one bucket. Prints, for
each number of datasets: CPU seconds of all processes of `noria run`, plan included, over both; its
wall time; the most memory that all of them had at a time; and many over one. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.measure.accounting import Usage, measure, open_account
from noria.benchmarks.null.stores import NullSink, NullSource, run_null_sink, run_null_source
from noria.benchmarks.servers import ROOT
from noria.benchmarks.suite.machine import describe_machine, describe_revision
from noria.benchmarks.suite.rounds import temporary_folder
from noria.benchmarks.suite.tools import noria_role

OBJECTS = 1000
DATASETS = (50, 100, 200)
OBJECT_BYTES = 4096
MIB = 1024 * 1024
PROGRAM = Path(sys.executable).with_name("noria")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One number of datasets, and one dataset of as many objects."""

    datasets: int
    many: Usage
    one: Usage

    @property
    def ratio(self) -> float:
        return self.many.cpu_seconds / self.one.cpu_seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--datasets", type=int, nargs="+", default=DATASETS)
    parser.add_argument("--objects", type=int, default=OBJECTS, help="of each dataset")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    machine = describe_machine()
    print(f"{machine['CPU']}, {machine['memory']}, {describe_revision(ROOT)}\n")
    rounds = [
        list(run_pairs(arguments.datasets, arguments.objects)) for _ in range(arguments.rounds)
    ]
    print("\n".join(table(rounds, arguments.objects)))
    return 0


def run_pairs(numbers: Sequence[int], objects: int) -> Iterator[Pair]:
    """Each number of datasets, then one dataset of as many objects, on fresh stores."""
    for number in numbers:
        many = run_once(number, objects)
        one = run_once(1, number * objects)
        pair = Pair(datasets=number, many=many, one=one)
        print(
            f"  {number} datasets: {many.cpu_seconds:.2f} CPU s in {many.wall_seconds:.1f} s, one: "
            f"{one.cpu_seconds:.2f} CPU s in {one.wall_seconds:.1f} s, {pair.ratio:.2f}",
            file=sys.stderr,
            flush=True,
        )
        yield pair


def run_once(datasets: int, objects: int) -> Usage:
    """`noria run` of a job file. Raises CalledProcessError unless all objects arrive."""
    keys = ((f"{number:07}", OBJECT_BYTES) for number in range(objects))
    with (
        run_null_source(keys) as source,
        run_null_sink() as sink,
        temporary_folder() as folder,
        open_account() as account,
    ):
        (folder / "job.toml").write_text(job_text(datasets))
        log = folder / "output.log"
        command = [str(PROGRAM), "run", "job.toml", "--metrics-address", "off"]
        with log.open("wb") as output:
            usage = measure(
                command,
                environment(folder, source, sink),
                account=account,
                roles=noria_role,
                folder=folder,
                output=output,
                errors=output,
                limit_seconds=7200,
            )
        if usage.exit_code:
            sys.stderr.write(log.read_text())
            raise subprocess.CalledProcessError(usage.exit_code, command)
        return usage


def job_text(datasets: int) -> str:
    """One dataset is a job of its own, as it was always written."""
    if datasets == 1:
        return '[source]\nurl = "az://null/data"\n[target]\nurl = "s3://sink/"\n'
    return "\n".join(
        f'[[datasets]]\nname = "set-{number:04}"\nsource = "az://null/set-{number:04}"\n'
        f'target = "s3://sink/set-{number:04}/"\n'
        for number in range(datasets)
    )


def environment(folder: Path, source: NullSource, sink: NullSink) -> dict[str, str]:
    home = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    return {**os.environ, **source.env(), **sink.env(), **home}


def table(rounds: Sequence[Sequence[Pair]], objects: int) -> Iterator[str]:
    """Medians over the rounds."""
    yield f"| datasets of {objects:,} | CPU s | wall s | peak MiB | one: CPU s | many/one |"
    yield "|---|---|---|---|---|---|"
    for pairs in zip(*rounds, strict=True):
        many, one = [pair.many for pair in pairs], [pair.one for pair in pairs]
        yield (
            f"| {pairs[0].datasets} | {_median(each.cpu_seconds for each in many):.1f} "
            f"| {_median(each.wall_seconds for each in many):.0f} "
            f"| {_median(each.peak_rss_bytes / MIB for each in many):.0f} "
            f"| {_median(each.cpu_seconds for each in one):.1f} "
            f"| {_median(pair.ratio for pair in pairs):.2f} |"
        )


def _median(values: Iterator[float]) -> float:
    return statistics.median(list(values))


if __name__ == "__main__":
    raise SystemExit(main())
