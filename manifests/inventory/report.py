"""What every inventory comes to: a report with a date, counts to check, and batches of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.model import PassedOver


@dataclass(slots=True, kw_only=True)
class ReportSummary:
    """Counts of a report, before rows are merged. The read ones grow while `batches` runs."""

    stated_rows: int | None = None
    """As the manifest states them. None if it states none."""
    stated_bytes: int | None = None
    rows: int = 0
    """All rows read, wanted or not."""
    bytes: int = 0
    """Sum of the sizes of these rows."""
    current_bytes: int = 0
    """The same without snapshots, old versions and deleted objects."""
    kept_rows: int = 0
    """Rows that were handed on."""
    other_container_rows: int = 0
    """Rows of other containers, left out."""
    other_prefix_rows: int = 0
    """Rows of the container that are not below the prefix, left out."""

    def restart(self) -> None:
        self.rows = self.bytes = self.current_bytes = 0
        self.kept_rows = self.other_container_rows = self.other_prefix_rows = 0

    @property
    def passed_over(self) -> dict[PassedOver, int]:
        """Rows that were not handed on, by cause."""
        return {
            PassedOver.OUTSIDE_PREFIX: self.other_prefix_rows,
            PassedOver.OTHER_CONTAINER: self.other_container_rows,
        }

    def count(self, batch: pa.RecordBatch) -> None:
        """Count a batch before any row is left out."""
        sizes = batch.column("size")
        current = batch.column("not_current").is_null()
        self.rows += batch.num_rows
        self.bytes += pc.sum(sizes, min_count=0).as_py()
        self.current_bytes += pc.sum(sizes.filter(current), min_count=0).as_py()

    def keep_prefix(self, batch: pa.RecordBatch, prefix: str) -> pa.RecordBatch:
        """The rows whose key begins with `prefix`, counted."""
        below = pc.starts_with(batch.column("key"), prefix)
        kept = batch if pc.all(below).as_py() else batch.filter(below)
        self.kept_rows += kept.num_rows
        self.other_prefix_rows += batch.num_rows - kept.num_rows
        return kept


class InventoryReport(Protocol):
    """An inventory whose manifest has passed its checks."""

    @property
    def created(self) -> datetime | None:
        """When its writer began to look at the container: later changes may be missing.

        None if the inventory does not say.
        """
        ...

    @property
    def summary(self) -> ReportSummary: ...

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows below the prefix, in the report's order, in INVENTORY_SCHEMA with whole keys.

        Duplicates stay. Raises InventoryError, with file and line, for anything that cannot be
        trusted. Sums over whole files are compared at their end: no row may be used before the last
        one is read. Rows are taken apart on threads of their own. Memory holds, for each, a block
        of text, a batch of Parquet or a stripe of ORC, and up to three small columnar files. A
        repeat reads the files again.
        """
        ...
