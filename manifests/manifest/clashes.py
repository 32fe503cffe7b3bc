"""Rows that exclude one another at the target, found among all rows, and what becomes of them.

If the target cannot hold both `f` and `f/g`, `f` is refused or escaped: one object rather than
many. An escaped name that another row has too is given up: an earlier move may have made it.

Such rows are anywhere in the order of keys, so names alone are joined, out of core, by DuckDB. What
is found is few rows, held in memory, and applied to each range of keys on its own.
"""

from __future__ import annotations

import bisect
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.manifest.write_behind import WriteBehind
from noria.manifests.memory import THREADS, out_of_core_bytes
from noria.manifests.model import Reason
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.shards import escape
from noria.manifests.schema import MANIFEST_SCHEMA

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 65_536
NAMES_SCHEMA = pa.schema([MANIFEST_SCHEMA.field(name) for name in ("key", "target_key", "reason")])


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What becomes of rows that clash; threads may share it."""

    rows: pa.Table | None = None
    """By rising `key`: `target_key` and `reason` for the rows that could land, and `taken`."""

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch, sorted by key, with the target_key and reason that its rows get."""
        if self.rows is None or not len(batch):
            return batch
        keys = batch.column("key")
        found = self._between(keys[0].as_py(), keys[-1].as_py())
        if not len(found):
            return batch
        row = pc.index_in(keys, value_set=found["key"].combine_chunks())
        target_key, reason = batch.column("target_key"), batch.column("reason")
        landing = pc.is_null(reason)
        judged = {
            name: pc.if_else(landing, found[name].combine_chunks().take(row), None)
            for name in ("target_key", "reason")
        }
        target_key = pc.coalesce(judged["target_key"], target_key)
        reason = pc.coalesce(reason, judged["reason"])
        taken = pc.fill_null(found["taken"].combine_chunks().take(row), False)
        target_key = pc.if_else(taken, None, target_key)
        reason = pc.if_else(taken, pc.coalesce(reason, str(Reason.NAME_MERGED)), reason)
        for name, column in (("target_key", target_key), ("reason", reason)):
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, batch.schema.field(place), column)
        return batch

    def _between(self, first: str, last: str) -> pa.Table:
        assert self.rows is not None
        keys = self.rows["key"]

        def key(row: int) -> str:
            return str(keys[row].as_py())

        start = bisect.bisect_left(range(len(keys)), first, key=key)
        end = bisect.bisect_right(range(len(keys)), last, lo=start, key=key)
        return self.rows.slice(start, end - start)


class NameClashes:
    """The names of all rows, on their way to be compared; a context manager.

    Does nothing where names cannot clash. Methods raise OSError.
    """

    def __init__(self, folder: Path, options: PlanOptions) -> None:
        self._path = folder / "names.parquet"
        self._temporary = folder / "join"
        self._options = options
        self._rows = 0
        self._escaped = False
        self._behind = WriteBehind()
        self._writer: pq.ParquetWriter | None = None
        if options.rules.file_and_directory_conflict or options.names == "escape":
            self._writer = pq.ParquetWriter(
                self._path, NAMES_SCHEMA, compression="zstd", compression_level=1
            )

    def __enter__(self) -> NameClashes:
        return self

    def __exit__(self, *_: object) -> None:
        self._behind.close()
        if self._writer is not None:
            with contextlib.suppress(OSError):  # of a file that nobody reads any more
                self._writer.close()

    def append(self, batch: pa.RecordBatch) -> None:
        """Take rows of MANIFEST_SCHEMA."""
        if self._writer is None or not len(batch):
            return
        self._rows += len(batch)
        names = pa.Table.from_batches([batch.select(NAMES_SCHEMA.names)])
        self._escaped = self._escaped or names["target_key"].null_count < len(batch)
        self._behind.submit(self._writer.write_table, names)

    def settle(self) -> Verdicts:
        """What becomes of the rows that clash, once all rows have come."""
        self._behind.drain()
        if self._writer is None:
            return Verdicts()
        self._writer.close()
        if not (self._escaped or self._options.rules.file_and_directory_conflict):
            return Verdicts()
        # Workers import this module too, and have no use for the 16 MB.
        import duckdb

        memory_bytes = out_of_core_bytes(self._rows, "compare the names of")
        config: dict[str, Any] = {
            "threads": THREADS,
            "memory_limit": f"{memory_bytes}B",
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
                return Verdicts(_settle_names(database, self._options))
        except duckdb.OutOfMemoryException as error:
            raise OSError(
                f"the names of {self._rows} rows cannot be compared in {memory_bytes} bytes of "
                f"memory and the free disk: {error}"
            ) from error
        except duckdb.Error as error:
            raise OSError(str(error)) from error


def _settle_names(database: duckdb.DuckDBPyConnection, options: PlanOptions) -> pa.Table:
    database.execute("CREATE TABLE verdicts (key VARCHAR, target_key VARCHAR, reason VARCHAR)")
    if options.rules.file_and_directory_conflict:
        with database.cursor() as reading:  # a connection has one open result at a time
            for batch in reading.sql(_FILES_THAT_ARE_FOLDERS).to_arrow_reader(BATCH_ROWS):
                verdicts = _verdicts(batch.column("key"), options)
                database.from_arrow(verdicts).insert_into("verdicts")
    database.execute(_TAKEN)
    return database.sql(_SETTLED).to_arrow_table()


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

_TAKEN = """
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
"""

_SETTLED = """
SELECT key, target_key, reason, taken.key IS NOT NULL AS taken
FROM verdicts FULL JOIN taken USING (key)
ORDER BY key
"""


def _verdicts(keys: pa.Array, options: PlanOptions) -> pa.Table:
    if options.names == "escape":
        target_key, reason = escape(keys, options)
    else:
        target_key = pa.nulls(len(keys), pa.string())
        reason = pa.repeat(str(Reason.NAME_REFUSED), len(keys))
    return pa.table({"key": keys, "target_key": target_key, "reason": reason})


def _literal(path: str) -> str:
    """A path as DuckDB's read_parquet takes it, with quotes and glob signs escaped."""
    return "".join(f"[{sign}]" if sign in "[*?" else sign for sign in path).replace("'", "''")
