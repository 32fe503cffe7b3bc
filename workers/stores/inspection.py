"""What a store is and what its credentials may do, asked in ways that change nothing.

A right is tried on a name that nobody has: the completion of an upload that does not exist, the
deletion of nothing. So the answer is the store's own word, and what is there stays as it is. If
even that would leave something (a marker, in a bucket that keeps versions), nothing is asked and
the answer is unclear.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import AccessDenied, NoriaError
from noria.manifests.plan.shards import NO_FILES
from noria.workers.stores.background import BackgroundCall
from noria.workers.stores.listing import Listing
from noria.workers.stores.protocol import SourceStore, TargetStore

NOBODYS_NAME: Final = ".noria-asks-"
"""Begins names that are asked about and never written."""


class Granted(StrEnum):
    """Whether credentials have a right."""

    YES = "yes"
    NO = "no"
    UNCLEAR = "unclear"
    """The store answered something else, or could not be asked without leaving something."""


class KeptKind(StrEnum):
    """What a store keeps besides the objects that a listing shows."""

    VERSION = "versions"
    """Older versions of objects, and those of objects that were deleted."""
    MARKER = "markers"
    """Of deletions, where versions are kept. They have no bytes."""
    SNAPSHOT = "snapshots"
    DELETED = "deleted"
    """Deleted softly: they can be had back for a while."""


class KeptCounts:
    """How many are kept of each kind, and their bytes. What was not asked for is not in it."""

    def __init__(self, asked: Iterable[KeptKind] = ()) -> None:
        self.objects = dict.fromkeys(asked, 0)
        self.bytes = dict.fromkeys(self.objects, 0)

    def add(self, kind: KeptKind, size: int) -> None:
        self.objects[kind] += 1
        self.bytes[kind] += size


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """How a container keeps what was written. None: it does not say, or may not be asked."""

    versioned: bool | None = None
    """Deletions leave a marker, and old versions stay. False: so it has never been."""
    locks: bool | None = None
    """Objects can be locked against deletion."""
    retention: str | None = None
    """What is written stays for this time, as in `GOVERNANCE, 30 days`. None: no such default."""

    @property
    def keeps_canaries(self) -> bool:
        """True if an object that is written can not be deleted again at once."""
        return self.retention is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The service behind a store, and the way to it."""

    endpoint: str
    credentials: str
    """What kind they are, in words; no part of them."""
    credentials_end: float | None = None
    """Unix time. None: they do not end, or do not say when."""
    credentials_renew: bool = False
    """They end, and new ones are had without a person."""
    encryption: str | None = None
    """TLS version and cipher. None: none."""
    clock_seconds: float | None = None
    """How far this machine's clock is ahead of the service's. None: it states no time."""
    region: str | None = None
    """Which requests are signed for."""
    region_stated: str | None = None
    """Where the service says that the container is."""
    free_bytes: int | None = None
    """Room that is left, if the service says so."""


class InspectedStore(TargetStore, Protocol):
    """A store that also says what it is. Each verb sends one request at most, or two."""

    def make_container(self) -> bool:
        """Make the bucket, container or folder, which nobody but its owner can read.

        Return False if there is one of that name already, which may be somebody else's. Raises
        AccessDenied, ConfigurationError, Retryable.
        """

    def service(self, prefix: str = "") -> Service:
        """Ask with a listing of one name below `prefix`. Raises what a listing raises."""

    def protection(self) -> Protection:
        """Raises only what says nothing about the container: it is unavailable, or throttles."""

    def count_kept(self, prefix: str) -> KeptCounts:
        """Count what is kept below `prefix` besides what a listing shows; a page is held at a time.

        Raises what a listing raises, AccessDenied if that takes another right.
        """

    def may_write(self, key: str) -> Granted:
        """Return whether an object could be written. `key` is a name that nobody has."""

    def may_delete(self, key: str) -> Granted:
        """Return whether an object could be deleted. `key` is a name that nobody has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRights:
    """What credentials may do at a source, and beyond what a move needs."""

    lists: Granted
    reads: Granted
    """UNCLEAR also if nothing is there to be read."""
    reads_tags: Granted
    lists_outside: Granted
    """Outside the prefix. UNCLEAR if there is no prefix."""
    writes: Granted
    deletes: Granted


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRights:
    """As SourceRights, for what no canary tells."""

    lists_uploads: Granted
    aborts_uploads: Granted
    lists_outside: Granted


def source_rights(store: InspectedStore, prefix: str, key: str | None = None) -> SourceRights:
    """Ask what may be done below `prefix`. `key` is the one object that the job is about."""
    nobodys = _nobodys_name(prefix)
    writes = BackgroundCall(partial(_answer, partial(store.may_write, nobodys)))
    deletes = BackgroundCall(partial(_answer, partial(store.may_delete, nobodys)))
    outside = BackgroundCall(partial(_lists_outside, store, prefix))
    found: list[str] = [] if key is None else [key]

    def list_first() -> None:
        with Listing(store, prefix, streams=1) as listing:
            first = next(itertools.chain.from_iterable(map(_readable_keys, listing)), None)
        if key is None and first is not None:
            found.append(first)

    lists = _granted(list_first)
    reads = tags = Granted.UNCLEAR
    if found:
        read_tags = BackgroundCall(partial(_granted, partial(store.read_tags, found[0])))
        reads = _granted(partial(_read_little, store, found[0]))
        tags = read_tags.result()
    return SourceRights(
        lists=lists,
        reads=reads,
        reads_tags=tags,
        lists_outside=outside.result(),
        writes=writes.result(),
        deletes=deletes.result(),
    )


def _readable_keys(batch: pa.RecordBatch) -> list[str]:
    """Names of what has bytes to read: no links, no stubs of folders."""
    odd = pc.is_in(batch["blob_type"], value_set=pa.array(NO_FILES, pa.string()))
    stub = pc.fill_null(batch["is_folder"], False)
    keys: list[str] = batch["key"].filter(pc.invert(pc.or_(odd, stub))).to_pylist()
    return keys


def target_rights(store: InspectedStore, prefix: str) -> TargetRights:
    """Ask for the rights at a target that its canaries do not show."""
    lists = BackgroundCall(
        partial(_granted, lambda: next(iter(store.list_uploads(_nobodys_name(prefix))), None))
    )
    aborts = BackgroundCall(
        partial(_granted, partial(store.abort_upload, _nobodys_name(prefix), _NO_UPLOAD))
    )
    return TargetRights(
        lists_uploads=lists.result(),
        aborts_uploads=aborts.result(),
        lists_outside=_lists_outside(store, prefix),
    )


_NO_UPLOAD: Final = "0" * 32
"""No store gives an upload this id."""


def _nobodys_name(prefix: str) -> str:
    return f"{prefix}{NOBODYS_NAME}{secrets.token_hex(12)}"


def _lists_outside(store: SourceStore, prefix: str) -> Granted:
    return _granted(partial(store.check_access, "")) if prefix else Granted.UNCLEAR


def _read_little(store: SourceStore, key: str) -> None:
    """Read the first byte of an object, or only its head if it is empty."""
    head = store.head(key)
    if head is not None and head.size:
        store.read_range(key, offset=0, into=memoryview(bytearray(1)), etag=head.etag)


def _granted(call: Callable[[], object]) -> Granted:
    try:
        call()
    except AccessDenied:
        return Granted.NO
    except NoriaError:
        return Granted.UNCLEAR
    return Granted.YES


def _answer(ask: Callable[[], Granted]) -> Granted:
    """The answer to a question; unclear if there is none."""
    try:
        return ask()
    except NoriaError:
        return Granted.UNCLEAR
