"""Results and seals: how what has been done is written down for good, and read again.

An attempt appends to its **journal** while it works (journals.py). When a lease is finished, the
worker compacts the journals of its span into one **result** file (Parquet). The driver, which alone
knows whose attempt is live, writes the **seal**: a small put-if-absent file that names the result
and its SHA-256. What is sealed counts; nothing else does.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory, upload_name
from noria.manifests.model import (
    LeaseKind,
    LeaseResult,
    Level,
    Outcome,
    PartRecord,
    Receipt,
    Upload,
)
from noria.manifests.schema import FIRST_PART_SCHEMA, PART_SCHEMA, RECEIPT_SCHEMA


def _receipt(values: Mapping[str, Any]) -> Receipt:
    level = values.get("level")
    return Receipt(
        **{
            **values,
            "outcome": Outcome(values["outcome"]),
            "level": None if level is None else Level(level),
        }
    )


def receipt_batch(receipts: Sequence[Receipt]) -> pa.RecordBatch:
    """As columns, in the order given."""
    return _batch(receipts, RECEIPT_SCHEMA)


def write_receipts(
    directory: JobDirectory, name: str, receipts: pa.Table
) -> tuple[str, dict[str, int]]:
    """Write a result file of receipts, given by row. Returns its SHA-256 and the counts for the
    seal."""
    return write_table(directory, name, receipts), summarize(receipts)


def write_parts(directory: JobDirectory, name: str, parts: Iterable[PartRecord]) -> str:
    """Write a result file of part records, by number. Returns its SHA-256."""
    ordered = sorted(parts, key=lambda part: part.number)
    return write_table(directory, name, pa.Table.from_batches([_batch(ordered, PART_SCHEMA)]))


def _batch(records: Sequence[Receipt] | Sequence[PartRecord], schema: pa.Schema) -> pa.RecordBatch:
    """Records whose fields are the schema's columns."""
    columns = [
        pa.array([getattr(record, column.name) for record in records], column.type)
        for column in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


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


def summarize(receipts: pa.Table) -> dict[str, int]:
    """Counts of a set of receipts, as seals carry them: additive over any partition."""
    counts = {"bytes_moved": pc.sum(receipts["bytes_moved"], min_count=0).as_py()}
    outcomes = receipts.group_by("outcome").aggregate([("size", "sum"), ("size", "count")])
    for row in outcomes.to_pylist():
        counts[f"outcome.{row['outcome']}"] = row["size_count"]
        counts[f"bytes.{row['outcome']}"] = row["size_sum"]
    for name in ("level", "cause"):
        for found in pc.value_counts(receipts[name].drop_null()).to_pylist():
            counts[f"{name}.{found['values']}"] = found["counts"]
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


UNITS_MAX = 2**31 - 1
"""Rows and parts of a shard are counted in int32."""
_SEALS = TypeAdapter(Seal)
_UPLOADS = TypeAdapter(Upload)


def seal(directory: JobDirectory, result: LeaseResult, area: str = "sealed") -> Seal:
    """Write the seal of an accepted result; of two, the first stands. Returns the one that
    stands."""
    name = f"{area}/{_seal_name(result)}"
    values = {
        item.name: getattr(result, item.name) for item in fields(Seal) if item.name != "summary"
    }
    values["summary"] = dict(result.summary)
    text = json.dumps(values, sort_keys=True) + "\n"
    if directory.write_once(name, text.encode()):
        return _seal(name, text.encode())
    existing = directory.read(name)
    assert existing is not None, "a seal never disappears"
    return _seal(name, existing)


def read_seals(
    directory: JobDirectory, area: str = "sealed", shard: int | None = None
) -> Iterator[Seal]:
    """Every seal of the job, or of one shard, in order."""
    below = area if shard is None else f"{area}/{shard:08d}"
    for name in directory.names(below):
        data = directory.read(name) if name.endswith(".json") else None
        if data is not None:
            yield _seal(name, data)


def read_seals_by_shard(directory: JobDirectory) -> Iterator[list[Seal]]:
    """Every seal of the job, those of a shard together."""
    group: list[Seal] = []
    for sealed in read_seals(directory):
        if group and group[-1].shard != sealed.shard:
            yield group
            group = []
        group.append(sealed)
    if group:
        yield group


def _seal(name: str, data: bytes) -> Seal:
    try:
        sealed = _SEALS.validate_json(data, strict=True)
    except ValueError:
        sealed = None
    if sealed is None or not _is_sound(sealed) or not name.endswith(f"/{_seal_name(sealed)}"):
        raise JobDirectoryError(f"{name} is damaged; restore it from a copy of the job")
    return sealed


def _seal_name(of: LeaseResult | Seal) -> str:
    """Below the area of the seals."""
    return f"{of.shard:08d}/{of.kind}-{of.generation:06d}-{of.first:08d}.json"


def _is_sound(sealed: Seal) -> bool:
    numbers = (sealed.shard, sealed.attempt, sealed.generation, *sealed.summary.values())
    result = PurePosixPath(sealed.result_name)
    inside = not result.is_absolute() and ".." not in result.parts
    return inside and min(numbers) >= 0 and 0 <= sealed.first <= sealed.end <= UNITS_MAX


def read_result(
    directory: JobDirectory, sealed: Seal, columns: list[str] | None = None
) -> pa.Table:
    """The result that a seal names, or some columns of it. Raises JobDirectoryError where it is not
    what was sealed."""
    parts = (PART_SCHEMA, FIRST_PART_SCHEMA)
    schemas = parts if sealed.kind is LeaseKind.PARTS else (RECEIPT_SCHEMA,)
    path = directory.path(sealed.result_name)
    try:
        if _file_sha256(path) != sealed.result_sha256:
            raise JobDirectoryError(
                f"{sealed.result_name} is not the file that was sealed; restore it from a copy"
            )
        with pq.ParquetFile(path) as file:
            if file.schema_arrow not in schemas:
                raise ValueError("other columns")
            return file.read(columns)
    except (OSError, ValueError, pa.ArrowException) as error:
        # Arrow's message may quote values, and a value may be an object's name.
        why = error.strerror if isinstance(error, OSError) else "it holds no receipts"
        raise JobDirectoryError(
            f"{sealed.result_name} cannot be read: {why or 'damaged'}; restore it from a copy"
        ) from None


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
    if directory.write_once(name, json.dumps(asdict(upload)).encode()):
        return upload
    existing = read_upload(directory, shard, generation)
    assert existing is not None, "an upload record never disappears"
    return existing


def read_upload(directory: JobDirectory, shard: int, generation: int) -> Upload | None:
    name = upload_name(shard, generation)
    data = directory.read(name)
    return None if data is None else _upload(name, data)


def read_uploads(directory: JobDirectory) -> Iterator[Upload]:
    """The uploads of all PARTS shards, of every generation."""
    for name in directory.names("uploads"):
        data = directory.read(name) if name.endswith(".json") else None
        if data is not None:
            yield _upload(name, data)


def _upload(name: str, data: bytes) -> Upload:
    try:
        return _UPLOADS.validate_json(data, strict=True)
    except ValueError:
        raise JobDirectoryError(f"{name} is damaged; restore it from a copy of the job") from None
