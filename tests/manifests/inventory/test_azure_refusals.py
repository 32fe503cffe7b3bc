from __future__ import annotations

import base64
import hashlib
import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from noria.manifests.errors import InventoryError
from noria.manifests.inventory import csv as inventory_text
from noria.manifests.inventory import rows as inventory_rows
from noria.manifests.inventory.reading import InventoryKind, LocalReportFiles, read_inventory
from tests.support.inventory_reports import (
    AZURE_FILE,
    AZURE_MANIFEST,
    AZURE_RUN,
    csv_text,
    keys_of,
    open_azure,
    parquet_file,
    publish,
    refusal,
    rows_of,
    write_azure_report,
    write_azure_rows,
)


class TestBadRows:
    HEADER = "Name,Content-Length,Last-Modified,Content-MD5,Content-CRC64,Metadata,Deleted\n"
    GOOD = 'c1/good,1,2021-05-26T13:25:36Z,,,"{""a"":""b""}",false\n'
    TWO_LINES = '"c1/two\nlines",1,,,,,\n'

    @pytest.mark.parametrize(
        ("bad", "what"),
        [
            ("c1/x,1,,,,\n", "has 6 columns, not 7"),
            ("c1/x,1,,,,,,\n", "has 8 columns, not 7"),
            ("c1/x\n", "has 1 columns, not 7"),
            (" \n", "has 1 columns, not 7"),
            ("c1/x,1.5,,,,,\n", "Content-Length is not a whole number"),
            ("c1/x,0x1F,,,,,\n", "Content-Length is not a whole number"),
            ("c1/x,-1,,,,,\n", "Content-Length is not a whole number"),
            ("c1/x, 1,,,,,\n", "Content-Length is not a whole number"),
            ("c1/x,9223372036854775808,,,,,\n", "Content-Length is not a whole number"),
            ("c1/x,,,,,,\n", "Content-Length is empty"),
            (",1,,,,,\n", "Name is empty"),
            ("c1/x,1,yesterday,,,,\n", "Last-Modified is not a date"),
            ("c1/x,1,2021-02-30T00:00:00Z,,,,\n", "Last-Modified is not a date"),
            ("c1/x,1,2021-05-26T13:25:36,,,,\n", "Last-Modified is not a date"),
            ("c1/x,1,,AAECAwQFBgcICQoLDA0OD!==,,,\n", "Content-MD5 is not an MD5"),
            ("c1/x,1,,AAECAwQFBgcICQoLDA0ODx==,,,\n", "Content-MD5 is not an MD5"),
            ("c1/x,1,,AAECAwQFBgc=,,,\n", "Content-MD5 is not an MD5"),
            ("c1/x,1,,,AAECAwQFBgcICQoLDA0ODw==,,\n", "Content-CRC64 is not a CRC64"),
            ("c1/x,1,,,zzzzzzzzzz==,,\n", "Content-CRC64 is not a CRC64"),
            ("c1/x,1,,,,{},maybe\n", "Deleted is neither true nor false"),
            ("c1/x,1,,,,a=b,\n", "Metadata is not a JSON object"),
            ("c1/x,1,,,,[],\n", "Metadata is not a JSON object"),
            ('c1/x,1,,,,"{""a"":1}",\n', "Metadata is not a JSON object"),
            ('c1/x,1,,,,"{},1",\n', "Metadata is not a JSON object"),
            ('c1/x,1,,,,"{""a"":""\\ud800""}",\n', "Metadata is not a JSON object"),
            (f"c1/x,1,,,,{'[' * 5000},\n", "Metadata is not a JSON object"),
            ('c1/x"y,1,,,,,\n', "a quote inside of a field"),
            ('"c1/x"y,1,,,,,\n', "a quote inside of a field"),
            ('c1/x"",1,,,,,\n', "a quote inside of a field"),
            ("c1/x\ry,1,,,,,\n", "is not CSV"),
            ("c1/\0,1,,,,,\n", "holds a NUL"),
        ],
    )
    def test_a_bad_row_is_refused_with_its_line(self, tmp_path: Path, bad: str, what: str) -> None:
        lines = [self.HEADER, self.GOOD, self.TWO_LINES, "\n", self.GOOD, bad, self.GOOD]
        write_azure_report(tmp_path, "".join(lines).encode(), objects=5, total=5)
        assert refusal(open_azure, tmp_path).startswith(f"{AZURE_FILE}, line 7: {what}")

    def test_a_name_that_is_not_utf8_is_refused_with_its_line(self, tmp_path: Path) -> None:
        text = (self.HEADER + self.GOOD).encode() + b"c1/\xe9t\xe9,1,,,,,\n"
        write_azure_report(tmp_path, text, objects=2, total=2)
        assert refusal(open_azure, tmp_path) == f"{AZURE_FILE}, line 3: column name is not UTF-8"

    def test_the_first_of_several_bad_rows_is_named(self, tmp_path: Path) -> None:
        rows = [{"Name": f"c1/{n}", "Content-Length": "x" if n > 40 else "1"} for n in range(99)]
        data = csv_text(["Name", "Content-Length"], rows)
        write_azure_report(tmp_path, data, objects=99, total=99)
        assert f"{AZURE_FILE}, line 43:" in refusal(open_azure, tmp_path)

    def test_messages_keep_names_out(self, tmp_path: Path) -> None:
        for bad in ("c1/secret,x\n", "c1/secret,1,c1/secret\n", "c1/secret\n", ",c1/secret\n"):
            text = f"Name,Content-Length\n{bad}"
            write_azure_report(tmp_path, text.encode(), objects=1, total=1)
            with pytest.raises(InventoryError) as caught:
                rows_of(open_azure(tmp_path))
            assert "secret" not in "".join(traceback.format_exception(caught.value))

    def test_a_quoted_field_without_end_is_refused_where_it_begins(self, tmp_path: Path) -> None:
        text = b'Name,Content-Length\nc1/a,1\n"c1/b,1\nc1/c,1\n'
        write_azure_report(tmp_path, text, objects=3, total=3)
        assert refusal(open_azure, tmp_path) == f"{AZURE_FILE}, line 3: a quoted field has no end"

    def test_a_record_longer_than_two_blocks_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inventory_text, "BLOCK_BYTES", 32)
        text = b"Name,Content-Length\nc1/a,1\nc1/" + b"x" * 80 + b",1\n"
        write_azure_report(tmp_path, text, objects=2, total=2)
        assert refusal(open_azure, tmp_path).startswith(
            f"{AZURE_FILE}, line 3: the record has no end within 32"
        )

    def test_a_bad_row_in_the_second_file_names_that_file(self, tmp_path: Path) -> None:
        good, bad = b"Name,Content-Length\nc1/a,1\n", b"Name,Content-Length\nc1/b,x\n"
        write_azure_report(tmp_path, good, bad, objects=2, total=2)
        assert refusal(open_azure, tmp_path).startswith(
            f"{AZURE_RUN}/Rule_1_1.csv, line 2: Content-Length"
        )


class TestBadParquet:
    FILE = f"{AZURE_RUN}/Rule_1_0.parquet"

    def write(self, root: Path, data: bytes, rows: int) -> None:
        write_azure_report(root, data, objects=rows, total=rows, file_format="parquet")

    def test_a_bad_value_is_refused_with_its_row(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inventory_rows, "BATCH_ROWS", 16)
        sizes = [1] * 100
        sizes[70] = -1
        names = [f"c1/{n}" for n in range(100)]
        data = parquet_file({"Name": names, "Content-Length": sizes}, row_group_size=30)
        self.write(tmp_path, data, 100)
        what = "Content-Length is not a whole number of 0 or more"
        assert refusal(open_azure, tmp_path) == f"{self.FILE}, row 71: {what}"

    def test_a_name_that_is_not_utf8_is_refused_with_its_row(self, tmp_path: Path) -> None:
        broken = pa.array([b"c1/a", b"c1/\xe9"]).view(pa.string())
        self.write(tmp_path, parquet_file({"Name": broken, "Content-Length": [1, 1]}), 2)
        assert refusal(open_azure, tmp_path) == f"{self.FILE}, row 2: Name is not UTF-8"

    def test_a_nul_in_a_name_is_refused_with_its_row(self, tmp_path: Path) -> None:
        data = parquet_file({"Name": ["c1/a", "c1/\0"], "Content-Length": [1, 1]})
        self.write(tmp_path, data, 2)
        assert refusal(open_azure, tmp_path) == f"{self.FILE}, row 2: Name holds a NUL"

    def test_a_column_of_a_strange_type_is_refused(self, tmp_path: Path) -> None:
        data = parquet_file({"Name": ["c1/a"], "Content-Length": [1.0]})
        self.write(tmp_path, data, 1)
        assert (
            refusal(open_azure, tmp_path)
            == f"{self.FILE}: column Content-Length has the type double"
        )

    def test_a_damaged_file_is_refused(self, tmp_path: Path) -> None:
        names = [f"c1/{n:09}" for n in range(5000)]
        data = parquet_file({"Name": names, "Content-Length": [1] * 5000}, use_dictionary=False)
        self.write(tmp_path, data[:-20], 5000)
        assert (
            refusal(open_azure, tmp_path) == f"{self.FILE}, row 1 or after: is damaged or cut short"
        )
        hole = data[:200] + b"\xff" * 400 + data[600:]
        self.write(tmp_path, hole, 5000)
        assert (
            refusal(open_azure, tmp_path) == f"{self.FILE}, row 1 or after: is damaged or cut short"
        )


class TestHeaders:
    def test_names_are_known_in_other_spellings_and_behind_a_byte_order_mark(
        self, tmp_path: Path
    ) -> None:
        text = '\ufeff"name",ContentLength,Etag\nc1/a,1,"""0x8D"""\n'
        write_azure_report(tmp_path, text.encode(), objects=1, total=1)
        [row] = rows_of(open_azure(tmp_path))
        assert (row["key"], row["size"], row["etag"]) == ("a", 1, "0x8D")

    @pytest.mark.parametrize("etag", ['W/"0x8D"', '"0x8D"', "0x8D"])
    def test_etags_lose_their_quotes(self, tmp_path: Path, etag: str) -> None:
        write_azure_rows(tmp_path, [{"Name": "c1/a", "Content-Length": "1", "ETag": etag}])
        assert [row["etag"] for row in rows_of(open_azure(tmp_path))] == ["0x8D"]

    @pytest.mark.parametrize("field", ["Content-Disposition", "Cache-Disposition"])
    def test_both_names_of_the_disposition(self, tmp_path: Path, field: str) -> None:
        write_azure_rows(tmp_path, [{"Name": "c1/a", "Content-Length": "1", field: "inline"}])
        assert [row["content_disposition"] for row in rows_of(open_azure(tmp_path))] == ["inline"]

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("", ", line 1: the file has no header"),
            ("Name\nc1/a\n", ": has no column Content-Length; add it"),
            ("Content-Length\n1\n", ": has no column Name; add it"),
            ("Name,Content-Length,content_length\nc1/a,1,1\n", ": has the column contentlength"),
            ('Name,"Content-Length\nc1/a,1\n"\n', ", line 1: the header cannot be read"),
        ],
    )
    def test_a_header_that_cannot_be_used_is_refused(
        self, tmp_path: Path, text: str, what: str
    ) -> None:
        write_azure_report(tmp_path, text.encode(), objects=1, total=1)
        assert refusal(open_azure, tmp_path).startswith(f"{AZURE_FILE}{what}")


class TestAzureManifest:
    ROW = b"Name,Content-Length\nc1/a,7\n"

    def test_a_missing_manifest_is_refused(self, tmp_path: Path) -> None:
        assert refusal(open_azure, tmp_path) == f"{AZURE_MANIFEST}: the report has no such manifest"

    def test_a_report_without_its_checksum_file_is_not_finished(self, tmp_path: Path) -> None:
        write_azure_report(tmp_path, self.ROW, objects=1, total=7)
        checksum = (tmp_path / AZURE_MANIFEST).with_suffix(".checksum")
        checksum.unlink()
        what = "Rule_1-manifest.checksum: is missing: the report is not finished"
        assert what in refusal(open_azure, tmp_path)

    def test_a_manifest_with_another_md5_is_refused(self, tmp_path: Path) -> None:
        write_azure_report(tmp_path, self.ROW, objects=1, total=7)
        path = tmp_path / AZURE_MANIFEST
        path.write_bytes(path.read_bytes() + b" ")
        assert refusal(open_azure, tmp_path).startswith(f"{AZURE_MANIFEST}: does not have the MD5")

    def test_the_checksum_may_be_base64(self, tmp_path: Path) -> None:
        write_azure_report(tmp_path, self.ROW, objects=1, total=7)
        checksum = (tmp_path / AZURE_MANIFEST).with_suffix(".checksum")
        checksum.write_bytes(base64.b64encode(bytes.fromhex(checksum.read_text())) + b"\n")
        assert keys_of(open_azure(tmp_path)) == ["a"]

    @pytest.mark.parametrize("status", ["Pending", "Failed", "PartiallySucceeded", "succeeded"])
    def test_only_a_report_that_succeeded_is_read(self, tmp_path: Path, status: str) -> None:
        write_azure_report(tmp_path, self.ROW, objects=1, total=7, changes={"status": status})
        assert refusal(open_azure, tmp_path) == (
            f"{AZURE_MANIFEST}: the report's status is '{status}', not 'Succeeded'"
        )

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"files": None}, "files is missing or of the wrong type"),
            ({"files": ["x"]}, "files[0].blob is missing or of the wrong type"),
            ({"files": [{"blob": "x", "size": "1"}]}, "files[0].size is missing or of the wrong"),
            ({"summary": {}}, "summary.objectCount is missing or of the wrong type"),
            ({"summary": {"objectCount": True}}, "summary.objectCount is missing or of the"),
            ({"inventoryStartTime": "2021-05-26"}, "inventoryStartTime is not a date and time"),
            ({"inventoryStartTime": "soon"}, "inventoryStartTime is not a date and time"),
            ({"ruleDefinition": {"objectType": "container"}}, "the rule lists containers"),
            (
                {"ruleDefinition": {"objectType": "blob", "format": "avro"}},
                "the format 'avro' is not known",
            ),
        ],
    )
    def test_a_manifest_that_says_less_or_other_things_is_refused(
        self, tmp_path: Path, changes: dict[str, Any], what: str
    ) -> None:
        write_azure_report(tmp_path, self.ROW, objects=1, total=7, changes=changes)
        assert refusal(open_azure, tmp_path).startswith(f"{AZURE_MANIFEST}: {what}")

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            (b'{\n"a":\n}', ", line 3: is not JSON"),
            (b"[]", ", line 1: is not a JSON object"),
            (b"[" * 100_000, ", line 1: is not JSON"),
        ],
    )
    def test_a_manifest_that_is_no_json_object_is_refused(
        self, tmp_path: Path, text: bytes, what: str
    ) -> None:
        publish(tmp_path, AZURE_MANIFEST, {}, checksum=hashlib.md5(text).hexdigest())
        (tmp_path / AZURE_MANIFEST).write_bytes(text)
        assert refusal(open_azure, tmp_path) == f"{AZURE_MANIFEST}{what}"

    def test_a_report_on_another_account_is_refused(self, tmp_path: Path) -> None:
        write_azure_report(tmp_path, self.ROW, objects=1, total=7)
        assert keys_of(open_azure(tmp_path, account="testaccount")) == ["a"]
        assert "not on the account other" in refusal(open_azure, tmp_path, account="other")

    def test_a_data_file_that_is_missing_or_of_another_size_is_refused(
        self, tmp_path: Path
    ) -> None:
        write_azure_report(tmp_path, self.ROW, objects=1, total=7)
        (tmp_path / AZURE_FILE).write_bytes(self.ROW[:-1])
        assert (
            refusal(open_azure, tmp_path)
            == f"{AZURE_FILE}: has 26 bytes, {AZURE_MANIFEST} states 27"
        )
        (tmp_path / AZURE_FILE).unlink()
        assert (
            refusal(open_azure, tmp_path) == f"{AZURE_FILE}: is missing, {AZURE_MANIFEST} lists it"
        )

    def test_a_file_that_is_cut_after_it_was_opened_is_refused(self, tmp_path: Path) -> None:
        write_azure_report(tmp_path, self.ROW, objects=0, total=0)
        report = open_azure(tmp_path)
        (tmp_path / AZURE_FILE).write_bytes(b"Name,Content-Length\n")
        with pytest.raises(InventoryError, match="read 20 bytes, not 27"):
            list(report.batches())

    def test_a_file_that_is_listed_twice_is_refused(self, tmp_path: Path) -> None:
        entry = {"blob": AZURE_FILE, "size": len(self.ROW)}
        changes = {"files": [entry, entry]}
        write_azure_report(tmp_path, self.ROW, objects=2, total=14, changes=changes)
        assert refusal(open_azure, tmp_path) == f"{AZURE_MANIFEST}: lists {AZURE_FILE} twice"

    def test_a_manifest_cannot_name_files_outside_of_the_report(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside.csv"
        outside.write_bytes(self.ROW)
        root = tmp_path / "report"
        for name in ("../outside.csv", str(outside)):
            changes = {"files": [{"blob": name, "size": len(self.ROW)}]}
            write_azure_report(root, objects=1, total=7, changes=changes)
            assert refusal(open_azure, root) == f"{name}: is outside the report's directory"

    @pytest.mark.parametrize(
        ("objects", "total", "what"),
        [
            (2, 7, "counts 2 objects, its files have 1 row"),
            (0, 7, "counts 0 objects, its files have 1 row"),
            (1, 8, "counts 8 bytes, its files 7"),
        ],
    )
    def test_sums_that_do_not_fit_are_refused_at_the_end(
        self, tmp_path: Path, objects: int, total: int, what: str
    ) -> None:
        write_azure_report(tmp_path, self.ROW, objects=objects, total=total)
        assert refusal(open_azure, tmp_path) == f"{AZURE_MANIFEST}: {what}"

    def test_the_stated_bytes_may_leave_out_snapshots(self, tmp_path: Path) -> None:
        text = b"Name,Content-Length,Snapshot\nc1/a,7,\nc1/a,5,2021-05-26T13:25:36Z\n"
        every = {"includeSnapshots": True}
        for total in (7, 12):
            write_azure_report(tmp_path, text, objects=2, total=total, filters=every)
            assert keys_of(open_azure(tmp_path)) == ["a", "a"]
        write_azure_report(tmp_path, text, objects=2, total=5, filters=every)
        assert "counts 5 bytes, its files 12" in refusal(open_azure, tmp_path)

    def test_a_report_without_a_row_of_the_container_is_refused(self, tmp_path: Path) -> None:
        write_azure_report(tmp_path, self.ROW, objects=1, total=7)
        assert "no row belongs to the container c2" in refusal(open_azure, tmp_path, container="c2")

    def test_an_empty_report_is_empty(self, tmp_path: Path) -> None:
        write_azure_report(tmp_path, objects=0, total=0)
        assert keys_of(open_azure(tmp_path)) == []

    def test_the_name_must_be_that_of_a_manifest(self, tmp_path: Path) -> None:
        with pytest.raises(InventoryError, match="name the report's manifest"):
            read_inventory(
                InventoryKind.AZURE, LocalReportFiles(tmp_path), AZURE_FILE, container="c1"
            )
