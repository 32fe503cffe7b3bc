"""A place that is only looked at: what its store lists, reached as the source of a job is.

Rows pass as the store sends them: nothing is kept, sorted or written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.engine.config.jobfile import EndConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import open_end
from noria.engine.first_look import checked_access, row_of
from noria.manifests.errors import AccessDenied, ConfigurationError, NoriaError
from noria.workers.stores.advance import Advance, check_prefixes, names_of
from noria.workers.stores.background import BackgroundCall
from noria.workers.stores.listing import BATCH_ROWS, PAGES, Listing
from noria.workers.stores.paced import PacedStore
from noria.workers.stores.protocol import ObjectHead, Page, PageRequest, SourceStore

LISTING_STREAMS: Final = 16
"""Prefixes that are listed side by side, as [inventory] has it by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Some of what lies at a place."""

    objects: pa.RecordBatch
    """Of INVENTORY_SCHEMA; `key` is relative to the place."""
    folders: Sequence[str] = ()
    """Relative, with a slash at the end; none if all that is below them is listed."""


class ListedPlace:
    """What a URL names: one object, or all that lies below; a context manager.

    A name without a slash at its end is that of the object, if there is one.
    """

    def __init__(self, end: EndConfig, role: str) -> None:
        """`role` begins the messages of what is refused. What is needed first is asked at once."""
        self._end = end
        location = end.location
        self.store: SourceStore = open_end(end, read_only=True)
        self._paced = PacedStore(inner=self.store, policy=PAGES)
        self.prefix = location.prefix
        self.scheme = location.scheme
        self._name, names_object = location.path, not location.path.endswith("/")
        if location.scheme is Scheme.FILE:
            path = Path(location.container)
            self._name, names_object = path.name, path.is_file()
        self._head: BackgroundCall[ObjectHead | None] | None = None
        if self._name and names_object:
            self._head = BackgroundCall(partial(self._paced.head, self._name), "head")
        self._access = checked_access(self.store, role, end, self._head)
        self._stack = ExitStack()

    def the_object(self) -> pa.RecordBatch | None:
        """The row of the one object that the URL names, under its whole key; None for a folder.

        Raises ConfigurationError if the place cannot be looked at.
        """
        self._access.result()
        if self._head is None:
            return None
        try:
            head = self._head.result()
        except AccessDenied:
            return None  # rights that begin below the name are refused a look at it
        return None if head is None else self._listed(self._name) or row_of(self._name, head)

    def look_up(self, key: str) -> pa.RecordBatch | None:
        """The row of an object by its whole key; None if it is missing."""
        head = self._paced.head(key)
        return None if head is None else row_of(key, head)

    def entries(self, *, recursive: bool, may_be_empty: bool = False) -> Iterator[Entries]:
        """What lies below the place; in no particular order if `recursive`.

        Raises ConfigurationError if the place cannot be looked at; also if nothing lies below a
        prefix, unless that may be.
        """
        found = self._everything() if recursive else self._pages()
        cut = len(self.prefix)
        empty = True
        self._access.result()
        for entries in found:
            folders = [name[cut:] for name in entries.folders]
            objects = entries.objects
            names = pc.utf8_slice_codeunits(objects["key"], cut)
            objects = objects.set_column(0, objects.schema.field(0), names)
            yield Entries(objects=objects, folders=folders)
            empty = empty and not len(objects) and not folders
        if empty and self.prefix and not may_be_empty:
            raise ConfigurationError(
                f"there is nothing below {self._end.location}; check the container and the prefix"
            )

    def __enter__(self) -> ListedPlace:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self.store.close()

    def _listed(self, key: str) -> pa.RecordBatch | None:
        """The row of an object as it is listed, which states more than its head does, if it is."""
        try:
            # The name itself comes before all others that begin with it.
            batch = self.store.list_page(PageRequest(prefix=key)).batch
        except NoriaError:
            return None  # who may read one object need not list
        rows = batch.filter(pc.equal(batch["key"], key))
        return rows if len(rows) else None

    def _everything(self) -> Iterator[Entries]:
        listing = Listing(self.store, self.prefix, streams=LISTING_STREAMS)
        for batch in self._stack.enter_context(listing):
            yield Entries(objects=batch)

    def _pages(self) -> Iterator[Entries]:
        """One folder, page by page; the next page is asked for while one is used."""
        advance, marker = Advance(), None
        call: BackgroundCall[Page] | None = self._ask(marker)
        while call is not None:
            page = call.result()
            check_prefixes(page, self.prefix)
            advance.check(names_of(page), page.next_marker)
            marker = page.next_marker
            call = None if marker is None else self._ask(marker)
            for start in range(0, len(page.batch), BATCH_ROWS):
                yield Entries(objects=page.batch.slice(start, BATCH_ROWS))
            yield Entries(objects=page.batch.slice(0, 0), folders=page.prefixes)

    def _ask(self, marker: str | None) -> BackgroundCall[Page]:
        request = PageRequest(prefix=self.prefix, marker=marker)
        return BackgroundCall(partial(self._paced.list_page, request), "list")
