"""Sorted, unique rows become the files of a manifest: counted, digested, one row group a shard."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.json_text import json_text
from noria.manifests.manifest.row_digest import RowDigest
from noria.manifests.manifest.write_behind import WriteBehind
from noria.manifests.model import Delta, ShardKind
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import fit_parts
from noria.manifests.plan.shards import Cut, ShardCaps, cut_shards
from noria.manifests.schema import MANIFEST_SCHEMA, SHARD_SCHEMA, SHARDS_PER_FILE

REPETITIVE = [
    "content_type",
    "content_encoding",
    "content_language",
    "content_disposition",
    "cache_control",
    "tier",
    "archive_status",
    "blob_type",
    "not_current",
    "reason",
    "delta",
]
"""Columns with few values, which a dictionary makes small."""


class ManifestWriter:
    """Writes part files and shards.parquet into an empty folder; a context manager.

    Methods raise OSError.
    """

    def __init__(
        self,
        folder: Path,
        options: PlanOptions,
        caps: ShardCaps,
        schema: pa.Schema = MANIFEST_SCHEMA,
    ) -> None:
        self._schema = schema
        self._folder = folder
        self._options = options
        self._caps = caps
        self._digest = RowDigest(schema)
        self._counts = ManifestCounts()
        self._behind = WriteBehind()
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._shards: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None
        self._files: list[dict[str, Any]] = []

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._behind.close()
        if self._writer is not None:
            with contextlib.suppress(OSError):  # of a file that nobody will read
                self._writer.close()

    def append(self, batch: pa.RecordBatch) -> None:
        """Take the next rows, of the schema."""
        rows = pa.Table.from_batches([batch])
        moved = _moved_bytes(batch)
        self._digest.update(rows)
        self._counts.add(batch, moved)
        self._pending.append(rows.append_column("moved", moved))
        self._pending_rows += len(rows)
        if self._pending_rows >= self._caps.shard_objects:
            self._cut(last=False)

    def finish(self) -> dict[str, Any]:
        """Flush every file to disk, after the last row. Returns what manifest.json says of them."""
        self._cut(last=True)
        self._behind.submit(self._close_file)
        self._behind.drain()
        path = self._folder / "shards.parquet"
        pq.write_table(pa.Table.from_pylist(self._shards, schema=SHARD_SCHEMA), path)
        kinds = [shard["kind"] for shard in self._shards]
        return {
            **self._counts.as_json(),
            "digest": self._digest.hexdigest(),
            "files": self._files,
            "shards": {
                "count": len(kinds),
                "parts": kinds.count(ShardKind.PARTS),
                "file": settle_file(path),
            },
        }

    def _cut(self, *, last: bool) -> None:
        if not self._pending:
            return
        rows = pa.concat_tables(self._pending)
        sizes = rows["moved"].combine_chunks()
        end = 0
        for cut in cut_shards(sizes, self._caps, last=last):
            shard = len(self._shards)
            self._shards.append(self._shard_row(shard, cut))
            taken = rows.slice(cut.first, cut.end - cut.first).drop_columns("moved")
            self._behind.submit(self._write_shard, shard, taken)
            end = cut.end
        left = rows.slice(end)
        self._pending, self._pending_rows = ([left] if len(left) else []), len(left)

    def _shard_row(self, shard: int, cut: Cut) -> dict[str, Any]:
        units = per_lease = cut.end - cut.first
        if cut.kind is ShardKind.PARTS:
            options = self._options
            fitted = fit_parts(
                cut.bytes,
                options.limits,
                part_bytes=options.part_bytes,
                chunk_bytes=options.chunk_bytes,
            )
            units = fitted.parts
            per_lease = min(units, max(1, options.segment_bytes // fitted.part_bytes))
        return {
            "shard": shard,
            "file": shard // SHARDS_PER_FILE,
            "row_group": shard % SHARDS_PER_FILE,
            "kind": cut.kind,
            "rows": cut.end - cut.first,
            "units": units,
            "bytes": cut.bytes,
            "units_per_lease": per_lease,
        }

    def _write_shard(self, shard: int, rows: pa.Table) -> None:
        if shard % SHARDS_PER_FILE == 0:
            self._close_file()
            self._open_file(f"part-{shard // SHARDS_PER_FILE:05d}.parquet")
        assert self._writer is not None
        self._writer.write_table(rows, row_group_size=len(rows))
        self._files[-1]["rows"] += len(rows)

    def _open_file(self, name: str) -> None:
        self._files.append({"name": name, "rows": 0})
        self._writer = pq.ParquetWriter(
            self._folder / name,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in REPETITIVE if name in self._schema.names],
            write_statistics=False,
            write_page_checksum=True,
        )

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._files[-1] |= settle_file(self._folder / self._files[-1]["name"])


class ManifestCounts:
    """Counts and bytes: in all, to move, by reason, by size."""

    def __init__(self) -> None:
        self._all = [0, 0]
        self._moved = [0, 0]
        self._reasons: dict[str, list[int]] = {}
        self._sizes: dict[int, list[int]] = {}

    def add(self, batch: pa.RecordBatch, moved: pa.Array) -> None:
        size, reason = batch.column("size"), batch.column("reason")
        _add(self._all, len(batch), pc.sum(size).as_py())
        moves = reason.null_count - _count(batch, Delta.GONE)
        _add(self._moved, moves, pc.sum(moved).as_py())
        table = pa.table({"size": size, "reason": reason, "bits": _bit_length(size)})
        for row in _totals(table, "bits"):
            _add(self._sizes.setdefault(row["bits"], [0, 0]), row["size_count"], row["size_sum"])
        if reason.null_count < len(batch):
            for row in _totals(table.filter(pc.is_valid(table["reason"])), "reason"):
                counts = self._reasons.setdefault(row["reason"], [0, 0])
                _add(counts, row["size_count"], row["size_sum"])

    def as_json(self) -> dict[str, Any]:
        return {
            "objects": self._all[0],
            "bytes": self._all[1],
            "to_move": _counts(self._moved),
            "reasons": {name: _counts(pair) for name, pair in sorted(self._reasons.items())},
            "sizes": [
                {"below": 1 << bits, **_counts(pair)} for bits, pair in sorted(self._sizes.items())
            ],
        }


def _counts(pair: list[int]) -> dict[str, int]:
    return {"objects": pair[0], "bytes": pair[1]}


def _add(pair: list[int], objects: int, size: int | None) -> None:
    pair[0] += objects
    pair[1] += size or 0


def _totals(table: pa.Table, by: str) -> Iterable[dict[str, Any]]:
    totals = table.group_by(by).aggregate([("size", "count"), ("size", "sum")])
    rows: list[dict[str, Any]] = totals.to_pylist()
    return rows


def _moved_bytes(batch: pa.RecordBatch) -> pa.Array:
    size, reason = batch.column("size"), batch.column("reason")
    if _count(batch, Delta.GONE):
        size = pc.if_else(pc.equal(batch.column("delta"), Delta.GONE.value), 0, size)
    if reason.null_count == len(reason):
        return size
    return pc.if_else(pc.is_null(reason), size, 0)


def _count(batch: pa.RecordBatch, delta: Delta) -> int:
    """Rows of this delta; a first pass has none."""
    if "delta" not in batch.schema.names:
        return 0
    return int(pc.sum(pc.equal(batch.column("delta"), delta.value)).as_py() or 0)


def _bit_length(size: pa.Array) -> pa.Array:
    """Bits of each size: a size of n bits is in [2^(n-1), 2^n); 0 has none."""
    rounded = pc.log2(pc.max_element_wise(size, 1).cast(pa.float64(), safe=False))
    bits = pc.floor(rounded).cast(pa.int64())
    # Above 2^48 the logarithm may round up to the next power.
    bits = pc.if_else(
        pc.greater(pc.shift_left(pa.scalar(1, pa.int64()), bits), size), bits, pc.add(bits, 1)
    )
    return pc.if_else(pc.equal(size, 0), 0, bits)


def settle_file(path: Path) -> dict[str, Any]:
    """Flush a file to disk and name it with its size and SHA-256."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"name": path.name, "bytes": file.tell(), "sha256": digest}


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """manifest.json, on disk; the folder may take its final name then."""
    with open(folder / "manifest.json", "w", encoding="utf-8") as file:
        file.write(json_text(facts))
        file.flush()
        os.fsync(file.fileno())
