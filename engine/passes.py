"""The passes of a migration: which one is next, and how it is planned and run.

A pass that was begun is brought to its end before another one is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from noria.engine.job import VerifyReport
from noria.engine.planning import PassFacts, Prepared, job_parts, open_prepared, prepared_pass
from noria.engine.status import Phase, load_status
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.passes.migration import Migration, migration_of

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletions:
    """What this pass does about objects that are gone at the source; None: as the job file says."""

    mirror: bool | None = None
    any_number: bool = False
    """Delete however many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaCounts:
    """What a later pass found, in objects and bytes."""

    objects: Mapping[str, int]
    """new, size, etag, version, modified, gone, gone_before, unchanged -> objects."""
    bytes: Mapping[str, int]

    @classmethod
    def of(cls, manifest: Manifest) -> DeltaCounts | None:
        """None for a first pass."""
        found = manifest.facts.get("delta")
        if found is None:
            return None
        return cls(
            objects={name: counts["objects"] for name, counts in found.items()},
            bytes={name: counts["bytes"] for name, counts in found.items()},
        )


def current_pass(directory: Path) -> Path:
    """The job directory of a migration's latest pass; a directory of one pass is its own."""
    migration, number = migration_of(directory)
    return migration.current if number == 1 else directory


def delta_of(directory: Path) -> DeltaCounts | None:
    """What the pass of this job directory found; None for a first one, or before its plan."""
    if not (directory / "manifest" / "manifest.json").is_file():
        return None
    return DeltaCounts.of(open_manifest(directory / "manifest"))


def has_ended(directory: Path) -> bool:
    """Whether a pass was run to its end; False if its status, which is a cache, is gone."""
    status = load_status(JobDirectory.open(directory))
    return status is not None and status.phase is Phase.FINISHED


def verify_all(root: Path, verify: Callable[[Path], VerifyReport]) -> VerifyReport:
    """Read back what stands at the target by the receipts of all passes of a migration.

    `verify` reads back one pass: job.verify() with what it needs. Raises ConfigurationError if a
    pass was begun and has not ended.
    """
    migration, number = migration_of(root)
    if number > 1 or migration.last == 1:
        return verify(root)
    if not has_ended(migration.current):
        raise ConfigurationError(
            f"pass {migration.last} has not ended: `noria sync {root}` brings it to its end first"
        )
    found = verify(root)
    for each in range(2, migration.last + 1):
        found += verify(migration.place(each))
    return found


@contextmanager
def next_pass(root: Path, deletions: Deletions, say: Say) -> Iterator[Prepared]:
    """Plan the next pass of the migration at root for the block, or open the one that was begun.

    Raises ConfigurationError if root holds no job, or is a pass itself; InventoryError if more is
    gone than may be deleted; what prepared() raises.
    """
    migration, number = migration_of(root)
    if number > 1:
        raise ConfigurationError(
            f"{root} is a pass of a migration: name the migration, {migration.root}"
        )
    last = migration.last
    if not has_ended(migration.current):
        say(f"pass {last} was begun: it is brought to its end first")
        if last == 1:
            yield open_prepared(root)
            return
        with prepared_pass(root, _facts(migration, last, deletions), say) as ready:
            yield ready
        return
    with prepared_pass(root, _facts(migration, last + 1, deletions), say) as ready:
        yield ready


def _facts(migration: Migration, number: int, deletions: Deletions) -> PassFacts:
    sync = job_parts(JobDirectory.open(migration.root))[0].sync
    mirror = sync.deletions == "mirror" if deletions.mirror is None else deletions.mirror
    most = None if deletions.any_number else sync.deletions_max
    return PassFacts(number=number, mirror=mirror, deletions_max=most)
