"""How a report is read from a store: errors of the store, short reads, and memory."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from noria.manifests.errors import StoreUnavailable
from noria.manifests.inventory import files as inventory_files
from noria.manifests.inventory.reading import InventoryKind, LocalReportFiles, read_inventory
from tests.support.inventory_reports import (
    AZURE_MANIFEST,
    csv_text,
    orc_file,
    parquet_file,
    s3_csv,
    write_azure_report,
    write_s3_report,
)


class Dripping(io.BytesIO):
    """A stream that gives a few bytes at a time, as a socket may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 5) if size and size > 0 else size)


class Breaking(io.BytesIO):
    """A stream of a store that fails on the way."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 40:
            raise StoreUnavailable("connection reset")
        return super().read(size)


@dataclass(frozen=True)
class StreamedFiles:
    """A local report whose data files come through another kind of stream."""

    files: LocalReportFiles
    stream: type[io.BytesIO]

    def open(self, name: str) -> BinaryIO:
        opened = self.files.open(name)
        if name.endswith((".json", ".checksum")):
            return opened
        with opened:
            return self.stream(opened.read())

    def size(self, name: str) -> int:
        return self.files.size(name)


ROWS = [{"Bucket": "example-source-bucket", "Key": f"k{n}", "Size": "1"} for n in range(100)]
COLUMNS = {
    "bucket": ["example-source-bucket"] * 100,
    "key": [row["Key"] for row in ROWS],
    "size": [1] * 100,
}


def keys_through(root: Path, stream: type[io.BytesIO], name: str) -> list[str]:
    files = StreamedFiles(LocalReportFiles(root), stream)
    report = read_inventory(InventoryKind.S3, files, name, container="example-source-bucket")
    return [key for batch in report.batches() for key in batch.column("key").to_pylist()]


def write(root: Path, file_format: str) -> str:
    schema = "Bucket, Key, Size"
    if file_format == "CSV":
        return write_s3_report(root, s3_csv(schema, ROWS), schema=schema)
    data = parquet_file(COLUMNS) if file_format == "Parquet" else orc_file(COLUMNS)
    suffix = file_format.lower()
    return write_s3_report(root, data, schema="", file_format=file_format, suffix=suffix)


@pytest.mark.parametrize("file_format", ["CSV", "Parquet", "ORC"])
def test_errors_of_the_store_pass_through(tmp_path: Path, file_format: str) -> None:
    name = write(tmp_path, file_format)
    with pytest.raises(StoreUnavailable, match="connection reset"):
        keys_through(tmp_path, Breaking, name)


def test_short_reads_are_put_together(tmp_path: Path) -> None:
    name = write(tmp_path, "CSV")
    assert keys_through(tmp_path, Dripping, name) == COLUMNS["key"]


def test_errors_of_the_store_pass_through_parquet_after_its_footer(tmp_path: Path) -> None:
    data = parquet_file({"Name": ["c1/a"] * 1000, "Content-Length": range(1000)})
    total = sum(range(1000))
    write_azure_report(tmp_path, data, objects=1000, total=total, file_format="parquet")

    class BreaksAtItsStart(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() < 100:
                raise StoreUnavailable("connection reset")
            return super().read(size)

    files = StreamedFiles(LocalReportFiles(tmp_path), BreaksAtItsStart)
    report = read_inventory(InventoryKind.AZURE, files, AZURE_MANIFEST, container="c1")
    with pytest.raises(StoreUnavailable, match="connection reset"):
        list(report.batches())


class Counting(io.BytesIO):
    """A stream that notes how many bytes of all such streams were read."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        Counting.read_bytes += len(data)
        return data


@pytest.mark.parametrize("file_format", ["Parquet", "ORC"])
def test_a_columnar_file_is_read_once_if_it_can_be_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    name = write(tmp_path, file_format)
    (data_file,) = tmp_path.glob(f"**/*.{file_format.lower()}")
    size = data_file.stat().st_size
    Counting.read_bytes = 0
    assert keys_through(tmp_path, Counting, name) == COLUMNS["key"]
    assert Counting.read_bytes == size
    # Of a larger one the sum takes a pass of its own.
    monkeypatch.setattr(inventory_files, "WHOLE_BYTES", size - 1)
    Counting.read_bytes = 0
    assert keys_through(tmp_path, Counting, name) == COLUMNS["key"]
    assert Counting.read_bytes > size


def test_rows_of_many_files_keep_the_order_of_the_report(tmp_path: Path) -> None:
    schema = "Bucket, Key, Size"
    files = [s3_csv(schema, ROWS[at : at + 7]) for at in range(0, len(ROWS), 7)]
    name = write_s3_report(tmp_path, *files, schema=schema)
    assert keys_through(tmp_path, io.BytesIO, name) == COLUMNS["key"]


PEAK = """
import sys
from itertools import islice
from pathlib import Path
from noria.manifests.inventory import csv as inventory_text
from noria.manifests.inventory.reading import InventoryKind, LocalReportFiles, read_inventory

def peak_kib():
    # Unlike ru_maxrss, this does not begin with what the parent process had.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

inventory_text.BLOCK_BYTES = 1024 * 1024
files = LocalReportFiles(Path(sys.argv[1]))
report = read_inventory(InventoryKind.AZURE, files, sys.argv[2], container="c1")
batches = report.batches()
# By then every thread has had its blocks, and the C library its arenas.
for batch in islice(batches, 30):
    pass
before = peak_kib()
rest = sum(1 for batch in batches)
assert rest > 60, rest
print(peak_kib() - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    fields = ["Name", "Content-Length", "Metadata"]
    long = "x" * 900
    rows = [
        {"Name": f"c1/{n}/{long}", "Content-Length": "1", "Metadata": '{"a": "b"}'}
        for n in range(1000)
    ]
    times = 110
    body = csv_text(fields, rows, header=False) * times
    write_azure_report(
        tmp_path, csv_text(fields, []) + body, objects=1000 * times, total=1000 * times
    )
    assert len(body) > 96 * 1024 * 1024
    grown = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path), AZURE_MANIFEST],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    # Less than half of what is read in the meantime.
    assert int(grown.stdout) < 32 * 1024, grown.stdout
