"""The record that ends a migration: what the source still holds, and who says it may go.

Noria deletes nothing there. What a store does not list is said to be unknown, and is on its owner's
list: versions, soft-deleted objects and snapshots of Azure, retentions, copies of backups, keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.compute as pc

from noria.engine.approvals import check_name
from noria.engine.config.jobfile import EndConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import open_end
from noria.engine.first_look import checked_access
from noria.engine.planning import check_trust, job_parts
from noria.engine.record_signatures import signer
from noria.manifests.errors import AccessDenied
from noria.manifests.job.cutover_states import require
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Facts, Record, RecordKind, append, read
from noria.manifests.passes.migration import Migration
from noria.workers.stores.listing import PAGES, Listing
from noria.workers.stores.paced import PacedTarget

Say = Callable[[str], None]

CHECKLIST: Final = (
    "versions, snapshots and soft-deleted objects are gone, or their time has run out",
    "retentions and legal holds have ended",
    "backups and replicas of the source are dealt with",
    "keys that encrypted it are destroyed, or kept on purpose",
    "the provider has confirmed the deletion in writing",
)
"""What a person has to see to: a listing of the source does not tell it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What the source holds when its migration is retired."""

    objects: int
    bytes: int
    versions: int | None
    """Older versions and marks of deletions; None: they are not listed here, or not to us."""


def retire(
    migration: Migration, confirmed_by: str, say: Say, *, signing_key: Path | None = None
) -> tuple[Record, Leftovers]:
    """List the source once more and record that its owner gives it up.

    Raises ConfigurationError unless the migration is in its time of grace, or if the name is not a
    short line, and what a listing raises.
    """
    directory = JobDirectory.open(migration.root)

    def check(records: Sequence[Record]) -> None:
        require(records, RecordKind.RETIRED)

    sign = signer(signing_key)
    check_name(confirmed_by, "--confirmed-by")
    check(read(directory))
    check_trust(directory)
    say("listing the source: nothing is deleted there")
    found = _leftovers(job_parts(directory)[0].source)
    facts: Facts = {
        "confirmed_by": confirmed_by,
        "source_objects": found.objects,
        "source_bytes": found.bytes,
        "source_versions": found.versions,
    }
    return append(directory, RecordKind.RETIRED, facts, check=check, sign=sign), found


def _leftovers(end: EndConfig) -> Leftovers:
    store = open_end(end, read_only=True)
    prefix = end.location.prefix
    checked_access(store, "source", end).result()
    objects = size = 0
    with Listing(store, prefix, policy=PAGES) as listing:
        for batch in listing:
            objects += len(batch)
            size += pc.sum(batch["size"]).as_py() or 0
    versions = None
    if end.location.scheme is Scheme.S3:
        with contextlib.suppress(AccessDenied):  # a move needs no right to list them
            every = sum(1 for _ in PacedTarget(inner=store).list_versions(prefix))
            versions = max(0, every - objects)
    return Leftovers(objects=objects, bytes=size, versions=versions)
