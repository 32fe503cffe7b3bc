"""A key list: a text file (UTF-8, may be gzip) with one object name a line.

Names are whole, as the container has them, unless `below` says what they lie below.

Nothing is quoted and nothing is trimmed but the line end, LF or CR LF; empty lines are skipped. So
a name with a line feed in it, or with a CR at its end, cannot stand in such a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.inventory.columns import inventory_batch, keys
from noria.manifests.inventory.csv import TextBlock, text_blocks
from noria.manifests.inventory.files import PlainText, ReportFiles, open_file
from noria.manifests.inventory.report import ReportSummary
from noria.manifests.inventory.rows import ReportRows

UNKNOWN_SIZE = -1
"""What INVENTORY_SCHEMA has for a size that must be looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyList:
    """A key list: an InventoryReport that knows names alone."""

    files: ReportFiles
    name: str
    prefix: str
    below: str
    """Comes before every name of the list."""
    summary: ReportSummary

    @property
    def created(self) -> None:
        return None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """See InventoryReport. All columns but key and size are null; size is UNKNOWN_SIZE."""
        self.summary.restart()
        with open_file(self.files, self.name) as stream:
            for block in text_blocks(PlainText(stream, self.name), self.name, quoted=False):
                rows = _rows(block, self.name)
                sizes = pa.repeat(UNKNOWN_SIZE, rows.count)
                names = keys(rows, "key")
                if self.below:
                    names = pc.binary_join_element_wise(self.below, names, "")
                batch = inventory_batch({"key": names, "size": sizes}, rows.count)
                self.summary.rows += batch.num_rows
                kept = self.summary.keep_prefix(batch, self.prefix)
                if kept.num_rows:
                    yield kept


def open_key_list(files: ReportFiles, name: str, *, prefix: str, below: str = "") -> KeyList:
    """`below` comes before every name. Raises InventoryError if the file is missing."""
    with open_file(files, name):
        pass
    return KeyList(files=files, name=name, prefix=prefix, below=below, summary=ReportSummary())


def _rows(block: TextBlock, file: str) -> ReportRows:
    text = pa.array([block.data.removesuffix(b"\n")], pa.binary())
    lines = pc.split_pattern(text, "\n").flatten()
    if b"\r" in block.data:
        lines = pc.if_else(pc.ends_with(lines, b"\r"), pc.binary_slice(lines, 0, -1), lines)
    numbers = pc.indices_nonzero(pc.binary_length(lines))

    def place(row: int) -> str:
        return f"line {block.first_line + numbers[row].as_py()}"

    named = lines.take(numbers)
    return ReportRows(file=file, columns={"key": named}, count=len(named), place=place)
