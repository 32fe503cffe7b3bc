"""The plots of `noria bench`: a PNG for each measure, with every run and each setting's median."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from noria.benchmarks.sweep.choice import Labels, SweepRun, SweepSummary, setting_text

INK, GRID, CHOSEN = "#222222", "#dddddd", "#d62728"
COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#bcbd22", "#7f7f7f")
MARKERS = "osD^vPX*"
LINES_MOST = len(COLORS)
APART = 0.09
"""Between the lines of a plot, in steps of the axis: their ranges would hide each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What one plot is about."""

    file: str
    title: str
    axis: str
    read: Callable[[SweepRun], float]


THROUGHPUT = Measure(
    file="throughput.png",
    title="Throughput by setting",
    axis="MB/s",
    read=lambda run: run.bytes_per_second / 1e6,
)
CPU = Measure(
    file="cpu.png",
    title="CPU by setting",
    axis="CPU seconds per GB",
    read=lambda run: run.cpu_seconds_per_gb,
)


def plot(
    measure: Measure,
    summaries: Sequence[SweepSummary],
    chosen: Labels | None,
    note: str,
    folder: Path,
) -> Path | None:
    """Draw one measure; None if no run ended well."""
    shown = [summary for summary in summaries if summary.runs]
    if not shown:
        return None
    names = list(shown[0].labels)
    if len(names) <= 2 and len({one.labels[names[-1]] for one in summaries}) <= LINES_MOST:
        figure = _lines(measure, summaries, names, chosen)
    else:
        figure = _rows(measure, shown, chosen)
    repeats = max(len(one.runs) for one in shown)
    key = "runs, their medians and ranges" if repeats > 1 else "one run each"
    if chosen is not None:
        key += "; circled: the choice"
    figure.suptitle(measure.title, fontsize=12, color=INK)
    figure.axes[0].set_title(f"{note}; {key}", fontsize=8, color=INK)
    path = folder / measure.file
    figure.savefig(path, dpi=150)
    return path


def _lines(
    measure: Measure, summaries: Sequence[SweepSummary], names: Sequence[str], chosen: Labels | None
) -> Figure:
    """The first setting along the axis; a line for each value of the second, if there is one."""
    figure, axes = _empty(7.0, 4.6)
    across = names[0]
    places = {value: at for at, value in enumerate(_values(summaries, across))}
    lines = _values(summaries, names[1]) if len(names) == 2 else [""]
    for number, line in enumerate(lines):
        shown = [
            one
            for one in summaries
            if one.runs and (len(names) == 1 or one.labels[names[1]] == line)
        ]
        shift = (number - (len(lines) - 1) / 2) * APART
        at = [places[one.labels[across]] + shift for one in shown]
        color, marker = COLORS[number], MARKERS[number]
        _draw(measure, axes, shown, at, chosen, color=color, marker=marker, label=line)
    axes.set_xticks(range(len(places)), list(places))
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_xlabel(across)
    axes.set_ylabel(measure.axis)
    axes.set_ylim(bottom=0)
    if len(names) == 2:
        axes.legend(title=names[1], frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _draw(
    measure: Measure,
    axes: Any,
    shown: Sequence[SweepSummary],
    at: Sequence[float],
    chosen: Labels | None,
    *,
    color: str,
    marker: str,
    label: str,
) -> None:
    bars = [_bar(measure, one) for one in shown]
    middle = [bar[0] for bar in bars]
    reach = [[bar[1] for bar in bars], [bar[2] for bar in bars]]
    axes.errorbar(
        at, middle, yerr=reach, color=color, marker=marker, markersize=6, capsize=3, label=label
    )
    for place, one in zip(at, shown, strict=True):
        values = [measure.read(run) for run in one.runs]
        axes.plot([place] * len(values), values, ".", color=color, markersize=5, alpha=0.7)
    for place, value, one in zip(at, middle, shown, strict=True):
        if one.labels == chosen:
            _mark(axes, place, value)


def _rows(measure: Measure, shown: Sequence[SweepSummary], chosen: Labels | None) -> Figure:
    """One row for each setting: for three swept settings and more, or many values."""
    figure, axes = _empty(8.0, 1.6 + 0.24 * len(shown))
    for place, one in enumerate(shown):
        value, below, above = _bar(measure, one)
        values = [measure.read(run) for run in one.runs]
        axes.errorbar(value, place, xerr=[[below], [above]], color=COLORS[0], marker="o", capsize=3)
        axes.plot(values, [place] * len(values), ".", color=COLORS[0], markersize=5, alpha=0.7)
        if one.labels == chosen:
            _mark(axes, value, place)
    axes.set_yticks(range(len(shown)), [setting_text(one.labels) for one in shown], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(measure.axis)
    axes.set_xlim(left=0)
    return figure


def _bar(measure: Measure, one: SweepSummary) -> tuple[float, float, float]:
    """Median, and how far it is down to the lowest and up to the highest run."""
    spread = one.spread(measure.read)
    return spread.median, spread.median - spread.lowest, spread.highest - spread.median


def _mark(axes: Any, across: float, up: float) -> None:
    axes.plot(across, up, "o", markersize=14, markerfacecolor="none", markeredgecolor=CHOSEN)


def _empty(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _values(summaries: Iterable[SweepSummary], name: str) -> list[str]:
    return list(dict.fromkeys(one.labels[name] for one in summaries))
