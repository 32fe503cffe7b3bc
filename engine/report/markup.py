"""What pages of a report consist of: a style for screens and paper, lists, tables, a verdict."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, TypeAlias

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1d252b; --soft: #5b6770;
  --line: #dde3e7; --card: #f5f7f8; --bar: #0b6e99; --other: #e0a13b; --good: #1b7f4b;
  --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #12181c; --ink: #e4e9ec; --soft: #9aa7b0;
  --line: #2c363d; --card: #1a2227; --bar: #4fb0d9; --other: #e0a13b; --good: #57c78a;
  --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; border-bottom: 1px solid var(--line);
  padding-bottom: .25rem; }
p { margin: .4rem 0; }
.soft { color: var(--soft); }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.verdict { border-left: .35rem solid var(--good); background: var(--card); padding: .8rem 1rem;
  margin: 1.25rem 0; }
.verdict.open { border-color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem;
  margin: 1rem 0; padding: 0; }
.figures div { background: var(--card); padding: .7rem .9rem; border-radius: .4rem; }
.figures dd { font-size: 1.4rem; font-weight: 600; margin: 0; }
.figures div { display: flex; flex-direction: column-reverse; }
.figures dt { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.number + :not(.number) { padding-left: .6rem; }
a { color: var(--bar); }
svg { width: 100%; height: auto; display: block; margin: .5rem 0; }
svg text { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--line); }
svg .bar { fill: var(--bar); } svg .bar.other { fill: var(--other); }
figure { margin: 1rem 0; } figcaption { color: var(--soft); font-size: .9rem; }
@page { size: A4; margin: 16mm 16mm 18mm; }
@media print { :root { --paper: #fff; --ink: #000; --soft: #444; --line: #ccc; --card: #f4f4f4;
  --bar: #0b6e99; --good: #1b7f4b; --bad: #b3261e; } body { padding: 0; max-width: none;
  font-size: 11pt; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; }
  li, .verdict, .figures { break-inside: avoid; }
  .verdict, .figures div { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .figures { grid-template-columns: repeat(3, 1fr); } h2 { margin-top: 1.75rem; }
  .wide { overflow: visible; } table { font-size: 9pt; }
  td:first-child + td:last-child { overflow-wrap: anywhere; } }
"""
_COMMAND: Final = re.compile("`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Link:
    """A cell that leads to another file."""

    text: str
    place: str
    """Beside the page, with / between folders."""


Cell: TypeAlias = str | Link


def document(title: str, sections: Iterable[str]) -> str:
    """The whole file. Nothing in it is loaded from elsewhere, and nothing in it runs."""
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def verdict(in_order: bool, said: str, more: str) -> str:
    """How it stands, before all else."""
    kind = "verdict" if in_order else "verdict open"
    return f'<div class="{kind}"><p><strong>{escape(said)}</strong></p><p>{escape(more)}</p></div>'


def figures(values: Iterable[tuple[str, str]]) -> str:
    """The largest numbers, each with what it is of."""
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for value, name in values
    )
    return f'<dl class="figures">{"".join(cells)}</dl>'


def counted(title: str, name: str, counted: str, rows: Sequence[tuple[str, int]]) -> Iterator[str]:
    """A heading, and a table of what there is how many of; nothing if there are no rows."""
    if rows:
        yield f"<h2>{title}</h2>"
        yield table((name, counted), [(what, f"{count:,}") for what, count in rows], numbers=(1,))


def item_list(lines: Iterable[str]) -> str:
    """Sentences, each an item; what stands in `backticks` is a command."""
    said = (_COMMAND.sub(r"<code>\1</code>", escape(line)) for line in lines)
    return f"<ul>{''.join(f'<li>{each}</li>' for each in said)}</ul>"


def table(
    names: Sequence[str], rows: Iterable[Sequence[Cell]], *, numbers: Iterable[int] = ()
) -> str:
    """Columns that `numbers` names are set to the right."""
    right = set(numbers)
    kinds = [' class="number"' if place in right else "" for place in range(len(names))]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for kind, name in zip(kinds, names, strict=True)
    )
    lines = (
        "".join(f"<td{kind}>{_cell(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    head, body = f"<thead><tr>{head}</tr></thead>", f"<tbody>{body}</tbody>"
    return f'<div class="wide"><table>{head}{body}</table></div>'


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        return f'<a href="{escape(cell.place)}">{escape(cell.text)}</a>'
    return escape(cell)
