"""The grid as pictures: for each kind of work, how fast each contender was, and when."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noria.benchmarks.studies.road.figures import bytes_at
from noria.benchmarks.studies.road.report import FIXED, Heat, heats_of
from noria.benchmarks.studies.road.runs import RoadRun
from noria.benchmarks.suite.peers import NORIA

INCHES_WIDE = 13.0
INCHES_A_HEAT = 2.9
DOTS_PER_INCH = 100
SMOOTH_SECONDS = 2.0
NORIA_COLOUR = "#0b6e99"
FIXED_COLOURS = ("#cfe3ec", "#a9cddd", "#84b7cd", "#5fa1bd", "#3a8bad", "#247ea3")
"""From few transfers to many."""
PEER_COLOURS = ("#d9a441", "#a5563c", "#7d8791", "#5b8f56", "#8d6fae", "#c4789a", "#4f4f4f")


def draw(runs: Sequence[RoadRun], folder: Path) -> Iterator[str]:
    """One picture for each work and scheme; yields their names."""
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Heat]] = {}
    for heat in heats_of(runs):
        groups.setdefault(f"{heat.first.work}-{heat.first.cell.scheme}", []).append(heat)
    for name, heats in groups.items():
        figure = Figure(figsize=(INCHES_WIDE, INCHES_A_HEAT * len(heats)), layout="constrained")
        rows = figure.subplots(len(heats), 2, squeeze=False, width_ratios=[1, 1.3])
        for (bars, curves), heat in zip(rows, heats, strict=True):
            _draw_speeds(bars, heat)
            _draw_curves(curves, heat)
        figure.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH)
        yield f"{name}.png"


def colours_of(contenders: Sequence[str]) -> dict[str, str]:
    """Noria stands out, its fixed settings are shades of it, each peer has one of its own."""
    fixed = [name for name in contenders if name.endswith(FIXED)]
    peers = [name for name in contenders if not name.startswith(NORIA)]
    return {
        NORIA: NORIA_COLOUR,
        **{one: FIXED_COLOURS[n % len(FIXED_COLOURS)] for n, one in enumerate(fixed)},
        **{one: PEER_COLOURS[n % len(PEER_COLOURS)] for n, one in enumerate(peers)},
    }


def _draw_speeds(axes: Axes, heat: Heat) -> None:
    """Bars: from second 15 on. A mark: the whole run, start included."""
    names = heat.contenders()
    colours = colours_of(names)
    for place, name in enumerate(names):
        steady, whole = heat.steady(name).values(), heat.whole(name).values()
        if not whole:
            axes.text(0, place, " no run that counts", va="center", fontsize=7)
            continue
        speed = statistics.median(steady or whole)
        axes.barh(place, speed, height=0.7, color=colours[name])
        mark = statistics.median(whole)
        axes.plot(mark, place, "|", color="black", markersize=8)
        axes.text(max(speed, mark), place, f"  {speed:,.0f}", va="center", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(heat.title, loc="left", fontsize=8)
    axes.set_xlabel(f"{heat.first.unit} from second 15 on; mark: the whole run", fontsize=7)
    axes.tick_params(labelsize=7)
    line = heat.first.cell.route.line
    if line is not None and heat.first.unit == "MB/s":
        axes.axvline(line / 1e6, color="0.4", linestyle=":", linewidth=1)


def _draw_curves(axes: Axes, heat: Heat) -> None:
    """Of the first round that counts. Megabytes a second, also where speeds are objects."""
    colours = colours_of(heat.contenders())
    for name in heat.contenders():
        for run in heat.of(name)[:1]:
            moments, rates = _rates(run)
            width = 2.0 if name == NORIA else 0.9
            axes.plot(moments, rates, color=colours[name], linewidth=width, label=name)
    axes.set_xlabel("seconds", fontsize=7)
    axes.set_ylabel("MB/s", fontsize=7)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _rates(run: RoadRun) -> tuple[list[float], list[float]]:
    moments = [half / 2 for half in range(1, int(run.end_seconds * 2) + 1)]
    rates = []
    for moment in moments:
        start = max(0.0, moment - SMOOTH_SECONDS)
        arrived = bytes_at(run.curve, moment) - bytes_at(run.curve, start)
        rates.append(arrived / (moment - start) / 1e6)
    return moments, rates
