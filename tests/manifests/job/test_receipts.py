"""Seals name one result, sums add up, damage is seen."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.manifests.errors import JobDirectoryError, all_causes
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import (
    failed_for,
    failures_of,
    parts_of,
    receipt_batch,
    receipts_of,
    summarize,
)
from noria.manifests.job.results import read_result, write_parts, write_receipts
from noria.manifests.job.seals import read_seals, seal
from noria.manifests.model import (
    LeaseEnd,
    LeaseKind,
    LeaseResult,
    Level,
    Outcome,
    PartRecord,
    Receipt,
    ReceiptSummary,
)

LANDED = Receipt(
    row=3,
    key="ä/b\n.txt",
    target_key="ä/b\n.txt",
    outcome=Outcome.TRANSFERRED,
    size=7,
    level=Level.INGESTED,
    level_reason="the source states no CRC64",
    crc64nvme=2**64 - 1,
    chunk_bytes=8,
    chunks=b"\x00" * 16,
    root=b"\xff" * 32,
    bytes_moved=7,
    attempt=5,
    finished_ms=1,
)


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def table(receipts: list[Receipt]) -> pa.Table:
    return pa.Table.from_batches([receipt_batch(receipts)])


def finished(name: str, digest: str, summary: ReceiptSummary, **changes: Any) -> LeaseResult:
    values = {
        "shard": 0,
        "kind": LeaseKind.OBJECTS,
        "first": 3,
        "end": 4,
        "attempt": 5,
        "generation": 0,
        "how": LeaseEnd.FINISHED,
        "result_name": name,
        "result_sha256": digest,
        "summary": summary,
    }
    return LeaseResult(**{**values, **changes})


def test_a_seal_is_read_as_it_was_written(directory: JobDirectory) -> None:
    digest, summary = write_receipts(directory, "results/00000000/a.parquet", table([LANDED]))
    result = finished("results/00000000/a.parquet", digest, summary)
    sealed = seal(directory, result)
    assert seal(directory, result) == sealed, "it may be repeated"
    assert list(read_seals(directory)) == [sealed]
    assert list(receipts_of(read_result(directory, sealed))) == [LANDED]
    assert sealed.summary == ReceiptSummary(
        outcomes={Outcome.TRANSFERRED: 1},
        outcome_bytes={Outcome.TRANSFERRED: 7},
        levels={Level.INGESTED: 1},
        bytes_moved=7,
    )


def test_a_result_that_is_not_what_was_sealed_is_refused(directory: JobDirectory) -> None:
    name = "results/00000000/a.parquet"
    digest, summary = write_receipts(directory, name, table([LANDED]))
    sealed = seal(directory, finished(name, digest, summary))
    write_receipts(directory, name, table([replace(LANDED, size=8)]))
    with pytest.raises(JobDirectoryError, match="not the file that was sealed"):
        read_result(directory, sealed)


def test_parts_come_back_also_from_a_file_of_an_earlier_version(directory: JobDirectory) -> None:
    part = PartRecord(number=1, size=8, etag="e", crc64nvme=9, chunks=b"c" * 16, stated=True)
    for number, earlier in enumerate((False, True)):
        name = f"results/00000000/{number}.parquet"
        digest = write_parts(directory, name, [part])
        if earlier:
            known = pq.read_table(directory.path(name)).drop_columns(["stated"])
            pq.write_table(known, directory.path(name))
            digest = hashlib.sha256(directory.path(name).read_bytes()).hexdigest()
        lease = {"kind": LeaseKind.PARTS, "first": number, "end": number + 1}
        sealed = seal(directory, finished(name, digest, ReceiptSummary(), **lease))
        (found,) = parts_of(read_result(directory, sealed))
        assert found == replace(part, stated=not earlier)


def test_failures_are_what_a_person_has_to_look_at(directory: JobDirectory) -> None:
    receipts = [
        LANDED,
        replace(LANDED, row=4, outcome=Outcome.ALREADY_PRESENT),
        replace(LANDED, row=5, outcome=Outcome.SKIPPED, cause="folder_stub"),
        replace(LANDED, row=6, outcome=Outcome.SKIPPED, cause="archived"),
        replace(LANDED, row=7, outcome=Outcome.FAILED, cause="target_conflict"),
        replace(LANDED, row=8, outcome=Outcome.SOURCE_CHANGED, cause="source_changed"),
        replace(LANDED, row=9, outcome=Outcome.DELETED, level=None),
        replace(LANDED, row=10, outcome=Outcome.SKIPPED, cause="target_kept"),
    ]
    name = "results/00000000/a.parquet"
    digest, summary = write_receipts(directory, name, table(receipts))
    sealed = seal(directory, finished(name, digest, summary, end=11))
    found = read_result(directory, sealed)
    assert failures_of(found)["row"].to_pylist() == [6, 7, 8]
    assert found.filter(failed_for(found, all_causes()))["row"].to_pylist() == [7, 8]


SEAL_OF_EARLIER_VERSION = """\
{"attempt": 2000000005, "end": 10, "first": 0, "generation": 0, "kind": "objects", \
"result_name": "results/00000001/objects-00000000-000000002000000005.parquet", \
"result_sha256": "7dba83cf6927618ac833100087853a26b6862185b1dd18953891a321a8fe12a8", \
"shard": 1, "summary": {"bytes.SKIPPED": 3, "bytes.TRANSFERRED": 9474048, "bytes_moved": 9474048, \
"cause.folder_stub": 1, "level.ingested": 9, "outcome.SKIPPED": 1, "outcome.TRANSFERRED": 9}}
"""


def test_a_seal_of_an_earlier_version_is_read(directory: JobDirectory) -> None:
    directory.write_once(
        "sealed/00000001/objects-000000-00000000.json", SEAL_OF_EARLIER_VERSION.encode()
    )
    parts = SEAL_OF_EARLIER_VERSION.partition('"summary"')[0].replace('"objects"', '"parts"')
    directory.write_once(
        "sealed/00000001/parts-000000-00000000.json",
        (parts + '"summary": {"bytes_moved": 20, "part_bytes": 30, "refused": 1}}').encode(),
    )
    of_objects, of_parts = read_seals(directory)
    assert of_objects.summary == ReceiptSummary(
        outcomes={Outcome.SKIPPED: 1, Outcome.TRANSFERRED: 9},
        outcome_bytes={Outcome.SKIPPED: 3, Outcome.TRANSFERRED: 9474048},
        levels={Level.INGESTED: 9},
        causes={"folder_stub": 1},
        bytes_moved=9474048,
    )
    assert of_parts.summary == ReceiptSummary(bytes_moved=20, part_bytes=30)


def test_summaries_add_up_over_any_partition() -> None:
    receipts = [
        LANDED,
        replace(LANDED, row=4, outcome=Outcome.ALREADY_PRESENT, size=100, bytes_moved=0),
        replace(LANDED, row=5, outcome=Outcome.FAILED, level=None, cause="target_conflict"),
        replace(LANDED, row=6, outcome=Outcome.FAILED, level=None, cause="short_body"),
    ]
    whole = summarize(table(receipts))
    assert (whole.entries, whole.landed_bytes) == (4, 107)
    for cut in range(len(receipts) + 1):
        parts = summarize(table(receipts[:cut])) + summarize(table(receipts[cut:]))
        assert parts == whole
    assert whole + ReceiptSummary() == whole
