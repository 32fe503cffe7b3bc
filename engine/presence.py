"""A command that goes on from one pass to the next, and what it hears while it waits for that.

A driver lives as long as its pass. In between, `noria sync --every` and `noria cutover` wait: by a
lock of their own others know that they are there, and a drain ends them, too.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from noria.manifests.access import open_new
from noria.manifests.errors import StopAsked
from noria.manifests.job.control import ControlKind, ControlLog
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import outermost

LOCK_FILE: Final = "present.lock"
LOOK_SECONDS: Final = 1.0


class Presence:
    """One for each such command; a context manager."""

    def __init__(self, directory: Path) -> None:
        """`directory` is a job directory.

        Raises ConfigurationError if it is none, JobDirectoryError if a record of what was asked is
        damaged.
        """
        JobDirectory.open(directory)
        self._root = JobDirectory(outermost(directory))
        self._log = ControlLog(self._root)

    def wait(self, seconds: float) -> None:
        """Wait so long. Raises StopAsked if somebody has asked for the end since this began."""
        ends = time.monotonic() + seconds
        while True:
            for record in self._log.look():
                if record.kind is ControlKind.DRAIN:
                    raise StopAsked(f"drained on request of {record.by}; run it again to go on")
            left = ends - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LOOK_SECONDS))

    def __enter__(self) -> Self:
        flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK
        self._file = open_new(str(self._root.path(LOCK_FILE)), flags)
        fcntl.flock(self._file, fcntl.LOCK_SH)  # others may be there, too
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)


def is_somebody_present(root: Path) -> bool:
    """Whether such a command goes on with the migration at root, on this machine."""
    try:
        file = os.open(root / LOCK_FILE, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(file)
