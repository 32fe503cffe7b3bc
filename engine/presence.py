"""A command that goes on from one pass to the next, and what it hears while it waits for that.

A driver lives as long as its pass. In between, `noria sync --every` and `noria cutover` wait: by a
lock of their own others know that they are there, and a drain ends them, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from noria.manifests.access import is_lock_held, open_new
from noria.manifests.errors import StopAsked
from noria.manifests.job.control import ControlKind, ControlLog
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import outermost

LOCK_FILE: Final = "present.lock"
LOOK_SECONDS: Final = 1.0


class Presence:
    """What such a command hears; made by present()."""

    def __init__(self, root: JobDirectory) -> None:
        self._log = ControlLog(root)

    def check(self) -> None:
        """Raise StopAsked if somebody has asked for the end since the last look."""
        for record in self._log.look():
            if record.kind is ControlKind.DRAIN:
                raise StopAsked(f"drained on request of {record.by}; run it again to go on")

    def wait(self, seconds: float) -> None:
        """Wait so long. Raises as check() does, within LOOK_SECONDS."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, LOOK_SECONDS))


@contextlib.contextmanager
def present(directory: Path) -> Iterator[Presence]:
    """Be there for the block; others may be, too. `directory` is a job directory.

    Raises ConfigurationError if it is none, JobDirectoryError if a record of what was asked is
    damaged.
    """
    JobDirectory.open(directory)
    root = JobDirectory(outermost(directory))
    presence = Presence(root)
    file = open_new(str(root.path(LOCK_FILE)), os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield presence
    finally:
        os.close(file)


def is_somebody_present(root: Path) -> bool:
    """Whether such a command goes on with the migration at root, on this machine."""
    return is_lock_held(root / LOCK_FILE)
