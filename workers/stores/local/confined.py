"""A folder that paths never lead out of: no name below it is followed through a symbolic link.

A path is walked one name at a time. Each folder is opened relative to the one above it, and the
kernel refuses a link (openat with O_NOFOLLOW). So it does not matter what stood there a moment ago,
or what another process puts there meanwhile. The root itself may be a link: a person named it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
"""Needs no right but to walk through."""


class LinkInPath(OSError):
    """A symbolic link stands where a folder should: ELOOP."""


class ConfinedFolder:
    """The root of a store. Descriptors that it hands out are for `dir_fd`, and end with the block.

    All of it raises OSError: LinkInPath if a link stands in the path.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def folder(self, names: Sequence[str] = (), *, make: bool = False) -> Iterator[int]:
        """Open the folder that `names` lead to, one below the other; `make` makes what is missing.

        Folders that were made are durable. A name may not be empty, `.` or `..`, nor hold a slash.
        """
        folder = os.open(self._root, _FOLDER)
        try:
            for name in names:
                below = _made(name, folder) if make else self._below(name, folder)
                os.close(folder)
                folder = below
            yield folder
        finally:
            os.close(folder)

    def file(self, name: str, folder: int) -> int:
        """Open what stands under a name in one of these folders: see open_file()."""
        return open_file(name, folder)

    def _below(self, name: str, folder: int) -> int:
        return open_folder(name, folder)


class FollowedFolder(ConfinedFolder):
    """The root of a source whose links a person wants followed, wherever they lead."""

    def file(self, name: str, folder: int) -> int:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)

    def _below(self, name: str, folder: int) -> int:
        return os.open(name, _FOLDER, dir_fd=folder)


def open_folder(name: str, above: int) -> int:
    """Open a folder in another one. Raises OSError: LinkInPath if `name` is a link."""
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
    except NotADirectoryError:
        # The kernel says the same of a link as of a file.
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise LinkInPath(errno.ELOOP, os.strerror(errno.ELOOP)) from None
        raise


def open_file(name: str, folder: int) -> int:
    """Open what stands under a name for reading, without waiting for a pipe's other end."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(name, flags, dir_fd=folder)


@contextmanager
def readable(folder: int) -> Iterator[int]:
    """Open a folder of ConfinedFolder again, with the right to read and to sync its names."""
    file = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield file
    finally:
        os.close(file)


def sync_folder(folder: int) -> None:
    """Make the names in a folder durable."""
    with readable(folder) as file:
        os.fsync(file)


def is_abandoned(name: str, folder: int) -> bool:
    """Whether no living process holds the flock(2) of what stands under a name.

    False as well if the file system has no such locks: then nobody can tell.
    """
    try:
        file = open_file(name, folder)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def mark_living(file: int) -> None:
    """Hold the flock(2) that is_abandoned() looks for, until the descriptor is closed."""
    with contextlib.suppress(OSError):  # a file system without locks: nobody can tell
        fcntl.flock(file, fcntl.LOCK_EX)  # those who look hold theirs for no time


def _made(name: str, above: int) -> int:
    with contextlib.suppress(FileNotFoundError):
        return open_folder(name, above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=above)
    sync_folder(above)
    return open_folder(name, above)
