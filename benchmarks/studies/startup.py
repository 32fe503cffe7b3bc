"""What a small move costs before it moves: two revisions of Noria copy ten objects, in turns.

    make bench-startup REF=main~10
    .venv/bin/python -m noria.benchmarks.studies.startup REF [--rounds 9] [--objects 10]

From folder to folder, so that no server takes part. Prints the medians of both revisions, and new
over old in each round: CPU seconds of all processes that the command starts, those of Ray
included; seconds until the first object lies at the target; seconds until the command ends; and
the CPU of each kind of process. REF is compared with this checkout as it lies, changes included.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.measure.accounting import Usage, measure, open_account
from noria.benchmarks.servers import ROOT
from noria.benchmarks.suite.machine import describe_machine, describe_revision
from noria.benchmarks.suite.revisions import (
    NEW,
    OLD,
    bare_environment,
    copy_command,
    fill_folder,
    installed,
    paired_line,
    unpacked,
)
from noria.benchmarks.suite.rounds import WARM_UP, temporary_folder
from noria.benchmarks.suite.tools import noria_role
from noria.benchmarks.suite.workloads import MIB
from noria.engine.interpreter import describe_interpreter

ROUNDS = 9
OBJECTS = 10
OBJECT_BYTES = 4096
LOOK_SECONDS = 0.002
"""Between two looks for the first object. A look takes some 10 us, for both revisions alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUpRun:
    """One `noria copy`."""

    side: str
    round: int
    usage: Usage
    first_object_seconds: float
    """From the launch of the command until the first object lay at the target."""


COLUMNS: Mapping[str, tuple[Callable[[StartUpRun], float], int]] = {
    "CPU s": (lambda run: run.usage.cpu_seconds, 2),
    "first object s": (lambda run: run.first_object_seconds, 2),
    "wall s": (lambda run: run.usage.wall_seconds, 2),
    "peak RSS MiB": (lambda run: run.usage.peak_rss_bytes / MIB, 0),
}


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ref", help="a commit, branch or tag")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--objects", type=int, default=OBJECTS, help=f"default: {OBJECTS}")
    arguments = parser.parse_args()
    with unpacked(arguments.ref) as tree, installed(tree) as old, installed(ROOT) as new:
        machine = describe_machine()
        print(
            f"{machine['CPU']}, {machine['memory']}, load {machine['load before (1, 5, 15 min)']}"
        )
        print(f"old: {arguments.ref}; new: {describe_revision(ROOT)}; {describe_interpreter()}")
        print(f"{arguments.objects} objects of {OBJECT_BYTES} bytes, {arguments.rounds} rounds\n")
        runs = list(run_in_turns({OLD: old, NEW: new}, arguments.rounds, arguments.objects))
    print("\n".join(["", *table(runs)]))
    return 0


def run_in_turns(programs: Mapping[str, Path], rounds: int, objects: int) -> Iterator[StartUpRun]:
    """A round that does not count, as it warms the page cache, and then `rounds`."""
    sides = list(programs)
    for number in range(rounds + 1):
        for side in sides if number % 2 else reversed(sides):
            run = copy_once(side, programs[side], number, objects)
            print(
                f"  round {number} {side}{run.usage.cpu_seconds:8.2f} CPU s"
                f"{run.first_object_seconds:8.2f} s to the first object"
                f"{run.usage.wall_seconds:8.2f} s",
                flush=True,
            )
            yield run


def copy_once(side: str, program: Path, number: int, objects: int) -> StartUpRun:
    """Raises CalledProcessError unless every object arrives."""
    with temporary_folder() as folder, open_account() as account:
        source, target = fill_folder(folder / "source", objects, OBJECT_BYTES), folder / "target"
        target.mkdir()
        command = copy_command(program, source, target, folder / "job")
        log = folder / "output.log"
        first = FirstObject(folder=target, names=frozenset(os.listdir(source)))
        with log.open("wb") as output, first.watched():
            usage = measure(
                command,
                bare_environment(folder),
                account=account,
                roles=noria_role,
                folder=folder,
                output=output,
                errors=output,
            )
        arrived = {path.name for path in target.iterdir() if path.stat().st_size == OBJECT_BYTES}
        if usage.exit_code != 0 or arrived != first.names or first.seconds is None:
            raise subprocess.CalledProcessError(usage.exit_code, command, log.read_bytes())
    return StartUpRun(side=side, round=number, usage=usage, first_object_seconds=first.seconds)


@dataclass(slots=True, kw_only=True)
class FirstObject:
    """When the first of `names` lay in a folder. A local target names only what is whole."""

    folder: Path
    names: frozenset[str]
    seconds: float | None = None
    """Since the watch began."""

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look again and again, until it is there or the block ends."""
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended, time.perf_counter()))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, ended: threading.Event, started: float) -> None:
        while not ended.wait(LOOK_SECONDS):
            if not self.names.isdisjoint(os.listdir(self.folder)):
                self.seconds = time.perf_counter() - started
                return


def table(runs: Sequence[StartUpRun]) -> Iterator[str]:
    """Medians of both sides, and new over old in each round: median, lowest, highest."""
    yield f"{'':28}{'old':>10}{'new':>10}   new/old"
    counted = [run for run in runs if run.round != WARM_UP]
    for title, (column, digits) in COLUMNS.items():
        old, new = (
            {run.round: column(run) for run in counted if run.side == side} for side in (OLD, NEW)
        )
        yield paired_line(f"{title:28}", old, new, digits)
    yield ""
    for role in sorted({role for run in counted for role in run.usage.cpu_by_role}):
        medians = (_median_cpu(counted, side, role) for side in (OLD, NEW))
        yield f"{'CPU s, ' + role:28}" + "".join(f"{median:10.2f}" for median in medians)


def _median_cpu(runs: Iterable[StartUpRun], side: str, role: str) -> float:
    return statistics.median(
        [run.usage.cpu_by_role.get(role, 0.0) for run in runs if run.side == side] or [0.0]
    )


if __name__ == "__main__":
    sys.exit(main())
