"""Files as Noria writes and reads them: whole or not at all, with their metadata beside."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from noria.manifests.errors import (
    AccessDenied,
    ConfigurationError,
    NoriaError,
    ShortBody,
    SourceChanged,
    SourceMissing,
    StoreUnavailable,
    TargetConflict,
    TargetRefused,
    UploadLost,
)
from noria.manifests.model import Attributes
from noria.workers.digest import crc64nvme
from noria.workers.runtime.buffers import BodyBuffer, views
from noria.workers.stores.protocol import ObjectHead, ReadListener
from noria.workers.stores.responses import Purpose, permanent

XATTR: Final = "user.noria"
COPY_BYTES: Final = 8 * 1024 * 1024
READ_BYTES: Final = 1024 * 1024
"""Read at once: still in a core's cache when it is hashed."""
_PASSING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)
_NO_ATTRIBUTES: Final = (errno.ENOTSUP, errno.ENODATA, errno.EPERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is kept beside the bytes, in an extended attribute.

    No checksum: it would still be there after someone wrote to the file.
    """

    txid: str
    attributes: Attributes


@contextmanager
def draft(folder: Path, prefix: str) -> Iterator[tuple[int, Path]]:
    """A new file without a lasting name, open for writing; its name is gone afterwards."""
    path = folder / f"{prefix}{secrets.token_hex(16)}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        yield file, path
    finally:
        os.close(file)
        path.unlink(missing_ok=True)


class UploadFile:
    """Writes to the end of a file, and knows what it wrote."""

    def __init__(self, file: int) -> None:
        self._file = file
        self.size = 0
        self.crc64nvme = 0

    def write(self, piece: memoryview | bytes) -> None:
        """All of it."""
        view = memoryview(piece)
        self.crc64nvme = crc64nvme(view, self.crc64nvme)
        self.size += len(view)
        while view:
            view = view[os.write(self._file, view) :]


def read_pieces(paths: Iterable[Path]) -> Iterator[memoryview]:
    """The bytes of all files, one after another, in one buffer that is used again."""
    buffer = memoryview(bytearray(COPY_BYTES))
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                yield buffer[:count]


def read_exactly(
    file: int, offset: int, into: BodyBuffer, key: str, listener: ReadListener | None
) -> None:
    for view in views(into, 0, len(into)):
        left = view
        while left:
            count = os.preadv(file, [left[:READ_BYTES]], offset)
            if count == 0:
                raise ShortBody("the file ended early: try again", key=key)
            if listener is not None:
                listener.update(left[:count])
            offset += count
            left = left[count:]


def keep_beside(file: int, beside: Beside, key: str) -> None:
    """Write what the bytes cannot say, where the file system holds it, and the time."""
    said = {"txid": beside.txid, **asdict(beside.attributes)}
    try:
        os.setxattr(file, XATTR, json.dumps(said).encode())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.E2BIG, errno.ERANGE):
            raise TargetRefused("its metadata is too large for the file system", key=key) from error
        if error.errno not in _NO_ATTRIBUTES:
            raise
    if beside.attributes.modified_seconds is not None:
        nanoseconds = round(beside.attributes.modified_seconds * 1e6) * 1000
        os.utime(file, ns=(nanoseconds, nanoseconds))


def read_beside(file: int) -> Beside | None:
    """None for a file that Noria did not write."""
    try:
        said = json.loads(os.getxattr(file, XATTR))
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return None
        raise
    return Beside(txid=said.pop("txid"), attributes=Attributes(**said))


def file_head(file: int, status: os.stat_result) -> ObjectHead:
    beside = read_beside(file)
    if beside is None:
        plain = Attributes(modified_seconds=status.st_mtime)
        return ObjectHead(size=status.st_size, etag=file_etag(status), attributes=plain)
    said = {**asdict(beside.attributes), "tags": {}}
    return ObjectHead(
        size=status.st_size,
        etag=file_etag(status),
        txid=beside.txid,
        tag_count=len(beside.attributes.tags),
        attributes=Attributes(**said),
    )


def file_etag(status: os.stat_result) -> str:
    """Differs for every way in which a file usually changes: written to, cut, replaced."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def check_file_pinned(status: os.stat_result, etag: str | None, key: str) -> None:
    if etag is not None and file_etag(status) != etag:
        raise SourceChanged("the file is no longer the planned one: plan again", key=key)


def make_folders(folder: Path, root: Path) -> None:
    """Make folder and those above it up to root, each one lasting once this returns."""
    if folder == root or folder.is_dir():
        return
    make_folders(folder.parent, root)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a crash."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def mapped(purpose: Purpose, key: str | None) -> Iterator[None]:
    """Turn what the system refuses into an error of manifests.errors."""
    try:
        yield
    except OSError as error:
        kind, advice = _by_errno(error.errno or 0, purpose)
        message = f"a {purpose.value} failed ({error.strerror}): {advice}"
        raise kind(message, key=key) from error


def _by_errno(number: int, purpose: Purpose) -> tuple[type[NoriaError], str]:
    if number in _PASSING:
        return StoreUnavailable, "try again, after making room if it is full"
    if number == errno.EROFS:
        return ConfigurationError, "mount the file system for writing"
    if purpose is Purpose.READ:
        if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return SourceMissing, "plan again if that was not meant"
        return permanent(purpose)
    if number in (errno.EACCES, errno.EPERM):
        return AccessDenied, "give this user the right to write below the root"
    if purpose is Purpose.PART and number == errno.ENOENT:
        return UploadLost, "start another upload"
    if purpose.makes_object and number == errno.EEXIST:
        return TargetConflict, "a file stands there already"
    if purpose.makes_object and number in (errno.ENOTDIR, errno.EISDIR):
        return TargetRefused, "a file and a folder cannot have the same name: map one of them"
    if purpose.makes_object and number == errno.ENOENT:
        return StoreUnavailable, "a folder went away meanwhile: try again"
    return permanent(purpose)
