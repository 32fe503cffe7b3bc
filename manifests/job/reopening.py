"""Failures that are tried again: their seals are taken back, and nothing else is lost.

A receipt whose cause may pass (a store was away, refused, or lost an answer; a right was missing)
is not final. The next run takes back the seals that hold such receipts. What else they hold goes to
the shard's journal first: the next attempt finds it done, and moves the rest alone.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow.compute as pc

from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.journals import encode_receipt_table, encode_retried
from noria.manifests.job.receipts import failed_for
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import Seal, supersede_seal
from noria.manifests.model import LeaseKind


def reopen(directory: JobDirectory, sealed: Seal, attempt: int, causes: Collection[str]) -> int:
    """Take back the seal if entries of it failed for such a cause; return how many did.

    `attempt` is older than any that will work on the shard. Raises JobDirectoryError. If the
    process dies in here, what was journalled is found again, and the seal counts or does not.
    """
    again = sum(sealed.summary.causes.get(cause, 0) for cause in causes)
    if not again or sealed.kind is LeaseKind.PARTS:
        return 0
    if sealed.kind is LeaseKind.OBJECTS:
        receipts = read_result(directory, sealed)
        failed = failed_for(receipts, causes)
        journal = directory.journal(sealed.shard, attempt)
        try:
            journal.append(encode_retried(receipts["row"].filter(failed).to_pylist()))
            journal.append(encode_receipt_table(receipts.filter(pc.invert(failed))))
        finally:
            journal.close()
    supersede_seal(directory, sealed, attempt)
    return again
