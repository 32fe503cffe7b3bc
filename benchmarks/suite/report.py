"""A suite's results as files: tables in Markdown, every run as CSV, plots as PNG."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.measure.accounting import Usage
from noria.benchmarks.measure.spread import Spread, paired_ratios, spread_of
from noria.benchmarks.suite.goals import (
    Goal,
    cpu_per_gb,
    cpu_per_object,
    objects_per_second,
    wall_seconds,
)
from noria.benchmarks.suite.peers import NORIA
from noria.benchmarks.suite.plots import plot_measure
from noria.benchmarks.suite.rounds import Contest, Measure, ToolRun
from noria.benchmarks.suite.workloads import MIB

OBJECT_KINDS = ("small",)
"""Of workloads, where CPU is told for each object; elsewhere for each GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that a suite found out."""

    command: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    contests: Sequence[Contest]
    goals: Sequence[Goal]
    seconds: Mapping[str, float]
    """Workload -> how long all of it took, servers and uploads included."""


@dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    title: str
    measure: Measure
    digits: int


def write_results(results: Results, folder: Path, name: str) -> Path:
    """`name`.md and what goes with it; returns the path of the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_runs(results.contests, folder / f"{name}-runs.csv")
    pictures = list(_plot(results.contests, folder, name))
    path = folder / f"{name}.md"
    path.write_text("\n".join(_document(results, pictures, f"{name}-runs.csv")) + "\n")
    return path


def write_runs(contests: Sequence[Contest], path: Path) -> None:
    """One line for each run, warm-ups and void ones included."""
    with path.open("w", newline="") as file:
        rows = [_row(run) for contest in contests for run in contest.runs]
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _row(run: ToolRun) -> dict[str, object]:
    usage = run.usage
    return {
        "workload": run.workload,
        "tool": run.tool,
        "round": run.round,
        "counts": run.counts,
        "objects": run.objects,
        "bytes": run.bytes,
        "wall_seconds": round(usage.wall_seconds, 3),
        "cpu_seconds": round(usage.cpu_seconds, 3),
        "peak_rss_bytes": usage.peak_rss_bytes,
        "peak_pss_bytes": usage.peak_pss_bytes,
        "exit_code": usage.exit_code,
        "left_behind": len(usage.left_behind),
        "method": usage.method,
        "cpu_by_role": json.dumps({role: round(v, 3) for role, v in usage.cpu_by_role.items()}),
        "rss_by_role": json.dumps(dict(usage.rss_by_role)),
        "trouble": run.trouble,
    }


# -- plots -----------------------------------------------------------------------------------------


def _plot(contests: Sequence[Contest], folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """Draw what there is; yields file name and title of each picture."""
    shown = [contest for contest in contests if len(contest.tools) > 1]
    by_bytes = [one for one in contests if one.workload.kind not in OBJECT_KINDS]
    by_object = [one for one in contests if one.workload.kind in OBJECT_KINDS]
    figures = (
        (_Figure("cpu-per-gb", "CPU seconds for each GB", cpu_per_gb, 2), by_bytes),
        (_Figure("cpu-per-object", "CPU microseconds an object", cpu_per_object, 0), by_object),
        (_Figure("wall", "Seconds from start to end", wall_seconds, 1), shown),
    )
    for figure, drawn in figures:
        if drawn:
            path = folder / f"{name}-{figure.name}.png"
            plot_measure(drawn, figure.measure, title=figure.title, path=path, digits=figure.digits)
            yield path.name, figure.title


def _megabytes_per_second(run: ToolRun) -> float:
    return run.megabytes_per_second


# -- the document ----------------------------------------------------------------------------------


def _document(
    results: Results, pictures: Sequence[tuple[str, str]], runs_file: str
) -> Iterator[str]:
    total = sum(results.seconds.values())
    yield f"# Noria and its peers, {results.machine.get('date', '')}"
    yield ""
    yield f"    {results.command}"
    yield ""
    yield (
        f"{total / 60:.0f} minutes, after one round of each row for warm-up. "
        "In each round every tool takes its turn, in another order each time. Figures are "
        "medians, with the lowest and the highest; a ratio is taken inside each round, and its "
        "median given. GB are 10^9 bytes. Each run wrote into a fresh bucket, and counts only if "
        "every object and every byte was in it afterwards."
    )
    yield ""
    yield _accounting_line(results)
    yield ""
    yield "## Goals"
    yield ""
    yield from _goals_table([goal for goal in results.goals if goal.counts])
    beside = [goal for goal in results.goals if not goal.counts]
    if beside:
        yield ""
        yield "Beside the goals:"
        yield ""
        yield from _goals_table(beside)
    for title, facts in (("Machine", results.machine), ("Versions", results.versions)):
        yield ""
        yield f"## {title}"
        yield ""
        yield from _table(["", ""], [[key, value] for key, value in facts.items()])
    yield ""
    yield "## Workloads"
    for contest in results.contests:
        yield ""
        yield from _contest_section(contest, results.seconds.get(contest.workload.name))
    yield from _roles_section(results)
    for file, title in pictures:
        yield ""
        yield f"![{title}]({file})"
    yield ""
    yield f"Every run is in [{runs_file}]({runs_file})."


def _accounting_line(results: Results) -> str:
    methods = {run.usage.method for contest in results.contests for run in contest.runs}
    return (
        "CPU is user and system time of every process that belongs to a tool, daemons that it "
        f"leaves to init included; told apart by: {', '.join(sorted(methods)) or 'nothing ran'}. "
        "The servers share the machine, and their CPU counts for nobody."
    )


def _goals_table(goals: Sequence[Goal]) -> Iterator[str]:
    verdicts = {True: "met", False: "**not met**", None: "not measured"}
    rows = [
        [
            goal.workload,
            goal.what,
            goal.wanted,
            _text(goal.value, goal.digits),
            verdicts[goal.met],
            goal.note,
        ]
        for goal in goals
    ]
    yield from _table(["workload", "measure", "wanted", "found", "verdict", "note"], rows)


def _contest_section(contest: Contest, seconds: float | None) -> Iterator[str]:
    workload = contest.workload
    took = "" if seconds is None else f" This took {seconds / 60:.1f} minutes."
    yield f"### {workload.name}"
    yield ""
    yield f"{workload.title}: {len(workload.objects):,} objects, {workload.bytes:,} bytes.{took}"
    yield ""
    per_object = workload.kind in OBJECT_KINDS
    measure, digits = (cpu_per_object, 0) if per_object else (cpu_per_gb, 2)
    head = ["", "CPU us/object" if per_object else "CPU s/GB", f"{NORIA} / this"]
    head += ["objects/s" if per_object else "MB/s", "wall s", "peak RSS MiB", "peak PSS MiB"]
    rows = [[*_tool_row(contest, one.name, measure, digits), one.proves] for one in contest.tools]
    yield from _table([*head, "runs", "proves of the bytes"], rows)
    for tool in contest.tools:
        yield ""
        yield f"{tool.name}{f' ({tool.note})' if tool.note else ''}:"
        yield ""
        yield f"    {tool.flags}"
        for run in contest.void(tool.name):
            yield ""
            yield f"Void, round {run.round}: {run.trouble}"


def _tool_row(contest: Contest, name: str, measure: Measure, digits: int) -> list[str]:
    valid, void = contest.valid(name), contest.void(name)
    rate = objects_per_second if digits == 0 else _megabytes_per_second
    cells = [
        _text(spread_of(measure(run) for run in valid), digits),
        _text(paired_ratios(contest.by_round(NORIA, measure), contest.by_round(name, measure)), 2),
        _text(spread_of(rate(run) for run in valid), 0),
        _text(spread_of(run.usage.wall_seconds for run in valid), 1),
        _text(spread_of(run.usage.peak_rss_bytes / MIB for run in valid), 0),
        _text(spread_of(run.usage.peak_pss_bytes / MIB for run in valid), 0),
    ]
    return [name, *cells, f"{len(valid)}" + (f", {len(void)} void" if void else "")]


def _text(spread: Spread | None, digits: int) -> str:
    return "" if spread is None else spread.text(digits)


def _roles_section(results: Results) -> Iterator[str]:
    """Whose CPU it was, in runs of Noria: medians."""
    columns: dict[str, dict[str, float]] = {}
    for contest in results.contests:
        for tool in contest.tools:
            runs = contest.valid(tool.name)
            if tool.tool == "noria" and runs:
                where = f"{contest.workload.name}: {tool.name}"
                columns[where] = _median_roles([run.usage for run in runs])
    if not columns:
        return
    yield ""
    yield "## Whose CPU"
    yield ""
    yield (
        "CPU seconds by role, sampled ten times a second; unseen is what lived too short for that."
    )
    yield ""
    roles = sorted({role for column in columns.values() for role in column} - {"unseen"})
    rows = [
        [where, *(f"{column.get(role, 0.0):.2f}" for role in [*roles, "unseen"])]
        for where, column in columns.items()
    ]
    yield from _table(["", *roles, "unseen"], rows)


def _median_roles(usages: Sequence[Usage]) -> dict[str, float]:
    roles = {role for usage in usages for role in usage.cpu_by_role}
    found = {
        role: spread_of(usage.cpu_by_role.get(role, 0.0) for usage in usages) for role in roles
    }
    return {role: spread.median for role, spread in found.items() if spread is not None}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
