"""Journals survive torn tails, seals name one result, damage is seen."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import JobDirectoryError
from manifests.jobdir import JobDirectory
from manifests.model import (
    LeaseEnd,
    LeaseKind,
    LeaseResult,
    Level,
    Outcome,
    PartRecord,
    Receipt,
    Upload,
)
from manifests.receipts import (
    decode_journal,
    encode_abandoned,
    encode_part,
    encode_receipt,
    encode_upload,
    failures_of,
    read_journals,
    read_result,
    read_seals,
    receipts_of,
    seal,
    write_receipts,
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
UPLOAD = Upload(row=4, upload_id="u1", txid="t", part_bytes=8, etag="e")
PART = PartRecord(number=2, size=8, etag="pe", crc64nvme=9, chunks=b"c" * 16)


@pytest.fixture
def directory(tmp_path):
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def journal(directory, attempt, *lines):
    appender = directory.journal(0, attempt)
    appender.append(b"".join(lines))
    appender.close()


def test_what_was_journalled_comes_back(directory):
    journal(directory, 1, encode_receipt(LANDED), encode_upload(UPLOAD), encode_part("u1", PART))
    state = read_journals(directory, 0, 0, 10)
    assert state.receipts == {3: LANDED}
    assert state.uploads == {4: UPLOAD}
    assert state.parts == {"u1": {2: PART}}


def test_only_rows_of_the_lease_count(directory):
    journal(directory, 1, encode_receipt(LANDED), encode_upload(UPLOAD))
    state = read_journals(directory, 0, 4, 10)
    assert not state.receipts
    assert state.uploads == {4: UPLOAD}


def test_an_abandoned_upload_is_forgotten_and_a_newer_one_is_not(directory):
    newer = replace(UPLOAD, upload_id="u2")
    journal(directory, 1, encode_upload(UPLOAD), encode_abandoned(4, "u1"))
    assert not read_journals(directory, 0, 0, 10).uploads
    journal(directory, 2, encode_upload(newer), encode_abandoned(4, "u1"))
    assert read_journals(directory, 0, 0, 10).uploads == {4: newer}


@given(st.data())
def test_a_torn_or_damaged_tail_loses_only_what_follows(data):
    lines = [encode_receipt(replace(LANDED, row=row)) for row in range(5)]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    kept = [values["row"] for _, values in decode_journal(whole[:cut])]
    lengths = [sum(map(len, lines[: n + 1])) for n in range(5)]
    # The last line feed may be missing: its record is whole all the same.
    assert kept == [row for row in range(5) if lengths[row] - 1 <= cut]
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    good = [values for _, values in decode_journal(bytes(flipped))]
    truth = [values for _, values in decode_journal(whole)]
    assert good == truth[: len(good)]


def finished(name, digest, summary, **changes):
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


def test_the_first_seal_of_a_span_stands(directory):
    digest, summary = write_receipts(directory, "results/00000000/a.parquet", [LANDED])
    first = seal(directory, finished("results/00000000/a.parquet", digest, summary))
    second = seal(directory, finished("results/00000000/b.parquet", "0" * 64, {}, attempt=6))
    assert second == first
    assert list(read_seals(directory)) == [first]
    assert list(receipts_of(read_result(directory, first))) == [LANDED]
    assert first.summary == {
        "outcome.TRANSFERRED": 1,
        "bytes.TRANSFERRED": 7,
        "bytes_moved": 7,
        "level.ingested": 1,
    }


def test_a_result_that_is_not_what_was_sealed_is_refused(directory):
    name = "results/00000000/a.parquet"
    digest, summary = write_receipts(directory, name, [LANDED])
    sealed = seal(directory, finished(name, digest, summary))
    write_receipts(directory, name, [replace(LANDED, size=8)])
    with pytest.raises(JobDirectoryError, match="not the file that was sealed"):
        read_result(directory, sealed)


def test_failures_are_what_a_person_has_to_look_at(directory):
    receipts = [
        LANDED,
        replace(LANDED, row=4, outcome=Outcome.ALREADY_PRESENT),
        replace(LANDED, row=5, outcome=Outcome.SKIPPED, cause="folder_stub"),
        replace(LANDED, row=6, outcome=Outcome.SKIPPED, cause="archived"),
        replace(LANDED, row=7, outcome=Outcome.FAILED, cause="target_conflict"),
        replace(LANDED, row=8, outcome=Outcome.SOURCE_CHANGED, cause="source_changed"),
    ]
    name = "results/00000000/a.parquet"
    digest, summary = write_receipts(directory, name, receipts)
    sealed = seal(directory, finished(name, digest, summary, end=9))
    table = failures_of(read_result(directory, sealed))
    assert table["row"].to_pylist() == [6, 7, 8]
