"""Rows in any order -> ranges of keys, in order, each small enough to be sorted in memory.

Rows that come in order are cut into ranges as they come. Others are held until there is a sample of
their keys; then each goes into the file of its range. A range that has become too large, because
the sample was no good or the rows are many, is cut again by a sample of its own.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.key_ranges import KeyRanges
from noria.manifests.schema import MANIFEST_SCHEMA

RANGES: Final = 128
"""Into how many ranges rows are cut at once. Each has a file open, and BUFFER_BYTES."""
BUFFER_BYTES: Final = 128 * 1024
BATCH_BYTES: Final = 16 << 20
"""Rows that are sent to their ranges at a time: some hundred for each range."""
SAMPLED: Final = 64
"""Keys of a sample for each range: sizes come within some 12 % (1 / sqrt(64)) of the mean."""
JOINED_BYTES: Final = 16 << 20
"""Ranges below this are joined with their neighbours: each costs a millisecond of its own."""


@dataclass(slots=True)
class RangeRows:
    """The rows of a range of keys, in memory or in files of Arrow's stream format.

    Columns of MANIFEST_SCHEMA without a value may be missing.
    """

    batches: list[pa.RecordBatch] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    in_order: bool = False
    """By key."""

    @classmethod
    def held(cls, batches: list[pa.RecordBatch], *, in_order: bool = False) -> RangeRows:
        return cls(
            batches=batches,
            rows=sum(map(len, batches)),
            bytes=sum(batch.nbytes for batch in batches),
            in_order=in_order,
        )

    def take(self) -> Iterator[pa.RecordBatch]:
        """All rows, once: what was read is removed."""
        while self.batches:
            yield self.batches.pop(0)
        for path in self.files:
            yield from _read(path)
            path.unlink()

    def keys(self) -> Iterator[pa.Array]:
        """The keys of all rows."""
        yield from (batch.column("key") for batch in self.batches)
        for path in self.files:
            yield from (batch.column("key") for batch in _read(path))

    def join(self, other: RangeRows) -> RangeRows:
        """This range with the next one."""
        return RangeRows(
            batches=self.batches + other.batches,
            files=self.files + other.files,
            rows=self.rows + other.rows,
            bytes=self.bytes + other.bytes,
            # take() gives what is held before what is in files.
            in_order=self.in_order and other.in_order and not (self.files and other.batches),
        )


class RangeSpool:
    """Rows of MANIFEST_SCHEMA on their way to the sort; a context manager. Methods raise OSError.

    Holds about range_bytes in memory, and 16 MB for the files that are open.
    """

    def __init__(self, folder: Path, range_bytes: int) -> None:
        self.rows = 0
        self.landing_rows = 0
        """Without a reason, as are landing_bytes; duplicates count."""
        self.landing_bytes = 0
        self._folder = folder
        self._range_bytes = range_bytes
        self._names = itertools.count()
        self._in_order = True
        self._last_key: str | None = None
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._cut_in_order: list[RangeRows] = []
        self._router: _Router | None = None

    def __enter__(self) -> RangeSpool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._router is not None:
            with contextlib.suppress(OSError):  # of files that nobody reads any more
                self._router.close()

    def append(self, batch: pa.RecordBatch) -> None:
        """Take rows of MANIFEST_SCHEMA."""
        if not len(batch):
            return
        landing = pc.is_null(batch.column("reason"))
        self.rows += len(batch)
        self.landing_rows += pc.sum(landing).as_py()
        self.landing_bytes += pc.sum(batch.column("size").filter(landing)).as_py() or 0
        batch = _without_empty_columns(batch)
        if self._router is not None:
            self._router.append(batch)
            return
        self._note_order(batch.column("key"))
        self._held.append(batch)
        self._held_bytes += batch.nbytes
        if self._held_bytes >= self._range_bytes:
            self._place_held()

    def finish(self) -> None:
        """No more rows come."""
        if self._cut_in_order and not self._in_order and self._router is None:
            self._place_held()
        if self._router is not None:
            self._router.close()

    @property
    def is_one_range(self) -> bool:
        """Whether all rows so far fit into memory as one range."""
        return self._router is None and not self._cut_in_order

    def ranges(self) -> Iterator[RangeRows]:
        """Every row of a finished spool, once: ranges by rising keys, no key in two of them.

        A range has at most range_bytes, or a single key as far as a sample can tell.
        """
        if self._router is not None:
            parts = self._small_enough(self._router.ranges)
        else:
            last = RangeRows.held(self._held, in_order=self._in_order)
            self._held = []
            parts = iter([*self._cut_in_order, last])
        yield from self._large_enough(parts)

    def _note_order(self, keys: pa.Array) -> None:
        if not self._in_order:
            return
        first, last = keys[0].as_py(), keys[-1].as_py()
        rising = pc.all(pc.less_equal(keys[:-1], keys[1:])).as_py() is not False
        self._in_order = rising and (self._last_key is None or self._last_key <= first)
        self._last_key = last

    def _place_held(self) -> None:
        """Write what is held into a range of its own, or begin to send rows to their ranges."""
        if not self._in_order:
            parts = [*self._cut_in_order, RangeRows.held(self._held)]
            self._cut_in_order, self._held = [], []
            self._router = self._route(parts, _splits(parts, RANGES))
            return
        # Rows of the last key may follow yet.
        held = joined(self._held)
        last_key = KeyRanges([held.column("key")[-1].as_py()])
        parts_of_it = dict(last_key.split(held))
        if 0 in parts_of_it:
            router = _Router(self._new_folder(), KeyRanges([]))
            router.append(parts_of_it[0])
            router.close()
            (part,) = router.ranges
            part.in_order = True
            self._cut_in_order.append(part)
        self._held = [parts_of_it[1]]
        self._held_bytes = parts_of_it[1].nbytes

    def _small_enough(self, parts: Iterable[RangeRows]) -> Iterator[RangeRows]:
        for part in parts:
            ranges = min(RANGES, 2 * -(-part.bytes // self._range_bytes))
            splits = _splits([part], ranges) if part.bytes > self._range_bytes else []
            if splits:
                router = self._route([part], splits)
                router.close()
                yield from self._small_enough(router.ranges)
            else:
                yield part

    def _large_enough(self, parts: Iterable[RangeRows]) -> Iterator[RangeRows]:
        pending = RangeRows(in_order=True)
        for part in parts:
            if not part.rows:
                continue
            if pending.rows and pending.bytes + part.bytes > min(JOINED_BYTES, self._range_bytes):
                yield pending
                pending = part
            else:
                pending = pending.join(part)
        if pending.rows:
            yield pending

    def _route(self, parts: Iterable[RangeRows], splits: Sequence[str]) -> _Router:
        router = _Router(self._new_folder(), KeyRanges(splits))
        for batch in gathered(itertools.chain.from_iterable(part.take() for part in parts)):
            router.append(batch)
        return router

    def _new_folder(self) -> Path:
        return self._folder / f"ranges-{next(self._names)}"


class _Router:
    """Sends rows to the files of their ranges, in a new folder."""

    def __init__(self, folder: Path, cut: KeyRanges) -> None:
        folder.mkdir()
        self.ranges = [RangeRows() for _ in range(cut.number)]
        self._folder = folder
        self._cut = cut
        self._schema = pa.schema([])
        """Columns that had a value so far."""
        self._edition = 0
        """Of the schema: each has files of its own."""
        self._open: dict[int, tuple[pa.ipc.RecordBatchStreamWriter, Any]] = {}

    def append(self, batch: pa.RecordBatch) -> None:
        names = {*self._schema.names, *batch.schema.names}
        if len(names) > len(self._schema):
            self.close()
            self._schema = pa.schema([one for one in MANIFEST_SCHEMA if one.name in names])
            self._edition += 1
        for number, rows in self._cut.split(with_columns(batch, self._schema)):
            self._writer(number).write_batch(rows)
            self.ranges[number].rows += len(rows)
            self.ranges[number].bytes += rows.nbytes

    def close(self) -> None:
        """Finish the files that are open; more rows would go to others."""
        while self._open:
            _, (writer, sink) = self._open.popitem()
            writer.close()
            sink.close()

    def _writer(self, number: int) -> pa.ipc.RecordBatchStreamWriter:
        if number not in self._open:
            path = self._folder / f"{number}-{self._edition}.arrow"
            sink = pa.BufferedOutputStream(pa.OSFile(str(path), "wb"), BUFFER_BYTES)
            self._open[number] = (pa.ipc.new_stream(sink, self._schema), sink)
            self.ranges[number].files.append(path)
        return self._open[number][0]


def _splits(parts: Sequence[RangeRows], ranges: int) -> list[str]:
    """Where to cut the keys of `parts` into so many ranges of like size; fewer if keys are few.

    Of a drawn sample: an order of rows that would betray every n-th of them does no harm.
    """
    draw = np.random.default_rng(ranges)
    share = ranges * SAMPLED / max(1, sum(part.rows for part in parts))
    sample: list[str] = []
    for keys in itertools.chain.from_iterable(part.keys() for part in parts):
        drawn = draw.integers(len(keys), size=1 + int(share * len(keys)))
        sample.extend(keys.take(pa.array(drawn)).to_pylist())
    sample.sort()
    cuts = {sample[place * len(sample) // ranges] for place in range(1, ranges)}
    # Nothing that was drawn is below the first key: it would cut nothing off.
    return sorted(cuts - {sample[0]})


def _read(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        yield from stream


def gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of about BATCH_BYTES: a listing's pages are far smaller."""
    pending: list[pa.RecordBatch] = []
    size = 0
    for batch in filter(len, batches):
        if not pending and BATCH_BYTES // 2 <= batch.nbytes <= BATCH_BYTES:
            yield batch
            continue
        pending.append(batch)
        size += batch.nbytes
        if size >= BATCH_BYTES:
            whole = joined(pending)
            for piece in range(pieces := size // BATCH_BYTES):
                start, end = (len(whole) * at // pieces for at in (piece, piece + 1))
                yield whole.slice(start, end - start)
            pending, size = [], 0
    if pending:
        yield joined(pending)


def joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """All rows in one batch, with each column that one of them has."""
    schema = pa.unify_schemas([batch.schema for batch in batches])
    return pa.concat_batches([with_columns(batch, schema) for batch in batches])


def _without_empty_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = zip(batch.schema.names, batch.columns, strict=True)
    return batch.select([name for name, column in columns if column.null_count < len(column)])


def with_columns(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with exactly the columns of `schema`; those that it lacks are null."""
    held = set(batch.schema.names)
    columns = [
        batch.column(one.name) if one.name in held else pa.nulls(len(batch), one.type)
        for one in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
