"""Rows of a report as Arrow columns, a batch at a time; every row knows its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet

from noria.manifests.errors import InventoryError

BATCH_ROWS = 65_536
"""Rows of a columnar file taken at a time."""
COLUMN_BUFFER_BYTES = 1024 * 1024
"""Parquet: read ahead in a column chunk, instead of the whole chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRows:
    """Some rows as the data file has them: `columns` by folded name, `place(row)` for messages."""

    file: str
    columns: Mapping[str, pa.Array]
    count: int
    place: Callable[[int], str]

    def refuse(self, row: int, what: str) -> InventoryError:
        """The error for a row of this batch, counted from 0. Values stay out: they may be names."""
        return InventoryError(f"{self.file}, {self.place(row)}: {what}")


LazyRows = Callable[[], ReportRows]
"""Rows whose text may have to be parsed yet, on any thread. Raises InventoryError."""


def fold(name: str) -> str:
    """One spelling for a column: `Last-Modified`, `LastModified` and `last_modified` agree."""
    return name.lower().replace("-", "").replace("_", "")


def folded_names(names: Sequence[str], file: str, wanted: frozenset[str]) -> tuple[str, ...]:
    """The columns of a file. Raises InventoryError if a wanted one is there twice."""
    columns = tuple(fold(name.strip()) for name in names)
    for name in wanted:
        if columns.count(name) > 1:
            raise InventoryError(f"{file}: has the column {name} twice")
    return columns


DAMAGED = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
)
"""What the readers raise for a damaged file; a column name that is not UTF-8 is a ValueError.

Errors of a store are not among these, and propagate.
"""

ColumnarFile = tuple[Sequence[str], Callable[[list[str]], Iterator[pa.RecordBatch]]]
"""The names of all columns, and how to read some of them."""


def parquet_rows(stream: BinaryIO, file: str, *, wanted: frozenset[str]) -> Iterator[LazyRows]:
    """The rows of a Parquet file, in batches within its row groups."""
    return _columnar_rows(partial(_open_parquet, stream), file, wanted)


def orc_rows(stream: BinaryIO, file: str, *, wanted: frozenset[str]) -> Iterator[LazyRows]:
    """The rows of an ORC file; a stripe is the least that is read at once."""
    return _columnar_rows(partial(_open_orc, stream), file, wanted)


def _open_parquet(stream: BinaryIO) -> ColumnarFile:
    reader = pyarrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=COLUMN_BUFFER_BYTES)
    return reader.schema_arrow.names, lambda columns: reader.iter_batches(
        batch_size=BATCH_ROWS, columns=columns
    )


def _open_orc(stream: BinaryIO) -> ColumnarFile:
    reader = pyarrow.orc.ORCFile(stream)

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        for number in range(reader.nstripes):
            stripe = reader.read_stripe(number, columns=columns)
            for start in range(0, stripe.num_rows, BATCH_ROWS):
                yield stripe.slice(start, BATCH_ROWS)

    return reader.schema.names, batches


def _columnar_rows(
    opened: Callable[[], ColumnarFile], file: str, wanted: frozenset[str]
) -> Iterator[LazyRows]:
    row = 1
    try:
        names, batches = opened()
        folded = dict(zip(names, folded_names(names, file, wanted), strict=True))
        for batch in batches([name for name in names if folded[name] in wanted]):
            yield partial(
                ReportRows,
                file=file,
                columns={folded[name]: batch.column(name) for name in batch.schema.names},
                count=batch.num_rows,
                place=partial(_row_number, row),
            )
            row += batch.num_rows
    except DAMAGED:
        # Arrow's message may quote values, and a value may be an object's name.
        raise InventoryError(f"{file}, row {row} or after: is damaged or cut short") from None


def _row_number(first: int, row: int) -> str:
    return f"row {first + row}"
