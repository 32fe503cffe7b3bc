"""Leaves and trees as docs/pages/reference/proof-format.md says, made without Noria's code."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from tests.support.rows import Row

TEXTS = (
    *("key", "target_key", "outcome", "cause", "message", "level", "level_reason"),
    *("source_etag", "source_version", "target_etag", "target_version", "txid", "root"),
    *("changes", "delta", "guard"),
)
NUMBERS = ["size", "crc64nvme", "chunk_bytes", "parts", "bytes_moved", "attempt", "finished_ms"]


def leaf_by_hand(receipt: Row) -> bytes:
    present = (receipt["crc64nvme"] is not None) | (receipt["chunk_bytes"] is not None) << 1
    numbers = [receipt[name] or 0 for name in NUMBERS]
    leaf = struct.pack(">BBqQqiqqq", 1, present, *numbers)
    texts = [receipt[name] for name in TEXTS]
    encoded = [text.encode() if isinstance(text, str) else text for text in texts]
    for text in encoded:
        leaf += b"\xff\xff\xff\xff" if text is None else struct.pack(">I", len(text))
    return leaf + b"".join(text for text in encoded if text is not None)


def leaf_hash_by_hand(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\0" + leaf).digest()


def root_by_hand(hashes: Sequence[bytes]) -> bytes:
    """RFC 6962, 2.1: of hashes of leaves."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    middle = 1
    while middle * 2 < len(hashes):
        middle *= 2
    left, right = root_by_hand(hashes[:middle]), root_by_hand(hashes[middle:])
    return hashlib.sha256(b"\1" + left + right).digest()
