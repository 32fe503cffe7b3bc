"""Sums over time and by size: nothing is lost, however receipts come."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from noria.engine.report.timeline import MOST_SLOTS, Sizes, Timeline

YEAR_MS = 365 * 86_400_000
RECEIPTS = st.lists(
    st.lists(st.tuples(st.integers(0, YEAR_MS), st.integers(0, 2**50)), max_size=20), max_size=8
)


@given(RECEIPTS)
def test_every_receipt_is_in_the_slot_of_its_time(batches: list[list[tuple[int, int]]]) -> None:
    timeline = Timeline()
    for batch in batches:
        times, sizes = (np.array([each[k] for each in batch], np.int64) for k in (0, 1))
        timeline.add(times, sizes)
    slots = timeline.slots()
    receipts = [each for batch in batches for each in batch]
    assert [slot.begins for slot in slots] == sorted(slot.begins for slot in slots)
    assert len({slot.seconds for slot in slots}) <= 1
    if slots:
        assert slots[-1].begins - slots[0].begins < MOST_SLOTS * slots[0].seconds
    for slot in slots:
        end = slot.begins + slot.seconds
        held = [size for at, size in receipts if slot.begins <= at // 1000 < end]
        assert (slot.objects, slot.bytes) == (len(held), sum(held))
    assert sum(slot.objects for slot in slots) == len(receipts)


@given(st.lists(st.integers(0, 2**57), max_size=30))
def test_every_size_is_in_its_class(sizes: list[int]) -> None:
    found = Sizes()
    found.add(np.array(sizes, np.int64))
    classes = found.classes()
    assert sum(each.objects for each in classes) == len(sizes)
    for each in classes:
        held = [size for size in sizes if each.below // 2 <= size < each.below]
        assert (each.objects, each.bytes) == (len(held), sum(held))


def test_slots_are_as_short_as_the_time_permits() -> None:
    timeline = Timeline()
    timeline.add(np.array([0, 239_000], np.int64), np.array([1, 2], np.int64))
    assert [slot.seconds for slot in timeline.slots()] == [1, 1]
    timeline.add(np.array([240_000], np.int64), np.array([3], np.int64))
    assert {slot.seconds for slot in timeline.slots()} == {2}


@given(RECEIPTS)
def test_timelines_put_together_are_that_of_all_receipts(
    batches: list[list[tuple[int, int]]],
) -> None:
    together, whole = Timeline(), Timeline()
    sizes_together, sizes_of_all = Sizes(), Sizes()
    for batch in batches:
        times, sizes = (np.array([each[k] for each in batch], np.int64) for k in (0, 1))
        alone, alone_by_size = Timeline(), Sizes()
        for timeline in (alone, whole):
            timeline.add(times, sizes)
        for found in (alone_by_size, sizes_of_all):
            found.add(sizes)
        together.include(alone.slots())
        sizes_together.include(alone_by_size.classes())
    assert together.slots() == whole.slots()
    assert sizes_together.classes() == sizes_of_all.classes()
