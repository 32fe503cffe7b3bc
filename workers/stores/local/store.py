"""A folder as source and as target: the contract of protocol.py over files.

An object is a file below the root. What a plain file does not have (type, metadata, tags, transfer
id) is kept in the extended attribute `user.noria`; a file system without those loses it. No path
leads out of the root: symbolic links are not followed (confined.py).

Writes appear whole or not at all: a draft is written, synced and linked to its name. The parts of
an upload are files in a hidden folder of the root. Completing the upload joins them, which writes
their bytes a second time. A draft is locked while its writer lives. What a killed writer leaves is
listed like any file, until remove_drafts() removes it.
"""

from __future__ import annotations

import contextlib
import copy
import errno
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
    ContainerMissing,
    DigestRefused,
    InventoryError,
    ShortBody,
    SourceChanged,
    SourceMissing,
    SourceUnreadable,
    TargetConflict,
    TargetRefused,
    UploadLost,
)
from noria.manifests.model import Attributes, LinkPolicy, PartRecord, Reason
from noria.workers.http.client import BodyWriter
from noria.workers.http.connection import OnSent
from noria.workers.runtime.buffers import BodyBuffer
from noria.workers.stores.inspection import Granted, KeptCounts, Protection, Service
from noria.workers.stores.listing import inventory_batch
from noria.workers.stores.local.confined import (
    ConfinedFolder,
    FollowedFolder,
    LinkInPath,
    is_abandoned,
    mark_living,
    open_file,
    readable,
    sync_folder,
)
from noria.workers.stores.local.files import (
    FileMetadata,
    UploadFile,
    check_file_pinned,
    check_file_standing,
    draft,
    file_etag,
    file_head,
    mapped,
    read_exactly,
    read_file_metadata,
    read_pieces,
    write_file_metadata,
)
from noria.workers.stores.local.making import make_root
from noria.workers.stores.protocol import (
    DRAFT_PREFIX,
    NOTHING_KNOWN,
    Checksum,
    Deleted,
    ListedUpload,
    ListedVersion,
    ObjectHead,
    Page,
    PageRequest,
    ReadListener,
    TargetCapabilities,
    Written,
)
from noria.workers.stores.responses import Purpose

_UPLOAD: Final = ".noria-upload-"
"""Begins the names of uploads' folders in the root, which no listing of objects shows."""
_ABOUT: Final = "upload.json"
_ABOUT_BYTES_MAX: Final = 64 * 1024
_NOTHING_THERE: Final = (FileNotFoundError, NotADirectoryError, LinkInPath)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """One folder."""

    root: Path
    links: LinkPolicy = LinkPolicy.SKIP
    """What a listing does with symbolic links. Nothing is written through one."""
    lists_empty_folders: bool = False
    """List a folder without entries as a folder's stub, so that a source's is not lost unseen.

    False for targets, where folders come and go with the files in them.
    """


class LocalStore:
    """A folder. See protocol.py for the contract of every verb."""

    provider = "local"

    def __init__(
        self, settings: LocalSettings, capabilities: TargetCapabilities = NOTHING_KNOWN
    ) -> None:
        self._root = settings.root
        self._links = settings.links
        self._lists_empty_folders = settings.lists_empty_folders
        follows = settings.links is LinkPolicy.FOLLOW
        self._files = (FollowedFolder if follows else ConfinedFolder)(settings.root)
        self.capabilities = capabilities

    def with_capabilities(self, capabilities: TargetCapabilities) -> LocalStore:
        other = copy.copy(self)
        other.capabilities = capabilities
        return other

    identity = None

    def open_ahead(self, connections: int) -> None:
        """Do nothing: there are none."""

    def connections(self) -> Mapping[str, int]:
        return {}

    def check_access(self, prefix: str = "") -> None:
        with mapped(Purpose.CONTROL, None):
            if not self._root.is_dir():
                if not os.path.lexists(self._root):
                    raise ContainerMissing("there is no such folder: make it, or correct the path")
                raise ConfigurationError("the root is not a folder: correct the path")
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
        path = _path(above) if slash else []
        follow = self._links is LinkPolicy.FOLLOW
        with self._entries(path) as (folder, entries):
            for entry in entries:
                if not entry.name.startswith(start):
                    continue
                if not above and _is_unfinished(entry.name, folder):
                    continue
                kind = self._kind(entry, path or [])
                key = above + slash + (_readable(entry.name) if kind else entry.name)
                if kind is None and entry.is_dir(follow_symlinks=follow):
                    below.append(key + "/")
                    continue
                with contextlib.suppress(FileNotFoundError):
                    found.append(entry.stat(follow_symlinks=follow and kind is None))
                    names.append(key)
                    kinds.append(kind)
            if self._lists_empty_folders and path and not entries and folder >= 0 and not start:
                found.append(os.fstat(folder))
                names.append(request.prefix)
                kinds.append(None)
        columns = {
            "key": names,
            "size": [status.st_size if stat.S_ISREG(status.st_mode) else 0 for status in found],
            "blob_type": pa.array(kinds, pa.string()),
            "is_folder": [name.endswith("/") for name in names],
            "etag": [file_etag(status) for status in found],
            "last_modified": pa.array(map(_modified_ms, found), pa.timestamp("ms", tz="UTC")),
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
        self,
        key: str,
        body: memoryview,
        *,
        attributes: Attributes,
        txid: str,
        crc64nvme: int,
        replaces: str | None = None,
        on_sent: OnSent | None = None,
    ) -> Written:
        path = _written_path(key)
        with (
            mapped(Purpose.WRITE, key),
            self._files.folder() as root,
            draft(root, DRAFT_PREFIX) as (file, name),
        ):
            appender = UploadFile(file, on_sent)
            appender.write(body)
            self._check_crc(appender.crc64nvme, crc64nvme, key)
            metadata = FileMetadata(txid=txid, attributes=attributes)
            return self._publish(file, root, name, path, metadata, key, replaces)

    def create_upload(self, key: str, *, attributes: Attributes, txid: str, size: int) -> str:
        _written_path(key)
        upload_id = secrets.token_hex(16)
        about = {"key": key, "started_ms": time.time_ns() // 1_000_000}
        name = DRAFT_PREFIX + upload_id
        with mapped(Purpose.OPEN, key), self._files.folder() as root:
            os.mkdir(name, dir_fd=root)
            with self._files.folder([name]) as folder, readable(folder) as file:
                mark_living(file)
                with draft(folder, "draft-") as (written, scratch):
                    UploadFile(written).write(json.dumps(about).encode())
                    os.fsync(written)
                    os.replace(scratch, _ABOUT, src_dir_fd=folder, dst_dir_fd=folder)
                os.rename(name, _UPLOAD + upload_id, src_dir_fd=root, dst_dir_fd=root)
            sync_folder(root)
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
        on_sent: OnSent | None = None,
    ) -> Written:
        with (
            self._upload(key, upload_id, Purpose.PART) as folder,
            draft(folder, "draft-") as (file, name),
        ):
            appender = UploadFile(file, on_sent)
            if isinstance(body, memoryview):
                appender.write(body)
            else:
                body(appender.write)
            if appender.size != size:
                raise ShortBody("the part has another size than announced: try again", key=key)
            self._check_crc(appender.crc64nvme, crc64nvme(), key)
            os.fsync(file)
            os.replace(name, f"{number:05}", src_dir_fd=folder, dst_dir_fd=folder)
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

    def answered_as(self, prefix: str = "") -> str | None:
        return self.provider

    def list_parts(self, key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        try:
            with (
                self._upload(key, upload_id, Purpose.PART) as folder,
                readable(folder) as file,
                os.scandir(file) as entries,
            ):
                parts = [(part.name, part.stat(follow_symlinks=False)) for part in entries]
        except UploadLost:
            return None
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
        replaces: str | None = None,
    ) -> Written:
        held = self.list_parts(key, upload_id) or {}
        if any(held.get(part.number) != (part.size, part.etag) for part in parts):
            raise UploadLost("a part is missing or has changed: start another upload", key=key)
        path = _written_path(key)
        with (
            self._upload(key, upload_id, Purpose.COMMIT) as folder,
            draft(folder, "draft-") as (file, name),
        ):
            appender = UploadFile(file)
            for piece in read_pieces(folder, (f"{part.number:05}" for part in parts)):
                appender.write(piece)
            if appender.size != size:
                raise UploadLost(
                    "the parts do not add up to the object's size: start another upload", key=key
                )
            self._check_crc(appender.crc64nvme, crc64nvme, key)
            metadata = FileMetadata(txid=txid, attributes=attributes)
            written = self._publish(file, folder, name, path, metadata, key, replaces)
        self._drop_upload(upload_id)
        return written

    def abort_upload(self, key: str, upload_id: str) -> None:
        with contextlib.suppress(UploadLost):
            with self._upload(key, upload_id, Purpose.CONTROL):
                pass
            self._drop_upload(upload_id)

    def list_uploads(self, prefix: str) -> Iterator[ListedUpload]:
        with self._entries([]) as (_, entries):
            names = [entry.name for entry in entries if entry.name.startswith(_UPLOAD)]
        for name in names:
            with mapped(Purpose.CONTROL, None), contextlib.suppress(*_NOTHING_THERE):
                with self._files.folder([name]) as folder:
                    about = _about(folder)
                if about is not None and about["key"].startswith(prefix):
                    yield ListedUpload(
                        key=about["key"],
                        upload_id=name.removeprefix(_UPLOAD),
                        started_ms=about["started_ms"],
                    )

    def remove_drafts(self) -> int:
        gone = 0
        with self._entries([]) as (root, entries):
            for entry in entries:
                if not entry.name.startswith(DRAFT_PREFIX) or not is_abandoned(entry.name, root):
                    continue
                with contextlib.suppress(OSError):  # a listing shows what is left
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.name, dir_fd=root)
                    else:
                        os.unlink(entry.name, dir_fd=root)
                    gone += 1
        return gone

    def list_versions(self, prefix: str) -> Iterator[ListedVersion]:
        return iter(())

    def delete_object(
        self, key: str, version_id: str | None = None, *, etag: str | None = None
    ) -> Deleted | None:
        path = _path(key)
        if path is None or _is_reserved(path):
            return None
        *above, name = path
        deleted = None
        with (
            mapped(Purpose.CONTROL, key),
            contextlib.suppress(*_NOTHING_THERE),
            self._files.folder(above) as folder,
        ):
            if etag is not None:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                check_file_standing(status, etag, key)
            os.unlink(name, dir_fd=folder)
            deleted = Deleted()
        with contextlib.suppress(OSError):
            while above:
                name = above.pop()
                with self._files.folder(above) as folder:
                    os.rmdir(name, dir_fd=folder)
        return deleted

    def service(self, prefix: str = "") -> Service:
        with mapped(Purpose.CONTROL, None):
            free_bytes = shutil.disk_usage(self._root).free
        return Service(endpoint=str(self._root), credentials="this user", free_bytes=free_bytes)

    def protection(self) -> Protection:
        return Protection(versioned=False, locks=False)

    def count_kept(self, prefix: str) -> KeptCounts:
        return KeptCounts()

    def make_container(self) -> bool:
        return make_root(self._root)

    def may_write(self, key: str) -> Granted:
        return Granted.YES if os.access(self._root, os.W_OK | os.X_OK) else Granted.NO

    def may_delete(self, key: str) -> Granted:
        return self.may_write(key)

    @contextmanager
    def _upload(self, key: str, upload_id: str, purpose: Purpose) -> Iterator[int]:
        """Open an upload's folder. Raises UploadLost if there is no such upload of this object."""
        with mapped(purpose, key), contextlib.ExitStack() as stack:
            about = None
            if upload_id.isalnum():
                with contextlib.suppress(*_NOTHING_THERE):
                    folder = stack.enter_context(self._files.folder([_UPLOAD + upload_id]))
                    about = _about(folder)
            if about is None or about["key"] != key:
                raise UploadLost("there is no such upload: start another one", key=key)
            yield folder

    def _drop_upload(self, upload_id: str) -> None:
        """Make an upload's folder a draft, then remove it: what a kill leaves can be told."""
        name = DRAFT_PREFIX + upload_id
        with (
            contextlib.suppress(OSError),
            self._files.folder() as root,
            self._files.folder([_UPLOAD + upload_id]) as folder,
            readable(folder) as file,
        ):
            mark_living(file)
            os.rename(_UPLOAD + upload_id, name, src_dir_fd=root, dst_dir_fd=root)
            shutil.rmtree(name, ignore_errors=True, dir_fd=root)

    @contextmanager
    def _open(self, key: str) -> Iterator[int]:
        """Open the object's file for reading. Raises SourceMissing, SourceUnreadable."""
        path = _path(key)
        if path is None:
            raise SourceMissing("no file can have that name: plan again", key=key)
        with mapped(Purpose.READ, key):
            with self._files.folder(path[:-1]) as folder:
                file = self._files.file(path[-1], folder)
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
        self,
        file: int,
        folder: int,
        name: str,
        path: list[str],
        metadata: FileMetadata,
        key: str,
        replaces: str | None,
    ) -> Written:
        """Make the draft `name` in `folder` durable, then give it its path in one step.

        A file system knows no condition on what a name stands for: whether it is the file that is
        to be replaced is looked at in the last moment.
        """
        write_file_metadata(file, metadata, key)
        os.fsync(file)
        with self._files.folder(path[:-1], make=True) as into:
            if replaces is not None:
                _check_standing(path[-1], into, replaces, key)
                os.replace(name, path[-1], src_dir_fd=folder, dst_dir_fd=into)
            elif self.capabilities.if_absent:
                _link(name, folder, path[-1], into)
            else:
                os.replace(name, path[-1], src_dir_fd=folder, dst_dir_fd=into)
            sync_folder(into)
        return Written(etag=file_etag(os.fstat(file)))

    def _kind(self, entry: os.DirEntry[str], path: list[str]) -> Reason | None:
        """Return why an entry of the folder `path` can not be moved; None for a file or a folder.

        Raises InventoryError for a link if links are refused.
        """
        if _readable(entry.name) != entry.name:
            return Reason.NAME_NOT_UTF8
        follow = self._links is LinkPolicy.FOLLOW
        if entry.is_symlink():
            if self._links is LinkPolicy.REFUSE:
                raise InventoryError(
                    "there is a symbolic link: remove it, or set source.links to skip or follow",
                    key="/".join([*path, entry.name]),
                )
            if not follow or not self._leads_on(entry, path):
                return Reason.LINK
        if entry.is_file(follow_symlinks=follow) or entry.is_dir(follow_symlinks=follow):
            return None
        return Reason.SPECIAL_FILE

    def _leads_on(self, entry: os.DirEntry[str], path: list[str]) -> bool:
        """Return False for a link to nothing, and for one to a folder that it lies in itself."""
        try:
            there = entry.stat()
        except OSError:
            return False
        if not stat.S_ISDIR(there.st_mode):
            return True
        for depth in range(len(path) + 1):
            with self._files.folder(path[:depth]) as above:
                if os.path.samestat(os.fstat(above), there):
                    return False
        return True

    @contextmanager
    def _entries(self, path: list[str] | None) -> Iterator[tuple[int, list[os.DirEntry[str]]]]:
        """Open a folder, for `dir_fd`, and read its entries: none if there is no such folder.

        The root, whose path is empty, must be there.
        """
        key = "/".join([*path, ""]) if path else None
        with mapped(Purpose.CONTROL, key), contextlib.ExitStack() as stack:
            folder, entries = -1, []
            if path is not None:
                try:
                    folder = stack.enter_context(self._files.folder(path))
                    file = stack.enter_context(readable(folder))
                    entries = list(stack.enter_context(os.scandir(file)))
                except _NOTHING_THERE:
                    if not path:
                        raise
            yield folder, entries


def _link(name: str, folder: int, new_name: str, into: int) -> None:
    """Give a file a second name in the folder `into`. Raises OSError: EISDIR for a folder's name.

    The kernel says EEXIST for that, too, as if an object came first, and none would ever be found.
    """
    try:
        os.link(name, new_name, src_dir_fd=folder, dst_dir_fd=into, follow_symlinks=False)
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            standing = os.stat(new_name, dir_fd=into, follow_symlinks=False)
            if stat.S_ISDIR(standing.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        raise


def _check_standing(name: str, folder: int, etag: str, key: str) -> None:
    """Raise TargetConflict unless the file with this ETag has that name."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise TargetConflict("nothing is at the target under this name", key=key) from None
    check_file_standing(status, etag, key)


def _modified_ms(status: os.stat_result) -> int | None:
    """Return the time of modification; None for one that no timestamp of 64 bits can hold."""
    milliseconds = status.st_mtime_ns // 1_000_000
    return milliseconds if -(2**63) <= milliseconds < 2**63 else None


def _path(key: str) -> list[str] | None:
    """Return the names that lead from the root to an object; None if no file can have its key."""
    names = key.split("/")
    return None if "\0" in key or any(name in ("", ".", "..") for name in names) else names


def _written_path(key: str) -> list[str]:
    """Return _path() of an object that is to be written. Raises TargetRefused."""
    path = _path(key)
    if path is None:
        raise TargetRefused(
            "the name is not a path below a folder: map it, then plan again", key=key
        )
    if _is_reserved(path):
        raise TargetRefused(
            f"names that begin with {_UPLOAD} or {DRAFT_PREFIX} are kept for Noria: map it, then "
            "plan again",
            key=key,
        )
    return path


def _is_reserved(path: list[str]) -> bool:
    return path[0].startswith((_UPLOAD, DRAFT_PREFIX))


def _is_unfinished(name: str, root: int) -> bool:
    """Whether what stands under a name in the root is an upload, or a living writer's draft."""
    if name.startswith(DRAFT_PREFIX):
        return not is_abandoned(name, root)
    return name.startswith(_UPLOAD)


def _readable(name: str) -> str:
    """Return the name with each byte that is not UTF-8 as a replacement character and two digits.

    So names that differ stay different.
    """
    return "".join(
        f"\N{REPLACEMENT CHARACTER}{ord(sign) & 0xFF:02x}" if "\ud800" <= sign <= "\udfff" else sign
        for sign in name
    )


def _about(folder: int) -> dict[str, Any] | None:
    """Return what create_upload wrote into an upload's folder; None if it is damaged."""
    try:
        with open(open_file(_ABOUT, folder), "rb") as file:
            about = json.loads(file.read(_ABOUT_BYTES_MAX))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    sound = (
        isinstance(about, dict)
        and isinstance(about.get("key"), str)
        and isinstance(about.get("started_ms"), int)
    )
    return about if sound else None
