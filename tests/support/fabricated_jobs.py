"""Jobs whose manifest is frozen, and whose results, seals and listings a test makes up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import summarize
from noria.manifests.job.results import write_parts
from noria.manifests.job.seals import seal
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import (
    LeaseEnd,
    LeaseKind,
    LeaseResult,
    Outcome,
    PartRecord,
    ReceiptSummary,
)
from noria.manifests.plan.options import PlanOptions
from noria.manifests.schema import FIRST_RECEIPT_SCHEMA, INVENTORY_SCHEMA, RECEIPT_SCHEMA
from tests.support.rows import Row, freeze_rows

_FILLED: Mapping[str, Any] = {
    "outcome": Outcome.TRANSFERRED.value,
    "level": "ingested",
    "target_etag": "e",
    "parts": 0,
    "bytes_moved": 0,
    "attempt": 1,
    "finished_ms": 1,
}


def receipts_table(receipts: Sequence[Row]) -> pa.Table:
    """RECEIPT_SCHEMA; of what a receipt does not say, an object that landed under its own name."""
    columns = [
        pa.array(
            [
                each.get(name, each["key"] if name == "target_key" else _FILLED.get(name))
                for each in receipts
            ],
            RECEIPT_SCHEMA.field(name).type,
        )
        for name in RECEIPT_SCHEMA.names
    ]
    return pa.table(columns, schema=RECEIPT_SCHEMA)


def listing_batches(
    objects: Sequence[Row], prefix: str = "", batch_rows: int = 1_000
) -> Iterator[pa.RecordBatch]:
    """INVENTORY_SCHEMA batches of objects that say `key`, `size` and `etag`."""
    for at in range(0, len(objects), batch_rows):
        rows = objects[at : at + batch_rows]
        given = {
            "key": pa.array([prefix + str(row["key"]) for row in rows], pa.string()),
            "size": pa.array([row["size"] for row in rows], pa.int64()),
            "etag": pa.array([row["etag"] for row in rows], pa.string()),
        }
        columns = [
            given.get(each.name, pa.nulls(len(rows), each.type)) for each in INVENTORY_SCHEMA
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=INVENTORY_SCHEMA)


@dataclass(slots=True)
class FabricatedJob:
    directory: JobDirectory
    manifest: Manifest
    receipts: list[Row] = field(default_factory=list)
    """All that are sealed; each also says its `shard`."""

    @classmethod
    def plan(cls, root: Path, rows: Iterable[Row], options: PlanOptions) -> FabricatedJob:
        directory = JobDirectory.create(root, {"id": "j"})
        return cls(directory, freeze_rows(root / "manifest", rows, options))

    def seal(
        self,
        shard: int,
        receipts: Sequence[Row],
        kind: LeaseKind = LeaseKind.OBJECTS,
        generation: int = 0,
        *,
        first_edition: bool = False,
    ) -> None:
        """Seal receipts of consecutive rows, which they do not say if there is no doubt."""
        first = receipts[0].get("row", 0)
        filled = [{"row": first + nth, **each} for nth, each in enumerate(receipts)]
        table = receipts_table(filled)
        name = f"results/{shard:08d}/{kind}-{first}-{generation}.parquet"
        path = self.directory.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        written = table.select(FIRST_RECEIPT_SCHEMA.names) if first_edition else table
        pq.write_table(written, path, compression="zstd")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        span = (first, first + len(filled)) if kind is LeaseKind.OBJECTS else (0, 0)
        self._seal(shard, kind, span, generation, (name, digest), summarize(table))
        self.receipts += [{"shard": shard, **each} for each in table.select(_COMPARED).to_pylist()]

    def seal_parts(self, shard: int, parts: int) -> None:
        """Seal part records, which are no receipts."""
        name = f"results/{shard:08d}/parts-0.parquet"
        records = [
            PartRecord(number=number, size=1, etag="e", crc64nvme=number, chunks=b"")
            for number in range(1, parts + 1)
        ]
        digest = write_parts(self.directory, name, records)
        self._seal(shard, LeaseKind.PARTS, (0, parts), 0, (name, digest), ReceiptSummary())

    def _seal(
        self,
        shard: int,
        kind: LeaseKind,
        span: tuple[int, int],
        generation: int,
        result: tuple[str, str],
        summary: ReceiptSummary,
    ) -> None:
        seal(
            self.directory,
            LeaseResult(
                shard=shard,
                kind=kind,
                first=span[0],
                end=span[1],
                attempt=1,
                generation=generation,
                how=LeaseEnd.FINISHED,
                result_name=result[0],
                result_sha256=result[1],
                summary=summary,
            ),
        )


_COMPARED = ["row", "key", "target_key", "outcome", "size", "target_etag"]
