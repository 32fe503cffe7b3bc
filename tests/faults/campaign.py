"""Every cell of the fault matrix with many seeds, and faults drawn together, for a given time.

    .venv/bin/python -m tests.faults.campaign --minutes 10
    .venv/bin/python -m tests.faults.campaign --cell F37 --seed 4711     # that one again

Real servers on this machine. First each cell once; then cells and draws of two or three faults take
turns until the time is up. Prints each violation with what replays it, and at the end a table of
cells, seeds, faults injected, bytes moved, questions asked and violations. Exit code 1 where there
was one.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from noria.benchmarks.servers import run_azurite, run_seaweedfs
from tests.faults.all_cells import CELLS, Cell
from tests.faults.cells import Evidence, Stage
from tests.faults.pairs import play_some
from tests.support.lease_jobs import BucketShelf

TOGETHER = "together"
"""The row of faults that are drawn together."""


@dataclass(slots=True)
class Row:
    """What one cell has shown over its seeds."""

    title: str
    seeds: int = 0
    seconds: float = 0.0
    evidence: Evidence = field(default_factory=Evidence)
    violations: list[int] = field(default_factory=list)
    """Seeds."""
    skipped: str = ""


def main() -> int:
    arguments = _parse()
    chosen = [one for one in CELLS if arguments.cell in (None, one.number)]
    if arguments.cell not in (None, TOGETHER, *(one.number for one in CELLS)):
        sys.exit(f"no such cell: {arguments.cell}; there are {TOGETHER} and F1 to F66")
    first_seed = random.randrange(1 << 31) if arguments.seed is None else arguments.seed
    with _stage() as stage, tempfile.TemporaryDirectory(prefix="faults-") as folder:
        campaign = Campaign(stage, Path(folder))
        if arguments.seed is not None:
            if arguments.cell == TOGETHER:
                campaign.play_together(first_seed)
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
    parser.add_argument("--cell", help="only this one, such as F37, or together")
    parser.add_argument("--seed", type=int, help="play once, from this seed")
    return parser.parse_args()


@contextlib.contextmanager
def _stage() -> Iterator[Stage]:
    with (
        run_azurite() as azurite,
        run_seaweedfs() as seaweedfs,
        contextlib.closing(BucketShelf(seaweedfs)) as shelf,
    ):
        yield Stage(azurite=azurite, seaweedfs=seaweedfs, shelf=shelf)


class Campaign:
    """Plays cells, and keeps the books."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._stage = stage
        self._folder = folder
        self._rows: defaultdict[str, Row] = defaultdict(lambda: Row(""))
        self._played = 0

    @property
    def violations(self) -> int:
        return sum(len(row.violations) for row in self._rows.values())

    def play_for(self, seconds: float, cells: list[Cell], dice: random.Random) -> None:
        """Each cell once, whatever time that takes; then on, until the time is up."""
        deadline = time.monotonic() + seconds
        for one in cells:
            self.play(one, dice.randrange(1 << 31))
        while time.monotonic() < deadline:
            # The time goes in equal parts to draws and to cells, to the one that had the least.
            if self._rows[TOGETHER].seconds < sum(r.seconds for r in self._rows.values()) / 2:
                self.play_together(dice.randrange(1 << 31))
            else:
                one = min(cells, key=lambda cell: self._rows[cell.number].seconds)
                self.play(one, dice.randrange(1 << 31))

    def play(self, one: Cell, seed: int) -> None:
        self._play(one.number, one.title, seed, one.play)

    def play_together(self, seed: int) -> None:
        count = 2 + seed % 2
        self._play(
            TOGETHER,
            "two or three drawn faults at once",
            seed,
            lambda scene: play_some(scene, count),
        )

    def _play(self, name: str, title: str, seed: int, play: Callable[..., object]) -> None:
        row = self._rows[name]
        row.title = title
        self._played += 1
        folder = self._folder / f"{self._played}"
        folder.mkdir()
        started = time.monotonic()
        try:
            with self._stage.scene(seed, folder) as scene:
                play(scene)
            row.evidence.add(scene.evidence)
        except pytest.skip.Exception as reason:
            row.skipped = str(reason)
        except Exception as error:  # noqa: BLE001 - a violation, whatever it is
            row.violations.append(seed)
            traceback.print_exc()
            print(f"VIOLATION {name} {title}: {error}")
            print(
                f"  again: python -m tests.faults.campaign --cell {name} --seed {seed}", flush=True
            )
        row.seeds += 1
        row.seconds += time.monotonic() - started
        shutil.rmtree(folder, ignore_errors=True)

    def table(self) -> Iterator[str]:
        """Markdown, with a last row of sums."""
        yield "| cell | fault | seeds | faults injected | MB moved | questions asked | violations |"
        yield "|---|---|---|---|---|---|---|"
        total = Row("")
        for name, row in self._rows.items():
            total.seeds += row.seeds
            total.evidence.add(row.evidence)
            title = f"{row.title} (skipped: {row.skipped})" if row.skipped else row.title
            yield _line(name, title, row, len(row.violations))
        yield _line("all", f"{len(self._rows)} rows", total, self.violations)


def _line(name: str, title: str, row: Row, violations: int) -> str:
    evidence = row.evidence
    megabytes = f"{evidence.moved_bytes / 1e6:,.0f}"
    cells = (row.seeds, f"{evidence.faults:,}", megabytes, f"{evidence.invariants:,}", violations)
    return " | ".join(("| " + name, title, *map(str, cells))) + " |"


if __name__ == "__main__":
    sys.exit(main())
