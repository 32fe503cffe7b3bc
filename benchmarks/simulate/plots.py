"""The picture of a simulation: throughput over time, and what went wrong when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from noria.benchmarks.simulate.passes import SimulatedPass
from noria.benchmarks.simulate.report import SimulationFindings, tail_seconds
from noria.benchmarks.simulate.settings import DAY, HOUR, MINUTE
from noria.engine.terminal.figures import duration_text, size_text
from noria.manifests.count_text import count_text

COLOURS = {
    "throughput": "#0b6e99",
    "repeated": "#d62728",
    "throttled": "#f3e3c2",
    "planned": "#c8a24a",
    "proven": "#7a9e7e",
}
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
CURVE_POINTS = 100
"""Of each pass: what grows evenly is bent where the axis is logarithmic."""
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


def plot_passes(found: SimulationFindings, path: Path) -> None:
    """Draw a migration in passes as a PNG. Raises OSError if it cannot be written."""
    figure = Figure(figsize=INCHES, layout="constrained")
    heights = [3.2, 0.6 + 0.32 * len(found.passes)]
    behind, bars = figure.subplots(2, 1, height_ratios=heights)
    _draw_behind(behind, found.passes)
    _draw_passes(bars, found.passes)
    figure.suptitle(_passes_title(found), x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.savefig(path, dpi=DOTS_PER_INCH, format="png")


def _passes_title(found: SimulationFindings) -> str:
    plan, last = found.plan, found.passes[-1]
    return (
        f"{size_text(plan.bytes)} in {plan.objects:,} objects, {found.site.workers:,} workers, "
        f"{last.number} passes: under a freeze the last one takes {duration_text(last.seconds)}"
    )


def _draw_behind(axes: Axes, passes: Sequence[SimulatedPass]) -> None:
    """How old what stands at the target is: it grows until a pass ends."""
    unit, name = _time_unit(passes[-1].end)
    times, ages = [0.0], [0.0]
    for each in passes:
        as_of = each.previous_begun or 0.0
        for share in range(1, CURVE_POINTS + 1):
            now = each.begun + each.seconds * share / CURVE_POINTS
            times.append(now)
            ages.append((each.begun if each.frozen else now) - as_of)
        times.append(each.end)
        ages.append(0.0 if each.frozen else each.seconds)
    axes.plot(
        [at / unit for at in times], [age / HOUR for age in ages], color=COLOURS["throughput"]
    )
    axes.set_yscale("symlog", linthresh=1.0)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0, 2 * max(ages) / HOUR)
    axes.set_xlim(0, passes[-1].end / unit)
    axes.set_ylabel("hours that the target is behind", fontsize=9)
    axes.set_xlabel(name, fontsize=9)
    _tidy(axes)


def _draw_passes(axes: Axes, passes: Sequence[SimulatedPass]) -> None:
    """What each pass takes; the first one is longer than the picture."""
    longest = max(each.seconds for each in passes[1:]) if len(passes) > 1 else passes[0].seconds
    room = 1.45 * longest / HOUR
    for place, each in enumerate(passes):
        left = 0.0
        for what, seconds in (
            ("planned", each.before_seconds),
            ("throughput", each.moving_seconds),
            ("proven", each.after_seconds),
        ):
            width = min(seconds / HOUR, max(0.0, room - left))
            axes.barh(place, width, left=left, height=0.62, color=COLOURS[what])
            left += width
        what_moves = f"{each.new + each.changed:,} objects, {size_text(each.bytes)}"
        inside = left >= room
        longer = ", longer than drawn" if inside else ""
        text = f" {duration_text(each.seconds)}{longer}: {what_moves}"
        axes.text(
            room * 0.99 if inside else left,
            place,
            text,
            ha="right" if inside else "left",
            va="center",
            fontsize=8,
            color="white" if inside else INK,
        )
    labels = [f"pass {each.number}{' (freeze)' if each.frozen else ''}" for each in passes]
    axes.set_yticks(range(len(passes)), labels)
    axes.set_ylim(len(passes) - 0.4, -0.6)
    axes.set_xlim(0, room)
    axes.set_xlabel("hours", fontsize=9)
    names = {"planned": "list and plan", "throughput": "move", "proven": "list again and prove"}
    handles = [Patch(color=COLOURS[what], label=text) for what, text in names.items()]
    axes.legend(
        handles=handles, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False
    )
    _tidy(axes)


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
