"""A set of units as runs: a billion units take little memory if few of them are alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Runs:
    """A set of whole numbers, kept as sorted runs [first, end) that do not touch each other."""

    __slots__ = ("_ends", "_firsts", "size")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        self.size = 0
        """How many numbers are in the set."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._ends, strict=True)

    def add(self, first: int, end: int) -> int:
        """Put [first, end) in; how many of these were not in the set before."""
        if end <= first:
            return 0
        low = bisect_left(self._ends, first)
        high = bisect_right(self._firsts, end)
        taken = sum(self._ends[n] - self._firsts[n] for n in range(low, high))
        if low < high:
            first, end = min(first, self._firsts[low]), max(end, self._ends[high - 1])
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]
        self.size += end - first - taken
        return end - first - taken

    def gaps(self, first: int, end: int) -> list[tuple[int, int]]:
        """The runs of [first, end) that are not in the set."""
        found = []
        at = bisect_right(self._ends, first)
        while first < end and at < len(self._firsts) and self._firsts[at] < end:
            if first < self._firsts[at]:
                found.append((first, self._firsts[at]))
            first = self._ends[at]
            at += 1
        if first < end:
            found.append((first, end))
        return found

    def meets(self, first: int, end: int) -> bool:
        """Whether any number of [first, end) is in the set."""
        at = bisect_right(self._ends, first)
        return at < len(self._firsts) and self._firsts[at] < end and first < end
