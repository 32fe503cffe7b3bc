"""Which receipts of all passes a state rests on: the others have been put out of date since.

One walk through the state serves all passes. The rows of the largest pass are held against its
receipts as they are read; those of the others go to scratch, apart by passes, and are held against
theirs afterwards. So memory goes by a block of the state and a result of a lease, however many
passes there are.

What a way back moved has receipts there alone, whose ends are exchanged. It follows on the pass
after which it was begun: what no receipt of that pass explains is looked for in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.access import make_folders
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.read_backs import JobReadBack
from noria.manifests.job.receipt_check import sealed_rows
from noria.manifests.job.receipts import LANDED
from noria.manifests.job.results import PLACES_SCHEMA
from noria.manifests.job.routed_rows import ROUTING_COLUMN, RoutedRows
from noria.manifests.key_ranges import KeyRanges
from noria.manifests.manifest.reader import Manifest
from noria.manifests.manifest.sorting import sort_order
from noria.manifests.passes.state import BLOCK_ROWS, State, StateWalk, state_errors

ROWS_TOGETHER: Final = 8 * BLOCK_ROWS
"""Rows of a state that go to scratch at a time: a file of each pass among them is opened for it."""
RANGES_MAX: Final = 1_024
_STOOD: Final = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("name", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("version", pa.string()),
    ]
)
"""What stands: its name at the source and at the target, and what the target said of it."""
_BY_PASS: Final = pa.schema([pa.field(ROUTING_COLUMN, pa.string()), *_STOOD])
_BY_NAME: Final = pa.schema([pa.field(ROUTING_COLUMN, pa.string()), *_STOOD])
_Left = Callable[[pa.Table], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """The receipts of one job of a migration."""

    job: JobReadBack
    directory: JobDirectory
    manifest: Manifest
    number: int
    """The pass that a state has for what they say; of a way back, the one that it followed."""


@dataclass(slots=True)
class StandingCount:
    """What of a job's receipts stands."""

    objects: int = 0
    bytes: int = 0
    shards: set[int] = field(default_factory=set)
    """Shards with such a receipt, by their numbers in the job."""


def find_standing(
    state: State, jobs: Sequence[Receipts], home: JobDirectory, area: str, scratch: Path
) -> list[StandingCount]:
    """What stands by each of these jobs; the rest is written where their ReadBacks say.

    Ways back come in order. `scratch` is a folder that is removed by the caller. Raises
    JobDirectoryError, and OSError if scratch cannot be written.
    """
    forward = {each.number: each for each in jobs if not each.job.is_way_back}
    back = [each for each in jobs if each.job.is_way_back]
    largest = max(forward, key=lambda number: forward[number].manifest.objects)
    spool = _Spool(scratch / "passes", forward.keys() - {largest})
    left = {each.number: _LeftRows(scratch / f"left-{each.number}", state) for each in back}
    found = dict[int, StandingCount]()

    def match(of: Receipts, stood: Iterator[pa.Table], leave: _Left | None) -> None:
        with _SupersededFile(home, of.job.superseded_name(area)) as file:
            found[of.job.first_shard] = _matched(of, stood, file, leave)

    for number in (largest, *sorted(forward.keys() - {largest})):
        is_largest = number == largest
        stood = _apart(state, number, spool) if is_largest else spool.rows(number)
        match(forward[number], stood, left[number].append if number in left else None)
    for each in reversed(back):  # what it moved last counts
        rest = _LeftRows(scratch / f"left-{each.number}-{each.job.first_shard}", state)
        match(each, left[each.number].in_order(), rest.append)
        left[each.number] = rest
    return [found[each.job.first_shard] for each in jobs]


def _apart(state: State, number: int, spool: _Spool) -> Iterator[pa.Table]:
    """The rows of one pass, as a walk through all comes to them; the others' go to the spool."""
    columns = ["key", "target_key", "target_etag", "target_version", "pass"]
    for block in state.blocks(columns):
        stood = pa.table(
            [
                block["key"],
                pc.coalesce(block["target_key"], block["key"]),
                block["target_etag"],
                block["target_version"],
            ],
            schema=_STOOD,
        )
        is_own = pc.equal(block["pass"], number)
        if not pc.all(is_own).as_py():
            others = pc.invert(is_own)
            spool.append(stood.filter(others), block["pass"].filter(others))
        own = stood.filter(is_own)
        if len(own):
            yield own
    spool.flush()


def _matched(
    of: Receipts, stood: Iterator[pa.Table], file: _SupersededFile, leave: _Left | None
) -> StandingCount:
    """Hold receipts against what stands by their pass, both sorted by key.

    `leave` is given the rows that none of them explains.
    """
    end = "source" if of.job.is_way_back else "target"
    columns = ["outcome", "size", f"{end}_etag", f"{end}_version"]
    walk, found = StateWalk(stood), StandingCount()
    for shard, _, receipts in sealed_rows(of.directory, of.manifest, columns):
        blocks = list(walk.through(receipts["key"][-1].as_py()))
        rows = pa.concat_tables(blocks).combine_chunks() if blocks else _STOOD.empty_table()
        place = pc.index_in(receipts["key"], value_set=rows["key"].combine_chunks())
        landed = pc.is_in(receipts["outcome"], value_set=LANDED)
        stands = pc.and_(
            pc.and_(landed, _are_same(receipts[f"{end}_etag"], rows["etag"], place)),
            _are_same(_stated(receipts[f"{end}_version"]), _stated(rows["version"]), place),
        )
        file.append(shard, receipts["row"].filter(pc.and_not(landed, stands)))
        sizes = receipts["size"].filter(stands)
        if len(sizes):
            found.objects += len(sizes)
            found.bytes += pc.sum(sizes).as_py()
            found.shards.add(shard)
        if leave is not None and len(sizes) < len(rows):
            is_left = np.ones(len(rows), np.bool_)
            is_left[place.filter(stands).to_numpy()] = False
            leave(rows.filter(pa.array(is_left)))
    for rows in walk.rest():
        if leave is not None:
            leave(rows)
    return found


def _are_same(stated: pa.ChunkedArray, standing: pa.ChunkedArray, place: pa.Array) -> pa.Array:
    """Whether each is what stands at its place; False if nothing does."""
    if not len(standing):
        return pa.chunked_array([pa.array(np.zeros(len(stated), np.bool_))])
    return pc.fill_null(pc.equal(stated, standing.combine_chunks().take(place)), False)


def _stated(versions: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(versions, "")


class _SupersededFile:
    """PLACES_SCHEMA, written in groups that a lease can pick its own from; a context manager.

    It is published if its block ends well.
    """

    def __init__(self, home: JobDirectory, name: str) -> None:
        self._home, self._name = home, name
        path = home.path(name)
        self._scratch = path.with_name(f".{path.name}")
        with state_errors(path):
            make_folders(path.parent)
            self._writer = pq.ParquetWriter(self._scratch, PLACES_SCHEMA, compression="zstd")
        self._pending: list[pa.Table] = []
        self._pending_rows = 0

    def __enter__(self) -> _SupersededFile:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        with state_errors(self._scratch):
            if error is None:
                self._write()
            self._writer.close()
        if error is None:
            self._home.publish(self._scratch, self._name)

    def append(self, shard: int, rows: pa.ChunkedArray) -> None:
        if not len(rows):
            return
        shards = pa.repeat(pa.scalar(shard, pa.int32()), len(rows))
        self._pending.append(pa.table([shards, rows], schema=PLACES_SCHEMA))
        self._pending_rows += len(rows)
        if self._pending_rows >= BLOCK_ROWS:
            with state_errors(self._scratch):
                self._write()

    def _write(self) -> None:
        if self._pending:
            self._writer.write_table(pa.concat_tables(self._pending))
        self._pending, self._pending_rows = [], 0


class _Spool:
    """Rows of a state on scratch, apart by passes; those of other passes than these are dropped."""

    def __init__(self, folder: Path, numbers: Collection[int]) -> None:
        self._numbers = sorted(numbers)
        self._wanted = pa.array(self._numbers, pa.int32())
        splits = [_text(number) for number in self._numbers[1:]]
        self._rows = RoutedRows(folder, _BY_PASS, KeyRanges(splits))
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0

    def append(self, stood: pa.Table, numbers: pa.ChunkedArray) -> None:
        is_wanted = pc.is_in(numbers, value_set=self._wanted)
        stood, numbers = stood.filter(is_wanted), numbers.filter(is_wanted)
        texts = pc.utf8_lpad(pc.cast(numbers, pa.string()), _DIGITS, "0")
        rows = pa.table([texts, *stood.columns], schema=_BY_PASS)
        self._held += rows.combine_chunks().to_batches()
        self._held_rows += len(rows)
        if self._held_rows >= ROWS_TOGETHER:
            self.flush()

    def flush(self) -> None:
        self._rows.append(self._held)
        self._held, self._held_rows = [], 0

    def rows(self, number: int) -> Iterator[pa.Table]:
        """Of a pass, in order. They are gone once all were read."""
        place = self._numbers.index(number)
        for batch in self._rows.batches(place):
            yield pa.Table.from_batches([batch]).select(_STOOD.names)
        self._rows.drop(place)


_DIGITS: Final = 10


def _text(number: int) -> str:
    return f"{number:0{_DIGITS}d}"


class _LeftRows:
    """Rows that no receipt of their pass explains: what a way back may have moved."""

    def __init__(self, folder: Path, state: State) -> None:
        self._folder, self._state = folder, state
        self._rows: RoutedRows | None = None

    def append(self, rows: pa.Table) -> None:
        if self._rows is None:
            self._rows = RoutedRows(self._folder, _BY_NAME, self._state.ranges(RANGES_MAX))
        columns = [rows["name"], *rows.columns]
        self._rows.append(pa.table(columns, schema=_BY_NAME).combine_chunks().to_batches())

    def in_order(self) -> Iterator[pa.Table]:
        """By their names at the target, which are the keys of a way back."""
        if self._rows is None:
            return
        for number in range(self._rows.ranges.number):
            if self._rows.nbytes[number]:
                table = self._rows.read(number)
                table = table.take(pa.array(sort_order(table["name"].combine_chunks())))
                self._rows.drop(number)
                columns = [table[name] for name in ("name", "name", "etag", "version")]
                yield pa.table(columns, schema=_STOOD)
