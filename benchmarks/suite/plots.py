"""The suite's figures as pictures: one measure each, a row of bars for every workload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from noria.benchmarks.measure.spread import spread_of
from noria.benchmarks.suite.rounds import Contest, Measure

COLOURS = {
    "noria": ("#0b6e99", "#7bb4cc"),
    "rclone": ("#a5adb6", "#cfd4d9"),
    "juicefs": ("#7d8791", "#b9c0c6"),
    "msc": ("#5f6973", "#99a2aa"),
    "loop": ("#d9a441", "#ecd19f"),
}
"""By tool: its first way, its further ways. Noria stands out; the peers are shades of one grey."""
INCHES_WIDE = 8.0
INCHES_A_BAR = 0.34
INCHES_A_HEADING = 0.75
DOTS_PER_INCH = 130


def plot_measure(
    contests: Sequence[Contest], measure: Measure, *, title: str, path: Path, digits: int
) -> None:
    """Medians as bars, lowest to highest as whiskers. Raises ValueError if nothing was run."""
    heights = [len(contest.tools) for contest in contests]
    inches_high = sum(INCHES_A_HEADING + INCHES_A_BAR * count for count in heights) + 0.5
    figure = Figure(figsize=(INCHES_WIDE, inches_high), layout="constrained")
    rows = figure.subplots(
        len(contests), 1, squeeze=False, height_ratios=[count + 0.4 for count in heights]
    )
    for axes, contest in zip(rows[:, 0], contests, strict=True):
        _draw_contest(axes, contest, measure, digits)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _draw_contest(axes: Axes, contest: Contest, measure: Measure, digits: int) -> None:
    axes.set_title(f"{contest.workload.name}: {contest.workload.title}", loc="left", fontsize=9)
    seen: set[str] = set()
    highest = 0.0
    for place, tool in enumerate(contest.tools):
        found = spread_of(contest.by_round(tool.name, measure).values())
        colour = COLOURS[tool.tool][tool.tool in seen]
        seen.add(tool.tool)
        if found is None:
            axes.text(0, place, " no valid run", va="center", fontsize=8)
            continue
        highest = max(highest, found.highest)
        axes.barh(place, found.median, height=0.7, color=colour)
        axes.errorbar(
            found.median,
            place,
            xerr=[[found.median - found.lowest], [found.highest - found.median]],
            color="#333333",
            linewidth=1,
            capsize=2.5,
        )
        axes.annotate(
            f"{found.median:,.{digits}f}",
            (found.highest, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(contest.tools)), [one.name for one in contest.tools])
    axes.set_ylim(len(contest.tools) - 0.5, -0.5)
    axes.set_xlim(0, highest * 1.14 or 1)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.tick_params(axis="both", labelsize=8, length=0)
    axes.grid(axis="x", color="#e3e6e8", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
