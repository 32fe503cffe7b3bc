"""The picture of an estimate, as SVG: days by workers and bandwidth, and the sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from noria.engine.estimate.counts import SizeBin
from noria.engine.estimate.estimate import Estimate, WhatIf

WIDTH, HEIGHT = 960, 400
INK, GRID = "#333333", "#e3e6e8"
COLOURS: Final = ("#0b6e99", "#e07b39", "#5b8c5a", "#8e5ea2", "#c0392b")
TOP, BOTTOM = 84, 340
LEFT, MIDDLE = 70, 470
"""Of the curves; the bars begin right of them."""
MARKS: Final = (
    *(seconds / 86_400 for seconds in (1, 10, 60, 600, 3600, 4 * 3600)),
    *(1.0, 4.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 10_000.0, 100_000.0),
)
"""Days of the axis of time."""
BARS_LEFT, RIGHT = 590, 930


def draw(found: Estimate, title: str) -> str:
    """The picture as text."""
    body = "\n".join((*_curves(found.table), *_bars(found.counts.classes)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n'
        f'<text x="20" y="28" font-size="16" font-weight="bold">{escape(title)}</text>\n'
        f"{body}\n</svg>\n"
    )


def _curves(table: Sequence[WhatIf]) -> Iterator[str]:
    yield _text(LEFT, 54, "How long it takes, by workers and bandwidth", weight="bold")
    days = [each.days for each in table]
    marks = _marks(min(days), max(days))
    low, high = math.log10(marks[0]), math.log10(marks[-1])
    workers = sorted({each.means.workers for each in table})
    places = {
        count: LEFT + (MIDDLE - LEFT) * place / max(1, len(workers) - 1)
        for place, count in enumerate(workers)
    }

    def height(value: float) -> float:
        share = (math.log10(max(value, 1e-9)) - low) / (high - low)
        return BOTTOM - (BOTTOM - TOP) * share

    for mark in marks:
        y = height(mark)
        yield _line(LEFT, y, MIDDLE, y)
        yield _text(LEFT - 8, y + 4, _days_text(mark), anchor="end")
    for count, x in places.items():
        yield _text(x, BOTTOM + 18, f"{count:,}", anchor="middle")
    yield _text((LEFT + MIDDLE) / 2, BOTTOM + 38, "workers", anchor="middle")
    labels: list[float] = []
    for number, rate in enumerate(dict.fromkeys(each.means.bandwidth for each in table)):
        line = [each for each in table if each.means.bandwidth == rate]
        points = [(places[each.means.workers], height(each.days)) for each in line]
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for x, y in points:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
        y = _free(points[-1][1], labels)
        yield _text(MIDDLE + 8, y + 4, _rate_text(rate), colour=colour)


def _bars(classes: Sequence[SizeBin]) -> Iterator[str]:
    yield _text(BARS_LEFT, 54, "Objects by size (dark) and their bytes (light)", weight="bold")
    yield _line(BARS_LEFT, BOTTOM, RIGHT, BOTTOM)
    if not classes:
        return
    first = min(each.below.bit_length() for each in classes)
    last = max(each.below.bit_length() for each in classes)
    step = (RIGHT - BARS_LEFT) / (last - first + 1)
    objects = max(each.objects for each in classes)
    size = max(1, *(each.bytes for each in classes))
    for each in classes:
        x = BARS_LEFT + step * (each.below.bit_length() - first)
        for offset, share, colour in (
            (0.1, each.objects / objects, COLOURS[0]),
            (0.5, each.bytes / size, "#9fc9dc"),
        ):
            tall = max(1.0, (BOTTOM - TOP) * share)
            yield (
                f'<rect x="{x + offset * step:.1f}" y="{BOTTOM - tall:.1f}" '
                f'width="{0.38 * step:.1f}" height="{tall:.1f}" fill="{colour}"/>'
            )
    every = -(-(last - first + 1) // 6)
    for bits in range(first, last + 1, every):
        x = BARS_LEFT + step * (bits - first + 0.5)
        yield _text(x, BOTTOM + 18, _size_text(1 << (bits - 1)), anchor="middle")
    yield _text((BARS_LEFT + RIGHT) / 2, BOTTOM + 38, "size below", anchor="middle")


def _free(y: float, taken: list[float]) -> float:
    """The next place at y or above it, where no label stands within 14 units."""
    while any(abs(y - other) < 14 for other in taken):
        y -= 1
    taken.append(y)
    return y


def _marks(low: float, high: float) -> Sequence[float]:
    """The marks of the axis, in days: those between low and high, and one beyond each."""
    first = max((mark for mark in MARKS if mark <= low), default=MARKS[0])
    last = min((mark for mark in MARKS if mark >= high and mark > first), default=MARKS[-1])
    return [mark for mark in MARKS if first <= mark <= last]


def _days_text(days: float) -> str:
    for unit, length in (("d", 1.0), ("h", 1 / 24), ("min", 1 / 1440)):
        if days >= length:
            return f"{days / length:,.0f} {unit}"
    return f"{days * 86_400:.0f} s"


def _rate_text(rate: float | None) -> str:
    if rate is None:
        return "no limit"
    return f"{rate / 1e9:.3g} GB/s" if rate >= 1e9 else f"{rate / 1e6:.3g} MB/s"


def _size_text(size: int) -> str:
    place = (size.bit_length() - 1) // 10
    return f"{size >> 10 * place} {('B', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei')[place]}"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{GRID}" '
        'stroke-width="1"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = INK,
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )
