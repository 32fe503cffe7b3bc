"""A planned pass is taken back before anything of it was moved; the next lists the source again.

    1. the pass is held: nobody plans or runs it, and it has not begun
    2. the canaries of its probe are removed from the target
    3. its folder gets another name, passes/.withdrawn-000002: no command finds it from here on
    4. the history says that it is withdrawn
    5. the folder is removed

A kill after 3 leaves the folder; whoever comes next ends what was begun.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from noria.engine.canary_removal import remove_of_killed_plan
from noria.engine.job import BEGUN_FILE
from noria.engine.pass_records import has_ended, withdrawal_of
from noria.engine.planning import check_trust, open_prepared, removed_at_the_end
from noria.engine.status import STATUS_FILE
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.cutover_states import require
from noria.manifests.job.directory import JobDirectory, disk_errors
from noria.manifests.job.history import PASS, Record, RecordKind, Sign, append, read
from noria.manifests.passes.migration import PASSES, Migration

_ASIDE: Final = ".withdrawn-"
_TRACES: Final = ("results", "sealed", "superseded", "uploads", "journal", "log")
"""Folders of a job that nothing but a run writes to."""


def withdraw(migration: Migration, sign: Sign | None = None) -> Record:
    """Take back the last pass, which was planned and not begun, and record that.

    Raises ConfigurationError if there is none, or a run of it was begun: it may have moved
    something, whatever its directory says. Raises AnotherDriver while another process has it.
    """
    end_withdrawal(migration, sign)
    number = migration.last
    if number == 1:
        raise ConfigurationError(
            f"{migration.root} has no later pass that could be withdrawn; a first pass is the "
            "migration itself"
        )
    place = migration.place(number)
    directory = JobDirectory.open(place)
    with directory.hold():
        if has_ended(migration, number):
            raise ConfigurationError(f"pass {number} has ended: there is nothing to withdraw")
        if _has_begun(directory):
            raise ConfigurationError(
                f"pass {number} has begun to move: `noria sync {migration.root}` brings it to its "
                "end"
            )
        _remove_canaries(directory)

        require(read(JobDirectory(migration.root)), RecordKind.WITHDRAWN)
        aside = migration.root / PASSES / f"{_ASIDE}{number:06d}"
        with disk_errors(directory.root):
            os.rename(place, aside)
        return _ended(migration, aside, sign)


def end_withdrawal(migration: Migration, sign: Sign | None = None) -> None:
    """End what a process began that was killed meanwhile. Raises AnotherDriver while one is at it.

    Raises ConfigurationError if the migration stands where no pass may be withdrawn any more.
    """
    for aside in sorted((migration.root / PASSES).glob(f"{_ASIDE}*")):
        with JobDirectory(aside).hold():
            _ended(migration, aside, sign)


def _ended(migration: Migration, aside: Path, sign: Sign | None) -> Record:
    """Record that the pass of this folder is withdrawn, unless that is recorded; then remove it."""
    number = int(aside.name.removeprefix(_ASIDE))

    def check(records: Sequence[Record]) -> None:
        require(records, RecordKind.WITHDRAWN)

    record = withdrawal_of(migration, number)
    if record is None:
        home = JobDirectory.open(migration.root)
        record = append(home, RecordKind.WITHDRAWN, {PASS: number}, check=check, sign=sign)
    _discard(aside)
    return record


def _has_begun(directory: JobDirectory) -> bool:
    """Whether workers may have been at work: a run notes that before it starts any."""
    if any(directory.path(name).exists() for name in (BEGUN_FILE, STATUS_FILE)):
        return True
    return any(directory.path(name).exists() for name in _TRACES)


def _remove_canaries(directory: JobDirectory) -> None:
    check_trust(directory)
    if directory.manifest_path.exists():
        with removed_at_the_end(open_prepared(directory.root)):
            return
    directory.withdraw()
    remove_of_killed_plan(directory.root)


def _discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
