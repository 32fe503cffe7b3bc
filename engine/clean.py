"""Find and abort the multipart uploads that a job has left open at its target.

A target keeps, and bills, an upload until somebody aborts it, and rules that would do so are not
allowed everywhere. An upload is this job's if the job directory holds its id, which is journalled
before the first part. If the response to its opening was lost, or the worker died before it wrote
the id down, nobody knows the id: such an upload has a name of the manifest and is younger than the
job. It is `unclaimed`, and aborted only if a person says so. All others are foreign, and are never
touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from noria.engine.planning import Prepared
from noria.manifests.errors import JobDirectoryError, NoriaError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.journals import journal_records
from noria.manifests.job.uploads import read_uploads
from noria.workers.stores.paced import PacedTarget
from noria.workers.stores.protocol import ListedUpload

CLOCK_SECONDS = 15 * 60.0
"""How far the target's clock and ours may lie apart: S3 refuses requests beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """What became of the uploads that were open below the target's prefix."""

    aborted: int
    failed: int
    """Of this job, and still open: the target refused to abort them, or did not answer."""
    unclaimed: int
    """On names of this job, younger than it, and known to nobody. Left open unless asked for."""
    foreign: int
    """Others'. Left open."""
    drafts: int = 0
    """Of writers that are dead, at a target that is a folder: files without a name. Removed."""

    @property
    def exit_code(self) -> int:
        return 1 if self.failed or self.unclaimed else 0


def abort_known(prepared: Prepared) -> Cleaning:
    """Abort the uploads that the job directory knows; those that it does not know are counted.

    The caller holds the job. Objects whose upload is aborted are sent again by the next run. Memory
    grows with the number of open uploads. Raises what listing them raises.
    """
    return _sort_out(prepared)[0]


def _sort_out(prepared: Prepared) -> tuple[Cleaning, list[ListedUpload]]:
    """As abort_known(); also returns the uploads that are unclaimed."""
    target = PacedTarget(inner=prepared.target)
    left = {
        upload.upload_id: upload for upload in target.list_uploads(prepared.facts.target_prefix)
    }
    known = _known_ids(prepared.directory) if left else ()
    ours = [left.pop(upload_id) for upload_id in known if upload_id in left]
    aborted = _abort(target, ours)
    others = list(left.values())
    likely = _on_our_names(prepared, others)
    done = Cleaning(
        aborted=aborted,
        failed=len(ours) - aborted,
        unclaimed=len(likely),
        foreign=len(others) - len(likely),
    )
    return done, likely


def clean_uploads(prepared: Prepared, *, unclaimed: bool) -> Cleaning:
    """As abort_known(); the unclaimed ones are aborted too, if asked.

    Also removes the drafts that killed runs left at the target, if that is a folder.
    """
    if unclaimed:
        _created(prepared)  # what it cannot tell apart later, it does not begin
    drafts = prepared.target.remove_drafts()
    done, likely = _sort_out(prepared)
    done = replace(done, drafts=drafts)
    if not unclaimed:
        return done
    aborted = _abort(PacedTarget(inner=prepared.target), likely)
    return replace(
        done,
        aborted=done.aborted + aborted,
        failed=done.failed + len(likely) - aborted,
        unclaimed=0,
    )


def _known_ids(directory: JobDirectory) -> Iterator[str]:
    """Ids of all uploads that the job directory remembers; some more than once."""
    for upload in read_uploads(directory):
        yield upload.upload_id
    for record in journal_records(directory):
        if not isinstance(record, pa.Table) and record[0] == "u":
            yield str(record[1]["upload_id"])


def _on_our_names(prepared: Prepared, uploads: list[ListedUpload]) -> list[ListedUpload]:
    """Those on names of the manifest that are younger than the job."""
    if not uploads:
        return []
    since_ms = (_created(prepared).timestamp() - CLOCK_SECONDS) * 1000
    prefix = prepared.facts.target_prefix
    young = [upload for upload in uploads if upload.started_ms >= since_ms]
    names = [upload.key.removeprefix(prefix) for upload in young]
    planned = prepared.manifest.target_keys_among(pa.array(names, pa.string()))
    return [upload for upload, name in zip(young, names, strict=True) if name in planned]


def _created(prepared: Prepared) -> datetime:
    """When the job was made. Raises JobDirectoryError if that is not known."""
    try:
        return datetime.fromisoformat(str(prepared.directory.job().get("created")))
    except ValueError:
        raise JobDirectoryError(
            f"{prepared.directory.root}/job.json does not say when the job was made; restore it"
        ) from None


def _abort(target: PacedTarget, uploads: Iterable[ListedUpload]) -> int:
    """How many of them are gone now."""
    gone = 0
    for upload in uploads:
        with contextlib.suppress(NoriaError):
            target.abort_upload(upload.key, upload.upload_id)
            gone += 1
    return gone
