"""A frontier as JSON, so that a listing that was cut off goes on where it was.

What is written is all that the frontier knows: which pieces there are, how far each has come, and
what waits at a seam. Pages under way are asked for again; their rows were not delivered.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from noria.workers.stores.protocol import Page
from noria.workers.stores.ranges import KeyRange

_PLAIN: Final = (
    *("prefix", "deep", "after", "until", "marker", "pages", "rows", "pages_since_cut"),
    *("first", "last", "given", "ended", "opened", "checks", "seeking", "is_cut", "cut_from"),
    *("pages_passed", "is_passed"),
)
_TUPLES: Final = ("last_page", "leap", "leapt")
_OTHERS: Final = ("lower", "upper")
_LISTS: Final = ("branches", "waiting")


def to_json(listings: Iterable[KeyRange]) -> tuple[list[dict[str, Any]], dict[KeyRange, int]]:
    """Return these and all that they refer to, and the place of each."""
    places: dict[KeyRange, int] = {}
    waiting = list(listings)
    while waiting:
        each = waiting.pop()
        if each not in places:
            places[each] = len(places)
            waiting += [other for other in _referred(each) if other is not None]
    return [_one_to_json(each, places) for each in places], places


def from_json(stated: Sequence[Mapping[str, Any]]) -> list[KeyRange]:
    """Return what to_json() was given, in the same places. Raises ValueError, LookupError."""
    listings = [KeyRange(**{name: each[name] for name in _PLAIN}) for each in stated]
    for listing, each in zip(listings, stated, strict=True):
        for name in _OTHERS:
            setattr(listing, name, None if each[name] is None else listings[each[name]])
        for name in _LISTS:
            setattr(listing, name, [listings[place] for place in each[name]])
        for name in _TUPLES:
            setattr(listing, name, None if each[name] is None else tuple(each[name]))
        if each["opening"] is not None:
            listing.opening = pa.array(each["opening"], pa.string())
        if each["rest"] is not None:
            listing.rest = _page(each["rest"])
    return listings


def _referred(listing: KeyRange) -> list[KeyRange | None]:
    return [listing.lower, listing.upper, *listing.branches, *listing.waiting]


def _one_to_json(listing: KeyRange, places: Mapping[KeyRange, int]) -> dict[str, Any]:
    stated: dict[str, Any] = {name: getattr(listing, name) for name in (*_PLAIN, *_TUPLES)}
    for name in _OTHERS:
        other = getattr(listing, name)
        stated[name] = None if other is None else places[other]
    for name in _LISTS:
        stated[name] = [places[other] for other in getattr(listing, name)]
    stated["opening"] = None if listing.opening is None else listing.opening.to_pylist()
    rest = listing.rest
    stated["rest"] = None if rest is None else _page_to_json(rest)
    return stated


def _page_to_json(page: Page) -> dict[str, Any]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, page.batch.schema) as writer:
        writer.write_batch(page.batch)
    rows = base64.b64encode(sink.getvalue()).decode()
    return {"rows": rows, "prefixes": list(page.prefixes), "next_marker": page.next_marker}


def _page(stated: Mapping[str, Any]) -> Page:
    with pa.ipc.open_stream(base64.b64decode(stated["rows"])) as reader:
        batch = reader.read_next_batch()
    return Page(batch=batch, prefixes=stated["prefixes"], next_marker=stated["next_marker"])
