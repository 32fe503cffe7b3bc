"""Result files: what one lease has done, written down for good, and read again.

An attempt appends to its journal while it works (journals.py). When a lease is finished, the worker
compacts the journals of its units into one result file (Parquet), which a seal then names
(seals.py).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from noria.manifests.access import make_folders
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import part_batch, summarize, with_all_columns
from noria.manifests.job.seals import Seal
from noria.manifests.model import (
    LeaseKind,
    PartRecord,
    ReceiptSummary,
)
from noria.manifests.schema import (
    FIRST_PART_SCHEMA,
    PART_SCHEMA,
    RECEIPT_SCHEMA,
    RECEIPT_SCHEMAS,
)

PLACES_SCHEMA = pa.schema(
    [pa.field("shard", pa.int32(), nullable=False), pa.field("row", pa.int32(), nullable=False)]
)
"""Places of receipts that a later pass has made out of date, or that were drawn; in order."""


def write_places(directory: JobDirectory, name: str, places: Iterable[tuple[int, int]]) -> None:
    """Write a file of shards and rows, in order. Raises JobDirectoryError."""
    rows = [{"shard": shard, "row": row} for shard, row in sorted(places)]
    _write_table(directory, name, pa.Table.from_pylist(rows, schema=PLACES_SCHEMA))


def places_of_shard(directory: JobDirectory, name: str, shard: int) -> frozenset[int]:
    """The rows of a shard that such a file names; none if there is no file.

    Raises JobDirectoryError if it is damaged.
    """
    path = directory.path(name)
    if not path.exists():
        return frozenset()
    try:
        found = pq.read_table(path, schema=PLACES_SCHEMA, filters=[("shard", "=", shard)])
    except (OSError, ValueError, pa.ArrowException) as error:
        raise JobDirectoryError(f"{name} cannot be read; verify again") from error
    return frozenset(found["row"].to_pylist())


def write_receipts(
    directory: JobDirectory, name: str, receipts: pa.Table
) -> tuple[str, ReceiptSummary]:
    """Write a result file of receipts, given by row. Returns its SHA-256 and their sums."""
    return _write_table(directory, name, receipts), summarize(receipts)


def write_parts(directory: JobDirectory, name: str, parts: Iterable[PartRecord]) -> str:
    """Write a result file of part records, by number. Returns its SHA-256."""
    ordered = sorted(parts, key=lambda part: part.number)
    return _write_table(directory, name, pa.Table.from_batches([part_batch(ordered)]))


def _write_table(directory: JobDirectory, name: str, table: pa.Table) -> str:
    scratch = directory.path(name).with_name(f".{Path(name).name}.{os.getpid()}")
    try:
        make_folders(scratch.parent)
        # Names and checksums occur once, and what occurs often is nothing after compression.
        pq.write_table(table, scratch, compression="zstd", use_dictionary=False)
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


def read_result(
    directory: JobDirectory, sealed: Seal, columns: list[str] | None = None
) -> pa.Table:
    """The result that a seal names, or some columns of it.

    Raises JobDirectoryError if it is not what was sealed.
    """
    is_of_parts = sealed.kind is LeaseKind.PARTS
    schemas = (PART_SCHEMA, FIRST_PART_SCHEMA) if is_of_parts else RECEIPT_SCHEMAS
    path = directory.path(sealed.result_name)
    try:
        if _file_sha256(path) != sealed.result_sha256:
            raise JobDirectoryError(
                f"{sealed.result_name} is not the file that was sealed; restore it from a copy"
            )
        with pq.ParquetFile(path) as file:
            if file.schema_arrow not in schemas:
                raise ValueError("other columns")
            if not is_of_parts and not file.schema_arrow.equals(RECEIPT_SCHEMA):
                table = with_all_columns(file.read())
                return table if columns is None else table.select(columns)
            return file.read(columns)
    except (OSError, ValueError, pa.ArrowException) as error:
        # Arrow's message may quote values, and a value may be an object's name.
        why = error.strerror if isinstance(error, OSError) else "it holds no receipts"
        raise JobDirectoryError(
            f"{sealed.result_name} cannot be read: {why or 'damaged'}; restore it from a copy"
        ) from None
