"""A folder as source and as target: the contract of protocol.py over files.

An object is a file below the root. What a plain file does not have (type, metadata, tags, transfer
id) is kept in the extended attribute `user.noria`; a file system without those loses it.

Writes appear whole or not at all: a hidden file is written, synced and linked to its name. The
parts of an upload are files in a hidden folder of the root. Completing the upload joins them, which
writes their bytes a second time.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from noria.manifests.errors import (
    ConfigurationError,
    DigestRefused,
    ShortBody,
    SourceChanged,
    SourceMissing,
    SourceUnreadable,
    TargetRefused,
    UploadLost,
)
from noria.manifests.model import Attributes, PartRecord, Reason
from noria.workers.http.client import BodyWriter
from noria.workers.runtime.buffers import BodyBuffer
from noria.workers.stores.listing import inventory_batch
from noria.workers.stores.local.files import (
    FileMetadata,
    UploadFile,
    check_file_pinned,
    draft,
    file_etag,
    file_head,
    make_folders,
    mapped,
    read_exactly,
    read_file_metadata,
    read_pieces,
    sync_folder,
    write_file_metadata,
)
from noria.workers.stores.protocol import (
    NOTHING_KNOWN,
    Checksum,
    ListedUpload,
    ObjectHead,
    Page,
    PageRequest,
    ReadListener,
    TargetCapabilities,
    Written,
)
from noria.workers.stores.responses import Purpose

_UPLOAD: Final = ".noria-upload-"
_DRAFT: Final = ".noria-draft-"
"""These two begin the names of Noria's own files. They lie in the root, and are never listed."""
_ABOUT: Final = "upload.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """One folder."""

    root: Path


class LocalStore:
    """A folder. See protocol.py for the contract of every verb."""

    provider = "local"

    def __init__(
        self, settings: LocalSettings, capabilities: TargetCapabilities = NOTHING_KNOWN
    ) -> None:
        self._root = settings.root
        self.capabilities = capabilities

    def with_capabilities(self, capabilities: TargetCapabilities) -> LocalStore:
        other = copy.copy(self)
        other.capabilities = capabilities
        return other

    identity = None

    def open_ahead(self, connections: int) -> None:
        """Do nothing: there are none."""

    def check_access(self) -> None:
        with mapped(Purpose.CONTROL, None):
            if not self._root.is_dir():
                raise ConfigurationError("the root is not a folder: create it, or correct the path")
            os.scandir(self._root).close()

    def list_page(self, request: PageRequest) -> Page:
        """Return one folder: the files and folders whose keys begin with the prefix.

        Whatever else is there is a row too, whose `blob_type` is the Reason why it can not be
        moved, so that nothing is passed over in silence. A folder whose name is not UTF-8 is one
        such row, with all that is in it.
        """
        above, slash, start = request.prefix.rpartition("/")
        names: list[str] = []
        found: list[os.stat_result] = []
        kinds: list[str | None] = []
        below: list[str] = []
        for entry in self._entries(above):
            if not entry.name.startswith(start) or (not above and _is_own(entry.name)):
                continue
            kind = _kind(entry)
            key = above + slash + (_readable(entry.name) if kind else entry.name)
            if kind is None and entry.is_dir(follow_symlinks=False):
                below.append(key + "/")
                continue
            with contextlib.suppress(FileNotFoundError):
                found.append(entry.stat(follow_symlinks=False))
                names.append(key)
                kinds.append(kind)
        columns = {
            "key": names,
            "size": [status.st_size if stat.S_ISREG(status.st_mode) else 0 for status in found],
            "blob_type": pa.array(kinds, pa.string()),
            "etag": [file_etag(status) for status in found],
            "last_modified": pa.array(
                [status.st_mtime_ns // 1_000_000 for status in found], pa.timestamp("ms", tz="UTC")
            ),
        }
        return Page(batch=inventory_batch(columns, len(names)), prefixes=below)

    def head(self, key: str) -> ObjectHead | None:
        try:
            with self._open(key) as file:
                return file_head(file, os.fstat(file))
        except SourceMissing:
            return None

    def read_range(
        self,
        key: str,
        *,
        offset: int,
        into: BodyBuffer,
        etag: str | None,
        version_id: str | None = None,
        listener: ReadListener | None = None,
    ) -> ObjectHead:
        with self._open(key) as file:
            status = os.fstat(file)
            check_file_pinned(status, etag, key)
            if status.st_size < offset + len(into):
                raise SourceChanged(
                    f"the file has {status.st_size} bytes, fewer than planned: plan again", key=key
                )
            read_exactly(file, offset, into, key, listener)
            check_file_pinned(os.fstat(file), file_etag(status), key)
            return file_head(file, status)

    def read_object(
        self,
        key: str,
        *,
        into: memoryview,
        etag: str | None,
        version_id: str | None = None,
        listener: ReadListener | None = None,
    ) -> ObjectHead:
        with self._open(key) as file:
            status = os.fstat(file)
            check_file_pinned(status, etag, key)
            if status.st_size != len(into):
                raise SourceChanged(
                    f"the file has {status.st_size} bytes, the plan says {len(into)}: plan again",
                    key=key,
                )
            read_exactly(file, 0, into, key, listener)
            check_file_pinned(os.fstat(file), file_etag(status), key)
            return file_head(file, status)

    def read_tags(self, key: str, *, version_id: str | None = None) -> Mapping[str, str]:
        with self._open(key) as file:
            metadata = read_file_metadata(file)
        return metadata.attributes.tags if metadata else {}

    def close(self) -> None:
        """Do nothing: no file stays open between verbs."""

    def put_object(
        self, key: str, body: memoryview, *, attributes: Attributes, txid: str, crc64nvme: int
    ) -> Written:
        path = self._path(key)
        with mapped(Purpose.WRITE, key), draft(self._root, _DRAFT) as (file, name):
            appender = UploadFile(file)
            appender.write(body)
            self._check_crc(appender.crc64nvme, crc64nvme, key)
            metadata = FileMetadata(txid=txid, attributes=attributes)
            return self._publish(file, name, path, metadata, key)

    def create_upload(self, key: str, *, attributes: Attributes, txid: str, size: int) -> str:
        self._path(key)
        upload_id = secrets.token_hex(16)
        about = {"key": key, "started_ms": time.time_ns() // 1_000_000}
        with mapped(Purpose.OPEN, key):
            folder = self._root / (_UPLOAD + upload_id)
            folder.mkdir()
            (folder / _ABOUT).write_text(json.dumps(about))
            sync_folder(self._root)
        return upload_id

    def put_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: memoryview | BodyWriter,
        *,
        size: int,
        crc64nvme: Callable[[], int],
    ) -> Written:
        folder = self._upload_folder(key, upload_id)
        with mapped(Purpose.PART, key), draft(folder, "draft-") as (file, name):
            appender = UploadFile(file)
            if isinstance(body, memoryview):
                appender.write(body)
            else:
                body(appender.write)
            if appender.size != size:
                raise ShortBody("the part has another size than announced: try again", key=key)
            self._check_crc(appender.crc64nvme, crc64nvme(), key)
            os.fsync(file)
            name.replace(folder / f"{number:05}")
            sync_folder(folder)
            return Written(etag=file_etag(os.fstat(file)), crc64nvme=appender.crc64nvme)

    def send_damaged(self, key: str, checksum: Checksum, upload_id: str | None = None) -> None:
        if checksum is not Checksum.CRC64NVME:
            raise TargetRefused("files are checked by their CRC64NVME alone", key=key)
        checking = self.with_capabilities(replace(self.capabilities, checksum=checksum))
        body = memoryview(b"damaged")
        if upload_id is None:
            checking.put_object(key, body, attributes=Attributes(), txid="", crc64nvme=0)
        else:
            checking.put_part(key, upload_id, 1, body, size=len(body), crc64nvme=lambda: 0)

    def answered_as(self) -> str | None:
        return self.provider

    def list_parts(self, key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        try:
            folder = self._upload_folder(key, upload_id)
        except UploadLost:
            return None
        with mapped(Purpose.PART, key):
            parts = [(part.name, part.stat()) for part in folder.iterdir()]
        return {
            int(name): (status.st_size, file_etag(status))
            for name, status in parts
            if name.isdecimal()
        }

    def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartRecord],
        *,
        size: int,
        crc64nvme: int,
        attributes: Attributes,
        txid: str,
    ) -> Written:
        folder = self._upload_folder(key, upload_id)
        held = self.list_parts(key, upload_id) or {}
        if any(held.get(part.number) != (part.size, part.etag) for part in parts):
            raise UploadLost("a part is missing or has changed: start another upload", key=key)
        path = self._path(key)
        pieces = read_pieces(folder / f"{part.number:05}" for part in parts)
        with mapped(Purpose.COMMIT, key), draft(folder, "draft-") as (file, name):
            appender = UploadFile(file)
            for piece in pieces:
                appender.write(piece)
            if appender.size != size:
                raise UploadLost(
                    "the parts do not add up to the object's size: start another upload", key=key
                )
            self._check_crc(appender.crc64nvme, crc64nvme, key)
            metadata = FileMetadata(txid=txid, attributes=attributes)
            written = self._publish(file, name, path, metadata, key)
        shutil.rmtree(folder, ignore_errors=True)
        return written

    def abort_upload(self, key: str, upload_id: str) -> None:
        with contextlib.suppress(UploadLost):
            shutil.rmtree(self._upload_folder(key, upload_id), ignore_errors=True)

    def list_uploads(self, prefix: str) -> Iterator[ListedUpload]:
        with mapped(Purpose.CONTROL, None):
            folders = [entry for entry in self._root.iterdir() if entry.name.startswith(_UPLOAD)]
        for folder in folders:
            about = _about(folder)
            if about is not None and about["key"].startswith(prefix):
                yield ListedUpload(
                    key=about["key"],
                    upload_id=folder.name.removeprefix(_UPLOAD),
                    started_ms=about["started_ms"],
                )

    def delete_object(self, key: str) -> None:
        try:
            path = self._path(key)
        except TargetRefused:
            return
        with (
            mapped(Purpose.CONTROL, key),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
        ):
            path.unlink()
        with contextlib.suppress(OSError):
            while (path := path.parent) != self._root:
                path.rmdir()

    def _path(self, key: str) -> Path:
        """Return the path of an object's file. Raises TargetRefused if it is not below the root."""
        segments = key.split("/")
        if "\0" in key or any(segment in ("", ".", "..") for segment in segments):
            raise TargetRefused(
                "the name is not a path below a folder: map it, then plan again", key=key
            )
        if _is_own(segments[0]):
            raise TargetRefused(
                f"names that begin with {_UPLOAD} or {_DRAFT} are kept for Noria: map it, then "
                "plan again",
                key=key,
            )
        return self._root.joinpath(*segments)

    def _upload_folder(self, key: str, upload_id: str) -> Path:
        folder = self._root / (_UPLOAD + upload_id)
        about = _about(folder) if upload_id.isalnum() else None
        if about is None or about["key"] != key:
            raise UploadLost("there is no such upload: start another one", key=key)
        return folder

    @contextmanager
    def _open(self, key: str) -> Iterator[int]:
        """Open the object's file for reading. Raises SourceMissing, SourceUnreadable."""
        try:
            path = self._path(key)
        except TargetRefused:
            raise SourceMissing("no file can have that name: plan again", key=key) from None
        with mapped(Purpose.READ, key):
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                kind = os.fstat(file).st_mode
                if stat.S_ISDIR(kind):
                    raise SourceMissing("a folder has that name now: plan again", key=key)
                if not stat.S_ISREG(kind):
                    raise SourceUnreadable("it is not a regular file: plan again", key=key)
                yield file
            finally:
                os.close(file)

    def _check_crc(self, took: int, sent: int, key: str) -> None:
        if self.capabilities.checksum is Checksum.CRC64NVME and took != sent:
            raise DigestRefused("the bytes do not have their checksum: read them again", key=key)

    def _publish(
        self, file: int, name: Path, path: Path, metadata: FileMetadata, key: str
    ) -> Written:
        """Make a draft durable, then give it its name in one step."""
        write_file_metadata(file, metadata, key)
        os.fsync(file)
        make_folders(path.parent, self._root)
        if self.capabilities.if_absent:
            os.link(name, path)
        else:
            name.replace(path)
        sync_folder(path.parent)
        return Written(etag=file_etag(os.fstat(file)))

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        if not folder:
            path = self._root
        else:
            try:
                path = self._path(folder)
            except TargetRefused:
                return []
        with mapped(Purpose.CONTROL, None):
            try:
                with os.scandir(path) as entries:
                    return list(entries)
            except (FileNotFoundError, NotADirectoryError):
                if not folder:
                    raise
                return []


def _is_own(name: str) -> bool:
    """Return True for a file or folder of Noria's own in the root."""
    return name.startswith((_UPLOAD, _DRAFT))


def _kind(entry: os.DirEntry[str]) -> Reason | None:
    """Return why an entry can not be moved; None for a file, and for a folder to be listed."""
    if _readable(entry.name) != entry.name:
        return Reason.NAME_NOT_UTF8
    if entry.is_symlink():
        return Reason.LINK
    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
        return None
    return Reason.SPECIAL_FILE


def _readable(name: str) -> str:
    """Return the name with each byte that is not UTF-8 as a replacement character and two digits.

    So names that differ stay different.
    """
    return "".join(
        f"\N{REPLACEMENT CHARACTER}{ord(sign) & 0xFF:02x}" if "\ud800" <= sign <= "\udfff" else sign
        for sign in name
    )


def _about(folder: Path) -> dict[str, Any] | None:
    """Return what create_upload wrote; None if there is no upload."""
    try:
        about = json.loads((folder / _ABOUT).read_bytes())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return about if isinstance(about, dict) else None
