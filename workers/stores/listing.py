"""List a store on several threads: prefixes side by side, the pages of a prefix one by one.

At first, a prefix is listed up to the next slash, and each prefix below it becomes work of its own.
Once there is enough work for all threads, prefixes are listed with everything below them. Pages are
the unit of work and wait on a stack, so memory does not grow with the number of objects.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.schema import INVENTORY_SCHEMA
from noria.workers.stores.advance import Advance, check_prefixes, names_of
from noria.workers.stores.background import LOOK_SECONDS
from noria.workers.stores.paced import PacedStore, RetryPolicy, Stopped
from noria.workers.stores.protocol import Page, PageRequest, SourceStore

PAGES: Final = RetryPolicy(tries=8, base_seconds=0.2, cap_seconds=20.0)
"""For one page. A listing retries pages itself, because its caller could only start again."""
BATCH_ROWS: Final = 65_536
SPREAD: Final = 4
"""With this many prefixes waiting for each thread, prefixes are no longer split."""
BATCHES_AHEAD: Final = 4
"""Batches for each thread that may wait for the caller."""
LEAVE_SECONDS: Final = 2.0
"""How long pages under way are waited for at the end: a store that hangs holds nobody up."""


def inventory_batch(
    columns: Mapping[str, Sequence[object] | pa.Array], rows: int
) -> pa.RecordBatch:
    """Make an INVENTORY_SCHEMA batch: text is cast to each type, missing columns are null."""
    arrays = []
    for column in INVENTORY_SCHEMA:
        values = columns.get(column.name)
        if values is None:
            arrays.append(pa.nulls(rows, column.type))
        elif isinstance(values, pa.Array):
            arrays.append(values.cast(column.type))
        else:
            arrays.append(pa.array(values).cast(column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=INVENTORY_SCHEMA)


def check_names_and_sizes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch; raise ValueError if an object has no name, or no size of 0 or more."""
    known = pc.and_(pc.not_equal(batch["key"], ""), pc.greater_equal(batch["size"], 0))
    if not pc.all(pc.fill_null(known, False), min_count=0).as_py():
        raise ValueError("an object without a name or a size")
    return batch


def list_objects(
    store: SourceStore, prefix: str, *, streams: int = 8, policy: RetryPolicy = PAGES
) -> Iterator[pa.RecordBatch]:
    """Yield all objects below `prefix` as INVENTORY_SCHEMA batches of at most BATCH_ROWS rows.

    They come in no particular order. Prefixes are listed side by side on `streams` threads, which
    end with the iterator. A page that fails is retried; errors left after retries propagate.
    """
    with Listing(store, prefix, streams=streams, policy=policy) as listing:
        yield from listing


class Listing:
    """As list_objects(), but the first page is asked for at once, not when rows are wanted.

    Iterate over it once, and close it; that ends its threads.
    """

    def __init__(
        self, store: SourceStore, prefix: str, *, streams: int = 8, policy: RetryPolicy = PAGES
    ) -> None:
        stopping = threading.Event()
        paced = PacedStore(inner=store, policy=policy, stopping=stopping)
        first = PageRequest(prefix=prefix, deep=streams <= 1)
        self._walk = _Walk(paced.list_page, streams, first, stopping)
        self._threads = [
            threading.Thread(target=self._walk.work, name=f"list-{number}", daemon=True)
            for number in range(streams)
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._walk.batches()

    def close(self) -> None:
        """Ask for no more pages. A repeat does nothing."""
        self._walk.stop()
        until = time.monotonic() + LEAVE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Walk:
    """The stack of pages to fetch, shared by the threads of one walk."""

    def __init__(
        self,
        fetch: Callable[[PageRequest], Page],
        streams: int,
        first: PageRequest,
        stopping: threading.Event,
    ) -> None:
        self._fetch = fetch
        self._enough = streams * SPREAD
        self._ahead = streams * BATCHES_AHEAD
        self._stack = [first]
        self._running = 0
        self._advances: dict[tuple[str, bool], Advance] = {}
        """Of the prefixes whose next page is known."""
        self._ready: deque[pa.RecordBatch] = deque()
        self._error: BaseException | None = None
        self._stopped = stopping
        self._changed = threading.Condition()

    def batches(self) -> Iterator[pa.RecordBatch]:
        while True:
            with self._changed:
                while not (self._ready or self._error or self._finished()):
                    self._changed.wait(LOOK_SECONDS)
                if self._error is not None:
                    raise self._error
                if not self._ready:
                    return
                batch = self._ready.popleft()
                self._changed.notify_all()
            yield batch

    def stop(self) -> None:
        with self._changed:
            self._stopped.set()
            self._changed.notify_all()

    def work(self) -> None:
        try:
            while (request := self._take()) is not None:
                page = self._fetch(request)
                self._check(request, page)
                self._add(request, page)
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            with self._changed:
                self._error = self._error or error
                self._stopped.set()
                self._changed.notify_all()

    def _finished(self) -> bool:
        return not self._stack and not self._running

    def _take(self) -> PageRequest | None:
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopped.is_set()
                    or self._finished()
                    or (self._stack and len(self._ready) < self._ahead)
                )
            )
            if self._stopped.is_set() or not self._stack:
                return None
            self._running += 1
            return self._stack.pop()

    def _check(self, request: PageRequest, page: Page) -> None:
        """Raise StoreUnavailable if the listing does not advance by this page."""
        check_prefixes(page, request.prefix)
        # The pages of a prefix come one by one.
        place = request.prefix, request.deep
        advance = self._advances.pop(place, None) or Advance()
        advance.check(names_of(page), page.next_marker)
        if page.next_marker is not None:
            self._advances[place] = advance

    def _add(self, request: PageRequest, page: Page) -> None:
        with self._changed:
            if page.next_marker is not None:
                self._stack.append(
                    PageRequest(prefix=request.prefix, marker=page.next_marker, deep=request.deep)
                )
            deep = len(self._stack) + len(page.prefixes) >= self._enough
            self._stack.extend(PageRequest(prefix=below, deep=deep) for below in page.prefixes)
            for start in range(0, page.batch.num_rows, BATCH_ROWS):
                self._ready.append(page.batch.slice(start, BATCH_ROWS))
            self._running -= 1
            self._changed.notify_all()
