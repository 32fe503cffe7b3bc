"""Steps of a study, each a process of its own, measured by the operating system."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from noria.benchmarks.measure.accounting import Usage, measure, open_account

LOOK_SECONDS = 1.0
LIMIT_SECONDS = 4 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One step over one number of rows."""

    rows: int
    usage: Usage
    job_bytes: int
    """Of the job directory when the step has ended."""
    inodes: int
    scratch_bytes: int
    """Beside it, at most."""

    @property
    def cpu_a_million(self) -> float:
        return self.usage.cpu_seconds / self.rows * 1e6


def describe() -> str:
    """The machine, and how busy it is now."""
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores {platform.machine()}, load {load:.1f} before, "
        f"Python {platform.python_version()}, pyarrow {pa.__version__}"
    )


def measure_steps(
    study: str, steps: Iterable[str], rows: int, folder: Path | None
) -> dict[str, Measured]:
    """Measure these steps, one after the other, of `python -m noria.benchmarks.studies.STUDY`.

    They share a new folder in `folder`, whose job/ is the job directory. Exits if one fails.
    """
    with tempfile.TemporaryDirectory(prefix=f"noria-{study}-", dir=folder) as name:
        found = {}
        for step in steps:
            found[step] = _measure_step(study, step, rows, Path(name))
            used = found[step].usage
            print(
                f"{rows:>13,} {step:10} {used.wall_seconds:8.1f} s wall "
                f"{used.cpu_seconds:8.1f} s CPU {used.peak_pss_bytes / 1e6:7,.0f} MB",
                file=sys.stderr,
                flush=True,
            )
    return found


def _measure_step(study: str, step: str, rows: int, folder: Path) -> Measured:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    command = [sys.executable, "-m", f"noria.benchmarks.studies.{study}", "--rows", str(rows)]
    command += ["--folder", str(folder), "--step", step]
    watch = ScratchWatch([scratch, folder / "job"])
    before = occupied(folder / "job")[0]
    with open_account() as account, watch:
        usage = measure(
            command,
            {**os.environ, "TMPDIR": str(scratch)},
            account=account,
            output=sys.stderr.fileno(),
            errors=sys.stderr.fileno(),
            limit_seconds=LIMIT_SECONDS,
        )
    if usage.exit_code:
        sys.exit(f"the step {step} of {rows:,} rows ended with {usage.exit_code}")
    job_bytes, inodes = occupied(folder / "job")
    return Measured(
        rows=rows,
        usage=usage,
        job_bytes=job_bytes,
        inodes=inodes,
        scratch_bytes=max(0, watch.most_bytes - max(before, job_bytes)),
    )


class ScratchWatch:
    """The most that folders hold while a step runs, seen every LOOK_SECONDS."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.most_bytes = 0
        self._folders = folders
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> ScratchWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            held = sum(occupied(folder)[0] for folder in self._folders)
            self.most_bytes = max(self.most_bytes, held)


def occupied(folder: Path) -> tuple[int, int]:
    """Bytes on the disk, and inodes, below a folder."""
    size = inodes = 0
    waiting = [folder] if folder.is_dir() else []
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    inodes += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        except FileNotFoundError:
            continue  # gone meanwhile
    return size, inodes
