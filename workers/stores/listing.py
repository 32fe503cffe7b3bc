"""List a store on several threads: prefixes and pieces of them side by side.

frontier.py says what is listed next and what an answer means; the threads here ask. Pages are the
unit of work, and few of them wait, so memory does not grow with the number of objects.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import NoriaError
from noria.manifests.schema import INVENTORY_SCHEMA
from noria.workers.runtime.bandwidth import Bandwidth
from noria.workers.stores.background import LOOK_SECONDS
from noria.workers.stores.frontier import Errand, Frontier, ListingState
from noria.workers.stores.paced import PacedStore, RetryPolicy, Stopped
from noria.workers.stores.protocol import Page, PageRequest, SourceStore

PAGES: Final = RetryPolicy(tries=8, base_seconds=0.2, cap_seconds=20.0)
"""For one page. A listing retries pages itself, because its caller could only start again."""
BATCH_ROWS: Final = 65_536
BEAT_SECONDS: Final = 1.0
"""How often whoever wants beats gets one, while nothing comes."""
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


_NOTHING: Final = inventory_batch({}, 0)


def list_objects(
    store: SourceStore,
    prefix: str,
    *,
    streams: int = 8,
    policy: RetryPolicy = PAGES,
    splits: Iterable[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Yield all objects below `prefix` as INVENTORY_SCHEMA batches of at most BATCH_ROWS rows.

    They come in no particular order. Prefixes, and pieces of long ones, are listed side by side on
    `streams` threads, which end with the iterator; with one stream, all is one listing. A page that
    fails is retried; errors left after retries propagate. `splits` are as in Listing.
    """
    with Listing(store, prefix, streams=streams, policy=policy, splits=splits) as listing:
        yield from listing


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingShare:
    """What a listing may use a second, which may change while it goes on. By default, any."""

    requests: Bandwidth = field(default_factory=Bandwidth)
    """Of requests, not of bytes; 0: no page is asked for."""
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    """Of the bytes of pages."""


class Listing:
    """As list_objects(), but the first page is asked for at once, not when rows are wanted.

    Iterate over it once, and close it; that ends its threads.
    """

    def __init__(
        self,
        store: SourceStore,
        prefix: str,
        *,
        streams: int = 8,
        policy: RetryPolicy = PAGES,
        splits: Iterable[str] = (),
        state: ListingState | None = None,
        pace: ListingShare | None = None,
    ) -> None:
        """`splits` are whole names between which as many objects are expected, if that is known.

        They need not exist. There should be some for each stream. `state` is how far an earlier
        listing of the same prefix came, of which the rest is listed. `pace`: each page waits for
        its turn there, and while none comes an empty batch comes about once a second, so that the
        caller may tell why. Raises ValueError, LookupError if the state is damaged.
        """
        stopping = threading.Event()
        share = pace or ListingShare()
        paced = PacedStore(
            inner=store,
            policy=policy,
            stopping=stopping,
            requests=share.requests,
        )
        frontier = Frontier(prefix, streams=streams, splits=splits)
        if state is not None:
            frontier.go_on(state)
        self._walk = _Walk(
            paced.list_page,
            frontier,
            streams * BATCHES_AHEAD,
            stopping,
            bandwidth=share.bandwidth,
            beats=pace is not None,
        )
        self._threads = [
            threading.Thread(target=self._walk.work, name=f"list-{number}", daemon=True)
            for number in range(streams)
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return (item for item in self._walk.items() if not isinstance(item, ListingState))

    def with_states(self, every_seconds: float) -> Iterator[pa.RecordBatch | ListingState]:
        """As iter(), and at times how far the listing has come with the batches so far."""
        self._walk.note_states(every_seconds)
        return self._walk.items()

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
    """One walk's frontier, shared by its threads, and the rows that wait for the caller."""

    def __init__(
        self,
        fetch: Callable[[PageRequest], Page],
        frontier: Frontier,
        ahead: int,
        stopping: threading.Event,
        *,
        bandwidth: Bandwidth,
        beats: bool,
    ) -> None:
        self._fetch = fetch
        self._bandwidth = bandwidth
        self._beats = beats
        self._frontier = frontier
        self._ahead = ahead
        self._ready: deque[pa.RecordBatch | ListingState] = deque()
        self._state_seconds: float | None = None
        self._noted = time.monotonic()
        """When the last state was."""
        self._error: BaseException | None = None
        self._stopped = stopping
        self._changed = threading.Condition()

    def note_states(self, every_seconds: float) -> None:
        with self._changed:
            self._state_seconds = every_seconds

    def items(self) -> Iterator[pa.RecordBatch | ListingState]:
        while True:
            item: pa.RecordBatch | ListingState = _NOTHING
            began = time.monotonic()
            with self._changed:
                while not (self._ready or self._error or self._frontier.finished):
                    self._changed.wait(LOOK_SECONDS)
                    if self._beats and time.monotonic() - began >= BEAT_SECONDS:
                        break
                if self._error is not None:
                    raise self._error
                if self._ready:
                    item = self._ready.popleft()
                    self._changed.notify_all()
                elif self._frontier.finished:
                    return
            yield item

    def stop(self) -> None:
        with self._changed:
            self._stopped.set()
            self._changed.notify_all()

    def work(self) -> None:
        try:
            while (errand := self._take()) is not None:
                self._answer(errand)
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            with self._changed:
                self._error = self._error or error
                self._stopped.set()
                self._changed.notify_all()

    def _take(self) -> Errand | None:
        with self._changed:
            while not (self._stopped.is_set() or self._frontier.finished):
                errand = self._frontier.take() if len(self._ready) < self._ahead else None
                if errand is not None:
                    return errand
                self._changed.wait()
            return None

    def _answer(self, errand: Errand) -> None:
        try:
            pages = [self._fetch(request) for request in errand.requests]
            for page in pages:
                # How many bytes a page has is known once they are there.
                self._bandwidth.take(page.answer_bytes, self._stopped)
        except NoriaError:
            with self._changed:
                batches = self._frontier.refused(errand)
                if batches is None:
                    raise
                self._deliver(batches)
            return
        with self._changed:
            self._deliver(self._frontier.answer(errand, pages))

    def _deliver(self, batches: Iterable[pa.RecordBatch]) -> None:
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH_ROWS):
                self._ready.append(batch.slice(start, BATCH_ROWS))
        now = time.monotonic()
        if self._state_seconds is not None and now - self._noted >= self._state_seconds:
            self._noted = now
            self._ready.append(self._frontier.state())
        self._changed.notify_all()
