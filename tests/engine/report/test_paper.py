"""The PDF of the evidence says what its Markdown says, on pages of A4."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from pypdf import PageObject, PdfReader

from noria.engine.report.blocks import (
    Block,
    Code,
    FactTable,
    Heading,
    ItemList,
    Open,
    Paragraph,
    Text,
    markdown,
    pieces,
)
from noria.engine.report.document import tell
from noria.engine.report.evidence import evidence_blocks
from noria.engine.report.paper import paper
from noria.engine.retire import retire
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration

FOOT = "the foot of a page"
A4_POINTS = (595, 842)


def printed(blocks: Iterable[Block], made_seconds: float = 1.0) -> bytes:
    return paper(blocks, title="A title", foot=FOOT, maker="Noria", made_seconds=made_seconds)


def read(data: bytes, foot: str = FOOT) -> tuple[PdfReader, str]:
    """The file, and what its pages say without their feet and without white space."""
    reader = PdfReader(io.BytesIO(data))
    said = ""
    for number, page in enumerate(reader.pages, start=1):
        text = squeezed(page.extract_text())
        end = squeezed(f"{foot}{number}/{len(reader.pages)}")
        assert text.endswith(end)
        said += text.removesuffix(end)
    return reader, said


def squeezed(text: str) -> str:
    return "".join(text.split())


def texts(blocks: Iterable[Block]) -> Iterator[Text]:
    """All that is to be read, in order."""
    for block in blocks:
        match block:
            case Heading(text=text) | Paragraph(text=text):
                yield text
            case ItemList():
                yield from block.items
            case FactTable():
                yield from block.names
                for row in block.rows:
                    yield from row


def plain(text: Text) -> str:
    return "".join(piece if isinstance(piece, str) else piece.text for piece in pieces(text))


def headings(reader: PdfReader) -> Iterator[str]:
    for entry in reader.outline:
        inner = entry if isinstance(entry, list) else [entry]
        yield from (str(each.title) for each in inner if not isinstance(each, list))


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path / "Überführung")
    migration.copy({"a": "first", "d/secret-name": "second"})
    return migration


def test_the_command_writes_what_the_markdown_says(move: LocalMigration) -> None:
    move.switch()
    retire(move.migration, "Ann", move.said.append)
    code, out, err = noria("report", move.root)
    assert code == 0, err
    assert f"written: {move.root / 'evidence.pdf'}" in out
    data = (move.root / "evidence.pdf").read_bytes()
    story = tell(move.root, show_keys=False)
    reader, said = read(data, f"Evidence for data protection, job {story.job}")
    assert said.count("☐") == 5
    said = said.replace("☐", "").replace("•", "")
    at = 0
    for text in list(texts(evidence_blocks(story)))[2:]:  # the second says when it was made
        words = squeezed(plain(text))
        assert words in said[at:], text
        at = said.index(words, at) + len(words)
    assert "secret-name" not in said
    titles = [
        line.lstrip("# ")
        for line in (move.root / "evidence.md").read_text().splitlines()
        if line.startswith("#")
    ]
    assert list(headings(reader)) == titles
    assert len(titles) == 6


def test_pages_are_a4_and_have_a_title_and_a_date() -> None:
    reader, _ = read(printed([Heading(1, "A"), *[Paragraph("word " * 200)] * 12], 86_400.5))
    assert len(reader.pages) > 1
    for page in reader.pages:
        assert tuple(map(round, page.mediabox[2:])) == A4_POINTS
    found = reader.metadata
    assert found is not None
    assert (found.title, found.author) == ("A title", "Noria")
    assert found.creation_date is not None
    assert found.creation_date.timestamp() == 86_400


def test_the_same_blocks_give_the_same_bytes() -> None:
    blocks: list[Block] = [Heading(1, "A"), Paragraph(("a ", Code("b"), Open("c")))]
    assert printed(blocks) == printed(blocks)
    assert printed(blocks) != printed(blocks, 2.0)


def test_what_the_fonts_lack_stands_as_its_number_and_nothing_is_dropped() -> None:
    name = "Zürich Ελλάδα Київ 東京 a\x00b\nc"
    blocks: list[Block] = [
        Heading(1, "A"),
        FactTable(
            names=("a", "b"),
            widths=(1, 1),
            rows=[(name, Code(name)), (Open(name), ("y ", Open("z")))],
        ),
        Paragraph((name, Code(name))),
        ItemList(items=[name]),
    ]
    _, said = read(printed(blocks))
    assert said.count(r"ZürichΕλλάδαКиїв\u6771\u4eaca\x00b\nc") == 6
    assert "yz" in said


@pytest.mark.parametrize("sign", ["W", "i", "東", "w "])
def test_no_text_is_too_long(sign: str) -> None:
    long = sign * 4000
    blocks: list[Block] = [
        Heading(1, "A"),
        FactTable(names=("a", "b"), widths=(1, 3), rows=[(long, Code(long)), (Open("o"), long)]),
        Paragraph(long),
        ItemList(items=[long, (long, Code(long))]),
        Heading(2, "the end"),
    ]
    reader, said = read(printed(blocks))
    shown = squeezed(sign) if sign != "東" else "\\"  # \u6771, which a row may take apart
    assert said.count(shown) == 7 * 4000
    assert said.endswith("theend")
    assert "x" not in said
    for page in reader.pages:
        assert max(starts(page)) < A4_POINTS[0] - 40


def starts(page: PageObject) -> list[float]:
    """Where pieces of text begin, from the left, in points."""
    found: list[float] = []

    def see(text: str, matrix: object, at: Sequence[float], font: object, size: object) -> None:
        found.append(at[4])

    page.extract_text(visitor_text=see)
    return found


def test_without_what_makes_it_the_rest_is_written(
    move: LocalMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("fpdf", "matplotlib"):
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "noria.engine.report.paper", raising=False)
            patch.setitem(sys.modules, "fpdf", sys.modules["fpdf"])
            if module == "fpdf":
                patch.setitem(sys.modules, "fpdf", None)
            else:
                patch.setattr("importlib.util.find_spec", lambda name: None)
            code, out, err = noria("report", move.root)
        assert code == 0, err
        assert "for evidence.pdf as well: pip install 'noria[pdf]'" in out
        assert (move.root / "evidence.md").exists()
        assert not (move.root / "evidence.pdf").exists()


def test_markdown_has_every_kind_of_block() -> None:
    text = markdown(
        [
            Heading(2, "h"),
            Paragraph(("a ", Code("b`c"), Open("d"))),
            ItemList(items=["x", Open("y")]),
            ItemList(items=["z"], to_tick=True),
            FactTable(names=("m", "n"), widths=(1, 1), rows=[("1|2", Code("3"))]),
        ]
    )
    assert text == (
        "## h\n\na `bc`*d*\n\n- x\n- *y*\n\n- [ ] z\n\n| m | n |\n| --- | --- |\n| 1\\|2 | `3` |\n"
    )
