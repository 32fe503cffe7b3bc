"""Which rows of an inventory pass a filter, and how the others are counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from noria.manifests.errors import InventoryError
from noria.manifests.model import PassedOver
from noria.manifests.plan.filters import (
    FilteredRows,
    Filters,
    TextFilter,
    tags_regex,
    types_regex,
    words_regex,
)
from noria.manifests.plan.globs import path_rules
from noria.manifests.schema import INVENTORY_SCHEMA

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def rows_of(*objects: dict[str, Any]) -> pa.RecordBatch:
    blank = {**dict.fromkeys(INVENTORY_SCHEMA.names), "size": 1}
    rows = [{**blank, "key": str(number), **each} for number, each in enumerate(objects)]
    return pa.RecordBatch.from_pylist(rows, schema=INVENTORY_SCHEMA)


def passing(filters: Filters, *objects: dict[str, Any]) -> tuple[list[str], dict[str, int]]:
    filtered = FilteredRows(filters, "")
    batches = list(filtered.of([rows_of(*objects)]))
    keys = [key for batch in batches for key in batch.column("key").to_pylist()]
    return keys, {cause.value: count for cause, count in filtered.left_out.items()}


def test_sizes_at_the_bounds_pass() -> None:
    filters = Filters(min_bytes=2, max_bytes=3)
    objects = [{"size": size} for size in (1, 2, 3, 4, 5)]
    assert passing(filters, *objects) == (["1", "2"], {"filtered_size": 3})


def test_times_at_the_bounds_pass_and_so_does_what_has_none() -> None:
    filters = Filters(modified_from=NOON - MILLISECOND, modified_to=NOON)
    objects = [{"last_modified": NOON + step * MILLISECOND} for step in (-2, -1, 0, 1)]
    assert passing(filters, *objects, {}) == (["1", "2", "4"], {"filtered_age": 2})


def test_tiers_in_any_case() -> None:
    objects = [{"tier": tier} for tier in ("Hot", "HOT", "Archive", None, "Hotter")]
    wanted = TextFilter(wanted=words_regex(["hot", "cool"]))
    assert passing(Filters(tiers=wanted), *objects) == (["0", "1"], {"filtered_tier": 3})
    unwanted = TextFilter(unwanted=words_regex(["archive"]))
    assert passing(Filters(tiers=unwanted), *objects)[0] == ["0", "1", "3", "4"]
    named = Filters(tiers=TextFilter(wanted=words_regex(["STANDARD"])), unnamed_tier="STANDARD")
    assert passing(named, *objects)[0] == ["3"]


@pytest.mark.parametrize(
    ("wanted", "passed"),
    [("text/html", [0, 1, 2]), ("text/*", [0, 1, 2, 3]), ("*", [0, 1, 2, 3, 4, 5]), ("*/x.y", [5])],
)
def test_content_types(wanted: str, passed: list[int]) -> None:
    types = (
        "text/html",
        "Text/HTML;charset=utf-8",
        "text/html ; q",
        "text/htmlx",
        "a/text",
        "a/x.y",
    )
    filters = Filters(types=TextFilter(wanted=types_regex([wanted])))
    keys, _ = passing(filters, *({"content_type": kind} for kind in types))
    assert keys == [str(number) for number in passed]


TAGGED = (
    {"a": "1", "b": "2"},
    {"a": "12", "xa": "1"},
    {"x": ',"a":"1"', "é": "ü"},
    {"x": "{", 'a":"1"': ""},
    {"x,": "a", ",": ":"},
    None,
)


@pytest.mark.parametrize(
    ("wanted", "passed"),
    [
        *((["a=1"], [0]), (["a"], [0, 1]), (["b=2", "xa"], [0, 1]), (["é=ü"], [2])),
        *((['a":"1"'], [3]), ([",=:"], [4]), (["a="], None), (["1"], None), (["x={"], [3])),
    ],
)
def test_tags(wanted: list[str], passed: list[int] | None) -> None:
    """Also those that look like the text in which tags are stated."""
    texts = [
        tags and json.dumps(tags, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        for tags in TAGGED
    ]
    objects = [{"tags": text} for text in texts]
    filters = Filters(tags=TextFilter(wanted=tags_regex(wanted)))
    if passed is None:
        with pytest.raises(InventoryError, match=r"filtered_tag: 6"):
            passing(filters, *objects)
    else:
        assert passing(filters, *objects)[0] == [str(number) for number in passed]
        without = Filters(tags=TextFilter(unwanted=tags_regex(wanted)))
        assert len(passing(without, *objects)[0]) == len(TAGGED) - len(passed)


def test_an_entry_is_counted_once() -> None:
    filters = Filters(
        names=path_rules(["*.txt"], [], []),
        min_bytes=2,
        tiers=TextFilter(wanted=words_regex(["Hot"])),
    )
    objects = [
        {"key": "small", "size": 1},
        {"key": "cool", "size": 2, "tier": "Cool"},
        {"key": "hot", "size": 2, "tier": "Hot"},
        {"key": "hot.txt", "size": 2, "tier": "Hot"},
    ]
    counts = {"filtered_size": 1, "filtered_tier": 1, "filtered_name": 1}
    assert passing(filters, *objects) == (["hot.txt"], counts)


def test_names_are_those_below_the_prefix_and_others_are_not_looked_at() -> None:
    filtered = FilteredRows(Filters(names=path_rules(["/a"], [], [])), "é/b/")
    batch = rows_of({"key": "é/b/a"}, {"key": "é/b/x/a"}, {"key": "other"})
    keys = [key for rows in filtered.of([batch]) for key in rows.column("key").to_pylist()]
    assert keys == ["é/b/a", "other"]
    assert filtered.left_out == {PassedOver.FILTERED_NAME: 1}


def test_a_filter_that_nothing_passes_is_refused() -> None:
    filters = Filters(max_bytes=0, names=path_rules([], ["b"], []))
    with pytest.raises(InventoryError, match=r"none of 2 entries .*\(filtered_size: 2\)"):
        passing(filters, {"key": "a"}, {"key": "b"})
    assert passing(filters) == ([], {})


def test_what_an_inventory_states_for_nothing_is_not_compared() -> None:
    filters = Filters(modified_from=NOON, types=TextFilter(unwanted=types_regex(["a/b"])))
    with pytest.raises(InventoryError, match=r"states its content_type, which a filter"):
        passing(filters, {"last_modified": NOON}, {})


def test_an_older_version_does_not_stand_for_a_current_one_that_is_left_out() -> None:
    now = {"key": "report.csv", "last_modified": NOON}
    then = {
        "key": "report.csv",
        "last_modified": NOON - 700 * MILLISECOND,
        "not_current": "version",
    }
    other = {"key": "other.csv", "last_modified": NOON - 700 * MILLISECOND}
    old = Filters(modified_to=NOON - MILLISECOND)
    assert passing(old, now, then, other) == (["other.csv"], {"filtered_age": 1, "not_current": 1})
    by_name = Filters(names=path_rules(("report*",), (), ()))
    assert passing(by_name, now, then, other) == (["report.csv"] * 2, {"filtered_name": 1})
