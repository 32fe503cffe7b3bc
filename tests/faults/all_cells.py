"""All cells, by number."""

from tests.faults import commit_cells, pass_cells, plan_cells, read_cells, state_cells, write_cells
from tests.faults.cells import CELLS, Cell

__all__ = ["CELLS", "Cell"]

MODULES = (plan_cells, read_cells, write_cells, commit_cells, state_cells, pass_cells)
"""Importing them has entered their cells."""

CELLS.sort(key=lambda cell: (int(cell.number[1:].rstrip("abcd")), cell.number))
