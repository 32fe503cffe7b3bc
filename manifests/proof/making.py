"""The tree of a pass, from its receipts, and the checkpoint that states it.

Receipts are read as reconcile reads them, a result at a time, in the order of the manifest: memory
goes by the size of a shard. The same receipts give the same tree, whoever makes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.count_text import count_text
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job import history
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipt_check import sealed_rows
from noria.manifests.job.receipts import summarize
from noria.manifests.job.reconcile import REPORT_FILE
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.manifest.row_digest import RowDigest
from noria.manifests.model import ReceiptSummary
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.checkpoint import FIRST_PREVIOUS, RECONCILE_COUNTS, Checkpoint
from noria.manifests.proof.folder import KeptCheckpoint, ProofFolder
from noria.manifests.proof.leaf import LEAF_COLUMNS, Leaves, leaves_of
from noria.manifests.proof.tiles import TileFolder
from noria.manifests.proof.tree import TileSink, TreeBuilder
from noria.version import VERSION

_CHUNKS: Final = "chunks"

Look = Callable[[pa.Table], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTree:
    """What the receipts of a pass add up to."""

    root: bytes
    size: int
    sums: ReceiptSummary
    last_receipt_ms: int


def make_checkpoint(
    migration: Migration, number: int, *, ended: bool, version: str = VERSION
) -> KeptCheckpoint:
    """The checkpoint of a pass as it is now: a new one, unless the last one says the same.

    May be repeated, and may end at any line. `ended` says that its last run came to its end: then
    the result of reconcile is of these receipts. Raises ConfigurationError if entries have no
    receipts yet, and JobDirectoryError if the manifest, a seal, a result or an earlier checkpoint
    is damaged.
    """
    folder = ProofFolder(migration.root)
    directory = JobDirectory.open(migration.place(number))
    manifest = open_manifest(directory.manifest_path)
    with folder.held(), folder.scratch() as scratch:
        kept = folder.checkpoints()
        tree = pass_tree(directory, manifest, TileFolder(scratch / "tree"))
        folder.keep(scratch / "tree", folder.tree(tree.root))
        last = kept[-1] if kept else None
        made = Checkpoint(
            migration=str(JobDirectory(migration.root).job()["id"]),
            number=len(kept) + 1,
            size=tree.size,
            root=tree.root,
            job=str(directory.job()["id"]),
            pass_number=number,
            previous=FIRST_PREVIOUS if last is None else (len(kept), last.note.digest),
            source=_location(directory, "source"),
            target=_location(directory, "target"),
            manifest=manifest.digest,
            passed_over=manifest.passed_over,
            sums=tree.sums,
            last_receipt_ms=tree.last_receipt_ms,
            **_reconciliation(directory if ended else None),
            history=_history(migration.root),
            checker=folder.keep_checker(),
            version=version,
        )
        return _same(last, made) or folder.append(made)


def _same(last: KeptCheckpoint | None, made: Checkpoint) -> KeptCheckpoint | None:
    """The last checkpoint, if the new one would say nothing else."""
    if last is None:
        return None
    stated = last.checkpoint
    again = replace(made, number=stated.number, previous=stated.previous, version=stated.version)
    return last if again.encode() == stated.encode() else None


def pass_tree(
    directory: JobDirectory,
    manifest: Manifest,
    tiles: TileSink,
    look: Look | None = None,
    each: Callable[[Leaves], None] | None = None,
) -> PassTree:
    """The tree of a pass. `look` sees all receipts with all of their columns, `each` all leaves.

    The manifest is read whole, and checked against its digest. Raises as make_checkpoint() does.
    """
    builder, sums, last_ms = TreeBuilder(tiles), ReceiptSummary(), 0
    columns = LEAF_COLUMNS if look is None else (*LEAF_COLUMNS, _CHUNKS)
    for receipts in _all_receipts(directory, manifest, columns):
        if look is not None:
            look(receipts)
        for leaves in _leaves(receipts):
            builder.add(leaves.hashes())
            if each is not None:
                each(leaves)
        sums += replace(summarize(receipts), bytes_moved=0)
        last_ms = max(last_ms, pc.max(receipts["finished_ms"]).as_py() or 0)
    return PassTree(root=builder.finish(), size=builder.size, sums=sums, last_receipt_ms=last_ms)


def _all_receipts(
    directory: JobDirectory, manifest: Manifest, columns: tuple[str, ...]
) -> Iterator[pa.Table]:
    """The receipts of all entries, in order. Raises ConfigurationError if some have none."""
    manifest.check_shards()
    digest, settled = RowDigest(manifest.schema), 0
    for _, rows, receipts in sealed_rows(directory, manifest, columns):
        digest.update(rows)
        settled += len(receipts)
        yield receipts
    if settled != manifest.objects:
        raise ConfigurationError(
            f"{directory.root} has no proof yet: {manifest.objects - settled:,} of "
            f"{count_text(manifest.objects, 'entry')} have no receipt; run it to its end first"
        )
    manifest.check_digest(digest.hexdigest())


def _leaves(receipts: pa.Table) -> Iterator[Leaves]:
    try:
        yield from leaves_of(receipts)
    except ValueError as error:
        raise JobDirectoryError(f"a receipt is damaged: {error}; restore a copy") from error


def _location(directory: JobDirectory, end: str) -> str:
    try:
        return str(directory.job()["config"][end]["url"])
    except (LookupError, TypeError) as error:
        raise JobDirectoryError(
            f"{directory.root}/job.json does not say its {end}; restore it from a copy"
        ) from error


def _reconciliation(directory: JobDirectory | None) -> Mapping[str, Any]:
    """What the last reconcile found. None: of a pass that has not ended, where it says nothing."""
    unknown: Mapping[str, Any] = {"reconciled": None}
    if directory is None:
        return unknown
    try:
        values = json.loads(directory.read(REPORT_FILE) or b"{}")
        counts = {name: int(values[name]) for name in RECONCILE_COUNTS}
        return {"reconciled": values["reconciled"] is True, "reconcile": counts}
    except (ValueError, LookupError, TypeError, RecursionError):
        return unknown


def _history(root: Path) -> tuple[int, str]:
    records = history.read(JobDirectory(root))
    return len(records), history.head(records)
