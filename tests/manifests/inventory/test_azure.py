from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.manifests.inventory import csv as inventory_text
from noria.manifests.schema import INVENTORY_SCHEMA
from tests.support.inventory_reports import (
    AZURE_FILE,
    csv_text,
    keys_of,
    open_azure,
    parquet_file,
    refusal,
    rows_of,
    write_azure_report,
    write_azure_rows,
)

CRC64 = 0xAE8B14860A799888
MD5 = bytes(range(16))
FULL_ROW = {
    "Name": "c1/studies/a.dcm",
    "Creation-Time": "2020-01-01T00:00:00Z",
    "Last-Modified": "2021-05-26T13:25:36Z",
    "ETag": "0x8D9F2155CBF7928",
    "Content-Length": "1048576",
    "Content-Type": "application/dicom",
    "Content-Encoding": "gzip",
    "Content-Language": "fr",
    "Content-CRC64": base64.b64encode(CRC64.to_bytes(8, "little")).decode(),
    "Content-MD5": base64.b64encode(MD5).decode(),
    "Cache-Control": "no-cache",
    "Cache-Disposition": "inline",
    "BlobType": "BlockBlob",
    "AccessTier": "Archive",
    "ArchiveStatus": "rehydrate-pending-to-hot",
    "CustomerProvidedKeySHA256": "c2hh",
    "Metadata": '{"owner": "p1", "Étage": "2, \\"nord\\""}',
    "Tags": '{"b":"2","a":"1"}',
    "VersionId": "2021-05-26T13:25:36.1234567Z",
    "IsCurrentVersion": "true",
    "ImmutabilityPolicyUntilDate": "2031-05-26T13:25:36.5000000Z",
    "LegalHold": "True",
}
FULL_RESULT = {
    "key": "studies/a.dcm",
    "size": 1048576,
    "etag": "0x8D9F2155CBF7928",
    "last_modified": datetime(2021, 5, 26, 13, 25, 36, tzinfo=UTC),
    "version_id": "2021-05-26T13:25:36.1234567Z",
    "content_type": "application/dicom",
    "content_encoding": "gzip",
    "content_language": "fr",
    "content_disposition": "inline",
    "cache_control": "no-cache",
    "metadata": '{"owner":"p1","Étage":"2, \\"nord\\""}',
    "tags": '{"a":"1","b":"2"}',
    "content_md5": MD5,
    "crc64nvme": CRC64,
    "tier": "Archive",
    "archive_status": "rehydrate-pending-to-hot",
    "blob_type": "BlockBlob",
    "customer_key_sha256": "c2hh",
    "is_folder": False,
    "not_current": None,
    "legal_hold": True,
    "immutable_until": datetime(2031, 5, 26, 13, 25, 36, 500_000, tzinfo=UTC),
}


def test_every_field_of_a_csv_report(tmp_path: Path) -> None:
    write_azure_rows(tmp_path, [FULL_ROW])
    assert rows_of(open_azure(tmp_path)) == [FULL_RESULT]


def test_every_field_of_a_parquet_report(tmp_path: Path) -> None:
    columns: dict[str, Any] = {name: [value] for name, value in FULL_ROW.items()}
    moment = pa.timestamp("ms", tz="UTC")
    for name, field in (
        ("Last-Modified", "last_modified"),
        ("ImmutabilityPolicyUntilDate", "immutable_until"),
    ):
        columns[name] = pa.array([FULL_RESULT[field]], moment)
    columns["Content-Length"] = pa.array([1048576], pa.int64())
    columns["LegalHold"] = [True]
    columns["IsCurrentVersion"] = [True]
    data = parquet_file(columns)
    write_azure_report(tmp_path, data, objects=1, total=1048576, file_format="parquet")
    assert rows_of(open_azure(tmp_path)) == [FULL_RESULT]


def test_dates_of_parquet_without_a_logical_type_are_milliseconds(tmp_path: Path) -> None:
    data = parquet_file({"Name": ["c1/a"], "Content-Length": [1], "Last-Modified": [1500]})
    write_azure_report(tmp_path, data, objects=1, total=1, file_format="parquet")
    [row] = rows_of(open_azure(tmp_path))
    assert row["last_modified"] == datetime.fromtimestamp(1.5, UTC)


def test_fields_that_the_rule_left_out_are_null(tmp_path: Path) -> None:
    write_azure_rows(tmp_path, [{"Name": "c1/a", "Content-Length": "7"}])
    [row] = rows_of(open_azure(tmp_path))
    assert row == dict.fromkeys(INVENTORY_SCHEMA.names) | {"key": "a", "size": 7}


def test_the_report_has_the_date_of_its_start_and_the_sums_of_its_manifest(tmp_path: Path) -> None:
    write_azure_rows(tmp_path, [{"Name": "c1/a", "Content-Length": "7"}])
    report = open_azure(tmp_path)
    assert report.created == datetime(2021, 5, 26, 13, 25, 36, tzinfo=UTC)
    assert (report.summary.stated_rows, report.summary.stated_bytes) == (1, 7)


def test_rows_of_other_containers_and_prefixes_are_left_out_and_counted(tmp_path: Path) -> None:
    names = ["c1/in/a", "c10/in/b", "c1/out/c", "c1", "other/in/d", "c1/in/e"]
    write_azure_rows(tmp_path, [{"Name": name, "Content-Length": "2"} for name in names])
    report = open_azure(tmp_path, prefix="in/")
    for _ in range(2):
        assert keys_of(report) == ["in/a", "in/e"]
        summary = report.summary
        assert (summary.rows, summary.bytes, summary.kept_rows) == (6, 12, 2)
        assert (summary.other_container_rows, summary.other_prefix_rows) == (3, 1)


def test_rows_keep_the_order_of_files_and_duplicates(tmp_path: Path) -> None:
    fields = ["Name", "Content-Length"]
    files = [
        csv_text(fields, [{"Name": f"c1/{key}", "Content-Length": "1"} for key in part])
        for part in ("bab", "", "za")
    ]
    write_azure_report(tmp_path, *files, objects=5, total=5)
    assert keys_of(open_azure(tmp_path)) == ["b", "a", "b", "z", "a"]


AWKWARD = [
    "a,b",
    'say "hi"',
    '"',
    '""',
    "two\nlines",
    "crlf\r\ninside",
    "tab\t and space ",
    "100%25+plus",
    "日本/é/e\u0301/🏥.dcm",
    "trailing/",
    "//double",
    "back\\slash",
    " ",
    "NULL",
    "#",
    "\ufeffmark",
    "'",
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_awkward_names_arrive_unchanged(tmp_path: Path, end: str) -> None:
    rows = [{"Name": f"c1/{name}", "Content-Length": "1"} for name in AWKWARD]
    data = csv_text(["Name", "Content-Length"], rows, end=end)
    write_azure_report(tmp_path, data, objects=len(rows), total=len(rows))
    assert keys_of(open_azure(tmp_path)) == AWKWARD


names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(wanted=st.lists(st.one_of(names, st.text('",\n\r', min_size=1)), min_size=1))
def test_any_name_arrives_unchanged(tmp_path: Path, wanted: list[str]) -> None:
    rows = [{"Name": f"c1/{name}", "Content-Length": "0"} for name in wanted]
    data = csv_text(["Content-Length", "Name"], rows, end="\r\n")
    write_azure_report(tmp_path, data, objects=len(rows), total=0)
    assert keys_of(open_azure(tmp_path)) == wanted


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    wanted=st.lists(st.text('ab",\n', min_size=1, max_size=9), min_size=1, max_size=12),
    block_bytes=st.integers(24, 80),
    bad=st.integers(0, 11),
)
def test_blocks_of_any_size_give_the_same_rows_and_lines(
    tmp_path: Path, wanted: list[str], block_bytes: int, bad: int
) -> None:
    rows = [{"Name": f"c1/{name}", "Content-Length": "0"} for name in wanted]
    fields = ["Name", "Content-Length"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inventory_text, "BLOCK_BYTES", block_bytes)
        data = csv_text(fields, rows)
        write_azure_report(tmp_path, data, objects=len(rows), total=0)
        assert keys_of(open_azure(tmp_path)) == wanted
        bad %= len(rows)
        rows[bad]["Content-Length"] = "x"
        write_azure_report(tmp_path, csv_text(fields, rows), objects=len(rows), total=0)
        line = 1 + csv_text(fields, rows[:bad]).count(b"\n")
        assert refusal(open_azure, tmp_path).startswith(
            f"{AZURE_FILE}, line {line}: Content-Length is not a whole"
        )


class TestKindsOfRows:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, None),
            ({"IsCurrentVersion": "true", "VersionId": "v2"}, None),
            ({"IsCurrentVersion": "false", "VersionId": "v1"}, "version"),
            ({"IsCurrentVersion": "", "VersionId": "v1"}, "version"),
            ({"Snapshot": "2021-05-26T13:25:36.1234567Z"}, "snapshot"),
            ({"Deleted": "true", "Snapshot": "2021-05-26T13:25:36Z"}, "deleted"),
            ({"Deleted": "false"}, None),
        ],
    )
    def test_not_current(
        self, tmp_path: Path, fields: dict[str, str], expected: str | None
    ) -> None:
        row = dict.fromkeys(["IsCurrentVersion", "VersionId", "Snapshot", "Deleted"], "")
        row |= {"Name": "c1/a", "Content-Length": "3"} | fields
        every = {"includeSnapshots": True, "includeBlobVersions": True, "includeDeleted": True}
        write_azure_rows(tmp_path, [row], filters=every)
        assert [row["not_current"] for row in rows_of(open_azure(tmp_path))] == [expected]

    def test_a_version_id_alone_is_no_old_version_in_a_report_on_current_blobs(
        self, tmp_path: Path
    ) -> None:
        write_azure_rows(tmp_path, [{"Name": "c1/a", "Content-Length": "3", "VersionId": "v1"}])
        assert [row["not_current"] for row in rows_of(open_azure(tmp_path))] == [None]

    @pytest.mark.parametrize(
        ("filter_name", "field"),
        [
            ("includeSnapshots", "Snapshot"),
            ("includeBlobVersions", "VersionId"),
            ("includeDeleted", "Deleted"),
        ],
    )
    def test_a_filter_without_the_field_that_tells_its_rows_apart_is_refused(
        self, tmp_path: Path, filter_name: str, field: str
    ) -> None:
        row = {"Name": "c1/a", "Content-Length": "3"}
        write_azure_rows(tmp_path, [row], filters={filter_name: True})
        assert refusal(open_azure, tmp_path).startswith(f"{AZURE_FILE}: has no column {field}")

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"Metadata": '{"hdi_isfolder":"true"}'}, True),
            ({"Metadata": '{"Hdi_IsFolder": "True", "a": "b"}'}, True),
            ({"Metadata": '{"hdi_isfolder":"false"}'}, False),
            ({"Metadata": r'{"note":"\"hdi_isfolder\":\"true\""}'}, False),
            ({"Metadata": ""}, False),
            ({"hdi_isfolder": "true"}, True),
            ({"hdi_isfolder": "false", "Metadata": ""}, False),
            ({"hdi_isfolder": "", "Metadata": '{"hdi_isfolder":"true"}'}, True),
        ],
    )
    def test_is_folder(self, tmp_path: Path, fields: dict[str, str], expected: bool) -> None:
        write_azure_rows(tmp_path, [{"Name": "c1/a", "Content-Length": "0"} | fields])
        assert [row["is_folder"] for row in rows_of(open_azure(tmp_path))] == [expected]

    def test_only_a_folder_may_state_no_size(self, tmp_path: Path) -> None:
        folder = {"Name": "c1/d", "Content-Length": "", "hdi_isfolder": "true"}
        blob = {"Name": "c1/a", "Content-Length": "", "hdi_isfolder": "false"}
        write_azure_rows(tmp_path, [folder])
        assert [row["size"] for row in rows_of(open_azure(tmp_path))] == [0]
        write_azure_rows(tmp_path, [folder, blob])
        assert refusal(open_azure, tmp_path) == f"{AZURE_FILE}, line 3: Content-Length is empty"
