"""A listing that does not advance ends with one line, whichever way its store goes in circles.

A store may answer the token of a page with the same page again, two tokens by turns, or ever new
tokens with the same names. All of it is a circle of pages. One page is remembered and compared with
each that follows; it is replaced after 1, 2, 4, 8 ... pages (Brent's search for cycles). So a
circle of n pages is found before 8 n pages, in constant memory, and no order of names is relied on:
stores with folders sort differently.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

import pyarrow as pa

from noria.manifests.errors import ListingBroken
from noria.workers.stores.protocol import Page

REPEATS: Final = 3
"""So often the remembered page has to come again: some stores name a prefix on two pages."""
EMPTY_PAGES_MAX: Final = 10_000
"""Pages without a name in a row: Azure sends some while it passes over what is deleted."""
PREFIX_LENGTH_MAX: Final = 16_384
"""In characters. No store has keys so long, so prefixes below prefixes come to an end."""


class Advance:
    """Watches the pages of one listing, in order."""

    def __init__(self) -> None:
        self._pages = 0
        self._next_kept = 1
        self._kept: tuple[Hashable, Hashable] = (None, None)
        self._last: Hashable = None
        self._repeats = 0
        self._empty = 0

    def check(self, names: Hashable | None, following: Hashable | None) -> None:
        """Take the next page: what tells its names from another's, and the token of the next one.

        `names` is None for a page without any, `following` for the last page. Raises
        ListingBroken if the listing does not advance.
        """
        if following is None:
            return
        kept_names, kept_following = self._kept
        if following in (kept_following, self._last):
            raise _no_advance("the same page marker comes again")
        self._last = following
        self._repeats += names is not None and names == kept_names
        if self._repeats >= REPEATS:
            raise _no_advance("the same names come again")
        self._empty = self._empty + 1 if names is None else 0
        if self._empty > EMPTY_PAGES_MAX:
            raise _no_advance(f"{EMPTY_PAGES_MAX} pages in a row name nothing")
        self._pages += 1
        if self._pages == self._next_kept:
            self._next_kept *= 2
            self._kept = (names, following)
            self._repeats = 0


def names_of(page: Page) -> Hashable | None:
    """What tells a page's names from another's; None if there are none."""
    keys, prefixes = page.batch["key"], page.prefixes
    if not len(keys) and not prefixes:
        return None
    return (len(keys), *_ends(keys), len(prefixes), *prefixes[:1], *prefixes[-1:])


def check_prefixes(page: Page, prefix: str) -> None:
    """Raise ListingBroken if a prefix on the page of another one is not below that one."""
    for below in page.prefixes:
        deeper = below.startswith(prefix) and len(below) > len(prefix)
        if not deeper or len(below) > PREFIX_LENGTH_MAX:
            raise _no_advance("prefixes do not lie below each other")


def _ends(keys: pa.Array) -> tuple[str, ...]:
    return (keys[0].as_py(), keys[-1].as_py()) if len(keys) else ()


def _no_advance(how: str) -> ListingBroken:
    return ListingBroken(
        f"the store's listing does not advance: {how}; see that the endpoint is that of a store, "
        "or use an inventory instead"
    )
