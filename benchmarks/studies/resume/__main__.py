"""How long a job of many shards takes to be opened again, where each look at a file takes its time.

    .venv/bin/python -m noria.benchmarks.studies.resume [--shards 166000] [--ms 2] [--folder /tmp]

Seals all shards of a job as a driver does, in no order and without delay, then opens the job as a
run does, in a process of its own that waits for so long at each metadata operation in the job
directory (slow_files.c). With --first-edition the seals lie as the first editions left them, in a
folder for each shard, and are compacted on the way.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from noria.benchmarks.studies.resume.slow_files import slowed
from noria.engine.replay import Retrial, enter_seals
from noria.engine.scheduler.events import SchedulerOptions
from noria.engine.scheduler.scheduler import Scheduler
from noria.engine.sealing import Sealer
from noria.engine.totals import Totals
from noria.manifests.errors import passing_causes
from noria.manifests.job.directory import JobDirectory, flat_shard_folder, shard_folder
from noria.manifests.job.seals import compact_seals, seal
from noria.manifests.model import (
    LeaseEnd,
    LeaseKind,
    LeaseResult,
    Level,
    Outcome,
    ReceiptSummary,
    ShardKind,
    ShardPlan,
)

UNITS = 6_000
UNIT_BYTES = 10_000_000
SEED = 14


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=int, default=166_000)
    parser.add_argument("--ms", type=float, default=2.0, help="for each metadata operation")
    parser.add_argument("--folder", type=Path, help="where the job directory is made")
    parser.add_argument("--first-edition", action="store_true")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open:
        print(json.dumps(open_job(arguments.open, arguments.shards)))
        return 0
    with tempfile.TemporaryDirectory(prefix="noria-resume-", dir=arguments.folder) as folder:
        root = Path(folder) / "job"
        seal_all(root, arguments.shards, first_edition=arguments.first_edition)
        command = [sys.executable, "-m", "noria.benchmarks.studies.resume"]
        command += ["--open", str(root), "--shards", str(arguments.shards)]
        environment = {**os.environ, **slowed(root, arguments.ms)}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        load = os.getloadavg()[0]
        print(f"{arguments.shards:,} shards, {arguments.ms} ms an operation, load {load:.1f}")
        for step, seconds in json.loads(done.stdout).items():
            print(f"{step:12}{seconds:9.2f} s")
    return 0


def seal_all(root: Path, shards: int, *, first_edition: bool) -> None:
    """A job directory in which every shard is sealed. Nothing is flushed: it is to be read only."""
    directory = JobDirectory.create(root, {"id": "resume"})
    with mock.patch.object(os, "fsync"), Sealer(directory, "sealed") as sealer:
        for shard in random.Random(SEED).sample(range(shards), shards):
            if first_edition:
                _seal_as_first_edition(directory, _result(shard))
            else:
                sealer.seal(_result(shard))


def _seal_as_first_edition(directory: JobDirectory, result: LeaseResult) -> None:
    seal(directory, result, "written")
    (name,) = directory.names("written")
    folder = flat_shard_folder("sealed", result.shard)
    path = directory.path(f"{folder}/{result.kind}-{result.generation:06d}-{result.first:08d}.json")
    path.parent.mkdir(parents=True)
    directory.path(name).rename(path)


def _result(shard: int) -> LeaseResult:
    """What a worker might report: no two are alike."""
    attempt = 1_000_000_001 + shard
    moved = UNITS * UNIT_BYTES + shard
    return LeaseResult(
        shard=shard,
        kind=LeaseKind.OBJECTS,
        first=0,
        end=UNITS,
        attempt=attempt,
        generation=0,
        how=LeaseEnd.FINISHED,
        result_name=f"{shard_folder('results', shard)}/objects-00000000-{attempt:018d}.parquet",
        result_sha256=random.Random(shard).randbytes(32).hex(),
        summary=ReceiptSummary(
            outcomes={Outcome.TRANSFERRED: UNITS - 1, Outcome.SKIPPED: 1},
            outcome_bytes={Outcome.TRANSFERRED: moved, Outcome.SKIPPED: shard},
            levels={Level.INGESTED: UNITS - 1},
            causes={"folder_stub": 1},
            bytes_moved=moved,
        ),
    )


def open_job(root: Path, shards: int) -> dict[str, float]:
    """Seconds of each step in which a run opens its job. Raises AssertionError if it is not all."""
    seconds = {}
    begun = time.perf_counter()

    def note(step: str) -> None:
        nonlocal begun
        seconds[step], begun = time.perf_counter() - begun, time.perf_counter()

    directory = JobDirectory.open(root)
    with directory.hold() as hold:
        note("hold")
        compact_seals(directory)
        note("compact")
        totals = Totals("resume", objects_total=shards * UNITS, bytes_total=shards)
        retrial = Retrial(causes=passing_causes(), attempt=hold.first_attempt - 1)
        sealed = enter_seals(directory, totals, retrial)
        note("seals")
        scheduler = Scheduler(
            (_plan(shard) for shard in range(shards)),
            settled=sealed.spans,
            generations=sealed.generations,
            first_attempt=hold.first_attempt,
            options=SchedulerOptions(),
        )
        assert scheduler.complete, "every shard is sealed"
        assert totals.sums.entries == shards * UNITS
        note("schedule")
    return seconds


def _plan(shard: int) -> ShardPlan:
    return ShardPlan(
        shard=shard,
        kind=ShardKind.OBJECTS,
        units=UNITS,
        bytes=UNITS * UNIT_BYTES,
        units_per_lease=UNITS,
    )


if __name__ == "__main__":
    sys.exit(main())
