"""What did not land: collected in one Parquet file, and listed for people under pseudonyms."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from noria.engine.scheduler.events import Quarantine
from noria.manifests.access import make_folders
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import failures_of
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import Seal
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import LeaseKind, Outcome
from noria.manifests.schema import RECEIPT_SCHEMA

FAILURES_FILE = "failures.parquet"
LISTED_FAILURES = 20
"""How many failures a report names; all of them are in failures.parquet."""
BATCH_ROWS = 4096
"""Of failures.parquet, in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One entry that did not land, as a report lists it."""

    name: str
    """A pseudonym of the key, or the key itself if the user asked for it."""
    outcome: str
    cause: str
    message: str


def write_failures(
    directory: JobDirectory,
    manifest: Manifest,
    failing: Iterable[Seal],
    name: str,
    quarantined: Iterable[Quarantine] = (),
) -> Path:
    """Collect every entry that someone has to look at in one Parquet file; returns its path.

    `failing` are the seals of the results that hold such entries.
    """
    scratch = directory.path(name).with_name(f".{Path(name).name}.{os.getpid()}")
    make_folders(scratch.parent)
    with pq.ParquetWriter(scratch, RECEIPT_SCHEMA, compression="zstd") as writer:
        for sealed in sorted(failing, key=lambda sealed: (sealed.shard, sealed.first)):
            writer.write_table(failures_of(read_result(directory, sealed)).cast(RECEIPT_SCHEMA))
        for span in quarantined:
            writer.write_table(_quarantined_rows(manifest, span))
    directory.publish(scratch, name)
    return directory.path(name)


def _quarantined_rows(manifest: Manifest, span: Quarantine) -> pa.Table:
    first, end = (span.first, span.end) if span.kind is LeaseKind.OBJECTS else (0, 1)
    rows = [
        {
            "row": entry.row,
            "key": entry.key,
            "target_key": entry.target_key,
            "outcome": Outcome.FAILED.value,
            "size": entry.size,
            "cause": span.cause,
            "message": "its shard failed too often in this run; run again to try it again",
            "parts": 0,
            "bytes_moved": 0,
            "attempt": 0,
            "finished_ms": int(time.time() * 1000),
        }
        for entry in manifest.entries(span.shard, first, end)
    ]
    return pa.Table.from_pylist(rows, schema=RECEIPT_SCHEMA)


def listed_failures(directory: JobDirectory, path: Path, show_keys: bool) -> Iterator[Failure]:
    """The first entries of a failures.parquet."""
    return islice(
        all_failures(directory, path, show_keys, batch_rows=LISTED_FAILURES), LISTED_FAILURES
    )


def all_failures(
    directory: JobDirectory, path: Path, show_keys: bool, *, batch_rows: int = BATCH_ROWS
) -> Iterator[Failure]:
    """All entries of a failures.parquet, read as they are asked for."""
    columns = ["key", "outcome", "cause", "message"]
    secret = b"" if show_keys else _pseudonym_secret(directory)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=batch_rows, columns=columns):
            for row in batch.to_pylist():
                yield Failure(
                    name=row["key"] if show_keys else _pseudonym(secret, row["key"]),
                    outcome=row["outcome"],
                    cause=row["cause"] or "",
                    message=row["message"] or "",
                )


def _pseudonym_secret(directory: JobDirectory) -> bytes:
    """The job's own secret: pseudonyms are the same in all its logs, and tell nothing elsewhere."""
    directory.write_once("pseudonyms.key", secrets.token_hex(32).encode())
    data = directory.read("pseudonyms.key")
    assert data is not None, "it was just written"
    return data


def _pseudonym(secret: bytes, key: str) -> str:
    return "object-" + hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()[:12]
