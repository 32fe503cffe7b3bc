"""Files as Noria writes and reads them: whole or not at all, with an object's metadata."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from noria.manifests.errors import (
    AccessDenied,
    ConfigurationError,
    NoriaError,
    ShortBody,
    SourceChanged,
    SourceMissing,
    SourceUnreadable,
    StoreUnavailable,
    TargetConflict,
    TargetFull,
    TargetRefused,
    UploadLost,
)
from noria.manifests.model import Attributes
from noria.workers.digest import crc64nvme
from noria.workers.http.connection import OnSent
from noria.workers.runtime.buffers import BodyBuffer, body_slices
from noria.workers.stores.local.confined import mark_living, open_file
from noria.workers.stores.protocol import ObjectHead, ReadListener
from noria.workers.stores.responses import Purpose, permanent

XATTR: Final = "user.noria"
COPY_BYTES: Final = 8 * 1024 * 1024
READ_BYTES: Final = 1024 * 1024
"""Bytes read in one call: they are still in a core's cache when they are hashed."""
TIME_GRAIN_SECONDS: Final = 2.0
"""Of the coarsest file system (FAT): times that are nearer to each other are the same."""
_WRITE: Final = "give this user the right to write below the root"
_LIST: Final = (
    "give this user the right to list each folder below the root, and to write there if it is the "
    "target"
)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_PASSING: Final = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)
_NO_ATTRIBUTES: Final = (errno.ENOTSUP, errno.ENODATA, errno.EPERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMetadata:
    """An object's transfer id and attributes, kept in an extended attribute of its file.

    A checksum is not kept: it would still be there after someone wrote to the file.
    """

    txid: str
    attributes: Attributes


@contextmanager
def draft(folder: int, prefix: str) -> Iterator[tuple[int, str]]:
    """Open a new file with a temporary name for writing; the name is removed after the block.

    Until then a lock says that its writer lives: what a killed one leaves has none.
    """
    name = f"{prefix}{secrets.token_hex(16)}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = os.open(name, flags, 0o666, dir_fd=folder)
    try:
        mark_living(file)
        yield file, name
    finally:
        os.close(file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


class UploadFile:
    """Appends to a file, and computes the size and the CRC64NVME of what it wrote."""

    def __init__(self, file: int, on_sent: OnSent | None = None) -> None:
        """`on_sent` gets the bytes as they are written."""
        self._file = file
        self._on_sent = on_sent
        self.size = 0
        self.crc64nvme = 0

    def write(self, piece: memoryview | bytes) -> None:
        """Write the whole piece."""
        view = memoryview(piece)
        self.crc64nvme = crc64nvme(view, self.crc64nvme)
        self.size += len(view)
        while view:
            count = os.write(self._file, view)
            if self._on_sent is not None:
                self._on_sent(count)
            view = view[count:]


def read_pieces(folder: int, names: Iterable[str]) -> Iterator[memoryview]:
    """Yield the bytes of files of a folder in order, in one buffer that each piece uses again."""
    buffer = memoryview(bytearray(COPY_BYTES))
    for name in names:
        with open(open_file(name, folder), "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                yield buffer[:count]


def read_exactly(
    file: int, offset: int, into: BodyBuffer, key: str, listener: ReadListener | None
) -> None:
    for view in body_slices(into, 0, len(into)):
        left = view
        while left:
            count = os.preadv(file, [left[:READ_BYTES]], offset)
            if count == 0:
                raise ShortBody("the file ended early: try again", key=key)
            if listener is not None:
                listener.update(left[:count])
            offset += count
            left = left[count:]


def write_file_metadata(file: int, metadata: FileMetadata, key: str) -> None:
    """Store the metadata, if the file system has extended attributes, and the modification time."""
    stated = {
        name: value
        for name, value in asdict(metadata.attributes).items()
        if value not in (None, {})
    }
    fields = {"txid": metadata.txid, **stated}
    try:
        os.setxattr(file, XATTR, json.dumps(fields).encode())
    except OSError as error:
        # File systems say ENOSPC as well if a file has no more room for attributes.
        full = error.errno == errno.ENOSPC and not os.fstatvfs(file).f_bavail
        if error.errno in (errno.ENOSPC, errno.E2BIG, errno.ERANGE) and not full:
            raise TargetRefused(
                "its metadata is too large for the file system: drop some of it", key=key
            ) from error
        if error.errno not in _NO_ATTRIBUTES:
            raise
    if metadata.attributes.modified_seconds is not None:
        try:
            nanoseconds = round(metadata.attributes.modified_seconds * 1e6) * 1000
            os.utime(file, ns=(nanoseconds, nanoseconds))
        except (ValueError, OverflowError):
            raise TargetRefused(
                "its modification time is one that no file can have: correct it at the source",
                key=key,
            ) from None


def read_file_metadata(file: int) -> FileMetadata | None:
    """Return a file's metadata; None if Noria did not write the file.

    Anyone may set an attribute of that name. What cannot be read as metadata is not Noria's.
    """
    try:
        fields = json.loads(os.getxattr(file, XATTR))
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return None
        raise
    except (ValueError, RecursionError):
        return None
    return _metadata_of(fields)


def _metadata_of(fields: Any) -> FileMetadata | None:
    """Return the metadata that was written as these JSON values; None if they are none."""
    seconds = float | int | None
    kinds: dict[str, Any] = {"txid": str, "metadata": dict, "tags": dict, "legal_hold": bool}
    kinds |= {"modified_seconds": seconds, "retain_until": seconds}
    try:
        metadata = FileMetadata(txid=fields.pop("txid"), attributes=Attributes(**fields))
    except (TypeError, LookupError, AttributeError):
        return None
    values = {"txid": metadata.txid, **asdict(metadata.attributes)}
    sound = all(isinstance(values[name], kinds.get(name, str | None)) for name in values)
    texts = itertools.chain(*values["metadata"].items(), *values["tags"].items())
    return metadata if sound and all(isinstance(text, str) for text in texts) else None


def file_head(file: int, status: os.stat_result) -> ObjectHead:
    metadata = read_file_metadata(file)
    if metadata is None:
        plain = Attributes(modified_seconds=status.st_mtime)
        return ObjectHead(size=status.st_size, etag=file_etag(status), attributes=plain)
    fields = {**asdict(metadata.attributes), "tags": {}}
    if not _is_as_written(metadata.attributes, status):
        fields |= {"modified_seconds": status.st_mtime, "content_md5": None}
    return ObjectHead(
        size=status.st_size,
        etag=file_etag(status),
        txid=metadata.txid,
        tag_count=len(metadata.attributes.tags),
        attributes=Attributes(**fields),
    )


def _is_as_written(attributes: Attributes, status: os.stat_result) -> bool:
    """Return False if somebody wrote to a file since Noria gave it its time of modification.

    What was stated of its bytes, and when they were written, is of others then.
    """
    modified = attributes.modified_seconds
    return modified is not None and abs(status.st_mtime - modified) < TIME_GRAIN_SECONDS


def file_etag(status: os.stat_result) -> str:
    """Return an ETag that changes when the file is written to, cut or replaced."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def check_file_pinned(status: os.stat_result, etag: str | None, key: str) -> None:
    if etag is not None and file_etag(status) != etag:
        raise SourceChanged("the file was changed after the plan: plan again", key=key)


def check_file_standing(status: os.stat_result, etag: str, key: str) -> None:
    if file_etag(status) != etag:
        raise TargetConflict("another file is at the target under this name", key=key)


@contextmanager
def mapped(purpose: Purpose, key: str | None) -> Iterator[None]:
    """Turn an OSError of the block into an error of manifests.errors."""
    try:
        yield
    except OSError as error:
        kind, advice = _by_errno(error.errno or 0, purpose)
        message = f"a {purpose.value} failed ({error.strerror}): {advice}"
        raise kind(message, key=key) from error


def _by_errno(number: int, purpose: Purpose) -> tuple[type[NoriaError], str]:
    if number in _PASSING:
        return StoreUnavailable, "try again"
    if number in _FULL:
        return TargetFull, "the target is full: make room there, then run again"
    if number == errno.EROFS:
        return ConfigurationError, "mount the file system for writing"
    if number == errno.ELOOP and purpose is not Purpose.CONTROL:
        kind = SourceUnreadable if purpose is Purpose.READ else TargetRefused
        return kind, "a symbolic link stands in its path, and none is followed: replace the link"
    if purpose is Purpose.READ:
        return _of_a_read(number)
    if number in (errno.EACCES, errno.EPERM):
        return AccessDenied, _LIST if purpose is Purpose.CONTROL else _WRITE
    if purpose is Purpose.PART and number == errno.ENOENT:
        return UploadLost, "start another upload"
    if purpose.makes_object and number == errno.EEXIST:
        return TargetConflict, "a file exists there already"
    if purpose.makes_object and number in (errno.ENOTDIR, errno.EISDIR):
        return TargetRefused, "a file and a folder cannot have the same name: map one of them"
    if purpose.makes_object and number == errno.ENOENT:
        return StoreUnavailable, "a folder was removed in the meantime: try again"
    return permanent(purpose)


def _of_a_read(number: int) -> tuple[type[NoriaError], str]:
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return SourceMissing, "plan again if it was not meant to be deleted"
    if number in (errno.EACCES, errno.EPERM):
        return SourceUnreadable, "give this user the right to read the file"
    return permanent(Purpose.READ)
