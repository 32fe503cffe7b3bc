"""The digest of a manifest's rows: what it covers, and what leaves no trace in it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from noria.manifests.manifest.row_digest import (
    BLOCK_ROWS,
    DigestStretch,
    RowDigest,
    manifest_digest,
)
from noria.manifests.schema import MANIFEST_SCHEMA
from tests.support.digest_by_hand import digest_by_hand
from tests.support.rows import FULL_ROW, Row, all_rows, freeze_rows, numbered, plan, shuffled


def test_the_digest_can_be_made_by_hand(tmp_path: Path) -> None:
    rows: list[Row] = [FULL_ROW, *numbered(BLOCK_ROWS + 10), {**FULL_ROW, "key": "zz", "size": 0}]
    manifest = freeze_rows(tmp_path / "manifest", rows, plan(shard_objects=30_000))
    assert manifest.digest == digest_by_hand(all_rows(manifest))


@pytest.mark.parametrize("column", MANIFEST_SCHEMA.names)
def test_the_digest_covers_every_column(column: str) -> None:
    row = {**FULL_ROW, "target_key": "t", "reason": "archived", "not_current": "deleted"}
    one = pa.Table.from_pylist([row, row], schema=MANIFEST_SCHEMA)
    other_value = {str: "other", bytes: b"other", bool: not row[column], int: 5}[type(row[column])]
    changed = pa.Table.from_pylist([row, {**row, column: other_value}], schema=MANIFEST_SCHEMA)
    nulled = one.set_column(
        one.schema.get_field_index(column),
        pa.field(column, one.schema.field(column).type),
        pa.array([row[column], None], one.schema.field(column).type),
    )
    digests = {manifest_digest([table]) for table in (one, changed, nulled)}
    assert len(digests) == 3


def test_the_digest_is_blind_to_layout(tmp_path: Path) -> None:
    rows = [{**FULL_ROW, "key": f"{number:05d}"} for number in range(1_000)]
    one = freeze_rows(tmp_path / "one", rows, plan(shard_objects=7))
    two = freeze_rows(tmp_path / "two", shuffled(rows, 3), plan(shard_objects=500))
    assert len(one.shards()) > 100 > len(two.shards())
    assert one.digest == two.digest
    table = pa.concat_tables([two.read_shard(shard) for shard in range(len(two.shards()))])
    pieces = [table.slice(at, 33) for at in range(0, len(table), 33)]
    assert manifest_digest(pieces) == one.digest


@pytest.mark.parametrize("cuts", [[], [1], [BLOCK_ROWS], [5, 6, 2 * BLOCK_ROWS + 9]], ids=str)
def test_stretches_have_the_digest_of_the_whole(cuts: list[int]) -> None:
    """Also if they are shorter than a block, end with one, or have several."""
    rows = 3 * BLOCK_ROWS + 7
    columns = {"key": pa.array(map(str, range(rows))), "size": pa.array(range(rows))}
    table = pa.table(
        [columns.get(each.name, pa.nulls(rows, each.type)) for each in MANIFEST_SCHEMA],
        schema=MANIFEST_SCHEMA,
    )
    digest = RowDigest()
    for first, end in pairwise([0, *cuts, rows]):
        stretch = DigestStretch(first)
        for at in range(first, end, 50_000):
            stretch.update(table.slice(at, min(50_000, end - at)))
        digest.join(stretch)
    assert digest.hexdigest() == manifest_digest([table])


def test_what_lies_behind_a_null_does_not_count() -> None:
    hidden = pa.StringArray.from_buffers(
        2, pa.array([0, 1, 4], pa.int32()).buffers()[1], pa.py_buffer(b"aXYZ"), pa.py_buffer(b"\1")
    )
    assert hidden.to_pylist() == ["a", None]
    row = dict.fromkeys(MANIFEST_SCHEMA.names) | {"key": "k", "size": 1}
    table = pa.Table.from_pylist([row, row], schema=MANIFEST_SCHEMA)
    plain = table.set_column(2, "etag", pa.array(["a", None]))
    assert manifest_digest([table.set_column(2, "etag", hidden)]) == manifest_digest([plain])
