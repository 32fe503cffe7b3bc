"""The digest of a manifest's rows: a SHA-256 that anyone can compute from the Parquet files.

Rows are taken in manifest order in blocks of 65,536 (the last may be shorter). A block is hashed
column by column, in the order of MANIFEST_SCHEMA:

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
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.schema import MANIFEST_SCHEMA

BLOCK_ROWS = 65_536


def manifest_digest(tables: Iterable[pa.Table]) -> str:
    """The digest of all rows of `tables`, which have MANIFEST_SCHEMA and come in manifest order."""
    digest = RowDigest()
    for table in tables:
        digest.update(table)
    return digest.hexdigest()


class RowDigest:
    """manifest_digest() for rows that come one table or batch at a time."""

    def __init__(self) -> None:
        self._blocks = hashlib.sha256(b"noria-manifest-1\n")
        for column in MANIFEST_SCHEMA:
            self._blocks.update(f"{column.name} {column.type}\n".encode())
        self._pending: list[pa.Table] = []
        self._pending_rows = 0

    def update(self, rows: pa.Table) -> None:
        while len(rows):
            taken = rows.slice(0, BLOCK_ROWS - self._pending_rows)
            self._pending.append(taken)
            self._pending_rows += len(taken)
            rows = rows.slice(len(taken))
            if self._pending_rows == BLOCK_ROWS:
                self._close_block()

    def hexdigest(self) -> str:
        """Of all rows so far; no rows may follow."""
        if self._pending:
            self._close_block()
        return self._blocks.hexdigest()

    def _close_block(self) -> None:
        self._blocks.update(block_digest(pa.concat_tables(self._pending)))
        self._pending, self._pending_rows = [], 0


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
