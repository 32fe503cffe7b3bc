"""How many examples, what JSON and what damage; and what a refusal has to look like.

Examples are the same every time. With NORIA_FUZZ_EXAMPLES=N each test tries N others, drawn anew:

    NORIA_FUZZ_EXAMPLES=2000 .venv/bin/python -m pytest tests/hostile --hypothesis-seed=SEED

Without --hypothesis-seed one is drawn. What fails is printed with a blob that brings it back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from noria.manifests.errors import NoriaError

_MANY = int(os.environ.get("NORIA_FUZZ_EXAMPLES", "0"))
SECRET = "secret"
"""Part of an object's name, or of a credential: in no message."""

Result = TypeVar("Result")


def examples(number: int) -> settings:
    """Settings of a test that tries `number` examples, the same each time."""
    return settings(
        max_examples=_MANY or number,
        derandomize=not _MANY,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,
            HealthCheck.data_too_large,
        ],
    )


def refused(call: Callable[[], Result]) -> NoriaError | None:
    """Whether a call refuses what it met: None where it took it. Any other error passes through.

    A refusal is one printable line that names no object.
    """
    error = None
    try:
        call()
    except NoriaError as raised:
        error = raised
    if error is not None:
        assert error.message.isprintable(), error.message
        assert SECRET not in error.message
    return error


ODD_NUMBERS = (
    st.sampled_from(
        [0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 1.5, 1e308, -0.0]
    )
    | st.integers()
)
ODD_TEXTS = st.sampled_from(
    ["", ".", "..", "/", "../../x", "/etc/passwd", "\0", "a\nb", "\x1b[31m", "é", "😀", "x" * 5000]
) | st.text(max_size=8)
ODD_VALUES = st.recursive(
    st.none() | st.booleans() | ODD_NUMBERS | ODD_TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(ODD_TEXTS, values, max_size=3),
    max_leaves=6,
)
"""Any value that JSON can hold, rather the awkward ones."""
ODD_DOCUMENTS = st.one_of(
    st.binary(max_size=64),
    st.sampled_from(
        [
            b"",
            b"\xff\xfe{}",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"9" * 5_000,
            b'{"shard": NaN}',
            b'{"schema": 1e999}',
            b'"\\ud800"',
            b"{}{}",
        ]
    ),
)
"""Bytes that are no JSON, or hardly."""


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """`value`, a JSON document, with one thing in it replaced, removed or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        kind = draw(st.sampled_from(["replace", "replace", "remove", "inside", "inside", "inside"]))
        rest = {key: each for key, each in value.items() if key != name}
        if kind == "remove":
            return rest
        return {**value, name: draw(changed(value[name]) if kind == "inside" else ODD_VALUES)}
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(changed(value[place])), *value[place + 1 :]]
    return draw(ODD_VALUES)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` cut short, with a flipped bit, with other bytes in it, or with more behind it."""
    place = draw(st.integers(0, max(0, len(data) - 1)))
    match draw(st.sampled_from(["cut", "flip", "flip", "overwrite", "append"])):
        case "cut":
            return data[:place]
        case "flip":
            flipped = bytearray(data)
            flipped[place] ^= 1 << draw(st.integers(0, 7))
            return bytes(flipped)
        case "overwrite":
            other = draw(st.binary(min_size=1, max_size=16))
            return data[:place] + other + data[place + len(other) :]
    return data + draw(st.binary(min_size=1, max_size=64))
