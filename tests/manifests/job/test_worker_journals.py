"""Leases of a worker share a journal; each finds its own, and no more is kept than needed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job import worker_journals
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.journals import (
    encode_batch,
    encode_part,
    encode_receipts,
    read_journals,
)
from noria.manifests.job.worker_journals import (
    JournalPointer,
    WorkerJournal,
    open_journals,
    remove_unneeded_journals,
)
from noria.manifests.model import Lease, LeaseKind, PartRecord
from tests.manifests.job.test_receipts import LANDED


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def lease(shard: int, attempt: int, first: int = 0, end: int = 100) -> Lease:
    return Lease(
        shard=shard, kind=LeaseKind.PARTS, first=first, end=end, attempt=attempt, generation=0
    )


def part(number: int) -> bytes:
    record = PartRecord(number=number, size=8, etag="e", crc64nvme=9, chunks=b"c" * 16)
    return encode_part("u", record)


def write(file: WorkerJournal, parts: dict[JournalPointer, int]) -> None:
    file.append(
        {
            pointer: encode_batch([part(number)], pointer.address)
            for pointer, number in parts.items()
        }
    )


def parts_of(directory: JobDirectory, shard: int, first: int = 0, end: int = 100) -> list[int]:
    state = read_journals(directory, shard, first, end)
    return list(state.parts.get("u", {}))


def tearing(cut: int) -> Callable[[int, memoryview], int]:
    """An os.write() of a disk that has room for `cut` bytes more."""
    whole, room = os.write, [cut]

    def write(descriptor: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = whole(descriptor, data[: room[0]])
        room[0] -= written
        return written

    return write


def segments(directory: JobDirectory) -> list[str]:
    return [name[-13:-8] for name in directory.names("journal/workers")]


def test_a_name_tells_what_it_was_made_of(directory: JobDirectory) -> None:
    pointer = WorkerJournal(directory).point(lease(12, 3_000_000_001, 7, 123_456_789))
    assert JournalPointer.of(pointer.name) == pointer
    assert list(directory.names("journal")) == [pointer.name]
    assert JournalPointer.of("journal/00000000/000000000000000001.journal") is None


def test_each_shard_finds_its_own(directory: JobDirectory) -> None:
    file = WorkerJournal(directory)
    one, two = file.point(lease(1, 11)), file.point(lease(2, 12))
    write(file, {one: 1, two: 2})
    write(file, {two: 3})
    write(file, {one: 4})
    assert segments(directory) == ["00001"]
    assert parts_of(directory, 1) == [1, 4]
    assert parts_of(directory, 2) == [2, 3]
    assert parts_of(directory, 3) == []


def test_attempts_of_all_workers_and_versions_count_in_order(directory: JobDirectory) -> None:
    def receipt(attempt: int) -> bytes:
        return encode_receipts([replace(LANDED, attempt=attempt)])

    for attempt in (13, 11):
        file = WorkerJournal(directory)
        pointer = file.point(lease(0, attempt))
        file.append({pointer: encode_batch([receipt(attempt)], pointer.address)})
    earlier = directory.journal(0, 12)
    earlier.append(receipt(12) + part(5))
    earlier.close()
    state = read_journals(directory, 0, 0, 100)
    assert state.receipts["attempt"].to_pylist() == [13]
    assert list(state.parts["u"]) == [5]


def test_a_lease_reads_what_concerns_its_units_alone(directory: JobDirectory) -> None:
    """A huge object has a thousand leases: each would read what all the others have done."""
    file = WorkerJournal(directory)
    for number in range(10):
        pointer = file.point(lease(0, 20 + number, first=number * 8, end=number * 8 + 8))
        write(file, {pointer: number})
    opened = list(open_journals(directory, 0, 16, 32))
    assert [address for _, address in opened] == [b"0 22", b"0 23"]
    assert parts_of(directory, 0, 16, 32) == [2, 3]


def test_a_full_segment_is_followed_by_another(
    directory: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_journals, "SEGMENT_BYTES", 1)
    file = WorkerJournal(directory)
    one = file.point(lease(1, 11))
    for number in range(3):
        write(file, {one: number})
    two = file.point(lease(2, 12))
    write(file, {two: 7})
    write(file, {one: 3, two: 8})
    assert segments(directory) == ["00001", "00002", "00003", "00004", "00005"]
    assert parts_of(directory, 1) == [0, 1, 2, 3]
    assert parts_of(directory, 2) == [7, 8]
    directory.drop_journal(1)
    assert file.is_dropped(one)
    assert not file.is_dropped(two)
    write(file, {two: 9})
    assert segments(directory) == ["00004", "00005", "00006"], "no others hold what shard 2 needs"
    assert parts_of(directory, 1) == []
    assert parts_of(directory, 2) == [7, 8, 9]


def test_journals_of_workers_that_ended_stay_as_long_as_a_pointer_leads_to_them(
    directory: JobDirectory,
) -> None:
    for shard in (1, 2):
        file = WorkerJournal(directory)
        write(file, {file.point(lease(shard, shard)): shard})
    remove_unneeded_journals(directory)
    assert len(segments(directory)) == 2
    directory.keep_journals(2)
    for shard in (1, 2):
        directory.drop_journal(shard)
    remove_unneeded_journals(directory)
    assert len(segments(directory)) == 1
    assert parts_of(directory, 2) == [2], "it may know of an open upload"


def test_nothing_is_left_once_all_is_settled(directory: JobDirectory) -> None:
    file = WorkerJournal(directory)
    write(file, {file.point(lease(1, 1)): 1})
    directory.drop_journal(1)
    remove_unneeded_journals(directory)
    assert not [*directory.path("journal").glob("*/*")]
    remove_unneeded_journals(directory)


def test_a_worker_whose_journal_was_removed_is_told(directory: JobDirectory) -> None:
    file = WorkerJournal(directory)
    pointer = file.point(lease(1, 1))
    write(file, {pointer: 1})
    directory.drop_journal(1)
    remove_unneeded_journals(directory)
    with pytest.raises(JobDirectoryError, match="was dropped"):
        write(file, {pointer: 2})


@pytest.mark.parametrize("cut", [1, 20, 60, 150])
def test_a_torn_end_costs_what_was_not_acknowledged(
    directory: JobDirectory, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what the worker appends later is found: it begins another segment."""
    file = WorkerJournal(directory)
    one, two = file.point(lease(1, 11)), file.point(lease(2, 12))
    write(file, {one: 1, two: 2})
    with monkeypatch.context() as full:
        full.setattr("os.write", tearing(cut))
        with pytest.raises(JobDirectoryError):
            write(file, {one: 3, two: 4})
    assert parts_of(directory, 2) == [2]
    write(file, {one: 3, two: 4})
    assert parts_of(directory, 1) == [1, 3]
    assert parts_of(directory, 2) == [2, 4]
