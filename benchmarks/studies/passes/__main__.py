"""What a later pass costs for each object that stands, and how that grows.

    .venv/bin/python -m noria.benchmarks.studies.passes [--rows 1e6,1e7,3e7] [--folder /tmp]

An Azure inventory report (names of 61 to 93 characters in no order) is planned, and every shard
gets real receipts and seals, as if it had been moved. A later report has other ETags for 0.5 % of
the objects, 0.2 % new ones, and lacks 0.1 %: a second pass is planned against the state after the
first, gets its receipts, is folded into the next state, and is reconciled with a listing of the
target. Nothing is sent anywhere. Each step is a process of its own.

Prints Markdown: CPU a million rows and peak memory of each step at each number of rows, and each
beside the first plan; up to a million rows the least of three rounds. Takes some 900 bytes of disk
a row while it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from noria.benchmarks.studies.measured_steps import Measured, describe, measure_steps
from noria.benchmarks.studies.passes.steps import STEPS

WORDS = {
    "make": "inventory made (not counted)",
    "plan": "plan of the first pass",
    "move": "receipts and seals of the first pass",
    "fold": "state after the first pass",
    "change": "later inventory made (not counted)",
    "plan-later": "plan of a later pass",
    "move-later": "receipts and seals of a later pass",
    "fold-later": "state after a later pass",
    "list": "listing made (not counted)",
    "reconcile": "reconcile of a later pass",
}
FIRST_PLAN = "plan"
FEW_ROWS = 1_000_000
"""Up to so many are measured in several rounds."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", default="1e6,1e7,3e7", help="numbers of rows, rising")
    parser.add_argument("--rounds", type=int, default=3, help="of up to a million rows")
    parser.add_argument("--folder", type=Path, help="where some 900 bytes a row find room")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    counts = [int(float(text)) for text in arguments.rows.split(",")]
    if arguments.step:
        STEPS[arguments.step](arguments.folder, counts[0])
        return 0
    print(describe(), flush=True)
    found = {}
    for rows in counts:
        rounds = arguments.rounds if rows <= FEW_ROWS else 1
        found[rows] = least(
            [measure_steps("passes", STEPS, rows, arguments.folder) for _ in range(rounds)]
        )
        print(f"load {os.getloadavg()[0]:.1f} after {rows:,} rows", flush=True)
    print("\n".join(table(found)))
    return 0


def least(rounds: Sequence[Mapping[str, Measured]]) -> dict[str, Measured]:
    """Each step as it took the least CPU: what else a machine does only adds to it."""
    return {
        step: min((each[step] for each in rounds), key=lambda one: one.usage.cpu_seconds)
        for step in STEPS
    }


def table(found: Mapping[int, Mapping[str, Measured]]) -> list[str]:
    """Markdown; the last column is CPU over that of the first plan of as many rows."""
    counts = list(found)
    heads = [
        *(f"CPU s/M at {rows:,}" for rows in counts),
        *(f"peak MB at {rows:,}" for rows in counts),
        f"wall s at {counts[-1]:,}",
        f"over the first plan at {counts[-1]:,}",
    ]
    lines = [f"| step | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    for step in STEPS:
        each = [found[rows][step] for rows in counts]
        last = each[-1]
        cells = [
            *(f"{one.cpu_a_million:.2f}" for one in each),
            *(f"{one.usage.peak_rss_bytes / 1e6:,.0f}" for one in each),
            f"{last.usage.wall_seconds:,.0f}",
            f"{last.cpu_a_million / found[counts[-1]][FIRST_PLAN].cpu_a_million:.2f}",
        ]
        lines.append(f"| {WORDS[step]} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
