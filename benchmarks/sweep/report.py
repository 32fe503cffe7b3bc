"""What `noria bench` says at its end.

A table of the settings, the choice and its reasons, and the lines for the job file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from noria.benchmarks.measure.spread import Spread
from noria.benchmarks.sweep.choice import Choice, Labels, SweepSummary, setting_text
from noria.engine.config.jobfile import PlanConfig
from noria.engine.interpreter import describe_interpreter
from noria.engine.terminal.figures import duration_text, size_text
from noria.manifests.count_text import count_text

SHORT_SECONDS = 20.0
"""Below this, starting the workers and the tail of a run are a good part of it."""
UNSTEADY = 1.5
"""Between runs of one setting, the factor from which their noise hides what settings do."""
WIDEST = 1000
"""Characters of a line of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFindings:
    """How a bench ended."""

    output: Path
    files: Sequence[Path]
    summaries: Sequence[SweepSummary]
    choice: Choice | None
    whole_cost: bool
    """CPU and memory are those of all processes."""
    planned: int
    """Runs that were asked for, without the warm-up."""
    stopped: bool
    left: int
    """Objects that the bench could not tell for its own, or was asked to keep."""
    place: str
    """Where at the target they are."""

    @property
    def exit_code(self) -> int:
        """As of every command: 3 stopped, 1 something failed, 0 all well."""
        if self.stopped:
            return 3
        return 1 if any(one.failures for one in self.summaries) else 0


def summary(found: SweepFindings) -> dict[str, Any]:
    """The document of `--json`."""
    choice = found.choice
    return {
        "settings": [_setting_values(one) for one in found.summaries],
        "choice": None
        if choice is None
        else {
            "settings": dict(choice.chosen.labels),
            "why": why(choice, found.whole_cost),
            "job_file": job_file_lines(choice.chosen.labels),
        },
        "interpreter": describe_interpreter(),
        "cpu_scope": "all processes" if found.whole_cost else "driver only",
        "runs_planned": found.planned,
        "runs_well": sum(len(one.runs) for one in found.summaries),
        "notes": notes(found),
        "output": str(found.output),
        "files": [str(path) for path in found.files],
        "exit_code": found.exit_code,
    }


def _setting_values(one: SweepSummary) -> dict[str, Any]:
    values: dict[str, Any] = {"settings": dict(one.labels), "runs": len(one.runs)}
    if one.runs:
        values["bytes_per_second"] = asdict(one.throughput)
        values["objects_per_second"] = asdict(one.spread(lambda run: run.objects_per_second))
        values["cpu_seconds_per_gb"] = asdict(one.cpu)
        values["peak_rss_bytes"] = asdict(one.memory)
        values["retries"] = sum(run.retries for run in one.runs)
        values["throttles"] = sum(run.throttles for run in one.runs)
    values["failures"] = [
        {"round": run.round, "exit_code": run.exit_code, "cause": run.cause} for run in one.failures
    ]
    return values


def print_report(document: Mapping[str, Any]) -> None:
    """The same document for people."""
    console = Console()
    driver_only = document["cpu_scope"] == "driver only"
    names = list(document["settings"][0]["settings"])
    scope = ", driver" if driver_only else ""
    heads = ["MB/s", "", "objects/s", f"CPU s/GB{scope}", "", f"RSS{scope}"]
    heads += ["retries", "throttles", "runs"]
    table = Table(*names, box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for one in document["settings"]:
        failed = len(one["failures"])
        runs = f"{one['runs']}" + (f", {failed} failed" if failed else "")
        cells = ["-", "", "-", "-", "", "-", "-", "-"]
        if one["runs"]:
            cells = [
                *_range(one["bytes_per_second"], 1e6, 1),
                f"{one['objects_per_second']['median']:,.0f}",
                *_range(one["cpu_seconds_per_gb"], 1, 2),
                size_text(one["peak_rss_bytes"]["median"]),
                str(one["retries"]),
                str(one["throttles"]),
            ]
        table.add_row(*one["settings"].values(), *cells, runs)
    # A table that is cut off says less than one whose lines are broken by the terminal.
    wide = Console(width=WIDEST)
    console.width = max(console.width, Measurement.get(wide, wide.options, table).maximum)
    console.print(table)
    console.print("medians; beside them the lowest and the highest run", style="dim")
    console.print(document["interpreter"], style="dim", highlight=False)
    for one in document["settings"]:
        for failure in one["failures"]:
            where = f"round {failure['round']}" if failure["round"] else "warm-up"
            cause = f"exit {failure['exit_code']}, {failure['cause']}"
            text = f"FAILED: {setting_text(one['settings'])}, {where}: {cause}"
            console.print(text, soft_wrap=True, markup=False, highlight=False)
    for note in document["notes"]:
        console.print(f"note: {note}", soft_wrap=True, markup=False, highlight=False)
    choice = document["choice"]
    if choice is None:
        console.print("no setting to recommend: each had a run that failed")
    else:
        console.print(f"\nchosen: {setting_text(choice['settings'])}", markup=False)
        console.print(choice["why"], soft_wrap=True, markup=False, highlight=False)
        console.print("in the job file:\n", markup=False)
        for line in choice["job_file"]:
            console.print(f"    {line}" if line else "", markup=False, highlight=False)
        console.print()
    for file in document["files"]:
        console.print(file, soft_wrap=True, markup=False, highlight=False)


def why(choice: Choice, whole_cost: bool = True) -> str:
    """One sentence for each step that led to the choice."""
    fastest = choice.fastest
    first = f"{_rate(fastest.throughput)} with {setting_text(fastest.labels)}"
    sentences = [f"The highest median throughput is {first}."]
    if not whole_cost:
        sentences.append(
            "CPU and memory of the workers are not known here, so throughput alone decides."
        )
    elif len(choice.even) == 1:
        sentences.append("No other setting comes within the spread of its runs.")
    else:
        speed = f"{size_text(choice.chosen.throughput.median)}/s"
        cpu = f"{choice.chosen.cpu.median:.2f} s/GB at {speed}"
        sentences.append(
            f"{len(choice.even)} settings are within the spread of its runs, so the least CPU "
            f"decides between them: {cpu} with {setting_text(choice.chosen.labels)}."
        )
        if len(choice.thrifty) > 1:
            memory = size_text(choice.chosen.memory.median)
            sentences.append(
                f"{len(choice.thrifty)} of them cannot be told apart by CPU either: this one has "
                f"the least memory, {memory}."
            )
    return " ".join(sentences)


def job_file_lines(labels: Labels) -> list[str]:
    """The chosen settings as lines of a job file."""
    lines: list[str] = []
    for section, in_plan in (("[plan]", True), ("[run]", False)):
        names = [name for name in labels if (name in PlanConfig.model_fields) is in_plan]
        if names:
            lines += ["", section] if lines else [section]
            lines += [f"{name} = {_toml(labels[name])}" for name in names]
    return lines


def notes(found: SweepFindings) -> list[str]:
    """What a reader has to know to take the figures for what they are."""
    runs = [run for one in found.summaries for run in one.runs]
    said = []
    if found.stopped:
        said.append(f"stopped before the end, after {len(runs)} of {found.planned} runs")
    if runs and max(len(one.runs) for one in found.summaries) == 1:
        said.append(
            "one run of each setting shows no noise: raise --repeats to trust small differences"
        )
    shortest = min((run.move_seconds for run in runs), default=SHORT_SECONDS)
    if shortest < SHORT_SECONDS:
        said.append(
            f"much of a run of {duration_text(shortest)} is the start of the workers: move more "
            "bytes to see more of the settings"
        )
    if found.choice is not None and _factor(found.choice.fastest) > UNSTEADY:
        times = _factor(found.choice.fastest)
        said.append(
            f"runs of the fastest setting differ by a factor of {times:.1f}: something else is "
            "busy on this machine or at the stores, and this noise hides what settings do"
        )
    if not found.whole_cost:
        said.append("CPU and memory are the driver's only: the workers run on the cluster")
    if found.left:
        said.append(f"{count_text(found.left, 'object')} left below {found.place}")
    return said


def _factor(one: SweepSummary) -> float:
    """Between the fastest and the slowest run of a setting."""
    return one.throughput.highest / one.throughput.lowest


def _toml(text: str) -> str:
    """A value of a job file: a number as it is, all else in quotes."""
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text)
    return text


def _rate(spread: Spread) -> str:
    median, low, high = (
        size_text(value) for value in (spread.median, spread.lowest, spread.highest)
    )
    return f"{median}/s" if low == high else f"{median}/s ({low}/s to {high}/s)"


def _range(spread: Mapping[str, float], unit: float, digits: int) -> tuple[str, str]:
    median, low, high = (
        f"{spread[name] / unit:,.{digits}f}" for name in ("median", "lowest", "highest")
    )
    return median, f"{low} to {high}"
