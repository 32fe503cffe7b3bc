"""Canonical bytes of receipts: the leaves of a tree.

A leaf is a fixed head of HEAD_BYTES, with every number and the length of every text, and then the
texts. docs/pages/reference/proof-format.md has the layout. Leaves are made from columns, many at a
time: only their hashing goes one by one.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.model import Level, Outcome, Receipt
from noria.manifests.schema import RECEIPT_SCHEMA

LEAF_VERSION: Final = 1
NUMBERS: Final = ("size", "crc64nvme", "chunk_bytes", "parts", "bytes_moved", "attempt")
TEXTS: Final = (
    *("key", "target_key", "outcome", "cause", "message", "level", "level_reason"),
    *("source_etag", "source_version", "target_etag", "target_version", "txid", "root"),
    *("changes", "delta", "guard"),
)
LEAF_COLUMNS: Final = (*NUMBERS, "finished_ms", *TEXTS)
"""Of RECEIPT_SCHEMA: all but `row`, which the place of a leaf says, and `chunks`, which `root`
vouches for."""
LEAVES_TOGETHER: Final = 8_192
"""So many are made at a time: some 3 MB."""
ROOT_BYTES: Final = 32

_HAS_CRC: Final = 1
_HAS_CHUNK_BYTES: Final = 2
_NULL: Final = 0xFFFF_FFFF
_LEAF_PREFIX: Final = b"\0"
"""What RFC 6962 hashes in front of a leaf. It is laid out with it, so that one slice is hashed."""
_HEAD: Final = np.dtype(
    [
        ("prefix", "u1"),
        ("version", "u1"),
        ("present", "u1"),
        ("size", ">i8"),
        ("crc64nvme", ">u8"),
        ("chunk_bytes", ">i8"),
        ("parts", ">i4"),
        ("bytes_moved", ">i8"),
        ("attempt", ">i8"),
        ("finished_ms", ">i8"),
        ("lengths", ">u4", len(TEXTS)),
    ]
)
_STRUCT: Final = struct.Struct(f">BBqQqiqqq{len(TEXTS)}I")
HEAD_BYTES: Final = _STRUCT.size
"""118."""


class Leaves:
    """Some consecutive leaves, in order."""

    def __init__(self, prefixed: pa.Array) -> None:
        offsets, data = prefixed.buffers()[1:]
        ends = np.frombuffer(offsets, np.int32)[: len(prefixed) + 1]
        self._ends: list[int] = ends.tolist()
        self._data = memoryview(data).tobytes() if data is not None else b""

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[bytes]:
        """The bytes of each leaf."""
        skipped = len(_LEAF_PREFIX)
        return (self._data[first + skipped : end] for first, end in pairwise(self._ends))

    def hashes(self) -> list[bytes]:
        """The hash of each leaf, as leaf_hash() has it."""
        data, sha256 = self._data, hashlib.sha256
        return [sha256(data[first:end]).digest() for first, end in pairwise(self._ends)]


def leaves_of(receipts: pa.Table) -> Iterator[Leaves]:
    """The leaves of receipts that have LEAF_COLUMNS at least, LEAVES_TOGETHER at a time.

    Raises ValueError for a root that is not of ROOT_BYTES.
    """
    receipts = receipts.select(LEAF_COLUMNS).combine_chunks()
    for first in range(0, len(receipts), LEAVES_TOGETHER):
        yield _leaves(receipts.slice(first, LEAVES_TOGETHER))


def _leaves(receipts: pa.Table) -> Leaves:
    columns = {name: _one_array(receipts[name]) for name in LEAF_COLUMNS}
    if not pc.all(pc.equal(pc.binary_length(columns["root"]), ROOT_BYTES), min_count=0).as_py():
        raise ValueError("a root has not 32 bytes")
    heads = np.zeros(len(receipts), _HEAD)
    heads["version"] = LEAF_VERSION
    heads["present"] = _present(columns["crc64nvme"], _HAS_CRC)
    heads["present"] |= _present(columns["chunk_bytes"], _HAS_CHUNK_BYTES)
    for name in (*NUMBERS, "finished_ms"):
        heads[name] = pc.fill_null(columns[name], 0).to_numpy(zero_copy_only=False)
    texts = []
    for at, name in enumerate(TEXTS):
        column = columns[name]
        if column.null_count == len(column):
            heads["lengths"][:, at] = _NULL
            continue
        lengths = pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False)
        heads["lengths"][:, at] = lengths.astype(np.uint32)
        texts.append(column.cast(pa.binary()))
    joined = pc.binary_join_element_wise(
        _fixed(heads), *texts, b"", null_handling="replace", null_replacement=b""
    )
    return Leaves(joined)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _present(column: pa.Array, bit: int) -> Any:
    return column.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8) * np.uint8(bit)


def _fixed(heads: Any) -> pa.Array:
    """Heads as values of bytes."""
    offsets = np.arange(len(heads) + 1, dtype=np.int32) * _HEAD.itemsize
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(heads.tobytes())]
    return pa.Array.from_buffers(pa.binary(), len(heads), buffers)


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(_LEAF_PREFIX + leaf).digest()


def read_leaf(leaf: bytes, row: int = 0) -> Receipt:
    """The receipt that a leaf is of; it is given `row`, and has no chunks.

    Raises ValueError if the leaf is malformed.
    """
    if len(leaf) < HEAD_BYTES:
        raise ValueError("a leaf is too short")
    version, present, *rest = _STRUCT.unpack_from(leaf)
    numbers, lengths = rest[:7], rest[7:]
    values: dict[str, Any] = dict(zip((*NUMBERS, "finished_ms"), numbers, strict=True))
    if version != LEAF_VERSION or present & ~(_HAS_CRC | _HAS_CHUNK_BYTES):
        raise ValueError("a leaf is of another version")
    for name, bit in (("crc64nvme", _HAS_CRC), ("chunk_bytes", _HAS_CHUNK_BYTES)):
        if not present & bit:
            if values[name]:
                raise ValueError(f"a leaf has a {name} that is not there")
            values[name] = None
    if len(leaf) != HEAD_BYTES + sum(length for length in lengths if length != _NULL):
        raise ValueError("a leaf is not as long as it says")
    at = HEAD_BYTES
    for name, length in zip(TEXTS, lengths, strict=True):
        values[name] = None
        if length != _NULL:
            text, at = leaf[at : at + length], at + length
            values[name] = text if name == "root" else text.decode()
    if any(values[name] is None for name in ("key", "target_key", "outcome")):
        raise ValueError("a leaf lacks a name or an outcome")
    if values["root"] is not None and len(values["root"]) != ROOT_BYTES:
        raise ValueError("a root has not 32 bytes")
    values["outcome"] = Outcome(values["outcome"])
    values["level"] = None if values["level"] is None else Level(values["level"])
    return Receipt(row=row, **values)


assert {*LEAF_COLUMNS, "row", "chunks"} == set(RECEIPT_SCHEMA.names), "a column has no place"
