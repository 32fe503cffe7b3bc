"""The steps of the study, each run in a process of its own: make, plan, move, list, resume, ...

They share one folder: inventory/ is the report, job/ the job directory, listing.arrow what the
target lists.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from noria.engine.failures import FAILURES_FILE, write_failures
from noria.engine.replay import enter_seals
from noria.engine.scheduler.events import SchedulerOptions
from noria.engine.scheduler.scheduler import Scheduler
from noria.engine.totals import Totals
from noria.manifests.inventory.azure import open_azure_inventory
from noria.manifests.inventory.files import LocalReportFiles
from noria.manifests.job.directory import JobDirectory, shard_folder
from noria.manifests.job.reconcile import reconcile
from noria.manifests.job.results import write_receipts
from noria.manifests.job.seals import compact_seals, seal
from noria.manifests.manifest.freeze import RowsCompared, freeze
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.model import (
    LeaseEnd,
    LeaseKind,
    LeaseResult,
    Level,
    Outcome,
    ShardKind,
    ShardPlan,
)
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.providers import known_name_rules, limits_for
from noria.manifests.proof.making import pass_tree
from noria.manifests.proof.tiles import TileFolder
from noria.manifests.schema import INVENTORY_SCHEMA, RECEIPT_SCHEMA

CONTAINER = "images"
PROVIDER = "scaleway"
FILE_ROWS = 5_000_000
REPORT = "report/rule-manifest.json"
NOW_MS = 1_800_000_000_000
"""Any moment: when what is fabricated was finished."""
CHUNK_BYTES = 8 * 1024 * 1024

INVENTORY = """
SELECT '{container}/' || printf('project-%04d/study-%03d/', (hash(i) % 5000)::int,
        (hash(i + 7) % 500)::int) || md5(i::varchar) || '.dcm' AS "Name",
    '2026-01-01T00:00:00Z'::timestamp + to_seconds((hash(i + 2) % 10_000_000)::int)
        AS "Last-Modified",
    '0x8DC' || upper(substr(md5((i + 3)::varchar), 1, 12)) AS "Etag",
    exp(14.12 + 2 * sqrt(-2 * ln((1 + hash(i + 1) % 1_000_000) / 1e6))
        * cos(6.2831853 * (hash(i + 5) % 1_000_000) / 1e6))::bigint AS "Content-Length",
    ['application/dicom', 'text/csv', 'application/json', 'image/png'][1 + (hash(i + 4) % 4)::int]
        AS "Content-Type",
    to_base64(unhex(md5((i + 6)::varchar))) AS "Content-MD5",
    'BlockBlob' AS "BlobType",
    'Hot' AS "AccessTier"
FROM range({first}, {end}) numbers(i)
"""
"""Sizes are log-normal with a mean of 10 MB: most objects are small, and few hold most bytes."""


def make(folder: Path, rows: int) -> None:
    """An inventory report of Azure, in Parquet."""
    write_report(folder / "inventory", rows, INVENTORY)


def write_report(root: Path, rows: int, query_text: str) -> None:
    """An inventory report of Azure, whose rows the query makes of numbers [first, end)."""
    (root / REPORT).parent.mkdir(parents=True)
    files, total, objects = [], 0, 0
    with duckdb.connect() as database:
        for number, first in enumerate(range(0, rows, FILE_ROWS)):
            name = f"report/rows-{number:05}.parquet"
            query = query_text.format(
                container=CONTAINER, first=first, end=min(rows, first + FILE_ROWS)
            )
            database.execute(f"copy ({query}) to '{root / name}' (format parquet)")
            summed = f"select sum(\"Content-Length\"), count(*) from read_parquet('{root / name}')"
            ((size, count),) = database.execute(summed).fetchall()
            total += int(size)
            objects += int(count)
            files.append({"blob": name, "size": (root / name).stat().st_size})
    stated = {
        "status": "Succeeded",
        "endpoint": "https://account.blob.core.windows.net",
        "inventoryStartTime": "2026-11-01T00:00:00Z",
        "ruleDefinition": {"objectType": "blob", "format": "parquet", "filters": {}},
        "files": files,
        "summary": {"objectCount": objects, "totalObjectSize": total},
    }
    text = json.dumps(stated).encode()
    (root / REPORT).write_bytes(text)
    digest = hashlib.md5(text, usedforsecurity=False).hexdigest()
    (root / REPORT).with_suffix(".checksum").write_text(digest)


def plan(folder: Path, rows: int) -> None:
    freeze_report(folder / "inventory", folder / "job")


def freeze_report(
    inventory: Path, job: Path, compare: Callable[[Path], RowsCompared] | None = None
) -> Manifest:
    """A report becomes the manifest of a new job directory."""
    directory = JobDirectory.create(job, {"id": "of-a-study"})
    report = open_azure_inventory(
        LocalReportFiles(inventory), REPORT, account="account", container=CONTAINER, prefix=""
    )
    options = PlanOptions(limits=limits_for(PROVIDER), rules=known_name_rules(PROVIDER))
    return freeze(
        report.batches(),
        directory.manifest_path,
        options=options,
        suit_parts=True,
        compare=compare,
    )


def move(folder: Path, rows: int) -> None:
    """Receipts and seals of every shard, as a run leaves them."""
    seal_all(folder / "job")


def seal_all(job: Path) -> None:
    """Give every shard of a planned job its receipts and its seal."""
    shards = open_manifest(job / "manifest").shards()
    share = max(1, len(shards) // (4 * (os.cpu_count() or 1)))
    groups = [shards[first : first + share] for first in range(0, len(shards), share)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(_move_shards, [job] * len(groups), groups):
            pass


def _move_shards(root: Path, shards: Iterable[ShardPlan]) -> None:
    directory, manifest = JobDirectory(root), open_manifest(root / "manifest")
    for planned in shards:
        table = _receipts(manifest, planned.shard)
        # Of a huge object nothing but its end: what its parts left does not count any more.
        whole = planned.kind is ShardKind.OBJECTS
        kind = LeaseKind.OBJECTS if whole else LeaseKind.ASSEMBLE
        attempt = planned.shard + 1
        folder = shard_folder("results", planned.shard)
        name = f"{folder}/{kind}-00000000-{attempt:018d}.parquet"
        digest, summary = write_receipts(directory, name, table)
        result = LeaseResult(
            shard=planned.shard,
            kind=kind,
            first=0,
            end=len(table) if whole else 0,
            attempt=attempt,
            generation=0,
            how=LeaseEnd.FINISHED,
            result_name=name,
            result_sha256=digest,
            summary=summary,
        )
        seal(directory, result)


def _receipts(manifest: Manifest, shard: int) -> pa.Table:
    """What a worker writes of a shard whose objects have all landed; digests do not compress."""
    entries = manifest.read_shard(shard).combine_chunks()
    rows = len(entries)
    key = entries["key"]
    same: dict[str, object] = {
        "outcome": Outcome.TRANSFERRED.value,
        "level": Level.INGESTED.value,
        "chunk_bytes": CHUNK_BYTES,
        "parts": 0,
        "attempt": shard + 1,
        "finished_ms": NOW_MS,
    }
    columns: Mapping[str, object] = {
        "row": pa.array(range(rows), pa.int32()),
        "key": key,
        "target_key": pc.coalesce(entries["target_key"], key),
        "size": entries["size"],
        "source_etag": entries["etag"],
        "target_etag": entries["etag"],
        "crc64nvme": _random(rows, pa.uint64(), 8),
        "chunks": _random(rows, pa.binary(16), 16),
        "root": _random(rows, pa.binary(32), 32),
        "bytes_moved": entries["size"],
    }
    arrays = []
    for field in RECEIPT_SCHEMA:
        if field.name in columns:
            made = columns[field.name]
            arrays.append(made if made.type == field.type else made.cast(field.type))  # type: ignore[attr-defined]  # arrays
        elif field.name in same:
            arrays.append(pa.repeat(pa.scalar(same[field.name], field.type), rows))
        else:
            arrays.append(pa.nulls(rows, field.type))
    return pa.Table.from_arrays(arrays, schema=RECEIPT_SCHEMA)


def _random(rows: int, type_: pa.DataType, width: int) -> pa.Array:
    return pa.Array.from_buffers(type_, rows, [None, pa.py_buffer(os.urandom(rows * width))])


def make_listing(folder: Path, rows: int) -> None:
    """What the target would list, in the order of its names, a page at a time."""
    manifest = open_manifest(folder / "job" / "manifest")
    with (
        pa.OSFile(str(folder / "listing.arrow"), "wb") as file,
        pa.ipc.new_stream(file, INVENTORY_SCHEMA) as writer,
    ):
        for planned in manifest.shards():
            entries = manifest.read_shard(planned.shard).combine_chunks()
            landed = pc.coalesce(entries["target_key"], entries["key"])
            named = {"key": landed, "size": entries["size"], "etag": entries["etag"]}
            columns = [
                named.get(field.name, pa.chunked_array([pa.nulls(len(entries), field.type)]))
                for field in INVENTORY_SCHEMA
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=INVENTORY_SCHEMA), 65_536)


def resume(folder: Path, rows: int) -> None:
    """What a run does with a job before it begins: seals, scheduler, failures."""
    directory = JobDirectory(folder / "job")
    manifest = open_manifest(directory.manifest_path)
    totals = Totals(
        "of-a-study", objects_total=manifest.objects, bytes_total=manifest.bytes_to_move
    )
    compact_seals(directory)
    sealed = enter_seals(directory, totals)
    scheduler = Scheduler(
        manifest.shards(),
        settled=sealed.spans,
        generations=sealed.generations,
        first_attempt=1_000_000_001,
        options=SchedulerOptions(),
    )
    assert scheduler.complete, "every shard is sealed"
    assert totals.sums.entries == rows
    write_failures(directory, manifest, totals.failing, FAILURES_FILE)


def prove(folder: Path, rows: int) -> None:
    """Reconcile, which reads the manifest whole and checks it."""
    directory = JobDirectory(folder / "job")
    manifest = open_manifest(directory.manifest_path)
    found = reconcile(
        directory,
        manifest,
        pages(folder / "listing.arrow"),
        target_prefix="",
        extra_allowed=False,
    )
    assert found.reconciled, found.differences
    assert (found.entries, found.listed) == (rows, rows)


def make_tree(folder: Path, rows: int) -> None:
    """The tree of all receipts, whose root is signed; the manifest is read and checked again."""
    directory = JobDirectory(folder / "job")
    tree = pass_tree(directory, open_manifest(directory.manifest_path), TileFolder(folder / "tree"))
    assert tree.size == rows


def pages(path: Path) -> Iterator[pa.RecordBatch]:
    """What the target lists."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


STEPS: Mapping[str, Callable[[Path, int], None]] = {
    "make": make,
    "plan": plan,
    "move": move,
    "list": make_listing,
    "resume": resume,
    "reconcile": prove,
    "tree": make_tree,
}
"""In this order."""
