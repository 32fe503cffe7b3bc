"""Every cell of the fault matrix with one seed; `make faults` plays them with many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.all_cells import CELLS, Cell
from tests.faults.cells import Stage
from tests.faults.pairs import play_some

SEED = 1
PAIRS = 12
NUMBERS = {f"F{number}" for number in range(1, 67)}


def test_every_fault_of_the_matrix_has_a_cell() -> None:
    assert {cell.number.rstrip("abcd") for cell in CELLS} == NUMBERS
    assert len({cell.number for cell in CELLS}) == len(CELLS)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name.replace(" ", "-"))
def test_cell(stage: Stage, cell: Cell, tmp_path: Path) -> None:
    evidence = stage.play(cell, SEED, tmp_path)
    assert evidence.faults > 0, "a cell in which nothing went wrong shows nothing"
    assert evidence.invariants > 0


@pytest.mark.parametrize("seed", range(PAIRS))
def test_faults_that_come_together(stage: Stage, seed: int, tmp_path: Path) -> None:
    with stage.scene(seed, tmp_path) as scene:
        play_some(scene, 2 + seed % 2)
