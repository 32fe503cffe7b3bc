"""Damage at the target: `damage.parquet`, the receipts of landed objects that are not as they were.

`noria verify` found them gone, replaced, or of other bytes. It is remembered in the job that the
receipts are of, until it is repaired.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.schema import RECEIPT_SCHEMA

DAMAGE_FILE: Final = "damage.parquet"
DAMAGED: Final = "damaged"
"""Under the ETag of the receipt lie other bytes."""
GONE: Final = "target_missing"
REPLACED: Final = "target_changed"
"""Another object is there."""
DAMAGE_CAUSES: Final = frozenset({DAMAGED, GONE, REPLACED})


def read_damage(directory: JobDirectory) -> pa.Table:
    """RECEIPT_SCHEMA: what is known to be damaged, with its cause. Raises JobDirectoryError."""
    path = directory.path(DAMAGE_FILE)
    if not path.is_file():
        return RECEIPT_SCHEMA.empty_table()
    try:
        return pq.read_table(path, schema=RECEIPT_SCHEMA)
    except (OSError, ValueError, pa.ArrowException):
        raise damaged_file(path) from None


def write_damage(directory: JobDirectory, table: pa.Table) -> None:
    """Replace what is known. Durable when it returns."""
    scratch = directory.path(f".{DAMAGE_FILE}.{os.getpid()}")
    try:
        pq.write_table(table, scratch, compression="zstd")
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise JobDirectoryError(
            f"cannot write to {directory.root}: {error.strerror or error}; "
            "make room, then run again"
        ) from error
    directory.publish(scratch, DAMAGE_FILE)


def damaged_file(path: Path) -> JobDirectoryError:
    return JobDirectoryError(
        f"{path} is damaged; remove it, and find it again with `noria verify` and `noria reconcile`"
    )
