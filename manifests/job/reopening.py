"""Failures that are tried again: their seals are taken back, and nothing else is lost.

A receipt whose cause may pass (a store was away, refused, or lost an answer; a right was missing)
is not final. The next run takes back the seals that hold such receipts, and a retry those of the
entries that a person asks for, such as objects that are gone from the target. What else they hold
goes to the shard's journal first: the next attempt finds it done, and moves the rest alone.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.journals import encode_batch, encode_receipt_table, encode_retried
from noria.manifests.job.receipts import failed_for, named
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import Seal, supersede_seal
from noria.manifests.model import LeaseKind


def reopen(
    directory: JobDirectory,
    sealed: Seal,
    attempt: int,
    causes: Collection[str],
    keys: pa.Array | None = None,
) -> int:
    """Take back the seal if entries of it are to be tried again; return how many are.

    They are those that failed for one of `causes`, and those named in `keys`, whatever their end.
    `attempt` is older than any that will work on the shard. Raises JobDirectoryError. If the
    process dies in here, what was journalled is found again, and the seal counts or does not.
    """
    has_cause = any(sealed.summary.causes.get(cause) for cause in causes)
    if sealed.kind is LeaseKind.PARTS or not (has_cause or keys):
        return 0
    receipts = read_result(directory, sealed)
    again = failed_for(receipts, causes)
    if keys:
        again = pc.or_(again, named(receipts, keys))
    count = int(pc.sum(again, min_count=0).as_py())
    if not count:
        return 0
    if sealed.kind is LeaseKind.OBJECTS:
        journal = directory.journal(sealed.shard, attempt)
        try:
            retried = encode_retried(receipts["row"].filter(again).to_pylist())
            others = encode_receipt_table(receipts.filter(pc.invert(again)))
            journal.append(encode_batch([retried, others]))
        finally:
            journal.close()
    supersede_seal(directory, sealed, attempt)
    return count
