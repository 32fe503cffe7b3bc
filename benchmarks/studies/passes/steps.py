"""The steps of the study, each run in a process of its own: make, plan, move, fold, change, ...

They share one folder: inventory/ and inventory-2/ are the reports of two days, job/ the migration,
listing.arrow what the target lists after the second pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from noria.benchmarks.studies.billion.steps import (
    CONTAINER,
    freeze_report,
    pages,
    seal_all,
    write_report,
)
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.reconcile import reconcile
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.passes.delta import DeletionRules, PassDelta
from noria.manifests.passes.fold import standing
from noria.manifests.passes.migration import Migration
from noria.manifests.schema import INVENTORY_SCHEMA

CHANGED, NEW, GONE = 5, 2, 1
"""Of a thousand objects, between two passes."""

ROWS = """
SELECT '{container}/' || printf('project-%04d/subject-%05d/', (hash(i) % 5000)::int,
        (hash(i + 7) % 90000)::int)
        || ['', 'ses-01/', 'ses-02/anat-t1w/', 'derivatives/ses-03/segmentation/'][
            1 + (hash(i + 8) % 4)::int]
        || md5(i::varchar) || '.dcm' AS "Name",
    '2026-01-01T00:00:00Z'::timestamp + to_seconds((hash(i + 2) % 10_000_000)::int
        + {later}) AS "Last-Modified",
    '0x8DC' || upper(substr(md5((i + 3 + {later})::varchar), 1, 12)) AS "Etag",
    exp(14.12 + 2 * sqrt(-2 * ln((1 + hash(i + 1) % 1_000_000) / 1e6))
        * cos(6.2831853 * (hash(i + 5) % 1_000_000) / 1e6))::bigint AS "Content-Length",
    ['application/dicom', 'text/csv', 'application/json', 'image/png'][1 + (hash(i + 4) % 4)::int]
        AS "Content-Type",
    to_base64(unhex(md5((i + 6 + {later})::varchar))) AS "Content-MD5",
    'BlockBlob' AS "BlobType",
    'Hot' AS "AccessTier"
FROM range({{first}}, {{end}}) numbers(i)
WHERE {kept}
"""
"""Names of 61 to 93 characters in no order."""
DRAWN = "(hash(i + 11) % 1000)::int"
FIRST = ROWS.format(container=CONTAINER, later=0, kept=f"{DRAWN} < {1000 - NEW}")
SECOND = ROWS.format(
    container=CONTAINER,
    later=f"(case when {DRAWN} < {CHANGED} then 10_000_000 else 0 end)",
    kept=f"{DRAWN} not between {CHANGED} and {CHANGED + GONE - 1}",
)
"""A week later."""


def make(folder: Path, rows: int) -> None:
    """An inventory report of Azure."""
    write_report(folder / "inventory", rows, FIRST)


def plan(folder: Path, rows: int) -> None:
    """The first pass: everything."""
    freeze_report(folder / "inventory", folder / "job")


def move(folder: Path, rows: int) -> None:
    """Receipts and seals of the first pass."""
    seal_all(folder / "job")


def fold_first(folder: Path, rows: int) -> None:
    """The state after the first pass, from its seals."""
    Migration(folder / "job").state(1)


def change(folder: Path, rows: int) -> None:
    """The inventory report of a later day."""
    write_report(folder / "inventory-2", rows, SECOND)


def plan_later(folder: Path, rows: int) -> None:
    """The second pass: what is new or changed, compared with the state."""
    migration = Migration(folder / "job")
    compare = partial(PassDelta, migration.state(1), DeletionRules())
    manifest = freeze_report(folder / "inventory-2", migration.place(2), compare)
    delta = manifest.facts["delta"]
    for name, share in (("new", NEW), ("etag", CHANGED), ("gone", GONE)):
        found, expected = delta[name]["objects"], share * rows / 1000
        assert abs(found - expected) <= 6 * expected**0.5 + 1, (name, found, expected)


def move_later(folder: Path, rows: int) -> None:
    """Receipts and seals of the second pass."""
    seal_all(Migration(folder / "job").place(2))


def fold_later(folder: Path, rows: int) -> None:
    """The state after the second pass, from the one before and the seals since."""
    Migration(folder / "job").state(2)


def make_listing(folder: Path, rows: int) -> None:
    """What the target would list after the second pass."""
    with (
        pa.OSFile(str(folder / "listing.arrow"), "wb") as file,
        pa.ipc.new_stream(file, INVENTORY_SCHEMA) as writer,
    ):
        for block in Migration(folder / "job").state(2).blocks():
            names = pc.coalesce(block["target_key"], block["key"])
            named = {"key": names, "size": block["size"], "etag": block["target_etag"]}
            columns = [
                named.get(field.name, pa.chunked_array([pa.nulls(len(block), field.type)]))
                for field in INVENTORY_SCHEMA
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=INVENTORY_SCHEMA), 65_536)


def prove(folder: Path, rows: int) -> None:
    """Reconcile the second pass: its receipts, and all that stands with all that is listed."""
    migration = Migration(folder / "job")
    directory, state = JobDirectory(migration.place(2)), migration.state(2)
    found = reconcile(
        directory,
        open_manifest(directory.manifest_path),
        pages(folder / "listing.arrow"),
        target_prefix="",
        extra_allowed=False,
        standing=standing(state),
    )
    assert found.reconciled, found.differences
    assert found.listed == state.facts.objects


STEPS: Mapping[str, Callable[[Path, int], None]] = {
    "make": make,
    "plan": plan,
    "move": move,
    "fold": fold_first,
    "change": change,
    "plan-later": plan_later,
    "move-later": move_later,
    "fold-later": fold_later,
    "list": make_listing,
    "reconcile": prove,
}
"""In this order."""
