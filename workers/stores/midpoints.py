"""Where a listing is cut: names chosen from the characters that names were seen to have.

A cut that names no object costs one request, so a guess may be wrong. It is never relied on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Final

DIGITS: Final = 16
"""Characters that tell how far a name lies in a range, from where the range's names differ."""
BRANCH_PAGES: Final = 2
"""What a listing of its own is worth."""
_FIRST_SAFE: Final = "0"
"""Follows the slash. Stores that list folder by folder sort what is below it in ways of their own.

    bytes, as S3 does         a-b   a/b   a0
    folders                   a/b   a-b   a0
"""
_FIRST_UNSAFE: Final = "\ud800"
"""Stores that compare UTF-16 place U+E000 and above after what lies beyond U+FFFF."""


def middle(low: str, high: str | None, characters: Sequence[str], begin: int) -> str | None:
    """Return a name between two, low < name < high, that halves what may lie there; or None.

    `characters` are sorted. Names do not differ before `begin`. `high` None is the end of all. The
    name is a piece of `low` and one character more, on which all known orders of names agree.
    """
    start = begin if high is None else max(begin, shared(low, high))
    for at in range(start, len(low) + 1):
        stem, floor = low[:at], low[at : at + 1]
        choices = [
            character
            for character in characters
            if max(floor, _FIRST_SAFE) <= character < _FIRST_UNSAFE
            and character != floor
            and (high is None or stem + character < high)
        ]
        # A counter's digits are not followed by letters.
        choices = [each for each in choices if _kind(each) == _kind(floor)] or choices
        if choices:
            return stem + choices[len(choices) // 2]
    return None


def agree(low: str, high: str) -> bool:
    """Return True if all known orders of names place `high` after `low`, as it is by bytes."""
    at = shared(low, high)
    one, other = low[at : at + 1], high[at : at + 1]
    return (one == "" or one >= _FIRST_SAFE) and _FIRST_SAFE <= other < _FIRST_UNSAFE


def branch(
    first: str,
    last: str,
    characters: Sequence[str],
    begin: int,
    taken: Collection[str],
    pages: float = 0.0,
) -> str | None:
    """Return a prefix all of whose names come after `last`, and below none that is taken; or None.

    It is a piece of `last` and one character more. As `last` grows, none lies above a taken one.
    `pages` are how many there were from `first` to `last`. Where these have begun to differ, names
    are known to go on; if so little lies below each character there that a listing is not worth
    it, what lies just above is the best guess.
    """
    differ = max(shared(first, last), begin)
    above, below = range(differ - 1, begin - 1, -1), range(differ, len(last))
    begins, ends = (bisect_left(characters, name[differ : differ + 1]) for name in (first, last))
    is_worth_it = pages >= BRANCH_PAGES * max(1, abs(ends - begins))
    levels = (*below, *above) if is_worth_it else (*above[:1], *below, *above[1:])
    for at in levels:
        for character in characters:
            prefix = last[:at] + character
            if character > last[at] and not prefix.startswith(tuple(taken)):
                return prefix
    return None


def part_left(
    first: str, last: str, high: str | None, characters: Sequence[str], begin: int
) -> float:
    """Return how much more there is after `last` than between `first` and it, were names even."""
    if high is not None:
        begin = max(begin, shared(first, high))
    end = 1.0 if high is None else _place(high[begin:], characters)
    here, there = (_place(name[begin:], characters) for name in (first, last))
    return (end - there) / (there - here) if there > here else float("inf")


def _place(name: str, characters: Sequence[str]) -> float:
    """Where a name lies between 0 and 1, as a fraction whose digits are the characters."""
    base = len(characters) + 1
    place = 0.0
    for at, character in enumerate(name[:DIGITS], 1):
        place += min(bisect_left(characters, character) + 1, base - 1) / float(base) ** at
    return place


def shared(one: str, other: str) -> int:
    """How many characters two names have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _kind(character: str) -> tuple[bool, bool, bool]:
    return character.isdigit(), character.islower(), character.isupper()
