"""Rows in any order -> rows sorted by the UTF-8 bytes of key, each key once. Out of core: DuckDB.

RowSpool.append   rows go to one Parquet file; whether they came in order is noted
RowSpool.sorted   the rows in order, clashes of names settled; not sorted if they came in order
unique            equal keys collapse to one row
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.errors import JobDirectoryError
from noria.manifests.manifest.write_behind import WriteBehind
from noria.manifests.model import Reason
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.shards import escape
from noria.manifests.schema import MANIFEST_SCHEMA

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 65_536
ROW_GROUP_ROWS = 131_072
"""Of the spool: DuckDB reads row groups in parallel."""
SORT_THREADS = 2

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
]
"""Columns with few values, which a dictionary makes small."""


@dataclass(slots=True)
class Dropped:
    """Rows that share the key of a row that was kept."""

    duplicates: int = 0
    """The same row again."""
    superseded: int = 0
    """Another current row, with an older Last-Modified than the one kept."""
    not_current: Counter[str] = field(default_factory=Counter)
    """By the row's `not_current`: versions and snapshots of a key that has a row already."""


class RowSpool:
    """Rows of MANIFEST_SCHEMA on their way to the sort; a context manager. Methods raise OSError.

    Timestamps lie in it as integers: DuckDB would ask for a time zone. Columns without a value are
    not sorted along; they come back empty.
    """

    def __init__(self, scratch: Path, options: PlanOptions) -> None:
        self.in_order = True
        self.rows = 0
        self.landing_rows = 0
        """Without a reason, as are landing_bytes; duplicates count."""
        self.landing_bytes = 0
        self._path = scratch / "spool.parquet"
        self._temporary = scratch / "sort"
        self._options = options
        self._schema = pa.schema([_as_integer(column) for column in MANIFEST_SCHEMA])
        self._writer = pq.ParquetWriter(
            self._path,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=REPETITIVE,
            write_statistics=False,
        )
        self._behind = WriteBehind()
        self._used = {"key", "size"}
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._last_key: str | None = None

    def __enter__(self) -> RowSpool:
        return self

    def __exit__(self, *_: object) -> None:
        self._behind.close()
        with contextlib.suppress(OSError):  # of a file that nobody reads any more
            self._writer.close()

    def append(self, batch: pa.RecordBatch) -> None:
        """Take rows of MANIFEST_SCHEMA."""
        if not len(batch):
            return
        self._note_order(batch.column("key"))
        landing = pc.is_null(batch.column("reason"))
        self.rows += len(batch)
        self.landing_rows += pc.sum(landing).as_py()
        self.landing_bytes += pc.sum(batch.column("size").filter(landing)).as_py() or 0
        columns = zip(batch.schema.names, batch.columns, strict=True)
        self._used.update(name for name, column in columns if column.null_count < len(batch))
        self._pending.append(batch)
        self._pending_rows += len(batch)
        if self._pending_rows >= ROW_GROUP_ROWS:
            self._write_pending()

    def finish(self) -> None:
        """No more rows come."""
        if self._pending:
            self._write_pending()
        self._behind.drain()
        self._writer.close()

    def sorted(self, memory_limit_bytes: int) -> Iterator[pa.RecordBatch]:
        """Every row of a finished spool, sorted by key, equal keys in no order.

        Rows that exclude one another at the target get their reason here: see _settle_names. The
        sort keeps to memory_limit_bytes and spills into the scratch folder.
        """
        if not self.rows:
            return
        clashes = self._options.rules.file_and_directory_conflict or "target_key" in self._used
        if clashes:
            self._used |= {"target_key", "reason"}
        columns = [name for name in MANIFEST_SCHEMA.names if name in self._used]
        if self.in_order and not clashes:
            batches = self._read_in_order(columns)
        else:
            batches = self._sort(columns, memory_limit_bytes, clashes)
        yield from map(_complete, batches)

    def _note_order(self, keys: pa.Array) -> None:
        if not self.in_order:
            return
        first, last = keys[0].as_py(), keys[-1].as_py()
        rising = pc.all(pc.less_equal(keys[:-1], keys[1:])).as_py() is not False
        self.in_order = rising and (self._last_key is None or self._last_key <= first)
        self._last_key = last

    def _write_pending(self) -> None:
        self._behind.submit(self._write, self._pending)
        self._pending, self._pending_rows = [], 0

    def _write(self, batches: list[pa.RecordBatch]) -> None:
        rows = pa.Table.from_batches(batches).cast(self._schema)
        self._writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)

    def _read_in_order(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._path, pre_buffer=False) as spool:
            yield from spool.iter_batches(BATCH_ROWS, columns=columns)

    def _sort(
        self, columns: list[str], memory_limit_bytes: int, clashes: bool
    ) -> Iterator[pa.RecordBatch]:
        # Workers import this module too, and have no use for the 16 MB.
        import duckdb

        config: dict[str, Any] = {
            "threads": SORT_THREADS,
            "memory_limit": f"{memory_limit_bytes}B",
            "temp_directory": str(self._temporary),
            "preserve_insertion_order": False,
            "arrow_large_buffer_size": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        try:
            self._temporary.mkdir(exist_ok=True)
            with duckdb.connect(config=config) as database:
                path = _literal(str(self._path))
                database.execute(f"CREATE VIEW rows AS FROM read_parquet('{path}')")
                if clashes:
                    _settle_names(database, self._options)
                view = "settled" if clashes else "rows"
                relation = database.sql(f"SELECT {', '.join(columns)} FROM {view} ORDER BY key")
                yield from relation.to_arrow_reader(BATCH_ROWS)
        except duckdb.OutOfMemoryException as error:
            raise OSError(
                f"{self.rows} rows do not sort in {memory_limit_bytes} bytes of memory and the "
                f"free disk: {error}"
            ) from error
        except duckdb.Error as error:
            raise OSError(str(error)) from error


def _settle_names(database: duckdb.DuckDBPyConnection, options: PlanOptions) -> None:
    """Make a view `settled` of `rows` in which no two rows exclude one another at the target.

    If the target cannot hold both `f` and `f/g`, `f` is refused or escaped: one object rather than
    many. An escaped name that another row has too is given up: an earlier move may have made it.
    """
    database.execute("CREATE TABLE verdicts (key VARCHAR, target_key VARCHAR, reason VARCHAR)")
    if options.rules.file_and_directory_conflict:
        with database.cursor() as reading:  # a connection has one open result at a time
            for batch in reading.sql(_FILES_THAT_ARE_FOLDERS).to_arrow_reader(BATCH_ROWS):
                verdicts = _verdicts(batch.column("key"), options)
                database.from_arrow(verdicts).insert_into("verdicts")
    database.execute(_SETTLED)


_FILES_THAT_ARE_FOLDERS = r"""
WITH RECURSIVE
landing AS (SELECT key, coalesce(target_key, key) AS name FROM rows WHERE reason IS NULL),
folders(name) AS (
    SELECT DISTINCT regexp_extract(name, '^(.*)/[^/]*$', 1, 's') FROM landing
        WHERE contains(name, '/')
    UNION
    SELECT DISTINCT regexp_extract(name, '^(.*)/[^/]*$', 1, 's') FROM folders
        WHERE contains(name, '/')
)
SELECT DISTINCT key FROM landing SEMI JOIN folders USING (name)
"""

_SETTLED = f"""
CREATE VIEW judged AS
SELECT rows.* REPLACE (
    coalesce(verdicts.target_key, rows.target_key) AS target_key,
    coalesce(rows.reason, verdicts.reason) AS reason)
FROM rows LEFT JOIN verdicts ON rows.key = verdicts.key AND rows.reason IS NULL;

CREATE TABLE taken AS
SELECT DISTINCT escaped.key
FROM judged AS escaped JOIN judged AS other
    ON coalesce(other.target_key, other.key) = escaped.target_key AND other.key <> escaped.key
WHERE escaped.target_key IS NOT NULL AND escaped.reason IS NULL AND other.reason IS NULL;

CREATE VIEW settled AS
SELECT judged.* REPLACE (
    CASE WHEN taken.key IS NULL THEN judged.target_key END AS target_key,
    CASE WHEN taken.key IS NULL THEN judged.reason
        ELSE coalesce(judged.reason, '{Reason.NAME_MERGED}') END AS reason)
FROM judged LEFT JOIN taken ON judged.key = taken.key;
"""


def _verdicts(keys: pa.Array, options: PlanOptions) -> pa.Table:
    if options.names == "escape":
        target_key, reason = escape(keys, options)
    else:
        target_key = pa.nulls(len(keys), pa.string())
        reason = pa.repeat(str(Reason.NAME_REFUSED), len(keys))
    return pa.table({"key": keys, "target_key": target_key, "reason": reason})


def unique(batches: Iterable[pa.RecordBatch], dropped: Dropped) -> Iterator[pa.RecordBatch]:
    """One row for each key of sorted batches; the others are counted in `dropped`.

    The current row with the newest Last-Modified is kept, else the newest row that is not current;
    if that does not decide, the other columns do, so that the order of the input never does.
    """
    for batch in _whole_keys(batches):
        yield _one_row_a_key(batch, dropped)


def _whole_keys(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, cut so that no key is in two batches."""
    held: pa.RecordBatch | None = None
    for batch in batches:
        if held is None:
            held = batch
            continue
        keys, first = held.column("key"), batch.column("key")[0]
        if keys[-1].as_py() > first.as_py():
            raise _out_of_order()
        shared = pc.sum(pc.equal(keys, first)).as_py() if keys[-1].as_py() == first.as_py() else 0
        if shared < len(held):
            yield held.slice(0, len(held) - shared)
        held = pa.concat_batches([held.slice(len(held) - shared), batch]) if shared else batch
    if held is not None:
        yield held


def _one_row_a_key(batch: pa.RecordBatch, dropped: Dropped) -> pa.RecordBatch:
    keys = batch.column("key")
    rising = pc.less(keys[:-1], keys[1:])
    if pc.all(rising).as_py() is not False:
        return batch
    same = pc.equal(keys[:-1], keys[1:])
    if not pc.all(pc.or_(rising, same)).as_py():
        raise _out_of_order()
    edge = pa.array([False])
    shared = pc.or_(pa.concat_arrays([edge, same]), pa.concat_arrays([same, edge]))
    rows = pc.indices_nonzero(shared)
    winners = _winners(
        pa.Table.from_batches([batch]).take(rows).append_column("row", rows), dropped
    )
    kept = pa.concat_arrays([pc.indices_nonzero(pc.invert(shared)), winners])
    return batch.take(kept.take(pc.sort_indices(kept)))


def _out_of_order() -> JobDirectoryError:
    return JobDirectoryError(
        "the rows came out of the sort in disorder; plan again and report this"
    )


def _winners(groups: pa.Table, dropped: Dropped) -> pa.Array:
    """`row` of the row to keep for each key."""
    used = [name for name in MANIFEST_SCHEMA.names if groups[name].null_count < len(groups)]
    groups = groups.append_column("past", pc.is_valid(groups["not_current"]).cast(pa.int8()))
    order = [("key", "ascending"), ("past", "ascending"), ("last_modified", "descending")]
    rest = [(name, "ascending") for name in used if name not in ("key", "last_modified")]
    ordered = groups.sort_by(order + rest).combine_chunks()
    again = _equals_the_row_before(ordered, used)
    first = pc.invert(_equals_the_row_before(ordered, ["key"]))
    lost = ordered.filter(pc.invert(pc.or_(first, again)))["not_current"]
    dropped.duplicates += pc.sum(again).as_py()
    dropped.superseded += lost.null_count
    for count in pc.value_counts(lost.drop_null()).to_pylist():
        dropped.not_current[count["values"]] += count["counts"]
    return ordered.filter(first)["row"].combine_chunks()


def _equals_the_row_before(table: pa.Table, names: list[str]) -> pa.Array:
    equal = pa.repeat(True, len(table) - 1)
    for name in names:
        column = table[name].combine_chunks()
        one, other = column[:-1], column[1:]
        both_null = pc.and_(pc.is_null(one), pc.is_null(other))
        equal = pc.and_(equal, pc.or_(pc.fill_null(pc.equal(one, other), False), both_null))
    return pa.concat_arrays([pa.array([False]), equal])


def _as_integer(column: pa.Field) -> pa.Field:
    return column.with_type(pa.int64()) if pa.types.is_timestamp(column.type) else column


def _complete(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns and types of MANIFEST_SCHEMA."""
    held = set(batch.schema.names)
    columns = [
        batch.column(one.name).cast(one.type)
        if one.name in held
        else pa.nulls(len(batch), one.type)
        for one in MANIFEST_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=MANIFEST_SCHEMA)


def _literal(path: str) -> str:
    """A path as DuckDB's read_parquet takes it, with quotes and glob signs escaped."""
    return "".join(f"[{sign}]" if sign in "[*?" else sign for sign in path).replace("'", "''")
