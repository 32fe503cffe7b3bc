"""Many datasets for a person: a table whose first rows are those that somebody has to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from noria.engine.fleet.directory import Added
from noria.engine.fleet.rows import DatasetRow, worst_first
from noria.engine.fleet.running import FleetReport
from noria.engine.job_state import job_state
from noria.engine.status import (
    DATASET_PAUSED,
    NOT_PLANNED,
    PLANNED,
    REFUSED,
    JobStatus,
    Phase,
)
from noria.engine.steering.limits import PAUSED, LimitsInForce, setting_text
from noria.engine.terminal import steering_report
from noria.engine.terminal.figures import duration_text, guard_text, percent_text, size_text
from noria.manifests.count_text import count_text

ROWS: Final = 20
"""Datasets that are shown unless more are asked for."""
REFUSED_ROWS: Final = 10
_HEAD: Final = "PHASE        PASS       OBJECTS     DONE       SIZE        LAG  FAILED"
_PHASES: Final = (REFUSED, NOT_PLANNED, PLANNED, DATASET_PAUSED, *Phase)


def status_summary(rows: Sequence[DatasetRow], directory: str) -> dict[str, Any]:
    """All datasets, those first that somebody has to look at, and their sums."""
    phases = {str(phase): sum(row.shown_phase == phase for row in rows) for phase in _PHASES}
    lags = [row.lag_seconds for row in rows if row.lag_seconds is not None]
    sums = ("objects", "objects_done", "bytes", "bytes_done", "failed", "differences", "workers")
    return {
        "fleet": directory,
        "datasets": [
            {**asdict(row), "shown_phase": str(row.shown_phase)}
            for row in sorted(rows, key=worst_first)
        ],
        "phases": {phase: number for phase, number in phases.items() if number},
        "sum": {name: sum(getattr(row, name) for row in rows) for name in sums},
        "lag_seconds_max": max(lags, default=None),
    }


def steering_summary(
    status: JobStatus | None, limits: LimitsInForce | None, damage: str | None
) -> dict[str, Any]:
    """What the run of all does, and what is in force. `status` None: none lives.

    `limits` None: a record is damaged, and no run has said them.
    """
    state = None if status is None else job_state(status)
    return {
        "state": None if state is None else {**asdict(state), "line": state.line},
        "in_force": None if limits is None else asdict(limits),
        "steered": [] if limits is None else _steered_lines(limits, is_driven=state is not None),
        "damage": damage,
    }


def _steered_lines(limits: LimitsInForce, *, is_driven: bool) -> list[str]:
    """What is not as the job file has it. A pause of a run that lives is told by its state."""
    lines = [
        f"{setting_text(name, each.value)} {each.why}"
        for name, each in limits.changed.items()
        if name != PAUSED
    ]
    if limits.paused is not None and not is_driven:
        lines.insert(0, f"paused {limits.paused.why}: the next run begins nothing")
    if limits.windows:
        lines.append(f"open windows: {', '.join(limits.windows)}")
    return lines + [
        f"{guard_text(store, guard.factor)} of the pace: {guard.said}"
        for store, guard in limits.guards.items()
        if guard.holds
    ]


def print_status(summary: Mapping[str, Any], most: int) -> None:
    """The sums, then the table; `most` rows, 0: all."""
    rows, sums = summary["datasets"], summary["sum"]
    phases = ", ".join(f"{number:,} {_words(name)}" for name, number in summary["phases"].items())
    print(f"{count_text(len(rows), 'dataset')}: {phases}")
    if summary["state"] is not None and summary["state"]["why"] is not None:
        print(f"all: {summary['state']['line']}")
    for line in summary["steered"]:
        print(line)
    steering_report.print_damage(summary)
    print(
        f"{sums['objects_done']:,} of {count_text(sums['objects'], 'object')}, "
        f"{size_text(sums['bytes_done'])} of {size_text(sums['bytes'])}"
        + (f", {sums['failed']:,} failed" if sums["failed"] else "")
        + (f", {count_text(sums['workers'], 'worker')}" if sums["workers"] else "")
    )
    shown = rows[: most or len(rows)]
    width = max([len("DATASET"), *(len(row["name"]) for row in shown)])
    ranked = any(row["priority"] for row in rows)
    print(f"{'DATASET':<{width}}  {'PRIORITY  ' * ranked}{_HEAD}")
    for row in shown:
        priority = f"{row['priority']:>8}  " * ranked
        print(f"{row['name']:<{width}}  {priority}{_cells(row)}".rstrip())
    if len(shown) < len(rows):
        print(f"and {len(rows) - len(shown):,} more: --all shows them, --json has every figure")
    for row in [row for row in shown if row["message"]][:REFUSED_ROWS]:
        print(f"{row['name']}: {row['message']}")
    for row in [row for row in shown if row["shown_phase"] == DATASET_PAUSED][:REFUSED_ROWS]:
        print(f"{row['name']}: paused {row['paused']}")


def _cells(row: Mapping[str, Any]) -> str:
    done = row["bytes_done"] / row["bytes"] if row["bytes"] else 0.0
    if row["objects_done"] == row["objects"] and (row["objects"] or row["phase"] == Phase.FINISHED):
        done = 1.0  # a pass that found nothing new, too
    lag = "" if row["lag_seconds"] is None else duration_text(row["lag_seconds"])
    failed = row["failed"] + row["differences"]
    return (
        f"{_words(row['shown_phase']):<11}  {row['passes'] or '':>4}  {row['objects']:>12,}  "
        f"{percent_text(done):>7}  {size_text(row['bytes']):>9}  {lag:>9}  "
        + (f"{failed:>6,}" if failed else "")
    )


def _words(phase: str) -> str:
    return phase.replace("_", " ")


def plan_summary(
    rows: Sequence[DatasetRow], added: Added, left_out: Mapping[str, int], report: FleetReport
) -> dict[str, Any]:
    """What was planned. `left_out`: pattern -> containers that it passes over."""
    planned = [row for row in rows if row.passes]
    return {
        "fleet": report.fleet,
        "datasets": len(rows),
        "planned": len(planned),
        "added": list(added.names),
        "unnamed": list(added.unnamed),
        "left_out": dict(left_out),
        "refused": dict(report.refused),
        "objects": sum(row.objects for row in planned),
        "bytes": sum(row.bytes for row in planned),
        "seconds": report.seconds,
        "exit_code": report.exit_code,
    }


def print_plan(summary: Mapping[str, Any]) -> None:
    print(
        f"{count_text(summary['datasets'], 'dataset')}, {summary['planned']:,} planned: "
        f"{count_text(summary['objects'], 'object')}, {size_text(summary['bytes'])}"
    )
    print_changes(summary)
    print_refused(summary["refused"])
    print(f"run them: noria run {summary['fleet']}")


def print_changes(summary: Mapping[str, Any]) -> None:
    """What is new, what the file does not name any more, what patterns pass over."""
    if 0 < len(summary["added"]) < summary["datasets"]:
        print(f"added: {_some(summary['added'])}")
    if summary["unnamed"]:
        print(f"no longer in the job file, and kept: {_some(summary['unnamed'])}")
    for pattern, number in summary["left_out"].items():
        if number:
            print(f"left out of {pattern}: {count_text(number, 'container')}")


def run_summary(report: FleetReport) -> dict[str, Any]:
    return {**asdict(report), "exit_code": report.exit_code}


def print_run(summary: Mapping[str, Any]) -> None:
    print(
        f"{summary['well']:,} of {count_text(summary['datasets'], 'dataset')} moved and verified: "
        f"{count_text(summary['objects'], 'object')}, {size_text(summary['bytes'])}"
    )
    if summary["stopped"]:
        print(summary["stopped"])
    if summary["untouched"]:
        print(f"  {summary['untouched']:>12,}  were at their end before")
    if summary["unwell"]:
        print(f"  {summary['unwell']:>12,}  ended with failures or differences")
    if summary["unended"]:
        print(f"  {summary['unended']:>12,}  are not at their end: run it again to resume")
    print_refused(summary["refused"])
    print(f"sent {size_text(summary['bytes_moved'])} in {duration_text(summary['seconds'])}")
    if summary["well"] < summary["datasets"]:
        print(f"see them: noria status {summary['fleet']}")


def print_refused(refused: Mapping[str, str]) -> None:
    """Those that did not go on, each with its reason."""
    for name, message in list(refused.items())[:REFUSED_ROWS]:
        print(f"{name} did not go on: {message}")
    if len(refused) > REFUSED_ROWS:
        print(f"and {len(refused) - REFUSED_ROWS:,} more did not go on: noria status shows them")


def _some(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - REFUSED_ROWS:,} more" if len(known) > REFUSED_ROWS else ""
    return ", ".join(known[:REFUSED_ROWS]) + more


def print_limits(summary: Mapping[str, Any]) -> None:
    """What is in force for all, then each priority, with where it comes from."""
    steering_report.print_limits(summary)
    for name, (priority, origin) in summary["priorities"].items():
        print(f"  priority.{name}={priority}  {origin}")
    print("  priority of all others: 0" if summary["priorities"] else "  priority of all: 0")
