"""What a source holds now against what stands at the target: new, changed, unchanged, gone.

Both come sorted by key, and are walked through side by side: a range of the listing and a block of
the state are in memory at a time. Unchanged entries go no further: they cost no request. Gone ones
are written to gone.parquet beside the manifest; in a pass that mirrors deletions, those that this
migration wrote become rows of the manifest as well.

Two rows are of the same object if their size, ETag, version and time of modification are the same,
as far as both state them. Times are compared by the second: inventories and listings of one store
round them differently.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.count_text import count_text
from noria.manifests.errors import InventoryError
from noria.manifests.manifest.sorting import sort_order
from noria.manifests.manifest.writer import settle_file
from noria.manifests.model import Delta
from noria.manifests.passes.state import BLOCK_ROWS, STATE_SCHEMA, State, StateWalk
from noria.manifests.plan.filters import FILTERED
from noria.manifests.schema import MANIFEST_SCHEMA, PASS_MANIFEST_SCHEMA

GONE_FILE: Final = "gone.parquet"
GONE_SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("target_key", pa.string()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("source_etag", pa.string()),
        pa.field("target_etag", pa.string()),
        pa.field("written", pa.bool_(), nullable=False),
        pa.field("gone_since", pa.int32()),
    ]
)
"""Columns as in STATE_SCHEMA, sorted by key; gone_since is null for what this pass misses first.

What has no target_etag does not stand at the target: it is noted, and neither counted nor deleted.
"""

_WITHOUT_ROWS: Final = ("unchanged", "gone_before")
_PLANNED: Final = tuple(each for each in Delta if each is not Delta.GONE)
_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionRules:
    """What becomes at the target of objects that are gone at the source."""

    mirror: bool = False
    """They are deleted there, if this migration wrote them; else they are only listed."""
    share_max: float | None = None
    """Most of what stands that one pass may delete, from 0 to 1; None: any."""


class PassDelta:
    """Compares the rows of a listing with a state, as freeze() brings them."""

    schema: pa.Schema = PASS_MANIFEST_SCHEMA

    def __init__(
        self,
        state: State,
        rules: DeletionRules,
        folder: Path,
        *,
        by_content: bool = False,
        missing: Sequence[str] = (),
        damaged: Sequence[str] = (),
    ) -> None:
        """Writes gone.parquet into `folder`, which is the manifest's own as it is built.

        `by_content`: what a listing does not tell apart is told by the checksum of the whole object
        if the source states one, and else has to be compared byte by byte: Delta.CONTENT.
        `missing`: what was not found at the target, sorted by key; it is new again, if the source
        has it. `damaged`: what lies there with other bytes than were sent, sorted by key; it is
        sent again, and what this migration wrote gives way to it.
        """
        self._state = state
        self._by_content = by_content
        self._missing, self._damaged = _KeyWalk(missing), _KeyWalk(damaged)
        self._rules = rules
        self._walk = state.walk()
        self._counts = {name: [0, 0] for name in (*map(str, Delta), *_WITHOUT_ROWS)}
        self._to_delete = 0
        self._path = folder / GONE_FILE
        self._gone = pq.ParquetWriter(
            self._path, GONE_SCHEMA, compression="zstd", use_dictionary=False
        )

    def __enter__(self) -> PassDelta:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of a file that nobody will read, or one that is whole
            self._gone.close()

    def of(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The rows that this pass has to see to, PASS_MANIFEST_SCHEMA, in order.

        `batch` has MANIFEST_SCHEMA and follows on the last one, sorted, each key once. Rows
        come out in several batches of which some may be empty.
        """
        keys, start = batch.column("key"), 0
        for block in self._walk.through(keys[-1].as_py()):
            below = pc.less_equal(keys.slice(start), block["key"][-1].as_py())
            count = pc.sum(below, min_count=0).as_py()
            yield self._compared(batch.slice(start, count), block)
            start += count
        if start < len(batch):
            yield self._compared(batch.slice(start), STATE_SCHEMA.empty_table())

    def rest(self) -> Iterator[pa.RecordBatch]:
        """After the last batch: the rows that come of what stands beyond it."""
        empty = pa.RecordBatch.from_arrays(
            [pa.array([], one.type) for one in MANIFEST_SCHEMA], schema=MANIFEST_SCHEMA
        )
        for block in self._walk.rest():
            yield self._compared(empty, block)
        self._refuse_too_many()

    def facts(self) -> dict[str, Any]:
        """What manifest.json says of the pass, once no more rows come.

        Objects and bytes by Delta, and of those that have no row: unchanged, gone_before; zeros
        included.
        """
        self._gone.close()
        return {
            "delta": {
                name: {"objects": objects, "bytes": size}
                for name, (objects, size) in sorted(self._counts.items())
            },
            "gone": settle_file(self._path),
        }

    def _compared(self, batch: pa.RecordBatch, block: pa.Table) -> pa.RecordBatch:
        """Of rows and what stands, for one and the same stretch of keys."""
        stands = block.combine_chunks()
        is_current = _is_current(batch)
        is_filtered = pc.fill_null(pc.equal(batch.column("not_current"), FILTERED), False)
        place = _places(batch.column("key"), stands["key"])
        known = pc.and_(place.is_valid(), is_current)
        delta = _deltas(batch, stands, place)
        is_damaged = pc.and_(delta.is_null(), self._damaged.holds(batch.column("key")))
        delta = pc.if_else(is_damaged, Delta.DAMAGED.value, delta)
        if self._by_content:
            alike = pc.equal(batch.column("crc64nvme"), _one_chunk(stands["crc64nvme"]).take(place))
            untold = pc.and_(delta.is_null(), pc.invert(pc.fill_null(alike, False)))
            delta = pc.if_else(untold, Delta.CONTENT.value, delta)
        # A row that is not current any more is of an object that is gone.
        delta = pc.if_else(known, delta, Delta.NEW.value)
        delta = pc.if_else(
            is_missing := self._missing.holds(batch.column("key")), Delta.NEW.value, delta
        )
        unchanged = pc.and_(known, delta.is_null())
        found = pc.or_(known, pc.and_(place.is_valid(), is_filtered))
        gone = _missing(stands, place.filter(found))
        self._note_gone(gone)
        deleted = self._deletions(gone)
        leaves = pc.or_(unchanged, is_filtered)
        if len(deleted):
            leaves = pc.or_(leaves, pc.is_in(batch.column("key"), value_set=deleted.column("key")))
        self._count("unchanged", batch, unchanged)
        moves = pc.and_not(batch.column("reason").is_null(), leaves)
        for each in _PLANNED:
            self._count(each.value, batch, pc.and_(moves, pc.equal(delta, each.value)))
        stays = pc.invert(leaves)
        rows = _under_their_names(batch, stands, place).filter(stays)
        written = stands["written"].combine_chunks().take(place)
        target_etag = stands["target_etag"].combine_chunks().take(place)
        is_left = pc.and_not(pc.and_(known, pc.fill_null(written, False)), is_missing)
        replaces = pc.if_else(is_left, target_etag, None)
        columns = [*rows.columns, delta.filter(stays), replaces.filter(stays)]
        planned = pa.RecordBatch.from_arrays(columns, schema=PASS_MANIFEST_SCHEMA)
        if not len(deleted):
            return planned
        both = pa.concat_batches([planned, deleted])
        return both.take(pa.array(sort_order(both.column("key"))))

    def _note_gone(self, gone: pa.Table) -> None:
        if len(gone):
            self._gone.write_table(gone.select(GONE_SCHEMA.names).cast(GONE_SCHEMA))
            stands = gone.filter(gone["target_etag"].is_valid())
            first = stands["gone_since"].is_null()
            self._add(Delta.GONE.value, stands["size"].filter(first))
            self._add("gone_before", stands["size"].filter(pc.invert(first)))

    def _deletions(self, gone: pa.Table) -> pa.RecordBatch:
        """PASS_MANIFEST_SCHEMA: what is to be deleted."""
        is_mine = pc.and_(gone["written"], gone["target_etag"].is_valid())
        mine = gone.filter(is_mine) if self._rules.mirror else gone.slice(0, 0)
        self._to_delete += len(mine)
        stated = {
            "key": mine["key"],
            "target_key": mine["target_key"],
            "size": mine["size"],
            "etag": mine["source_etag"],
            "version_id": mine["source_version"],
            "last_modified": mine["modified"],
            "crc64nvme": mine["crc64nvme"],
            "delta": pa.repeat(Delta.GONE.value, len(mine)),
            "replaces": mine["target_etag"],
        }
        columns = [
            _one_chunk(stated[one.name]) if one.name in stated else pa.nulls(len(mine), one.type)
            for one in PASS_MANIFEST_SCHEMA
        ]
        return pa.RecordBatch.from_arrays(columns, schema=PASS_MANIFEST_SCHEMA)

    def _refuse_too_many(self) -> None:
        most, standing = self._rules.share_max, self._state.facts.objects
        if most is None or self._to_delete <= most * standing:
            return
        raise InventoryError(
            f"{self._to_delete:,} of {count_text(standing, 'object')} at the target are gone at "
            f"the source, and a pass deletes at most {most:.2%} of them: look at the source "
            "first; --yes deletes them all the same"
        )

    def _count(self, name: str, batch: pa.RecordBatch, which: pa.Array) -> None:
        self._add(name, batch.column("size").filter(which))

    def _add(self, name: str, sizes: pa.Array) -> None:
        counts = self._counts[name]
        counts[0] += len(sizes)
        counts[1] += pc.sum(sizes, min_count=0).as_py()


class _KeyWalk:
    """Some keys, sorted, that are looked up by rising keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._walk = StateWalk(
            pa.table({"key": pa.array(keys[at : at + BLOCK_ROWS], pa.string())})
            for at in range(0, len(keys), BLOCK_ROWS)
        )

    def holds(self, keys: pa.Array) -> pa.Array:
        """Whether each of the next keys, which are sorted, is one of them."""
        walk = self._walk.through(keys[-1].as_py()) if len(keys) else ()
        found = [chunk for table in walk for chunk in table["key"].chunks]
        if not found:
            return pa.array(np.zeros(len(keys), np.bool_))
        return pc.is_in(keys, value_set=pa.concat_arrays(found))


def _is_current(batch: pa.RecordBatch) -> pa.Array:
    return batch.column("not_current").is_null()


def _places(keys: pa.Array, standing: pa.ChunkedArray) -> pa.Array:
    """For each key its place among those that stand, which are sorted; null if it is none."""
    stand = _one_chunk(standing)
    if keys.equals(stand):  # as nearly always: most of a source does not change
        return pa.array(np.arange(len(keys), dtype=np.int32))
    return pc.index_in(keys, value_set=stand)


def _deltas(batch: pa.RecordBatch, stands: pa.Table, place: pa.Array) -> pa.Array:
    """How each row differs from what stands at its place; null if it does not."""

    def standing(name: str) -> pa.Array:
        return _one_chunk(stands[name]).take(place)

    def differs(now: pa.Array, then: pa.Array) -> pa.Array:
        return pc.fill_null(pc.not_equal(now, then), False)

    second = pa.timestamp("s", tz="UTC")
    times = (
        each.cast(second, safe=False)
        for each in (batch.column("last_modified"), standing("modified"))
    )
    names = pa.array([Delta.SIZE, Delta.ETAG, Delta.VERSION, Delta.MODIFIED], pa.string())
    return pc.case_when(
        pc.make_struct(
            differs(batch.column("size"), standing("size")),
            differs(batch.column("etag"), standing("source_etag")),
            differs(batch.column("version_id"), standing("source_version")),
            differs(*times),
        ),
        *names,
    )


def _under_their_names(batch: pa.RecordBatch, stands: pa.Table, place: pa.Array) -> pa.RecordBatch:
    """The rows, what stands under the names that it has at the target."""
    at = batch.schema.get_field_index("target_key")
    names = _one_chunk(stands["target_key"]).take(place)
    names = pc.if_else(place.is_valid(), names, batch.column(at))
    return batch.set_column(at, batch.schema.field(at), names)


def _missing(stands: pa.Table, found: pa.Array) -> pa.Table:
    """The rows that are at none of these places."""
    missing: _Flags = np.ones(len(stands), np.bool_)
    missing[found.to_numpy(zero_copy_only=False)] = False
    return stands.filter(pa.array(missing)) if missing.any() else stands.slice(0, 0)


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
