"""Copies of Noria's own code, for tests that change it."""

from __future__ import annotations

import shutil
from pathlib import Path

import noria


def copy_of_noria(folder: Path) -> Path:
    """A folder for PYTHONPATH which holds the package, without its benchmarks' results."""
    shutil.copytree(
        Path(noria.__file__).parent,
        folder / "noria",
        ignore=shutil.ignore_patterns("__pycache__", "results"),
    )
    return folder
