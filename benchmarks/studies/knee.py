"""Budgets and throughput over time on simulated stores, as a picture and a table.

    .venv/bin/python -m noria.benchmarks.studies.knee [--to knee.png] [--seed 7]

Runs the scenarios of store_scenarios.py: the budget of each store against its knee
(dotted: the requests in flight that just keep it busy), and what the job moves against the best
there is. Time is simulated; nothing is sent.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from noria.benchmarks.studies.store_scenarios import SCENARIOS, ScenarioOutcome

COLUMNS = 4
COLOURS = {"source": "tab:blue", "target": "tab:orange"}
SMOOTH_SECONDS = 10


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--to", type=Path, default=Path("knee.png"))
    arguments.add_argument("--seed", type=int, default=7)
    asked = arguments.parse_args()
    rows = -(-len(SCENARIOS) // COLUMNS)
    figure, axes = plt.subplots(2 * rows, COLUMNS, figsize=(5 * COLUMNS, 4.4 * rows), squeeze=False)
    print(f"{'scenario':32}  of best  refused  {'budget: usual, greatest, and the knee':40}")
    for place, (name, scenario) in enumerate(SCENARIOS.items()):
        outcome = scenario.simulate(asked.seed)
        print(report(name, outcome), flush=True)
        row, column = 2 * (place // COLUMNS), place % COLUMNS
        draw_budgets(axes[row][column], name, outcome)
        draw_throughput(axes[row + 1][column], outcome)
    for left_over in range(len(SCENARIOS), rows * COLUMNS):
        row, column = 2 * (left_over // COLUMNS), left_over % COLUMNS
        axes[row][column].set_axis_off()
        axes[row + 1][column].set_axis_off()
    figure.tight_layout()
    figure.savefig(asked.to, dpi=80)
    print(f"drawn: {asked.to}")
    return 0


def report(name: str, outcome: ScenarioOutcome) -> str:
    budgets = "; ".join(
        f"{role} {outcome.usual(role):.0f}, {max(outcome.budgets(role))}, "
        f"{outcome.scenario.knee(role):.0f}"
        for role in outcome.scenario.models
    )
    return f"{name:32}{outcome.yield_share:>9.0%}{outcome.throttle_share:>9.2%}  {budgets}"


def draw_budgets(axis: Any, name: str, outcome: ScenarioOutcome) -> None:
    seconds = [sample.now for sample in outcome.samples]
    for role in outcome.scenario.models:
        budgets = [sample.budgets[role] for sample in outcome.samples]
        axis.step(seconds, budgets, where="post", color=COLOURS[role], label=role, linewidth=1)
        knee = outcome.scenario.knee(role)
        axis.axhline(knee, color=COLOURS[role], linestyle=":", linewidth=1)
    axis.set_yscale("log", base=2)
    axis.yaxis.set_major_formatter("{x:.0f}")
    axis.set_title(name, fontsize=10)
    axis.set_ylabel("in flight")
    axis.legend(fontsize=7, loc="upper right")


def draw_throughput(axis: Any, outcome: ScenarioOutcome) -> None:
    last = list(outcome.scenario.models)[-1]
    best = outcome.scenario.best_requests_per_second
    seconds = [sample.now for sample in outcome.samples]
    shares = [sample.windows[last].requests / best for sample in outcome.samples]
    smooth = [
        sum(shares[max(0, end - SMOOTH_SECONDS) : end]) / min(end, SMOOTH_SECONDS)
        for end in range(1, len(shares) + 1)
    ]
    axis.plot(seconds, shares, color="0.8", linewidth=0.6)
    axis.plot(seconds, smooth, color="tab:green", linewidth=1.2, label=f"{SMOOTH_SECONDS} s mean")
    refused = [sample.windows[last].throttle_share for sample in outcome.samples]
    if any(refused):
        axis.plot(seconds, refused, color="tab:red", linewidth=0.8, label="refused")
    axis.axhline(1.0, color="0.5", linestyle=":", linewidth=1)
    axis.set_ylim(0, 1.6)
    axis.set_ylabel("of the best")
    axis.set_xlabel("s")
    axis.legend(fontsize=7, loc="lower right")


if __name__ == "__main__":
    sys.exit(main())
