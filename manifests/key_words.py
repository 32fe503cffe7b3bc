"""The bytes of keys as numbers, eight at a time, so that NumPy compares them a column at a time."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

WORD_BYTES: Final = 8

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

_MASKS: Final[Words] = np.array(
    [(1 << 64) - (1 << 64 - 8 * kept) for kept in range(WORD_BYTES + 1)], np.uint64
)
"""By how many bytes of a word belong to the key, from its front."""


class KeyWords:
    """Words of each key of an array of strings without nulls.

    A word is eight bytes, the first of them the most significant, with zeros behind the key's end.
    So words compare as the bytes do, except that NULs at a key's end count for nothing.
    """

    def __init__(self, keys: pa.Array) -> None:
        _, offsets, data = keys.buffers()
        if len(keys):
            ends = np.frombuffer(offsets, np.int32)[keys.offset : keys.offset + len(keys) + 1]
        else:
            ends = np.zeros(1, np.int32)
        first, end = int(ends[0]), int(ends[-1])
        self._starts: Integers = ends[:-1].astype(np.int64) - first
        self.lengths: Integers = np.diff(ends).astype(np.int64)
        """Of each key, in bytes."""
        held = np.zeros(end - first + WORD_BYTES, np.uint8)
        if end > first:
            held[: end - first] = np.frombuffer(data, np.uint8)[first:end]
        self._last = end - first
        # A word begins at every byte: they overlap.
        self._words = np.ndarray((self._last + 1,), ">u8", held, strides=(1,))

    def at(self, depth: int, rows: Integers | None = None) -> Words:
        """The word that begins at byte `depth` of each key, or of those of `rows`."""
        starts = self._starts if rows is None else self._starts[rows]
        lengths = self.lengths if rows is None else self.lengths[rows]
        words = self._words[np.minimum(starts + depth, self._last)].astype(np.uint64)
        words &= _MASKS[np.clip(lengths - depth, 0, WORD_BYTES)]
        return words
