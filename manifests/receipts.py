"""Journals, results and seals: how what has been done is written down, and read again.

An attempt appends records to its **journal** while it works. When a lease is finished, the worker
compacts the journals of its span into one **result** file (Parquet). The driver, which alone knows
whose attempt is live, writes the **seal**: a small put-if-absent file that names the result and its
SHA-256. What is sealed counts; nothing else does.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests.errors import JobDirectoryError
from manifests.jobdir import JobDirectory, upload_name
from manifests.model import (
    LeaseKind,
    LeaseResult,
    Level,
    Outcome,
    PartRecord,
    Receipt,
    Upload,
)
from manifests.schema import PART_SCHEMA, RECEIPT_SCHEMA

_BYTES = {"chunks", "root"}


@dataclass(slots=True)
class JournalState:
    """What the journals of a shard say of the units of one lease."""

    receipts: dict[int, Receipt] = field(default_factory=dict)
    """Row -> its final word."""
    uploads: dict[int, Upload] = field(default_factory=dict)
    """Row -> the newest upload that was opened for it and not abandoned."""
    parts: dict[str, dict[int, PartRecord]] = field(default_factory=dict)
    """Upload id -> part number -> what the target acknowledged."""


def encode_receipt(receipt: Receipt) -> bytes:
    return _line("r", _values(receipt))


def encode_upload(upload: Upload) -> bytes:
    return _line("u", _values(upload))


def encode_part(upload_id: str, part: PartRecord) -> bytes:
    return _line("p", {"upload_id": upload_id, **_values(part)})


def encode_abandoned(row: int, upload_id: str) -> bytes:
    return _line("x", {"row": row, "upload_id": upload_id})


def _values(record: Receipt | Upload | PartRecord) -> dict[str, Any]:
    """Fields by name. Not dataclasses.asdict: its deep copy costs more than the rest of a
    receipt."""
    return {name: getattr(record, name) for name in record.__slots__}


def _line(kind: str, values: dict[str, Any]) -> bytes:
    """One record: CRC32 of the text in hex, a blank, the text, a line feed."""
    for name in _BYTES:
        value = values.get(name)
        if value is not None:
            values[name] = value.hex()
    present = {name: value for name, value in values.items() if value is not None}
    text = json.dumps([kind, present], separators=(",", ":"), ensure_ascii=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode_journal(data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of one journal, up to the first that is torn or damaged: a crash leaves such a
    tail."""
    for line in data.split(b"\n"):
        checksum, _, text = line.partition(b" ")
        if not text or checksum != b"%08x" % zlib.crc32(text):
            return
        kind, values = json.loads(text)
        for name in _BYTES & values.keys():
            values[name] = bytes.fromhex(values[name])
        yield kind, values


def read_journals(directory: JobDirectory, shard: int, first: int, end: int) -> JournalState:
    """What all attempts at a shard have journalled for rows [first, end), the newest word
    winning."""
    state = JournalState()
    for data in directory.journals(shard):
        for kind, values in decode_journal(data):
            if kind == "r" and first <= values["row"] < end:
                receipt = _receipt(values)
                state.receipts[receipt.row] = receipt
            elif kind == "u" and first <= values["row"] < end:
                upload = Upload(**values)
                state.uploads[upload.row] = upload
            elif kind == "p":
                part = {name: value for name, value in values.items() if name != "upload_id"}
                record = PartRecord(**part)
                state.parts.setdefault(values["upload_id"], {})[record.number] = record
            elif kind == "x":
                upload_of_row = state.uploads.get(values["row"])
                if upload_of_row and upload_of_row.upload_id == values["upload_id"]:
                    del state.uploads[values["row"]]
    return state


def _receipt(values: Mapping[str, Any]) -> Receipt:
    level = values.get("level")
    return Receipt(
        **{
            **values,
            "outcome": Outcome(values["outcome"]),
            "level": None if level is None else Level(level),
        }
    )


def write_receipts(
    directory: JobDirectory, name: str, receipts: Iterable[Receipt]
) -> tuple[str, dict[str, int]]:
    """Write a result file of receipts, by row. Returns its SHA-256 and the counts for the seal."""
    ordered = sorted(receipts, key=lambda receipt: receipt.row)
    table = pa.Table.from_pylist([_values(receipt) for receipt in ordered], schema=RECEIPT_SCHEMA)
    return write_table(directory, name, table), summarize(ordered)


def write_parts(directory: JobDirectory, name: str, parts: Iterable[PartRecord]) -> str:
    """Write a result file of part records, by number. Returns its SHA-256."""
    ordered = sorted(parts, key=lambda part: part.number)
    table = pa.Table.from_pylist([_values(part) for part in ordered], schema=PART_SCHEMA)
    return write_table(directory, name, table)


def write_table(directory: JobDirectory, name: str, table: pa.Table) -> str:
    scratch = directory.path(name).with_name(f".{Path(name).name}.{os.getpid()}")
    try:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, scratch, compression="zstd")
        digest = _file_sha256(scratch)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise JobDirectoryError(
            f"cannot write below {directory.root}: {error.strerror or error}; "
            "make room, then run again"
        ) from error
    directory.publish(scratch, name)
    return digest


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def summarize(receipts: Iterable[Receipt]) -> dict[str, int]:
    """Counts of a set of receipts, as seals carry them: additive over any partition."""
    counts: dict[str, int] = {}

    def add(name: str, number: int) -> None:
        counts[name] = counts.get(name, 0) + number

    for receipt in receipts:
        add(f"outcome.{receipt.outcome}", 1)
        add(f"bytes.{receipt.outcome}", receipt.size)
        add("bytes_moved", receipt.bytes_moved)
        if receipt.level is not None:
            add(f"level.{receipt.level}", 1)
        if receipt.cause is not None:
            add(f"cause.{receipt.cause}", 1)
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The one word that counts on units [first, end) of a shard."""

    shard: int
    kind: LeaseKind
    first: int
    end: int
    attempt: int
    generation: int
    result_name: str
    result_sha256: str
    summary: Mapping[str, int]


def seal(directory: JobDirectory, result: LeaseResult, area: str = "sealed") -> Seal:
    """Write the seal of an accepted result; of two, the first stands. Returns the one that
    stands."""
    name = (
        f"{area}/{result.shard:08d}/{result.kind}-{result.generation:06d}-{result.first:08d}.json"
    )
    values = {
        item.name: getattr(result, item.name) for item in fields(Seal) if item.name != "summary"
    }
    values["summary"] = dict(result.summary)
    text = json.dumps(values, sort_keys=True) + "\n"
    if directory.write_once(name, text.encode()):
        return _seal(name, text.encode())
    standing = directory.read(name)
    assert standing is not None, "a seal never disappears"
    return _seal(name, standing)


def read_seals(
    directory: JobDirectory, area: str = "sealed", shard: int | None = None
) -> Iterator[Seal]:
    """Every seal of the job, or of one shard, in order."""
    below = area if shard is None else f"{area}/{shard:08d}"
    for name in directory.names(below):
        data = directory.read(name) if name.endswith(".json") else None
        if data is not None:
            yield _seal(name, data)


def _seal(name: str, data: bytes) -> Seal:
    try:
        values = json.loads(data)
        return Seal(**{**values, "kind": LeaseKind(values["kind"])})
    except (ValueError, TypeError, KeyError) as error:
        raise JobDirectoryError(f"{name} is damaged; restore it from a copy of the job") from error


def read_result(directory: JobDirectory, sealed: Seal) -> pa.Table:
    """The result that a seal names. Raises JobDirectoryError where it is not what was sealed."""
    path = directory.path(sealed.result_name)
    try:
        if _file_sha256(path) != sealed.result_sha256:
            raise JobDirectoryError(
                f"{sealed.result_name} is not the file that was sealed; restore it from a copy"
            )
        return pq.read_table(path)
    except OSError as error:
        raise JobDirectoryError(f"{sealed.result_name} cannot be read: {error}") from error


def receipts_of(table: pa.Table) -> Iterator[Receipt]:
    """Rows of a result as objects. For one shard, never for a whole job."""
    for batch in table.to_batches(max_chunksize=4096):
        for values in batch.to_pylist():
            yield _receipt(values)


def parts_of(table: pa.Table) -> Iterator[PartRecord]:
    for values in table.to_pylist():
        yield PartRecord(**values)


def failures_of(table: pa.Table) -> pa.Table:
    """The receipts of a result that someone has to look at: neither landed nor skipped by
    policy."""
    landed = pc.is_in(
        table["outcome"],
        value_set=pa.array([Outcome.TRANSFERRED, Outcome.ALREADY_PRESENT], pa.string()),
    )
    policy = pc.and_(
        pc.equal(table["outcome"], Outcome.SKIPPED.value),
        pc.is_in(table["cause"], value_set=pa.array(["folder_stub", "not_current"])),
    )
    return table.filter(pc.invert(pc.or_(landed, policy)))


def write_upload(directory: JobDirectory, shard: int, generation: int, upload: Upload) -> Upload:
    """Journal the upload of a PARTS shard. Of several workers the first wins; returns the one that
    stands."""
    name = upload_name(shard, generation)
    if directory.write_once(name, json.dumps(_values(upload)).encode()):
        return upload
    standing = read_upload(directory, shard, generation)
    assert standing is not None, "an upload record never disappears"
    return standing


def read_upload(directory: JobDirectory, shard: int, generation: int) -> Upload | None:
    data = directory.read(upload_name(shard, generation))
    if data is None:
        return None
    try:
        return Upload(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise JobDirectoryError(f"{upload_name(shard, generation)} is damaged") from error
