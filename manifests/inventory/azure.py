"""Azure Blob Inventory: a manifest, and CSV or Parquet files with the fields that its rule chose.

Format and checks as in https://learn.microsoft.com/azure/storage/blobs/blob-inventory, sections
"Inventory run" and "Inventory files".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.count_text import count_text
from noria.manifests.inventory.columns import (
    FAR,
    column,
    crc64s,
    etags,
    flags,
    inventory_batch,
    json_objects,
    keys,
    md5s,
    moments,
    required,
    texts,
    whole_numbers,
)
from noria.manifests.inventory.csv import csv_rows
from noria.manifests.inventory.files import (
    CheckedStream,
    DataFile,
    PlainText,
    ReportFiles,
    ReportManifest,
    check_data_files,
    open_file,
    read_manifest,
    seekable_files,
)
from noria.manifests.inventory.report import ReportSummary
from noria.manifests.inventory.rows import LazyRows, ReportRows, fold, parquet_rows
from noria.manifests.memory import row_threads
from noria.manifests.schema import INVENTORY_SCHEMA
from noria.manifests.side_by_side import side_by_side

FIELDS = frozenset(
    fold(name)
    for name in (
        "Name",
        "Last-Modified",
        "ETag",
        "Content-Length",
        "Content-Type",
        "Content-Encoding",
        "Content-Language",
        "Content-CRC64",
        "Content-MD5",
        "Cache-Control",
        "Content-Disposition",
        "Cache-Disposition",
        "BlobType",
        "AccessTier",
        "CustomerProvidedKeySHA256",
        "Metadata",
        "Tags",
        "Deleted",
        "ImmutabilityPolicyUntilDate",
        "LegalHold",
        "ArchiveStatus",
        "VersionId",
        "IsCurrentVersion",
        "Snapshot",
        "hdi_isfolder",
    )
)
"""The fields that are read; the documentation prints Content-Disposition as Cache-Disposition."""

FIELDS_OF_FILTER = {
    "includeSnapshots": ("Snapshot",),
    "includeBlobVersions": ("VersionId", "IsCurrentVersion"),
    "includeDeleted": ("Deleted",),
}
"""A rule's filter that adds rows, and the fields without which they look like current blobs."""

FOLDER_IN_METADATA = r'(?i)"hdi_isfolder":"true"'
"""In canonical JSON, in which a quote inside a value would be escaped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureInventory:
    """A finished report of one rule: an InventoryReport."""

    files: ReportFiles
    manifest: ReportManifest
    data_files: tuple[DataFile, ...]
    parquet: bool
    container: str
    prefix: str
    filters: frozenset[str]
    """Filters of the rule that let in more than current blobs: keys of FIELDS_OF_FILTER."""
    created: datetime
    summary: ReportSummary

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See InventoryReport. Rows of other containers are left out, and counted."""
        self.summary.restart()
        convert = partial(_inventory_batch, filters=self.filters)
        with closing(side_by_side(convert, self._rows(), threads=row_threads())) as batches:
            for batch in batches:
                self.summary.count(batch)
                kept = self.summary.keep_prefix(self._in_container(batch), self.prefix)
                if kept.num_rows:
                    yield kept
        self._compare_sums()

    def _rows(self) -> Iterator[LazyRows]:
        if self.parquet:
            for name, stream in seekable_files(self.files, self.data_files):
                yield from parquet_rows(stream, name, wanted=FIELDS)
            return
        for file in self.data_files:
            with open_file(self.files, file.name) as stream:
                checked = CheckedStream(stream, file)
                text = PlainText(checked, file.name)
                yield from csv_rows(text, file.name, wanted=FIELDS, names=None)
                checked.finish()

    def _in_container(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of the container, with names that no longer begin with it."""
        start = f"{self.container}/"
        is_inside = pc.starts_with(batch.column("key"), start)
        inside = batch if pc.all(is_inside).as_py() else batch.filter(is_inside)
        self.summary.other_container_rows += batch.num_rows - inside.num_rows
        names = pc.binary_slice(inside.column("key").cast(pa.binary()), len(start), FAR)
        return inside.set_column(0, INVENTORY_SCHEMA.field("key"), names.cast(pa.string()))

    def _compare_sums(self) -> None:
        summary = self.summary
        if summary.rows != summary.stated_rows:
            raise self.manifest.refuse(
                f"counts {count_text(summary.stated_rows or 0, 'object')}, its files have "
                f"{count_text(summary.rows, 'row')}"
            )
        sums = {summary.bytes}
        if self.filters:
            # Whether the total counts snapshots and old versions is not documented.
            sums.add(summary.current_bytes)
        if summary.stated_bytes not in sums:
            raise self.manifest.refuse(
                f"counts {summary.stated_bytes} bytes, its files {summary.bytes}"
            )
        if summary.rows and summary.rows == summary.other_container_rows:
            raise self.manifest.refuse(
                f"no row belongs to the container {self.container}; choose the rule that lists it"
            )


def open_azure_inventory(
    files: ReportFiles, name: str, *, account: str | None, container: str, prefix: str
) -> AzureInventory:
    """Check the manifest `name` and the sizes of its files. Raises InventoryError."""
    manifest = read_manifest(files, name)
    status = manifest.get(str, "status")
    if status != "Succeeded":
        raise manifest.refuse(f"the report's status is {status[:40]!r}, not 'Succeeded'")
    if manifest.get(str, "ruleDefinition", "objectType").lower() != "blob":
        raise manifest.refuse("the rule lists containers; choose one with the object type blob")
    endpoint = manifest.get(str, "endpoint")
    if account is not None and _account_of(endpoint) != account:
        raise manifest.refuse(f"is a report on {endpoint[:80]}, not on the account {account}")
    file_format = manifest.get(str, "ruleDefinition", "format").lower()
    if file_format not in ("csv", "parquet"):
        raise manifest.refuse(f"the format {file_format[:40]!r} is not known")
    data_files = tuple(
        DataFile(name=entry.get(str, "blob"), size=entry.get(int, "size"))
        for entry in manifest.entries("files")
    )
    check_data_files(files, manifest, data_files)
    filters: dict[str, object] = manifest.get(dict, "ruleDefinition", "filters")
    return AzureInventory(
        files=files,
        manifest=manifest,
        data_files=data_files,
        parquet=file_format == "parquet",
        container=container,
        prefix=prefix,
        filters=frozenset(name for name in FIELDS_OF_FILTER if filters.get(name) is True),
        created=_moment(manifest, "inventoryStartTime"),
        summary=ReportSummary(
            stated_rows=manifest.get(int, "summary", "objectCount"),
            stated_bytes=manifest.get(int, "summary", "totalObjectSize"),
        ),
    )


def _account_of(endpoint: str) -> str:
    """`https://ACCOUNT.blob.core.windows.net` and the like."""
    try:
        return (urlsplit(endpoint).hostname or "").partition(".")[0]
    except ValueError:
        return ""


def _moment(manifest: ReportManifest, step: str) -> datetime:
    text = manifest.get(str, step)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise manifest.refuse(f"{step} is not a date and time with its zone")


def _inventory_batch(lazy: LazyRows, *, filters: frozenset[str]) -> pa.RecordBatch:
    """The rows in INVENTORY_SCHEMA; `key` still begins with the container."""
    rows = lazy()
    for name in filters:
        for needed in FIELDS_OF_FILTER[name]:
            required(rows, needed)
    metadata = json_objects(rows, "Metadata")
    is_folder = _is_folder(rows, metadata)
    columns = {
        "key": keys(rows, "Name"),
        "size": _sizes(rows, is_folder),
        "etag": etags(rows, "ETag"),
        "last_modified": moments(rows, "Last-Modified"),
        "version_id": texts(rows, "VersionId"),
        "content_type": texts(rows, "Content-Type"),
        "content_encoding": texts(rows, "Content-Encoding"),
        "content_language": texts(rows, "Content-Language"),
        "content_disposition": texts(rows, "Content-Disposition", "Cache-Disposition"),
        "cache_control": texts(rows, "Cache-Control"),
        "metadata": metadata,
        "tags": json_objects(rows, "Tags"),
        "content_md5": md5s(rows, "Content-MD5"),
        "crc64nvme": crc64s(rows, "Content-CRC64"),
        "tier": texts(rows, "AccessTier"),
        "archive_status": texts(rows, "ArchiveStatus"),
        "blob_type": texts(rows, "BlobType"),
        "customer_key_sha256": texts(rows, "CustomerProvidedKeySHA256"),
        "is_folder": is_folder,
        "not_current": _not_current(rows, filters),
        "legal_hold": flags(rows, "LegalHold"),
        "immutable_until": moments(rows, "ImmutabilityPolicyUntilDate"),
    }
    return inventory_batch(columns, rows.count)


def _is_folder(rows: ReportRows, metadata: pa.Array) -> pa.Array:
    """From the column of a hierarchical account or from metadata; null if there is neither."""
    if column(rows, "hdi_isfolder") is None and column(rows, "Metadata") is None:
        return pa.nulls(rows.count, pa.bool_())
    marked = pc.fill_null(pc.match_substring_regex(metadata, FOLDER_IN_METADATA), False)
    return pc.or_(marked, pc.fill_null(flags(rows, "hdi_isfolder"), False))


def _sizes(rows: ReportRows, is_folder: pa.Array) -> pa.Array:
    """A directory of a hierarchical account may state no size: it has no bytes."""
    sizes = whole_numbers(rows, "Content-Length")
    if sizes.null_count:
        sizes = pc.if_else(pc.and_(pc.is_null(sizes), pc.fill_null(is_folder, False)), 0, sizes)
        unknown = pc.index(pc.is_null(sizes), True).as_py()
        if unknown >= 0:
            raise rows.refuse(unknown, "Content-Length is empty")
    return sizes


def _not_current(rows: ReportRows, filters: frozenset[str]) -> pa.Array:
    """Why a row is not a current blob. One older than versioning has neither version nor flag."""
    deleted = pc.fill_null(flags(rows, "Deleted"), False)
    snapshot = _is_known(rows, "Snapshot")
    current = flags(rows, "IsCurrentVersion")
    if "includeBlobVersions" in filters:
        unversioned = pc.invert(_is_known(rows, "VersionId"))
        current = pc.coalesce(current, unversioned)
    version = pc.invert(pc.fill_null(current, True))
    conditions = pa.StructArray.from_arrays([deleted, snapshot, version], ["0", "1", "2"])
    return pc.case_when(conditions, "deleted", "snapshot", "version")


def _is_known(rows: ReportRows, name: str) -> pa.Array:
    found = column(rows, name)
    return pa.repeat(False, rows.count) if found is None else found.is_valid()
