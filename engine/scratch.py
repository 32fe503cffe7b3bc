"""Room for what a job needs for a while only: `[plan] scratch`, else the temporary folder.

    SCRATCH/noria-JOB-RANDOM/lock     held while it is in use
    SCRATCH/noria-JOB-RANDOM/files/   what is yielded

JOB is a digest of the job's id and place. SCRATCH may be everybody's, as /tmp is: the folder is
made with a name that nobody can know before, for its owner alone. What a killed process has left is
removed by the next one of the same job, and only if it is a folder of the same user that is not
held.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from noria.manifests.access import PRIVATE, is_lock_held, make_folders, settle_mode
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS = ("No space left", "max_temp_directory_size")
"""As Arrow and DuckDB say it, which may carry no number."""


@contextmanager
def scratch_folder(directory: JobDirectory, chosen: str | None) -> Iterator[Path]:
    """An empty folder for the block, which its user may also remove; gone afterwards.

    It lies below `chosen`, which is made if it is missing; else below the temporary folder, or in
    the job directory if there is none that is safe. Raises ConfigurationError if it cannot be made.
    A JobDirectoryError of the block that comes from a full disk says where the folder is, and how
    another is named. The caller holds the job.
    """
    what = f"{directory.root.resolve()}\0{directory.job().get('id')}"
    with _folder(what, chosen, directory.root, is_sole=True) as files:
        yield files


@contextmanager
def lone_scratch_folder(what: str, chosen: str | None) -> Iterator[Path]:
    """As scratch_folder(), for what has no job directory. `what` tells it from all else.

    Raises ConfigurationError, too, if nothing is chosen and there is no temporary folder.
    """
    with _folder(what, chosen, None, is_sole=False) as files:
        yield files


@contextmanager
def _folder(
    what: str, chosen: str | None, otherwise: Path | None, *, is_sole: bool
) -> Iterator[Path]:
    name = f"noria-{hashlib.sha256(os.fsencode(what)).hexdigest()[:16]}-"
    place = (_temporary() or otherwise) if chosen is None else Path(chosen)
    if place is None:
        raise ConfigurationError(
            "there is no folder for temporary files; name one with [plan] scratch"
        )
    with ExitStack() as stack:
        try:
            if chosen is not None:
                place = _checked(chosen)
            files = stack.enter_context(held_folder(place, name, is_sole=is_sole))
        except OSError as error:
            raise ConfigurationError(
                f"temporary files cannot be in {place} ({error.strerror}); name another folder "
                "with [plan] scratch"
            ) from error
        try:
            yield files
        except JobDirectoryError as error:
            if not _is_full(error):
                raise
            raise JobDirectoryError(
                f"{error.message}. Temporary files are in {place}: if that is what is full, name "
                "another folder with [plan] scratch"
            ) from error


@contextmanager
def held_folder(place: Path, name: str, *, is_sole: bool = False) -> Iterator[Path]:
    """An empty folder below `place` for the block, gone afterwards; `name` begins its own.

    What processes of this user that are dead have left under such a name is removed first. It gets
    that name once it is held, so that it is never taken for one of those. Where there are no locks,
    nothing is removed unless `is_sole`: the caller knows that no other process is at work under
    this name. Raises OSError.
    """
    _remove_left(place, name, is_sole=is_sole)
    token = secrets.token_hex(8)
    begun, folder = place / f"{name}new-{token}", place / f"{name}{token}"
    begun.mkdir(PRIVATE)
    try:
        settle_mode(begun, PRIVATE)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(begun / "lock", flags, 0o600)) as lock:
            with contextlib.suppress(OSError):  # there may be no locks
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            begun.rename(folder)
            files = folder / "files"
            files.mkdir(PRIVATE)
            yield files
    finally:
        for each in (begun, folder):
            shutil.rmtree(each, ignore_errors=True)


def _checked(chosen: str) -> Path:
    """Raises ConfigurationError or OSError if it will not do."""
    place = Path(chosen).absolute()
    make_folders(place)
    if not _is_safe(place):
        raise ConfigurationError(
            f"anybody may rename what is in {place}: set its sticky bit (chmod +t), or name "
            "another folder with [plan] scratch"
        )
    return place


def _temporary() -> Path | None:
    """The temporary folder; None if there is none that is safe."""
    try:
        place = Path(tempfile.gettempdir()).absolute()
        return place if _is_safe(place) else None
    except OSError:
        return None


def _is_safe(place: Path) -> bool:
    """Whether others cannot put a folder of theirs in the place of one of ours."""
    mode = place.stat().st_mode
    return not mode & stat.S_IWOTH or bool(mode & stat.S_ISVTX)


def _remove_left(place: Path, name: str, *, is_sole: bool) -> None:
    ours = re.compile(re.escape(name) + "[0-9a-f]{16}")
    with os.scandir(place) as entries:
        left = [entry for entry in entries if ours.fullmatch(entry.name)]
    for entry in left:
        found = entry.stat(follow_symlinks=False)
        if (
            stat.S_ISDIR(found.st_mode)
            and found.st_uid == os.geteuid()
            and not is_lock_held(Path(entry.path) / "lock", unknown=not is_sole)
        ):
            shutil.rmtree(entry.path, ignore_errors=True)


def _is_full(error: BaseException | None) -> bool:
    """Whether an error comes from a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(words in str(error) for words in _FULL_WORDS):
            return True
        error = error.__cause__
    return False
