"""What a job of very many objects costs, step by step, and how that grows.

    .venv/bin/python -m noria.benchmarks.studies.billion [--rows 1e8] [--folder /tmp]

An Azure inventory report of so many rows (60-character names in no order, sizes around 10 MB) is
planned; every shard gets real receipts and seals, as if it had been moved; the job is opened again
as a run would; it is reconciled with a listing of the target; and the tree of its receipts is made.
The same is done with a tenth of the rows first, so that growth shows. Nothing is sent anywhere:
what requests and bytes cost is measured by the suite. Each step is a process of its own, measured
by the operating system.

Prints Markdown: CPU, memory, disk and inodes of each step, and what a billion objects would take,
extrapolated. Takes some 600 bytes of disk a row while it runs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from noria.benchmarks.studies.billion.steps import STEPS
from noria.benchmarks.studies.measured_steps import Measured, describe, measure_steps

BILLION = 1_000_000_000
GROWTH = 10
"""The larger job has so many times the rows of the smaller one."""
WORDS = {
    "make": "inventory made (not counted)",
    "plan": "plan",
    "move": "receipts and seals",
    "list": "listing made (not counted)",
    "resume": "resume",
    "reconcile": "reconcile",
    "tree": "tree of receipts, for a proof",
}


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
    found = {count: measure_steps("billion", STEPS, count, arguments.folder) for count in counts}
    print("\n".join(table(found[counts[0]], found[counts[1]])))
    return 0


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
