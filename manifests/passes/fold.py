"""The state after a pass, from the state before it and what the pass has sealed.

Rows of the manifest, their receipts and the state before come sorted by key, and are merged a
stretch at a time:

    landed      stands now, as its receipt says
    deleted     stands no more, as what gave way to others' objects, which are kept
    all else    stands as it did: a receipt that did not land changes nothing
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.errors import JobDirectoryError, TargetKept
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipt_check import sealed_rows
from noria.manifests.job.receipts import LANDED
from noria.manifests.job.reconcile import RANGES_MAX, StandingRows
from noria.manifests.job.target_check import LANDED_SCHEMA
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.manifest.sorting import sort_order
from noria.manifests.model import Outcome
from noria.manifests.passes.delta import GONE_FILE, GONE_SCHEMA
from noria.manifests.passes.state import STATE_SCHEMA, State, StateWalk, StateWriter, state_errors

_READ: Final = (
    *("key", "target_key", "outcome", "size", "source_etag", "source_version", "target_etag"),
    *("target_version", "crc64nvme", "level", "changes", "cause"),
)
_RESTORE: Final = "restore it from a copy"


def fold(directory: JobDirectory, number: int, before: State | None, folder: Path) -> State:
    """Write the state after pass `number`, whose job directory this is, as `folder`.

    The same seals give the same files, bit for bit. Raises JobDirectoryError if a seal, a result or
    the manifest is damaged, or the disk is full.
    """
    manifest = open_manifest(directory.manifest_path)
    walk = StateWalk(iter(()) if before is None else before.blocks())
    gone = _GoneKeys(manifest)
    with StateWriter(folder, number) as writer:
        for _, rows, receipts in sealed_rows(directory, manifest, _READ):
            settled = _settled(rows, receipts, number)
            keys = settled["key"]
            if not len(keys):
                continue
            for stood in walk.through(keys[-1].as_py()):
                end = _count_through(keys, stood["key"][-1].as_py())
                writer.append(gone.mark(_merged(stood, settled.slice(0, end)), number))
                settled, keys = settled.slice(end), keys.slice(end)
            writer.append(gone.mark(_merged(STATE_SCHEMA.empty_table(), settled), number))
        for stood in walk.rest():
            writer.append(gone.mark(stood, number))
        return writer.finish()


def standing(state: State) -> StandingRows:
    """What a state says stands at the target. Raises JobDirectoryError if it is damaged."""
    return StandingRows(rows=_standing_rows(state), ranges=state.ranges(RANGES_MAX))


def _standing_rows(state: State) -> Iterator[pa.RecordBatch]:
    for block in state.blocks(["target_key", "key", "size", "target_etag", "gone_since"]):
        block = block.filter(block["target_etag"].is_valid())
        target_key = pc.coalesce(block["target_key"], block["key"])
        key = pc.if_else(block["target_key"].is_valid(), block["key"], pa.scalar(None, pa.string()))
        gone = block["gone_since"].is_valid()
        columns = [target_key, key, block["size"], block["target_etag"], gone]
        yield from pa.table(columns, schema=LANDED_SCHEMA).to_batches()


def _settled(rows: pa.Table, receipts: pa.Table, number: int) -> pa.Table:
    """STATE_SCHEMA of the receipts that landed, and of those whose object stands no more.

    The pass of the latter is null.
    """
    landed = pc.is_in(receipts["outcome"], value_set=LANDED)
    deleted = pc.equal(receipts["outcome"], Outcome.DELETED.value)
    # Another object is there, and is kept: what this migration wrote is not.
    lost = pc.fill_null(pc.equal(receipts["cause"], TargetKept.cause), False)
    settles = pc.or_(landed, pc.or_(deleted, lost))
    rows, receipts, landed = (each.filter(settles) for each in (rows, receipts, landed))
    same_name = pc.equal(receipts["target_key"], receipts["key"])
    columns = {
        "key": receipts["key"],
        "target_key": pc.if_else(same_name, pa.scalar(None, pa.string()), receipts["target_key"]),
        "size": receipts["size"],
        "source_etag": receipts["source_etag"],
        "source_version": receipts["source_version"],
        "modified": rows["last_modified"],
        "target_etag": receipts["target_etag"],
        "target_version": receipts["target_version"],
        "crc64nvme": receipts["crc64nvme"],
        "level": receipts["level"],
        "changes": receipts["changes"],
        "written": pc.equal(receipts["outcome"], Outcome.TRANSFERRED.value),
        "pass": pc.if_else(landed, pa.scalar(number, pa.int32()), pa.scalar(None, pa.int32())),
        "gone_since": pa.nulls(len(rows), pa.int32()),
    }
    nullable = pa.schema([one.with_nullable(True) for one in STATE_SCHEMA])
    return pa.table([columns[one.name] for one in STATE_SCHEMA], schema=nullable)


def _merged(stood: pa.Table, settled: pa.Table) -> pa.Table:
    """What stands of both, in order, for one and the same stretch of keys."""
    stands = settled.filter(settled["pass"].is_valid()).cast(STATE_SCHEMA)
    if len(stood) and len(settled):
        stands = _still_written(stood, stands)
        keys = settled["key"].combine_chunks()
        stood = stood.filter(pc.invert(pc.is_in(stood["key"], value_set=keys)))
    if not len(stood) or not len(stands):
        return stood if len(stood) else stands
    both = pa.concat_tables([stood, stands]).combine_chunks()
    return both.take(pa.array(sort_order(both["key"].combine_chunks())))


def _still_written(stood: pa.Table, stands: pa.Table) -> pa.Table:
    """What was found there, equal, and as an earlier pass had written it, is this migration's."""
    place = pc.index_in(stands["key"], value_set=stood["key"].combine_chunks()).combine_chunks()
    before = stood.select(["written", "target_etag"]).combine_chunks().take(place)
    as_left = pc.and_(before["written"], pc.equal(before["target_etag"], stands["target_etag"]))
    written = pc.or_(stands["written"], pc.fill_null(as_left, False))
    at = STATE_SCHEMA.get_field_index("written")
    return stands.set_column(at, STATE_SCHEMA.field(at), written)


def _count_through(keys: pa.ChunkedArray, last: str) -> int:
    return int(pc.sum(pc.less_equal(keys, last), min_count=0).as_py())


def _check_gone(manifest: Manifest, path: Path) -> None:
    """Raise JobDirectoryError if gone.parquet is not what was frozen."""
    with state_errors(path, _RESTORE), open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != manifest.facts["gone"]["sha256"]:
            raise JobDirectoryError(f"{path} is not what was frozen; {_RESTORE}")


class _GoneKeys:
    """The keys that a pass has found gone, walked through by rising keys."""

    def __init__(self, manifest: Manifest) -> None:
        self._path = manifest.directory / GONE_FILE
        is_first = manifest.facts.get("delta") is None
        if not is_first:
            _check_gone(manifest, self._path)
        self._walk = StateWalk(iter(()) if is_first else self._blocks())

    def mark(self, rows: pa.Table, number: int) -> pa.Table:
        """The next rows, with the pass that found each gone first; null if this one found it."""
        if not len(rows):
            return rows
        gone: Sequence[pa.Array] = [
            chunk
            for table in self._walk.through(rows["key"][-1].as_py())
            for chunk in table["key"].chunks
        ]
        place = STATE_SCHEMA.get_field_index("gone_since")
        none = pa.nulls(len(rows), pa.int32())
        since = none
        if gone:
            is_gone = pc.is_in(rows["key"], value_set=pa.concat_arrays(gone))
            first = pc.fill_null(rows["gone_since"], pa.scalar(number, pa.int32()))
            since = pc.if_else(is_gone, first, none)
        return rows.set_column(place, STATE_SCHEMA.field(place), since)

    def _blocks(self) -> Iterator[pa.Table]:
        with state_errors(self._path, _RESTORE), pq.ParquetFile(self._path) as file:
            if not file.schema_arrow.equals(GONE_SCHEMA):
                raise JobDirectoryError(f"{self._path} has other columns; {_RESTORE}")
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=["key"], use_threads=False)
