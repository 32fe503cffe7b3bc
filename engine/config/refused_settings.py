"""Settings that are refused: all of them at once, each with its line and the nearest name."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from noria.manifests.errors import ConfigurationError

LINES_MAX: Final = 1000
"""Of a file whose lines are looked for. Job files have some dozens."""
ERRORS_MAX: Final = 20
"""Settings that are named; a file that has nothing to do with Noria may have thousands."""

SettingPath = tuple[str | int, ...]


class WrongSettings(ConfigurationError):
    """One or more settings are wrong. `lines` has one for each, `message` all of them."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(" | ".join(lines))
        self.lines = tuple(ConfigurationError(line).message for line in lines)


def setting_lines(text: str) -> dict[SettingPath, int]:
    """The line on which each setting and section of a TOML document begins, counted from 1.

    As tomllib itself understands it: a setting begins with the line after which no shorter part of
    the text is a document without it. Empty for a text that is too long, or is not TOML.
    """
    lines = text.splitlines(keepends=True)
    found: dict[SettingPath, int] = {}
    begins, so_far = 1, ""
    for number, line in enumerate(lines[:LINES_MAX], 1):
        so_far += line
        try:
            values = tomllib.loads(so_far)
        except (ValueError, RecursionError):
            continue  # within a value of several lines
        for path in _paths(values):
            found.setdefault(path, begins)
        begins = number + 1
    return found if len(lines) <= LINES_MAX else {}


def nearest_name(name: str, sections: Mapping[str, Sequence[str]], section: str) -> str:
    """What was probably meant by a name that `section` does not have, as the end of a sentence.

    `sections` has the names of each; those of the file itself are in "". Empty if none is near.
    """
    for where in (section, *sections):
        for near in difflib.get_close_matches(name, sections.get(where, ()), n=1, cutoff=0.6):
            if where == section:
                return f"; did you mean {near}?"
            if near == name:
                return f"; it belongs in [{where}]" if where else "; it belongs above all sections"
    return ""


def _paths(values: Mapping[str, Any], above: SettingPath = ()) -> Iterator[SettingPath]:
    for name, value in values.items():
        path = (*above, name)
        yield path
        if isinstance(value, dict):
            yield from _paths(value, path)
        elif isinstance(value, list):
            for number, item in enumerate(value):
                if isinstance(item, dict):
                    yield (*path, number)
                    yield from _paths(item, (*path, number))
