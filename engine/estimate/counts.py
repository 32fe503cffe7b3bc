"""What a frozen list of objects comes to: size classes, parts, and requests by kind.

Requests are those that the data plane sends if each succeeds at once (workers/transfer.py,
workers/lease/). Left out are what a probe and the attribute look of `noria plan` send, some
hundreds in all, and what is sent again. A shard is in memory at a time, and one number for each
class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from noria.manifests.counters import StoreOperation
from noria.manifests.errors import TargetRefused
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import ShardKind
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import fit_parts
from noria.manifests.plan.providers import limits_for
from noria.workers.tags import ANNOUNCING

Numbers = npt.NDArray[np.int64]

CLASSES: Final = 64
"""Class N holds sizes of N bits: [2^(N-1), 2^N); class 0 the empty objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTraits:
    """What decides which requests an object takes."""

    source_provider: str
    target_provider: str
    range_bytes: int
    """Most bytes of one read."""
    look_first: bool = False
    """Each object is looked for at the target before it is read."""
    atomic_complete: bool = True
    """False: each upload is looked for before it is completed."""
    lists_source: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeBin:
    """Objects that would move, of `below` / 2 up to `below` bytes; `below` is a power of two."""

    below: int
    objects: int
    bytes: int
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCounts:
    """What would move, and the requests that it takes."""

    objects: int
    bytes: int
    parts: int
    """Of the objects that do not go in one PUT."""
    transfers: int
    """Objects that go in one PUT, and parts of the others: what is in flight at a time."""
    classes: tuple[SizeBin, ...]
    source: Mapping[StoreOperation, int] = field(default_factory=dict)
    target: Mapping[StoreOperation, int] = field(default_factory=dict)


def count_work(manifest: Manifest, traits: JobTraits) -> WorkCounts:
    """Read all sizes of a manifest once, and count."""
    tally = _Tally(manifest.options, traits.range_bytes)
    for sizes, tagged in _moving(manifest):
        tally.add(sizes, tagged)
    huge = [shard for shard in manifest.shards() if shard.kind is ShardKind.PARTS]
    leases = sum(-(-shard.units // shard.units_per_lease) for shard in huge)
    source, target = _requests(tally, traits, huge=len(huge), leases=leases)
    if traits.lists_source:
        listed = manifest.objects + sum(manifest.passed_over.values())
        source[StoreOperation.LIST] = _pages(listed, traits.source_provider)
    target[StoreOperation.LIST] = _pages(tally.objects, traits.target_provider)
    return WorkCounts(
        objects=tally.objects,
        bytes=tally.bytes,
        parts=tally.parts,
        transfers=tally.whole + tally.parts,
        classes=tally.classes(),
        source={kind: count for kind, count in source.items() if count},
        target={kind: count for kind, count in target.items() if count},
    )


def fitted_parts(sizes: Numbers, options: PlanOptions) -> tuple[Numbers, Numbers]:
    """For each size, what fit_parts() says: the number of parts, and part_bytes.

    Sizes that need larger parts than the plan's are few; they alone are fitted one by one.
    """
    limits = options.limits
    most = options.part_bytes if options.put_bytes is None else options.put_bytes
    whole = min(most, limits.max_put_bytes)
    try:
        usual = _fit(whole + 1, options)[1]
    except TargetRefused:
        usual = options.part_bytes  # nothing larger than one PUT is planned
    part_bytes = np.full(len(sizes), usual, np.int64)
    parts = np.where(sizes <= whole, 0, -(-sizes // usual))
    for row in np.flatnonzero((sizes > whole) & (sizes > usual * limits.max_parts)):
        parts[row], part_bytes[row] = _fit(int(sizes[row]), options)
    return parts, part_bytes


def _fit(size: int, options: PlanOptions) -> tuple[int, int]:
    fitted = fit_parts(
        size,
        options.limits,
        part_bytes=options.part_bytes,
        chunk_bytes=options.chunk_bytes,
        put_bytes=options.put_bytes,
    )
    return fitted.parts, fitted.part_bytes


def bit_lengths(sizes: Numbers) -> Numbers:
    """Bits of each size, exactly."""
    # A float holds 53 bits: what is above is looked at in two halves.
    high = sizes >> 32
    _, low_bits = np.frexp((sizes & 0xFFFFFFFF).astype(np.float64))
    _, high_bits = np.frexp(high.astype(np.float64))
    return np.where(high > 0, high_bits + 32, low_bits).astype(np.int64)


def _moving(manifest: Manifest) -> Iterator[tuple[Numbers, int]]:
    """Sizes of the entries that move, shard by shard, and how many of these state tags."""
    columns = ["size", "reason", "tags"]
    for rows in manifest.read_shards(0, manifest.shard_count, columns):
        if rows["reason"].null_count < len(rows):
            rows = rows.filter(pc.is_null(rows["reason"]))
        yield rows["size"].to_numpy(), len(rows) - rows["tags"].null_count


class _Tally:
    """Sums over sizes that come in batches."""

    def __init__(self, options: PlanOptions, range_bytes: int) -> None:
        self._options = options
        self._range_bytes = range_bytes
        self._classes = np.zeros((3, CLASSES), np.int64)
        self.objects = self.bytes = self.parts = self.whole = self.tagged = 0
        self.part_reads = 0
        """Reads of parts."""

    def add(self, sizes: Numbers, tagged: int) -> None:
        parts, part_bytes = fitted_parts(sizes, self._options)
        whole = int((parts == 0).sum())
        self.objects += len(sizes)
        self.bytes += int(sizes.sum())
        self.parts += int(parts.sum())
        self.whole += whole
        self.tagged += tagged
        if whole < len(sizes):
            cut = parts > 0
            full, each = parts[cut] - 1, part_bytes[cut]
            last = sizes[cut] - full * each
            reads = full * -(-each // self._range_bytes) + -(-last // self._range_bytes)
            self.part_reads += int(reads.sum())
        bits = bit_lengths(sizes)
        # bincount sums its weights as floats, which hold no sum of 2^53 and more.
        for row, values in enumerate((np.ones_like(sizes), sizes, parts)):
            np.add.at(self._classes[row], bits, values)

    @property
    def cut(self) -> int:
        """Objects of several parts, or of one that is sent as a part."""
        return self.objects - self.whole

    def classes(self) -> tuple[SizeBin, ...]:
        objects, sizes, parts = self._classes
        return tuple(
            SizeBin(
                below=1 << bits,
                objects=int(objects[bits]),
                bytes=int(sizes[bits]),
                parts=int(parts[bits]),
            )
            for bits in np.flatnonzero(objects).tolist()
        )


def _requests(
    tally: _Tally, traits: JobTraits, *, huge: int, leases: int
) -> tuple[Counter[StoreOperation], Counter[StoreOperation]]:
    """Requests of the move itself. `leases` are those of the huge objects' parts."""
    kinds = StoreOperation
    small, cut = tally.whole, tally.cut
    # A huge object is pinned by each of its leases, and by the one that puts it together.
    opened = cut - huge + leases + huge
    source = Counter({kinds.GET: small + tally.part_reads, kinds.HEAD: opened})
    if traits.source_provider in ANNOUNCING:
        source[kinds.TAGS] = tally.tagged
    elif traits.source_provider != "local":
        # Who never announces tags is asked for those of every object.
        source[kinds.TAGS] = small + opened
    looks = small + cut - huge + leases if traits.look_first else 0
    before = 0 if traits.atomic_complete else cut
    target = Counter(
        {
            kinds.PUT: small,
            kinds.HEAD: looks + before + cut,
            kinds.PUT_PART: tally.parts,
            kinds.COMPLETE: cut,
            # A block blob's upload is opened by its first block.
            kinds.CREATE_UPLOAD: 0 if traits.target_provider == "azure" else cut,
        }
    )
    return source, target


def _pages(names: int, provider: str) -> int:
    return -(-names // limits_for(provider).list_page)


def as_document(counts: WorkCounts) -> dict[str, Any]:
    """For JSON."""
    return {
        "objects": counts.objects,
        "bytes": counts.bytes,
        "parts": counts.parts,
        "transfers": counts.transfers,
        "sizes": [
            {"below": each.below, "objects": each.objects, "bytes": each.bytes, "parts": each.parts}
            for each in counts.classes
        ],
        "requests": {
            "source": {kind.value: count for kind, count in counts.source.items()},
            "target": {kind.value: count for kind, count in counts.target.items()},
        },
    }
