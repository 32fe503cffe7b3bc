"""What was decided against what should have been: receipts against the manifest, row by row.

The receipts of a shard stand in the order of its rows, and each says which row it is of: so the two
are compared place by place. Every entry has exactly one receipt, of its key and of its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.differences import differences, one_of_each
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import LANDED, summarize
from noria.manifests.job.results import read_result
from noria.manifests.job.routed_rows import RoutedRows
from noria.manifests.job.seals import Seal, read_seals, read_seals_by_shard
from noria.manifests.job.target_check import LANDED_SCHEMA
from noria.manifests.manifest.reader import Manifest, Stretch
from noria.manifests.manifest.row_digest import DigestStretch
from noria.manifests.model import LeaseKind, ShardKind

STRETCH_ROWS = 65_536
"""How much of the manifest is compared at a time: at least, and to the end of a shard."""

_READ = (
    *("row", "key", "target_key", "outcome", "size", "target_etag"),
    *("bytes_moved", "level", "cause", "changes"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedStretch:
    """A stretch of the manifest, and the seals of its shards."""

    stretch: Stretch | None
    """None: these are seals of shards that the manifest does not have."""
    seals: Mapping[int, Sequence[Seal]]
    """By shard."""


@dataclass(slots=True, kw_only=True)
class StretchReceipts:
    """What comparing a stretch has found."""

    digest: DigestStretch
    """Of its rows in the manifest."""
    receipts: int = 0
    landed: int = 0
    differences: list[pa.Table] = field(default_factory=list)


def sealed_stretches(directory: JobDirectory, manifest: Manifest) -> Iterator[SealedStretch]:
    """All stretches of the manifest, in order, with all seals of the job.

    Raises JobDirectoryError if a seal is damaged.
    """
    stretches = manifest.stretches(STRETCH_ROWS)
    stretch, known = next(stretches, None), dict[int, list[Seal]]()
    for seals in read_seals_by_shard(directory):
        shard = seals[0].shard
        if shard >= manifest.shard_count:
            yield SealedStretch(stretch=None, seals={shard: seals})
            continue
        while stretch is not None and shard >= stretch.end:
            yield SealedStretch(stretch=stretch, seals=known)
            stretch, known = next(stretches, None), {}
        known[shard] = seals
    while stretch is not None:
        yield SealedStretch(stretch=stretch, seals=known)
        stretch, known = next(stretches, None), {}


def sealed_rows(
    directory: JobDirectory, manifest: Manifest, columns: Sequence[str]
) -> Iterator[tuple[int, pa.Table, pa.Table]]:
    """Shards, their rows that have receipts, and these columns of the receipts, place by place.

    In the order of the manifest, a result at a time. Raises JobDirectoryError if a seal, a result
    or the manifest is damaged.
    """
    for sealed in sealed_stretches(directory, manifest):
        for shard, kind, rows in _shards(manifest, sealed):
            seals = sealed.seals.get(shard, ())
            for entries, receipts in _sealed_rows(directory, kind, rows, seals, columns):
                yield shard, entries, receipts


def sealed_rows_of(
    directory: JobDirectory, manifest: Manifest, shard: int, columns: Sequence[str]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """As sealed_rows(), for one shard."""
    rows, seals = manifest.read_shard(shard), [*read_seals(directory, shard=shard)]
    yield from _sealed_rows(directory, manifest.shard(shard).kind, rows, seals, columns)


def _sealed_rows(
    directory: JobDirectory,
    kind: ShardKind,
    rows: pa.Table,
    seals: Sequence[Seal],
    columns: Sequence[str],
) -> Iterator[tuple[pa.Table, pa.Table]]:
    for seal in sorted(_disjoint(seals), key=lambda seal: seal.first):
        if kind is ShardKind.PARTS and seal.kind is LeaseKind.PARTS:
            continue
        receipts = read_result(directory, seal, [*dict.fromkeys(("row", "key", *columns))])
        _refuse_wrong_rows(seal, receipts)
        first = seal.first if seal.kind is LeaseKind.OBJECTS else 0
        entries = rows.slice(first, len(receipts))
        if not entries["key"].equals(receipts["key"]):
            raise JobDirectoryError(
                f"{seal.result_name} has receipts of other objects than the manifest; "
                "restore it from a copy"
            )
        yield entries, receipts


def check_receipts(
    directory: JobDirectory,
    manifest: Manifest,
    sealed: SealedStretch,
    landed: RoutedRows | None,
) -> StretchReceipts:
    """Compare a stretch with its receipts; those that landed go to the spool (LANDED_SCHEMA).

    `landed` None: they go nowhere.

    A stretch that opens a file checks that file's SHA-256 first. Raises OSError if the spool does,
    and JobDirectoryError if seals overlap, if a sealed result is not the file that was sealed, if a
    seal's sums are not those of its receipts, or if the manifest is damaged.
    """
    stretch = sealed.stretch
    if stretch is not None and stretch.opens_file:
        manifest.check_file(stretch.file)
    found = StretchReceipts(digest=DigestStretch(stretch.first_row if stretch else 0))
    spooled = [LANDED_SCHEMA.empty_table()]
    for shard, kind, rows in _shards(manifest, sealed):
        found.digest.update(rows)
        receipts = [
            _read_receipts(directory, seal)
            for seal in _disjoint(sealed.seals.get(shard, ()))
            if not (kind is ShardKind.PARTS and seal.kind is LeaseKind.PARTS)
        ]
        found.receipts += sum(map(len, receipts))
        found.differences += _compare(rows, receipts)
        spooled += map(_landed, receipts)
    rows = pa.concat_tables(spooled)
    found.landed = len(rows)
    if landed is not None:
        landed.append(rows.to_batches())
    return found


def _shards(manifest: Manifest, sealed: SealedStretch) -> Iterator[tuple[int, ShardKind, pa.Table]]:
    """Number, kind and rows of each shard."""
    stretch = sealed.stretch
    if stretch is None:
        for shard in sealed.seals:
            yield shard, ShardKind.OBJECTS, manifest.schema.empty_table()
        return
    tables = manifest.read_shards(stretch.first, stretch.end)
    for shard, rows in enumerate(tables, start=stretch.first):
        yield shard, manifest.shard(shard).kind, rows


def _compare(rows: pa.Table, results: Sequence[pa.Table]) -> list[pa.Table]:
    """The differences between the rows of one shard and all its receipts."""
    found, held = [], []
    times = np.zeros(len(rows), np.int64)  # that a row has a receipt of its key
    for receipts in results:
        first = min(receipts["row"][0].as_py(), len(rows)) if len(receipts) else 0
        entries = rows.slice(first, len(receipts))
        beyond = receipts.slice(len(entries))
        receipts = receipts.slice(0, len(entries))
        has_key = pc.equal(entries["key"], receipts["key"])
        is_right = pc.and_(has_key, pc.equal(entries["size"], receipts["size"]))
        wrong = pa.concat_tables([receipts.filter(pc.invert(is_right)), beyond])
        found.append(differences("unplanned", wrong["key"], wrong["target_key"]))
        times[first : first + len(entries)] += has_key.to_numpy()
        held.append(receipts.select(["row", "key", "target_key"]).append_column("is_own", has_key))
    found.append(differences("unsettled", rows["key"].filter(pa.array(times == 0))))
    if np.any(times > 1):
        found.append(_second_receipts(pa.concat_tables(held), times))
    return found


def _second_receipts(receipts: pa.Table, times: npt.NDArray[np.int64]) -> pa.Table:
    """Each entry that has several receipts once, with the least of their target keys."""
    several = pa.array(times[receipts["row"].to_numpy()] > 1)
    receipts = receipts.filter(pc.and_(receipts["is_own"], several))
    once = one_of_each(receipts["target_key"], by=receipts["key"])
    return differences("unplanned", once["by"], once["name"])


def _landed(receipts: pa.Table) -> pa.Table:
    """LANDED_SCHEMA of those receipts that say so."""
    is_landed = pc.is_in(receipts["outcome"], value_set=LANDED)
    target_key, key, size, etag = (
        receipts[name].filter(is_landed) for name in ("target_key", "key", "size", "target_etag")
    )
    key = pc.if_else(pc.equal(key, target_key), pa.scalar(None, pa.string()), key)
    gone = pa.nulls(len(size), pa.bool_())
    return pa.table([target_key, key, size, etag, gone], schema=LANDED_SCHEMA)


def _disjoint(seals: Sequence[Seal]) -> Sequence[Seal]:
    """The same seals of one shard. Raises JobDirectoryError if two are of one row."""
    spans = sorted((s.first, s.end) for s in seals if s.kind is LeaseKind.OBJECTS)
    for (_, end), (first, _) in pairwise(spans):
        if first < end:
            raise JobDirectoryError(f"two seals of shard {seals[0].shard} overlap; restore a copy")
    return seals


def _read_receipts(directory: JobDirectory, sealed: Seal) -> pa.Table:
    """The receipts of a seal, which holds what it says."""
    if sealed.kind is LeaseKind.PARTS:
        raise JobDirectoryError(
            f"the seal of {sealed.result_name} is of parts, and its shard has none; restore it "
            "from a copy"
        )
    receipts = read_result(directory, sealed, list(_READ))
    _refuse_wrong_rows(sealed, receipts)
    _refuse_other_sums(sealed, receipts)
    return receipts


def _refuse_wrong_rows(sealed: Seal, receipts: pa.Table) -> None:
    first, end = (sealed.first, sealed.end) if sealed.kind is LeaseKind.OBJECTS else (0, 1)
    # Their number first: a seal may claim any.
    if len(receipts) != end - first or np.any(receipts["row"].to_numpy() != np.arange(first, end)):
        raise JobDirectoryError(
            f"{sealed.result_name} does not hold rows {first} to {end}, as its seal says"
        )


def _refuse_other_sums(sealed: Seal, receipts: pa.Table) -> None:
    """What is reported is what seals add up to: it has to be what their receipts add up to."""
    try:
        counted = summarize(receipts)
    except (ValueError, TypeError):
        counted = None
    # Bytes on the wire are no property of receipts: parts that were sent in vain count as well.
    same = counted is not None and sealed.summary == replace(
        counted, bytes_moved=sealed.summary.bytes_moved, part_bytes=sealed.summary.part_bytes
    )
    if not same:
        raise JobDirectoryError(
            f"the seal of {sealed.result_name} does not say what its receipts add up to; restore "
            "it from a copy"
        )
