"""How much landed when, and of which sizes: sums over any number of receipts, of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from noria.engine.estimate.counts import bit_lengths

MOST_SLOTS = 240
"""Of a timeline: a picture has no room for more."""
FIRST_SECONDS = 1
"""Length of a slot, until receipts are further apart than MOST_SLOTS of them."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSlot:
    """What landed in a stretch of time."""

    begins: int
    """Unix time in seconds."""
    seconds: int
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedObjects:
    """Objects that landed with at least half as many bytes as `below`, and with fewer than it."""

    below: int
    """A power of two; 1: empty objects."""
    objects: int
    bytes: int


class Timeline:
    """Sums by time; slots become twice as long whenever there would be too many."""

    def __init__(self) -> None:
        self._seconds = FIRST_SECONDS
        self._sums: dict[int, tuple[int, int]] = {}
        """Number of the slot, counted from 1970 -> objects and bytes."""

    def add(self, finished_ms: Numbers, sizes: Numbers) -> None:
        """Receipts, given by column, in any order."""
        if not len(finished_ms):
            return
        seconds = finished_ms // 1000
        first = min([int(seconds.min()) // self._seconds, *self._sums])
        last = max([int(seconds.max()) // self._seconds, *self._sums])
        while last - first >= MOST_SLOTS:
            self._double()
            first, last = first // 2, last // 2
        numbers, places = np.unique(seconds // self._seconds, return_inverse=True)
        objects = np.bincount(places)
        amounts = np.zeros(len(numbers), np.int64)
        np.add.at(amounts, places, sizes)
        for number, count, amount in zip(
            numbers.tolist(), objects.tolist(), amounts.tolist(), strict=True
        ):
            before = self._sums.get(number, (0, 0))
            self._sums[number] = (before[0] + count, before[1] + amount)

    def include(self, slots: Sequence[TimeSlot]) -> None:
        """What another timeline has: no receipt is read again, and no sum loses precision."""
        if not slots:
            return
        while self._seconds < slots[0].seconds:
            self._double()
        for slot in slots:
            number = slot.begins // self._seconds
            objects, amount = self._sums.get(number, (0, 0))
            self._sums[number] = (objects + slot.objects, amount + slot.bytes)
        while max(self._sums) - min(self._sums) >= MOST_SLOTS:
            self._double()

    def _double(self) -> None:
        self._seconds *= 2
        sums: dict[int, tuple[int, int]] = {}
        for number, (objects, amount) in self._sums.items():
            before = sums.get(number // 2, (0, 0))
            sums[number // 2] = (before[0] + objects, before[1] + amount)
        self._sums = sums

    def slots(self) -> list[TimeSlot]:
        """In order, those without anything left out."""
        return [
            TimeSlot(
                begins=number * self._seconds,
                seconds=self._seconds,
                objects=objects,
                bytes=amount,
            )
            for number, (objects, amount) in sorted(self._sums.items())
        ]


class Sizes:
    """Sums by size class."""

    def __init__(self) -> None:
        self._objects = np.zeros(65, np.int64)
        self._bytes = np.zeros(65, np.int64)

    def add(self, sizes: Numbers) -> None:
        bits = bit_lengths(sizes)
        np.add.at(self._objects, bits, 1)
        np.add.at(self._bytes, bits, sizes)

    def include(self, classes: Iterable[SizedObjects]) -> None:
        """What others' sums have."""
        for each in classes:
            bits = each.below.bit_length() - 1
            self._objects[bits] += each.objects
            self._bytes[bits] += each.bytes

    def classes(self) -> list[SizedObjects]:
        """From the smallest to the largest that there is, those between without any included."""
        found = np.flatnonzero(self._objects)
        if not len(found):
            return []
        return [
            SizedObjects(
                below=2**bits, objects=int(self._objects[bits]), bytes=int(self._bytes[bits])
            )
            for bits in range(int(found[0]), int(found[-1]) + 1)
        ]
