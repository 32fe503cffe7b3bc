"""The journals of a worker's leases reach the disk together, with one sync."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.journals import encode_part, read_journals
from noria.manifests.job.receipts import receipts_of
from noria.manifests.model import Lease, LeaseKind, PartRecord
from noria.workers.lease.journal import Journal, LeaseJournals
from tests.manifests.job.test_receipts import LANDED


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


class SyncedDisk:
    """In place of os.fdatasync: counts, and waits or fails if it is told to."""

    def __init__(self) -> None:
        self.syncs = 0
        self.waiting = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_full = False

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        self.waiting.set()
        self.may_go_on.wait()
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SyncedDisk:
    disk = SyncedDisk()
    monkeypatch.setattr(os, "fdatasync", disk.sync)
    return disk


def refused(error: JobDirectoryError) -> None:
    raise error


def begin(
    journals: LeaseJournals,
    shard: int,
    attempt: int = 1,
    on_dropped: Callable[[JobDirectoryError], None] = refused,
) -> Journal:
    lease = Lease(
        shard=shard, kind=LeaseKind.OBJECTS, first=0, end=10, attempt=attempt, generation=0
    )
    return journals.begin(lease, on_dropped)


def part(number: int) -> bytes:
    record = PartRecord(number=number, size=8, etag="e", crc64nvme=9, chunks=b"c" * 16)
    return encode_part("u", record)


def parts_of(directory: JobDirectory, shard: int) -> list[int]:
    return list(read_journals(directory, shard, 0, 10).parts.get("u", {}))


def rows_of(directory: JobDirectory, shard: int) -> list[int]:
    state = read_journals(directory, shard, 0, 10)
    return [receipt.row for receipt in receipts_of(state.receipts)]


def test_one_sync_settles_what_all_leases_have_added(
    directory: JobDirectory, disk: SyncedDisk
) -> None:
    journals = LeaseJournals(directory)
    held = [begin(journals, shard) for shard in range(20)]
    for number, journal in enumerate(held, 1):
        journal.add(part(number))
        journal.add_receipt(LANDED)
    held[7].flush()
    assert disk.syncs == 1
    for shard in range(20):
        assert parts_of(directory, shard) == [shard + 1]
        assert rows_of(directory, shard) == [LANDED.row]
    journals.flush()
    assert disk.syncs == 1, "there was nothing new"


def test_how_long_each_write_took_is_told(directory: JobDirectory, disk: SyncedDisk) -> None:
    told: list[float] = []
    journals = LeaseJournals(directory, told.append)
    journal = begin(journals, 1)
    journals.flush()
    assert told == [], "nothing was written"
    for number in (1, 2):
        journal.add(part(number))
        journal.flush()
    assert len(told) == disk.syncs == 2
    assert all(0 <= seconds < 60 for seconds in told)


def test_steps_that_wait_for_the_disk_are_served_by_one_sync(
    directory: JobDirectory, disk: SyncedDisk
) -> None:
    journals = LeaseJournals(directory)
    held = [begin(journals, shard) for shard in range(20)]
    disk.may_go_on.clear()
    with ThreadPoolExecutor(len(held)) as threads:
        held[0].add(part(1))
        first = threads.submit(held[0].flush)
        disk.waiting.wait()
        for journal in held[1:]:
            journal.add(part(1))
        others = [threads.submit(journal.flush) for journal in held[1:]]
        disk.may_go_on.set()
        for flushed in [first, *others]:
            flushed.result(timeout=30)
    assert disk.syncs == 2
    assert all(parts_of(directory, shard) == [1] for shard in range(20))


def test_what_could_not_be_written_is_written_later(
    directory: JobDirectory, disk: SyncedDisk
) -> None:
    journals = LeaseJournals(directory)
    one, two = begin(journals, 1), begin(journals, 2)
    one.add(part(1))
    journals.flush()
    disk.is_full = True
    one.add(part(2))
    two.add_receipt(LANDED)
    with pytest.raises(JobDirectoryError, match="No space left"):
        one.flush()
    one.add(part(3))
    disk.is_full = False
    two.flush()
    assert parts_of(directory, 1) == [1, 2, 3]
    assert rows_of(directory, 2) == [LANDED.row]


def test_what_is_closed_before_a_flush_leaves_nothing(
    directory: JobDirectory, disk: SyncedDisk
) -> None:
    journals = LeaseJournals(directory)
    journal = begin(journals, 1)
    journal.add_receipt(LANDED)
    journal.close()
    journals.flush()
    assert disk.syncs == 0
    assert not [*directory.names("journal")]


def test_what_is_on_its_way_to_the_disk_is_waited_for(
    directory: JobDirectory, disk: SyncedDisk
) -> None:
    """A result is put together of what is on disk: nothing is on its way any more."""
    journals = LeaseJournals(directory)
    journal = begin(journals, 1)
    journal.add_receipt(LANDED)
    disk.may_go_on.clear()
    with ThreadPoolExecutor(2) as threads:
        flushed = threads.submit(journals.flush)
        disk.waiting.wait()
        later = replace(LANDED, row=4)
        journal.add_receipt(later)
        relied_on = threads.submit(journal.flush)
        assert not relied_on.done()
        disk.may_go_on.set()
        relied_on.result(timeout=30)
        assert rows_of(directory, 1) == [LANDED.row, later.row]
        flushed.result(timeout=30)


def test_a_lease_of_a_settled_shard_is_told_and_others_go_on(
    directory: JobDirectory, disk: SyncedDisk
) -> None:
    journals = LeaseJournals(directory)
    told: list[JobDirectoryError] = []
    one, two = begin(journals, 1, on_dropped=told.append), begin(journals, 2)
    one.add(part(1))
    two.add(part(1))
    journals.flush()
    directory.drop_journal(1)
    one.add(part(2))
    two.add(part(2))
    journals.flush()
    assert len(told) == 1
    with pytest.raises(JobDirectoryError, match="was dropped"):
        one.flush()
    assert parts_of(directory, 1) == []
    assert parts_of(directory, 2) == [1, 2]
    one.close()
    two.close()


def test_an_attempt_finds_what_an_earlier_one_of_another_worker_has_done(
    directory: JobDirectory,
) -> None:
    for attempt in (1, 2, 3):
        journals = LeaseJournals(directory)
        journal = begin(journals, 5, attempt)
        journal.add(part(attempt))
        journal.flush()
    assert parts_of(directory, 5) == [1, 2, 3]


def test_a_file_that_cannot_be_closed_either_is_closed_once(
    directory: JobDirectory, disk: SyncedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with NFS on a full disk: the number is free all the same, and may be another file's."""
    journals = LeaseJournals(directory)
    journal = begin(journals, 1)
    journal.add(part(1))
    journal.flush()
    disk.is_full = True
    closed: list[int] = []
    real_close = os.close

    def close(descriptor: int) -> None:
        real_close(descriptor)
        closed.append(descriptor)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal.add(part(2))
    with monkeypatch.context() as full:
        full.setattr(os, "close", close)
        with pytest.raises(JobDirectoryError, match="No space left"):
            journal.flush()
    (number,) = closed
    with open(os.devnull, "rb") as other:
        assert other.fileno() == number
        disk.is_full = False
        journal.flush()
        os.fstat(number)
    assert parts_of(directory, 1) == [1, 2]


def test_journals_of_earlier_editions_are_read_first_and_dropped(directory: JobDirectory) -> None:
    shard = 12_345
    journals = LeaseJournals(directory)
    begin(journals, shard, attempt=1).add(part(1))
    journals.flush()
    nested, flat = directory.path("journal/00012/00012345"), directory.path("journal/00012345")
    nested.rename(flat)
    begin(journals, shard, attempt=2).add(part(2))
    journals.flush()
    assert nested.is_dir()
    assert parts_of(directory, shard) == [1, 2]
    directory.drop_journal(shard)
    assert parts_of(directory, shard) == []
