"""Rows on scratch, apart by ranges of their target keys: each range is then small enough to hold.

A file for each range, to which rows are appended as they come, in Arrow's stream format. If a range
turns out larger than can be held, its rows are routed again, to ranges within it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.access import make_folders, open_new
from noria.manifests.key_ranges import KeyRanges

ROUTING_COLUMN = "target_key"
_OPTIONS = pa.ipc.IpcWriteOptions(use_threads=False)


class RoutedRows:
    """Rows of one schema, routed by their target keys. Threads may append side by side.

    Methods raise OSError. The folder is new.
    """

    def __init__(self, folder: Path, schema: pa.Schema, ranges: KeyRanges) -> None:
        make_folders(folder)
        self._folder = folder
        self._lock = threading.Lock()
        self.schema = schema
        self.ranges = ranges
        self.nbytes = [0] * ranges.number
        """Of the rows of each range, as they are in memory."""
        self.rows = 0
        """That were taken."""

    def append(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Take rows, of this schema. What one call brings for a range is written in one piece."""
        parts: defaultdict[int, list[pa.RecordBatch]] = defaultdict(list)
        for batch in batches:
            for number, part in self._route(batch):
                parts[number].append(part)
        for number, routed in parts.items():
            self._append_to(number, routed)

    def _route(self, rows: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
        if not len(rows):
            return
        ends = pc.min_max(rows[ROUTING_COLUMN]).values()
        first, last = self.ranges.of(pa.array([end.as_py() for end in ends], pa.string())).tolist()
        if first == last:  # as nearly always: receipts and a page of a listing are in order
            yield first, rows
        else:
            yield from self.ranges.split(rows, ROUTING_COLUMN)

    def _append_to(self, number: int, batches: list[pa.RecordBatch]) -> None:
        with (
            self._lock,
            open(self._path(number), "ab", opener=open_new) as file,
            pa.ipc.new_stream(file, self.schema, options=_OPTIONS) as writer,
        ):
            for rows in batches:
                writer.write_batch(rows)
                self.nbytes[number] += rows.nbytes
                self.rows += len(rows)

    def batches(self, number: int) -> Iterator[pa.RecordBatch]:
        """The rows of a range, a batch in memory at a time."""
        if not self.nbytes[number]:
            return
        with pa.OSFile(str(self._path(number))) as file:
            while file.tell() < file.size():
                with pa.ipc.open_stream(file) as stream:
                    yield from stream

    def read(self, number: int) -> pa.Table:
        """The rows of a range."""
        return pa.Table.from_batches(self.batches(number), self.schema).combine_chunks()

    def sample(self, number: int, every_bytes: int) -> Iterator[str]:
        """Target keys of a range, about one from each so many bytes of rows."""
        for batch in self.batches(number):
            step = max(1, len(batch) * every_bytes // batch.nbytes)
            yield from batch[ROUTING_COLUMN][::step].to_pylist()

    def split(self, number: int, ranges: KeyRanges) -> RoutedRows:
        """The rows of one range in a spool of their own, and gone from this one."""
        within = RoutedRows(self._folder / f"{number:05d}-split", self.schema, ranges)
        for batch in self.batches(number):
            within.append([batch])
        self.drop(number)
        return within

    def drop(self, number: int) -> None:
        """Forget the rows of a range."""
        self._path(number).unlink(missing_ok=True)
        self.nbytes[number] = 0

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05d}"
