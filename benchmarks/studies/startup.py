"""Where the time of a small move goes: `noria copy` of ten objects, Azurite to SeaweedFS.

    .venv/bin/python -m noria.benchmarks.studies.startup [--runs 5] [--objects 10] [--size 4096]

Shows when each phase began and how long it took (medians over the runs), how much CPU which
process used, and what outlived the command. Phases may overlap. --tree names another checkout of
Noria; of several, runs take turns, for tables of before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.dataset import ObjectSpec, upload_azure
from noria.benchmarks.measure.accounting import Usage, measure, open_account
from noria.benchmarks.servers import Azurite, S3Server, run_azurite, run_seaweedfs

ROOT = Path(__file__).resolve().parents[2]
MARKS = Path(__file__).with_name("startup_marks.py")
CONTAINER = "small"
SEED = 7

PROCESSES = {
    "startup_marks.py": "driver",
    "gcs_server": "Ray: gcs_server",
    "raylet/raylet": "Ray: raylet",
    "monitor.py": "Ray: autoscaler monitor",
    "dashboard": "Ray: dashboard",
    "tether.py": "Ray: stand-ins for agents",
    "log_monitor": "Ray: log monitor",
    "ray::DashboardAgent": "Ray: DashboardAgent",
    "ray::RuntimeEnvAgent": "Ray: RuntimeEnvAgent",
    "ray::WorkerActor": "workers",
    "ray::": "workers",
    "default_worker.py": "workers",
}
"""What a command line holds -> the process's role; the longest that fits counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUpRun:
    """One `noria copy`: what it used, and its phases in seconds after its launch."""

    usage: Usage
    phases: Mapping[str, tuple[float, float, float]]
    """Phase -> first begin, seconds in all, and CPU seconds of the driver meanwhile."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--objects", type=int, default=10)
    parser.add_argument("--size", type=int, default=4096, help="bytes of each object")
    parser.add_argument(
        "--tree", type=Path, action="append", help="a checkout of Noria to measure; may be repeated"
    )
    arguments = parser.parse_args()
    trees = arguments.tree or [ROOT]
    runs: dict[Path, list[StartUpRun]] = {tree: [] for tree in trees}
    with (
        run_azurite(in_memory=True) as azurite,
        run_seaweedfs() as seaweedfs,
        tempfile.TemporaryDirectory(prefix="noria-startup-") as folder,
    ):
        specs = [
            ObjectSpec(key=f"{n:06}", size=arguments.size, content_type="text/plain")
            for n in range(arguments.objects)
        ]
        upload_azure(specs, azurite.connection_string, CONTAINER, SEED)
        for number in range(arguments.runs + 1):
            for place, tree in enumerate(trees):
                name = f"run-{number}-{place}"
                runs[tree].append(copy_once(azurite, seaweedfs, Path(folder), name, tree))
    for tree, its_runs in runs.items():
        print(f"\n{tree}: ", end="")
        # The first run warms the page cache.
        report(its_runs[1:], arguments.objects)
    return 0


def copy_once(
    azurite: Azurite, seaweedfs: S3Server, folder: Path, name: str, tree: Path
) -> StartUpRun:
    seaweedfs.client().create_bucket(Bucket=name)
    environment = {
        **os.environ,
        **azurite.env(),
        **seaweedfs.env(),
        "PYTHONPATH": os.pathsep.join([str(tree.resolve()), os.environ.get("PYTHONPATH", "")]),
    }
    marks, errors = folder / f"{name}.json", folder / f"{name}.txt"
    source, target = f"az://{azurite.account}/{CONTAINER}", f"s3://{name}"
    command = [sys.executable, str(MARKS), str(marks), "copy", source, target]
    command += ["--job", str(folder / name), "--json"]
    with open_account() as account, errors.open("wb") as file:
        launched = time.monotonic()
        usage = measure(command, environment, account=account, roles=role, folder=tree, errors=file)
    if usage.exit_code != 0:
        raise subprocess.CalledProcessError(usage.exit_code, command, errors.read_text())
    return StartUpRun(usage=usage, phases=phases(json.loads(marks.read_text()), launched, usage))


def role(command: str) -> str:
    # What comes later on a command line may name the commands of others.
    head = " ".join(command.split(" ")[:3])
    fitting = [part for part in PROCESSES if part in head]
    return PROCESSES[max(fitting, key=len)] if fitting else "other"


def phases(
    marks: Iterable[tuple[str, float, float, float]], launched: float, usage: Usage
) -> dict[str, tuple[float, float, float]]:
    found: dict[str, tuple[float, float, float]] = {}
    for phase, begin, end, cpu in marks:
        first, seconds, used = found.get(phase, (begin - launched, 0.0, 0.0))
        found[phase] = min(first, begin - launched), seconds + end - begin, used + cpu
    began, seconds, used = found.pop("noria")
    ended, in_all = began + seconds, usage.cpu_by_role.get("driver", 0.0)
    return {
        "before main() and after it": (0.0, usage.wall_seconds - seconds, in_all - used),
        **dict(sorted(found.items(), key=lambda item: item[1])),
        "the interpreter ends": (ended, usage.wall_seconds - ended, 0.0),
    }


def report(runs: list[StartUpRun], objects: int) -> None:
    print(f"{objects} objects, {len(runs)} runs, {os.cpu_count()} cores; medians, seconds\n")
    print(f"{'phase':32}{'begins':>8}{'takes':>8}{'CPU of the driver':>20}")
    for phase in runs[-1].phases:
        seen = [run.phases[phase] for run in runs if phase in run.phases]
        begin, seconds, cpu = (statistics.median(column) for column in zip(*seen, strict=True))
        print(f"{phase:32}{begin:8.2f}{seconds:8.2f}{cpu:20.2f}")
    wall = [run.usage.wall_seconds for run in runs]
    print(f"{'all':32}{0:8.2f}{statistics.median(wall):8.2f}{'':20}   {spread(wall)}\n")
    print(f"{'process':32}{'CPU':>8}")
    roles = sorted({name for run in runs for name in run.usage.cpu_by_role})
    for name in roles:
        print(f"{name:32}{median_cpu(runs, name):8.2f}")
    cpu = [run.usage.cpu_seconds for run in runs]
    print(f"{'all':32}{statistics.median(cpu):8.2f}   {spread(cpu)}   by {runs[0].usage.method}")
    left = [line for run in runs for line in run.usage.left_behind]
    print(f"\noutlived the command by two seconds: {left or 'nothing'}")


def median_cpu(runs: list[StartUpRun], name: str) -> float:
    return statistics.median(run.usage.cpu_by_role.get(name, 0.0) for run in runs)


def spread(values: list[float]) -> str:
    return f"({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
