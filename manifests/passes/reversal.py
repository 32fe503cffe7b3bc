"""The state of a migration as its way back sees it: source and target change places.

What stood at the target after the last pass is what a reverse pass compares the target with: the
target's names and ETags are its source's, and what it may replace at the source is what was read
there, as it was read.

An object that the source had lost before, and that stands at the target, stays out of the way back
as long as nobody changes it: its row has no ETag at the source.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.job.routed_rows import RoutedRows
from noria.manifests.key_ranges import KeyRanges
from noria.manifests.manifest.sorting import sort_order
from noria.manifests.passes.state import STATE_SCHEMA, State, StateWalk, StateWriter, state_errors

REVERSE_BASE: Final = 1
"""The pass that stands for what was there before the way back; the reverse pass is the next."""
RANGES_MAX: Final = 4_096
_NONE: Final = pa.scalar(None, pa.string())
_ROUTED: Final = pa.schema(
    [pa.field("target_key", pa.string()), pa.field("key", pa.string())]
    + [one.with_nullable(True) for one in list(STATE_SCHEMA)[2:]]
)
"""STATE_SCHEMA while rows are sorted: routed_rows.py goes by a column of this name."""


def write_reversed(state: State, folder: Path) -> State:
    """Write what the way back begins with, as the state `folder` of a migration of its own."""
    rows = (
        _turned(block, REVERSE_BASE, pa.nulls(len(block), pa.string())) for block in state.blocks()
    )
    with StateWriter(folder, REVERSE_BASE) as writer:
        for table in _in_order(rows, state, folder.with_name(f".{folder.name}.turn")):
            writer.append(table)
        return writer.finish()


def write_returned(forward: State, back: State, folder: Path) -> State:
    """Write what stands at the target once a way back has ended, in place of `forward`.

    What it moved is known by both ends now, and as good as written by this migration. What it found
    unchanged stays as it was; what it found gone at the target stands there no more.
    """
    number = forward.facts.number
    walk = StateWalk(forward.blocks())
    found = (block.filter(_counts(block)) for block in back.blocks())
    rows = (_turned(block, number, _levels_moved(block)) for block in found)
    with StateWriter(folder, number) as writer:
        for table in _in_order(rows, back, folder.with_name(f".{folder.name}.turn")):
            writer.append(_as_before(table, walk))
        return writer.finish()


def _counts(block: pa.Table) -> pa.ChunkedArray:
    """True for what stands at the reverse pass's source, the target."""
    return block["gone_since"].is_null()


def _as_before(rows: pa.Table, walk: StateWalk) -> pa.Table:
    """The rows that a way back did not touch as they were; those that it moved as they are."""
    if not len(rows):
        return rows
    before = [*walk.through(rows["key"][-1].as_py())]
    moved = rows.filter(rows["level"].is_valid())
    untouched = rows.filter(rows["level"].is_null())
    found = [moved]
    if before and len(untouched):
        keys = untouched["key"].combine_chunks()
        stood = pa.concat_tables(before)
        found.append(stood.filter(pc.is_in(stood["key"], value_set=keys)))
    both = pa.concat_tables(found).combine_chunks()
    return both.take(pa.array(sort_order(both["key"].combine_chunks())))


def _levels_moved(block: pa.Table) -> pa.ChunkedArray:
    """The levels of what a way back moved; null for what it found as it was."""
    return pc.if_else(pc.greater(block["pass"], REVERSE_BASE), block["level"], _NONE)


def _turned(block: pa.Table, number: int, level: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows with their ends exchanged, as a pass of this number would have left them.

    The target's times are not known: its ETags tell what has changed.
    """
    names = pc.coalesce(block["target_key"], block["key"])
    same = pc.equal(names, block["key"])
    lost = block["gone_since"].is_valid()
    columns = {
        "key": names,
        "target_key": pc.if_else(same, _NONE, block["key"]),
        "size": block["size"],
        "source_etag": block["target_etag"],
        "source_version": block["target_version"],
        "modified": pa.nulls(len(block), STATE_SCHEMA.field("modified").type),
        "target_etag": pc.if_else(lost, _NONE, block["source_etag"]),
        "target_version": pc.if_else(lost, _NONE, block["source_version"]),
        "crc64nvme": block["crc64nvme"],
        "level": level,
        "changes": pa.nulls(len(block), pa.string()),
        "written": pa.repeat(pa.scalar(True), len(block)),
        "pass": pa.repeat(pa.scalar(number, pa.int32()), len(block)),
        "gone_since": pa.nulls(len(block), pa.int32()),
    }
    return pa.table([columns[one.name] for one in STATE_SCHEMA], schema=STATE_SCHEMA)


def _in_order(rows: Iterator[pa.Table], state: State, folder: Path) -> Iterator[pa.Table]:
    """The rows by rising keys. They come so unless names at the target differ from the source's."""
    if not _renames(state):
        yield from rows
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with state_errors(folder):
            spool = RoutedRows(folder, _ROUTED, _ranges(state))
            for table in rows:
                spool.append(table.rename_columns(_ROUTED.names).cast(_ROUTED).to_batches())
            for number in range(spool.ranges.number):
                if spool.nbytes[number]:
                    table = spool.read(number).rename_columns(STATE_SCHEMA.names)
                    table = table.cast(STATE_SCHEMA).combine_chunks()
                    yield table.take(pa.array(sort_order(table["key"].combine_chunks())))
                    spool.drop(number)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _renames(state: State) -> bool:
    return any(
        block["target_key"].null_count < len(block) for block in state.blocks(["target_key"])
    )


def _ranges(state: State) -> KeyRanges:
    """Of names at the target, which are mostly those of the source."""
    return state.ranges(RANGES_MAX)
