from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pyarrow as pa
import pytest

from noria.manifests.errors import AccessDenied, StoreUnavailable, Throttled
from noria.workers.stores import listing
from noria.workers.stores.listing import inventory_batch, list_objects
from noria.workers.stores.paced import RetryPolicy
from noria.workers.stores.protocol import Page, PageRequest, SourceStore

PAGE = 7


class Tree:
    """A store of these keys, which counts what it is asked."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = sorted(keys)
        self.asked: list[PageRequest] = []

    def fetch(self, request: PageRequest) -> Page:
        self.asked.append(request)
        below = [key for key in self.keys if key.startswith(request.prefix)]
        entries: list[tuple[str, bool]] = []
        for key in below:
            name, slash, _ = key[len(request.prefix) :].partition("/")
            entry = (
                (request.prefix + name + slash, True)
                if slash and not request.deep
                else (key, False)
            )
            if entry not in entries:
                entries.append(entry)
        start = int(request.marker or 0)
        page = entries[start : start + PAGE]
        return Page(
            batch=page_of([name for name, folder in page if not folder]),
            prefixes=[name for name, folder in page if folder],
            next_marker=str(start + PAGE) if start + PAGE < len(entries) else None,
        )


def page_of(keys: list[str]) -> pa.RecordBatch:
    return inventory_batch({"key": keys, "size": ["1"] * len(keys)}, len(keys))


Fetch = Callable[[PageRequest], Page]
AT_ONCE = RetryPolicy(tries=listing.PAGES.tries, base_seconds=0.0)


def walk(fetch: Fetch, streams: int, policy: RetryPolicy = AT_ONCE) -> Iterator[pa.RecordBatch]:
    """A listing of a store that answers so."""
    store = cast(SourceStore, SimpleNamespace(list_page=fetch))
    return list_objects(store, "", streams=streams, policy=policy)


def keys_of(fetch: Fetch, streams: int) -> list[str]:
    return sorted(key for batch in walk(fetch, streams) for key in batch["key"].to_pylist())


@pytest.mark.parametrize("streams", [1, 2, 8])
def test_every_key_once(streams: int) -> None:
    keys = [f"{a}/{b}/{c}" for a in range(5) for b in range(6) for c in range(7)]
    keys += [f"flat{n}" for n in range(30)] + ["a//b", "/c", "d/", "0"]
    tree = Tree(keys)
    assert keys_of(tree.fetch, streams) == sorted(keys)
    asked = [(request.prefix, request.marker) for request in tree.asked]
    assert len(set(asked)) == len(asked)
    if streams == 1:
        assert all(request.deep for request in tree.asked)


def test_nothing_at_all() -> None:
    assert keys_of(Tree([]).fetch, 8) == []


def test_large_pages_are_cut() -> None:
    page = Page(batch=page_of([str(n) for n in range(listing.BATCH_ROWS + 1)]))
    assert [batch.num_rows for batch in walk(lambda request: page, 2)] == [
        listing.BATCH_ROWS,
        1,
    ]


def test_a_page_that_fails_is_fetched_again() -> None:
    tree = Tree([f"{a}/{b}" for a in range(20) for b in range(20)])
    failed: set[PageRequest] = set()

    def fetch(request: PageRequest) -> Page:
        if request not in failed:
            failed.add(request)
            raise Throttled("slow down") if len(failed) % 2 else StoreUnavailable("reset")
        return tree.fetch(request)

    assert keys_of(fetch, 4) == tree.keys


@pytest.mark.parametrize("error", [StoreUnavailable("down"), AccessDenied("no"), KeyError("bug")])
def test_what_does_not_pass_ends_the_walk(error: Exception) -> None:
    tree = Tree([f"{a}/{b}" for a in range(20) for b in range(20)])

    def fetch(request: PageRequest) -> Page:
        if request.prefix.startswith("7"):
            raise error
        return tree.fetch(request)

    with pytest.raises(type(error)):
        keys_of(fetch, 4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("list-")]


def test_what_waits_for_the_caller_is_bounded() -> None:
    fetched = threading.Semaphore(0)

    def fetch(request: PageRequest) -> Page:
        fetched.release()
        number = int(request.marker or 0)
        return Page(batch=page_of([f"{number:05}"]), next_marker=str(number + 1))

    batches = walk(fetch, 2)
    next(batches)
    taken = 0
    while fetched.acquire(timeout=0.2):
        taken += 1
    pages_at_once = 2  # of one errand, such as both sides of a seam
    assert taken <= 2 * listing.BATCHES_AHEAD + 2 * pages_at_once + 1
    assert isinstance(batches, Generator)
    batches.close()


def test_a_listing_that_is_left_waits_for_no_retry() -> None:
    failing = threading.Event()

    def fetch(request: PageRequest) -> Page:
        if request.prefix:
            failing.set()
            raise Throttled("slow down", retry_after_seconds=60)
        return Page(batch=page_of(["k"]), prefixes=["below/"])

    batches = walk(fetch, 2, listing.PAGES)
    next(batches)
    assert failing.wait(5)
    began = time.monotonic()
    assert isinstance(batches, Generator)
    batches.close()
    assert time.monotonic() - began < 5


def circle(pages: list[Page]) -> Fetch:
    """A store that answers these pages over and over; those without a marker get ever new ones."""
    asked: list[PageRequest] = []

    def fetch(request: PageRequest) -> Page:
        page = pages[len(asked) % len(pages)]
        asked.append(request)
        assert len(asked) < 20_000, "a listing that does not advance ends"
        return page if page.next_marker else replace(page, next_marker=f"new {len(asked)}")

    return fetch


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize(
    "pages",
    [
        [Page(batch=page_of(["k"]), next_marker="a")],
        [Page(batch=page_of([name]), next_marker=name) for name in "aba"],
        [Page(batch=page_of([]), next_marker=name) for name in "ababc"],
        [Page(batch=page_of(["k"]))],
        [Page(batch=page_of([f"{number:02}"])) for number in range(40)],
        [Page(batch=page_of([]), prefixes=["p/"])],
        [Page(batch=page_of([]))],
    ],
    ids=["one token", "by turns", "empty", "new tokens", "a long circle", "prefix", "nothing"],
)
def test_a_listing_that_does_not_advance_ends(pages: list[Page], streams: int) -> None:
    with pytest.raises(StoreUnavailable, match="does not advance"):
        list(walk(circle(pages), streams))


def test_prefixes_that_do_not_lie_below_each_other_end() -> None:
    for below in ("", "p/", "q/"):

        def fetch(request: PageRequest, below: str = below) -> Page:
            prefixes = [below] if request.prefix else ["p/"]
            return Page(batch=page_of([]), prefixes=prefixes)

        with pytest.raises(StoreUnavailable, match="does not advance"):
            list(walk(fetch, 2))


def test_prefixes_without_end_end() -> None:
    def fetch(request: PageRequest) -> Page:
        return Page(batch=page_of([]), prefixes=[request.prefix + "deeper" * 20 + "/"])

    with pytest.raises(StoreUnavailable, match="does not advance"):
        list(walk(fetch, 2))


def test_a_name_on_two_pages_is_no_circle() -> None:
    pages = [["p/"], ["p/"], ["q"], ["q"], ["r"], []]

    def fetch(request: PageRequest) -> Page:
        number = int(request.marker or 0)
        following = str(number + 1) if number + 1 < len(pages) else None
        keys = [name for name in pages[number] if not name.endswith("/")]
        return Page(batch=page_of(keys), next_marker=following)

    assert keys_of(fetch, 2) == ["q", "q", "r"]
