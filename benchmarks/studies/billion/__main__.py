"""What a job of very many objects costs, step by step, and how that grows.

    .venv/bin/python -m noria.benchmarks.studies.billion [--rows 1e8] [--folder /tmp]

An Azure inventory report of so many rows (60-character names in no order, sizes around 10 MB) is
planned; every shard gets real receipts and seals, as if it had been moved; the job is opened again
as a run would; and it is reconciled with a listing of the target. The same is done with a tenth of
the rows first, so that growth shows. Nothing is sent anywhere: what requests and bytes cost is
measured by the suite. Each step is a process of its own, measured by the operating system.

Prints Markdown: CPU, memory, disk and inodes of each step, and what a billion objects would take,
extrapolated. Takes some 600 bytes of disk a row while it runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from noria.benchmarks.measure.accounting import Usage, measure, open_account
from noria.benchmarks.studies.billion.steps import STEPS

BILLION = 1_000_000_000
GROWTH = 10
"""The larger job has so many times the rows of the smaller one."""
LOOK_SECONDS = 1.0
LIMIT_SECONDS = 4 * 3600.0
WORDS = {
    "make": "inventory made (not counted)",
    "plan": "plan",
    "move": "receipts and seals",
    "list": "listing made (not counted)",
    "resume": "resume",
    "reconcile": "reconcile",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One step over one number of rows."""

    rows: int
    usage: Usage
    job_bytes: int
    """Of the job directory when the step has ended."""
    inodes: int
    scratch_bytes: int
    """Beside it, at most."""

    @property
    def cpu_a_million(self) -> float:
        return self.usage.cpu_seconds / self.rows * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=float, default=1e8)
    parser.add_argument("--folder", type=Path, help="where some 600 bytes a row find room")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rows = int(arguments.rows)
    if arguments.step:
        STEPS[arguments.step](arguments.folder, rows)
        return 0
    print(describe(), flush=True)
    counts = (rows // GROWTH, rows)
    found = {count: measure_job(count, arguments.folder) for count in counts}
    print("\n".join(table(found[counts[0]], found[counts[1]])))
    return 0


def describe() -> str:
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores {platform.machine()}, load {load:.1f} before, "
        f"Python {platform.python_version()}, pyarrow {pa.__version__}"
    )


def measure_job(rows: int, folder: Path | None) -> dict[str, Measured]:
    with tempfile.TemporaryDirectory(prefix="noria-billion-", dir=folder) as name:
        found = {}
        for step in STEPS:
            found[step] = measure_step(step, rows, Path(name))
            used = found[step].usage
            print(
                f"{rows:>13,} {step:10} {used.wall_seconds:8.1f} s wall "
                f"{used.cpu_seconds:8.1f} s CPU {used.peak_pss_bytes / 1e6:7,.0f} MB",
                file=sys.stderr,
                flush=True,
            )
    return found


def measure_step(step: str, rows: int, folder: Path) -> Measured:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "noria.benchmarks.studies.billion", "--rows", str(rows)]
    command += ["--folder", str(folder), "--step", step]
    watch = ScratchWatch([scratch, folder / "job"])
    before = occupied(folder / "job")[0]
    with open_account() as account, watch:
        usage = measure(
            command,
            {**os.environ, "TMPDIR": str(scratch)},
            account=account,
            output=sys.stderr.fileno(),
            errors=sys.stderr.fileno(),
            limit_seconds=LIMIT_SECONDS,
        )
    if usage.exit_code:
        sys.exit(f"the step {step} of {rows:,} rows ended with {usage.exit_code}")
    job_bytes, inodes = occupied(folder / "job")
    return Measured(
        rows=rows,
        usage=usage,
        job_bytes=job_bytes,
        inodes=inodes,
        scratch_bytes=max(0, watch.most_bytes - max(before, job_bytes)),
    )


class ScratchWatch:
    """The most that folders hold while a step runs, seen every LOOK_SECONDS."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.most_bytes = 0
        self._folders = folders
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> ScratchWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            held = sum(occupied(folder)[0] for folder in self._folders)
            self.most_bytes = max(self.most_bytes, held)


def occupied(folder: Path) -> tuple[int, int]:
    """Bytes on the disk, and inodes, below a folder."""
    size = inodes = 0
    waiting = [folder] if folder.is_dir() else []
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    inodes += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        except FileNotFoundError:
            continue  # gone meanwhile
    return size, inodes


def table(small: dict[str, Measured], large: dict[str, Measured]) -> list[str]:
    """Markdown. Growth is of the price of a row: 1.00 is linear."""
    rows = next(iter(large.values())).rows
    few = next(iter(small.values())).rows
    lines = [
        f"| step | CPU s/M at {few:,} | CPU s/M at {rows:,} | growth | wall s | peak MB at "
        f"{few:,} | peak MB at {rows:,} | scratch MB | job directory MB | inodes "
        "| at 1,000,000,000 rows, extrapolated |",
        "|---|" + "--:|" * 9 + "---|",
    ]
    for step, most in large.items():
        least = small[step]
        growth = most.cpu_a_million / least.cpu_a_million
        # What grew from the smaller to the larger job is taken to grow on.
        hours = most.usage.cpu_seconds * BILLION / rows * max(1.0, growth) / 3600
        scratch = most.scratch_bytes * BILLION / rows / 1e9
        lines.append(
            f"| {WORDS[step]} | {least.cpu_a_million:.2f} | {most.cpu_a_million:.2f} | {growth:.2f}"
            f" | {most.usage.wall_seconds:,.0f} | {least.usage.peak_pss_bytes / 1e6:,.0f}"
            f" | {most.usage.peak_pss_bytes / 1e6:,.0f} | {most.scratch_bytes / 1e6:,.0f}"
            f" | {most.job_bytes / 1e6:,.0f} | {most.inodes:,}"
            f" | {hours:.1f} core-hours, {scratch:.0f} GB scratch |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
