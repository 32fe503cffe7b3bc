"""Names of blocks. Azure wants all block names of a blob to have one length: here 36 bytes."""

from __future__ import annotations

import base64
import secrets
import time
from typing import Final

from noria.workers.stores.protocol import ListedUpload

_PREFIX: Final = "noria-"
_TIME_DIGITS: Final = 12
_NUMBER_DIGITS: Final = 5
"""A blob may have 50,000 blocks."""


def new_upload_id() -> str:
    """Return the milliseconds since 1970 and 48 random bits, in hexadecimal."""
    return f"{time.time_ns() // 1_000_000:0{_TIME_DIGITS}x}{secrets.token_hex(6)}"


def block_name(upload_id: str, number: int) -> str:
    return f"{_PREFIX}{upload_id}-{number:0{_NUMBER_DIGITS}}"


def block_id(name: str) -> str:
    """Return a block's name as requests encode it."""
    return base64.b64encode(name.encode()).decode()


def number_of(name: str, upload_id: str) -> int | None:
    """Return the part's number; None if the block does not belong to the upload."""
    start = f"{_PREFIX}{upload_id}-"
    return int(name.removeprefix(start)) if name.startswith(start) else None


def uploads_of(key: str, names: list[str]) -> list[ListedUpload]:
    """Return the uploads of Noria that these blocks belong to."""
    ids = {
        name.removeprefix(_PREFIX)[: -_NUMBER_DIGITS - 1]
        for name in names
        if name.startswith(_PREFIX)
    }
    return [
        ListedUpload(key=key, upload_id=found, started_ms=int(found[:_TIME_DIGITS], 16))
        for found in sorted(ids)
    ]
