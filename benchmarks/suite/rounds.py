"""Tools side by side: round after round, each in turn, each into a fresh target.

Load on the machine, the servers' caches and their garbage change with time, so no tool has a
stretch of its own: A B C, B C A, C A B. All runs of one round meet the same conditions, so ratios
are taken inside a round.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.measure.accounting import Usage, measure, open_account
from noria.benchmarks.suite.beds import TestBed
from noria.benchmarks.suite.ray_cluster import start_cluster
from noria.benchmarks.suite.tools import Tool
from noria.benchmarks.suite.workloads import GB, Workload

WARM_UP = 0
"""The number of the round that does not count."""
LAST_WORDS = 300  # characters of a failed tool's output


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """One tool's attempt at one workload."""

    workload: str
    tool: str
    round: int
    objects: int
    """That the workload has, as `bytes`."""
    bytes: int
    usage: Usage
    trouble: str = ""
    """Why the run is void; empty if every object has arrived."""

    @property
    def counts(self) -> bool:
        return not self.trouble and self.round != WARM_UP

    @property
    def cpu_seconds_per_gb(self) -> float:
        return self.usage.cpu_seconds / (self.bytes / GB)

    @property
    def cpu_microseconds_per_object(self) -> float:
        return 1e6 * self.usage.cpu_seconds / self.objects

    @property
    def objects_per_second(self) -> float:
        return self.objects / self.usage.wall_seconds

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes / 1e6 / self.usage.wall_seconds

    @property
    def gigabytes_per_core_second(self) -> float:
        return self.bytes / GB / self.usage.cpu_seconds


Measure = Callable[[ToolRun], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who moves what, between which servers."""

    workload: Workload
    test_bed: TestBed
    tool: Tool
    rounds: int | None = None
    """How many of the rounds it takes part in, the first ones. None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """All runs of one workload."""

    workload: Workload
    tools: tuple[Tool, ...]
    runs: tuple[ToolRun, ...]

    def valid(self, tool: str) -> list[ToolRun]:
        return [run for run in self.runs if run.tool == tool and run.counts]

    def void(self, tool: str) -> list[ToolRun]:
        return [run for run in self.runs if run.tool == tool and run.trouble]

    def by_round(self, tool: str, measure: Measure) -> dict[int, float]:
        return {run.round: measure(run) for run in self.valid(tool)}


def run_rounds(
    entries: Sequence[Entry],
    *,
    rounds: int,
    say: Callable[[str], None],
    warm_up: Sequence[Entry] | None = None,
) -> Iterator[ToolRun]:
    """A round for warm-up, of `warm_up` if given, then `rounds` that count."""
    for number in range(rounds + 1):
        taking_part = [one for one in entries if one.rounds is None or number <= one.rounds]
        if number == WARM_UP and warm_up is not None:
            taking_part = list(warm_up)
        start = number % max(1, len(taking_part))
        for entry in (*taking_part[start:], *taking_part[:start]):
            run = run_once(entry, number)
            say(run_line(run))
            yield run


def run_once(entry: Entry, number: int) -> ToolRun:
    workload, tool = entry.workload, entry.tool
    with (
        entry.test_bed.fresh_ends() as ends,
        temporary_folder() as folder,
        open_account() as account,
    ):
        invocation = tool.invoke(ends, folder)
        if tool.cluster_port is not None:
            start_cluster(account, tool.cluster_port, invocation.environment, folder)
        log = folder / "output.log"
        with log.open("wb") as output:
            usage = measure(
                invocation.command,
                invocation.environment,
                account=account,
                roles=tool.roles,
                folder=folder,
                output=output,
                errors=output,
            )
        trouble = _trouble(workload, entry.test_bed.arrived(ends), usage, log)
    return ToolRun(
        workload=workload.name,
        tool=tool.name,
        round=number,
        objects=len(workload.objects),
        bytes=workload.bytes,
        usage=usage,
        trouble=trouble,
    )


def contests_of(entries: Sequence[Entry], runs: Sequence[ToolRun]) -> list[Contest]:
    """The runs by workload, in the order of the entries."""
    # Of several under one name, the first entry's says what it is.
    workloads = {entry.workload.name: entry.workload for entry in reversed(entries)}
    names = dict.fromkeys(entry.workload.name for entry in entries)
    return [
        Contest(
            workload=workloads[name],
            tools=tuple(entry.tool for entry in entries if entry.workload.name == name),
            runs=tuple(run for run in runs if run.workload == name),
        )
        for name in names
    ]


def _trouble(workload: Workload, arrived: tuple[int, int], usage: Usage, log: Path) -> str:
    said = " ".join(log.read_text(errors="replace")[-LAST_WORDS:].split())
    if usage.exit_code != 0:
        return f"exit code {usage.exit_code}: {said}"
    if arrived != (len(workload.objects), workload.bytes):
        return f"{arrived[0]:,} objects and {arrived[1]:,} bytes arrived: {said}"
    return ""


def run_line(run: ToolRun) -> str:
    usage = run.usage
    line = (
        f"  {run.workload:16} round {run.round} {run.tool:32}"
        f"{usage.wall_seconds:8.2f} s {usage.cpu_seconds:8.2f} CPU s"
        f"{usage.peak_rss_bytes / 2**20:8,.0f} MiB"
    )
    if usage.left_behind:
        line += f"  left {len(usage.left_behind)} processes behind"
    return line + (f"  VOID: {run.trouble}" if run.trouble else "")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Short, since Ray puts sockets below it, whose paths end at 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="nb-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
