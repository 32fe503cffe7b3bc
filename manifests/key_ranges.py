"""Key space, cut into ranges: which range a key is in, for whole columns of keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa

from noria.manifests.key_words import WORD_BYTES, Integers, KeyWords, Words


class KeyRanges:
    """Key space, cut at split points, in UTF-8 byte order.

    Range 0 is below the first split, range N begins with split N - 1 itself. Threads may share it.
    """

    def __init__(self, splits: Sequence[str]) -> None:
        """`splits` rise. Raises ValueError if they do not."""
        # Python's order of strings, by code points, is that of their UTF-8 bytes.
        if any(one >= other for one, other in pairwise(splits)):
            raise ValueError("split points must rise")
        self.splits = tuple(splits)
        words = KeyWords(pa.array(self.splits, pa.string()))
        depths = range(0, int(words.lengths.max(initial=0)), WORD_BYTES)
        self._lengths = words.lengths.astype(np.uint64)
        self._words = [(depth, words.at(depth)) for depth in depths]

    @property
    def number(self) -> int:
        """How many ranges there are: one more than splits."""
        return len(self.splits) + 1

    def of(self, keys: pa.Array) -> Integers:
        """The number of each key's range; keys are strings without nulls."""
        words = KeyWords(keys)
        # Each key is above the splits before `low` and below those from `high` on.
        low = np.zeros(len(keys), np.int64)
        high = np.full(len(keys), len(self.splits), np.int64)
        rows = np.flatnonzero(low < high)
        for depth, at_splits in self._words:
            wanted = words.at(depth, rows)
            first = _search(at_splits, wanted, low[rows], high[rows], "left")
            behind = _search(at_splits, wanted, first, high[rows], "right")
            low[rows], high[rows] = first, behind
            rows = rows[first < behind]
        # What is left is as the splits that it is held against, but for NULs at the end.
        lengths = words.lengths[rows].astype(np.uint64)
        low[rows] = _search(self._lengths, lengths, low[rows], high[rows], "right")
        return low

    def split(
        self, batch: pa.RecordBatch, column: str = "key"
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The rows of each range that has any, by rising number; within a range, order is kept."""
        ranges = self.of(batch.column(column))
        if np.any(ranges[1:] < ranges[:-1]):
            # A stable sort of small integers takes one pass for each of their bytes.
            order = np.argsort(ranges.astype(np.min_scalar_type(self.number)), kind="stable")
            batch, ranges = batch.take(pa.array(order)), ranges[order]
        edges = np.append(np.flatnonzero(np.diff(ranges, prepend=-1)), len(ranges))
        for start, end in pairwise(edges.tolist()):
            yield int(ranges[start]), batch.slice(start, end - start)


def _search(
    values: Words, wanted: Words, low: Integers, high: Integers, side: Literal["left", "right"]
) -> Integers:
    """For each wanted value, where it belongs in values[low:high], which rise.

    Left of the values that are equal to it, or right of them.
    """
    if not len(wanted):
        return low
    if low.min() == low.max() and high.min() == high.max():
        whole = slice(int(low[0]), int(high[0]))
        return low + np.searchsorted(values[whole], wanted, side)
    low, high = low.copy(), high.copy()
    is_before = np.less if side == "left" else np.less_equal
    while np.any(undecided := low < high):
        middle = (low + high) >> 1
        before = is_before(values[np.minimum(middle, len(values) - 1)], wanted)
        low = np.where(undecided & before, middle + 1, low)
        high = np.where(undecided & ~before, middle, high)
    return low
