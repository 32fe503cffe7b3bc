"""How far `noria estimate` is from what then happens: the demo's data, and 10 PB simulated.

    .venv/bin/python -m noria.benchmarks.studies.estimate [--bytes N] [--rounds N] [--paper]

Each round estimates with --probe, then copies for real, both by the command as a user gives it; the
times compared are those of the whole command. `--paper` compares with the simulator instead.
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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.benchmarks.servers import run_azurite, run_seaweedfs
from noria.benchmarks.servers.dataset import build_mixed, object_bytes, upload_azure
from noria.benchmarks.simulate.command import SimulationOptions, simulate
from noria.benchmarks.simulate.plan import made_up_job
from noria.engine.estimate.counts import WorkCounts
from noria.engine.estimate.rates import Means, RateModel, forecast

SEED = 20
CONTAINER = "projects"
WORKERS = 2
NORIA = Path(sys.executable).with_name("noria")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bytes", type=int, default=1_000_000_000)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--paper", action="store_true")
    given = arguments.parse_args()
    print("| what | estimated s | real s | error |\n|---|---|---|---|", flush=True)
    if given.paper:
        on_paper()
    else:
        for_real(given.bytes, given.rounds)
    return 0


def for_real(size: int, rounds: int) -> None:
    specs = build_mixed(size, SEED)
    with (
        tempfile.TemporaryDirectory(prefix="noria-estimate-") as name,
        run_azurite() as azurite,
        run_seaweedfs() as seaweedfs,
    ):
        folder = Path(name)
        for number, spec in enumerate(specs):
            path = folder / "source" / f"{number % 100}" / f"{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(object_bytes(SEED, spec.key, 0, spec.size))
        upload_azure(specs, azurite.connection_string, CONTAINER, SEED)
        environment = {**os.environ, **azurite.env(), **seaweedfs.env()}
        sources = {
            "file to SeaweedFS": f"file://{folder}/source",
            "Azurite to SeaweedFS": f"az://{azurite.account}/{CONTAINER}",
        }
        for number in range(rounds):
            for what, source in sources.items():
                bucket = f"arrivals-{number}-{source[:2]}"
                seaweedfs.client().create_bucket(Bucket=bucket)
                ends = [source, f"s3://{bucket}", "--workers", str(WORKERS)]
                found = noria("estimate", *ends, "--probe", environment=environment)
                began = time.monotonic()
                job = ["--job", f"{folder}/job-{bucket}", "--metrics-address", "off"]
                noria("copy", *ends, *job, environment=environment)
                say(what, found["seconds_of_work"], time.monotonic() - began)


def on_paper() -> None:
    size, objects, shards = 10**16, 10**9, 20_000
    for workers, faults in ((40, 0.0), (40, 1.0), (400, 1.0)):
        options = SimulationOptions(
            bytes=str(size), objects=str(objects), shards=shards, workers=workers, faults=faults
        )
        found = simulate(options, lambda line: None)
        plan = made_up_job(size, objects, shards, random.Random(f"plan {options.seed}"))
        counts = WorkCounts(
            objects=objects,
            bytes=plan.bytes,
            parts=0,
            transfers=sum(shard.units for shard in plan.shards),
            classes=(),
        )
        store_rate = min(found.site.source_rate, found.site.target_rate)
        means = Means(workers=workers, bandwidth=store_rate)
        expected = forecast(counts, RateModel(), means, source="azure", target="aws")
        say(
            f"10 PB, simulated, {workers} workers, faults x {faults:g}",
            expected.seconds,
            found.run.seconds,
        )


def noria(*arguments: str, environment: Mapping[str, str]) -> dict[str, Any]:
    ended = subprocess.run(
        [NORIA, *arguments, "--json"], env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"noria {arguments[0]}: exit {ended.returncode}\n{ended.stderr}")
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def say(what: str, estimated: float, real: float) -> None:
    print(f"| {what} | {estimated:,.1f} | {real:,.1f} | {estimated / real - 1:+.0%} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
