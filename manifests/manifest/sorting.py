"""The rows of one range of keys, sorted by the UTF-8 bytes of key, each key once; in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import JobDirectoryError
from noria.manifests.key_words import WORD_BYTES, Integers, KeyWords
from noria.manifests.schema import MANIFEST_SCHEMA

WORDS: Final = 8
"""Words by which keys are told apart, at most, behind what all of them begin with."""


@dataclass(slots=True)
class Dropped:
    """Rows that share the key of a row that was kept."""

    duplicates: int = 0
    """The same row again."""
    superseded: int = 0
    """Another current row, with an older Last-Modified than the one kept."""
    not_current: Counter[str] = field(default_factory=Counter)
    """By the row's `not_current`: versions and snapshots of a key that has a row already."""

    def add(self, other: Dropped) -> None:
        self.duplicates += other.duplicates
        self.superseded += other.superseded
        self.not_current.update(other.not_current)


def sort_order(keys: pa.Array) -> Integers:
    """The rows of `keys` in the order of their UTF-8 bytes; rows of equal keys in no order.

    Keys are compared as numbers, a word at a time, and only those that all words before left equal.
    What so many words do not tell apart, Arrow compares as a whole.
    """
    words = KeyWords(keys)
    order = np.arange(len(keys))
    depth = _common_bytes(keys)
    # Places in the order whose rows are not told apart yet, and the group of equals of each.
    places, groups = np.arange(len(keys)), np.zeros(len(keys), np.uint64)
    for _ in range(WORDS):
        if not len(places):
            return order
        # The number of the group comes first, then as many bytes of the key as there is room for.
        taken = WORD_BYTES - -(-int(groups[-1]).bit_length() // 8)
        values = words.at(depth, order[places])
        if taken < WORD_BYTES:
            values = groups << np.uint64(8 * taken) | values >> np.uint64(64 - 8 * taken)
        by_value = np.argsort(values)
        order[places] = order[places][by_value]
        values = values[by_value]
        new = np.append(True, values[1:] != values[:-1])
        tied = ~(new & np.append(new[1:], True))
        places = places[tied]
        groups = (np.cumsum(new[tied]) - 1).astype(np.uint64)
        depth += taken
    if len(places):
        rest = pa.table({"group": groups, "key": keys.take(pa.array(order[places]))})
        by_key = pc.sort_indices(rest, sort_keys=[("group", "ascending"), ("key", "ascending")])
        order[places] = order[places][by_key.to_numpy()]
    return order


def _common_bytes(keys: pa.Array) -> int:
    """How many bytes all keys begin with."""
    ends = pc.min_max(keys).as_py()
    if ends["min"] is None:
        return 0
    first, last = ends["min"].encode(), ends["max"].encode()
    shared = (place for place in range(len(first)) if first[: place + 1] != last[: place + 1])
    return next(shared, len(first))


def one_row_a_key(batch: pa.RecordBatch, dropped: Dropped) -> pa.RecordBatch:
    """One row for each key of a sorted batch; the others are counted in `dropped`.

    The current row with the newest Last-Modified is kept, else the newest row that is not current;
    if that does not decide, the other columns do, so that the order of the input never does.
    """
    keys = batch.column("key")
    rising = pc.less(keys[:-1], keys[1:])
    if pc.all(rising).as_py() is not False:
        return batch
    same = pc.equal(keys[:-1], keys[1:])
    if not pc.all(pc.or_(rising, same)).as_py():
        raise out_of_order()
    edge = pa.array([False])
    shared = pc.or_(pa.concat_arrays([edge, same]), pa.concat_arrays([same, edge]))
    rows = pc.indices_nonzero(shared)
    winners = _winners(
        pa.Table.from_batches([batch]).take(rows).append_column("row", rows), dropped
    )
    kept = pa.concat_arrays([pc.indices_nonzero(pc.invert(shared)), winners])
    return batch.take(kept.take(pc.sort_indices(kept)))


def out_of_order() -> JobDirectoryError:
    return JobDirectoryError(
        "the rows came out of the sort in disorder; plan again and report this"
    )


def _winners(groups: pa.Table, dropped: Dropped) -> pa.Array:
    """`row` of the row to keep for each key."""
    used = [name for name in MANIFEST_SCHEMA.names if groups[name].null_count < len(groups)]
    groups = groups.append_column("past", pc.is_valid(groups["not_current"]).cast(pa.int8()))
    order = [("key", "ascending"), ("past", "ascending"), ("last_modified", "descending")]
    rest = [(name, "ascending") for name in used if name not in ("key", "last_modified")]
    ordered = groups.sort_by(order + rest).combine_chunks()
    again = _equals_the_row_before(ordered, used)
    first = pc.invert(_equals_the_row_before(ordered, ["key"]))
    lost = ordered.filter(pc.invert(pc.or_(first, again)))["not_current"]
    dropped.duplicates += pc.sum(again).as_py()
    dropped.superseded += lost.null_count
    for count in pc.value_counts(lost.drop_null()).to_pylist():
        dropped.not_current[count["values"]] += count["counts"]
    return ordered.filter(first)["row"].combine_chunks()


def _equals_the_row_before(table: pa.Table, names: list[str]) -> pa.Array:
    equal = pa.repeat(True, len(table) - 1)
    for name in names:
        column = table[name].combine_chunks()
        one, other = column[:-1], column[1:]
        both_null = pc.and_(pc.is_null(one), pc.is_null(other))
        equal = pc.and_(equal, pc.or_(pc.fill_null(pc.equal(one, other), False), both_null))
    return pa.concat_arrays([pa.array([False]), equal])
