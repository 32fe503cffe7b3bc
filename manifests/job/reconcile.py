"""Reconcile: the proof that a job ends with.

The manifest is compared with the receipts, and those with a fresh listing of the target:

    manifest   what should have been decided: every entry, checked against its digests
    receipts   what was decided: the sealed results, checked against their seals
    listing    what is at the target now

Every manifest entry has exactly one receipt, of the same size; every entry that landed is listed
under its target key with its size and ETag; no two landed under one key; and nothing else is
listed, unless the target was not empty when the job was planned.

Nothing is joined or sorted as a whole. Receipts stand in the order of the manifest, so those two
are compared place by place, a stretch of shards at a time (receipt_check.py). What landed and what
is listed goes to ranges of names on scratch (routed_rows.py), each small enough to be compared in
memory (target_check.py). Stretches, and then ranges, are worked on side by side. Memory depends
neither on the job's size nor, beyond WORKERS_MAX, on the number of processors.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.access import make_folders
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.differences import CANARY, DIFFERENCES, GONE_AT_BOTH, DifferencesFile
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipt_check import STRETCH_ROWS, check_receipts, sealed_stretches
from noria.manifests.job.routed_rows import RoutedRows
from noria.manifests.job.target_check import (
    LANDED_SCHEMA,
    LISTED_SCHEMA,
    CanaryPattern,
    check_target,
)
from noria.manifests.key_ranges import KeyRanges
from noria.manifests.manifest.reader import Manifest
from noria.manifests.manifest.row_digest import RowDigest

DIFFERENCES_FILE = "reconcile-differences.parquet"
REPORT_FILE = "reconcile.json"

WORKERS_MAX: Final = 6
"""Threads. Each takes up to four times RANGE_BYTES: 0.8 GB in all."""
RANGE_BYTES: Final = 32 << 20
"""What landed and is listed in a range that is compared in one piece. 65,536 names take half."""
SAMPLES: Final = 64
"""Names that are looked at for each RANGE_BYTES of a range that is too large."""
MISSING_MAX: Final = 1_000_000
"""Names that are sent again by the next pass: they are held in memory."""
RANGES_MAX: Final = 8_192
"""Files in one folder. A billion entries make ranges of some 120,000 names."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Counts of entries or objects. All differences are in reconcile-differences.parquet."""

    entries: int
    """In the manifest."""
    receipts: int
    landed: int
    listed: int
    unsettled: int
    """Manifest entries without a receipt: the job is not at its end."""
    unplanned: int
    """Receipts without a manifest entry, or a second receipt for one: never right."""
    missing: int
    """Landed by receipt, not listed at the target."""
    differing: int
    """Listed with another size or ETag than the receipt says."""
    merged: int
    """Landed entries that share a target key with another."""
    extra: int
    """Listed, and not of this job."""
    canaries: int = 0
    """Listed, and written by a probe, which could not remove them. Not counted as extra."""
    gone_at_both: int = 0
    """Landed by an earlier pass, and neither listed nor at the source any more. Not missing."""
    extra_allowed: bool
    """The target was not empty when the job was planned, so others' objects are expected there."""

    @property
    def reconciled(self) -> bool:
        wrong = self.unsettled + self.unplanned + self.missing + self.differing + self.merged
        return wrong == 0 and (self.extra == 0 or self.extra_allowed)

    @property
    def exit_code(self) -> int:
        return 0 if self.reconciled else 1

    @property
    def differences(self) -> dict[str, int]:
        """What is not zero. If others' objects are expected, `extra` only says how many."""
        return {name: getattr(self, name) for name in DIFFERENCES if getattr(self, name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingRows:
    """All that should be listed, if that is more than what landed by one manifest's receipts."""

    rows: Iterable[pa.RecordBatch]
    """LANDED_SCHEMA."""
    ranges: KeyRanges
    """Of the names, with about as many rows in each, at most RANGES_MAX."""


def last_differences(directory: JobDirectory) -> dict[str, int]:
    """What the last reconcile found; empty if all was in order, or nobody can say."""
    return _last_counts(directory, DIFFERENCES, reconciled=False)


def _last_counts(
    directory: JobDirectory, names: Iterable[str], *, reconciled: bool | None = None
) -> dict[str, int]:
    """These counts of the last reconcile, where they are not 0.

    `reconciled`: of one that ended so; None: of any.
    """
    try:
        values = json.loads(directory.read(REPORT_FILE) or b"{}")
        if reconciled is not None and values.get("reconciled") is not reconciled:
            return {}
        counts = {name: values.get(name) for name in names}
    except (ValueError, AttributeError, RecursionError):
        return {}  # a report: what counts is found again by the next reconcile
    return {name: count for name, count in counts.items() if type(count) is int and count > 0}


def missing_keys(directory: JobDirectory) -> list[str]:
    """Names of the entries that the last reconcile did not find at the target, sorted.

    Those that were gone at the source as well are among them: it may have them again. Empty if
    nobody can say, or there are more than MISSING_MAX: they are held in memory.
    """
    path = directory.path(DIFFERENCES_FILE)
    kinds = ["missing", GONE_AT_BOTH]
    if not 0 < sum(_last_counts(directory, kinds).values()) <= MISSING_MAX:
        return []
    try:
        found = pq.read_table(path, columns=["key"], filters=pc.field("what").isin(kinds))
    except (OSError, pa.ArrowException):
        return []  # it is found again by the next reconcile
    return sorted(found["key"].drop_null().to_pylist())


def reconcile(
    directory: JobDirectory,
    manifest: Manifest,
    listing: Iterable[pa.RecordBatch],
    *,
    target_prefix: str,
    extra_allowed: bool,
    canary: str | None = None,
    canary_bytes: int = 0,
    standing: StandingRows | None = None,
    scratch: Path | None = None,
) -> Reconciliation:
    """Compare all three; writes reconcile.json and the differences. May be repeated at any time.

    `listing` yields INVENTORY_SCHEMA batches of everything below the target's prefix, in any order.
    `canary` is a regular expression for whole names below it, by which probes name what they write;
    what is larger than `canary_bytes` is none of that. `standing` is the state of a migration after
    this pass; None: what landed by the receipts of this manifest is all. `scratch` is a folder for
    temporary files, some 250 bytes for each object, which is removed; None: one in the job
    directory. Raises JobDirectoryError if the manifest is not what was frozen, if seals overlap, if
    a sealed result is not the file that was sealed, or if a seal's sums are not those of its
    receipts.
    """
    home = directory.path(".reconcile").absolute()
    place = (scratch or home / "ranges").absolute()
    try:
        with _emptied(home), _emptied(place):
            ranges = _ranges(manifest) if standing is None else standing.ranges
            landed = RoutedRows(place / "landed", LANDED_SCHEMA, ranges)
            listed = RoutedRows(place / "listed", LISTED_SCHEMA, ranges)
            differences = home / DIFFERENCES_FILE
            with DifferencesFile(differences) as found, ThreadPoolExecutor(_workers()) as pool:
                # Receipts first: a listing that is under way goes on meanwhile.
                spool = landed if standing is None else None
                receipts = _check_receipts(directory, manifest, spool, pool, found)
                _spool(() if standing is None else standing.rows, landed)
                _route(listing, target_prefix, listed)
                canaries = CanaryPattern(name=canary, largest_bytes=canary_bytes)
                _check_target(landed, listed, canaries, pool, found)
            directory.publish(differences, DIFFERENCES_FILE)
    except OSError as error:
        raise JobDirectoryError(
            f"cannot reconcile in {place}: {error.strerror or type(error).__name__}; "
            "make room or access, then run again"
        ) from error
    report = Reconciliation(
        entries=manifest.objects,
        receipts=receipts,
        landed=landed.rows,
        listed=listed.rows,
        **{what: found.counts[what] for what in DIFFERENCES},
        canaries=found.counts[CANARY],
        gone_at_both=found.counts[GONE_AT_BOTH],
        extra_allowed=extra_allowed,
    )
    values = {**asdict(report), "reconciled": report.reconciled}
    directory.replace(REPORT_FILE, (json.dumps(values, indent=1) + "\n").encode())
    return report


@contextlib.contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """A folder without what a killed reconcile has left there; gone afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        make_folders(folder)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _workers() -> int:
    return min(WORKERS_MAX, len(os.sched_getaffinity(0)))


def _ranges(manifest: Manifest) -> KeyRanges:
    """Ranges of names that are about as large as a stretch of the manifest, or equal parts of it.

    Target keys are mostly those of the manifest, and a listing has little else.
    """
    first_shards = [stretch.first for stretch in manifest.stretches(STRETCH_ROWS)]
    step = -(-len(first_shards) // RANGES_MAX) or 1
    return KeyRanges(sorted({manifest.first_key(shard) for shard in first_shards[step::step]}))


def _check_receipts(
    directory: JobDirectory,
    manifest: Manifest,
    landed: RoutedRows | None,
    pool: ThreadPoolExecutor,
    found: DifferencesFile,
) -> int:
    """Compare manifest and receipts, both read whole; what landed is spooled, if it is wanted.

    Returns the number of receipts.
    """
    manifest.check_shards()
    digest, receipts = RowDigest(manifest.schema), 0
    calls = (
        partial(check_receipts, directory, manifest, sealed, landed)
        for sealed in sealed_stretches(directory, manifest)
    )
    for stretch in _in_order(pool, calls):
        digest.join(stretch.digest)
        receipts += stretch.receipts
        for table in stretch.differences:
            found.add(table)
    manifest.check_digest(digest.hexdigest())
    return receipts


def _spool(rows: Iterable[pa.RecordBatch], landed: RoutedRows) -> None:
    for batch in rows:
        landed.append([batch])


def _route(listing: Iterable[pa.RecordBatch], target_prefix: str, listed: RoutedRows) -> None:
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in listing:
        key = batch["key"]
        if target_prefix:
            key = pc.utf8_slice_codeunits(key, len(target_prefix))
        columns = [key, batch["size"], batch["etag"]]
        pending.append(pa.RecordBatch.from_arrays(columns, schema=LISTED_SCHEMA))
        rows += len(batch)
        if rows >= STRETCH_ROWS:
            listed.append(pending)
            pending, rows = [], 0
    listed.append(pending)


def _check_target(
    landed: RoutedRows,
    listed: RoutedRows,
    canaries: CanaryPattern,
    pool: ThreadPoolExecutor,
    found: DifferencesFile,
) -> None:
    calls = (partial(_check_range, *each, canaries) for each in _small_ranges(landed, listed))
    for table in _in_order(pool, calls):
        found.add(table)


def _check_range(
    number: int, landed: RoutedRows, listed: RoutedRows, canaries: CanaryPattern
) -> pa.Table:
    table = check_target(landed.read(number), listed.read(number), canaries)
    landed.drop(number)
    listed.drop(number)
    return table


def _small_ranges(
    landed: RoutedRows, listed: RoutedRows
) -> Iterator[tuple[int, RoutedRows, RoutedRows]]:
    """All ranges that have rows, in order, those that are too large as ranges within them.

    They are if others' objects lie between two names of the job, or names became others at the
    target that are all alike. Rows of one and the same name stay together, however many.
    """
    for number in range(landed.ranges.number):
        nbytes = landed.nbytes[number] + listed.nbytes[number]
        if nbytes > RANGE_BYTES and (splits := _splits(number, nbytes, landed, listed)):
            ranges = KeyRanges(splits)
            yield from _small_ranges(landed.split(number, ranges), listed.split(number, ranges))
        elif nbytes:
            yield number, landed, listed


def _splits(number: int, nbytes: int, *spools: RoutedRows) -> list[str]:
    """Names that cut a range into parts of about half of RANGE_BYTES; none if it has one name."""
    sampled = {name for spool in spools for name in spool.sample(number, RANGE_BYTES // SAMPLES)}
    _, *names = sorted(sampled)
    parts = min(2 * nbytes // RANGE_BYTES + 1, RANGES_MAX)
    step = -(-len(names) // parts) or 1
    return names[::step]


def _in_order(pool: ThreadPoolExecutor, calls: Iterable[Callable[[], Result]]) -> Iterator[Result]:
    """The results of calls, which are made side by side; one more than threads is under way."""
    under_way: deque[Future[Result]] = deque()
    for call in calls:
        under_way.append(pool.submit(call))
        if len(under_way) > _workers():
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
