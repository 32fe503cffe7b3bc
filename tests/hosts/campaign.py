"""Every scenario on hosts, then drawn schedules of faults for a given time.

    .venv/bin/python -m tests.hosts.campaign --minutes 10
    .venv/bin/python -m tests.hosts.campaign --scenario drawn --seed 4711     # that one again

Hosts are network namespaces of this machine, which only root can make. First each scenario once,
in about a quarter of an hour; then drawn schedules, for the given time. The target is looked at
again after the end of each job: two minutes later in the scenarios that END_LATE names, some
seconds later in others. Prints each violation with what replays it, and at the end a table. Exit
code 1 where there was one.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from noria.benchmarks.servers import run_azurite, run_seaweedfs
from tests.hosts.bed import HostBed
from tests.hosts.namespaces import why_not
from tests.hosts.scenarios import DRAWN, SCENARIOS, Scenario
from tests.hosts.scene import HostScene

END_LATE = {"severed": 120.0, "cut": 120.0}
"""A worker that lost its driver and still reaches the stores could write for minutes; and what the
kernel of a host that was cut off has not sent yet, it tries again after ever longer waits."""
LATER_SECONDS = 10.0


@dataclass(slots=True)
class ScenarioRow:
    """What one scenario has shown."""

    title: str
    runs: int = 0
    faults: int = 0
    moved_bytes: int = 0
    questions: int = 0
    seconds: float = 0.0
    violations: list[int] = field(default_factory=list)
    """Seeds."""

    def add(self, other: ScenarioRow) -> None:
        self.runs += other.runs
        self.faults += other.faults
        self.moved_bytes += other.moved_bytes
        self.questions += other.questions
        self.seconds += other.seconds
        self.violations += other.violations


def main() -> int:
    arguments = _parse()
    # By default it ends Python at once: namespaces, and Ray in them, would stay.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    reason = why_not()
    if reason is not None:
        print(f"not played: {reason}")
        return 2
    names = arguments.scenario or [one.name for one in SCENARIOS]
    chosen = [one for one in SCENARIOS if one.name in names]
    if len(chosen) < len(names):
        sys.exit(f"there are: {', '.join(one.name for one in SCENARIOS)}")
    first_seed = random.randrange(1 << 31) if arguments.seed is None else arguments.seed
    with (
        run_azurite() as azurite,
        run_seaweedfs() as seaweedfs,
        HostBed(azurite, seaweedfs) as bed,
        tempfile.TemporaryDirectory(prefix="hosts-") as folder,
    ):
        campaign = HostCampaign(bed, Path(folder), arguments.later)
        if arguments.scenario is not None and arguments.seed is not None:
            for one in chosen:
                campaign.play(one, first_seed)
        else:
            campaign.play_for(arguments.minutes * 60, chosen, random.Random(first_seed))
    print(f"\nseeds drawn from {first_seed}")
    for line in campaign.table():
        print(line)
    return 1 if campaign.violations else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--scenario", nargs="+", help="only these, such as cut, or drawn")
    parser.add_argument("--seed", type=int, help="of scenarios: play them once; else: of all seeds")
    parser.add_argument("--later", type=float, help="seconds until the target is looked at again")
    return parser.parse_args()


class HostCampaign:
    """Plays scenarios, and keeps the books."""

    def __init__(self, bed: HostBed, folder: Path, later_seconds: float | None) -> None:
        self._bed = bed
        self._folder = folder
        self._later_seconds = later_seconds
        self._rows: dict[str, ScenarioRow] = {}
        self._played = 0

    @property
    def violations(self) -> int:
        return sum(len(row.violations) for row in self._rows.values())

    def play_for(self, seconds: float, chosen: list[Scenario], dice: random.Random) -> None:
        """Each once, whatever time that takes; then drawn schedules for so long."""
        for one in chosen:
            self.play(one, dice.randrange(1 << 31))
        deadline = time.monotonic() + seconds
        again = [one for one in chosen if one.name == DRAWN] or chosen
        while time.monotonic() < deadline:
            self.play(again[self._played % len(again)], dice.randrange(1 << 31))

    def play(self, one: Scenario, seed: int) -> None:
        row = self._rows.setdefault(one.name, ScenarioRow(one.title))
        self._played += 1
        folder = self._folder / f"{self._played}"
        folder.mkdir()
        started = time.monotonic()
        later = self._later_seconds or END_LATE.get(one.name, LATER_SECONDS)
        scene = HostScene(bed=self._bed, folder=folder, seed=seed, later_seconds=later)
        try:
            with scene:
                one.play(scene)
        except Exception as error:  # noqa: BLE001 - a violation, whatever it is
            row.violations.append(seed)
            traceback.print_exc()
            print(f"VIOLATION {one.name} {one.title}: {error}")
            print(f"  again: python -m tests.hosts.campaign --scenario {one.name} --seed {seed}")
        row.runs += 1
        row.faults += scene.faults
        row.questions += scene.questions
        row.moved_bytes += scene.moved_bytes
        row.seconds += time.monotonic() - started
        print(f"{one.name}: {time.monotonic() - started:.0f} s", flush=True)
        shutil.rmtree(folder, ignore_errors=True)

    def table(self) -> Iterator[str]:
        """Markdown, with a last row of sums."""
        yield "| scenario | what happens | runs | faults | MB moved | questions | violations |"
        yield "|---|---|---|---|---|---|---|"
        total = ScenarioRow(f"{len(self._rows)} scenarios")
        for name, row in self._rows.items():
            total.add(row)
            yield _row_text(name, row)
        yield _row_text("all", total)


def _row_text(name: str, row: ScenarioRow) -> str:
    megabytes = f"{row.moved_bytes / 1e6:,.0f}"
    cells = (name, row.title, row.runs, row.faults, megabytes, f"{row.questions:,}")
    return f"| {' | '.join(map(str, cells))} | {len(row.violations)} |"


if __name__ == "__main__":
    sys.exit(main())
