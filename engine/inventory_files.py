"""An inventory report in a store: its files, read by ranges."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from noria.manifests.errors import InventoryError, SourceMissing
from noria.workers.stores.paced import PacedStore
from noria.workers.stores.protocol import SourceStore

READ_BYTES = 4 * 1024 * 1024
"""One ranged read; what a CSV reader takes in a gulp."""


class StoreReportFiles:
    """ReportFiles on an object store.

    A manifest names its data files from the root of the container that it was written to. A report
    that was copied elsewhere with its inner paths is found below one of the folders that hold its
    manifest.
    """

    def __init__(self, store: SourceStore, manifest: str) -> None:
        self._store = PacedStore(inner=store)
        folders = manifest.split("/")[:-1]
        self._roots = ["", *("/".join(folders[:n]) + "/" for n in range(1, len(folders) + 1))]

    def open(self, name: str) -> BinaryIO:
        place, size = self._find(name)
        return cast(BinaryIO, io.BufferedReader(_RangedFile(self._store, place, size), READ_BYTES))

    def size(self, name: str) -> int:
        return self._find(name)[1]

    def _find(self, name: str) -> tuple[str, int]:
        for root in self._roots:
            head = self._store.head(root + name)
            if head is not None:
                return root + name, head.size
        raise FileNotFoundError(name)


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
            raise InventoryError(
                f"{self._name} disappeared while it was read; plan again"
            ) from error
        self._etag = head.etag
        self._offset += count
        return count
