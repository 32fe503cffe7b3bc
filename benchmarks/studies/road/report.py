"""The runs of a grid as files: a table in Markdown, a line each in CSV, and the curves."""

from __future__ import annotations

import csv
import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.measure.spread import Spread, paired_ratios, spread_of
from noria.benchmarks.studies.road.figures import Served
from noria.benchmarks.studies.road.runs import RoadRun
from noria.benchmarks.suite.peers import AS_THEY_COME, NORIA
from noria.benchmarks.suite.workloads import MIB

FIXED = " fixed"
"""Ends the name of a Noria that does not search."""
CURVE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """All runs of one kind of work on one route."""

    runs: tuple[RoadRun, ...]

    @property
    def first(self) -> RoadRun:
        return self.runs[0]

    @property
    def title(self) -> str:
        return f"{self.first.work}: {self.first.cell.title}"

    def contenders(self) -> list[str]:
        return list(dict.fromkeys(run.tool.name for run in self.runs))

    def of(self, contender: str) -> list[RoadRun]:
        return [run for run in self.runs if run.tool.name == contender and run.counts]

    def steady(self, contender: str) -> dict[int, float]:
        """By round."""
        speeds = {run.round: run.steady_speed for run in self.of(contender)}
        return {number: speed for number, speed in speeds.items() if speed is not None}

    def whole(self, contender: str) -> dict[int, float]:
        return {run.round: run.whole_speed for run in self.of(contender)}

    def best(self, contenders: Iterable[str]) -> str | None:
        """By the whole run's median; None if none has a run that counts."""
        medians = {
            one: statistics.median(self.whole(one).values())
            for one in contenders
            if self.whole(one)
        }
        return max(medians, key=lambda one: medians[one]) if medians else None

    def rivals(self) -> dict[str, str | None]:
        """What Noria as it comes is held against -> the best of it here."""
        names = self.contenders()
        others = [name for name in names if not name.startswith(NORIA)]
        untuned = [one for one in others if one in AS_THEY_COME]
        return {
            "the best fixed setting": self.best(name for name in names if name.endswith(FIXED)),
            "the best peer as it comes": self.best(untuned),
            "the best peer with flags": self.best(set(others) - set(untuned)),
        }


def heats_of(runs: Sequence[RoadRun]) -> list[Heat]:
    by_heat: dict[tuple[str, str], list[RoadRun]] = {}
    for run in runs:
        by_heat.setdefault((run.work, run.cell.title), []).append(run)
    return [Heat(runs=tuple(mine)) for mine in by_heat.values()]


def write_report(
    runs: Sequence[RoadRun], folder: Path, *, head: Mapping[str, str], pictures: Sequence[str]
) -> Path:
    """README.md, runs.csv and curves.csv in `folder`; returns the first."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "runs.csv").open("w", newline="") as file:
        rows = [_row(run) for run in runs]
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with (folder / "curves.csv").open("w", newline="") as file:
        curves = csv.writer(file, lineterminator="\n")
        curves.writerow(["run", "seconds", "bytes"])
        for number, run in enumerate(runs):
            curves.writerows((number, *look) for look in thinned(run))
    path = folder / "README.md"
    path.write_text("\n".join(_document(runs, head, pictures)) + "\n")
    return path


def thinned(run: RoadRun) -> Iterator[tuple[float, int]]:
    """Its curve with a look every CURVE_SECONDS, from the start to the end."""
    due = 0.0
    for seconds, arrived in run.curve:
        if due <= seconds <= run.end_seconds + CURVE_SECONDS:
            yield round(seconds, 2), arrived
            due = seconds + CURVE_SECONDS


def _row(run: RoadRun) -> dict[str, object]:
    route, usage = run.cell.route, run.usage
    return {
        "work": run.work,
        "scheme": run.cell.scheme,
        "round_trip_ms": route.round_trip_ms,
        "connection_mb": (route.rate or 0) / 1e6,
        "line_mb": (route.line or 0) / 1e6,
        "contender": run.tool.name,
        "round": run.round,
        "outcome": run.outcome,
        "seconds": round(run.end_seconds, 2),
        "bytes": run.bytes,
        "unit": run.unit,
        "steady_speed": _rounded(run.steady_speed),
        "whole_speed": _rounded(run.whole_speed),
        "tail_ratio": _rounded(run.tail_ratio),
        **_served_cells("source", run.served("source")),
        **_served_cells("target", run.served("target")),
        "cpu_seconds": round(usage.cpu_seconds, 2),
        "cpu_seconds_per_gb": _rounded(run.cpu_seconds_per_gb),
        "peak_rss_mib": round(usage.peak_rss_bytes / MIB),
        "peak_pss_mib": round(usage.peak_pss_bytes / MIB),
        "road_seconds_per_gb": _rounded(run.road_seconds_per_gb),
        "machine_busy_share": round(run.busy_share, 3),
        "command": run.tool.flags,
    }


def _served_cells(role: str, served: Served | None) -> dict[str, object]:
    limited = served is not None and served.limited > 0
    return {
        f"{role}_refused_share": round(served.refused_share, 4) if served and limited else "",
        f"{role}_limited_per_second": (
            _rounded((served.limited - served.refused) / served.seconds)
            if served and limited
            else ""
        ),
        f"{role}_others_per_second": _rounded(served.others_per_second) if served else "",
    }


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 3)


# -- the document ----------------------------------------------------------------------------------


def _document(
    runs: Sequence[RoadRun], head: Mapping[str, str], pictures: Sequence[str]
) -> Iterator[str]:
    yield "# Noria and its peers over a distance"
    yield ""
    yield from (f"- {name}: {value}" for name, value in head.items())
    yield ""
    yield (
        "Every figure is taken from outside: speed by the bytes that the road in front of the "
        "target has delivered (small objects by the target's own count), CPU and memory by the "
        "operating system. *Steady* is from second 15 on, *whole* from the start of the command; "
        "*tail* is the speed of the last tenth of the bytes over that of those before. *Machine* "
        "is the share of all cores that were busy: near 1, the machine is the line. *Refused* is "
        "of the requests that a ceiling is for, after the first minute. A ratio is taken inside a "
        "round, and its median given, with the lowest and the highest."
    )
    heats = heats_of(runs)
    yield ""
    yield "## Noria as it comes, over the others in the same cell"
    yield ""
    yield from _ratio_table(heats)
    for heat in heats:
        yield ""
        yield f"## {heat.title}"
        yield ""
        yield from _heat_table(heat)
    for picture in pictures:
        yield ""
        yield f"![{picture}]({picture})"
    yield ""
    yield "## Commands"
    yield ""
    commands = {(run.tool.name, run.tool.flags, run.tool.note): None for run in runs}
    for name, flags, note in commands:
        yield f"- {name}: `{flags}`" + (f" ({note})" if note else "")


def _ratio_table(heats: Sequence[Heat]) -> Iterator[str]:
    yield "| work and route | over | steady | whole | |"
    yield "|---|---|---|---|---|"
    for heat in heats:
        for kind, rival in heat.rivals().items():
            if rival is None or not heat.of(NORIA):
                continue
            steady = paired_ratios(heat.steady(NORIA), heat.steady(rival))
            whole = paired_ratios(heat.whole(NORIA), heat.whole(rival))
            yield f"| {heat.title} | {kind} | {_text(steady)} | {_text(whole)} | {rival} |"


def _heat_table(heat: Heat) -> Iterator[str]:
    unit = heat.first.unit
    yield (
        f"| contender | steady, {unit} | whole, {unit} | tail | CPU s/GB | peak RSS, MiB | "
        "refused, source / target | roads, s/GB | machine |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name in heat.contenders():
        runs = heat.of(name)
        if not runs:
            trouble = next(run.outcome for run in heat.runs if run.tool.name == name)
            yield f"| {name} | {_one_line(trouble)} | | | | | | | |"
            continue
        cells = (
            _text(spread_of(heat.steady(name).values()), 0),
            _text(spread_of(heat.whole(name).values()), 0),
            _text(_spread(run.tail_ratio for run in runs)),
            _text(_spread(run.cpu_seconds_per_gb for run in runs)),
            f"{max(run.usage.peak_rss_bytes for run in runs) / MIB:,.0f}",
            " / ".join(_refused(runs, role) for role in ("source", "target")),
            _text(_spread(run.road_seconds_per_gb for run in runs)),
            _text(_spread(run.busy_share for run in runs)),
        )
        yield f"| {name} | " + " | ".join(cells) + " |"


def _refused(runs: Sequence[RoadRun], role: str) -> str:
    """The share of requests above a ceiling, how many a second got through, and how many others."""
    found = [run.served(role) for run in runs]
    limited = [served for served in found if served and served.limited]
    if not limited:
        return "–"
    share = statistics.median(served.refused_share for served in limited)
    through = statistics.median(
        (served.limited - served.refused) / served.seconds for served in limited
    )
    others = statistics.median(served.others_per_second for served in limited)
    return f"{share:.1%}, {through:,.0f}/s through" + (
        f", {others:,.0f}/s others" if others else ""
    )


def _spread(values: Iterable[float | None]) -> Spread | None:
    return spread_of(value for value in values if value is not None)


def _text(spread: Spread | None, digits: int = 2) -> str:
    return "–" if spread is None else spread.text(digits)


def _one_line(words: str) -> str:
    return " ".join(itertools.islice(words.replace("|", "/").split(), 40))
