"""The picture of a simulation: throughput over time, and what went wrong when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from noria.benchmarks.simulate.report import SimulationFindings, tail_seconds
from noria.benchmarks.simulate.settings import DAY, HOUR, MINUTE
from noria.engine.terminal.figures import duration_text, size_text
from noria.manifests.count_text import count_text

COLOURS = {"throughput": "#0b6e99", "repeated": "#d62728", "throttled": "#f3e3c2"}
GRID, INK = "#e3e6e8", "#333333"
RESTART = "driver restarted"
ROWS: Mapping[str, str] = {
    "node lost": "node lost",
    "node drained": "node drained",
    "worker crashed": "worker crashed",
    "worker silent": "worker silent",
    "node cut off": "node cut off",
    "node frozen": "node frozen",
    "worker lost: heartbeat_expired": "heartbeat expired",
    "driver stood still": "driver stood still",
    "upload lost": "upload lost",
    "lease hung": "lease hung",
    "quarantine": "quarantine",
}
"""What is marked in rows below the curve."""
POINTS = 600
"""Of the curve: more than the picture has room for would only blur it."""
INCHES = (10.0, 5.6)
DOTS_PER_INCH = 130


def plot_run(found: SimulationFindings, path: Path) -> None:
    """Draw it as a PNG. Raises OSError if it cannot be written."""
    unit, name = _time_unit(found.run.seconds)
    rows = [(what, text) for what, text in ROWS.items() if _times(found, what)]
    figure = Figure(figsize=INCHES, layout="constrained")
    heights = [4.0, 0.4 + 0.28 * max(1, len(rows))]
    curve, marks = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    _draw_curve(curve, found, unit)
    _draw_marks(marks, found, rows, unit)
    marks.set_xlabel(name, fontsize=9)
    marks.set_xlim(0, found.run.seconds / unit)
    figure.suptitle(_title(found), x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.savefig(path, dpi=DOTS_PER_INCH, format="png")


def _title(found: SimulationFindings) -> str:
    run, plan = found.run, found.plan
    return (
        f"{size_text(plan.bytes)}, {count_text(len(plan.shards), 'shard')}, "
        f"{count_text(found.site.workers, 'worker')}: "
        f"{duration_text(run.seconds)}, tail {duration_text(tail_seconds(run))}, "
        f"{run.figures.repeated_bytes / max(1, plan.bytes):.2%} moved again"
    )


def _time_unit(seconds: float) -> tuple[float, str]:
    if seconds > 3 * DAY:
        return DAY, "days"
    return (HOUR, "hours") if seconds > 3 * HOUR else (MINUTE, "minutes")


def _times(found: SimulationFindings, what: str) -> list[float]:
    return [when for when, mark in found.run.figures.marks if mark == what]


def _rates(values: list[float], bin_seconds: float) -> tuple[list[float], list[float]]:
    """Times and GB/s, with as many bins taken together as the picture asks for.

    The last bin is not full, so it goes into the one before.
    """
    group = max(1, round(len(values) / POINTS))
    times, rates = [], []
    for first in range(0, max(1, len(values) - group), group):
        several = values[first : first + group]
        times.append((first + len(several) / 2) * bin_seconds)
        rates.append(sum(several) / len(several) / bin_seconds / 1e9)
    return times, rates


def _draw_curve(axes: Axes, found: SimulationFindings, unit: float) -> None:
    run = found.run
    for first, end in run.figures.throttled:
        axes.axvspan(first / unit, end / unit, color=COLOURS["throttled"], linewidth=0)
    for when in _times(found, RESTART):
        axes.axvline(when / unit, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    times, rates = _rates(run.figures.moved, run.cadence.bin_seconds)
    axes.plot([at / unit for at in times], rates, color=COLOURS["throughput"], linewidth=1.1)
    limit = min(found.site.source_rate, found.site.target_rate) / 1e9
    axes.axhline(limit, color="#999999", linewidth=0.8)
    axes.set_ylabel("GB/s", fontsize=9)
    axes.set_ylim(0, max([*rates, limit]) * 1.08 or 1)
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=COLOURS["throughput"], label="moved"),
        Line2D([], [], color="#999999", linewidth=0.8, label="what the stores give"),
        Patch(color=COLOURS["throttled"], label="a store throttles"),
        Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label=RESTART),
    ]
    axes.legend(
        handles=handles, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), frameon=False
    )
    _tidy(axes)


def _draw_marks(
    axes: Axes, found: SimulationFindings, rows: list[tuple[str, str]], unit: float
) -> None:
    for place, (what, _) in enumerate(rows):
        times = [when / unit for when in _times(found, what)]
        axes.scatter(times, [place] * len(times), s=24, marker="|", color=COLOURS["repeated"])
    labels = [f"{text} ({len(_times(found, what)):,})" for what, text in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.tick_params(axis="both", labelsize=8, length=0)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
