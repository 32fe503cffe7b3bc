"""The frozen manifest: what must move, sorted, unique, counted, digested, cut into shards.

    manifest/part-00000.parquet   MANIFEST_SCHEMA; row group N of file M is shard 256 M + N
    manifest/shards.parquet       SHARD_SCHEMA, one row for each shard
    manifest/manifest.json        counts, bytes, digest, plan, and each file with its SHA-256

freeze() prepares the folder beside its final place and renames it: a reader sees a whole manifest
or none, wherever the writer was stopped. The next freeze() removes what a stopped one left. Nothing
changes a manifest afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.access import make_folders, open_new, settle_modes
from noria.manifests.errors import (
    AnotherDriver,
    InventoryError,
    JobDirectoryError,
)
from noria.manifests.manifest.reader import Manifest, disk_errors, first_line, open_manifest
from noria.manifests.manifest.sorting import BATCH_ROWS, Dropped, RowSpool, unique
from noria.manifests.manifest.writer import (
    ManifestWriter,
    write_facts,
)
from noria.manifests.model import PassedOver, Reason
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import PUT_BYTES, suitable_part_bytes
from noria.manifests.plan.shards import classify, shard_caps
from noria.manifests.schema import INVENTORY_SCHEMA, SCHEMA_VERSION

TOTAL_BYTES_MAX = 1 << 62
"""Sums of sizes are taken in int64."""


def freeze(
    batches: Iterable[pa.RecordBatch],
    directory: Path,
    *,
    options: PlanOptions,
    suit_parts: bool = False,
    source_prefix: str = "",
    passed_over: Callable[[], Mapping[PassedOver, int]] = dict,
    all_of_it: bool = False,
    memory_limit_bytes: int = 1 << 30,
) -> Manifest:
    """Rows of INVENTORY_SCHEMA, in any order and batching, become the manifest `directory`.

    Keys lose source_prefix; rows without it are left out and counted, together with those that
    `passed_over` names once `batches` has ended: what the source of the rows left out itself. Of
    rows that share a key one is kept (sorting.py says which). The same rows give the same digest.
    With `suit_parts`, the part_bytes and put_bytes of the options give way to what suits the bytes.
    memory_limit_bytes bounds the sort; some 400 MB come on top. The sort needs memory by the square
    root of the rows: about 160 MB for ten million, 1.6 GB for a billion. Disk space beside
    `directory`: about four times the manifest.

    Raises InventoryError if a row has no size or another schema, if sizes add up to more than
    4 EiB, if there are entries and all were left out, or, with `all_of_it`, any. Raises
    JobDirectoryError if `directory` holds a manifest already or the disk is full. Errors of
    `batches` propagate. Nothing is published then, and it may be called again.
    """
    with disk_errors(directory):
        if directory.exists() and any(directory.iterdir()):
            raise JobDirectoryError(
                f"{directory} is not empty, and a manifest is never replaced; restore its "
                "manifest.json, or plan a new job"
            )
    with _scratch(directory) as scratch:
        with disk_errors(directory):
            spool = RowSpool(scratch, options)
        with spool:
            outside = _spool_rows(spool, batches, source_prefix, options, directory)
            left_out: Counter[PassedOver] = Counter({PassedOver.OUTSIDE_PREFIX: outside})
            left_out.update(passed_over())
            if not spool.rows:
                _refuse_nothing(left_out)
            with disk_errors(directory):
                if suit_parts:
                    options = _with_suitable_parts(options, spool)
                facts = _write(spool, scratch / "manifest", options, memory_limit_bytes)
        facts["inventory"] |= {
            "rows": spool.rows + left_out.total(),
            **{cause.value: count for cause, count in left_out.items()},
        }
        if all_of_it:
            _refuse_losses(facts)
        facts |= {"schema": SCHEMA_VERSION, "source_prefix": source_prefix}
        with disk_errors(directory):
            write_facts(scratch / "manifest", facts)
            _publish(scratch / "manifest", directory)
    return open_manifest(directory)


def _spool_rows(
    spool: RowSpool,
    batches: Iterable[pa.RecordBatch],
    prefix: str,
    options: PlanOptions,
    directory: Path,
) -> int:
    """All rows below prefix, classified. Returns how many others there are."""
    outside, total_bytes = 0, 0.0
    for batch in _coalesced(map(_checked, batches)):
        total_bytes += pc.sum(batch.column("size").cast(pa.float64(), safe=False)).as_py() or 0.0
        if total_bytes >= TOTAL_BYTES_MAX:
            raise InventoryError("the objects' sizes add up to more than any store holds")
        rows = _below(batch, prefix) if prefix else batch
        outside += len(batch) - len(rows)
        rows = classify(rows, options)
        with disk_errors(directory):
            spool.append(rows)
    with disk_errors(directory):
        spool.finish()
    return outside


def _refuse_nothing(left_out: Counter[PassedOver]) -> None:
    """Raise InventoryError if there were entries, and none of them is a row.

    Such a plan would end in "nothing missing", and nobody would look.
    """
    if not left_out.total():
        return
    raise InventoryError(
        f"none of {left_out.total():,} entries would be moved: "
        f"{left_out[PassedOver.OUTSIDE_PREFIX]:,} lie outside the source's prefix, "
        f"{left_out[PassedOver.OTHER_CONTAINER]:,} in another container; correct the source, or, "
        'if a key list has names below the prefix, set inventory.names = "relative"'
    )


def _refuse_losses(facts: Mapping[str, Any]) -> None:
    """Raise InventoryError if an entry, or a version of one, would not move."""
    lost = Counter({reason: counts["objects"] for reason, counts in facts["reasons"].items()})
    lost[Reason.NOT_CURRENT.value] += sum(facts["inventory"].get("not_current", {}).values())
    if lost.total():
        named = ", ".join(f"{cause}: {count:,}" for cause, count in sorted((+lost).items()))
        raise InventoryError(
            f"{lost.total():,} entries would not be moved ({named}): mend that at the source, or "
            'plan without representable = "all"'
        )


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    try:
        batch = batch.select(INVENTORY_SCHEMA.names).cast(INVENTORY_SCHEMA)
    except (pa.ArrowException, ValueError, LookupError) as error:
        raise InventoryError(f"rows are not an inventory: {first_line(error)}") from error
    if batch.column("key").null_count or batch.column("size").null_count:
        raise InventoryError("rows are not an inventory: a key or a size is null")
    if pc.any(pc.less(batch.column("size"), 0)).as_py():
        raise InventoryError("an object has no size; look objects up before they are frozen")
    return batch


def _coalesced(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of about BATCH_ROWS: a listing's pages are far smaller."""
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if not pending and BATCH_ROWS // 2 <= len(batch) <= BATCH_ROWS:
            yield batch
            continue
        pending.append(batch)
        rows += len(batch)
        if rows >= BATCH_ROWS:
            yield from pa.Table.from_batches(pending).combine_chunks().to_batches(BATCH_ROWS)
            pending, rows = [], 0
    if rows:
        yield from pa.Table.from_batches(pending).combine_chunks().to_batches(BATCH_ROWS)


def _below(batch: pa.RecordBatch, prefix: str) -> pa.RecordBatch:
    batch = batch.filter(pc.starts_with(batch.column("key"), prefix))
    keys = pc.utf8_slice_codeunits(batch.column("key"), start=len(prefix))
    return batch.set_column(0, INVENTORY_SCHEMA.field(0), keys)


def _with_suitable_parts(options: PlanOptions, spool: RowSpool) -> PlanOptions:
    part_bytes = suitable_part_bytes(spool.landing_bytes, chunk_bytes=options.chunk_bytes)
    return replace(options, part_bytes=part_bytes, put_bytes=PUT_BYTES)


def _write(
    spool: RowSpool, folder: Path, options: PlanOptions, memory_limit_bytes: int
) -> dict[str, Any]:
    """Sort, collapse, cut, write. Returns facts for manifest.json."""
    caps = shard_caps(options, total_bytes=spool.landing_bytes, total_objects=spool.landing_rows)
    dropped = Dropped()
    with ManifestWriter(folder, options, caps) as writer:
        for batch in unique(spool.sorted(memory_limit_bytes), dropped):
            writer.append(batch)
        facts = writer.finish()
    inventory = {
        "duplicates": dropped.duplicates,
        "superseded": dropped.superseded,
        "not_current": dict(dropped.not_current),
    }
    return {**facts, "plan": options.as_json(), "inventory": inventory}


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A folder beside `directory`, empty, for one freeze at a time; gone afterwards."""
    scratch = directory.with_name(f".{directory.name}.freeze")
    with disk_errors(directory):
        make_folders(scratch)
        lock = open_new(str(scratch / "lock"), os.O_RDWR | os.O_CREAT)
    try:
        with disk_errors(directory):
            _hold(lock, directory)
            for left in scratch.iterdir():
                if left.is_dir():
                    shutil.rmtree(left)
                elif left.name != "lock":
                    left.unlink()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        os.close(lock)


def _hold(lock: int, directory: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AnotherDriver(f"another process freezes {directory}; wait for it") from None


def _publish(folder: Path, directory: Path) -> None:
    """Give a finished folder its name, durably and in one step."""
    settle_modes(folder, directory.parent)
    _flush_folder(folder)
    os.rename(folder, directory)
    _flush_folder(directory.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
