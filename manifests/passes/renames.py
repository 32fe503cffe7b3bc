"""What a pass found new and gone that is most likely one object under another name.

An object that is gone and one that is new are called a rename if they have the same size and ETag,
and no third one of the pass has both. A name is all that this is about: the new object is moved, as
every new one. Where ETags are not of the bytes, as in Azure, nothing is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import Delta
from noria.manifests.passes.delta import GONE_FILE
from noria.manifests.passes.state import state_errors

RENAMES_FILE: Final = "renamed.parquet"
RENAMES_SCHEMA: Final = pa.schema(
    [
        pa.field("before", pa.string(), nullable=False),
        pa.field("now", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
    ]
)
"""A row for each rename; names below the source's prefix."""
GONE_MAX: Final = 1_000_000
"""With more objects gone than that, renames are not looked for: these are held in memory."""


def write_renames(directory: JobDirectory, manifest: Manifest) -> int | None:
    """Write renamed.parquet into a pass's job directory; return how many it has.

    None: too much is gone, and nothing was looked for. May be repeated. Raises JobDirectoryError.
    """
    path = manifest.directory / GONE_FILE
    with state_errors(path):
        found = _renames(path, manifest)
        if found is None:
            return None
        scratch = directory.path(f".{RENAMES_FILE}")
        pq.write_table(found, scratch, compression="zstd")
    directory.publish(scratch, RENAMES_FILE)
    return len(found)


def _renames(path: Path, manifest: Manifest) -> pa.Table | None:
    columns = ["key", "size", "source_etag", "gone_since"]
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows > GONE_MAX:
            return None
        gone = file.read(columns)
    gone = gone.filter(gone["gone_since"].is_null()).rename_columns(["before", "size", "etag", "_"])
    gone = _alone(gone.select(["before", "size", "etag"]))
    etags = gone["etag"].combine_chunks()
    new = [RENAMES_SCHEMA.empty_table().select(["now", "size", "etag"])]
    shards = manifest.shard_count if len(gone) else 0
    for rows in manifest.read_shards(0, shards, ["key", "size", "etag", "delta"]):
        is_new = pc.equal(rows["delta"], Delta.NEW.value)
        rows = rows.filter(pc.and_(is_new, pc.is_in(rows["etag"], value_set=etags)))
        new.append(rows.select(["key", "size", "etag"]).rename_columns(["now", "size", "etag"]))
    unique = _alone(pa.concat_tables(new, promote_options="permissive"))
    both = gone.join(unique, keys=["size", "etag"], join_type="inner", use_threads=False)
    return both.select(RENAMES_SCHEMA.names).sort_by("before").cast(RENAMES_SCHEMA)


def _alone(rows: pa.Table) -> pa.Table:
    """The rows that have an ETag and bytes, and share both with no other."""
    rows = rows.filter(pc.and_(rows["etag"].is_valid(), pc.greater(rows["size"], 0)))
    counts = rows.group_by(["size", "etag"], use_threads=False).aggregate([([], "count_all")])
    single = counts.filter(pc.equal(counts["count_all"], 1)).select(["size", "etag"])
    return rows.join(single, keys=["size", "etag"], join_type="inner", use_threads=False)
