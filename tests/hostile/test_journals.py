"""Journals of any bytes: what is read is what was written, up to the first record that is not."""

from __future__ import annotations

import io
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noria.manifests.job.directory import JobDirectory, journal_name
from noria.manifests.job.journals import (
    JournalState,
    decode_journal,
    encode_abandoned,
    encode_batch,
    encode_part,
    encode_receipts,
    encode_upload,
    read_journals,
)
from noria.manifests.job.receipts import receipts_of
from noria.manifests.model import Lease, LeaseKind, PartRecord, Upload
from noria.workers.lease.journal import LeaseJournals
from tests.manifests.job.test_receipts import LANDED
from tests.support.fuzzing import ODD_DOCUMENTS, ODD_VALUES, changed, damaged, examples

UPLOAD = Upload(row=4, upload_id="u1", txid="t", part_bytes=8, etag="e")
PART = PartRecord(number=2, size=8, etag="pe", crc64nvme=2**64 - 1, chunks=b"c" * 16)
RECORDS = [
    encode_receipts([LANDED]),
    encode_upload(UPLOAD),
    encode_part("u1", PART),
    encode_abandoned(4, "u0"),
    encode_receipts([LANDED, LANDED]),
    encode_batch([encode_receipts([LANDED]), encode_part("u2", PART)], b"0 1"),
]
COUNTS = [1, 1, 1, 1, 1, 2]
WHOLE = b"".join(RECORDS)


def framed(payload: bytes) -> bytes:
    return b"%08x %x\n%b\n" % (zlib.crc32(payload), len(payload), payload)


def what(data: bytes, address: bytes | None = None) -> list[Any]:
    """The records, comparable."""
    return [
        record.to_pylist() if isinstance(record, pa.Table) else record
        for record in decode_journal(io.BytesIO(data), address)
    ]


TRUTH = what(WHOLE)


def read(folder: Path, *journals: bytes) -> JournalState:
    directory = JobDirectory(folder)
    for attempt, data in enumerate(journals):
        path = directory.path(journal_name(0, attempt))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return read_journals(directory, 0, 0, 10)


def test_a_journal_cut_at_any_byte() -> None:
    ends = [sum(map(len, RECORDS[: number + 1])) for number in range(len(RECORDS))]
    assert len(TRUTH) == sum(COUNTS)
    for cut in range(len(WHOLE)):
        # The last line feed may be missing: its record is whole all the same.
        whole = [count for end, count in zip(ends, COUNTS, strict=True) if end - 1 <= cut]
        assert what(WHOLE[:cut]) == TRUTH[: sum(whole)]


def test_a_journal_with_any_bit_flipped() -> None:
    for place in range(len(WHOLE)):
        flipped = bytearray(WHOLE)
        flipped[place] ^= 1 << place % 8
        found = what(bytes(flipped))
        assert found == TRUTH[: len(found)]


@examples(150)
@given(st.binary(max_size=80))
@example(b"00000000 0\n\n")
@example(b"\0" * 4096)
@example(b"00000000 " + b"f" * 22 + b"\n")
@example(b"00000000 -1\n\n")
def test_garbage_behind_a_journal_hides_nothing(garbage: bytes) -> None:
    assert what(WHOLE + garbage)[: len(TRUTH)] == TRUTH


@examples(150)
@given(st.data())
@example(None)
def test_records_that_say_something_else(tmp_path: Path, data: st.DataObject | None) -> None:
    """The checksum of each fits: they were written so."""
    document = ["p", {}] if data is None else data.draw(records())
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    state = read(tmp_path, RECORDS[0] + framed(payload) + RECORDS[1], RECORDS[2])
    assert state.final_rows() == {LANDED.row}
    assert list(receipts_of(state.receipts)) == [LANDED]
    assert state.parts["u1"][2] == PART
    for upload in state.uploads.values():
        assert {type(upload.row), type(upload.part_bytes)} == {int}
        assert {type(upload.upload_id), type(upload.txid), type(upload.etag)} == {str}


def records() -> st.SearchStrategy[Any]:
    known = [json.loads(record.partition(b"\n")[2]) for record in RECORDS[1:4]]
    return st.sampled_from(known).flatmap(changed) | ODD_DOCUMENTS | ODD_VALUES


@pytest.mark.parametrize(
    "table",
    [
        pa.table({}),
        pa.table({"row": [1]}),
        pa.table({"row": ["1"], "key": [1]}),
        pa.Table.from_pylist([{"row": 1, "key": None}]),
    ],
    ids=lambda table: str(table.schema.names),
)
def test_batches_of_other_columns(tmp_path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    other = framed(sink.getvalue().to_pybytes())
    state = read(tmp_path, RECORDS[0] + other + RECORDS[1])
    assert state.final_rows() == {LANDED.row}
    assert not state.uploads, "what follows does not count"


def test_a_journal_that_leases_share_damaged_at_any_byte() -> None:
    """None reads what is not its own, and what is whole of a torn one is there."""
    addresses = [b"0 1", b"0 2", b"7 1"]
    records = [
        encode_batch([encode_part(f"u{number}", PART)], addresses[number % 3])
        for number in range(9)
    ]
    whole = b"".join(records)
    truth = {address: what(whole, address) for address in addresses}
    for number, address in enumerate(addresses):
        assert [values["upload_id"] for _, values in truth[address]] == [
            f"u{each}" for each in range(number, 9, 3)
        ]
    ends = [sum(map(len, records[: number + 1])) for number in range(9)]
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        for number, address in enumerate(addresses):
            found = what(bytes(flipped), address)
            assert found == truth[address][: len(found)]
            kept = sum(end - 1 <= place for end in ends[number::3])
            assert what(whole[:place], address) == truth[address][:kept]


@examples(60)
@given(st.data())
def test_a_damaged_journal_of_a_worker(tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "job", ignore_errors=True)
    directory = JobDirectory.create(tmp_path / "job", {"id": "j"})
    lease = Lease(shard=0, kind=LeaseKind.OBJECTS, first=0, end=9, attempt=1, generation=0)
    journal = LeaseJournals(directory).begin(lease, lambda error: None)
    for record in RECORDS[1:4]:
        journal.add(record)
        journal.flush()
    name = data.draw(st.sampled_from([*directory.names("journal")]))
    path = directory.path(name)
    path.write_bytes(data.draw(damaged(path.read_bytes() or b"\n")))  # pointers are empty
    state = read_journals(directory, 0, 0, 9)
    assert state.uploads in ({}, {4: UPLOAD})
    assert state.parts in ({}, {"u1": {2: PART}})
