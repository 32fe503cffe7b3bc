"""Inventory reports of any bytes: whole rows, or one line with the file and no object's name."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noria.engine import job as jobs
from noria.manifests.errors import InventoryError
from noria.manifests.inventory.reading import InventoryKind, LocalReportFiles, read_inventory
from noria.manifests.inventory.report import InventoryReport
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.freeze import freeze
from noria.manifests.schema import INVENTORY_SCHEMA
from tests.support.finished_jobs import config_of, write_source
from tests.support.fuzzing import (
    ODD_DOCUMENTS,
    ODD_VALUES,
    SECRET,
    changed,
    damaged,
    examples,
    refused,
)
from tests.support.inventory_reports import (
    AZURE_MANIFEST,
    S3_BUCKET,
    S3_MANIFEST,
    S3_RUN,
    csv_text,
    open_azure,
    open_s3,
    orc_file,
    parquet_file,
    s3_csv,
    write_azure_report,
    write_s3_report,
)
from tests.support.rows import plan

AZURE_ROWS = [
    {
        "Name": f"c1/{SECRET}/{number}",
        "Content-Length": str(number),
        "Last-Modified": "2021-05-26T13:25:36Z",
        "Etag": "0x8D",
        "Content-MD5": "AAECAwQFBgcICQoLDA0ODw==",
        "Content-CRC64": "AAECAwQFBgc=",
        "Metadata": '{"a":"b"}',
        "hdi_isfolder": "false",
    }
    for number in range(5)
]
AZURE_CSV = csv_text(list(AZURE_ROWS[0]), AZURE_ROWS)
S3_SCHEMA = "Bucket, Key, Size, LastModifiedDate, ETag"
S3_ROWS = [
    {
        "Bucket": S3_BUCKET,
        "Key": f"{SECRET}%2F{number}",
        "Size": str(number),
        "LastModifiedDate": "2021-05-26T13:25:36.000Z",
        "ETag": "e",
    }
    for number in range(5)
]
COLUMNS = {
    "bucket": [S3_BUCKET] * 30,
    "key": [f"{SECRET}/{number}" for number in range(30)],
    "size": pa.array(range(30), pa.int64()),
    "last_modified_date": pa.array([10**12] * 30, pa.timestamp("ms")),
    "e_tag": ["e"] * 30,
    "is_latest": [True] * 30,
}


def read(report: Callable[[], Any]) -> Callable[[], int]:
    """Opens a report and reads it to its end; how many rows it has."""

    def rows() -> int:
        count = 0
        for batch in report().batches():
            assert batch.schema == INVENTORY_SCHEMA
            batch.validate(full=True)
            count += len(batch)
        return count

    return rows


def is_refused(report: Callable[[], Any]) -> bool:
    error = refused(read(report))
    assert isinstance(error, InventoryError | None)
    return error is not None


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("report")
    yield folder
    shutil.rmtree(folder)


def republish(root: Path, name: str, text: bytes) -> None:
    """Another manifest, with the checksum that fits it."""
    (root / name).write_bytes(text)
    checksum = hashlib.md5(text, usedforsecurity=False).hexdigest()
    (root / name).with_suffix(".checksum").write_text(checksum)


# -- manifests -------------------------------------------------------------------------------------


@examples(120)
@given(st.sampled_from(["azure", "s3"]), st.data())
def test_manifests_of_any_content(root: Path, cloud: str, data: st.DataObject) -> None:
    opened: Callable[[Path], InventoryReport]
    if cloud == "azure":
        name, opened = AZURE_MANIFEST, open_azure
        write_azure_report(root, AZURE_CSV, objects=5, total=10)
    else:
        name, opened = S3_MANIFEST, open_s3
        write_s3_report(root, s3_csv(S3_SCHEMA, S3_ROWS), schema=S3_SCHEMA)
    values = json.loads((root / name).read_bytes())
    text = data.draw(
        (changed(values) | ODD_VALUES).map(lambda each: json.dumps(each).encode()) | ODD_DOCUMENTS
    )
    republish(root, name, text)
    is_refused(lambda: opened(root))


@pytest.mark.parametrize(
    "change",
    [
        {"inventoryStartTime": "0001-01-01T00:00:00+14:00"},
        {"endpoint": "https://[::1"},
        {"files": [{"blob": "a\0b", "size": 1}]},
        {"files": [{"blob": "x" * 5000, "size": 1}]},
        {"files": [{"blob": "\ud800", "size": 1}]},
        {"files": [{"blob": "../../../etc/passwd", "size": 1}]},
        {"files": [{"blob": ".", "size": 4096}]},
        {"files": [5]},
        {"summary": {"objectCount": 5, "totalObjectSize": 10**40}},
    ],
    ids=ascii,
)
def test_azure_manifests_that_say_something_else(root: Path, change: dict[str, Any]) -> None:
    write_azure_report(root, AZURE_CSV, objects=5, total=10, changes=change)
    assert is_refused(lambda: open_azure(root, account="testaccount"))


@pytest.mark.parametrize(
    "change",
    [
        {"creationTimestamp": "9" * 400},
        {"creationTimestamp": "9" * 5000},
        {"files": [{"key": "x", "size": 1, "MD5checksum": "\ud800"}]},
        {"files": [{"key": "a\0b", "size": 1, "MD5checksum": "0" * 32}]},
        {"fileSchema": ""},
        {"fileSchema": "Key, Key, Bucket, Size"},
        {"fileSchema": "," * 5000},
    ],
    ids=lambda change: ascii(change)[:60],
)
def test_s3_manifests_that_say_something_else(root: Path, change: dict[str, Any]) -> None:
    write_s3_report(root, s3_csv(S3_SCHEMA, S3_ROWS), schema=S3_SCHEMA, changes=change)
    assert is_refused(lambda: open_s3(root))


def test_a_number_of_too_many_digits_in_a_manifest(root: Path) -> None:
    write_azure_report(root, AZURE_CSV, objects=5, total=10)
    republish(root, AZURE_MANIFEST, b'{"a": ' + b"9" * 5000 + b"}")
    assert is_refused(lambda: open_azure(root))


# -- CSV and key lists -----------------------------------------------------------------------------


@examples(120)
@given(st.data())
def test_azure_csv_that_is_damaged(root: Path, data: st.DataObject) -> None:
    text = data.draw(damaged(AZURE_CSV))
    write_azure_report(root, text, objects=5, total=10)
    is_refused(lambda: open_azure(root))


CELLS = (
    st.sampled_from(
        [b"", b'"', b'""', b'"a', b"a,b", b"\n", b"\r", b"\0", b"\xff", b"%", b"%0", b"%00", b"+"]
    )
    | st.sampled_from(
        [
            b"9" * 19,
            b"-1",
            b"1e5",
            b"0x1",
            b"{}",
            b"[" * 3000,
            b"x" * 200_000,
            b"0001-01-01T00:00:00Z",
        ]
    )
    | st.binary(max_size=6)
)


@examples(120)
@given(st.lists(st.lists(CELLS, max_size=6), max_size=5), st.booleans())
@example([[b""] * 5], False)
@example([[b"x" * 140_000] * 5], False)
def test_csv_of_any_cells(root: Path, rows: list[list[bytes]], packed: bool) -> None:
    text = b"\n".join(b",".join(row) for row in rows)
    header = ",".join(AZURE_ROWS[0]).encode() + b"\n"
    write_azure_report(root, header + text, objects=len(rows), total=0)
    is_refused(lambda: open_azure(root))
    data = gzip.compress(text, mtime=0) if packed else text
    write_s3_report(root, data, schema=S3_SCHEMA)
    is_refused(lambda: open_s3(root))


@examples(150)
@given(st.data())
def test_gzip_that_is_damaged(root: Path, data: st.DataObject) -> None:
    hurt = data.draw(damaged(s3_csv(S3_SCHEMA, S3_ROWS)))
    write_s3_report(root, hurt, schema=S3_SCHEMA)
    is_refused(lambda: open_s3(root))


@examples(150)
@given(st.binary(max_size=60) | damaged(gzip.compress(b"a\nb\r\nc", mtime=0)))
@example(b"\x1f\x8b")
@example(b"\x1f")
@example(b"\xef\xbb\xbf")
def test_key_lists_of_any_bytes(root: Path, data: bytes) -> None:
    (root / "keys").write_bytes(data)
    files = LocalReportFiles(root)
    is_refused(lambda: read_inventory(InventoryKind.KEYS, files, "keys", container="c"))


# -- Parquet and ORC -------------------------------------------------------------------------------


def write_columnar(root: Path, data: bytes, file_format: str) -> None:
    write_s3_report(root, data, schema="", file_format=file_format, suffix=file_format.lower())


@examples(150)
@given(st.data())
def test_parquet_that_was_written_damaged(root: Path, data: st.DataObject) -> None:
    """Its MD5 fits: it was damaged before the report was."""
    write_columnar(root, data.draw(damaged(parquet_file(COLUMNS))), "Parquet")
    is_refused(lambda: open_s3(root))


@examples(60)
@given(st.data())
def test_orc_that_was_written_short(root: Path, data: st.DataObject) -> None:
    # No other damage: its reader is not proof against that. What was damaged later, MD5 tells.
    whole = orc_file(COLUMNS)
    write_columnar(root, whole[: data.draw(st.integers(0, len(whole) - 1))], "ORC")
    assert is_refused(lambda: open_s3(root))


@examples(60)
@given(st.sampled_from(["Parquet", "ORC"]), st.data())
def test_columns_that_were_damaged_later_are_told_by_their_md5(
    root: Path, file_format: str, data: st.DataObject
) -> None:
    whole = (parquet_file if file_format == "Parquet" else orc_file)(COLUMNS)
    write_columnar(root, whole, file_format)
    path = next((root / S3_RUN / "data").glob(f"*.{file_format.lower()}"))
    hurt = data.draw(damaged(whole))
    path.write_bytes(hurt)
    assert is_refused(lambda: open_s3(root)) == (hurt != whole)


ARRAYS = {
    "text": pa.array([S3_BUCKET, "b"]),
    "bytes": pa.array([b"\xff", b"\0"]),
    "large": pa.array([S3_BUCKET, None], pa.large_string()),
    "view": pa.array(["a", "b"], pa.string_view()),
    "dictionary": pa.array([S3_BUCKET, S3_BUCKET]).dictionary_encode(),
    "numbers": pa.array([2**63 - 1, 0], pa.int64()),
    "unsigned": pa.array([2**64 - 1, 0], pa.uint64()),
    "negative": pa.array([-1, None], pa.int32()),
    "floats": pa.array([1.5, float("nan")]),
    "decimal": pa.array([1, 2], pa.decimal128(30, 3)),
    "flags": pa.array([True, None]),
    "nothing": pa.nulls(2),
    "dates": pa.array([2**62, -(2**62)], pa.timestamp("ms")),
    "seconds": pa.array([2**50, 0], pa.timestamp("s")),
    "days": pa.array([2**31 - 1, 0], pa.date32()),
    "lists": pa.array([["a"], None]),
    "structs": pa.array([{"a": 1}, None]),
}
FIELDS = ["bucket", "key", "size", "last_modified_date", "e_tag", "is_latest", "is_delete_marker"]
FIELDS += ["version_id", "storage_class", "object_lock_legal_hold_status", "encryption_status"]


@examples(120)
@given(st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(sorted(ARRAYS)), min_size=1))
@example({"bucket": "numbers", "key": "text", "size": "numbers"})
@example({"bucket": "dictionary", "key": "text", "size": "numbers", "last_modified_date": "dates"})
def test_columns_of_any_type(root: Path, kinds: dict[str, str]) -> None:
    good = {"bucket": "dictionary", "key": "text", "size": "numbers"}
    columns = {name: ARRAYS[kind] for name, kind in {**good, **kinds}.items()}
    write_columnar(root, parquet_file(columns), "Parquet")
    is_refused(lambda: open_s3(root))
    if "bucket" in kinds:
        write_columnar(root, parquet_file({name: ARRAYS[kinds[name]] for name in kinds}), "Parquet")
        is_refused(lambda: open_s3(root))


@examples(40)
@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4), st.data())
def test_sizes_of_any_amount_become_a_manifest_or_none(
    root: Path, sizes: list[int], data: st.DataObject
) -> None:
    columns = {
        "bucket": [S3_BUCKET] * len(sizes),
        "key": [f"k{number}" for number in range(len(sizes))],
        "size": pa.array(sizes, pa.int64()),
    }
    write_columnar(root, parquet_file(columns), "Parquet")
    provider = data.draw(st.sampled_from(["aws", "azure", "local"]))
    shutil.rmtree(root / "manifest", ignore_errors=True)
    options = plan(provider, segment_bytes=1 << 50, shard_bytes=1 << 60)
    error = refused(lambda: freeze(open_s3(root).batches(), root / "manifest", options=options))
    if error is None:
        facts = json.loads((root / "manifest/manifest.json").read_bytes())
        assert facts["bytes"] == sum(sizes)
    else:
        assert sum(sizes) >= 1 << 61
        assert not (root / "manifest").exists()


# -- a whole plan ----------------------------------------------------------------------------------


@examples(10)
@given(st.binary(max_size=30) | st.just(b"a\ndir/secret-name\nmissing\n"))
@example(b"\x1f\x8bno gzip")
@example(b"a\n\0\n")
@example(b"..\n/\n../../etc/passwd\n")
def test_a_plan_from_a_key_list_of_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    write_source(folder)
    (folder / "keys").write_bytes(data)
    inventory = {"kind": "keys", "url": f"file://{folder / 'keys'}"}
    error = refused(lambda: jobs.plan(config_of(folder, inventory=inventory), folder / "job"))
    assert isinstance(error, InventoryError | None)
    assert (folder / "job/manifest").exists() == (error is None)
    if error is not None:
        # The list may be corrected, and the same job planned again.
        assert not JobDirectory.exists(folder / "job")
        (folder / "keys").write_bytes(b"a\n")
        assert jobs.plan(config_of(folder, inventory=inventory), folder / "job").manifest.objects
    shutil.rmtree(folder)
