"""What landed by receipt against what a listing of the target shows, for one range of names.

Every entry that landed is listed under its target key with its size and ETag; no two landed under
one key; and nothing else is listed but folder marks: objects without bytes whose names end in "/".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.job.differences import CANARY, GONE_AT_BOTH, differences, one_of_each

LANDED_SCHEMA = pa.schema(
    [
        pa.field("target_key", pa.string()),
        pa.field("key", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("gone", pa.bool_()),
    ]
)
"""Of receipts; `key` is null if it is the same as the target key.

`gone` says that the source no longer has it: then the target need not. Null is false.
"""
LISTED_SCHEMA = pa.schema([LANDED_SCHEMA.field(name) for name in ("target_key", "size", "etag")])

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPattern:
    """How objects are known that a probe has written."""

    name: str | None
    """A regular expression for whole names below the target's prefix; None: there are none."""
    largest_bytes: int


def check_target(landed: pa.Table, listed: pa.Table, canaries: CanaryPattern) -> pa.Table:
    """All differences. Names may come in any order, and more than once."""
    if _names_are_the_same(landed, listed):
        return _of_landed("differing", landed.filter(_differ(landed, listed)))
    names = pa.chunked_array(
        [*landed["target_key"].chunks, *listed["target_key"].chunks], pa.string()
    )
    encoded = names.combine_chunks().dictionary_encode()
    of_landed, of_listed = np.split(encoded.indices.to_numpy(), [len(landed)])
    times_landed = np.bincount(of_landed, minlength=len(encoded.dictionary))
    times_listed = np.bincount(of_listed, minlength=len(encoded.dictionary))
    found = [
        _missing(_chosen(landed, times_listed[of_landed] == 0)),
        _differing(landed, listed, of_landed, of_listed, times_landed),
        _merged(_chosen(landed, times_landed[of_landed] > 1)),
        _extra(_chosen(listed, times_landed[of_listed] == 0), canaries),
    ]
    return pa.concat_tables(found)


def _names_are_the_same(landed: pa.Table, listed: pa.Table) -> bool:
    """Whether both have the same names in the same order, each once: as nearly always."""
    names, others = (table["target_key"].combine_chunks() for table in (landed, listed))
    if not names.equals(others):
        return False
    ascends = pc.less(names.slice(0, max(0, len(names) - 1)), names.slice(1))
    return bool(pc.all(ascends, min_count=0).as_py())


def _differ(landed: pa.Table, listed: pa.Table) -> pa.ChunkedArray:
    """Whether the sizes or ETags of two rows are not the same."""
    return pc.or_(*(_is_distinct(landed[name], listed[name]) for name in ("size", "etag")))


def _differing(
    landed: pa.Table,
    listed: pa.Table,
    of_landed: _Integers,
    of_listed: _Integers,
    times_landed: _Integers,
) -> pa.Table:
    """Pairs of one name whose sizes or ETags are not the same."""
    by_name = np.argsort(of_landed, kind="stable")  # in order already, if each landed once
    begins = np.cumsum(times_landed) - times_landed
    pairs = times_landed[of_listed]
    listed_rows = np.repeat(np.arange(len(of_listed)), pairs)
    nth = np.arange(len(listed_rows)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    landed_rows = by_name[begins[of_listed[listed_rows]] + nth]
    compared = ["size", "etag"]
    differ = _differ(
        landed.select(compared).take(landed_rows), listed.select(compared).take(listed_rows)
    )
    return _of_landed("differing", landed.take(landed_rows[differ.to_numpy()]))


def _is_distinct(one: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether two values differ; null is a value like another one."""
    both_null = pc.and_(pc.is_null(one), pc.is_null(other))
    return pc.invert(pc.or_(both_null, pc.fill_null(pc.equal(one, other), False)))


def _missing(landed: pa.Table) -> pa.Table:
    what = pc.if_else(pc.fill_null(landed["gone"], False), GONE_AT_BOTH, "missing")
    return differences(what, _keys(landed), landed["target_key"])


def _merged(landed: pa.Table) -> pa.Table:
    """Each target key of these once, with the least of its keys."""
    once = one_of_each(_keys(landed), by=landed["target_key"])
    return differences("merged", once["name"], once["by"])


def _extra(listed: pa.Table, canaries: CanaryPattern) -> pa.Table:
    names, size = listed["target_key"], listed["size"]
    is_mark = pc.and_(
        pc.fill_null(pc.less_equal(size, 0), False),
        pc.or_(pc.equal(names, ""), pc.ends_with(names, "/")),
    )
    listed = listed.filter(pc.invert(is_mark))
    names, size = listed["target_key"], listed["size"]
    if canaries.name is None:
        return differences("extra", target_key=names)
    is_canary = pc.and_(
        pc.fill_null(pc.less_equal(size, canaries.largest_bytes), False),
        pc.match_substring_regex(names, rf"(?s)\A(?:{canaries.name})\z"),
    )
    return differences(pc.if_else(is_canary, CANARY, "extra"), target_key=names)


def _of_landed(what: str, landed: pa.Table) -> pa.Table:
    return differences(what, _keys(landed), landed["target_key"])


def _keys(landed: pa.Table) -> pa.ChunkedArray:
    return pc.coalesce(landed["key"], landed["target_key"])


def _chosen(rows: pa.Table, which: npt.NDArray[np.bool_]) -> pa.Table:
    return rows.filter(pa.array(which))
