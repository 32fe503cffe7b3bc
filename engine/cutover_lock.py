"""One cutover, or one way back, of a migration at a time: a user's command must not run twice."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Final

from noria.manifests.access import make_folders, open_new
from noria.manifests.errors import AnotherDriver
from noria.manifests.job.directory import JobDirectory

LOCK_FILE: Final = "cutover/.lock"


@contextlib.contextmanager
def one_at_a_time(directory: JobDirectory) -> Iterator[None]:
    """Hold the migration of this directory for the block. Raises AnotherDriver if another does."""
    path = directory.path(LOCK_FILE)
    make_folders(path.parent)
    file = open_new(str(path), os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AnotherDriver(
                f"another process cuts {directory.root} over, or rolls it back; wait for it"
            ) from None
        yield
    finally:
        os.close(file)
