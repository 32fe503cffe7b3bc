"""What a document consists of, and as Markdown: headings, paragraphs, lists, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Code:
    """A name or a digest, as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Open:
    """What a person has to fill in."""

    text: str


Text: TypeAlias = str | Code | Open | Sequence[str | Code | Open]
"""What stands in a paragraph or a cell: one piece, or several that follow each other."""


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    """1: the title."""
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemList:
    items: Sequence[Text]
    to_tick: bool = False
    """A person ticks each off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactTable:
    names: Sequence[str]
    """Of the columns."""
    rows: Sequence[Sequence[Text]]
    widths: Sequence[int]
    """Of the columns, beside each other's: on paper."""


Block: TypeAlias = Heading | Paragraph | ItemList | FactTable


def pieces(text: Text) -> Sequence[str | Code | Open]:
    """All pieces of a text, in order."""
    return [text] if isinstance(text, str | Code | Open) else list(text)


def markdown(blocks: Iterable[Block]) -> str:
    """The document as Markdown."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return _marked(text)
        case ItemList(items=items, to_tick=to_tick):
            sign = "- [ ]" if to_tick else "-"
            return "\n".join(f"{sign} {_marked(item)}" for item in items)
        case FactTable(names=names, rows=rows):
            lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
            lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
            return "\n".join(lines)


def _cell(text: Text) -> str:
    return _marked(text).replace("|", "\\|")


def _marked(text: Text) -> str:
    return "".join(_piece(piece) for piece in pieces(text))


def _piece(piece: str | Code | Open) -> str:
    match piece:
        case Code(text):
            return f"`{text.replace('`', '')}`"
        case Open(text):
            return f"*{text}*"
        case _:
            return piece
