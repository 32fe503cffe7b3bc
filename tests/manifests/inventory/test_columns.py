"""Whole-column conversions against the plain Python of a single value."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.manifests.errors import InventoryError
from noria.manifests.inventory.columns import crc64s, json_objects, keys, md5s, moments
from noria.manifests.inventory.rows import ReportRows

text = st.text(st.characters(exclude_categories=["Cs"]))


def rows(values: list[str | None], kind: pa.DataType | None = None) -> ReportRows:
    column = pa.array(values, kind or pa.string())
    return ReportRows(file="f", columns={"c": column}, count=len(values), place="row {}".format)


def canonical(value: str) -> str:
    return json.dumps(json.loads(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@settings(deadline=None)
@given(
    objects=st.lists(st.none() | st.dictionaries(text, text, max_size=4), min_size=1),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 2]),
)
def test_json_objects(objects: list[Any], ascii_only: bool, indent: int | None) -> None:
    values = [
        None if each is None else json.dumps(each, ensure_ascii=ascii_only, indent=indent)
        for each in objects
    ]
    expected = [None if value is None else canonical(value) for value in values]
    assert json_objects(rows(values), "c").to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        (["{}", '{"a":"b"', '"c":"d"}', "{},0,{}"], 1),
        (["{}", "{},0,{}"], 1),
        (["{},0"], 0),
        (["0,{}"], 0),
        (["{}", '{"a":"b', 'c"}', "{},0,{}"], 1),
        (["[", "]"], 0),
        (["{}", "[1", "2]", "{},0,{},0,{}"], 1),
        (["{}", "null"], 1),
        (["{}", '{"a":{}}'], 1),
        (["{}", " "], 1),
    ],
)
def test_values_that_are_no_json_objects_cannot_help_each_other(
    values: list[str | None], bad: int
) -> None:
    with pytest.raises(InventoryError, match=f"f, row {bad}: c is not a JSON object of strings"):
        json_objects(rows(values), "c")


@settings(deadline=None)
@given(st.lists(st.none() | st.binary(min_size=16, max_size=16), min_size=1))
def test_md5s(sums: list[bytes | None]) -> None:
    values = [None if each is None else base64.b64encode(each).decode() for each in sums]
    assert md5s(rows(values), "c").to_pylist() == sums


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(0, 2**64 - 1), min_size=1))
def test_crc64s(sums: list[int | None]) -> None:
    values = [
        None if each is None else base64.b64encode(each.to_bytes(8, "little")).decode()
        for each in sums
    ]
    assert crc64s(rows(values), "c").to_pylist() == sums


@settings(deadline=None)
@given(st.lists(st.text("%0123456789abcdefABCDEFxX+ é/", min_size=1), min_size=1))
def test_url_decoded_keys(values: list[str | None]) -> None:
    def decoded(value: str) -> str | None:
        """None where Python's lenient reading would hide an error."""
        digits = value.split("%")[1:]
        if any(not set(each[:2].lower()) <= set("0123456789abcdef") for each in digits):
            return None
        if any(len(each) < 2 for each in digits):
            return None
        try:
            found = unquote_plus(value, errors="strict")
        except UnicodeDecodeError:
            return None
        return None if "\0" in found else found

    expected = [decoded(value) for value in values if value is not None]
    if None in expected:
        with pytest.raises(InventoryError):
            keys(rows(values), "c", url_encoded=True)
    else:
        assert keys(rows(values), "c", url_encoded=True).to_pylist() == expected


@pytest.mark.parametrize("digits", range(10))
def test_moments_with_any_number_of_digits_are_cut_to_milliseconds(digits: int) -> None:
    fraction = "." + "123456789"[:digits] if digits else ""
    [found] = moments(rows([f"2021-05-26T13:25:36{fraction}Z"]), "c").to_pylist()
    assert found.microsecond == int("123"[:digits].ljust(3, "0")) * 1000


def test_dictionary_columns_are_text() -> None:
    kind = pa.dictionary(pa.int32(), pa.string())
    assert keys(rows(["b", "a", "b"], kind), "c").to_pylist() == ["b", "a", "b"]
