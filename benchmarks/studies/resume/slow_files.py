"""slow_files.c, built when it is first asked for, and how it is preloaded."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from noria.benchmarks.null.programs import BuildFailed, find_compiler

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-fPIC", "-shared")


def slowed(folder: Path, milliseconds: float) -> dict[str, str]:
    """Variables that delay a process, and those it starts, at each metadata operation in a folder.

    Raises BuildFailed.
    """
    return {
        "LD_PRELOAD": str(_build()),
        "SLOW_FILES_BELOW": str(folder.resolve()),
        "SLOW_FILES_MS": str(milliseconds),
    }


def _build() -> Path:
    digest = hashlib.sha256(SOURCE.read_bytes() + repr(FLAGS).encode()).hexdigest()[:16]
    library = SOURCE.parent / "build" / f"slow_files-{digest}.so"
    if library.exists():
        return library
    library.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        made = Path(scratch) / library.name
        command = [find_compiler(), *FLAGS, str(SOURCE), "-o", str(made), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildFailed(f"{SOURCE.name} could not be built:\n{done.stderr}")
        os.replace(made, library)
    return library
