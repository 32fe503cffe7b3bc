"""What a pass leaves in the history of its migration, read from its job directory.

Nothing is timed while a pass runs: it may be killed, resumed and end on another machine. What it
took is told by what it has written: when its plan was begun, when that was frozen, and how long the
run moved that brought it to its end.
"""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from noria.engine.status import Phase, load_status
from noria.manifests.errors import JobDirectoryError, TargetKept
from noria.manifests.job.cutover_states import require
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import PASS, Facts, Record, RecordKind, Sign, append, read
from noria.manifests.job.receipt_check import sealed_rows
from noria.manifests.job.receipts import AS_PLANNED
from noria.manifests.job.reconcile import REPORT_FILE
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.model import Delta
from noria.manifests.passes.migration import Migration

_CHANGED = (Delta.SIZE, Delta.ETAG, Delta.VERSION, Delta.MODIFIED)


def has_ended(migration: Migration, number: int) -> bool:
    """Whether a pass was run to its end, and was not taken up again since.

    By its status, which is a cache: if it is gone, the history tells; if that says nothing, the
    pass is run again, which finds nothing to do.
    """
    status = load_status(JobDirectory.open(migration.place(number)))
    if status is not None:
        return status.phase is Phase.FINISHED
    records = read(JobDirectory(migration.root))
    return _record_of(records, RecordKind.PASS_ENDED, number) is not None


def note_planned(migration: Migration, number: int, sign: Sign | None = None) -> None:
    """Record that a pass is planned from here on, unless that is recorded. May be repeated.

    Raises ConfigurationError if the migration stands where no pass may be planned, or gone on with.
    """

    def check(records: Sequence[Record]) -> None:
        require(records, RecordKind.PLANNED)

    directory = JobDirectory.open(migration.root)
    records = read(directory)
    check(records)
    planned = _last_plan(records, number)
    if planned is None or planned.kind is RecordKind.WITHDRAWN:
        append(directory, RecordKind.PLANNED, {"pass": number}, check=check, sign=sign)


def note_ended(migration: Migration, number: int, sign: Sign | None = None) -> Record:
    """Record what a pass that has ended found and did, unless that is recorded. May be repeated."""
    directory = JobDirectory.open(migration.root)
    known = _record_of(read(directory), RecordKind.PASS_ENDED, number)
    if known is not None:
        return known
    return append(directory, RecordKind.PASS_ENDED, _facts(migration, number), sign=sign)


def note_all_ended(migration: Migration, sign: Sign | None = None) -> bool:
    """Record all passes, if the last one has ended, unless they are. False: it has not ended.

    A job that was run as one pass alone, or by an earlier edition, has kept no history.
    """
    if not has_ended(migration, migration.last):
        return False
    records = read(JobDirectory(migration.root))
    noted = {each.facts.get("pass") for each in records if each.kind is RecordKind.PASS_ENDED}
    for number in range(1, migration.last + 1):
        if number not in noted:
            note_ended(migration, number, sign)
    return True


def withdrawal_of(migration: Migration, number: int) -> Record | None:
    """The record by which a pass was taken back; None if it was not, or is planned again since."""
    planned = _last_plan(read(JobDirectory(migration.root)), number)
    is_taken_back = planned is not None and planned.kind is RecordKind.WITHDRAWN
    return planned if is_taken_back else None


def _last_plan(records: Sequence[Record], number: int) -> Record | None:
    """The last time that a pass was planned or withdrawn."""
    kinds = (RecordKind.PLANNED, RecordKind.WITHDRAWN)
    found = [each for each in records if each.kind in kinds and each.facts.get(PASS) == number]
    return found[-1] if found else None


def _record_of(records: Sequence[Record], kind: RecordKind, number: int) -> Record | None:
    found = [each for each in records if each.kind is kind and each.facts.get("pass") == number]
    return found[-1] if found else None


def _facts(migration: Migration, number: int) -> Facts:
    place = JobDirectory.open(migration.place(number))
    manifest = open_manifest(place.manifest_path)
    status = load_status(place)
    created = begun(place.job())
    frozen = (place.manifest_path / "manifest.json").stat().st_mtime
    ended = time.time() if status is None else status.updated_seconds
    moving = 0.0 if status is None else status.run_seconds
    kept = 0 if status is None else status.causes.get(TargetKept.cause, 0)
    moved_all = status is not None and status.failed + kept == 0
    return {
        "pass": number,
        "started": created,
        "ended": ended,
        "listing_seconds": round(max(0.0, frozen - created), 3),
        "moving_seconds": round(moving, 3),
        "reconciling_seconds": round(max(0.0, ended - frozen - moving), 3),
        "bytes_moved": 0 if status is None else status.bytes_moved,
        "failed": 0 if status is None else status.failed,
        "oldest_unmoved": None if moved_all else _oldest_unmoved(place, manifest),
        "reconciled": is_reconciled(place),
        "manifest": manifest.digest,
        **_delta_facts(manifest),
    }


def _delta_facts(manifest: Manifest) -> Facts:
    """Objects and bytes that were new, changed, gone and unchanged."""
    found: Mapping[str, Any] | None = manifest.facts.get("delta")
    if found is None:
        return {"new_objects": manifest.objects_to_move, "new_bytes": manifest.bytes_to_move}
    facts: dict[str, int] = {}
    for name, deltas in {
        "new": [Delta.NEW],
        "changed": _CHANGED,
        "gone": [Delta.GONE],
        "unchanged": ["unchanged"],
    }.items():
        for what in ("objects", "bytes"):
            counts = (found.get(str(delta), {}).get(what, 0) for delta in deltas)
            facts[f"{name}_{what}"] = sum(counts)
    return facts


def _oldest_unmoved(place: JobDirectory, manifest: Manifest) -> float | None:
    """When the oldest of the entries was changed that the pass had to move and did not.

    Unix seconds, not before 1970: a store may state any time. None if all landed, or no time is
    known.
    """
    oldest = None
    for _, rows, receipts in sealed_rows(place, manifest, ["outcome"]):
        left = pc.and_not(
            rows["reason"].is_null(), pc.is_in(receipts["outcome"], value_set=AS_PLANNED)
        )
        times = rows["last_modified"].filter(left).drop_null()
        if len(times):
            first = max(0, pc.min(times.cast(pa.int64())).as_py()) / 1000
            oldest = first if oldest is None else min(oldest, first)
    return oldest


def is_reconciled(place: JobDirectory) -> bool:
    """Whether the last reconcile of this pass found all in order; False: it was not run, too."""
    try:
        return json.loads(place.read(REPORT_FILE) or b"{}").get("reconciled") is True
    except (ValueError, AttributeError, RecursionError):
        return False


def begun(job: Mapping[str, Any]) -> float:
    """Unix time of the source's state that the pass has seen; as earlier editions noted it."""
    as_of, created = job.get("as_of"), job.get("created")
    if isinstance(as_of, float):
        return as_of
    try:
        return float(calendar.timegm(time.strptime(str(created), "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError as error:
        raise JobDirectoryError(
            "job.json does not say when it was created; restore it from a copy"
        ) from error
