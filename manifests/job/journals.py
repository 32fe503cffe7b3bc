"""Journals: what an attempt at a shard has done so far, written as it happens and read by the next.

A journal is a file of records, each `CRC32 LENGTH` in hex, a line feed, the payload, a line feed.
The payload is either JSON, for the few things that are said one at a time (a multipart upload was
opened, a part acknowledged, an upload abandoned, rows are to be tried again), or an Arrow IPC
stream of receipts: those are many, and are written a batch at a time.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import passing_causes
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import failed_for, receipt_batch, with_all_columns
from noria.manifests.model import PartRecord, Receipt, Upload
from noria.manifests.schema import RECEIPT_SCHEMA
from noria.manifests.strict_json import from_json

Record: TypeAlias = pa.Table | tuple[str, dict[str, Any]]
"""Receipts, or the kind of a JSON record and its values."""


@dataclass(slots=True)
class JournalState:
    """What the journals of a shard say of the units of one lease."""

    receipts: pa.Table = field(default_factory=RECEIPT_SCHEMA.empty_table)
    """The final word on each row that has one, by row."""
    uploads: dict[int, Upload] = field(default_factory=dict)
    """Row -> the newest upload that was opened for it and not abandoned."""
    parts: dict[str, dict[int, PartRecord]] = field(default_factory=dict)
    """Upload id -> part number -> what the target acknowledged."""

    def final_rows(self) -> set[int]:
        """Those that have a receipt which another try cannot change."""
        final = pc.invert(failed_for(self.receipts, passing_causes()))
        return set(self.receipts["row"].filter(final).to_pylist())


def encode_receipts(receipts: Sequence[Receipt]) -> bytes:
    return encode_receipt_table(pa.Table.from_batches([receipt_batch(receipts)]))


def encode_receipt_table(receipts: pa.Table) -> bytes:
    """Receipts that are columns already."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, RECEIPT_SCHEMA) as stream:
        stream.write_table(receipts)
    return _frame(sink.getvalue().to_pybytes())


def encode_upload(upload: Upload) -> bytes:
    return _json("u", _values(upload))


def encode_part(upload_id: str, part: PartRecord) -> bytes:
    values = {"upload_id": upload_id, **_values(part), "chunks": part.chunks.hex()}
    return _json("p", values)


def encode_abandoned(row: int, upload_id: str) -> bytes:
    return _json("x", {"row": row, "upload_id": upload_id})


def encode_retried(rows: Sequence[int]) -> bytes:
    """What was journalled of these rows' ends before does not count any more."""
    return _json("r", {"rows": list(rows)})


def _values(record: Upload | PartRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _json(kind: str, values: dict[str, Any]) -> bytes:
    return _frame(json.dumps([kind, values], separators=(",", ":"), ensure_ascii=False).encode())


def _frame(payload: bytes) -> bytes:
    return b"%08x %x\n%b\n" % (zlib.crc32(payload), len(payload), payload)


def decode_journal(data: bytes) -> Iterator[Record]:
    """The records of one journal, up to the first that is torn or damaged.

    A crash leaves such a tail. A record whose checksum fits but whose content is not one of ours
    ends the journal too.
    """
    place = 0
    while (payload := _payload(data, place)) is not None:
        start, end = payload
        place = end + 1
        try:
            record = _record(data, start, end)
        except (ValueError, TypeError, LookupError, OSError, RecursionError, pa.ArrowException):
            return
        yield record


def _record(data: bytes, start: int, end: int) -> Record:
    if data[start : start + 1] == b"[":
        payload = data[start:end]
        kind, values = json.loads(payload)
        _check(kind, values)
        return kind, values
    with pa.ipc.open_stream(pa.py_buffer(data)[start:end]) as stream:
        receipts = stream.read_all()
    receipts.validate(full=True)
    return with_all_columns(receipts)


def _check(kind: str, values: dict[str, Any]) -> None:
    """Raises ValueError, TypeError or LookupError for what encode_...() does not write."""
    if kind == "u":
        from_json(Upload, values)
    elif kind == "p":
        from_json(PartRecord, values)
        bytes.fromhex(values["chunks"])
    elif kind == "r":
        if not all(type(row) is int for row in values["rows"]):
            raise TypeError("a row that is not a number")
        return
    elif kind != "x" or type(values["row"]) is not int:
        raise ValueError("a record of no known kind")
    if type(values["upload_id"]) is not str:
        raise TypeError("an upload without an id")


def _payload(data: bytes, place: int) -> tuple[int, int] | None:
    """The start and end of the payload of the record at `place`, or None if it is not whole."""
    line_end = data.find(b"\n", place, place + 32)
    if line_end < 0:
        return None
    checksum, _, length = data[place:line_end].partition(b" ")
    try:
        start, size = line_end + 1, int(length, 16)
    except ValueError:
        return None
    end = start + size
    if size < 0 or end > len(data) or checksum != b"%08x" % zlib.crc32(data[start:end]):
        return None
    return start, end


def read_journals(directory: JobDirectory, shard: int, first: int, end: int) -> JournalState:
    """What all attempts at a shard have journalled for rows [first, end); the newest wins."""
    state = JournalState()
    tables: list[pa.Table] = []
    for data in directory.journals(shard):
        for record in decode_journal(data):
            if isinstance(record, pa.Table):
                tables.append(_of_rows(record, first, end))
                continue
            kind, values = record
            if kind == "r":
                tables = [_without_rows(table, values["rows"]) for table in tables]
            else:
                _note(state, kind, values, first, end)
    if tables:
        state.receipts = _newest(pa.concat_tables(tables))
    return state


def _note(state: JournalState, kind: str, values: dict[str, Any], first: int, end: int) -> None:
    if kind == "u" and first <= values["row"] < end:
        upload = Upload(**values)
        state.uploads[upload.row] = upload
    elif kind == "p":
        upload_id = values.pop("upload_id")
        part = PartRecord(**{**values, "chunks": bytes.fromhex(values["chunks"])})
        state.parts.setdefault(upload_id, {})[part.number] = part
    elif kind == "x":
        upload_of_row = state.uploads.get(values["row"])
        if upload_of_row and upload_of_row.upload_id == values["upload_id"]:
            del state.uploads[values["row"]]


def _of_rows(receipts: pa.Table, first: int, end: int) -> pa.Table:
    rows = receipts["row"]
    return receipts.filter(pc.and_(pc.greater_equal(rows, first), pc.less(rows, end)))


def _without_rows(receipts: pa.Table, rows: list[int]) -> pa.Table:
    given = pa.array(rows, receipts["row"].type)
    return receipts.filter(pc.invert(pc.is_in(receipts["row"], value_set=given)))


def _newest(receipts: pa.Table) -> pa.Table:
    """By row, and of those of one row the last."""
    if len(receipts) == 0:
        return receipts
    # Stable: the last of a row stays the last. A group_by would import all of Arrow's datasets.
    order = pc.sort_indices(receipts["row"])
    rows = receipts["row"].take(order).combine_chunks()
    is_last = pa.concat_arrays([pc.not_equal(rows[:-1], rows[1:]), pa.array([True])])
    return receipts.take(order.filter(is_last)).combine_chunks()
