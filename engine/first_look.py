"""The first look at both ends of a job: what does not depend on each other is asked at once.

Over a distance a question costs a round trip, whatever it is. So the inventory is begun, the target
looked at and connections for the probe opened while access to both ends is checked. The target is
written to, by the probe, only after both checks have passed.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.engine.canary_removal import CanaryRemoval, ProbeNote
from noria.engine.config.jobfile import EndConfig, InventoryConfig, JobConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import open_end
from noria.engine.inventory_files import StoreReportFiles
from noria.engine.kept_listing import STATE_SECONDS, KeptListing
from noria.engine.known_targets import KnownTarget, ProbedTargets
from noria.engine.listing_pace import ListingPace
from noria.manifests.errors import (
    AccessDenied,
    ConfigurationError,
    ContainerMissing,
    NoriaError,
    Retryable,
    Throttled,
)
from noria.manifests.model import PassedOver
from noria.manifests.schema import INVENTORY_SCHEMA
from noria.workers.http.resting import RestingConnections
from noria.workers.stores.background import BackgroundCall
from noria.workers.stores.canaries import CANARY_BYTES, CANARY_NAME, Canaries
from noria.workers.stores.frontier import ListingState
from noria.workers.stores.inspection import Protection
from noria.workers.stores.listing import Listing
from noria.workers.stores.paced import PacedStore
from noria.workers.stores.probe import (
    CONNECTIONS,
    QUICK,
    Effort,
    TargetFacts,
    find_part_facts,
    find_target_facts,
)
from noria.workers.stores.protocol import DRAFT_PREFIX, ObjectHead, SourceStore

if TYPE_CHECKING:
    from noria.manifests.inventory.reading import InventoryReport

LOOK_UP_STREAMS: Final = 32
"""HEAD requests at a time for key lists, which state no sizes."""
ACCESS_PAUSES: Final = (0.3, 0.7, 2.0)
"""Seconds between the tries of the very first request to a store."""
LISTING_CONNECTIONS: Final = 4
"""Opened ahead for the prefixes that the first page of a listing names."""
_MAKES: Final = (
    "; `noria copy` and `noria plan` make it with --create, or target.create = true in a job file",
    "; `noria copy` and `noria plan` make it",
)
"""Ends the refusal of a target that is missing: of a bucket or container, and of a folder."""


class SourceLook:
    """What a job is to move, asked for from the moment that this is made; a context manager."""

    def __init__(
        self,
        config: JobConfig,
        kept: KeptListing | None = None,
        *,
        pace: ListingPace | None = None,
        resting: RestingConnections | None = None,
    ) -> None:
        """`kept` is what an earlier plan of the same job has listed: a listing goes on from it.

        `pace` is what the requests of rows() wait for; None: for nothing. `resting` is as in
        open_end().
        """
        self.pace = pace
        self._begun = datetime.now(UTC)
        self._config = config
        self._state = None if kept is None else kept.state
        self._store = open_end(config.source, read_only=True, resting=resting)
        self._stack = ExitStack()
        self._stack.callback(self._store.close)
        location, inventory = config.source.location, config.inventory
        self._listed: Iterator[pa.RecordBatch | ListingState] = iter(())
        self._head: BackgroundCall[ObjectHead | None] | None = None
        self._report: BackgroundCall[InventoryReport] | None = None
        names_object = bool(location.path) and not location.path.endswith("/")
        if names_object:
            self._head = BackgroundCall(partial(self._store.head, location.path), "head")
        self._access = checked_access(
            self._store, "source", config.source, self._head, lists=inventory.kind != "keys"
        )
        if inventory.kind == "listing":
            self._store.open_ahead(min(LISTING_CONNECTIONS, inventory.listing_streams))
            self._begin_listing(inventory.listing_streams)
        else:
            self._report = BackgroundCall(partial(open_report, config), "report")
            if names_object:
                self._begin_listing(1)

    def check(self) -> None:
        """Wait for the answer whether the source may be read; raise ConfigurationError if not."""
        self._access.result()
        if self._report is not None:
            self._report.result()

    def single_object(self) -> str | None:
        """The whole key, if the source's URL names one object.

        Raises ConfigurationError if that is unclear, or if there is nothing to move.
        """
        location = self._config.source.location
        if location.scheme is Scheme.FILE:
            path = Path(location.container)
            return path.name if path.is_file() else None
        named = self._names_object()
        if named and not self._is_empty_or_closed():
            raise ConfigurationError(
                "the source names an object, and others lie below the same name; write the URL "
                "with a slash at its end to move those"
            )
        if not named and location.prefix and self._report is None and self._is_empty():
            raise ConfigurationError(
                f"there is nothing below {location}; check the container and the prefix"
            )
        return location.path if named else None

    def rows(self, key: str | None, kept: KeptListing | None) -> Iterator[pa.RecordBatch]:
        """Rows of what is to move: of one object if its key is given. Call once.

        A listing is kept in `kept`, and what that has goes before; None: it is not kept.
        """
        if key is not None:
            yield row_of(key, self._store.head(key) if self._head is None else self._head.result())
        elif self._report is not None:
            for batch in self._report.result().batches():
                if self.pace is not None:
                    self.pace.await_turn()
                looked_up = self._config.inventory.kind == "keys"
                yield self._looked_up(batch) if looked_up else batch
        elif kept is not None:
            yield from kept.rows(self._listed)
        else:
            for item in self._listed:
                if not isinstance(item, ListingState):
                    yield item

    def passed_over(self) -> Mapping[PassedOver, int]:
        """Entries of the report that rows() did not yield, by cause, once it has ended."""
        return {} if self._report is None else self._report.result().summary.passed_over

    def as_of(self) -> datetime:
        """The time whose state of the source the rows are of: what came later may be missing."""
        created = None if self._report is None else self._report.result().created
        return created or self._begun

    def report_time(self) -> str | None:
        """When the report that the rows come from was begun, for people."""
        created = None if self._report is None else self._report.result().created
        return None if created is None else f"{created:%Y-%m-%d %H:%M} UTC"

    def __enter__(self) -> SourceLook:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _begin_listing(self, streams: int) -> None:
        prefix = self._config.source.location.prefix
        share = None if self.pace is None else self.pace.share
        listing = Listing(self._store, prefix, streams=streams, state=self._state, pace=share)
        self._stack.enter_context(listing)
        self._listed = listing.with_states(STATE_SECONDS)

    def _looked_up(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of a key list with what HEAD says of each."""
        keys = batch.column("key").to_pylist()
        leaving = threading.Event()
        store = PacedStore(inner=self._store, stopping=leaving)
        if self.pace is not None:
            store = replace(store, requests=self.pace.share.requests)
        with ThreadPoolExecutor(LOOK_UP_STREAMS) as streams:
            heads: Iterable[ObjectHead | None] = streams.map(store.head, keys)
            try:
                rows = [row_of(key, head) for key, head in zip(keys, heads, strict=True)]
            except BaseException:
                leaving.set()  # those who wait in a pause leave, too
                raise
        return pa.concat_batches(rows)

    def _names_object(self) -> bool:
        """Return True if the URL's path is an object's name.

        Rights that begin below it are refused a look at the name itself; there is a folder, then.
        """
        if self._head is None:
            return False
        try:
            return self._head.result() is not None
        except AccessDenied:
            if self._report is None and not self._is_empty():
                return False
            raise

    def _is_empty_or_closed(self) -> bool:
        """Return True if nothing is listed, or nothing may be.

        Rights that end at one object can hold no more than that one.
        """
        try:
            return self._is_empty()
        except AccessDenied:
            return True

    def _is_empty(self) -> bool:
        """Wait for the first row, which rows() yields all the same."""
        first = next(
            (
                item
                for item in self._listed
                if not isinstance(item, ListingState) and item.num_rows > 0
            ),
            None,
        )
        if first is not None:
            self._listed = itertools.chain([first], self._listed)
        return first is None


class TargetLook:
    """What the target is and holds; a context manager, whose end removes the probe's canaries."""

    def __init__(
        self,
        end: EndConfig,
        token: str,
        effort: Effort = QUICK,
        *,
        probed: ProbedTargets | None = None,
    ) -> None:
        """`token` names the canaries: the same each time that this job is planned.

        An effort beyond QUICK is made whatever is known already. `probed` is what other plans of
        this run have found, and gets what this one finds.
        """
        prefix = end.location.prefix
        self.store = open_end(end, resting=None if probed is None else probed.connections)
        self._effort = effort
        self._known = KnownTarget(self.store, prefix, probed=probed)
        self._recalled = self._known.recall() if effort is QUICK else None
        # Requests of the probe go at once, two round trips from now.
        self.store.open_ahead(CONNECTIONS if self._recalled is None else 0)
        self._access = checked_access(self.store, "target", end)
        self._protection = (
            BackgroundCall(self.store.protection, "protection") if self._recalled is None else None
        )
        self._provider = (
            None
            if self._recalled is None
            else BackgroundCall(partial(self.store.answered_as, prefix), "provider")
        )
        self._prefix, self._end = prefix, end
        self._canaries = Canaries(self.store, prefix, token)
        self._leftovers = BackgroundCall(self._canaries.are_there, "leftovers")
        self._listing = Listing(self.store, prefix, streams=1)
        self._facts: BackgroundCall[TargetFacts] | None = None
        self.removal = CanaryRemoval(None)

    def check(self) -> None:
        """Wait for the answer whether the target may be listed; raise ConfigurationError if not."""
        self._access.result()

    def protection(self) -> Protection:
        """How the target keeps what is written to it."""
        try:
            kept = self._protection
            return self.store.protection() if kept is None else kept.result()
        except NoriaError:
            return Protection()

    def begin_probe(self, note: ProbeNote | None) -> None:
        """Probe the target, unless that was done lately. Both ends have to be checked before.

        `note` is written before the first canary, and dropped once they are removed. A target that
        would keep an object gets none.
        """
        recalled, provider = self._recalled, self._provider
        if recalled is None or provider is None or provider.result() != recalled.provider:
            if note is not None:
                note.write(self._end, self._canaries.token)
            self.removal = CanaryRemoval(self._canaries)
            if note is not None:
                self.removal.drop_note(note)
            self._facts = BackgroundCall(self._probe, "probe")

    def facts(self) -> TargetFacts:
        """What the probe found, now or lately."""
        if self._facts is not None:
            return self._facts.result()
        assert self._recalled is not None, "begin_probe() was called"
        if self._leftovers.result():
            self.removal = CanaryRemoval(self._canaries)
            self.removal.begin()
        return self._recalled

    def was_empty(self) -> bool:
        """Return True if the target held nothing that counts; see holds_nothing()."""
        return holds_nothing(self._listing, self._end)

    def __enter__(self) -> TargetLook:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._listing.close()
        self._known.give_up()
        if kind is not None:
            self.removal.finish_soon()

    def _keeps_canaries(self) -> bool:
        """Return True if the target would keep an object: one is tried if it does not say.

        Also before many are written, for credentials may lack the right to delete them. Azure says
        of its own policies only to an identity; a plan does not wait for two more answers there.
        """
        protection = self.protection()
        if protection.keeps_canaries:
            return True
        unknown = protection.locks is None and self.store.provider != "azure"
        return (unknown or self._effort is not QUICK) and not self._canaries.can_go()

    def _probe(self) -> TargetFacts:
        try:
            if self._keeps_canaries():
                found = find_part_facts(self._canaries)
            else:
                found = find_target_facts(self._canaries, self._effort)
        finally:
            self.removal.begin()
        self._known.keep(found)
        return found


def holds_nothing(listing: Iterable[pa.RecordBatch], target: EndConfig) -> bool:
    """Return True if a target lists no object but folder markers, canaries and drafts.

    Nothing of ours lands on a folder marker. Canaries of any probe count, also of one for another
    job that was killed: no run may take objects of others for expected because of them.
    """
    for batch in listing:
        names = pc.utf8_slice_codeunits(batch["key"], len(target.location.prefix))
        canary = pc.and_(
            pc.less_equal(batch["size"], CANARY_BYTES),
            pc.match_substring_regex(names, f"^{CANARY_NAME}$"),
        )
        marker = pc.and_(pc.equal(batch["size"], 0), pc.ends_with(batch["key"], "/"))
        ours = pc.or_(marker, canary)
        if target.location.scheme is Scheme.FILE:
            # Drafts of a killed worker: the next reconcile removes them.
            ours = pc.or_(ours, pc.starts_with(batch["key"], DRAFT_PREFIX))
        if not pc.all(ours, min_count=0).as_py():
            return False
    return True


def row_of(key: str, head: ObjectHead | None) -> pa.RecordBatch:
    """The row of one object. One that is gone is an empty object that the move will miss."""
    row: dict[str, Any] = dict.fromkeys(INVENTORY_SCHEMA.names)
    row |= {"key": key, "size": 0}
    if head is not None:
        row |= {
            "size": head.size,
            "etag": head.etag,
            "version_id": head.version_id,
            "crc64nvme": head.crc64nvme,
            "content_type": head.attributes.content_type,
            "content_encoding": head.attributes.content_encoding,
            "content_language": head.attributes.content_language,
            "content_disposition": head.attributes.content_disposition,
            "cache_control": head.attributes.cache_control,
            "metadata": json.dumps(
                dict(head.attributes.metadata), sort_keys=True, separators=(",", ":")
            ),
        }
    return pa.RecordBatch.from_pylist([row], schema=INVENTORY_SCHEMA)


def checked_access(
    store: SourceStore,
    role: str,
    end: EndConfig,
    head: BackgroundCall[ObjectHead | None] | None = None,
    *,
    lists: bool = True,
) -> BackgroundCall[None]:
    """Begin to check that what the job has to do may be done, and ask for no right beyond it.

    It lists below the end's own prefix alone. `head` is the look at the one object that the end's
    URL names, if it does: who may read that need not list. `lists` is False if nothing is listed in
    this job. A wrong name, key or endpoint is wrong usage here, whichever error it gives; a store
    that is busy is not.
    """

    def check() -> None:
        try:
            try_access(store, end.location.prefix)
        except AccessDenied as error:
            if not lists or (head is not None and _is_readable(head)):
                return
            raise ConfigurationError(f"{role} {end.location}: {error.message}") from error
        except Throttled:
            raise
        except ContainerMissing as error:
            advice = _MAKES[end.location.scheme is Scheme.FILE] if role == "target" else ""
            raise ConfigurationError(f"{role} {end.location}: {error.message}{advice}") from error
        except NoriaError as error:
            raise ConfigurationError(f"{role} {end.location}: {error.message}") from error

    return BackgroundCall(check, f"check {role}")


def try_access(store: SourceStore, prefix: str) -> None:
    """Check access; what may pass is tried again, but for seconds only: a person waits."""
    for pause in (*ACCESS_PAUSES, None):
        try:
            store.check_access(prefix)
            return
        except Retryable:
            if pause is None:
                raise
            time.sleep(pause)


def _is_readable(head: BackgroundCall[ObjectHead | None]) -> bool:
    try:
        return head.result() is not None
    except NoriaError:
        return False


def open_report(config: JobConfig) -> InventoryReport:
    """The report, its manifest checked. Raises InventoryError, ConfigurationError."""
    # Readers of reports are many, and most jobs list.
    from noria.manifests.inventory.reading import InventoryKind, read_inventory

    kinds = {
        "azure-inventory": InventoryKind.AZURE,
        "s3-inventory": InventoryKind.S3,
        "keys": InventoryKind.KEYS,
    }
    inventory, location = config.inventory, config.source.location
    relative = inventory.names == "relative"
    store, name = _report_store(inventory, config)
    return read_inventory(
        InventoryKind.RELATIVE_KEYS if relative else kinds[inventory.kind],
        StoreReportFiles(store, name),
        name,
        container=location.container,
        prefix=location.prefix,
        account=location.account or None,
    )


def _report_store(inventory: InventoryConfig, config: JobConfig) -> tuple[SourceStore, str]:
    if inventory.url is None:
        raise ConfigurationError(f"inventory.kind = {inventory.kind} needs inventory.url")
    end = EndConfig(url=inventory.url, endpoint=inventory.endpoint)
    location, source = end.location, config.source
    if location.scheme is Scheme.FILE:
        # A person named this path, so that it may lead through links; stores follow none.
        folder, name = os.path.split(location.container)
        path = os.path.join(os.path.realpath(folder), name)
        return open_end(EndConfig(url="file:///"), read_only=True), path[1:]
    if location.scheme is source.location.scheme:
        same = location.account == source.location.account
        endpoint = inventory.endpoint or (source.endpoint if same else None)
        end = source.model_copy(update={"url": inventory.url, "endpoint": endpoint})
    return open_end(end, read_only=True), location.path
