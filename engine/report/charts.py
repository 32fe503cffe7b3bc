"""The pictures of a report, as SVG in the colours of the page around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from noria.engine.report.timeline import SizedObjects, TimeSlot
from noria.engine.terminal.figures import duration_text, size_text, time_text
from noria.manifests.count_text import count_text

WIDTH: Final = 920
HEIGHT: Final = 220
LEFT, RIGHT, TOP, BOTTOM = 76, 908, 16, 176
LINES: Final = 4
"""Of the grid."""
NARROWEST: Final = 1.0
"""Width of a bar."""


def throughput(slots: Sequence[TimeSlot]) -> str:
    """Bytes a second over time. `slots` are in order; between them nothing landed."""
    return _over_time(
        slots,
        [slot.bytes / slot.seconds for slot in slots],
        "Bytes a second that landed, over time",
        lambda rate: f"{size_text(rate)}/s",
    )


def object_rate(slots: Sequence[TimeSlot]) -> str:
    """Objects a second over time."""
    return _over_time(
        slots,
        [slot.objects / slot.seconds for slot in slots],
        "Objects a second that landed, over time",
        lambda rate: f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s",
    )


def by_size(classes: Sequence[SizedObjects]) -> str:
    """Share of the objects and of the bytes in each size class, side by side."""
    objects = sum(each.objects for each in classes) or 1
    amount = sum(each.bytes for each in classes) or 1
    step = (RIGHT - LEFT) / max(1, len(classes))
    most = max((max(each.objects / objects, each.bytes / amount) for each in classes), default=1)
    body = [*_grid(most, lambda share: f"{share:.0%}")]
    for place, each in enumerate(classes):
        left = LEFT + place * step
        held = f"{count_text(each.objects, 'object')}, {size_text(each.bytes)}"
        said = f"below {size_text(each.below)}: {held}"
        for share, offset, style in (
            (each.objects / objects, 0.12, "bar"),
            (each.bytes / amount, 0.5, "bar other"),
        ):
            body.append(
                _bar(left + offset * step, step * 0.36, share / most, style=style, says=said)
            )
        if place % max(1, len(classes) // 10) == 0:
            body.append(_text(left + step / 2, BOTTOM + 18, size_text(each.below), "middle"))
    body.append(_text((LEFT + RIGHT) / 2, BOTTOM + 36, "objects smaller than", "middle"))
    return _picture("Objects (first bar) and their bytes (second bar) by size", body)


def _over_time(
    slots: Sequence[TimeSlot], rates: Sequence[float], title: str, text_of: Callable[[float], str]
) -> str:
    first = slots[0].begins if slots else 0
    end = slots[-1].begins + slots[-1].seconds if slots else 1
    most = max(rates, default=0.0) or 1.0
    body = [*_grid(most, text_of)]
    for slot, rate in zip(slots, rates, strict=True):
        left = LEFT + (RIGHT - LEFT) * (slot.begins - first) / (end - first)
        width = max(NARROWEST, (RIGHT - LEFT) * slot.seconds / (end - first))
        says = f"{time_text(slot.begins)}, {duration_text(slot.seconds)}: {text_of(rate)}"
        body.append(_bar(left, width, rate / most, style="bar", says=says))
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        at = first + (end - first) * share
        body.append(_text(LEFT + (RIGHT - LEFT) * share, BOTTOM + 18, time_text(at), anchor))
    return _picture(title, body)


def _grid(most: float, text_of: Callable[[float], str]) -> Iterator[str]:
    for line in range(LINES + 1):
        y = BOTTOM - (BOTTOM - TOP) * line / LINES
        yield f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(LEFT - 8, y + 4, text_of(most * line / LINES), "end")


def _bar(left: float, width: float, share: float, *, style: str, says: str) -> str:
    """Its top is at `share` of the height."""
    height = (BOTTOM - TOP) * share
    return (
        f'<rect class="{style}" x="{left:.2f}" y="{BOTTOM - height:.2f}" width="{width:.2f}" '
        f'height="{height:.2f}"><title>{says}</title></rect>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _picture(title: str, body: Sequence[str]) -> str:
    lines = "\n".join(body)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">\n{lines}\n</svg>'
