"""The record that ends a migration: what the source still holds, and who says it may go.

Noria deletes nothing there. Versions, snapshots and soft-deleted objects are counted, and
retentions told, as far as the store shows them to us; what it does not is said to be unknown. All
of it is on the owner's list, with what no store tells: copies of backups, keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pyarrow.compute as pc

from noria.engine.approvals import check_name
from noria.engine.config.jobfile import EndConfig
from noria.engine.config.stores import open_end
from noria.engine.first_look import checked_access
from noria.engine.planning import check_trust, job_parts
from noria.engine.record_signatures import signer
from noria.manifests.errors import AccessDenied, Retryable
from noria.manifests.job.cutover_states import require
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Facts, Record, RecordKind, append, read
from noria.manifests.passes.migration import Migration
from noria.workers.stores.inspection import InspectedStore, KeptCounts, KeptKind
from noria.workers.stores.listing import PAGES, Listing

Say = Callable[[str], None]

WAITS_SECONDS: Final = (1.0, 5.0, 20.0)
"""Between tries of a listing that the store did not answer."""
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
    """What the source holds when its migration is retired. None: it is not visible to us."""

    objects: int
    bytes: int
    versions: int | None
    """Older versions and marks of deletions."""
    version_bytes: int | None
    snapshots: int | None
    snapshot_bytes: int | None
    deleted: int | None
    """Softly: they can be had back for a while."""
    deleted_bytes: int | None
    locks: bool | None
    """Objects can be locked there against deletion."""
    retention: str | None
    """What is written stays that long: the default of the bucket, the policy of the container."""


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
    held = {f"source_{name}": value for name, value in asdict(found).items()}
    facts: Facts = {"confirmed_by": confirmed_by, **held}
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
    kept, protection = _kept(store, prefix), store.protection()
    versions = (kept.objects.get(kind) for kind in (KeptKind.VERSION, KeptKind.MARKER))
    return Leftovers(
        objects=objects,
        bytes=size,
        versions=_sum(versions),
        version_bytes=kept.bytes.get(KeptKind.VERSION),
        snapshots=kept.objects.get(KeptKind.SNAPSHOT),
        snapshot_bytes=kept.bytes.get(KeptKind.SNAPSHOT),
        deleted=kept.objects.get(KeptKind.DELETED),
        deleted_bytes=kept.bytes.get(KeptKind.DELETED),
        locks=protection.locks,
        retention=_shown(protection.retention),
    )


def _shown(text: str | None) -> str | None:
    """As a history takes it: a store may say anything."""
    return None if text is None else "".join(c if c.isprintable() else "?" for c in text)[:100]


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _kept(store: InspectedStore, prefix: str) -> KeptCounts:
    """What a listing does not show; nothing is known if that takes a right that we lack.

    A move needs none to list versions. Raises Retryable if the store does not answer for long.
    """
    for wait_seconds in WAITS_SECONDS:
        try:
            return store.count_kept(prefix)
        except AccessDenied:
            return KeptCounts()
        except Retryable:
            time.sleep(wait_seconds)
    return store.count_kept(prefix)
