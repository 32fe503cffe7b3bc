"""Which entries can land and under what name, and how they are cut into shards.

Pure functions over Arrow columns. What they decide depends on the rows and the options alone, never
on how the rows came in batches.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.model import Reason, ShardKind
from noria.manifests.plan.names import escape_name, name_faults
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import largest_object
from noria.manifests.plan.providers import MIB, ProviderLimits

OWN_METADATA_BYTES = 256
"""User metadata kept free for Noria's own two entries, `noriatxid` and `mtime`, names included.

workers/stores/metadata.py adds them.
"""

MIN_SHARD_BYTES = 64 * MIB
MIN_SHARD_OBJECTS = 64
"""target_shards makes no shard smaller than this: a lease costs a few round trips of its own."""

ARCHIVE_TIERS = ("archive", "glacier", "deep_archive")
ARCHIVE_STATUSES = ("archive", "deep_archive", "archive_access", "deep_archive_access")
"""Archive tiers of S3 Intelligent-Tiering, which an S3 Inventory states beside the class."""
NO_FILES = (Reason.LINK, Reason.SPECIAL_FILE, Reason.NAME_NOT_UTF8)
"""What a file system lists beside files that can be moved; see `blob_type` of INVENTORY_SCHEMA."""
RESTORED = "restored"
"""The archive_status of an archived S3 object that has a readable copy for now."""


def classify(batch: pa.RecordBatch, options: PlanOptions) -> pa.RecordBatch:
    """The batch with two more columns of MANIFEST_SCHEMA, `target_key` and `reason`.

    The batch has the columns of INVENTORY_SCHEMA, key relative to the source's prefix. A row gets
    the first Reason that applies, in this order: folder stub, no file (a link and the like), not
    current, archived, customer key, too large, metadata too large, then the name. Names are looked
    at in the rows that could move otherwise.
    """
    size_limit = largest_object(
        options.limits, part_bytes=options.part_bytes, chunk_bytes=options.chunk_bytes
    )
    reason = pa.nulls(len(batch), pa.string())
    for value, applies in (
        (Reason.METADATA_TOO_LARGE, _metadata_too_large(batch.column("metadata"), options.limits)),
        (Reason.TOO_LARGE, pc.greater(batch.column("size"), size_limit)),
        (Reason.CUSTOMER_KEY, pc.is_valid(batch.column("customer_key_sha256"))),
        (Reason.ARCHIVED, _archived(batch.column("tier"), batch.column("archive_status"))),
        (Reason.NOT_CURRENT, pc.is_valid(batch.column("not_current"))),
        *((no_file, _is_of_kind(batch.column("blob_type"), no_file)) for no_file in NO_FILES),
        (Reason.FOLDER_STUB, pc.fill_null(batch.column("is_folder"), False)),
    ):
        if pc.any(applies).as_py():
            reason = pc.if_else(applies, value.value, reason)
    target_key, reason = _name(batch.column("key"), batch.column("size"), reason, options)
    return batch.append_column("target_key", target_key).append_column("reason", reason)


def escape(keys: pa.Array, options: PlanOptions) -> tuple[pa.Array, pa.Array]:
    """An escaped target_key for each key, and null or the fault that even the escaped name has."""
    prefix, limits, rules = options.target_prefix, options.limits, options.rules
    escaped = pa.array(
        (escape_name(key, limits, rules, target_prefix=prefix) for key in keys.to_pylist()),
        pa.string(),
    )
    return escaped, name_faults(_whole(escaped, prefix), limits, rules)


def _name(
    keys: pa.Array, sizes: pa.Array, reason: pa.Array, options: PlanOptions
) -> tuple[pa.Array, pa.Array]:
    faults = name_faults(_whole(keys, options.target_prefix), options.limits, options.rules)
    target_key = pa.nulls(len(keys), pa.string())
    faulty = pc.and_(pc.is_valid(faults), pc.is_null(reason))
    if not pc.any(faulty).as_py():
        return target_key, reason
    if options.names == "refuse":
        # An empty `d/` marks a folder, as Azure's stubs do, where the target needs no mark. That of
        # the source's prefix itself has no key below it.
        marked = pc.or_(pc.ends_with(keys, "/"), pc.equal(keys, ""))
        marks = pc.and_(pc.equal(sizes, 0), marked)
        faults = pc.if_else(marks, Reason.FOLDER_STUB.value, faults)
        return target_key, pc.if_else(faulty, faults, reason)
    escaped, left = escape(keys.filter(faulty), options)
    landing = pc.if_else(pc.is_null(left), escaped, pa.scalar(None, pa.string()))
    return (
        pc.replace_with_mask(target_key, faulty, landing),
        pc.replace_with_mask(reason, faulty, left),
    )


def _whole(keys: pa.Array, prefix: str) -> pa.Array:
    return pc.binary_join_element_wise(prefix, keys, "") if prefix else keys


def _is_of_kind(kinds: pa.Array, kind: str) -> pa.Array:
    return pc.fill_null(pc.equal(kinds, str(kind)), False)


def _archived(tier: pa.Array, status: pa.Array) -> pa.Array:
    """True if an object has to be restored before it can be read.

    Azure changes the tier when rehydration is done; S3 keeps the class and states the copy.
    """
    if tier.null_count == len(tier) and status.null_count == len(status):
        return pc.is_valid(tier)
    tier, status = pc.utf8_lower(tier), pc.utf8_lower(status)
    restored = pc.fill_null(pc.equal(status, RESTORED), False)
    frozen = pc.or_(
        pc.is_in(tier, value_set=pa.array(ARCHIVE_TIERS)),
        pc.is_in(status, value_set=pa.array(ARCHIVE_STATUSES)),
    )
    return pc.and_not(frozen, restored)


def _metadata_too_large(metadata: pa.Array, limits: ProviderLimits) -> pa.Array:
    """True if names and values take more UTF-8 bytes than the target leaves us."""
    room = limits.max_metadata_bytes - OWN_METADATA_BYTES
    # JSON is never shorter than the names and values in it, so that most rows need no closer look.
    suspect = pc.fill_null(pc.greater(pc.binary_length(metadata), room), False)
    if not pc.any(suspect).as_py():
        return suspect
    exact = pa.array(
        (_metadata_bytes(text) > room for text in metadata.filter(suspect).to_pylist()), pa.bool_()
    )
    return pc.replace_with_mask(suspect, suspect, exact)


def _metadata_bytes(text: str) -> int:
    return sum(len(part.encode()) for pair in json.loads(text).items() for part in pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Rows [first, end) of the rows that cut_shards was given, as one shard."""

    first: int
    end: int
    kind: ShardKind
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCaps:
    """How large a shard may be. An object of more than huge_bytes has a PARTS shard of its own."""

    shard_bytes: int
    shard_objects: int
    huge_bytes: int


def shard_caps(options: PlanOptions, *, total_bytes: int, total_objects: int) -> ShardCaps:
    """The caps of a job with these totals: the options', or less so as to reach target_shards."""
    per_shard_bytes = max(MIN_SHARD_BYTES, -(-total_bytes // options.target_shards))
    per_shard_objects = max(MIN_SHARD_OBJECTS, -(-total_objects // options.target_shards))
    return ShardCaps(
        shard_bytes=min(options.shard_bytes, per_shard_bytes),
        shard_objects=min(options.shard_objects, per_shard_objects),
        # An object of one part has nothing to share out.
        huge_bytes=max(options.segment_bytes, options.part_bytes),
    )


def cut_shards(sizes: pa.Array, caps: ShardCaps, *, last: bool) -> list[Cut]:
    """Cut consecutive rows into shards: greedily, in order, each as large as the caps allow.

    `sizes` holds the bytes to move for each row, 0 if it stays. The cuts cover [0, n) without a
    gap; unless `last`, rows after n are left over, since the row that closes their shard is not
    known yet: give them again, in front of the next ones. Boundaries are the same however the rows
    are handed in.
    """
    rows = len(sizes)
    ends = _values(pc.cumulative_sum(sizes))
    huge = pc.indices_nonzero(pc.greater(sizes, caps.huge_bytes)).to_pylist()
    huge.append(rows)
    cuts: list[Cut] = []
    first = next_huge = 0
    while first < rows:
        before = ends[first - 1] if first else 0
        if first == huge[next_huge]:
            next_huge += 1
            end, kind = first + 1, ShardKind.PARTS
        else:
            within_bytes = bisect_right(ends, before + caps.shard_bytes, first, rows)
            end = min(max(within_bytes, first + 1), first + caps.shard_objects, huge[next_huge])
            kind = ShardKind.OBJECTS
            if end == rows and end - first < caps.shard_objects and not last:
                break
        cuts.append(Cut(first=first, end=end, kind=kind, bytes=ends[end - 1] - before))
        first = end
    return cuts


def _values(column: pa.Array) -> memoryview[int]:
    """The numbers of an int64 array without nulls, in place."""
    data = memoryview(column.buffers()[1] or b"").cast("B").cast("q")
    return data[column.offset : column.offset + len(column)]
