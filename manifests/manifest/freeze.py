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
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.access import make_folders, open_new, settle_modes
from noria.manifests.count_text import count_text
from noria.manifests.errors import (
    AnotherDriver,
    InventoryError,
    JobDirectoryError,
)
from noria.manifests.manifest.clashes import NameClashes, Verdicts
from noria.manifests.manifest.reader import Manifest, disk_errors, first_line, open_manifest
from noria.manifests.manifest.sorting import Dropped, one_row_a_key, out_of_order, sort_order
from noria.manifests.manifest.spool import RangeRows, RangeSpool, gathered, joined, with_columns
from noria.manifests.manifest.writer import (
    ManifestWriter,
    write_facts,
)
from noria.manifests.memory import RANGE_BYTES, plan_threads, row_threads
from noria.manifests.model import PassedOver, Reason
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import PUT_BYTES, suitable_part_bytes
from noria.manifests.plan.shards import classify, shard_caps
from noria.manifests.schema import INVENTORY_SCHEMA, MANIFEST_SCHEMA, SCHEMA_VERSION
from noria.manifests.side_by_side import side_by_side

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
    compare: Callable[[Path], RowsCompared] | None = None,
    scratch: Path | None = None,
) -> Manifest:
    """Rows of INVENTORY_SCHEMA, in any order and batching, become the manifest `directory`.

    Keys lose source_prefix; rows without it are left out and counted, together with those that
    `passed_over` names once `batches` has ended: what the source of the rows left out itself. Of
    rows that share a key one is kept (sorting.py says which). The same rows give the same digest.
    `compare` makes, of the manifest's new folder, what the rows are compared with: only what
    comes out of that is in the manifest.
    With `suit_parts`, the part_bytes and put_bytes of the options give way to what suits the bytes.
    Memory goes by the processors, not by the rows (memory.py). `scratch` is an empty folder for
    temporary files, about three times the manifest; None: they lie beside `directory`.

    Raises InventoryError if a row has no size or another schema, if sizes add up to more than
    4 EiB, if there are entries and all were left out, or, with `all_of_it`, any. Raises
    JobDirectoryError if `directory` holds a manifest already, the disk is full, or this machine has
    too little memory. Errors of `batches` propagate. Nothing is published then, and it may be
    called again.
    """
    with disk_errors(directory):
        if directory.exists() and any(directory.iterdir()):
            raise JobDirectoryError(
                f"{directory} is not empty, and a manifest is never replaced; restore its "
                "manifest.json, or plan a new job"
            )
    with _building(directory) as building:
        temporary = scratch or building
        with disk_errors(directory):
            spool, clashes = RangeSpool(temporary, RANGE_BYTES), NameClashes(temporary, options)
        with spool, clashes:
            prepare = partial(_prepare, prefix=source_prefix, options=options)
            prepared = side_by_side(
                prepare, gathered(map(_checked, batches)), threads=row_threads()
            )
            outside = _spool_rows(prepared, spool, clashes, directory)
            left_out: Counter[PassedOver] = Counter({PassedOver.OUTSIDE_PREFIX: outside})
            left_out.update(passed_over())
            if not spool.rows:
                _refuse_nothing(left_out)
            with disk_errors(directory):
                if suit_parts:
                    options = _with_suitable_parts(options, spool)
                facts = _write(spool, clashes.settle(), building / "manifest", options, compare)
        marked = (
            0 if compare is None else sum(left_out[each] for each in PassedOver if each.filtered)
        )
        _add_left_out(facts["inventory"], spool.rows - marked, left_out)
        if all_of_it:
            _refuse_losses(facts)
        facts |= {"schema": SCHEMA_VERSION, "source_prefix": source_prefix}
        with disk_errors(directory):
            write_facts(building / "manifest", facts)
            _publish(building / "manifest", directory)
    return open_manifest(directory)


class RowsCompared(Protocol):
    """What the sorted rows of a listing are compared with; a context manager."""

    schema: pa.Schema
    """Of the rows that come out."""

    def of(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The rows that the manifest has of the next ones, which are sorted, each key once."""
        ...

    def rest(self) -> Iterator[pa.RecordBatch]:
        """Rows beyond the last that came."""
        ...

    def facts(self) -> dict[str, Any]:
        """What manifest.json says of it, once all rows are out."""
        ...

    def __enter__(self) -> RowsCompared: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True, slots=True)
class _Prepared:
    rows: pa.RecordBatch
    """MANIFEST_SCHEMA."""
    outside: int
    """Rows that lie outside of the prefix, left out."""
    bytes: float
    """Of all rows, those included."""


def _prepare(batch: pa.RecordBatch, *, prefix: str, options: PlanOptions) -> _Prepared:
    """The rows below prefix, classified."""
    sizes = batch.column("size").cast(pa.float64(), safe=False)
    rows = _below(batch, prefix) if prefix else batch
    return _Prepared(
        rows=classify(rows, options),
        outside=len(batch) - len(rows),
        bytes=pc.sum(sizes).as_py() or 0.0,
    )


def _spool_rows(
    prepared: Generator[_Prepared, None, None],
    spool: RangeSpool,
    clashes: NameClashes,
    directory: Path,
) -> int:
    """Takes all rows. Returns how many were left out because of the prefix.

    Raises JobDirectoryError as soon as there are too many rows for the memory of this machine.
    """
    outside, total_bytes, is_large = 0, 0.0, False
    with contextlib.closing(prepared):
        for batch in prepared:
            total_bytes += batch.bytes
            if total_bytes >= TOTAL_BYTES_MAX:
                raise InventoryError("the objects' sizes add up to more than any store holds")
            outside += batch.outside
            with disk_errors(directory):
                spool.append(batch.rows)
                clashes.append(batch.rows)
            if not is_large and not spool.is_one_range:
                is_large = plan_threads() > 0
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
        f"none of {count_text(left_out.total(), 'entry')} would be moved: "
        f"{left_out[PassedOver.OUTSIDE_PREFIX]:,} outside the source's prefix, "
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
            f"{count_text(lost.total(), 'entry')} would not be moved ({named}): mend that at the "
            'source, or plan without representable = "all"'
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


def _below(batch: pa.RecordBatch, prefix: str) -> pa.RecordBatch:
    is_below = pc.starts_with(batch.column("key"), prefix)
    batch = batch if pc.all(is_below).as_py() else batch.filter(is_below)
    keys = pc.utf8_slice_codeunits(batch.column("key"), start=len(prefix))
    return batch.set_column(0, INVENTORY_SCHEMA.field(0), keys)


def _with_suitable_parts(options: PlanOptions, spool: RangeSpool) -> PlanOptions:
    part_bytes = suitable_part_bytes(spool.landing_bytes, chunk_bytes=options.chunk_bytes)
    return replace(options, part_bytes=part_bytes, put_bytes=PUT_BYTES)


def _add_left_out(inventory: dict[str, Any], rows: int, left_out: Mapping[PassedOver, int]) -> None:
    """Add what is in no row: of what has a kind in the rows, those that a filter left out."""
    causes = {cause.value: count for cause, count in left_out.items()}
    past = causes.pop(PassedOver.NOT_CURRENT.value, 0)
    if past:
        inventory["not_current"]["filtered"] = past
    inventory |= {"rows": rows + sum(left_out.values()), **causes}


def _write(
    spool: RangeSpool,
    verdicts: Verdicts,
    folder: Path,
    options: PlanOptions,
    compare: Callable[[Path], RowsCompared] | None,
) -> dict[str, Any]:
    """Sort, collapse, cut, write. Returns facts for manifest.json."""
    threads = 1 if spool.is_one_range else plan_threads()
    caps = shard_caps(options, total_bytes=spool.landing_bytes, total_objects=spool.landing_rows)
    dropped = Dropped()
    sort = partial(_sorted_range, verdicts=verdicts)
    last_key = ""
    folder.mkdir()
    with (
        contextlib.nullcontext(_AllRows()) if compare is None else compare(folder) as compared,
        ManifestWriter(folder, options, caps, compared.schema) as writer,
        contextlib.closing(side_by_side(sort, spool.ranges(), threads=threads)) as ranges,
    ):
        for place, (batch, dropped_here) in enumerate(ranges):
            keys = batch.column("key")
            if place and keys[0].as_py() <= last_key:
                raise out_of_order()
            last_key = keys[-1].as_py()
            _append(writer, compared.of(batch))
            dropped.add(dropped_here)
        _append(writer, compared.rest())
        facts = {**writer.finish(), **compared.facts()}
    inventory = {
        "duplicates": dropped.duplicates,
        "superseded": dropped.superseded,
        "not_current": dict(dropped.not_current),
    }
    return {**facts, "plan": options.as_json(), "inventory": inventory}


def _append(writer: ManifestWriter, batches: Iterable[pa.RecordBatch]) -> None:
    for batch in filter(len, batches):
        writer.append(batch)


class _AllRows:
    """Nothing to compare with: a first pass has every row."""

    schema = MANIFEST_SCHEMA

    def of(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        yield batch

    def rest(self) -> Iterator[pa.RecordBatch]:
        return iter(())

    def facts(self) -> dict[str, Any]:
        return {}


def _sorted_range(rows: RangeRows, *, verdicts: Verdicts) -> tuple[pa.RecordBatch, Dropped]:
    """The rows of a range in order, each key once, and what was dropped for that."""
    batch = joined(list(rows.take()))
    if not rows.in_order:
        batch = batch.take(pa.array(sort_order(batch.column("key"))))
    dropped = Dropped()
    batch = verdicts.apply(with_columns(batch, MANIFEST_SCHEMA))
    return one_row_a_key(batch, dropped), dropped


@contextlib.contextmanager
def _building(directory: Path) -> Iterator[Path]:
    """A folder beside `directory`, empty, for one freeze at a time; gone afterwards."""
    building = directory.with_name(f".{directory.name}.freeze")
    with disk_errors(directory):
        make_folders(building)
        lock = open_new(str(building / "lock"), os.O_RDWR | os.O_CREAT)
    try:
        with disk_errors(directory):
            _hold(lock, directory)
            for left in building.iterdir():
                if left.is_dir():
                    shutil.rmtree(left)
                elif left.name != "lock":
                    left.unlink()
        try:
            yield building
        finally:
            shutil.rmtree(building, ignore_errors=True)
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
