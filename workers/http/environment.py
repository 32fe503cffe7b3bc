"""Values of environment variables as they are meant: nothing round them, nothing odd in them.

A secret that is mounted as a file ends in a line break, an env file keeps its quotes, and a copied
text has blanks round it. None of that is ever part of a value, and each of it breaks a request or a
signature in a way of its own. So whatever names or opens a store is read here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from noria.manifests.errors import ConfigurationError

_QUOTES: Final = ("'", '"')
_MARKS: Final = "\ufeff\u200b\0"
"""Byte order mark, zero-width space, NUL: no white space to Python, and never meant."""


def bare(value: str) -> str:
    """Return the value without white space, byte order marks and a pair of quotes round it."""
    value = _stripped(value)
    if len(value) >= 2 and value[0] == value[-1] and value[0] in _QUOTES:
        value = _stripped(value[1:-1])
    return value


def read_variable(environment: Mapping[str, str], *names: str) -> str | None:
    """Return the first of these variables that says something, bare; None if none does.

    Raises ConfigurationError if there is a character in it that cannot be printed. The message
    repeats no value.
    """
    for name in names:
        value = bare(environment.get(name, ""))
        if not value:
            continue
        if not value.isprintable():
            raise ConfigurationError(
                f"{name} holds a line break or another character that cannot be printed: "
                "set it again"
            )
        return value
    return None


def read_secret(environment: Mapping[str, str], *names: str) -> str | None:
    """As read_variable(), for a key, token or SAS: one word of ASCII."""
    for name in names:
        value = read_variable(environment, name)
        if value is None:
            continue
        if not value.isascii() or " " in value:
            raise ConfigurationError(
                f"{name} holds a space or a character that no key, token or SAS has: set it again"
            )
        return value
    return None


def _stripped(value: str) -> str:
    before = None
    while before != value:
        before, value = value, value.strip().strip(_MARKS)
    return value
