"""Types are taken at their word, exactly as pydantic's strict mode takes them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter

from noria.manifests.strict_json import Pattern, from_json, read_strictly


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    number: int
    maybe: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """One field of each kind."""

    flag: bool
    share: float
    raw: bytes
    colour: Colour
    word: Literal["refuse", "escape"]
    name: Annotated[str, Pattern("[a-z]+"), Field(pattern="^[a-z]+$")]
    inner: Inner
    inners: list[Inner]
    words: tuple[str, ...]
    counts: dict[Colour, int]
    anything: Any
    size: int | None = None
    more: dict[str, Inner] = field(default_factory=dict)


WHOLE: dict[str, Any] = {
    "flag": True,
    "share": 1,
    "raw": "0af",
    "colour": "red",
    "word": "escape",
    "name": "abc",
    "inner": {"number": 1},
    "inners": [{"number": 2, "maybe": "x"}, {"number": 3, "maybe": None}],
    "words": ["a", "b"],
    "counts": {"red": 1, "blue": 2},
    "anything": {"a": [1, 2.5]},
    "size": 5,
    "more": {"x": {"number": 1}},
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.sampled_from(["red", "refuse", "abc"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["number", "maybe", "red", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)
PYDANTIC = TypeAdapter(Outer)


def by_pydantic(text: str) -> Outer | None:
    try:
        return PYDANTIC.validate_json(text, strict=True)
    except ValueError:
        return None


def by_us(text: str) -> Outer | None:
    try:
        return read_strictly(Outer, text)
    except ValueError:
        return None


@given(st.sampled_from(sorted(WHOLE)), VALUES)
@example("more", {"x": {"number": 1, "extra": 2}})
@example("inner", {})
@example("flag", 1)
@example("share", True)
@example("name", "\ud800")  # what is declared is looked at: what is not may hold what it likes
@example("words", ["\ud800"])
def test_one_field_of_any_value(name: str, value: Any) -> None:
    text = json.dumps({**WHOLE, name: value})
    assert by_us(text) == by_pydantic(text)


@given(st.sets(st.sampled_from(sorted(WHOLE))))
def test_fields_that_are_missing(names: set[str]) -> None:
    text = json.dumps({name: value for name, value in WHOLE.items() if name not in names})
    assert by_us(text) == by_pydantic(text)


@pytest.mark.parametrize("text", ["", "[]", "null", "1", '"x"', "{", "{}", '{"flag": NaN}'])
def test_what_is_no_object_of_ours(text: str) -> None:
    assert by_us(text) is None


def test_a_tuple_of_fixed_length() -> None:
    assert from_json(tuple[str, int], ["a", 1]) == ("a", 1)
    with pytest.raises(ValueError, match="another type"):
        from_json(tuple[str, int], ["a"])
