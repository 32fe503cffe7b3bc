"""What is damaged at the target, by all passes of a migration, and has not been sent again since.

What a pass noted as damaged counts as long as the state rests on that pass's receipt: a later pass
that sends the object again has another one. It is crossed out for those who look at a pass alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.job.damage import DAMAGED, GONE, read_damage, write_damage
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import value_counts
from noria.manifests.manifest.sorting import sort_order
from noria.manifests.passes.migration import Migration
from noria.manifests.passes.state import State

STANDING_DAMAGE_SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("cause", pa.string()),
        pa.field("gone", pa.bool_()),
        pa.field("pass", pa.int32()),
    ]
)
"""Sorted by key, each key once. `gone`: the source no longer has it, so that it is not sent again.
`pass` is the one whose receipt it is of.
"""


def standing_damage(migration: Migration, number: int) -> pa.Table:
    """STANDING_DAMAGE_SCHEMA: what is damaged of what stood after a pass that has ended.

    What is gone at both ends is not damage. Held in memory, as what a verification has found is.
    Raises JobDirectoryError.
    """
    noted = [*_noted(migration, number)]
    if not noted:
        return STANDING_DAMAGE_SCHEMA.empty_table()
    return _standing(pa.concat_tables(noted), migration.state(number))


def cross_out_repaired(migration: Migration, number: int) -> None:
    """Forget damage of passes up to this one, which has ended, that has been sent again since.

    The caller holds the pass. Raises JobDirectoryError.
    """
    standing = standing_damage(migration, number)
    for each in range(1, number + 1):
        directory = JobDirectory(migration.place(each))
        noted = read_damage(directory)
        still = standing["key"].filter(pc.equal(standing["pass"], each)).combine_chunks()
        left = noted.filter(pc.is_in(noted["key"], value_set=still))
        if len(left) < len(noted):
            write_damage(directory, left)


def damage_counts(damage: pa.Table) -> dict[str, int]:
    """Cause -> objects."""
    return dict(value_counts(damage["cause"]))


def _noted(migration: Migration, last: int) -> Iterator[pa.Table]:
    """By each pass up to this one, with the pass's number."""
    for number in range(1, last + 1):
        place = migration.place(number)
        found = read_damage(JobDirectory(place)).select(["key", "cause", "target_etag"])
        if len(found):
            numbers = pa.repeat(pa.scalar(number, pa.int32()), len(found))
            yield found.append_column("pass", numbers)


def _standing(noted: pa.Table, state: State) -> pa.Table:
    found = [STANDING_DAMAGE_SCHEMA.empty_table()]
    keys = noted["key"].combine_chunks()
    for block in state.blocks(["key", "pass", "target_etag", "gone_since"]):
        rows = block.filter(pc.is_in(block["key"], value_set=keys))
        if len(rows):
            both = rows.join(
                noted.filter(pc.is_in(noted["key"], value_set=rows["key"].combine_chunks())),
                ["key", "pass", "target_etag"],
                join_type="inner",
                use_threads=False,
            )
            gone = both["gone_since"].is_valid()
            both = both.append_column("gone", gone)
            at_both = pc.and_(gone, pc.equal(both["cause"], GONE))
            found.append(both.filter(pc.invert(at_both)).select(STANDING_DAMAGE_SCHEMA.names))
    table = pa.concat_tables(found).combine_chunks()
    return table.take(pa.array(sort_order(table["key"].combine_chunks())))


def damaged_keys(damage: pa.Table) -> list[str]:
    """What lies there under its own ETag, with other bytes; sorted."""
    return list(damage["key"].filter(pc.equal(damage["cause"], DAMAGED)).to_pylist())


def lost_keys(damage: pa.Table) -> list[str]:
    """What is gone there, or has given way to another object; sorted."""
    return list(damage["key"].filter(pc.not_equal(damage["cause"], DAMAGED)).to_pylist())
