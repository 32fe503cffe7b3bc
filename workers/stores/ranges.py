"""One of the listings that a walk is made of; frontier.py says what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from noria.workers.stores.advance import Advance
from noria.workers.stores.protocol import Page, PageRequest

PAGES_BEFORE_CUT: Final = 2
"""A listing of no more pages is not worth the request that a cut may waste."""


@dataclass(slots=True, eq=False, kw_only=True)
class KeyRange:
    """One listing whose pages come one by one: of a prefix, or of a range of it."""

    prefix: str
    deep: bool
    after: str | None = None
    until: str | None = None
    """The last name that belongs to it. None: it goes to the end of the prefix."""
    lower: KeyRange | None = None
    upper: KeyRange | None = None
    is_cut: bool = False
    """It was chosen by a guess, and may name nothing."""

    marker: str | None = None
    pages: int = 0
    rows: int = 0
    pages_since_cut: int = 0
    cut_from: int = 0
    """Where in a name the next cut may be, at the earliest."""
    first: str | None = None
    last: str | None = None
    """Of the names that were listed."""
    given: str | None = None
    """The last name before `until`, as the store lists them."""
    advance: Advance = field(default_factory=Advance)
    ended: bool = False

    opened: bool = False
    """Its first page with names has come, or its end."""
    opening: pa.Array | None = None
    """The names on that page, until the seam to the lower range is closed."""
    rest: Page | None = None
    """What its last page names beyond `until`; waits for its upper seam to close."""
    checks: int = 0
    seeking: bool = False
    """It goes on until it meets the opening of the upper one."""

    branches: list[KeyRange] = field(default_factory=list)
    pages_passed: int = 0
    """Of the branches that were passed."""
    is_passed: bool = False
    """It is a branch, which the listing that it was cut from has passed."""
    waiting: list[KeyRange] = field(default_factory=list)
    """Listings that have come to this branch and wait for its end."""
    last_page: tuple[str, str] | None = None
    """Marker and first name of its last page, if that has both."""
    leap: tuple[str, str, str] | None = None
    """With the next request: the marker of a page, its first name, and the prefix it is to leave.

    The marker is from a listing of that prefix, or of one below it; or it follows a page that was
    come to by such a one, and then the name is "".
    """
    leapt: tuple[str, str, str] | None = None
    """The last leap that has left its prefix."""

    def request(self) -> PageRequest:
        marker = self.marker if self.leap is None else self.leap[0]
        return PageRequest(prefix=self.prefix, marker=marker, deep=self.deep, after=self.after)

    @property
    def is_divisible(self) -> bool:
        """It has shown that it is long, and goes on."""
        listed = self.deep and self.pages >= PAGES_BEFORE_CUT and self.last is not None
        return listed and not (self.ended or self.seeking) and self.rest is None
