"""What a plan has listed of its source so far, in the job directory until the plan is frozen.

    .listing/rows-0.arrow    rows in the order in which they came; one file for each run of the plan
    .listing/state.json      how far the listing had come with so many bytes of each file

A plan that is cut short goes on from there. The rows are durable before the state that counts them
is written; what a file holds beyond it belongs to pages that are listed again. What was kept for
another job, or was begun longer than a day ago, is not used: a source lives.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import pyarrow as pa

from noria.manifests.access import make_folders, open_new
from noria.manifests.errors import JobDirectoryError, ListingBroken, NoriaError, Retryable
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.reader import disk_errors
from noria.manifests.schema import INVENTORY_SCHEMA
from noria.workers.stores.frontier import Frontier, ListingState

STATE_SECONDS: Final = 10.0
"""How much of a listing is done again, at most, and how long nothing but rows is written."""
KEPT_SECONDS: Final = 24 * 3600.0
"""Since the listing was begun."""
_FOLDER: Final = ".listing"
_STATE: Final = f"{_FOLDER}/state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    begun_seconds: float
    """By the clock of the driver that began the listing."""
    listed: int
    files: list[tuple[str, int]]
    """Names, and the bytes of each that count."""
    state: ListingState | None


class KeptListing:
    """The listing of one job's plan. The caller holds the job directory."""

    def __init__(
        self, directory: JobDirectory, job_id: str, clock: Callable[[], float] = time.time
    ) -> None:
        """Find what an earlier run has kept. Raises JobDirectoryError."""
        self._directory = directory
        self._job_id = job_id
        now = clock()
        self._kept = _Kept(begun_seconds=now, listed=0, files=[], state=None)
        found = self._find()
        if found is not None and 0 <= now - found.begun_seconds < KEPT_SECONDS:
            self._kept = found
        self._is_stated = self._kept.state is not None

    @property
    def state(self) -> ListingState | None:
        """Where the listing goes on. None: from the start."""
        return self._kept.state

    @property
    def listed(self) -> int:
        """How many rows are kept."""
        return self._kept.listed

    @property
    def begun(self) -> str:
        """When the listing was begun, for people."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self._kept.begun_seconds))

    def rows(self, items: Iterable[pa.RecordBatch | ListingState]) -> Iterator[pa.RecordBatch]:
        """Yield the rows that are kept, then those of `items`, which are kept too.

        `items` are of a listing that went on from `state`. If it ends by an error that does not
        pass, or because it is broken, nothing is kept: the state may be its cause.
        """
        try:
            with disk_errors(self._directory.root):
                yield from self._kept_rows()
        except JobDirectoryError:
            self.drop()
            raise
        try:
            yield from self._keep(items)
        except ListingBroken:
            self.drop()
            raise
        except NoriaError as error:
            if self._kept.state is not None and not isinstance(error, Retryable):
                self.drop()
            raise
        finally:
            if not self._is_stated:
                self.drop()

    def drop(self) -> None:
        """Remove what is kept. A repeat does nothing."""
        shutil.rmtree(self._directory.path(_FOLDER), ignore_errors=True)

    def _keep(self, items: Iterable[pa.RecordBatch | ListingState]) -> Iterator[pa.RecordBatch]:
        name = f"rows-{len(self._kept.files)}.arrow"
        path = self._directory.path(f"{_FOLDER}/{name}")
        listed = self._kept.listed
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        if self._kept.state is None:
            # What was passed over would count the rows that are written now.
            self.drop()
        with disk_errors(self._directory.root):
            make_folders(path.parent)
            with (
                open(path, "wb", opener=open_new) as file,
                pa.ipc.new_stream(file, INVENTORY_SCHEMA, options=options) as writer,
            ):
                for item in items:
                    if isinstance(item, ListingState):
                        self._write_state(item, listed, name, file)
                        self._is_stated = True
                        continue
                    listed += item.num_rows
                    if item.num_rows:
                        writer.write_batch(item)
                    yield item

    def _write_state(self, state: ListingState, listed: int, name: str, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
        facts = {
            "job": self._job_id,
            "begun": self._kept.begun_seconds,
            "listed": listed,
            "files": [*self._kept.files, *([(name, size)] if size else [])],
            "state": state.facts,
        }
        self._directory.replace(_STATE, json.dumps(facts).encode())

    def _find(self) -> _Kept | None:
        """Return what is kept of this job; None if that is nothing, or damaged."""
        text = self._directory.read(_STATE)
        try:
            facts: dict[str, Any] = json.loads(text or b"{}")
            state = ListingState(facts["state"])
            Frontier("", streams=1).go_on(state)
            found = _Kept(
                begun_seconds=float(facts["begun"]),
                listed=int(facts["listed"]),
                files=[(str(name), int(size)) for name, size in facts["files"]],
                state=state,
            )
            whole = all(
                self._directory.path(f"{_FOLDER}/{name}").stat().st_size >= size
                for name, size in found.files
            )
            return found if whole and facts["job"] == self._job_id else None
        except (ValueError, LookupError, TypeError, OSError):
            return None

    def _kept_rows(self) -> Iterator[pa.RecordBatch]:
        """Raises JobDirectoryError if they are not the rows that the state counts."""
        rows = 0
        for name, size in self._kept.files:
            for batch in self._read(name, size):
                rows += len(batch)
                yield batch
        if rows != self._kept.listed:
            raise self._damaged(f"holds {rows:,} rows, not {self._kept.listed:,}")

    def _damaged(self, how: str) -> JobDirectoryError:
        folder = self._directory.path(_FOLDER)
        return JobDirectoryError(f"{folder} {how}; run again to list from the start")

    def _read(self, name: str, size: int) -> Iterator[pa.RecordBatch]:
        path = self._directory.path(f"{_FOLDER}/{name}")
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file.read_buffer(size)) as reader:
            if reader.schema != INVENTORY_SCHEMA:
                raise self._damaged("is of another edition")
            yield from reader
