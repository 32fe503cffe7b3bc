"""Values that were read as JSON become frozen dataclasses, if every type is the one declared.

For the small files of a job directory, which workers read too: a library for it would take a tenth
of their start. Nothing is converted but what JSON cannot say: a list where a tuple is declared, a
string where an enum or bytes are, an integer where a float is.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, cast

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Pattern:
    """In Annotated[str, Pattern(...)]: the whole string has to match."""

    regex: str


def read_strictly(kind: type[T], text: bytes | str) -> T:
    """Parse JSON into a `kind`. Raises ValueError, RecursionError, which may repeat values."""
    return from_json(kind, json.loads(text))


def from_json(kind: type[T], value: object) -> T:
    """Make a `kind` of what json.loads() has returned. Raises ValueError."""
    return cast(T, _made(kind, value))


def _made(kind: Any, value: Any) -> Any:
    origin, arguments = _parts(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(arguments, value)
    if origin is typing.Annotated:
        made = _made(arguments[0], value)
        for limit in arguments[1:]:
            if isinstance(limit, Pattern) and not re.fullmatch(limit.regex, made):
                raise ValueError("a string of another form")
        return made
    if origin is typing.Literal:
        return _checked(value, value in arguments and type(value) is str)
    if origin in (list, tuple):
        items = _checked(value, type(value) is list)
        if origin is list or arguments[1:] == (...,):
            return origin(_made(arguments[0], item) for item in items)
        _checked(items, len(items) == len(arguments))
        return tuple(map(_made, arguments, items))
    if origin in (dict, Mapping):
        named = _checked(value, type(value) is dict)
        return {
            _made(arguments[0], name): _made(arguments[1], item) for name, item in named.items()
        }
    return _single(kind, value)


def _single(kind: Any, value: Any) -> Any:
    if kind is None or kind is type(None):
        return _checked(value, value is None)
    if kind is float:
        return float(_checked(value, type(value) in (int, float)))
    if kind in (bool, int):
        return _checked(value, type(value) is kind)
    if kind is str:
        _checked(value, type(value) is str).encode()  # no half of a surrogate pair
        return value
    if kind is bytes:
        return _checked(value, type(value) is str).encode()
    if issubclass(kind, Enum):
        return kind(_checked(value, type(value) in (str, int)))
    fields = _fields(kind)
    stated = _checked(value, type(value) is dict)
    try:
        return kind(
            **{name: _made(fields[name], item) for name, item in stated.items() if name in fields}
        )
    except TypeError as error:
        raise ValueError(str(error)) from error


def _first_that_fits(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return _made(kind, value)
        except ValueError:
            continue
    raise ValueError("a value of another type")


def _checked(value: Any, fits: bool) -> Any:
    if not fits:
        raise ValueError(f"a {type(value).__name__}, where another type is declared")
    return value


@functools.cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a type is of, and its arguments: asked for again with each value."""
    return typing.get_origin(kind), typing.get_args(kind)


@functools.cache
def _fields(kind: type) -> Mapping[str, Any]:
    """The fields of a dataclass, with their types evaluated."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
