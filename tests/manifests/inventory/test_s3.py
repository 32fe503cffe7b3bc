from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.manifests.errors import InventoryError
from noria.manifests.inventory import csv as inventory_text
from noria.manifests.inventory import rows as inventory_rows
from noria.manifests.schema import INVENTORY_SCHEMA
from tests.support.inventory_reports import (
    S3_BUCKET,
    S3_MANIFEST,
    S3_RUN,
    open_s3,
    orc_file,
    parquet_file,
    refusal,
    rows_of,
    s3_csv,
    write_s3_report,
)

FILE = f"{S3_RUN}/data/939c6d46-85a9-4ba8-87bd-9db705a579c0.csv.gz"

# The three fileSchema values that Amazon's documentation prints (storage-inventory-location).
CSV_SCHEMA = (
    "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass, "
    "IsMultipartUploaded, ReplicationStatus, EncryptionStatus, ObjectLockRetainUntilDate, "
    "ObjectLockMode, ObjectLockLegalHoldStatus, IntelligentTieringAccessTier, BucketKeyStatus, "
    "ChecksumAlgorithm"
)
PARQUET_SCHEMA = "message s3.inventory { required binary bucket (UTF8); ... }"
ORC_SCHEMA = "struct<bucket:string,key:string,version_id:string,is_latest:boolean,...>"
MOMENT = datetime(2016, 11, 6, 21, 32, 0, 123_000, tzinfo=UTC)

ROWS: list[dict[str, str]] = [
    {
        "Bucket": S3_BUCKET,
        "Key": "photos/2016/a+b%2Bc%3D1.jpg",
        "VersionId": "3sL4kqtJl40Nr8X8gdRQBpUMLUo",
        "IsLatest": "true",
        "IsDeleteMarker": "false",
        "Size": "42",
        "LastModifiedDate": "2016-11-06T21:32:00.123Z",
        "ETag": "f11166069f1990abeb9c97ace9cdfabc-3",
        "StorageClass": "INTELLIGENT_TIERING",
        "IsMultipartUploaded": "true",
        "EncryptionStatus": "SSE-C",
        "ObjectLockRetainUntilDate": "2016-11-06T21:32:00.123Z",
        "ObjectLockMode": "GOVERNANCE",
        "ObjectLockLegalHoldStatus": "On",
        "IntelligentTieringAccessTier": "DEEP_ARCHIVE",
    },
    {
        "Bucket": S3_BUCKET,
        "Key": "photos/%C3%A9t%C3%A9%0A%2C%22.jpg",
        "VersionId": "",
        "IsLatest": "false",
        "IsDeleteMarker": "false",
        "Size": "8",
        "LastModifiedDate": "2016-11-06T21:32:00.123Z",
        "ETag": "f11166069f1990abeb9c97ace9cdfabc",
        "StorageClass": "STANDARD",
        "EncryptionStatus": "SSE-S3",
        "ObjectLockLegalHoldStatus": "Off",
        "IntelligentTieringAccessTier": "FREQUENT",
    },
    {
        "Bucket": S3_BUCKET,
        "Key": "gone",
        "VersionId": "v9",
        "IsLatest": "true",
        "IsDeleteMarker": "true",
        "Size": "",
        "LastModifiedDate": "2016-11-06T21:32:00.123Z",
    },
]
RESULTS: list[dict[str, Any]] = [
    {
        "key": "photos/2016/a b+c=1.jpg",
        "size": 42,
        "etag": "f11166069f1990abeb9c97ace9cdfabc-3",
        "last_modified": MOMENT,
        "version_id": "3sL4kqtJl40Nr8X8gdRQBpUMLUo",
        "tier": "INTELLIGENT_TIERING",
        "archive_status": "DEEP_ARCHIVE",
        "customer_key_sha256": "SSE-C",
        "legal_hold": True,
        "immutable_until": MOMENT,
    },
    {
        "key": 'photos/été\n,".jpg',
        "size": 8,
        "etag": "f11166069f1990abeb9c97ace9cdfabc",
        "last_modified": MOMENT,
        "tier": "STANDARD",
        "not_current": "version",
        "legal_hold": False,
    },
    {
        "key": "gone",
        "size": 0,
        "last_modified": MOMENT,
        "version_id": "v9",
        "not_current": "delete_marker",
    },
]
EXPECTED = [dict.fromkeys(INVENTORY_SCHEMA.names) | row for row in RESULTS]


def typed_columns(moment: pa.DataType) -> dict[str, pa.Array]:
    """ROWS as Parquet and ORC have them: names in snake case, typed, keys as they are."""

    def column(field: str) -> list[str | None]:
        return [row.get(field) or None for row in ROWS]

    def flags(field: str) -> list[bool | None]:
        return [None if text is None else text == "true" for text in column(field)]

    retained = [MOMENT, None, None]
    return {
        "bucket": pa.array(column("Bucket")),
        "key": pa.array([row["key"] for row in RESULTS]),
        "version_id": pa.array(column("VersionId")),
        "is_latest": pa.array(flags("IsLatest")),
        "is_delete_marker": pa.array(flags("IsDeleteMarker")),
        "size": pa.array([42, 8, None], pa.int64()),
        "last_modified_date": pa.array([MOMENT] * 3, moment),
        "e_tag": pa.array(column("ETag")),
        "storage_class": pa.array(column("StorageClass")),
        "is_multipart_uploaded": pa.array(flags("IsMultipartUploaded")),
        "encryption_status": pa.array(column("EncryptionStatus")),
        "object_lock_retain_until_date": pa.array(retained, moment),
        "object_lock_legal_hold_status": pa.array(column("ObjectLockLegalHoldStatus")),
        "intelligent_tiering_access_tier": pa.array(column("IntelligentTieringAccessTier")),
    }


def test_every_field_of_a_csv_report(tmp_path: Path) -> None:
    write_s3_report(tmp_path, s3_csv(CSV_SCHEMA, ROWS), schema=CSV_SCHEMA)
    report = open_s3(tmp_path)
    assert rows_of(report) == EXPECTED
    assert report.created == datetime(2018, 1, 3, 2, 0, tzinfo=UTC)
    assert (report.summary.rows, report.summary.bytes, report.summary.current_bytes) == (3, 50, 42)
    assert report.summary.stated_rows is None


def test_every_field_of_a_parquet_report(tmp_path: Path) -> None:
    data = parquet_file(typed_columns(pa.timestamp("ms", tz="UTC")))
    write_s3_report(tmp_path, data, schema=PARQUET_SCHEMA, file_format="Parquet", suffix="parquet")
    assert rows_of(open_s3(tmp_path)) == EXPECTED


def test_every_field_of_an_orc_report(tmp_path: Path) -> None:
    data = orc_file(typed_columns(pa.timestamp("ns")))
    write_s3_report(tmp_path, data, schema=ORC_SCHEMA, file_format="ORC", suffix="orc")
    assert rows_of(open_s3(tmp_path)) == EXPECTED


def test_a_report_on_current_objects_has_no_version_fields(tmp_path: Path) -> None:
    schema = "Bucket, Key, Size"
    rows = [{"Bucket": S3_BUCKET, "Key": key, "Size": "1"} for key in ("in/a", "out/b", "in/c")]
    write_s3_report(tmp_path, s3_csv(schema, rows), schema=schema)
    report = open_s3(tmp_path, prefix="in/")
    assert [(row["key"], row["not_current"]) for row in rows_of(report)] == [
        ("in/a", None),
        ("in/c", None),
    ]
    assert report.summary.other_prefix_rows == 1


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    keys=st.lists(
        st.text(
            st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
            min_size=1,
            max_size=12,
        ),
        min_size=1,
    ),
    plus=st.booleans(),
    lower=st.booleans(),
)
def test_any_key_survives_url_encoding(
    tmp_path: Path, keys: list[str], plus: bool, lower: bool
) -> None:
    schema = "Bucket, Key, Size"
    encode = quote_plus if plus else quote
    encoded = [encode(key, safe="/") for key in keys]
    if lower:
        encoded = [quote(key, safe="").replace("%2F", "%2f").replace("%C3", "%c3") for key in keys]
    rows = [{"Bucket": S3_BUCKET, "Key": key, "Size": "1"} for key in encoded]
    write_s3_report(tmp_path, s3_csv(schema, rows), schema=schema)
    assert [row["key"] for row in rows_of(open_s3(tmp_path))] == keys


class TestRefusals:
    SCHEMA = "Bucket, Key, Size"

    def write(self, root: Path, *lines: str) -> None:
        data = gzip.compress("".join(lines).encode(), mtime=0)
        write_s3_report(root, data, schema=self.SCHEMA)

    @pytest.mark.parametrize(
        ("bad", "what"),
        [
            (f'"{S3_BUCKET}","x%2","1"\n', "Key is not URL-encoded UTF-8"),
            (f'"{S3_BUCKET}","x%zz","1"\n', "Key is not URL-encoded UTF-8"),
            (f'"{S3_BUCKET}","x%","1"\n', "Key is not URL-encoded UTF-8"),
            (f'"{S3_BUCKET}","x%E9","1"\n', "Key is not URL-encoded UTF-8"),
            (f'"{S3_BUCKET}","x%00y","1"\n', "Key holds a NUL"),
            (f'"{S3_BUCKET}","","1"\n', "Key is empty"),
            (f'"{S3_BUCKET}","x",""\n', "Size is empty"),
            (f'"{S3_BUCKET}","x","many"\n', "Size is not a whole number"),
            (f'"{S3_BUCKET}","x"\n', "has 2 columns, not 3"),
            ('"other-bucket","x","1"\n', f"Bucket is not {S3_BUCKET}"),
            ('"","x","1"\n', f"Bucket is not {S3_BUCKET}"),
        ],
    )
    def test_a_bad_row_is_refused_with_its_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str, what: str
    ) -> None:
        good = f'"{S3_BUCKET}","a","1"\n'
        for block_bytes in (8_000_000, 128):
            monkeypatch.setattr(inventory_text, "BLOCK_BYTES", block_bytes)
            self.write(tmp_path, *[good] * 20, bad, good)
            assert refusal(open_s3, tmp_path).startswith(f"{FILE}, line 21: {what}")

    def test_a_file_with_another_md5_is_refused(self, tmp_path: Path) -> None:
        self.write(tmp_path, f'"{S3_BUCKET}","a","1"\n')
        report = open_s3(tmp_path)
        stored = tmp_path / FILE
        other = gzip.compress(f'"{S3_BUCKET}","b","1"\n'.encode(), mtime=0)
        assert len(other) == stored.stat().st_size
        stored.write_bytes(other)
        with pytest.raises(InventoryError, match=f"{FILE}: does not have the MD5"):
            list(report.batches())

    @pytest.mark.parametrize(("file_format", "suffix"), [("Parquet", "parquet"), ("ORC", "orc")])
    def test_a_columnar_file_with_another_md5_gives_no_row(
        self, tmp_path: Path, file_format: str, suffix: str
    ) -> None:
        writer = parquet_file if suffix == "parquet" else orc_file
        data, other = (writer({"bucket": [S3_BUCKET], "key": [key], "size": [1]}) for key in "ab")
        assert len(data) == len(other)
        write_s3_report(tmp_path, data, schema="", file_format=file_format, suffix=suffix)
        name = FILE.replace("csv.gz", suffix)
        assert [row["key"] for row in rows_of(open_s3(tmp_path))] == ["a"]
        (tmp_path / name).write_bytes(other)
        with pytest.raises(InventoryError, match=f"{name}: does not have the MD5"):
            next(open_s3(tmp_path).batches())

    @pytest.mark.parametrize(("file_format", "suffix"), [("Parquet", "parquet"), ("ORC", "orc")])
    def test_bad_values_of_columnar_files_are_refused_with_their_row(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str, suffix: str
    ) -> None:
        monkeypatch.setattr(inventory_rows, "BATCH_ROWS", 16)
        writer = parquet_file if suffix == "parquet" else orc_file
        keys = [f"k{n}" for n in range(50)]
        sizes = [1] * 40 + [-1] * 10
        data = writer({"bucket": [S3_BUCKET] * 50, "key": keys, "size": sizes})
        write_s3_report(tmp_path, data, schema="", file_format=file_format, suffix=suffix)
        assert ", row 41: Size is not a whole number" in refusal(open_s3, tmp_path)

    @pytest.mark.parametrize(("file_format", "suffix"), [("Parquet", "parquet"), ("ORC", "orc")])
    def test_a_file_that_is_no_such_format_is_refused(
        self, tmp_path: Path, file_format: str, suffix: str
    ) -> None:
        junk = b"not columnar at all" * 10
        write_s3_report(tmp_path, junk, schema="", file_format=file_format, suffix=suffix)
        assert refusal(open_s3, tmp_path).endswith(
            f".{suffix}, row 1 or after: is damaged or cut short"
        )

    def test_a_name_in_orc_that_is_not_utf8_is_refused_with_its_row(self, tmp_path: Path) -> None:
        keys = pa.array([b"a", b"\xff"]).view(pa.string())
        data = orc_file({"bucket": [S3_BUCKET] * 2, "key": keys, "size": [1, 1]})
        write_s3_report(tmp_path, data, schema="", file_format="ORC", suffix="orc")
        assert refusal(open_s3, tmp_path).endswith("row 2: Key is not UTF-8")

    def test_gzip_that_is_cut_or_damaged_is_refused(self, tmp_path: Path) -> None:
        data = s3_csv(CSV_SCHEMA, ROWS * 50)
        for broken in (data[:-4], data[:-9], data[:40] + b"\xff" * 9 + data[49:], data + b"junk"):
            write_s3_report(tmp_path, broken, schema=CSV_SCHEMA)
            assert refusal(open_s3, tmp_path) == f"{FILE}: the gzip data is damaged or cut short"

    def test_csv_that_is_not_packed_and_gzip_in_two_members_are_read(self, tmp_path: Path) -> None:
        plain, packed = f'"{S3_BUCKET}","a","1"\n'.encode(), f'"{S3_BUCKET}","b","1"\n'.encode()
        both = gzip.compress(packed) + gzip.compress(packed)
        write_s3_report(tmp_path, plain, both, schema=self.SCHEMA)
        assert [row["key"] for row in rows_of(open_s3(tmp_path))] == ["a", "b", "b"]

    def test_versions_without_the_field_that_tells_them_apart_are_refused(
        self, tmp_path: Path
    ) -> None:
        schema = "Bucket, Key, VersionId, Size"
        row = {"Bucket": S3_BUCKET, "Key": "a", "VersionId": "v", "Size": "1"}
        write_s3_report(tmp_path, s3_csv(schema, [row]), schema=schema)
        assert (
            refusal(open_s3, tmp_path)
            == f"{FILE}: has VersionId but no IsLatest to tell old versions"
        )

    @pytest.mark.parametrize("field", ["Bucket", "Key", "Size"])
    def test_a_field_that_is_needed_and_left_out_is_refused(
        self, tmp_path: Path, field: str
    ) -> None:
        schema = ", ".join(each for each in ("Bucket", "Key", "Size", "ETag") if each != field)
        row = {"Bucket": S3_BUCKET, "Key": "a", "Size": "1", "ETag": "e"}
        write_s3_report(tmp_path, s3_csv(schema, [row]), schema=schema)
        assert refusal(open_s3, tmp_path).startswith(f"{FILE}: has no column {field}; add it")


class TestS3Manifest:
    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"sourceBucket": "other"}, "is a report on the bucket other, not on example-source"),
            ({"fileFormat": "XML"}, "the format 'xml' is not known"),
            ({"creationTimestamp": "soon"}, "creationTimestamp is not a time"),
            ({"creationTimestamp": "9" * 40}, "creationTimestamp is not a time"),
            ({"creationTimestamp": 1}, "creationTimestamp is missing or of the wrong type"),
            ({"fileSchema": None}, "fileSchema is missing or of the wrong type"),
            (
                {"files": [{"key": "k", "size": 1, "MD5checksum": "abc"}]},
                "files[0].MD5checksum is not an MD5",
            ),
            (
                {"files": [{"key": "k", "size": 1}]},
                "files[0].MD5checksum is missing or of the wrong type",
            ),
        ],
    )
    def test_a_manifest_that_says_less_or_other_things_is_refused(
        self, tmp_path: Path, changes: dict[str, Any], what: str
    ) -> None:
        write_s3_report(tmp_path, s3_csv(CSV_SCHEMA, ROWS), schema=CSV_SCHEMA, changes=changes)
        assert refusal(open_s3, tmp_path).startswith(f"{S3_MANIFEST}: {what}")

    def test_a_report_without_its_checksum_file_is_not_finished(self, tmp_path: Path) -> None:
        write_s3_report(tmp_path, s3_csv(CSV_SCHEMA, ROWS), schema=CSV_SCHEMA)
        (tmp_path / S3_MANIFEST).with_name("manifest.checksum").unlink()
        assert "manifest.checksum: is missing: the report is not finished" in refusal(
            open_s3, tmp_path
        )
