"""The journals of workers: what all leases of a worker have done, in files that one sync settles.

    journal/workers/WORKER/SEGMENT.journal
        records, each with the shard and the attempt that it is of; WORKER is unique to a process
    journal/SHARD/ATTEMPT-FIRST-END-WORKER-SEGMENT.journal
        a pointer, and empty: this attempt at units [FIRST, END) has records in that worker's
        journal, in no segment before that one
    journal/SHARD/ATTEMPT.journal
        records of a driver, or of a worker of an earlier version

So the records of a shard are found without reading those of others, and a lease reads no more than
what earlier attempts at its own units have left. A pointer is on disk before the first record that
it leads to. The pointers of a shard are dropped once it is settled. A segment goes when no pointer
leads to it: a worker looks whenever it begins another segment, and what is left by workers that
have ended is removed by drivers, before and after their own workers are at work.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from noria.manifests.job.directory import (
    JOURNALS,
    JobDirectory,
    JournalFile,
    disk_errors,
    journal_folders,
    shard_folder,
)
from noria.manifests.model import Lease

SEGMENT_BYTES: Final = 4 << 20
"""A segment takes no more records beyond this. Another attempt may read it for one of them."""
_WORKERS: Final = f"{JOURNALS}/workers"
_POINTER: Final = re.compile(
    r"journal/(?:[0-9]{5,7}/)?([0-9]{8,10})/"
    r"([0-9]{18,19})-([0-9]{8,19})-([0-9]{8,19})-([0-9a-f]{32})-([0-9]{8})\.journal"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalPointer:
    """Where the records of one attempt are."""

    shard: int
    attempt: int
    first: int
    end: int
    worker: str
    segment: int
    """The first that may hold some."""

    @classmethod
    def of(cls, name: str) -> JournalPointer | None:
        """From a name in the job directory; None if that is of another kind."""
        found = _POINTER.fullmatch(name)
        if found is None:
            return None
        shard, attempt, first, end, worker, segment = found.groups()
        return cls(
            shard=int(shard),
            attempt=int(attempt),
            first=int(first),
            end=int(end),
            worker=worker,
            segment=int(segment),
        )

    @property
    def name(self) -> str:
        units = f"{self.first:08d}-{self.end:08d}"
        place = f"{self.attempt:018d}-{units}-{self.worker}-{self.segment:08d}"
        return f"{shard_folder(JOURNALS, self.shard)}/{place}.journal"

    @property
    def address(self) -> bytes:
        """What the records of the attempt carry."""
        return b"%d %d" % (self.shard, self.attempt)


class WorkerJournal:
    """The journal that the leases of one worker append to. Not thread-safe."""

    def __init__(self, directory: JobDirectory) -> None:
        self._directory = directory
        self._worker = uuid.uuid4().hex
        self._segment = 0
        self._file: JournalFile | None = None
        self._bytes = 0
        """In the file."""
        self._pointers: dict[int, set[JournalPointer]] = {}
        """Segment -> those that lead to records in it."""

    def point(self, lease: Lease) -> JournalPointer:
        """Make the pointer of a lease, durably; its records may be appended then."""
        pointer = JournalPointer(
            shard=lease.shard,
            attempt=lease.attempt,
            first=lease.first,
            end=lease.end,
            worker=self._worker,
            segment=self._segment,
        )
        self._directory.note(pointer.name)
        return pointer

    def is_dropped(self, pointer: JournalPointer) -> bool:
        """Its shard is settled, and its attempt is over."""
        with disk_errors(self._directory.root):
            try:
                os.stat(self._directory.path(pointer.name))
            except (FileNotFoundError, NotADirectoryError):
                return True
            return False

    def append(self, records: Mapping[JournalPointer, bytes]) -> None:
        """Append records of several attempts; they are on disk once this has returned.

        Raises JobDirectoryError. What was written of them then ends its segment, and may be
        appended again.
        """
        if self._file is None or self._bytes >= SEGMENT_BYTES:
            self._begin_segment()
        assert self._file is not None
        data = b"".join(records.values())
        try:
            self._file.append(data)
        except BaseException:
            self._end_segment()
            raise
        self._bytes += len(data)
        self._pointers.setdefault(self._segment, set()).update(records)

    def close(self) -> None:
        """Nothing is appended any more. May be repeated."""
        self._end_segment()

    def _begin_segment(self) -> None:
        self._end_segment()
        self._remove_unneeded()
        self._segment += 1
        name = _segment_name(self._worker, self._segment)
        self._file, self._bytes = JournalFile(self._directory.path(name)), 0

    def _end_segment(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _remove_unneeded(self) -> None:
        for segment, pointers in list(self._pointers.items()):
            pointers -= {pointer for pointer in pointers if self.is_dropped(pointer)}
            if not pointers:
                self._directory.remove(_segment_name(self._worker, segment))
                del self._pointers[segment]


def open_journals(
    directory: JobDirectory, shard: int, first: int, end: int
) -> Iterator[tuple[BinaryIO, bytes | None]]:
    """Files with records of a shard's units [first, end), open to be read; oldest attempts first.

    With each comes the address of the records in it that count; None: all do.
    """
    names = (name for folder in journal_folders(shard) for name in directory.names(folder))
    for name in names:
        pointer = JournalPointer.of(name)
        if pointer is None:
            yield from ((journal, None) for journal in _opened(directory, name))
        elif pointer.first < end and first < pointer.end:
            earliest = _segment_name(pointer.worker, pointer.segment)
            for segment in directory.names(f"{_WORKERS}/{pointer.worker}"):
                if segment >= earliest:
                    for journal in _opened(directory, segment):
                        yield journal, pointer.address


def open_all_journals(directory: JobDirectory) -> Iterator[BinaryIO]:
    """Every file with records, open to be read."""
    for name in directory.names(JOURNALS):
        yield from _opened(directory, name)


def remove_unneeded_journals(directory: JobDirectory) -> None:
    """Remove the journals of workers to which no pointer leads."""
    # Pointers are looked at last: a worker that is at work yet makes one before its first segment.
    names = [name.removeprefix(f"{_WORKERS}/") for name in directory.names(_WORKERS)]
    pointers = map(JournalPointer.of, directory.names(JOURNALS))
    needed = {pointer.worker for pointer in pointers if pointer is not None}
    for worker in {name.partition("/")[0] for name in names} - needed:
        shutil.rmtree(directory.path(f"{_WORKERS}/{worker}"), ignore_errors=True)


def _segment_name(worker: str, segment: int) -> str:
    return f"{_WORKERS}/{worker}/{segment:08d}.journal"


def _opened(directory: JobDirectory, name: str) -> Iterator[BinaryIO]:
    """One file, or none if it is gone. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), open(directory.path(name), "rb") as journal:
        yield journal
