"""One contender on one route: started, stopped after a time, and measured by the road."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.measure.accounting import Usage, measure, open_account
from noria.benchmarks.measure.processes import TICKS_PER_SECOND
from noria.benchmarks.null.road import RoadSecond
from noria.benchmarks.null.stores import StoreSecond
from noria.benchmarks.studies.road.cells import GridCell
from noria.benchmarks.studies.road.figures import (
    REFUSED_FROM_SECONDS,
    STEADY_FROM_SECONDS,
    STEADY_LEAST_SECONDS,
    Curve,
    Served,
    rate_between,
    served_between,
    steady_rate,
    tail_ratio,
)
from noria.benchmarks.suite.rounds import LAST_WORDS, temporary_folder
from noria.benchmarks.suite.routes import RouteTestBed
from noria.benchmarks.suite.tools import Tool
from noria.benchmarks.suite.workloads import GB

LOOK_SECONDS = 0.1
"""Between two lines of a road's log."""
LEAVE_SECONDS = 5.0
"""How long a contender that was stopped may take to end what it is at; then it is killed."""
TO_END_SECONDS = 1800.0
STOPPED = "stopped"
ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadRun:
    """All that was seen of one run."""

    cell: GridCell
    work: str
    tool: Tool
    round: int
    usage: Usage
    started_unix: float
    end_seconds: float
    """When it was stopped, or had ended."""
    outcome: str
    """STOPPED, ENDED, or what went wrong."""
    curve: Curve
    sink_seconds: tuple[StoreSecond, ...]
    source_seconds: tuple[StoreSecond, ...]
    road_cpu_seconds: float
    """Of both roads."""
    busy_share: float
    """Of all cores of this machine, all that runs on it included."""

    @property
    def counts(self) -> bool:
        return self.outcome in (STOPPED, ENDED)

    @property
    def bytes(self) -> int:
        return self.curve[-1][1] if self.curve else 0

    @property
    def tail_ratio(self) -> float | None:
        return tail_ratio(self.curve) if self.outcome == ENDED else None

    @property
    def cpu_seconds_per_gb(self) -> float | None:
        return self.usage.cpu_seconds / (self.bytes / GB) if self.bytes else None

    @property
    def road_seconds_per_gb(self) -> float | None:
        return self.road_cpu_seconds / (self.bytes / GB) if self.bytes else None

    @property
    def unit(self) -> str:
        """Of its speeds. Small objects count by the piece: heads are a part of their bytes."""
        return "objects/s" if self.work == "small" else "MB/s"

    @property
    def whole_speed(self) -> float:
        """From the start of the command to its end."""
        if self.work == "small":
            served = self._served(self.sink_seconds, 0)
            return served.objects / self.end_seconds if served else 0.0
        return rate_between(self.curve, 0, self.end_seconds)

    @property
    def steady_speed(self) -> float | None:
        """From second 15 on; None for a run that was over by then."""
        if self.work == "small" and self.end_seconds >= STEADY_FROM_SECONDS + STEADY_LEAST_SECONDS:
            served = self._served(self.sink_seconds, STEADY_FROM_SECONDS)
            return served.objects_per_second if served else None
        return steady_rate(self.curve, self.end_seconds)

    def served(self, role: str) -> Served | None:
        """By `source` or `target`, after the first minute; of a shorter run, from second 15 on."""
        start = REFUSED_FROM_SECONDS
        if self.end_seconds < start + STEADY_FROM_SECONDS:
            start = STEADY_FROM_SECONDS
        rows = self.source_seconds if role == "source" else self.sink_seconds
        return self._served(rows, start)

    def _served(self, rows: tuple[StoreSecond, ...], start: float) -> Served | None:
        return served_between(rows, self.started_unix + start, self.started_unix + self.end_seconds)


def run_on_road(
    bed: RouteTestBed,
    cell: GridCell,
    work: str,
    tool: Tool,
    *,
    number: int,
    expected: tuple[int, int],
    stop_seconds: float | None,
) -> RoadRun:
    """One run, in the round `number`.

    `expected` are the objects and bytes that a run which is not stopped must bring. `stop_seconds`
    None: to its end, whenever that is.
    """
    with (
        bed.fresh_ends() as ends,
        temporary_folder() as folder,
        open_account() as account,
    ):
        invocation = tool.invoke(ends, folder)
        log = folder / "output.log"
        busy_before, started_unix = _busy_seconds(), time.time()
        with log.open("wb") as output:
            usage = measure(
                invocation.command,
                invocation.environment,
                account=account,
                roles=tool.roles,
                folder=folder,
                output=output,
                errors=output,
                stop_seconds=stop_seconds,
                limit_seconds=(
                    TO_END_SECONDS if stop_seconds is None else stop_seconds + LEAVE_SECONDS
                ),
            )
        took = time.time() - started_unix
        busy_share = (_busy_seconds() - busy_before) / (took * (os.cpu_count() or 1))
        time.sleep(2 * LOOK_SECONDS)  # until the roads have written down the last of it
        looks = bed.sink_road.seconds()
        was_stopped = stop_seconds is not None and usage.wall_seconds >= stop_seconds
        arrived = None if was_stopped else bed.arrived(ends)
        road_cpu_seconds = bed.source_road.cpu_seconds + bed.sink_road.cpu_seconds
        return RoadRun(
            cell=cell,
            work=work,
            tool=tool,
            round=number,
            usage=usage,
            started_unix=started_unix,
            end_seconds=stop_seconds if was_stopped and stop_seconds else usage.wall_seconds,
            outcome=STOPPED if was_stopped else _outcome(usage, log, arrived == expected),
            curve=_curve(looks, started_unix),
            sink_seconds=tuple(bed.sink.seconds()),
            source_seconds=tuple(bed.source.seconds()),
            road_cpu_seconds=road_cpu_seconds,
            busy_share=busy_share,
        )


def _outcome(usage: Usage, log: Path, whole: bool) -> str:
    if usage.exit_code == 0 and whole:
        return ENDED
    said = " ".join(log.read_text(errors="replace")[-LAST_WORDS:].split())
    return f"not all arrived, exit code {usage.exit_code}: {said}"


def _curve(looks: list[RoadSecond], started_unix: float) -> Curve:
    return [(look.unix_seconds - started_unix, look.up_bytes) for look in looks]


def _busy_seconds() -> float:
    """Of all cores since the machine came up, idle and waiting for disks left out."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, _stolen = ticks
    return (user + nice + system + interrupts + soft_interrupts) / TICKS_PER_SECOND
