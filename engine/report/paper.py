"""Blocks as a PDF of A4 pages, by fpdf2, with fonts that matplotlib carries: extra noria[pdf].

The same blocks and the same time give the same bytes. A character that the fonts lack stands as its
number, such as \\u6771: nothing is dropped.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

from fontTools.ttLib import TTFont
from fpdf import FPDF
from fpdf.enums import TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace
from fpdf.table import Table

from noria.engine.report.blocks import (
    Block,
    Code,
    FactTable,
    Heading,
    ItemList,
    Open,
    Paragraph,
    Text,
    pieces,
)

_FONTS: Final = {
    ("Sans", ""): "DejaVuSans.ttf",
    ("Sans", "B"): "DejaVuSans-Bold.ttf",
    ("Sans", "I"): "DejaVuSans-Oblique.ttf",
    ("Mono", ""): "DejaVuSansMono.ttf",
}
_MARGIN_MM: Final = 18.0
_FOOT_MM: Final = 16.0
_LINE_MM: Final = 5.0
_BODY_POINTS: Final = 9.5
_TABLE_POINTS: Final = 8.5
_FOOT_POINTS: Final = 7.5
_TITLE_POINTS: Final = {1: 18.0, 2: 12.5}
_KEPT_TOGETHER_MM: Final = 30.0
"""A heading is not the last on its page: this much of what follows it fits below."""
_LETTER_MM: Final = 3.0
"""No letter of a table is wider."""
_ROW_LINES: Final = 40
"""Of a row, at most: they fit on a page."""
_SOFT: Final = (91, 103, 112)
_RULE: Final = (221, 227, 231)


def paper(
    blocks: Iterable[Block], *, title: str, foot: str, maker: str, made_seconds: float
) -> bytes:
    """The PDF. `foot` stands at the end of each page, `made_seconds` is Unix time.

    Raises ModuleNotFoundError if the fonts are not there.
    """
    sheets = _Sheets(_font_folder(), foot)
    sheets.set_title(title)
    sheets.set_author(maker)
    sheets.set_creator(maker)
    sheets.set_lang("en")
    sheets.set_creation_date(datetime.fromtimestamp(int(made_seconds), UTC))
    sheets.add_page()
    for block in blocks:
        sheets.add(block)
    return bytes(sheets.output())


def _font_folder() -> Path:
    """Found without loading matplotlib, which takes longer than all else here."""
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        folder = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
        if all((folder / file).is_file() for file in _FONTS.values()):
            return folder
    raise ModuleNotFoundError("there is no matplotlib with its fonts", name="matplotlib")


class _Sheets(FPDF):
    def __init__(self, fonts: Path, foot: str) -> None:
        super().__init__(orientation="portrait", unit="mm", format="A4")
        self._fonts_folder = fonts
        self._foot = foot
        self.set_margin(_MARGIN_MM)
        self.c_margin = 0
        self.set_auto_page_break(auto=True, margin=_FOOT_MM + _LINE_MM)
        for (family, style), file in _FONTS.items():
            self.add_font(family, style, fonts / file)
        self.set_draw_color(*_RULE)

    @cached_property
    def _known(self) -> Mapping[tuple[str, str], frozenset[int]]:
        """The characters that each font has."""
        known = {}
        for face, file in _FONTS.items():
            with TTFont(self._fonts_folder / file) as font:
                known[face] = frozenset(font.getBestCmap())
        return known

    def footer(self) -> None:
        self.set_xy(_MARGIN_MM, -_FOOT_MM)
        self.set_font("Sans", "", _FOOT_POINTS)
        self.set_text_color(*_SOFT)
        self.cell(0, _LINE_MM, self._written(self._foot, self._known["Sans", ""]))
        self.set_x(_MARGIN_MM)
        self.cell(0, _LINE_MM, f"{self.page_no()} / {{nb}}", align="R")
        self.set_text_color(0)

    def add(self, block: Block) -> None:
        match block:
            case Heading(level, text):
                self._add_heading(level, text)
            case Paragraph(text):
                self._add_text(text)
                self.ln(_LINE_MM * 1.4)
            case ItemList():
                self._add_list(block)
            case FactTable():
                self._add_table(block)

    def _add_heading(self, level: int, text: str) -> None:
        if self.will_page_break(_KEPT_TOGETHER_MM):
            self.add_page()
        elif level > 1:
            self.ln(_LINE_MM * 0.6)
        self.start_section(text, level=level - 1)
        self.set_font("Sans", "B", _TITLE_POINTS[level])
        self.multi_cell(0, _LINE_MM * 1.6, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        if level > 1:
            self.line(self.l_margin, self.get_y(), self.w - self.r_margin, self.get_y())
        self.ln(_LINE_MM * 0.5)

    def _add_list(self, items: ItemList) -> None:
        left = self.l_margin
        for item in items.items:
            if self.will_page_break(_LINE_MM):
                self.add_page()
            self.set_font("Sans", "", _BODY_POINTS)
            self.set_x(left)
            self.cell(_LINE_MM, _LINE_MM, "\N{BALLOT BOX}" if items.to_tick else "\N{BULLET}")
            self.set_left_margin(left + _LINE_MM)  # lines after the first begin below the text
            self._add_text(item)
            self.set_left_margin(left)
            self.ln(_LINE_MM * 1.15)
        self.ln(_LINE_MM * 0.3)

    def _add_text(self, text: Text) -> None:
        for piece in pieces(text):
            family, style, said = self._set_in(piece)
            self.set_font(family, style, _BODY_POINTS)
            self.write(_LINE_MM, said)

    def _add_table(self, facts: FactTable) -> None:
        self.set_font("Sans", "", _TABLE_POINTS)
        with self.table(
            col_widths=tuple(facts.widths),
            text_align="LEFT",
            v_align="TOP",
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            headings_style=FontFace(emphasis="B", color=_SOFT),
            line_height=_LINE_MM * 0.9,
            padding=(0.8, 2, 0.8, 0),
        ) as table:
            head = table.row()
            for name in facts.names:
                head.cell(name)
            for facts_of_row in facts.rows:
                self._add_row(table, facts_of_row, facts.widths)
        self.ln(_LINE_MM * 0.8)

    def _add_row(self, table: Table, cells: Sequence[Text], widths: Sequence[int]) -> None:
        """A row is not taken apart between pages; so what could be too high becomes several."""
        faces, columns = [], []
        for cell, width in zip(cells, widths, strict=True):
            family, style, said = self._set_in(_in_one_piece(cell))
            faces.append(FontFace(family=family, emphasis=style or None))
            letters = int(self.epw * width / sum(widths) / _LETTER_MM) * _ROW_LINES
            columns.append([said[at : at + letters] for at in range(0, len(said), letters)])
        for parts in itertools.zip_longest(*columns, fillvalue=""):
            row = table.row()
            for part, face in zip(parts, faces, strict=True):
                row.cell(part, style=face)

    def _set_in(self, piece: str | Code | Open) -> tuple[str, str, str]:
        """Family, style, and words as these can show them."""
        match piece:
            case Code(text):
                mono = self._known["Mono", ""]
                family, style = ("Mono" if mono.issuperset(map(ord, text)) else "Sans"), ""
            case Open(text):
                family, style = "Sans", "I"
            case _:
                family, style, text = "Sans", "", piece
        return family, style, self._written(text, self._known[family, style])

    @staticmethod
    def _written(text: str, known: frozenset[int]) -> str:
        return "".join(
            sign if sign.isprintable() and ord(sign) in known else ascii(sign)[1:-1]
            for sign in text
        )


def _in_one_piece(cell: Text) -> str | Code | Open:
    """A cell has one face: that of its only piece, or a plain one."""
    found = pieces(cell)
    if len(found) == 1:
        return found[0]
    return "".join(each if isinstance(each, str) else each.text for each in found)
