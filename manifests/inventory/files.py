"""The files of an inventory report, and the checks that their bytes are what its writer meant.

A report is a manifest (JSON), a checksum file with the manifest's MD5, and the data files that the
manifest lists. Names are paths below one root: the container or bucket that holds the report, or a
local copy of it.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import pyarrow as pa

from noria.manifests.errors import InventoryError
from noria.manifests.side_by_side import side_by_side

MANIFEST_BYTES_LIMIT = 64 * 1024 * 1024
"""Manifests of known reports stay below 1 MiB; 64 MiB names some 400,000 data files."""
READ_BYTES = 1024 * 1024
WHOLE_BYTES = 64 * 1024 * 1024
"""Columnar files up to this size are read whole; three are held at most."""
MD5_BYTES = 16
GZIP_MAGIC = b"\x1f\x8b"

T = TypeVar("T")


class ReportFiles(Protocol):
    """The files of a report. Errors of a store pass through the reader as they are."""

    def open(self, name: str) -> BinaryIO:
        """A seekable stream that reads as it is asked. Raises FileNotFoundError."""
        ...

    def size(self, name: str) -> int:
        """Bytes of the file. Raises FileNotFoundError."""
        ...


@dataclass(frozen=True, slots=True)
class LocalReportFiles:
    """A report copied to a local directory, with the paths it had in its container or bucket."""

    root: Path

    def open(self, name: str) -> BinaryIO:
        return self._path(name).open("rb")

    def size(self, name: str) -> int:
        return self._path(name).stat().st_size

    def _path(self, name: str) -> Path:
        try:
            path = (self.root / name).resolve()
            # A manifest is input: it must not make us read other files of this machine.
            if not path.is_relative_to(self.root.resolve()):
                raise InventoryError(f"{name}: is outside the report's directory")
            if path.is_file():
                return path
        except (OSError, ValueError):  # too long, or of characters that no name has
            pass
        raise FileNotFoundError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A data file as the manifest states it. `md5` is 16 bytes, None if none is stated."""

    name: str
    size: int
    md5: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportManifest:
    """A manifest whose checksum fits."""

    name: str
    fields: Mapping[str, Any]
    path: str = ""
    """Where these fields stand in the manifest, for messages: empty, or such as `files[3].`"""

    def get(self, kind: type[T], *steps: str) -> T:
        """The value at `steps`. Raises InventoryError if it is missing or of another type."""
        value: Any = self.fields
        for step in steps:
            value = value.get(step) if isinstance(value, Mapping) else None
        # bool is an int to isinstance, and `true` is not a count.
        if type(value) is not kind:
            raise self.refuse(f"{self.path}{'.'.join(steps)} is missing or of the wrong type")
        return value

    def entries(self, step: str) -> list[ReportManifest]:
        """The objects of the list at `step`."""
        listed: list[Any] = self.get(list, step)
        return [
            ReportManifest(name=self.name, fields=entry, path=f"{step}[{index}].")
            for index, entry in enumerate(listed)
        ]

    def refuse(self, what: str) -> InventoryError:
        return InventoryError(f"{self.name}: {what}")


def read_manifest(files: ReportFiles, name: str) -> ReportManifest:
    """Read the manifest `NAME.json` and hold it against `NAME.checksum`.

    Both clouds write the checksum file last: without it the report is not finished.
    """
    if not name.endswith(".json"):
        raise InventoryError(f"{name}: name the report's manifest, a .json file")
    text = _read_whole(files, name, "the report has no such manifest")
    checksum_name = name.removesuffix(".json") + ".checksum"
    checksum = _read_whole(
        files, checksum_name, "is missing: the report is not finished, or not copied whole"
    )
    if parse_md5(checksum) != hashlib.md5(text, usedforsecurity=False).digest():
        raise InventoryError(f"{name}: does not have the MD5 that {checksum_name} states")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise InventoryError(f"{name}, line {line}: is not JSON") from error
    if not isinstance(fields, dict):
        raise InventoryError(f"{name}, line 1: is not a JSON object")
    return ReportManifest(name=name, fields=fields)


def parse_md5(text: bytes) -> bytes | None:
    """An MD5 written as 32 hex digits or as base64. None if it is neither."""
    text = text.strip()
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        pass
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def check_data_files(
    files: ReportFiles, manifest: ReportManifest, listed: Iterable[DataFile]
) -> None:
    """Each listed file is there, once, in the size that the manifest states."""
    seen = set()
    for file in listed:
        if file.name in seen:
            raise manifest.refuse(f"lists {file.name} twice")
        seen.add(file.name)
        try:
            size = files.size(file.name)
        except FileNotFoundError:
            raise InventoryError(f"{file.name}: is missing, {manifest.name} lists it") from None
        if size != file.size:
            raise InventoryError(
                f"{file.name}: has {size} bytes, {manifest.name} states {file.size}"
            )


@contextmanager
def open_file(files: ReportFiles, name: str) -> Iterator[BinaryIO]:
    """The file, closed at the end of the block. Raises InventoryError if it is missing."""
    try:
        stream = files.open(name)
    except FileNotFoundError:
        raise InventoryError(f"{name}: is missing") from None
    with stream:
        yield stream


class CheckedStream:
    """Hands a data file's bytes on, counts and hashes them, and compares them in the end."""

    def __init__(self, stream: BinaryIO, file: DataFile) -> None:
        self._stream = stream
        self._file = file
        self._bytes = 0
        self._md5 = hashlib.md5(usedforsecurity=False)

    def read(self, size: int = READ_BYTES) -> bytes:
        data = self._stream.read(size)
        self._bytes += len(data)
        if self._file.md5 is not None:
            self._md5.update(data)
        return data

    def finish(self) -> None:
        """Read what is left, then raise InventoryError unless size and MD5 are as stated."""
        while self.read():
            pass
        file = self._file
        if self._bytes != file.size:
            raise InventoryError(f"{file.name}: read {self._bytes} bytes, not {file.size}")
        if file.md5 is not None and self._md5.digest() != file.md5:
            raise InventoryError(f"{file.name}: does not have the MD5 that the manifest states")


def seekable_files(
    files: ReportFiles, listed: Iterable[DataFile]
) -> Iterator[tuple[str, BinaryIO]]:
    """Each file with its name, to be read from any place, once its bytes are as stated.

    A file of up to WHOLE_BYTES is read once, whole, while the one before is used. For a larger one
    the sum takes a pass of its own, and so its size is all that is known of it if it has no MD5.
    """
    listed = tuple(listed)
    with closing(side_by_side(partial(_read_small, files), listed, threads=1)) as read:
        for file, data in zip(listed, read, strict=True):
            if data is not None:
                yield file.name, pa.BufferReader(data)
                continue
            with open_file(files, file.name) as stream:
                if file.md5 is not None:
                    CheckedStream(stream, file).finish()
                    stream.seek(0)
                yield file.name, stream


def _read_small(files: ReportFiles, file: DataFile) -> bytes | None:
    """The file's bytes; None if there are too many to hold."""
    if file.size > WHOLE_BYTES:
        return None
    with open_file(files, file.name) as stream:
        checked = CheckedStream(stream, file)
        data = b"".join(iter(checked.read, b""))
        checked.finish()
    return data


class PlainText:
    """The text of a file, unpacked if the file is gzip (told by its first bytes)."""

    def __init__(self, stream: BinaryIO | CheckedStream, name: str) -> None:
        self._name = name
        first = stream.read(1) + stream.read(1)
        again = _Rejoined(first, stream)
        self._stream: gzip.GzipFile | _Rejoined = again
        if first == GZIP_MAGIC:
            self._stream = gzip.GzipFile(fileobj=again)  # type: ignore[call-overload]  # reads only

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InventoryError(f"{self._name}: the gzip data is damaged or cut short") from error


class _Rejoined:
    """A stream whose first bytes were already read."""

    def __init__(self, first: bytes, rest: BinaryIO | CheckedStream) -> None:
        self._first = first
        self._rest = rest

    def read(self, size: int = READ_BYTES) -> bytes:
        if not self._first:
            return self._rest.read(size)
        taken, self._first = self._first[:size], self._first[size:]
        return taken


def _read_whole(files: ReportFiles, name: str, missing: str) -> bytes:
    try:
        with files.open(name) as stream:
            text = stream.read(MANIFEST_BYTES_LIMIT + 1)
    except FileNotFoundError:
        raise InventoryError(f"{name}: {missing}") from None
    if len(text) > MANIFEST_BYTES_LIMIT:
        raise InventoryError(f"{name}: is larger than {MANIFEST_BYTES_LIMIT} bytes")
    return text
