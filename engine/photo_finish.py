"""The photo finish of a migration: fresh, complete listings of both ends, and what stands between.

The source is compared with the state as a pass would compare it, and nothing is moved. The target
is compared with the state as every reconcile does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.engine.first_look import SourceLook
from noria.engine.job import reconcile_job
from noria.engine.listing_guards import listing_guards, refuse_foreign_commands
from noria.engine.listing_pace import ListingPace, ListingTeller
from noria.engine.planning import check_trust, job_parts, planned_rows, run_settings
from noria.engine.scratch import lone_scratch_folder
from noria.manifests.counters import StoreRole
from noria.manifests.errors import TargetKept
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipt_check import sealed_rows
from noria.manifests.job.reconcile import Reconciliation
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.model import Delta, Reason
from noria.manifests.passes.delta import DeletionRules, PassDelta
from noria.manifests.passes.migration import Migration
from noria.manifests.passes.state import StateWalk

Say = Callable[[str], None]

_IDENTITY: Final = ["key", "size", "etag", "last_modified"]
"""Columns of a manifest that say which object a row is of."""
_DIFFERENT = (Delta.NEW, Delta.SIZE, Delta.ETAG, Delta.VERSION, Delta.MODIFIED, Delta.GONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceComparison:
    """The source as a fresh listing shows it, against what stands at the target."""

    begun: float
    """When the listing was begun, Unix seconds."""
    objects: int
    """That are as they were when they were moved."""
    bytes: int
    differences: Mapping[str, int]
    """Delta -> objects that are new, changed, or newly gone: only what is not zero."""
    gone_before: int
    """Objects that were known to be gone, and stand at the target still."""
    not_moved: Mapping[str, int]
    """Reason -> entries that no pass moves: what the target cannot hold, what is not current.

    target_kept: others' objects are kept at the target, as [run] conflicts says.
    """
    filtered: int
    """Entries that the job's own filters leave out."""

    @property
    def equal(self) -> bool:
        """Whether each object that can be moved is as it was read, and none is gone since.

        What no pass moves is counted apart.
        """
        return not self.differences


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoFinish:
    """Three ways: the source, what stands by the receipts, and the target."""

    source: SourceComparison
    target: Reconciliation

    @property
    def equal(self) -> bool:
        return self.source.equal and self.target.reconciled


def compare_source(
    migration: Migration, say: Say, overrides: Mapping[str, Any] | None = None
) -> SourceComparison:
    """List the source again and compare it with the state after the last pass; nothing is moved.

    `overrides` replaces [run] settings, for what holds the listing. Raises what planning raises.
    """
    first = JobDirectory.open(migration.root)
    check_trust(first)
    directory = JobDirectory.open(migration.current)
    config, _ = job_parts(directory)
    listing = config.model_copy(update={"inventory": type(config.inventory)()})
    compare = partial(PassDelta, migration.state(migration.last), DeletionRules())
    run = run_settings(config, overrides)
    refuse_foreign_commands(first, run, overrides or {})
    guards = listing_guards(config.source, run)
    begun = time.time()
    what = f"photo finish\0{migration.root.resolve()}"
    with (
        lone_scratch_folder(what, config.plan.scratch) as folder,
        ListingPace(migration.root, run, StoreRole.SOURCE, guards=guards) as pace,
        SourceLook(listing, pace=pace) as source,
    ):
        source.check()
        (folder / "freeze").mkdir()
        rows = planned_rows(directory, compare)
        tell = ListingTeller(pace, say).tell
        manifest = rows.freeze(source, None, folder / "manifest", folder / "freeze", say, tell)
        found = {name: counts["objects"] for name, counts in manifest.facts["delta"].items()}
        kept = _kept(migration, manifest) if found.get(Delta.NEW) else 0
        found[Delta.NEW] = found.get(Delta.NEW, 0) - kept
        passed_over = manifest.passed_over
        return SourceComparison(
            begun=begun,
            objects=found.get("unchanged", 0),
            bytes=manifest.facts["delta"].get("unchanged", {}).get("bytes", 0),
            differences={each.value: found[each] for each in _DIFFERENT if found.get(each)},
            gone_before=found.get("gone_before", 0),
            not_moved={
                reason: counts["objects"]
                for reason, counts in manifest.facts["reasons"].items()
                if reason in set(Reason)
            }
            | ({TargetKept.cause: kept} if kept else {}),
            filtered=sum(
                count for cause, count in passed_over.items() if cause.startswith("filtered_")
            ),
        )


def _kept(migration: Migration, fresh: Manifest) -> int:
    """How many of what is new the last pass has left as they are: others' are kept in their place.

    Those alone that are as they were then.
    """
    place = JobDirectory.open(migration.current)
    walk, count = StateWalk(_left(place)), 0
    for rows in fresh.read_shards(0, fresh.shard_count, [*_IDENTITY, "delta", "reason"]):
        is_new = pc.and_(pc.equal(rows["delta"], Delta.NEW.value), rows["reason"].is_null())
        new = rows.filter(is_new).select(_IDENTITY)
        if len(new):
            left = pa.concat_tables([new.slice(0, 0), *walk.through(new["key"][-1].as_py())])
            count += len(new.join(left, keys=_IDENTITY, join_type="left semi", use_threads=False))
    return count


def _left(place: JobDirectory) -> Iterator[pa.Table]:
    """What a pass planned and left, since another object is kept at the target; by rising keys."""
    manifest = open_manifest(place.manifest_path)
    for _, rows, receipts in sealed_rows(place, manifest, ["cause"]):
        kept = rows.filter(pc.fill_null(pc.equal(receipts["cause"], TargetKept.cause), False))
        if len(kept):
            yield kept.select(_IDENTITY)


def photo_finish(root: Path, say: Say, overrides: Mapping[str, Any] | None = None) -> PhotoFinish:
    """Compare fresh listings of both ends with what stands by the receipts of all passes.

    `overrides` replaces [run] settings, for what holds the listings.
    """
    migration = Migration(root)
    say("listing the source once more")
    source = compare_source(migration, say, overrides)
    say("listing the target once more")
    return PhotoFinish(source=source, target=reconcile_job(migration.current, say, overrides))
