"""Reconcile: the proof that a job ends with.

The manifest is compared with the receipts, and those with a fresh listing of the target.
Three sets are joined out of core, in DuckDB with bounded memory:

    manifest   what should have been decided: every entry
    receipts   what was decided: the sealed results, checked against their seals
    listing    what is at the target now

Every manifest entry has exactly one receipt, of the same size; every entry that landed is listed
under its target key with its size and ETag; no two landed under one key; and nothing else is
listed, unless the target was not empty when the job was planned.
"""

from __future__ import annotations

import glob
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.access import make_folders
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import summarize
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import Seal, read_seals_by_shard
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import LeaseKind, ShardKind
from noria.manifests.schema import RECEIPT_SCHEMA

MEMORY_LIMIT = "1GiB"
"""For the joins; what does not fit goes to disk inside the job directory."""

_COUNTED = ("level", "cause", "changes")
DIFFERENCES_FILE = "reconcile-differences.parquet"
REPORT_FILE = "reconcile.json"

_LISTING = pa.schema([("target_key", pa.string()), ("size", pa.int64()), ("etag", pa.string())])
DIFFERENCES = ("unsettled", "unplanned", "missing", "differing", "merged", "extra")


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
    extra_allowed: bool
    """The target was not empty when the job was planned, so others' objects are expected there."""

    @property
    def reconciled(self) -> bool:
        wrong = self.unsettled + self.unplanned + self.missing + self.differing + self.merged
        return wrong == 0 and (self.extra == 0 or self.extra_allowed)

    @property
    def differences(self) -> dict[str, int]:
        """What is not zero. If others' objects are expected, `extra` only says how many."""
        return {name: getattr(self, name) for name in DIFFERENCES if getattr(self, name)}


def last_differences(directory: JobDirectory) -> dict[str, int]:
    """What the last reconcile found; empty if all was in order, or nobody can say."""
    try:
        values = json.loads(directory.read(REPORT_FILE) or b"{}")
        if values.get("reconciled") is not False:
            return {}
        counts = {name: values.get(name) for name in DIFFERENCES}
    except (ValueError, AttributeError, RecursionError):
        return {}  # a report: what counts is found again by the next reconcile
    return {name: count for name, count in counts.items() if type(count) is int and count > 0}


def reconcile(
    directory: JobDirectory,
    manifest: Manifest,
    listing: Iterable[pa.RecordBatch],
    *,
    target_prefix: str,
    extra_allowed: bool,
    canary: str | None = None,
    canary_bytes: int = 0,
) -> Reconciliation:
    """Compare all three; writes reconcile.json and the differences. May be repeated at any time.

    `listing` yields INVENTORY_SCHEMA batches of everything below the target's prefix. `canary` is a
    regular expression for whole names below it, by which probes name what they write; what is
    larger than `canary_bytes` is none of that. Raises JobDirectoryError if seals overlap, if a
    sealed result is not the file that was sealed, or if a seal's sums are not those of its
    receipts.
    """
    scratch = directory.path(".reconcile").absolute()
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        make_folders(scratch)
        # Receipts first: a listing that is under way goes on meanwhile.
        _spool_receipts(directory, manifest, scratch / "receipts.parquet")
        _spool_listing(listing, target_prefix, scratch / "listing.parquet")
        ours = (canary, canary_bytes)
        report = _compare(directory, manifest, scratch, extra_allowed, ours)
    except OSError as error:
        raise JobDirectoryError(
            f"cannot reconcile in {scratch}: {error.strerror or type(error).__name__}; "
            "make room or access, then run again"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    values = {**asdict(report), "reconciled": report.reconciled}
    directory.replace(REPORT_FILE, (json.dumps(values, indent=1) + "\n").encode())
    return report


def _spool_listing(listing: Iterable[pa.RecordBatch], target_prefix: str, path: Path) -> None:
    with pq.ParquetWriter(path, _LISTING, compression="zstd") as writer:
        for batch in listing:
            key = pc.utf8_slice_codeunits(batch["key"], len(target_prefix))
            columns = [key, batch["size"], batch["etag"]]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=_LISTING))


def _spool_receipts(directory: JobDirectory, manifest: Manifest, path: Path) -> None:
    """All sealed receipts in one file, without chunk digests; one result in memory at a time."""
    names = ["key", "target_key", "outcome", "size", "target_etag"]
    schema = pa.schema([RECEIPT_SCHEMA.field(name) for name in names])
    kinds = {plan.shard: plan.kind for plan in manifest.shards()}
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for seals in read_seals_by_shard(directory):
            _refuse_overlap(seals)
            for sealed in seals:
                if kinds.get(sealed.shard) is ShardKind.PARTS and sealed.kind is LeaseKind.PARTS:
                    continue
                table = read_result(directory, sealed, ["row", "bytes_moved", *_COUNTED, *names])
                _refuse_wrong_rows(sealed, table)
                _refuse_other_sums(sealed, table)
                writer.write_table(table.select(names).cast(schema))


def _refuse_overlap(seals: list[Seal]) -> None:
    spans = sorted((s.first, s.end) for s in seals if s.kind is LeaseKind.OBJECTS)
    for (_, end), (first, _) in pairwise(spans):
        if first < end:
            raise JobDirectoryError(f"two seals of shard {seals[0].shard} overlap; restore a copy")


def _refuse_wrong_rows(sealed: Seal, table: pa.Table) -> None:
    first, end = (sealed.first, sealed.end) if sealed.kind is LeaseKind.OBJECTS else (0, 1)
    rows = table["row"]
    # Their number first: a seal may claim any.
    if len(rows) != end - first or rows.combine_chunks() != pa.array(range(first, end), pa.int32()):
        raise JobDirectoryError(
            f"{sealed.result_name} does not hold rows {first} to {end}, as its seal says"
        )


def _refuse_other_sums(sealed: Seal, table: pa.Table) -> None:
    """What is reported is what seals add up to: it has to be what their receipts add up to."""
    try:
        counted = summarize(table)
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


_TABLES = """
create view manifest as
  select key, size from read_parquet([{manifest}]);
create view receipts as select * from read_parquet({receipts});
create view listing as select * from read_parquet({listing});
create view landed as
  select * from receipts where outcome in ('TRANSFERRED', 'ALREADY_PRESENT');
create table differences (what varchar, key varchar, target_key varchar);
insert into differences
  select 'unsettled', m.key, null from manifest m anti join receipts r on m.key = r.key;
insert into differences
  select 'unplanned', r.key, r.target_key from receipts r
  anti join manifest m on m.key = r.key and m.size = r.size;
insert into differences
  select 'unplanned', key, min(target_key) from receipts group by key having count(*) > 1;
insert into differences
  select 'missing', l.key, l.target_key from landed l anti join listing t using (target_key);
insert into differences
  select 'differing', l.key, l.target_key from landed l join listing t using (target_key)
  where l.size is distinct from t.size or l.target_etag is distinct from t.etag;
insert into differences
  select 'merged', min(key), target_key from landed group by target_key having count(*) > 1;
insert into differences
  select case when {canary} then 'canary' else 'extra' end, null, t.target_key
  from listing t anti join landed l using (target_key)
  where coalesce(t.size, 1) > 0 or (t.target_key <> '' and not ends_with(t.target_key, '/'));
"""


def _compare(
    directory: JobDirectory,
    manifest: Manifest,
    scratch: Path,
    extra_allowed: bool,
    canary: tuple[str | None, int],
) -> Reconciliation:
    # Imported where it is used: a command that does not reconcile need not wait for it.
    import duckdb

    files = [manifest.directory / file["name"] for file in manifest.facts["files"]]
    try:
        with duckdb.connect() as database:
            database.execute(f"set memory_limit='{MEMORY_LIMIT}'")
            database.execute(f"set temp_directory={_quoted(scratch / 'spill')}")
            database.execute("set preserve_insertion_order=false")
            database.execute(
                _TABLES.format(
                    # Those that were frozen and verified, whatever else is in the folder.
                    manifest=", ".join(map(_pattern, files or [_write_empty_manifest(scratch)])),
                    receipts=_pattern(scratch / "receipts.parquet"),
                    listing=_pattern(scratch / "listing.parquet"),
                    canary=_canary_condition(*canary),
                )
            )
            differences = database.execute(
                "select what, count(*) from differences group by what"
            ).fetchall()
            differing = scratch / DIFFERENCES_FILE
            database.execute(f"copy differences to {_quoted(differing)} (format parquet)")
            directory.publish(differing, DIFFERENCES_FILE)
            counts = {str(what): int(number) for what, number in differences}
            for name in ("manifest", "receipts", "landed", "listing"):
                row = database.execute(f"select count(*) from {name}").fetchone()
                assert row is not None, "count(*) gives one row"
                counts[name] = int(row[0])
    except duckdb.Error as error:
        # Its message may quote values, and a value may be an object's name.
        raise JobDirectoryError(
            f"the joins of reconcile failed ({type(error).__name__}): make room on the disk of "
            f"{directory.root} and in memory, then run again"
        ) from error
    return Reconciliation(
        entries=counts["manifest"],
        receipts=counts["receipts"],
        landed=counts["landed"],
        listed=counts["listing"],
        unsettled=counts.get("unsettled", 0),
        unplanned=counts.get("unplanned", 0),
        missing=counts.get("missing", 0),
        differing=counts.get("differing", 0),
        merged=counts.get("merged", 0),
        extra=counts.get("extra", 0),
        canaries=counts.get("canary", 0),
        extra_allowed=extra_allowed,
    )


def _canary_condition(name: str | None, largest: int) -> str:
    """SQL that is true for a row of `listing t` that a probe has written."""
    if name is None:
        return "false"
    return f"(t.size <= {largest} and regexp_full_match(t.target_key, {_quoted(name)}, 's'))"


def _write_empty_manifest(scratch: Path) -> Path:
    empty = scratch / "empty.parquet"
    schema = pa.schema([("key", pa.string()), ("size", pa.int64())])
    pq.write_table(schema.empty_table(), empty)
    return empty


def _pattern(path: Path) -> str:
    """This one file, to a function that takes patterns."""
    return _quoted(glob.escape(str(path)))


def _quoted(text: Path | str) -> str:
    return "'" + str(text).replace("'", "''") + "'"
