"""Who may read a job: its owner alone, or the owner and a group.

Nearly every file of a job holds names of objects, and one holds the secret behind their pseudonyms.
So folders are 0700 and files 0600, whatever the umask. The mode of the job directory is the setting
for a group, as it is for PostgreSQL's data directory: one that was made beforehand for its group
and for nobody else (0750 or 0770, perhaps setgid) gives its folders and files to that group too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o700
_OTHERS: Final = 0o007
_GROUP_READS: Final = 0o050


def folder_mode(root: Path) -> int:
    """The mode of folders in a job directory, or in a folder of one. Raises OSError."""
    mode = stat.S_IMODE(root.stat().st_mode)
    shared = not mode & _OTHERS and mode & _GROUP_READS == _GROUP_READS
    return PRIVATE | (mode & 0o070 if shared else 0)


def file_mode(root: Path) -> int:
    """The mode of files in a job directory, or in a folder of one. Raises OSError."""
    return folder_mode(root) & 0o666


def make_folders(folder: Path) -> None:
    """Make a folder and those above it that are missing; the one that is there says the mode."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    mode = folder_mode(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode)
        settle_mode(folder, mode)


def open_new(path: str, flags: int) -> int:
    """Open or make a file with file_mode(); the `opener` of open()."""
    mode = file_mode(Path(path).parent)
    file = os.open(path, flags | os.O_CLOEXEC, mode)
    if mode & _GROUP_READS:
        settle_mode(file, mode)
    return file


def is_lock_held(lock: Path, *, unknown: bool = False) -> bool:
    """Whether a process holds the flock(2) of a file; `unknown` if the file system has none."""
    try:
        file = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return unknown
    finally:
        os.close(file)
    return False


def settle_modes(folder: Path, root: Path) -> None:
    """Give a finished folder, and all files in it, the modes of the job directory `root`."""
    settle_mode(folder, folder_mode(root))
    for file in folder.iterdir():
        settle_mode(file, file_mode(root))


def settle_mode(place: int | Path, mode: int) -> None:
    """Set a mode whatever the umask; a setgid bit stays."""
    has = stat.S_IMODE(os.stat(place).st_mode)
    if has & 0o777 != mode:
        with contextlib.suppress(PermissionError):  # on some shares the mount alone says it
            os.chmod(place, has & stat.S_ISGID | mode)
