"""Amazon S3 Inventory: a manifest, and CSV (gzip), Parquet or ORC files.

Formats as in https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html and
storage-inventory-location.html. Reports are eventually consistent: a recent object may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import InventoryError
from noria.manifests.inventory.columns import (
    column,
    etags,
    flags,
    inventory_batch,
    keys,
    moments,
    required,
    texts,
    whole_numbers,
)
from noria.manifests.inventory.csv import csv_rows
from noria.manifests.inventory.files import (
    MD5_BYTES,
    CheckedStream,
    DataFile,
    PlainText,
    ReportFiles,
    ReportManifest,
    check_data_files,
    open_file,
    parse_md5,
    read_manifest,
    seekable_files,
)
from noria.manifests.inventory.report import ReportSummary
from noria.manifests.inventory.rows import LazyRows, ReportRows, fold, orc_rows, parquet_rows
from noria.manifests.memory import row_threads
from noria.manifests.side_by_side import side_by_side

FIELDS = frozenset(
    fold(name)
    for name in (
        "Bucket",
        "Key",
        "VersionId",
        "IsLatest",
        "IsDeleteMarker",
        "Size",
        "LastModifiedDate",
        "ETag",
        "StorageClass",
        "EncryptionStatus",
        "ObjectLockRetainUntilDate",
        "ObjectLockLegalHoldStatus",
        "IntelligentTieringAccessTier",
    )
)
"""The fields that are read, as CSV spells them; Parquet and ORC have is_latest, e_tag and so on."""

FORMATS = ("csv", "parquet", "orc")
ARCHIVE_TIERS = ("ARCHIVE", "DEEP_ARCHIVE")
"""Access tiers of INTELLIGENT_TIERING whose objects cannot be read at once."""
CUSTOMER_KEY = "SSE-C"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Inventory:
    """A finished report: an InventoryReport."""

    files: ReportFiles
    data_files: tuple[DataFile, ...]
    file_format: str
    """One of FORMATS."""
    csv_columns: tuple[str, ...]
    """What the manifest's fileSchema says: CSV files have no header."""
    bucket: str
    prefix: str
    created: datetime
    summary: ReportSummary

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See InventoryReport. A row of another bucket is refused: a report has one bucket."""
        self.summary.restart()
        convert = partial(
            _inventory_batch, bucket=self.bucket, url_encoded=self.file_format == "csv"
        )
        with closing(side_by_side(convert, self._rows(), threads=row_threads())) as batches:
            for batch in batches:
                self.summary.count(batch)
                kept = self.summary.keep_prefix(batch, self.prefix)
                if kept.num_rows:
                    yield kept

    def _rows(self) -> Iterator[LazyRows]:
        if self.file_format != "csv":
            columnar = parquet_rows if self.file_format == "parquet" else orc_rows
            for name, stream in seekable_files(self.files, self.data_files):
                yield from columnar(stream, name, wanted=FIELDS)
            return
        for file in self.data_files:
            with open_file(self.files, file.name) as stream:
                checked = CheckedStream(stream, file)
                text = PlainText(checked, file.name)
                yield from csv_rows(text, file.name, wanted=FIELDS, names=self.csv_columns)
                checked.finish()


def open_s3_inventory(files: ReportFiles, name: str, *, bucket: str, prefix: str) -> S3Inventory:
    """Check the manifest `name` and the sizes of its files. Raises InventoryError."""
    manifest = read_manifest(files, name)
    source = manifest.get(str, "sourceBucket")
    if source != bucket:
        raise manifest.refuse(f"is a report on the bucket {source[:80]}, not on {bucket}")
    file_format = manifest.get(str, "fileFormat").lower()
    if file_format not in FORMATS:
        raise manifest.refuse(f"the format {file_format[:40]!r} is not known")
    data_files = tuple(_data_file(entry) for entry in manifest.entries("files"))
    check_data_files(files, manifest, data_files)
    schema = manifest.get(str, "fileSchema")
    return S3Inventory(
        files=files,
        data_files=data_files,
        file_format=file_format,
        csv_columns=tuple(schema.split(",")) if file_format == "csv" else (),
        bucket=bucket,
        prefix=prefix,
        created=_created(manifest),
        summary=ReportSummary(),
    )


def _data_file(entry: ReportManifest) -> DataFile:
    md5 = parse_md5(entry.get(str, "MD5checksum").encode(errors="replace"))
    if md5 is None or len(md5) != MD5_BYTES:
        raise entry.refuse(f"{entry.path}MD5checksum is not an MD5")
    return DataFile(name=entry.get(str, "key"), size=entry.get(int, "size"), md5=md5)


def _created(manifest: ReportManifest) -> datetime:
    """creationTimestamp: Unix time in milliseconds, as text, of the moment the scan began."""
    text = manifest.get(str, "creationTimestamp")
    try:
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise manifest.refuse("creationTimestamp is not a time in milliseconds") from None


def _inventory_batch(lazy: LazyRows, *, bucket: str, url_encoded: bool) -> pa.RecordBatch:
    rows = lazy()
    required(rows, "Bucket")
    other = pc.index(pc.fill_null(pc.equal(texts(rows, "Bucket"), bucket), False), False).as_py()
    if other >= 0:
        raise rows.refuse(other, f"Bucket is not {bucket}")
    not_current = _not_current(rows)
    columns = {
        "key": keys(rows, "Key", url_encoded=url_encoded),
        "size": _sizes(rows, not_current),
        "etag": etags(rows, "ETag"),
        "last_modified": moments(rows, "LastModifiedDate"),
        "version_id": texts(rows, "VersionId"),
        "tier": texts(rows, "StorageClass"),
        "archive_status": _where(texts(rows, "IntelligentTieringAccessTier"), ARCHIVE_TIERS),
        # The report does not tell the key's hash, only that there is one.
        "customer_key_sha256": _where(texts(rows, "EncryptionStatus"), (CUSTOMER_KEY,)),
        "not_current": not_current,
        "legal_hold": flags(rows, "ObjectLockLegalHoldStatus", true="on", false="off"),
        "immutable_until": moments(rows, "ObjectLockRetainUntilDate"),
    }
    return inventory_batch(columns, rows.count)


def _not_current(rows: ReportRows) -> pa.Array:
    """A report on all versions has all three fields; one on current objects has none of them."""
    if column(rows, "IsLatest") is None and column(rows, "VersionId") is not None:
        raise InventoryError(f"{rows.file}: has VersionId but no IsLatest to tell old versions")
    marker = pc.fill_null(flags(rows, "IsDeleteMarker"), False)
    version = pc.invert(pc.fill_null(flags(rows, "IsLatest"), True))
    conditions = pa.StructArray.from_arrays([marker, version], ["0", "1"])
    return pc.case_when(conditions, "delete_marker", "version")


def _sizes(rows: ReportRows, not_current: pa.Array) -> pa.Array:
    """A delete marker has no size."""
    sizes = whole_numbers(rows, "Size")
    if sizes.null_count:
        marker = pc.fill_null(pc.equal(not_current, "delete_marker"), False)
        sizes = pc.if_else(pc.and_(pc.is_null(sizes), marker), 0, sizes)
        unknown = pc.index(pc.is_null(sizes), True).as_py()
        if unknown >= 0:
            raise rows.refuse(unknown, "Size is empty")
    return sizes


def _where(values: pa.Array, wanted: tuple[str, ...]) -> pa.Array:
    """The values that are in `wanted`, null for all others."""
    return pc.if_else(pc.is_in(values, value_set=pa.array(wanted)), values, None)
