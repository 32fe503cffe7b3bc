"""Journals survive torn tails; the newest word on a row wins."""

import errno
import io
import os
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
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
from noria.manifests.job.receipts import receipt_batch, receipts_of
from noria.manifests.model import PartRecord, Receipt, Upload
from tests.manifests.job.test_receipts import LANDED

UPLOAD = Upload(row=4, upload_id="u1", txid="t", part_bytes=8, etag="e")
ADDRESSES = st.sampled_from([b"", b"0 1", b"99999999 3000000001"])
PART = PartRecord(number=2, size=8, etag="pe", crc64nvme=9, chunks=b"c" * 16)


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def journal(directory: JobDirectory, attempt: int, *records: bytes) -> None:
    appender = directory.journal(0, attempt)
    appender.append(b"".join(records))
    appender.close()


def receipts_in(state: JournalState) -> list[Receipt]:
    return list(receipts_of(state.receipts))


def test_what_was_journalled_comes_back(directory: JobDirectory) -> None:
    records = encode_receipts([LANDED]), encode_upload(UPLOAD), encode_part("u1", PART)
    journal(directory, 1, *records)
    state = read_journals(directory, 0, 0, 10)
    assert receipts_in(state) == [LANDED]
    assert state.final_rows() == {3}
    assert state.uploads == {4: UPLOAD}
    assert state.parts == {"u1": {2: PART}}


def test_a_journal_that_was_dropped_takes_nothing_more(directory: JobDirectory) -> None:
    """Its attempt is over, and has to hear of it."""
    appender = directory.journal(0, 1)
    appender.append(encode_upload(UPLOAD))
    directory.drop_journal(0)
    with pytest.raises(JobDirectoryError, match="was dropped"):
        appender.append(encode_part("u1", PART))
    appender.close()


@pytest.mark.parametrize("stated", [True, False])
def test_what_was_known_of_a_part_comes_back(directory: JobDirectory, stated: bool) -> None:
    part = replace(PART, checked=True, stated=stated)
    journal(directory, 1, encode_part("u1", part))
    assert read_journals(directory, 0, 0, 10).parts == {"u1": {2: part}}


def test_of_a_part_that_an_earlier_version_journalled_nothing_is_stated(
    directory: JobDirectory,
) -> None:
    payload = (
        b'["p",{"upload_id":"u1","number":2,"size":8,"etag":"pe","crc64nvme":9,'
        b'"chunks":"63636363636363636363636363636363","checked":true}]'
    )
    journal(directory, 1, b"%08x %x\n%b\n" % (zlib.crc32(payload), len(payload), payload))
    state = read_journals(directory, 0, 0, 10)
    assert state.parts == {"u1": {2: replace(PART, checked=True, stated=False)}}


def test_only_rows_of_the_lease_count(directory: JobDirectory) -> None:
    journal(directory, 1, encode_receipts([LANDED]), encode_upload(UPLOAD))
    state = read_journals(directory, 0, 4, 10)
    assert receipts_in(state) == []
    assert state.uploads == {4: UPLOAD}


def test_rows_come_in_order_and_the_newest_receipt_of_each_wins(directory: JobDirectory) -> None:
    def rows(attempt: int, *numbers: int) -> bytes:
        return encode_receipts([replace(LANDED, row=row, attempt=attempt) for row in numbers])

    journal(directory, 1, rows(1, 5, 2), rows(1, 9))
    journal(directory, 2, rows(2, 7, 5))
    receipts = receipts_in(read_journals(directory, 0, 0, 9))
    assert [(receipt.row, receipt.attempt) for receipt in receipts] == [(2, 1), (5, 2), (7, 2)]


def test_an_abandoned_upload_is_forgotten_and_a_newer_one_is_not(directory: JobDirectory) -> None:
    newer = replace(UPLOAD, upload_id="u2")
    journal(directory, 1, encode_upload(UPLOAD), encode_abandoned(4, "u1"))
    assert not read_journals(directory, 0, 0, 10).uploads
    journal(directory, 2, encode_upload(newer), encode_abandoned(4, "u1"))
    assert read_journals(directory, 0, 0, 10).uploads == {4: newer}


@pytest.mark.parametrize("packed", [True, False])
def test_receipts_of_an_earlier_version_count(directory: JobDirectory, packed: bool) -> None:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_batches([receipt_batch([LANDED])])
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    payload = sink.getvalue().to_pybytes()
    record = b"%08x %x\n%b\n" % (zlib.crc32(payload), len(payload), payload)
    journal(directory, 1, encode_batch([record]) if packed else record)
    assert receipts_in(read_journals(directory, 0, 0, 10)) == [LANDED]


def test_a_batch_holds_its_records_and_is_small(directory: JobDirectory) -> None:
    receipts = [replace(LANDED, row=row, key=f"folder/{row:09}") for row in range(1000)]
    records = [encode_receipts(receipts), encode_upload(UPLOAD), encode_part("u1", PART)]
    batch = encode_batch(records)
    assert len(batch) < len(b"".join(records)) / 4
    assert len(encode_batch([encode_receipts([LANDED])])) < 1024
    journal(directory, 1, batch)
    state = read_journals(directory, 0, 0, 2000)
    assert receipts_in(state) == receipts
    assert (state.uploads, state.parts) == ({4: UPLOAD}, {"u1": {2: PART}})


def test_after_a_torn_append_nothing_is_said_to_be_on_disk(
    directory: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader would stop at what is torn, and miss what follows."""
    appender = directory.journal(0, 1)
    appender.append(encode_upload(UPLOAD))
    with monkeypatch.context() as full:
        full.setattr(os, "fdatasync", refuse_room)
        with pytest.raises(JobDirectoryError, match="No space left"):
            appender.append(encode_part("u1", PART))
    with pytest.raises(JobDirectoryError, match="could not be written earlier"):
        appender.append(encode_part("u1", PART))
    appender.close()


def refuse_room(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def decoded(data: bytes) -> list[Any]:
    return [what(record) for record in decode_journal(io.BytesIO(data))]


def what(record: object) -> object:
    """A record, comparable."""
    return record.to_pylist() if isinstance(record, pa.Table) else record


@given(st.data())
def test_a_torn_or_damaged_tail_loses_only_what_follows(data: st.DataObject) -> None:
    records = [
        encode_batch([encode_receipts([replace(LANDED, row=row)])], data.draw(ADDRESSES))
        if row % 2
        else encode_part("u", PART)
        for row in range(5)
    ]
    whole = b"".join(records)
    truth = decoded(whole)
    assert len(truth) == 5
    cut = data.draw(st.integers(0, len(whole)))
    lengths = [sum(map(len, records[: n + 1])) for n in range(5)]
    # The last line feed may be missing: its record is whole all the same.
    kept = sum(length - 1 <= cut for length in lengths)
    assert decoded(whole[:cut]) == truth[:kept]
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    good = decoded(bytes(flipped))
    assert good == truth[: len(good)]
    untouched = sum(length <= place for length in lengths)
    assert len(good) >= untouched
