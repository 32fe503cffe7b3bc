"""Patterns for names as rclone writes them, and rules made of them.

    *        anything but a slash          {a,b}    one of these
    **       anything                      {{...}}  a regular expression (RE2)
    ?        one character but a slash     \\x       x as it is; \\d and the like as in RE2
    [a-z]    one of these; [^a-z] none     /x       x at the root; else x is whole path segments

A pattern that ends in a slash is about a folder: to exclude it excludes all below it. The first
rule that matches a name decides. Case matters. Names are compared as a whole, from a slash on.

A folder that a rule excludes is not looked into, as in rclone: `- **/tmp/*` excludes what lies
deeper below tmp, too. Other than there, `.` and `*` match a line feed, so no name slips through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import ConfigurationError

ESCAPED = frozenset(".+()|^$")
"""Characters that mean something to RE2 and nothing in a pattern."""
LEAST_ESCAPE = 2
"""A backslash and what it escapes."""
MOST_SHOWN = 120
"""Characters of a pattern in a message."""
STARS = {1: "[^/]*", 2: ".*"}
ALL_FOLDERS = "/**"
UNCLEAR_FOLDERS = re.compile(r"(\{[^{}]*(\*\*|/)[^{}]*\})|\{\{|\}\}|\{[^{}]*\{")
"""A pattern from which no pattern for the folders on the way can be cut."""


def glob_regex(glob: str) -> str:
    """The one RE2 expression that matches what the pattern does.

    Raises ConfigurationError, which names the pattern.
    """
    regex = _Translation(glob).regex()
    try:
        check_regex(regex)
    except ValueError as error:
        raise ConfigurationError(f"{_shown(glob)} is not a pattern: {error}") from error
    return regex


def check_regex(regex: str) -> None:
    """Raise ValueError, which says why, if this is not an expression of RE2."""
    try:
        pc.match_substring_regex(pa.array([""]), regex)
    except pa.ArrowInvalid as error:
        what = str(error).partition("Invalid regular expression: ")[2] or str(error)
        raise ValueError(what[:MOST_SHOWN]) from error
    except UnicodeEncodeError as error:
        raise ValueError("it is not UTF-8") from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "...")


class _Translation:
    """One pass over a pattern."""

    def __init__(self, glob: str) -> None:
        self._glob = glob
        self._text = glob.removeprefix("/")
        self._at = 0
        self._depth = 0
        """Of braces."""

    def regex(self) -> str:
        found = ["(?s)^" if self._glob.startswith("/") else "(?s)(^|/)"]
        while self._at < len(self._text):
            found.append(self._next())
        if self._depth:
            raise self._refuse("a { is not closed")
        return "".join(found) + "$"

    def _next(self) -> str:
        char = self._text[self._at]
        match char:
            case "\\":
                return self._escape()
            case "*":
                return self._stars()
            case "[":
                return self._class()
            case "{":
                return self._brace()
            case "]":
                raise self._refuse("a ] closes nothing")
            case "}":
                if not self._depth:
                    raise self._refuse("a } closes nothing")
                self._depth -= 1
                return self._taken(1, ")")
        if char == "?":
            return self._taken(1, "[^/]")
        if char == "," and self._depth:
            return self._taken(1, "|")
        return self._taken(1, "\\" + char if char in ESCAPED else char)

    def _taken(self, characters: int, regex: str) -> str:
        self._at += characters
        return regex

    def _escape(self) -> str:
        escape = self._text[self._at : self._at + LEAST_ESCAPE]
        if len(escape) < LEAST_ESCAPE:
            raise self._refuse("nothing follows its last backslash")
        return self._taken(len(escape), escape)

    def _stars(self) -> str:
        count = len(self._text) - self._at - len(self._text[self._at :].lstrip("*"))
        if count not in STARS:
            raise self._refuse("more than two stars in a row")
        return self._taken(count, STARS[count])

    def _class(self) -> str:
        """A class as RE2 has it: brackets in it are [:alpha:] and the like."""
        depth = 0
        for place in range(self._at, len(self._text)):
            depth += {"[": 1, "]": -1}.get(self._text[place], 0)
            if not depth:
                length = place + 1 - self._at
                return self._taken(length, self._text[self._at : place + 1])
        raise self._refuse("a [ is not closed")

    def _brace(self) -> str:
        if self._depth == 0 or self._text[self._at - 1] != "{":
            self._depth += 1
            return self._taken(1, "(")
        # The first of {{ has opened the parenthesis.
        end = self._text.find("}}", self._at + 1)
        if end < 0:
            raise self._refuse("a {{ is not closed")
        while self._text.startswith("}}", end + 1):
            end += 1
        self._depth -= 1
        inner = self._text[self._at + 1 : end]
        return self._taken(end + 2 - self._at, inner + ")")

    def _refuse(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"{_shown(self._glob)} is not a pattern: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRule:
    """What becomes of the names that match."""

    include: bool
    regex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRules:
    """Rules for names, and those for the folders on the way to them, in order."""

    names: tuple[PathRule, ...] = ()
    folders: tuple[PathRule, ...] = ()
    include_others: bool = True
    """What no rule matches."""

    def passes(self, keys: pa.Array) -> pa.Array:
        """Return a mask: True for each name, relative to the source, that is included."""
        passed = self._included(self.names, keys)
        if self._every_folder():
            return passed
        folders = pc.replace_substring_regex(keys, r"[^/]*$", "").dictionary_encode()
        entered = self._entered(folders.dictionary)
        return pc.and_(passed, entered.take(folders.indices))

    def _included(self, rules: tuple[PathRule, ...], names: pa.Array) -> pa.Array:
        passed = pa.repeat(pa.scalar(self.include_others), len(names))
        for rule in reversed(rules):
            matched = pc.match_substring_regex(names, rule.regex)
            passed = pc.if_else(matched, rule.include, passed)
        return passed

    def _entered(self, folders: pa.Array) -> pa.Array:
        """Return True for each folder that is looked into, as are all that it lies in."""
        levels: list[tuple[pa.Array, pa.Array]] = []
        while pc.any(pc.not_equal(folders, "")).as_py():
            itself = pc.or_(pc.equal(folders, ""), self._included(self.folders, folders))
            above = pc.replace_substring_regex(folders, r"[^/]*/$", "").dictionary_encode()
            levels.append((itself, above.indices))
            folders = above.dictionary
        entered = pa.repeat(pa.scalar(True), len(folders))
        for itself, places in reversed(levels):
            entered = pc.and_(itself, entered.take(places))
        return entered

    def _every_folder(self) -> bool:
        if self.folders and self.folders[0] == PathRule(
            include=True, regex=glob_regex(ALL_FOLDERS)
        ):
            return True
        return self.include_others and all(rule.include for rule in self.folders)


def path_rules(include: Iterable[str], exclude: Iterable[str], rules: Iterable[str]) -> PathRules:
    """Included patterns come first, then excluded ones, then rules ("+ x", "- x", "!").

    "!" forgets all before it. With an included pattern, what nothing matches is left out. Raises
    ConfigurationError, which names the pattern.
    """
    names: list[PathRule] = []
    folders: list[PathRule] = []
    included = list(include)
    for line in (*(f"+ {glob}" for glob in included), *(f"- {glob}" for glob in exclude), *rules):
        if line == "!":
            names, folders = [], []
            continue
        sign, glob = line[:2], line[2:]
        if sign not in ("+ ", "- "):
            raise ConfigurationError(
                f"{_shown(line)} is not a rule; write + PATTERN, - PATTERN, or !"
            )
        _add(names, folders, glob, include=sign == "+ ")
    return PathRules(names=tuple(names), folders=tuple(folders), include_others=not included)


def _add(names: list[PathRule], folders: list[PathRule], glob: str, *, include: bool) -> None:
    of_folder = glob.endswith("/")
    of_name = not of_folder
    if of_folder and not include:
        glob += "**"
    if "**" in glob:
        of_folder = of_name = True
    rule = PathRule(include=include, regex=glob_regex(glob))
    if of_name:
        names.append(rule)
        if include or glob == "*":
            on_the_way = _folders_of(glob)
            folders += [
                PathRule(include=include, regex=glob_regex(folder)) for folder in on_the_way
            ]
    if of_folder:
        folders.append(rule)


def _folders_of(glob: str) -> list[str]:
    """Patterns for all folders in which something that matches may lie, but for the root."""
    if UNCLEAR_FOLDERS.search(glob):
        return [ALL_FOLDERS]
    glob = re.sub(r"/{2,}", "/", glob)
    found: list[str] = []
    while (place := max(glob.rfind("/"), glob.rfind("**"))) >= 0:
        what = "**" if glob.startswith("**", place) else ""
        glob = glob[:place]
        if found[-1:] != [f"{glob}{what}/"]:
            found.append(f"{glob}{what}/")
    return [folder for folder in found or [ALL_FOLDERS] if folder != "/"]
