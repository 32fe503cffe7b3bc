"""Journals: what an attempt at a shard has done so far, written as it happens and read by the next.

A journal is a file of records, each `CRC32 LENGTH` in hex, a line feed, the payload, a line feed.
In the journal of a worker (worker_journals.py) ` SHARD ATTEMPT CRC32` follows the length, the CRC32
of the line up to there, so that records of others are passed over unread. What a payload is, its
first bytes tell:

    [              JSON, for what is said one at a time: a multipart upload was opened, a part
                   acknowledged, an upload abandoned, rows are to be tried again
    receipts       many receipts, as an Arrow record batch of RECEIPT_SCHEMA
    zstd's magic   a batch: records like these, one after the other, compressed
    else           an Arrow IPC stream of receipts, as earlier versions of Noria wrote them
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import passing_causes
from noria.manifests.job.directory import JobDirectory, disk_errors
from noria.manifests.job.receipts import failed_for, receipt_batch, with_all_columns
from noria.manifests.job.worker_journals import open_all_journals, open_journals
from noria.manifests.model import PartRecord, Receipt, Upload
from noria.manifests.schema import RECEIPT_SCHEMA, SECOND_RECEIPT_SCHEMA
from noria.manifests.strict_json import from_json

Record: TypeAlias = pa.Table | tuple[str, dict[str, Any]]
"""Receipts, or the kind of a JSON record and its values."""

_RECEIPTS: Final = b"receipts-3\n"
"""Other columns than those of RECEIPT_SCHEMA now will need another word."""
_SECOND_RECEIPTS: Final = b"receipts\n"
"""As earlier versions wrote them."""
_SCHEMAS: Final = {_RECEIPTS: RECEIPT_SCHEMA, _SECOND_RECEIPTS: SECOND_RECEIPT_SCHEMA}
_WORD_BYTES_MAX: Final = max(map(len, _SCHEMAS))
_ZSTD: Final = bytes.fromhex("28b52ffd")
_HEAD_BYTES_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierUpload:
    """An upload that an earlier attempt has opened and not abandoned."""

    upload: Upload
    parts: dict[int, PartRecord]
    """Part number -> what the target acknowledged."""


@dataclass(slots=True)
class JournalState:
    """What the journals of a shard say of the units of one lease."""

    receipts: pa.Table = field(default_factory=RECEIPT_SCHEMA.empty_table)
    """The final word on each row that has one, by row."""
    uploads: dict[int, Upload] = field(default_factory=dict)
    """Row -> the newest upload that was opened for it and not abandoned."""
    parts: dict[str, dict[int, PartRecord]] = field(default_factory=dict)
    """Upload id -> part number -> what the target acknowledged."""

    def earlier_uploads(self) -> dict[int, EarlierUpload]:
        """Row -> its newest upload, and what of it was acknowledged."""
        return {
            row: EarlierUpload(upload=upload, parts=self.parts.get(upload.upload_id, {}))
            for row, upload in self.uploads.items()
        }

    def final_rows(self) -> set[int]:
        """Those that have a receipt which another try cannot change."""
        final = pc.invert(failed_for(self.receipts, passing_causes()))
        return set(self.receipts["row"].filter(final).to_pylist())


def encode_receipts(receipts: Sequence[Receipt]) -> bytes:
    return encode_receipt_table(pa.Table.from_batches([receipt_batch(receipts)]))


def encode_receipt_table(receipts: pa.Table) -> bytes:
    """Receipts that are columns already."""
    batches = receipts.to_batches()
    return b"".join(_frame(_RECEIPTS + batch.serialize().to_pybytes()) for batch in batches)


def encode_batch(records: Sequence[bytes], address: bytes = b"") -> bytes:
    """One record of several, smaller than they are. `address`: see JournalPointer."""
    return _frame(pa.compress(b"".join(records), codec="zstd", asbytes=True), address)


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


def _frame(payload: bytes, address: bytes = b"") -> bytes:
    head = b"%08x %x" % (zlib.crc32(payload), len(payload))
    if address:
        head += b" " + address
        head += b" %08x" % zlib.crc32(head)
    return b"%b\n%b\n" % (head, payload)


def decode_journal(journal: BinaryIO, address: bytes | None = None) -> Iterator[Record]:
    """The records of one journal, up to the first that is torn or damaged; one at a time in memory.

    `address`: of those with this address alone.

    A crash leaves such a tail. A record whose checksum fits but whose content is not one of ours
    ends the journal too. Raises OSError if the file cannot be read.
    """
    for payload in _payloads(journal, address):
        try:
            if payload.startswith(_ZSTD):
                yield from map(_record, _payloads(io.BytesIO(_unpacked(payload))))
            else:
                yield _record(payload)
        except (ValueError, TypeError, LookupError, OSError, RecursionError, pa.ArrowException):
            return


def _unpacked(payload: bytes) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(payload), "zstd") as stream:
        unpacked: bytes = stream.read()
    return unpacked


def _record(payload: bytes) -> Record:
    if payload.startswith(b"["):
        kind, values = json.loads(payload)
        _check(kind, values)
        return kind, values
    word, line, _ = payload[:_WORD_BYTES_MAX].partition(b"\n")
    if (schema := _SCHEMAS.get(word + line)) is not None:
        batch = pa.ipc.read_record_batch(payload[len(word + line) :], schema)
        receipts = pa.Table.from_batches([batch])
    else:
        with pa.ipc.open_stream(payload) as stream:
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


def _payloads(journal: BinaryIO, address: bytes | None = None) -> Iterator[bytes]:
    """The payloads of whole records, of those with this address if one is given."""
    end = journal.seek(0, os.SEEK_END)
    journal.seek(0)
    while (head := _head(journal.readline(_HEAD_BYTES_MAX))) is not None:
        checksum, size, found = head
        if not 0 <= size <= end - journal.tell():
            return
        if address is not None and found != address:
            journal.seek(size + 1, os.SEEK_CUR)
            continue
        payload = journal.read(size)
        if checksum != b"%08x" % zlib.crc32(payload):
            return
        yield payload
        journal.read(1)


def _head(line: bytes) -> tuple[bytes, int, bytes] | None:
    """The checksum, length and address of a record; None if the line is of another kind."""
    fields = line.removesuffix(b"\n").split(b" ")
    if len(fields) == 5:
        *fields, checksum_of_head = fields
        if checksum_of_head != b"%08x" % zlib.crc32(b" ".join(fields)):
            return None
    elif len(fields) != 2:
        return None
    checksum, length, *address = fields
    try:
        return checksum, int(length, 16), b" ".join(address)
    except ValueError:
        return None


def journal_records(directory: JobDirectory) -> Iterator[Record]:
    """The records of all journals. Raises JobDirectoryError."""
    with disk_errors(directory.root):
        for journal in open_all_journals(directory):
            yield from decode_journal(journal)


def read_journals(directory: JobDirectory, shard: int, first: int, end: int) -> JournalState:
    """What all attempts at a shard have journalled for units [first, end); the newest wins.

    Units are rows, or parts of the shard's only row: parts of others may be in it too.
    """
    state = JournalState()
    tables: list[pa.Table] = []
    for record in _records_of(directory, shard, first, end):
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


def _records_of(directory: JobDirectory, shard: int, first: int, end: int) -> Iterator[Record]:
    with disk_errors(directory.root):
        for journal, address in open_journals(directory, shard, first, end):
            yield from decode_journal(journal, address)


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
