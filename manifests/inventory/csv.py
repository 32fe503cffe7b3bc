"""Text files of a report: cut into blocks of whole records, and CSV blocks turned into rows.

A block ends where a record ends, so that it is parsed on its own and every line keeps its number.
All checks look at whole blocks; only when one fails is that block read again, record by record, to
name the line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from noria.manifests.errors import InventoryError
from noria.manifests.inventory.rows import LazyRows, ReportRows, folded_names

BLOCK_BYTES = 8 * 1024 * 1024
"""Text read at a time: some 40,000 rows of 200 bytes."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
COMMA, NEWLINE, RETURN, QUOTE = b',\n\r"'


class TextSource(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBlock:
    """Whole records (quoted text) or whole lines, and the number of the first line."""

    data: bytes
    first_line: int

    def line_of(self, position: int) -> int:
        return self.first_line + self.data.count(b"\n", 0, position)

    def refuse(self, file: str, position: int, what: str) -> InventoryError:
        return InventoryError(f"{file}, line {self.line_of(position)}: {what}")


def text_blocks(source: TextSource, file: str, *, quoted: bool) -> Iterator[TextBlock]:
    """Cut `source` into blocks. With `quoted`, line ends between quotes do not end a record.

    Raises InventoryError for a NUL, for a record that finds no end within two blocks and, with
    `quoted`, for a quote where RFC 4180 allows none.
    """
    rest, line, last = b"", 1, False
    while not last:
        piece = _read_full(source)
        last = len(piece) < BLOCK_BYTES
        block = TextBlock(data=rest + piece, first_line=line)
        if line == 1:
            block = TextBlock(data=block.data.removeprefix(BYTE_ORDER_MARK), first_line=1)
        if b"\0" in piece:
            raise block.refuse(file, block.data.index(b"\0"), "holds a NUL")
        end = _end_of_records(block, file, quoted=quoted, last=last)
        line, rest = block.line_of(end), block.data[end:]
        if end:
            yield TextBlock(data=block.data[:end], first_line=block.first_line)
        if len(rest) > BLOCK_BYTES:
            raise block.refuse(file, end, f"the record has no end within {BLOCK_BYTES} bytes")


def csv_rows(
    source: TextSource, file: str, *, wanted: frozenset[str], names: Sequence[str] | None
) -> Iterator[LazyRows]:
    """The records of a CSV file (RFC 4180, UTF-8); empty fields are null, empty lines are nothing.

    `names` are the columns; None if the file's first record names them. Only columns whose folded
    name is in `wanted` are read.
    """
    columns = None if names is None else folded_names(names, file, wanted)
    for block in text_blocks(source, file, quoted=True):
        if columns is None:
            columns, block = _split_header(block, file, wanted)
        if _has_records(block):
            yield partial(_parse_block, block, file, columns, wanted)
    if columns is None:
        raise InventoryError(f"{file}, line 1: the file has no header")


def _read_full(source: TextSource) -> bytes:
    """BLOCK_BYTES of the source, fewer only at its end: a socket gives what it has."""
    pieces, missing = [], BLOCK_BYTES
    while missing and (piece := source.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def _end_of_records(block: TextBlock, file: str, *, quoted: bool, last: bool) -> int:
    """The offset at which the last whole record of the block ends; 0 if none does."""
    data = block.data
    before = _checked_quotes(block, file) if quoted else 0
    if last:
        if before % 2:
            raise block.refuse(file, data.rfind(b'"'), "a quoted field has no end")
        return len(data)
    behind = len(data)
    while end := data.rfind(b"\n", 0, behind) + 1:
        before -= data.count(b'"', end, behind) if quoted else 0
        if before % 2 == 0:
            return end
        # An odd number of quotes before a line end: it is in the field that the last one opens.
        behind = data.rfind(b'"', 0, end)
        before -= 1
    return 0


def _checked_quotes(block: TextBlock, file: str) -> int:
    """How many quotes the block has. Raises InventoryError for one inside of an unquoted field.

    Every second quote opens: it follows a comma, a line end or the quote that it doubles. The
    others close: before a comma, a line end or the next quote. All else would be read by guess.
    """
    if b'"' not in block.data:
        return 0
    # Line ends around the block, so that its first and last byte have neighbours too.
    padded = pa.py_buffer(b"".join((b"\n", block.data, b"\n")))
    before, signs, behind = (
        pa.Array.from_buffers(pa.uint8(), len(block.data), [None, padded], offset=shift)
        for shift in range(3)
    )
    quotes = pc.equal(signs, pa.scalar(QUOTE, pa.uint8()))
    for first, neighbours, allowed in (
        (0, before, (COMMA, NEWLINE, QUOTE)),
        (1, behind, (COMMA, NEWLINE, RETURN, QUOTE)),
    ):
        found = neighbours.filter(quotes)[first::2]
        fits = pc.is_in(found, value_set=pa.array(allowed, pa.uint8()))
        wrong = pc.index(fits, False).as_py()
        if wrong >= 0:
            position = pc.indices_nonzero(quotes)[first + 2 * wrong].as_py()
            raise block.refuse(file, position, "a quote inside of a field")
    count: int = pc.sum(quotes).as_py()
    return count


def _has_records(block: TextBlock) -> bool:
    empty_line = block.data.startswith((b"\r", b"\n"))
    return bool(block.data.strip(b"\r\n") if empty_line else block.data)


def _split_header(
    block: TextBlock, file: str, wanted: frozenset[str]
) -> tuple[tuple[str, ...], TextBlock]:
    """The names in the first line, and the block behind it."""
    header, _, behind = block.data.partition(b"\n")
    try:
        names = next(csv.reader([header.decode()], strict=True), [])
    except (csv.Error, UnicodeDecodeError):
        raise block.refuse(file, 0, "the header cannot be read") from None
    columns = folded_names(names, file, wanted)
    return columns, TextBlock(data=behind, first_line=block.first_line + 1)


def _parse_block(
    block: TextBlock, file: str, columns: Sequence[str], wanted: frozenset[str]
) -> ReportRows:
    names = [str(index) for index in range(len(columns))]
    read = {names[index]: column for index, column in enumerate(columns) if column in wanted}
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block.data),
            # One thread and one piece: the block is small, and its order is kept.
            pyarrow.csv.ReadOptions(
                column_names=names, use_threads=False, block_size=len(block.data) + 1
            ),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(read, pa.string()),
                include_columns=list(read),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid:
        # Arrow's message quotes the row, and with it an object's name.
        raise _broken_record(block, file, columns, read.values()) from None
    return ReportRows(
        file=file,
        columns={read[name]: table.column(name).combine_chunks() for name in read},
        count=table.num_rows,
        place=partial(_line_of_record, block, file),
    )


def _records(block: TextBlock, file: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the number of its first line, one by one: for messages only.

    Fields are Latin-1, which keeps bytes that are not UTF-8 apart.
    """
    lines = io.StringIO(block.data.decode("latin-1"), newline="\n")
    reader = csv.reader(lines, strict=True)
    while True:
        line = block.first_line + reader.line_num
        try:
            record = next(reader, None)
        except csv.Error:
            raise InventoryError(f"{file}, line {line}: is not CSV") from None
        if record is None:
            return
        if record:
            yield line, record


def _line_of_record(block: TextBlock, file: str, row: int) -> str:
    for index, (line, _) in enumerate(_records(block, file)):
        if index == row:
            return f"line {line}"
    return f"after line {block.first_line}"


def _broken_record(
    block: TextBlock, file: str, columns: Sequence[str], read: Iterable[str]
) -> InventoryError:
    """Names the first record that made the block unreadable."""
    positions = [(columns.index(column), column) for column in read]
    for line, record in _records(block, file):
        if len(record) != len(columns):
            what = f"has {len(record)} columns, not {len(columns)}"
            return InventoryError(f"{file}, line {line}: {what}")
        for position, column in positions:
            try:
                record[position].encode("latin-1").decode()
            except UnicodeDecodeError:
                return InventoryError(f"{file}, line {line}: column {column} is not UTF-8")
    return InventoryError(f"{file}, after line {block.first_line}: is not CSV")
