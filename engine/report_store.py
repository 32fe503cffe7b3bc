"""An inventory report that lies in a store: its files, read by ranges, as manifests/inventory.py
asks."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from manifests.errors import InventoryError, SourceMissing
from workers.store import SourceStore

READ_BYTES = 4 * 1024 * 1024
"""One ranged read; what a CSV reader takes in a gulp."""


class StoreReportFiles:
    """ReportFiles on an object store. One try a read: a report that cannot be read is asked for
    again."""

    def __init__(self, store: SourceStore) -> None:
        self._store = store

    def open(self, name: str) -> BinaryIO:
        raw = _RangedFile(self._store, name, self.size(name))
        return cast(BinaryIO, io.BufferedReader(raw, READ_BYTES))

    def size(self, name: str) -> int:
        head = self._store.head(name)
        if head is None:
            raise FileNotFoundError(name)
        return head.size


class _RangedFile(io.RawIOBase):
    def __init__(self, store: SourceStore, name: str, size: int) -> None:
        self._store = store
        self._name = name
        self._size = size
        self._offset = 0
        self._etag: str | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        count = min(len(view), self._size - self._offset)
        if count <= 0:
            return 0
        try:
            head = self._store.read_range(
                self._name, offset=self._offset, into=view[:count], etag=self._etag
            )
        except SourceMissing as error:
            raise InventoryError(f"{self._name} is gone while it is read; plan again") from error
        self._etag = head.etag
        self._offset += count
        return count
