"""What attempts of earlier passes left at the target without a receipt.

A worker that dies between a write and its receipt leaves an object. Its pass finds it when it goes
on, by the transfer id, unless the source has changed in between: then the entry ends as that, and
no receipt tells of the object. A later pass knows it by the transfer id, too: that names an entry
of an earlier pass that has this name, and ended there without having landed.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Final

import pyarrow.compute as pc

from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipt_check import sealed_rows_of
from noria.manifests.job.receipts import LANDED
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.model import ObjectEntry, Outcome
from noria.manifests.passes.migration import migration_of

_TXID: Final = re.compile(r"(.+)\.([0-9]{1,9})\.([0-9]{1,9})\.[0-9]+")
_ENDED_AS: Final = frozenset([Outcome.DELETED.value, *LANDED.to_pylist()])


class Unreceipted:
    """Tells them for the pass whose job directory this is. Threads may share it."""

    def __init__(self, directory: Path) -> None:
        self._migration, self._number = migration_of(directory)
        self._lock = threading.Lock()
        self._passes: dict[str, JobDirectory] | None = None
        """By job id."""

    def has(self, txid: str | None, entry: ObjectEntry) -> bool:
        """Whether an object under the entry's name with this transfer id is one.

        Reads a shard of an earlier pass, and its receipts. Raises JobDirectoryError if they are
        damaged.
        """
        stated = _TXID.fullmatch(txid or "")
        directory = None if stated is None else self._earlier_passes().get(stated[1])
        if stated is None or directory is None:
            return False
        return _has_no_receipt(directory, int(stated[2]), int(stated[3]), entry)

    def _earlier_passes(self) -> dict[str, JobDirectory]:
        with self._lock:
            if self._passes is None:
                places = map(self._migration.place, range(1, self._number))
                opened = map(JobDirectory.open, places)
                self._passes = {str(each.job()["id"]): each for each in opened}
            return self._passes


def _has_no_receipt(directory: JobDirectory, shard: int, row: int, entry: ObjectEntry) -> bool:
    manifest = open_manifest(directory.manifest_path)
    if shard >= manifest.shard_count:
        return False
    for rows, receipts in sealed_rows_of(directory, manifest, shard, ["target_key", "outcome"]):
        for at in pc.indices_nonzero(pc.equal(receipts["row"], row)).to_pylist():
            names = rows["key"][at].as_py(), receipts["target_key"][at].as_py()
            is_same = names == (entry.key, entry.target_key)
            return is_same and receipts["outcome"][at].as_py() not in _ENDED_AS
    return False
