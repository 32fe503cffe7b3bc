"""Differences between a manifest, its receipts and the target: rows of a table, and their file.

what        a kind of DIFFERENCES, `canary`, or `gone_at_both`
key         the entry's name below the source's prefix; null for what is only at the target
target_key  the name below the target's prefix; null for an entry that has no receipt
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.job.receipts import value_counts

DIFFERENCES = ("unsettled", "unplanned", "missing", "differing", "merged", "extra")
CANARY = "canary"
GONE_AT_BOTH = "gone_at_both"
"""Listed no more, as the source has it no more: no difference."""

_SCHEMA = pa.schema([("what", pa.string()), ("key", pa.string()), ("target_key", pa.string())])
_GROUP_ROWS = 65_536
"""Of the file's row groups, which are what is held in memory."""


def differences(
    what: str | pa.ChunkedArray,
    key: pa.ChunkedArray | None = None,
    target_key: pa.ChunkedArray | None = None,
) -> pa.Table:
    """A row for each key or target key; one of the two may be left out."""
    given = [column for column in (key, target_key) if column is not None]
    rows = len(given[0])
    columns = [
        pa.repeat(what, rows) if isinstance(what, str) else what,
        *(pa.nulls(rows, pa.string()) if each is None else each for each in (key, target_key)),
    ]
    return pa.table(columns, schema=_SCHEMA)


class DifferencesFile:
    """Writes tables of differences to one Parquet file; a context manager."""

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        """Kind -> differences so far."""
        self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._pending = [_SCHEMA.empty_table()]
        self._pending_rows = 0

    def __enter__(self) -> DifferencesFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._writer.close()

    def add(self, found: pa.Table) -> None:
        if not len(found):
            return
        self.counts.update(dict(value_counts(found["what"])))
        self._pending.append(found)
        self._pending_rows += len(found)
        if self._pending_rows >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._pending_rows:
            self._writer.write_table(pa.concat_tables(self._pending), row_group_size=_GROUP_ROWS)
        self._pending, self._pending_rows = [_SCHEMA.empty_table()], 0


def one_of_each(names: pa.ChunkedArray, by: pa.ChunkedArray) -> pa.Table:
    """Each value of `by` once, with the least of its names: columns `by` and `name`."""
    rows = pa.table({"by": by, "name": names}).sort_by([("by", "ascending"), ("name", "ascending")])
    kept = rows["by"].combine_chunks()
    if len(kept) < 2:
        return rows
    is_next = pc.not_equal(kept.slice(1), kept.slice(0, len(kept) - 1))
    return rows.filter(pa.concat_arrays([pa.array([True]), is_next]))
