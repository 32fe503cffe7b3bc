"""The page of a report of many datasets: what all come to, and a line for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from noria.engine.report import fleet_words, markup, words
from noria.engine.report.fleet_document import DatasetStory, FleetStory
from noria.engine.report.markup import Cell, Link
from noria.engine.report.page import pictures, setting_rows, steering
from noria.engine.terminal.figures import size_text, time_text

_COLUMNS: Final = (
    "dataset", "stands", "passes", "objects", "bytes", "verified", "left out", "last news (UTC)"
)  # fmt: skip
_NUMBERS: Final = (2, 3, 4, 6)


def fleet_page(story: FleetStory) -> str:
    """The whole file. A dataset's name leads to its own report, datasets/NAME/report.html."""
    return markup.document(f"Migration of {len(story.datasets):,} datasets", _sections(story))


def _sections(story: FleetStory) -> Iterator[str]:
    yield from _head(story)
    yield from _open_matters(story)
    yield "<h2>What is proved</h2>"
    yield markup.item_list(fleet_words.proved(story))
    yield "<h2>What is not</h2>"
    yield markup.item_list(fleet_words.not_proved(story))
    yield from pictures(story.timeline, story.sizes)
    yield "<h2>Datasets</h2>"
    yield markup.table(_COLUMNS, map(_cells, story.datasets), numbers=_NUMBERS)
    left_out = words.left_out(story.left_out, story.passed_over)
    yield from markup.counted("Left out", "why", "entries", left_out)
    changes = words.changes(story.changes)
    yield from markup.counted("Attributes that differ", "how", "objects", changes)
    yield from steering(story.steering)
    yield from _settings(story)


def _head(story: FleetStory) -> Iterator[str]:
    yield "<h1>Migration report</h1>"
    yield (
        f'<p class="soft">Made {time_text(story.made_seconds)} UTC by Noria '
        f"{escape(story.noria)} from <code>{escape(story.directory)}</code></p>"
    )
    in_order, verdict = fleet_words.verdict(story)
    yield markup.verdict(in_order, verdict, fleet_words.state_line(story))
    yield markup.figures(fleet_words.figures(story))


def _open_matters(story: FleetStory) -> Iterator[str]:
    if not story.open_datasets:
        return
    yield "<h2>What a person has to look at</h2>"
    rows = [(_name(each), fleet_words.attention(each)) for each in story.open_datasets]
    yield markup.table(("dataset", "what"), rows)


def _cells(each: DatasetStory) -> Sequence[Cell]:
    left_out = sum(each.left_out.values()) + sum(each.passed_over.values())
    return (
        _name(each),
        fleet_words.stands(each),
        f"{each.passes:,}",
        f"{each.objects:,}",
        size_text(each.bytes),
        fleet_words.levels(each),
        f"{left_out:,}",
        "-" if each.updated_seconds is None else time_text(each.updated_seconds),
    )


def _name(each: DatasetStory) -> Cell:
    """One that nothing is known of has no report of its own."""
    return Link(each.name, f"datasets/{each.name}/report.html") if each.passes else each.name


def _settings(story: FleetStory) -> Iterator[str]:
    yield "<h2>Settings and versions</h2>"
    rows = [*setting_rows(story.settings), ("this report", f"Noria {story.noria}, {story.machine}")]
    yield markup.table(("setting", "value"), rows)
    yield (
        '<p class="soft">Settings that all datasets share; those of its ends, its history and the '
        "digests of its manifests are in each dataset's own report. Settings that are not named "
        "have their defaults.</p>"
    )
