"""Columns of texts as Azure writes them: dates and checksums, a page at a time.

Nearly all texts of a page have the one form that the service writes, and are read as a table of
bytes. If one of them has not, the page is read text by text.
"""

from __future__ import annotations

import base64
import binascii
from calendar import month_abbr
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MD5_BYTES: Final = 16
CRC_BYTES: Final = 8
_RFC1123: Final = "%a, %d %b %Y %H:%M:%S GMT"
_RFC1123_FRAME: Final = b"..., .. ... .... ..:..:.. GMT"
_ISO_FRAME: Final = b"0000-00-00T00:00:00Z"
_MONTHS: Final = [name.encode() for name in month_abbr[1:]]
_PADDING: Final = {MD5_BYTES: 2, CRC_BYTES: 1}

_Bytes = npt.NDArray[np.uint8]


def timestamps(texts: pa.StringArray) -> pa.Array:
    """Return the dates of texts such as "Thu, 26 Nov 2026 10:00:00 GMT"; null for null.

    Raises ValueError for any other text; the day of the week is not looked at.
    """
    known = texts.drop_null()
    table = _table(known, len(_RFC1123_FRAME))
    dates = None if table is None else _dates(table)
    if dates is None:
        parsed = pc.strptime(texts, format=_RFC1123, unit="ms")
        return pc.assume_timezone(parsed, "UTC")
    return _spread(dates, texts)


def checksums(texts: pa.StringArray, nbytes: int) -> pa.Array:
    """Return the bytes of base64 texts, for MD5_BYTES or CRC_BYTES; null for null.

    Raises ValueError for what base64 does not have; other lengths are returned as they are.
    """
    known = texts.drop_null()
    padding = _PADDING[nbytes]
    table = _table(known, 4 * -(-nbytes // 3))
    if table is not None and np.all(table[:, -padding:] == ord("=")):
        table = table.copy()
        table[:, -padding:] = ord("A")  # so that all of them are one text
        decoded = binascii.a2b_base64(table.tobytes())
        whole = table.shape[1] // 4 * 3
        if len(decoded) == len(table) * whole:  # signs that are none of base64 are left out
            rows = np.frombuffer(decoded, np.uint8).reshape(-1, whole)[:, :nbytes]
            return _spread(_array(rows, pa.binary()), texts)
    each = [None if text is None else base64.b64decode(text) for text in texts.to_pylist()]
    return pa.array(each, pa.binary())


def _dates(table: _Bytes) -> pa.Array | None:
    frame = np.frombuffer(_RFC1123_FRAME, np.uint8)
    fixed = frame != ord(".")
    if not np.all(table[:, fixed] == frame[fixed]):
        return None
    number = np.zeros(len(table), np.uint8)
    for month, name in enumerate(_MONTHS, start=1):
        number[np.all(table[:, 8:11] == list(name), axis=1)] = month
    if not np.all(number):
        return None
    iso = np.tile(np.frombuffer(_ISO_FRAME, np.uint8), (len(table), 1))
    iso[:, 0:4] = table[:, 12:16]
    iso[:, 5], iso[:, 6] = number // 10 + ord("0"), number % 10 + ord("0")
    iso[:, 8:10] = table[:, 5:7]
    iso[:, 11:19] = table[:, 17:25]
    return _array(iso, pa.string()).cast(pa.timestamp("ms", "UTC"))


def _table(texts: pa.StringArray, length: int) -> _Bytes | None:
    """A row for each text, if all have this length; else None. Texts have no nulls."""
    if not len(texts) or pc.any(pc.not_equal(pc.binary_length(texts), length)).as_py():
        return None
    begin = int(np.frombuffer(texts.buffers()[1], np.int32)[texts.offset])
    text = np.frombuffer(texts.buffers()[2], np.uint8)
    return text[begin : begin + len(texts) * length].reshape(-1, length)


def _array(rows: _Bytes, kind: pa.DataType) -> pa.Array:
    """An array of a row's bytes each, all of one length."""
    count, length = rows.shape
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(length)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(rows.tobytes())]
    return pa.Array.from_buffers(kind, count, buffers)


def _spread(values: pa.Array, texts: pa.StringArray) -> pa.Array:
    """The values at the places of the texts that are not null, in order."""
    if not texts.null_count:
        return values
    known = texts.is_valid().to_numpy(zero_copy_only=False)
    return values.take(pa.array(np.cumsum(known) - 1, mask=~known))
