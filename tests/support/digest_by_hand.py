"""The digest of a manifest's rows, made again without Noria's code."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import pyarrow as pa

from noria.manifests.manifest.row_digest import BLOCK_ROWS
from noria.manifests.schema import MANIFEST_SCHEMA
from tests.support.rows import Row


def digest_by_hand(rows: list[Row]) -> str:
    """manifest_digest as manifests/manifest/row_digest.py describes it, value by value."""
    whole = hashlib.sha256(b"noria-manifest-1\n")
    for column in MANIFEST_SCHEMA:
        whole.update(f"{column.name} {column.type}\n".encode())
    for start in range(0, len(rows), BLOCK_ROWS):
        block = hashlib.sha256()
        for column in MANIFEST_SCHEMA:
            values = [row[column.name] for row in rows[start : start + BLOCK_ROWS]]
            block.update(column_by_hand(column, values))
        whole.update(block.digest())
    return whole.hexdigest()


def column_by_hand(column: pa.Field, values: list[Any]) -> bytes:
    if all(value is None for value in values):
        return b"\0"
    if column.type in (pa.string(), pa.binary()):
        raw = [value.encode() if isinstance(value, str) else value for value in values]
        lengths = [-1 if value is None else len(value) for value in raw]
        return b"\1" + struct.pack(f"<{len(raw)}i", *lengths) + b"".join(filter(None, raw))
    if pa.types.is_timestamp(column.type):
        values = [None if value is None else round(value.timestamp() * 1000) for value in values]
    form = "Q" if column.type == pa.uint64() else "q"
    valid = bytes(value is not None for value in values)
    return b"\1" + valid + struct.pack(f"<{len(values)}{form}", *(value or 0 for value in values))
