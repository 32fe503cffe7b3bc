"""The nouns of Noria: frozen data without I/O, and all that crosses a process.

Sizes and offsets are bytes. Part numbers start at 1. Units (rows of a shard, or parts of a huge
object) are counted from 0, and every pair `first, end` is half open. Attempts are unique within a
job and grow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

Key = TypeVar("Key")
Number = TypeVar("Number", int, float)


class Outcome(StrEnum):
    """What became of one manifest entry. Each entry ends with exactly one."""

    TRANSFERRED = "TRANSFERRED"
    ALREADY_PRESENT = "ALREADY_PRESENT"
    SOURCE_CHANGED = "SOURCE_CHANGED"
    SOURCE_MISSING = "SOURCE_MISSING"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    DELETED = "DELETED"
    """The source no longer has it, and what this migration wrote was deleted at the target."""

    @property
    def landed(self) -> bool:
        """True if the object is at the target."""
        return self in (Outcome.TRANSFERRED, Outcome.ALREADY_PRESENT)

    @property
    def as_planned(self) -> bool:
        """True if the object is where the plan wants it: at the target, or not there any more."""
        return self.landed or self is Outcome.DELETED


class Level(StrEnum):
    """Verification levels, weakest first. A level is what was reached, never what was asked for."""

    COUNTED = "counted"
    INGESTED = "ingested"
    CHAINED = "chained"
    SAMPLED = "sampled"
    REREAD = "reread"
    SEALED = "sealed"


class Reason(StrEnum):
    """Why the plan does not move an entry. SKIPPED by policy, or refused since it cannot land."""

    FOLDER_STUB = "folder_stub"
    NOT_CURRENT = "not_current"
    ARCHIVED = "archived"
    CUSTOMER_KEY = "customer_key"
    TOO_LARGE = "too_large"
    METADATA_TOO_LARGE = "metadata_too_large"
    NAME_TOO_LONG = "name_too_long"
    NAME_MERGED = "name_merged"
    NAME_REFUSED = "name_refused"
    NAME_NOT_UTF8 = "name_not_utf8"
    LINK = "link"
    """A symbolic link of a file system: links are not followed."""
    SPECIAL_FILE = "special_file"
    """A socket, pipe or device of a file system."""

    @property
    def refused(self) -> bool:
        """True if a person has to act, False if leaving the entry out is normal policy."""
        return self not in _LEFT_BY_POLICY


_LEFT_BY_POLICY = (
    Reason.FOLDER_STUB,
    Reason.NOT_CURRENT,
    Reason.LINK,
    Reason.SPECIAL_FILE,
)


class Delta(StrEnum):
    """Why a later pass has an entry: how the source differs from what stands at the target."""

    NEW = "new"
    """Nothing of this migration stands there: the source has it since, or it had not landed."""
    SIZE = "size"
    ETAG = "etag"
    VERSION = "version"
    MODIFIED = "modified"
    """The same ETag, or none that both state, but another time: its attributes may have changed."""
    CONTENT = "content"
    """A listing tells no difference, and the bytes are to be compared: both ends are read, unless
    the target states the checksum."""
    DAMAGED = "damaged"
    """The source has not changed: at the target lie other bytes than were sent, and give way."""
    GONE = "gone"
    """The source no longer has it."""


class Guard(StrEnum):
    """What kept a write from replacing, or a deletion from taking, what somebody else wrote."""

    IF_MATCH = "if_match"
    """The target itself, which was probed to honour it: the ETag is the one that was left there."""
    LOOK = "look"
    """A look right before: what was written between the two would not have been seen."""


class PassedOver(StrEnum):
    """Why an entry of a listing or an inventory has no row in the manifest, and is counted only."""

    OUTSIDE_PREFIX = "outside_prefix"
    OTHER_CONTAINER = "other_container"
    DUPLICATE = "duplicate"
    """The same row again."""
    SUPERSEDED = "superseded"
    """Another current row of a key, older than the one that is kept."""
    NOT_CURRENT = "not_current"
    """A version or snapshot of a key that has a row."""
    FILTERED_NAME = "filtered_name"
    """A filter of the job leaves it out, as the following do."""
    FILTERED_SIZE = "filtered_size"
    FILTERED_AGE = "filtered_age"
    FILTERED_TIER = "filtered_tier"
    FILTERED_TYPE = "filtered_type"
    FILTERED_TAG = "filtered_tag"

    @property
    def filtered(self) -> bool:
        """True if the job's own filter leaves the entry out."""
        return self.value.startswith("filtered_")


class Treatment(StrEnum):
    """What becomes of an attribute that the target cannot hold."""

    REFUSE = "refuse"
    """The object does not land."""
    LEAVE = "leave"
    """The object lands without it."""
    MAP = "map"
    """It is written in another form, if there is one that says the same; else it is left."""


class ConflictPolicy(StrEnum):
    """What becomes of an entry if an object is at the target that this migration did not leave."""

    REFUSE = "refuse"
    """The entry fails."""
    KEEP = "keep"
    """What stands there stays, and the entry is counted as skipped."""
    REPLACE = "replace"
    """What stands there is replaced."""


class LinkPolicy(StrEnum):
    """What becomes of the symbolic links of a source that is a folder."""

    SKIP = "skip"
    """They are counted."""
    REFUSE = "refuse"
    """There is no plan."""
    FOLLOW = "follow"
    """What they lead to is moved under their name; one to a folder that it lies in is counted."""


class AttributeChange(StrEnum):
    """How the attributes of an object that landed differ from the source's; in its receipt."""

    METADATA_LEFT = "metadata_left"
    METADATA_MAPPED = "metadata_mapped"
    METADATA_LOWERED = "metadata_lowered"
    """Names in lower case, as S3 writes all."""
    HEADER_LEFT = "header_left"
    HEADER_MAPPED = "header_mapped"
    TAGS_LEFT = "tags_left"
    """The target cannot hold them."""
    TAGS_REFUSED = "tags_refused"
    """The target refused them: no tags there, or no right to write them."""
    TAGS_UNREADABLE = "tags_unreadable"
    """The source does not say whether there are tags, and refuses to show them."""
    EXPIRES_LEFT = "expires_left"
    REDIRECT_LEFT = "redirect_left"
    CLASS_LEFT = "class_left"
    ENCRYPTION_LEFT = "encryption_left"
    BLOB_TYPE_LEFT = "blob_type_left"
    """A page blob or an append blob became a block blob, or an object."""
    RETENTION_LEFT = "retention_left"
    """A retention that has not ended, or a legal hold."""


class ShardKind(StrEnum):
    OBJECTS = "objects"
    """Units are rows of the shard's row group."""
    PARTS = "parts"
    """One huge object in a row group of its own; units are its parts, moved by several workers."""


class LeaseKind(StrEnum):
    OBJECTS = "objects"
    PARTS = "parts"
    ASSEMBLE = "assemble"
    """Complete the multipart upload of a PARTS shard all of whose parts are settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What travels with an object apart from its bytes. None means the source states nothing."""

    content_type: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    content_disposition: str | None = None
    cache_control: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    modified_seconds: float | None = None
    """Last-Modified of the source, Unix time."""
    expires: str | None = None
    website_redirect: str | None = None
    storage_class: str | None = None
    """S3's storage class or Azure's tier, if it is not the one of all objects there."""
    encryption: str | None = None
    """The source's encryption by keys of a key service; None for the one that all objects have."""
    blob_type: str | None = None
    """PageBlob or AppendBlob; None for a block blob and whatever else is written once and whole."""
    content_md5: str | None = None
    """Base64; as Azure keeps it with a blob."""
    retain_mode: str | None = None
    """"governance" (Azure: unlocked) or "compliance" (Azure: locked)."""
    retain_until: float | None = None
    """When the retention ends, Unix time."""
    legal_hold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEntry:
    """One row of the manifest, as a worker needs it."""

    shard: int
    row: int
    key: str
    """Name below the source's prefix."""
    target_key: str
    """Name below the target's prefix."""
    size: int
    etag: str | None
    """Planned ETag, without quotes. None if the inventory states none: the first read pins it."""
    version_id: str | None
    crc64nvme: int | None
    """Whole-object CRC64NVME as the source states it."""
    reason: Reason | None
    """Set if the plan does not move the entry."""
    delta: Delta | None = None
    """Why a later pass has it; None in the first one. GONE: it is to be deleted at the target."""
    replaces: str | None = None
    """ETag of the object at the target that earlier passes wrote, and that this is to replace."""

    @property
    def object_id(self) -> str:
        """The entry's place in the frozen manifest; names it in transfer ids."""
        return f"{self.shard}.{self.row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A slice of an object as the target takes it; `number` starts at 1."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """A part that the target has acknowledged."""

    number: int
    size: int
    etag: str
    crc64nvme: int
    chunks: bytes
    """xxh3_128 of each chunk of the part, 16 bytes each, big endian, in order."""
    checked: bool = False
    """The target verified a checksum that was sent along, or stated the same one itself."""
    stated: bool = False
    """The source stated this CRC64 as that of these bytes, when they were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A multipart upload that was opened for an entry."""

    row: int
    upload_id: str
    txid: str
    part_bytes: int
    etag: str
    """The source ETag that every range of this upload is pinned to."""
    untagged: bool = False
    """It was opened without the source's tags, which the target had refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """One shard of the frozen plan: a row group of a manifest file."""

    shard: int
    kind: ShardKind
    units: int
    """Rows (OBJECTS) or parts (PARTS)."""
    bytes: int
    units_per_lease: int
    """Units of one lease at first: all rows for OBJECTS, a segment's parts for PARTS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work on units [first, end) of a shard.

    Ids and numbers only: no bytes, no secret. `attempt` fences: a result counts only while its
    attempt is the live one for the span.
    """

    shard: int
    kind: LeaseKind
    first: int
    end: int
    attempt: int
    generation: int
    """Which multipart upload of a PARTS shard this lease feeds; 0 for OBJECTS."""
    is_last: bool = True
    """An object that fails here for a cause that may pass has failed.

    False: such a failure ends the lease, and a worker on another host tries before it is believed.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseProgress:
    """How far a worker is with a lease; part of its heartbeat."""

    shard: int
    first: int
    attempt: int
    end: int
    """The end the worker now holds itself to: smaller than the lease's after a split."""
    units_done: int
    bytes_done: int
    """Of those that landed."""
    units_failed: int = 0
    """Of those that are done."""
    kind: LeaseKind = LeaseKind.OBJECTS
    """What its units are. Only those of OBJECTS are objects."""


class LeaseEnd(StrEnum):
    FINISHED = "finished"
    """Units [first, end) are final and their result file is written."""
    RETURNED = "returned"
    """Handed back unfinished (drain, revoke); the journal holds what was done."""
    FAILED = "failed"
    """The lease as such failed; `cause` says why. Objects that failed alone do not end a lease."""
    UPLOAD_LOST = "upload_lost"
    """The upload of a PARTS shard is gone; every part of its generation is void."""
    FATAL = "fatal"
    """The run must stop: credentials, clock, configuration, job directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptSummary:
    """What receipts add up to. Summaries of disjoint sets of receipts add up with `+`."""

    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    """Outcome -> receipts."""
    outcome_bytes: Mapping[Outcome, int] = field(default_factory=dict)
    """Outcome -> sizes of the objects."""
    levels: Mapping[Level, int] = field(default_factory=dict)
    causes: Mapping[str, int] = field(default_factory=dict)
    """Plan reasons and error causes -> receipts."""
    changes: Mapping[str, int] = field(default_factory=dict)
    """AttributeChange -> receipts."""
    bytes_moved: int = 0
    """Bytes sent to the target, re-sent ones included."""
    part_bytes: int = 0
    """Bytes of acknowledged parts of a huge object, which has no receipt before it is assembled."""

    def __add__(self, other: ReceiptSummary) -> ReceiptSummary:
        return ReceiptSummary(
            outcomes=_added(self.outcomes, other.outcomes),
            outcome_bytes=_added(self.outcome_bytes, other.outcome_bytes),
            levels=_added(self.levels, other.levels),
            causes=_added(self.causes, other.causes),
            changes=_added(self.changes, other.changes),
            bytes_moved=self.bytes_moved + other.bytes_moved,
            part_bytes=self.part_bytes + other.part_bytes,
        )

    @property
    def entries(self) -> int:
        """How many receipts: one for each entry of the manifest."""
        return sum(self.outcomes.values())

    @property
    def landed_bytes(self) -> int:
        return sum(size for outcome, size in self.outcome_bytes.items() if outcome.landed)


def _added(first: Mapping[Key, Number], second: Mapping[Key, Number]) -> dict[Key, Number]:
    """The sum for each key of either."""
    total = dict(first)
    for key, number in second.items():
        total[key] = total.get(key, 0) + number
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseResult:
    """How a lease ended; `result_name` and `result_sha256` name the file that a seal refers to."""

    shard: int
    kind: LeaseKind
    first: int
    end: int
    attempt: int
    generation: int
    how: LeaseEnd
    cause: str | None = None
    message: str | None = None
    result_name: str | None = None
    result_sha256: str | None = None
    summary: ReceiptSummary = field(default_factory=ReceiptSummary)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The final word on one entry."""

    row: int
    key: str
    target_key: str
    outcome: Outcome
    size: int
    cause: str | None = None
    """A Reason, or the `cause` of the error that ended it."""
    message: str | None = None
    level: Level | None = None
    """None if nothing landed."""
    level_reason: str | None = None
    """Why the level is lower than the one asked for."""
    source_etag: str | None = None
    source_version: str | None = None
    target_etag: str | None = None
    target_version: str | None = None
    txid: str | None = None
    crc64nvme: int | None = None
    chunk_bytes: int | None = None
    chunks: bytes | None = None
    """xxh3_128 of each chunk, 16 bytes each, big endian."""
    root: bytes | None = None
    """SHA-256 over size, chunk size and chunks: see workers/digest.py."""
    parts: int = 0
    """0 if one PUT carried the object."""
    bytes_moved: int = 0
    """Bytes sent to the target for it, re-sent ones included, in the attempt that finished it."""
    attempt: int = 0
    finished_ms: int = 0
    """Unix time."""
    changes: str | None = None
    """The object's AttributeChanges in order, joined by commas; None if there are none."""
    delta: str | None = None
    """A Delta: why a later pass had the entry; None in the first one."""
    guard: str | None = None
    """A Guard, if an object was replaced or deleted; None if nothing stood there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSnapshot:
    """What one worker process has counted since it started; of several workers with `+`.

    Counters and histograms of one worker only grow: the driver takes differences.
    """

    counters: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    """(metric, label values ...) -> total."""
    gauges: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    histograms: Mapping[tuple[str, ...], tuple[float, ...]] = field(default_factory=dict)
    """(metric, label values ...) -> counts of each bucket of LATENCY_BUCKETS and above, the sum."""

    def __add__(self, other: MetricsSnapshot) -> MetricsSnapshot:
        histograms = dict(self.histograms)
        for labels, counts in other.histograms.items():
            known = histograms.get(labels, (0.0,) * len(counts))
            histograms[labels] = tuple(a + b for a, b in zip(known, counts, strict=True))
        return MetricsSnapshot(
            counters=_added(self.counters, other.counters),
            gauges=_added(self.gauges, other.gauges),
            histograms=histograms,
        )

    def without_gauges(self) -> MetricsSnapshot:
        """What is still true when the worker is gone."""
        return MetricsSnapshot(counters=self.counters, histograms=self.histograms)


LATENCY_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    120,
)
"""Upper bounds in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one worker may have in flight."""

    transfers: int
    """Objects and parts that are being moved."""
    source: int
    """Requests at the source, if that is to be fewer: each transfer has one at most."""
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthShare:
    """What one worker may read from now on, of what the whole job may."""

    bytes_per_second: float
    """inf: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestShare:
    """How many requests one worker may begin at a store, of what the whole job may."""

    store: str
    """A StoreRole."""
    per_second: float
    """inf: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthUse:
    """What one worker has made of its share since it started: of bytes, or of requests."""

    share: float = math.inf
    """Bytes, or requests, a second, as in force. inf: no limit."""
    seconds: float = 0.0
    """Since the worker started, by its own clock."""
    used_bytes: float = 0.0
    transfer_seconds: float = 0.0
    """Time that transfers were in flight, summed."""
    held_seconds: float = 0.0
    """Of that, the time that they waited for their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """A worker's answer to the driver: its heartbeat and what ended since the last one."""

    worker: str
    incarnation: str
    progress: tuple[LeaseProgress, ...]
    results: tuple[LeaseResult, ...]
    metrics: MetricsSnapshot
    free_places: int = 0
    """Of the transfers that it may have in flight, how many had no work since the last report.

    Only those count that had none to start for the whole of that time.
    """
    bandwidth: BandwidthUse = BandwidthUse()
    requests: Mapping[str, BandwidthUse] = field(default_factory=dict)
    """Of requests a second, by the store at which they are made."""
