"""The digest of a manifest's rows: a SHA-256 that anyone can compute from the Parquet files.

Rows are taken in manifest order in blocks of 65,536 (the last may be shorter). A block is hashed
column by column, in the order of the manifest's schema:

    every value null        byte 0
    strings and bytes       byte 1, the length of each value as int32 (-1: null), then all values
    all else                byte 1, a byte for each row (1 valid, 0 null), then each value as int64
                            or uint64 (0: null); booleans are 0 and 1, timestamps Unix milliseconds

Numbers are little-endian. The digest is the SHA-256 over the line `noria-manifest-1`, a line `name
type` for each column, and the SHA-256 of each block. Files, row groups, batches and compression
leave no trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.schema import MANIFEST_SCHEMA

BLOCK_ROWS = 65_536


def manifest_digest(tables: Iterable[pa.Table], schema: pa.Schema = MANIFEST_SCHEMA) -> str:
    """The digest of all rows of `tables`, which have `schema` and come in manifest order."""
    digest = RowDigest(schema)
    for table in tables:
        digest.update(table)
    return digest.hexdigest()


class RowDigest:
    """manifest_digest() for rows that come one table or batch at a time."""

    def __init__(self, schema: pa.Schema = MANIFEST_SCHEMA) -> None:
        self._blocks = hashlib.sha256(b"noria-manifest-1\n")
        for column in schema:
            self._blocks.update(f"{column.name} {column.type}\n".encode())
        self._pending = _PendingBlock()

    def update(self, rows: pa.Table) -> None:
        for block in self._pending.fill(rows):
            self._blocks.update(block_digest(block))

    def join(self, stretch: DigestStretch) -> None:
        """Take the next stretch. Its whole blocks are digested already."""
        for table in stretch.head:
            self.update(table)
        for digest in stretch.blocks:
            self._blocks.update(digest)
        for table in stretch.tail:
            self.update(table)

    def hexdigest(self) -> str:
        """Of all rows so far; no rows may follow."""
        if self._pending.tables:
            self._blocks.update(block_digest(self._pending.take()))
        return self._blocks.hexdigest()


class DigestStretch:
    """The part that consecutive rows have in the digest, so that stretches are read side by side.

    `first_row` is how many rows of the manifest come before.
    """

    def __init__(self, first_row: int) -> None:
        self._head = _PendingBlock(-first_row % BLOCK_ROWS)
        self._rest = _PendingBlock()
        self.blocks: list[bytes] = []
        """Digests of the blocks that begin and end in here."""

    def update(self, rows: pa.Table) -> None:
        rows = rows.slice(self._head.add(rows))
        self.blocks += map(block_digest, self._rest.fill(rows))

    @property
    def head(self) -> list[pa.Table]:
        """Rows of a block that began before."""
        return self._head.tables

    @property
    def tail(self) -> list[pa.Table]:
        """Rows of a block that ends later."""
        return self._rest.tables


class _PendingBlock:
    """The rows of a block that is not full yet."""

    def __init__(self, missing: int = BLOCK_ROWS) -> None:
        self.tables: list[pa.Table] = []
        self._missing = missing

    def add(self, rows: pa.Table) -> int:
        """Take rows until it is full; returns how many."""
        taken = rows.slice(0, self._missing)
        if len(taken):
            self.tables.append(taken)
            self._missing -= len(taken)
        return len(taken)

    def fill(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Take all rows; yields each block that they fill."""
        while len(rows):
            rows = rows.slice(self.add(rows))
            if not self._missing:
                yield self.take()

    def take(self) -> pa.Table:
        """The rows so far; the next ones begin a block."""
        taken = pa.concat_tables(self.tables)
        self.tables, self._missing = [], BLOCK_ROWS
        return taken


def block_digest(block: pa.Table) -> bytes:
    """SHA-256 of one block."""
    digest = hashlib.sha256()
    for column in block.columns:
        if column.null_count == len(column):
            digest.update(b"\0")
            continue
        digest.update(b"\1")
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            for chunk in column.chunks:
                digest.update(_fixed(pc.fill_null(pc.binary_length(chunk), -1)))
            for chunk in column.chunks:
                digest.update(_concatenated(chunk))
        else:
            wide = pa.uint64() if pa.types.is_unsigned_integer(column.type) else pa.int64()
            for chunk in column.chunks:
                digest.update(_fixed(pc.is_valid(chunk).cast(pa.uint8())))
            for chunk in column.chunks:
                digest.update(_fixed(pc.fill_null(chunk.cast(wide), 0)))
    return digest.digest()


def _fixed(column: pa.Array) -> memoryview:
    """The bytes of a column of numbers without nulls."""
    width = column.type.byte_width
    return _bytes(column.buffers()[1])[column.offset * width :][: len(column) * width]


def _concatenated(column: pa.Array) -> memoryview:
    """The bytes of all values of a string or binary column, one after the other."""
    if column.null_count:
        # A null may have bytes behind it.
        column = pc.fill_null(column, b"" if pa.types.is_binary(column.type) else "")
    if not len(column):
        return memoryview(b"")
    offsets = _bytes(column.buffers()[1]).cast("i")
    first, end = offsets[column.offset], offsets[column.offset + len(column)]
    return _bytes(column.buffers()[2])[first:end]


def _bytes(buffer: pa.Buffer | None) -> memoryview:
    return memoryview(buffer).cast("B") if buffer is not None else memoryview(b"")
