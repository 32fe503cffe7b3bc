"""Which receipts of a pass are out of date: others have replaced or deleted their objects since."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.access import make_folders
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipt_check import sealed_rows
from noria.manifests.job.receipts import LANDED
from noria.manifests.job.results import SUPERSEDED_SCHEMA
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.passes.state import State, StateWalk, state_errors


def write_superseded(directory: JobDirectory, number: int, state: State, name: str) -> None:
    """Write the places of the receipts of pass `number` that a later state no longer rests on.

    As the file `name` of the pass's job directory. Raises JobDirectoryError.
    """
    manifest = open_manifest(directory.manifest_path)
    walk = StateWalk(state.blocks(["key", "pass", "target_etag"]))
    path = directory.path(name)
    with state_errors(path):
        make_folders(path.parent)
        scratch = path.with_name(f".{path.name}")
        with pq.ParquetWriter(scratch, SUPERSEDED_SCHEMA, compression="zstd") as writer:
            for shard, _, receipts in sealed_rows(directory, manifest, ["outcome", "target_etag"]):
                landed = pc.is_in(receipts["outcome"], value_set=LANDED)
                stands = _stands(receipts, walk, number)
                old = receipts["row"].filter(pc.and_not(landed, stands))
                if len(old):
                    shards = pa.repeat(pa.scalar(shard, pa.int32()), len(old))
                    writer.write_table(pa.table([shards, old], schema=SUPERSEDED_SCHEMA))
    directory.publish(scratch, name)


def _stands(receipts: pa.Table, walk: StateWalk, number: int) -> pa.Array:
    """True for each of these receipts, the next ones, that a state rests on.

    A way back after this pass may have found another object under the name: its ETag tells.
    """
    blocks = list(walk.through(receipts["key"][-1].as_py()))
    if not blocks:
        return pa.array(np.zeros(len(receipts), np.bool_))
    stood = pa.concat_tables(blocks)
    stood = stood.filter(pc.equal(stood["pass"], number)).combine_chunks()
    place = pc.index_in(receipts["key"], value_set=stood["key"].combine_chunks())
    etags = stood["target_etag"].combine_chunks().take(place.combine_chunks())
    return pc.fill_null(pc.equal(receipts["target_etag"], etags), False)
