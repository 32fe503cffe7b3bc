from __future__ import annotations

from bisect import bisect_right

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.manifests.key_ranges import KeyRanges
from noria.manifests.key_words import KeyWords

# NULs at an end, characters of one to four bytes, and prefixes longer than a word.
keys = st.builds(
    str.__add__,
    st.sampled_from(["", "project-", "project-0001/study-", "\x00" * 9]),
    st.text("a\x00~é\uffee😀", max_size=10),
)


def expect_split(splits: list[str], found: list[str]) -> None:
    ranges = KeyRanges(splits)
    batch = pa.record_batch({"row": list(range(len(found))), "key": pa.array(found, pa.string())})
    expected = [bisect_right(splits, key) for key in found]
    assert ranges.of(batch.column("key")).tolist() == expected
    rows = {number: part.column("row").to_pylist() for number, part in ranges.split(batch)}
    assert list(rows) == sorted(set(expected))
    assert rows == {
        number: [row for row, held in enumerate(expected) if held == number] for number in rows
    }


@settings(deadline=None)
@given(st.sets(keys, max_size=12), st.lists(keys, max_size=40))
def test_a_key_is_in_the_range_that_its_bytes_say(splits: set[str], found: list[str]) -> None:
    expect_split(sorted(splits), [*found, *splits])


def test_many_ranges_below_one_long_prefix() -> None:
    prefix = "a/very/long/prefix/that/all/keys/share/"
    splits = [f"{prefix}{number:06}" for number in range(0, 4_000, 4)]
    expect_split(splits, [f"{prefix}{number * 7919 % 4_100:06}" for number in range(5_000)])


def test_a_slice_of_a_larger_column() -> None:
    column = pa.array(["z", "a", "b", "c", ""]).slice(1, 3)
    assert KeyRanges(["b"]).of(column).tolist() == [0, 1, 1]
    assert KeyWords(column).lengths.tolist() == [1, 1, 1]


def test_splits_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="rise"):
        KeyRanges(["b", "a"])
    with pytest.raises(ValueError, match="rise"):
        KeyRanges(["a", "a"])
