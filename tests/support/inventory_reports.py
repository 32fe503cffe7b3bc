"""Writes inventory reports as the clouds lay them out, from rows that a test states; reads them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet
import pytest

from noria.manifests.errors import InventoryError
from noria.manifests.inventory.reading import (
    InventoryKind,
    InventoryReport,
    LocalReportFiles,
    read_inventory,
)
from noria.manifests.schema import INVENTORY_SCHEMA

AZURE_RUN = "2021/05/26/13-25-36/Rule_1"
AZURE_FILE = f"{AZURE_RUN}/Rule_1_0.csv"
AZURE_MANIFEST = f"{AZURE_RUN}/Rule_1-manifest.json"
S3_RUN = "Inventory/example-source-bucket/all-objects"
S3_BUCKET = "example-source-bucket"
S3_MANIFEST = f"{S3_RUN}/2016-11-06T21-32Z/manifest.json"

Row = Mapping[str, str]


def csv_text(
    fields: Sequence[str], rows: Iterable[Row], *, header: bool = True, end: str = "\n"
) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end)
    if header:
        writer.writerow(fields)
    writer.writerows([row.get(field, "") for field in fields] for row in rows)
    return text.getvalue().encode()


def parquet_file(columns: Mapping[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(dict(columns)), sink, **options)
    return sink.getvalue()


def orc_file(columns: Mapping[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.orc.write_table(pa.table(dict(columns)), sink, **options)
    return sink.getvalue()


def publish(root: Path, name: str, manifest: object, *, checksum: str | None = None) -> str:
    """Writes the manifest and its checksum file, and gives the manifest's name back."""
    text = json.dumps(manifest, indent=2).encode()
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    path.with_suffix(".checksum").write_text(checksum or hashlib.md5(text).hexdigest())
    return name


def write_azure_report(
    root: Path,
    *files: bytes,
    objects: int,
    total: int,
    file_format: str = "csv",
    filters: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> str:
    """A report of one rule, with the manifest that Microsoft's documentation prints."""
    listed = []
    for number, data in enumerate(files):
        name = f"{AZURE_RUN}/Rule_1_{number}.{file_format}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
        listed.append({"blob": name, "size": len(data)})
    manifest = {
        "destinationContainer": "inventory-destination-container",
        "endpoint": "https://testaccount.blob.core.windows.net",
        "files": listed,
        "inventoryCompletionTime": "2021-05-26T13:35:56Z",
        "inventoryStartTime": "2021-05-26T13:25:36Z",
        "ruleDefinition": {
            "filters": {
                "blobTypes": ["blockBlob"],
                "includeBlobVersions": False,
                "includeSnapshots": False,
                "prefixMatch": ["penner-test-container-100003"],
                **(filters or {}),
            },
            "format": file_format,
            "objectType": "blob",
            "schedule": "daily",
            "schemaFields": ["Name", "Content-Length"],
        },
        "ruleName": "Rule_1",
        "status": "Succeeded",
        "summary": {"objectCount": objects, "totalObjectSize": total},
        "version": "1.0",
        **(changes or {}),
    }
    return publish(root, AZURE_MANIFEST, manifest)


def write_azure_rows(root: Path, rows: Sequence[Row], **options: Any) -> str:
    """A CSV report of these rows whose sums fit. Fields are those that any row has."""
    fields = list(dict.fromkeys(["Name", *(field for row in rows for field in row)]))
    total = sum(int(row.get("Content-Length") or 0) for row in rows)
    return write_azure_report(
        root, csv_text(fields, rows), objects=len(rows), total=total, **options
    )


def write_s3_report(
    root: Path,
    *files: bytes,
    schema: str,
    file_format: str = "CSV",
    suffix: str = "csv.gz",
    changes: Mapping[str, Any] | None = None,
) -> str:
    """A report with the manifest that Amazon's documentation prints."""
    listed = []
    for number, data in enumerate(files):
        name = f"{S3_RUN}/data/939c6d46-85a9-4ba8-87bd-9db705a579c{number}.{suffix}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
        md5 = hashlib.md5(data).hexdigest()
        listed.append({"key": name, "size": len(data), "MD5checksum": md5})
    manifest = {
        "sourceBucket": S3_BUCKET,
        "destinationBucket": "arn:aws:s3:::example-inventory-destination-bucket",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": file_format,
        "fileSchema": schema,
        "files": listed,
        **(changes or {}),
    }
    return publish(root, S3_MANIFEST, manifest)


def s3_csv(schema: str, rows: Iterable[Row]) -> bytes:
    """As S3 writes it: every field quoted, no header, gzip."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    fields = [field.strip() for field in schema.split(",")]
    writer.writerows([row.get(field, "") for field in fields] for row in rows)
    return gzip.compress(text.getvalue().encode(), mtime=0)


def open_azure(
    root: Path, *, container: str = "c1", prefix: str = "", account: str | None = None
) -> InventoryReport:
    return read_inventory(
        InventoryKind.AZURE,
        LocalReportFiles(root),
        AZURE_MANIFEST,
        container=container,
        prefix=prefix,
        account=account,
    )


def open_s3(root: Path, *, bucket: str = S3_BUCKET, prefix: str = "") -> InventoryReport:
    files = LocalReportFiles(root)
    return read_inventory(InventoryKind.S3, files, S3_MANIFEST, container=bucket, prefix=prefix)


def rows_of(report: InventoryReport) -> list[dict[str, Any]]:
    batches = list(report.batches())
    for batch in batches:
        assert batch.schema == INVENTORY_SCHEMA
        batch.validate(full=True)
    return [row for batch in batches for row in batch.to_pylist()]


def keys_of(report: InventoryReport) -> list[str]:
    return [row["key"] for row in rows_of(report)]


def refusal(opened: Callable[..., InventoryReport], root: Path, **options: Any) -> str:
    """The message of the InventoryError that opening and reading the report ends with."""
    with pytest.raises(InventoryError) as caught:
        rows_of(opened(root, **options))
    return str(caught.value)
