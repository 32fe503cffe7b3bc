"""Receipts and part records as Arrow columns, and back; what receipts add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import TargetKept
from noria.manifests.model import (
    Level,
    Outcome,
    PartRecord,
    Reason,
    Receipt,
    ReceiptSummary,
)
from noria.manifests.schema import PART_SCHEMA, RECEIPT_SCHEMA, RECEIPT_SCHEMAS

BY_POLICY: Final = (*(reason.value for reason in Reason if not reason.refused), TargetKept.cause)
"""Causes of skipped entries that nobody has to look at."""
LANDED: Final = pa.array([each.value for each in Outcome if each.landed], pa.string())
"""Outcomes of what is at the target."""
AS_PLANNED: Final = pa.array([each.value for each in Outcome if each.as_planned], pa.string())
"""Outcomes of what landed, or was deleted as it should be."""
_FAILED = pa.array(
    [each.value for each in Outcome if not each.as_planned and each is not Outcome.SKIPPED],
    pa.string(),
)


def _receipt(values: Mapping[str, Any]) -> Receipt:
    level = values.get("level")
    return Receipt(
        **{
            **values,
            "outcome": Outcome(values["outcome"]),
            "level": None if level is None else Level(level),
        }
    )


def receipt_batch(receipts: Sequence[Receipt]) -> pa.RecordBatch:
    """Receipts as columns, in the order given."""
    return _batch(receipts, RECEIPT_SCHEMA)


def part_batch(parts: Sequence[PartRecord]) -> pa.RecordBatch:
    """Part records as columns, in the order given."""
    return _batch(parts, PART_SCHEMA)


def _batch(records: Sequence[Receipt] | Sequence[PartRecord], schema: pa.Schema) -> pa.RecordBatch:
    """Records whose fields are the schema's columns."""
    columns = [
        pa.array([getattr(record, column.name) for record in records], column.type)
        for column in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def summarize(receipts: pa.Table) -> ReceiptSummary:
    """What a set of receipts adds up to, as its seal carries it."""
    groups = receipts.group_by("outcome").aggregate([("size", "sum"), ("size", "count")])
    outcomes = groups.sort_by("outcome").to_pylist()
    return ReceiptSummary(
        outcomes={Outcome(row["outcome"]): row["size_count"] for row in outcomes},
        outcome_bytes={Outcome(row["outcome"]): row["size_sum"] for row in outcomes},
        levels={Level(name): count for name, count in value_counts(receipts["level"])},
        causes=dict(value_counts(receipts["cause"])),
        changes=change_counts(receipts["changes"]),
        bytes_moved=pc.sum(receipts["bytes_moved"], min_count=0).as_py(),
    )


def value_counts(column: pa.ChunkedArray) -> list[tuple[str, int]]:
    """How often each value occurs, nulls left out, in order of the values."""
    counts = pc.value_counts(column.drop_null()).to_pylist()
    return sorted((found["values"], found["counts"]) for found in counts)


def change_counts(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each AttributeChange occurs in values that name several."""
    counts: Counter[str] = Counter()
    for changes, count in value_counts(column):
        counts.update(dict.fromkeys(changes.split(","), count))
    return dict(sorted(counts.items()))


def with_all_columns(receipts: pa.Table) -> pa.Table:
    """Receipts as they are written now. Raises ValueError if the columns are not those of any."""
    if receipts.schema not in RECEIPT_SCHEMAS:
        raise ValueError("these are not the columns of receipts")
    for added in list(RECEIPT_SCHEMA)[receipts.num_columns :]:
        receipts = receipts.append_column(added, pa.nulls(len(receipts), added.type))
    return receipts


def receipts_of(table: pa.Table) -> Iterator[Receipt]:
    """Rows of a result as objects. For one shard, never for a whole job."""
    for batch in table.to_batches(max_chunksize=4096):
        for values in batch.to_pylist():
            yield _receipt(values)


def parts_of(table: pa.Table) -> Iterator[PartRecord]:
    for values in table.to_pylist():
        yield PartRecord(**values)


def failed_for(receipts: pa.Table, causes: Collection[str]) -> pa.ChunkedArray:
    """True for each receipt of an entry that failed for one of these causes."""
    asked = pa.array(sorted(causes), pa.string())
    return pc.and_(
        pc.is_in(receipts["outcome"], value_set=_FAILED),
        pc.fill_null(pc.is_in(receipts["cause"], value_set=asked), False),
    )


def named(receipts: pa.Table, keys: pa.Array) -> pa.ChunkedArray:
    """True for each receipt of one of these entries, unless the plan does not move it."""
    moves = pc.not_equal(receipts["outcome"], Outcome.SKIPPED.value)
    return pc.and_(moves, pc.is_in(receipts["key"], value_set=keys))


def failures_of(table: pa.Table) -> pa.Table:
    """The receipts that someone has to look at: neither landed, deleted nor skipped by policy."""
    as_planned = pc.is_in(table["outcome"], value_set=AS_PLANNED)
    skipped = pc.and_(
        pc.equal(table["outcome"], Outcome.SKIPPED.value),
        pc.is_in(table["cause"], value_set=pa.array(BY_POLICY, pa.string())),
    )
    return table.filter(pc.invert(pc.or_(as_planned, skipped)))
