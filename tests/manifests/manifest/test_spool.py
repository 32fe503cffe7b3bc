"""Rows on their way into key ranges, and the order within one."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.manifests.manifest import spool as spool_module
from noria.manifests.manifest.sorting import sort_order
from noria.manifests.manifest.spool import BATCH_BYTES, RangeRows, RangeSpool, gathered
from noria.manifests.schema import MANIFEST_SCHEMA

ROWS = 200_000
RANGE_BYTES = 500_000
WITHOUT_ETAG = 60_000

keys = st.builds(
    str.__add__,
    st.sampled_from(["", "project-", "x" * 100, "\x00" * 9]),
    st.text("a\x00~é\uffee😀", max_size=10),
)


@settings(deadline=None)
@given(st.lists(keys, min_size=1, max_size=60))
def test_the_order_is_that_of_utf8_bytes(found: list[str]) -> None:
    column = pa.array(["before", *found], pa.string()).slice(1)
    order = sort_order(column)
    assert sorted(order.tolist()) == list(range(len(found)))
    assert column.take(pa.array(order)).to_pylist() == sorted(found, key=str.encode)


def test_a_long_column_of_keys_with_much_in_common() -> None:
    draw = random.Random(3)
    found = [
        f"project-{draw.randrange(40):04}/study-{draw.randrange(9):03}/{draw.randrange(5_000):032}"
        for _ in range(50_000)
    ]
    column = pa.array(found)
    assert column.take(pa.array(sort_order(column))).to_pylist() == sorted(found)


def rows_of(found: list[str], *, step: int = 10_000) -> Iterable[pa.RecordBatch]:
    """Rows of these keys, numbered by `size`; the first of them have no etag."""
    for start in range(0, len(found), step):
        part = found[start : start + step]
        columns = {one.name: pa.nulls(len(part), one.type) for one in MANIFEST_SCHEMA}
        columns["key"] = pa.array(part, pa.string())
        columns["size"] = pa.array(range(start, start + len(part)), pa.int64())
        if start >= WITHOUT_ETAG:
            columns["etag"] = columns["key"]
        yield pa.RecordBatch.from_arrays(list(columns.values()), schema=MANIFEST_SCHEMA)


def spooled(folder: Path, found: list[str]) -> list[tuple[RangeRows, pa.Table]]:
    """The ranges and what they held, once it is known that they hold every row in its place."""
    folder.mkdir()
    with RangeSpool(folder, RANGE_BYTES) as spool:
        for batch in rows_of(found):
            spool.append(batch)
        spool.finish()
        assert spool.rows == spool.landing_rows == len(found)
        ranges = []
        for part in spool.ranges():
            tables = [pa.Table.from_batches([batch]) for batch in part.take()]
            ranges.append((part, pa.concat_tables(tables, promote_options="default")))
    assert not [path for path in folder.rglob("*") if path.is_file()], "what was read is removed"
    last = ""
    numbers = []
    for part, rows in ranges:
        assert part.rows == len(rows)
        held = rows["key"].to_pylist()
        assert last == "" or last < min(held), "no key is in two ranges"
        last = max(held)
        assert not part.in_order or held == sorted(held)
        numbers += rows["size"].to_pylist()
        assert held == [found[number] for number in rows["size"].to_pylist()]
        has_etag = [number >= WITHOUT_ETAG for number in rows["size"].to_pylist()]
        if "etag" in rows.schema.names:
            assert rows["etag"].is_valid().to_pylist() == has_etag
        else:
            assert not any(has_etag)
    assert sorted(numbers) == list(range(len(found)))
    return ranges


def numbered_keys() -> list[str]:
    return [f"folder/{number:09}" for number in range(ROWS)]


@functools.cache
def orders() -> dict[str, list[str]]:
    draw = random.Random(7)
    rising = numbered_keys()
    third = ROWS // 3
    return {
        "random": draw.sample(rising, ROWS),
        "falling": rising[::-1],
        "files in order": [*rising[third:], *rising[:third]],
        "many files in order": sorted(rising, key=lambda key: key[-2:]),
        "in order but for the last": [*rising[1:], rising[0]],
        "from the middle outwards": [
            rising[ROWS // 2 + (at // 2 if at % 2 else -1 - at // 2)] for at in range(ROWS)
        ],
        # A sample of the first rows says nothing about the others.
        "a cluster last": [
            *draw.sample(rising[:third], third),
            *draw.sample(
                [f"{rising[0]}/{number:09}" for number in range(ROWS - third)], ROWS - third
            ),
        ],
        "long common beginnings": draw.sample([f"{'d/' * 60}{key}" for key in rising], ROWS),
    }


@pytest.mark.parametrize("order", sorted(orders()))
def test_no_range_is_too_large_whatever_the_order(tmp_path: Path, order: str) -> None:
    ranges = spooled(tmp_path / "spool", orders()[order])
    assert max(part.bytes for part, _ in ranges) <= RANGE_BYTES
    # None is so small that its fixed price counts.
    total = sum(part.bytes for part, _ in ranges)
    assert len(ranges) < 8 * total / RANGE_BYTES
    assert not any(part.in_order for part, _ in ranges)


def test_rows_in_order_are_not_sorted_and_written_once(tmp_path: Path) -> None:
    found = sorted(numbered_keys() + numbered_keys()[::7])
    ranges = spooled(tmp_path / "spool", found)
    assert all(part.in_order for part, _ in ranges)
    assert len(ranges) > 5


def test_one_key_is_in_one_range_however_many_rows_it_has(tmp_path: Path) -> None:
    heavy = ["m"] * 60_000
    rising = [*numbered_keys()[:20_000], *heavy, *(f"z{number:09}" for number in range(20_000))]
    for name, found in (
        ("rising", rising),
        ("random", random.Random(1).sample(rising, len(rising))),
        ("alone", heavy),
        ("first", [*heavy, "a"]),
    ):
        ranges = spooled(tmp_path / name, found)
        assert sum("m" in rows["key"].to_pylist() for _, rows in ranges) == 1


def test_few_rows_touch_no_disk(tmp_path: Path) -> None:
    with RangeSpool(tmp_path, RANGE_BYTES) as spool:
        for batch in rows_of(["b", "a", "c"], step=2):
            spool.append(batch)
        spool.finish()
        assert list(tmp_path.iterdir()) == []
        (part,) = spool.ranges()
    assert (part.rows, part.in_order) == (3, False)


def test_batches_are_gathered_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "BATCH_BYTES", 1_000)
    numbers = pa.record_batch({"n": np.arange(10_000)})
    small = [numbers.slice(at, 7) for at in range(0, 10_000, 7)]
    for batches in (small, [numbers], [numbers.slice(0, 0), numbers]):
        found = list(gathered(batches))
        assert pa.Table.from_batches(found)["n"].to_pylist() == list(range(10_000))
        assert all(500 <= batch.nbytes < 2_000 for batch in found[:-1])
    assert BATCH_BYTES > 1_000
