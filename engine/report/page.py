"""The page of a report: one HTML file that needs nothing else, for screens and for paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

from noria.engine.config.in_force import SettingInForce
from noria.engine.report import charts, markup, words
from noria.engine.report.document import PassStory, SteeringStory, Story
from noria.engine.report.timeline import SizedObjects, TimeSlot
from noria.engine.terminal.figures import duration_text, size_text, time_text
from noria.engine.terminal.history_report import forecast_text, rates_text, what_text
from noria.engine.terminal.steering_report import asked_text
from noria.manifests.job.control import ControlKind
from noria.manifests.job.history import RecordKind

STEERING_SHOWN: Final = 200
"""Records; a script may have set a limit every minute."""


def page(story: Story) -> str:
    """The whole file."""
    return markup.document(f"Migration of {story.source}", _sections(story))


def _sections(story: Story) -> Iterator[str]:
    yield from _head(story)
    yield "<h2>What is proved</h2>"
    yield markup.item_list(words.proved(story))
    yield "<h2>What is not</h2>"
    yield markup.item_list(words.not_proved(story))
    yield from pictures(story.timeline, story.sizes)
    yield from _passes(story)
    yield from markup.counted(
        "Left out", "why", "entries", words.left_out(story.last.left_out, story.last.passed_over)
    )
    yield from markup.counted(
        "Attributes that differ", "how", "objects", words.changes(story.standing.changes)
    )
    yield from _failures(story)
    yield from _history(story)
    yield from steering(story.steering)
    yield from _settings(story)


def _head(story: Story) -> Iterator[str]:
    yield "<h1>Migration report</h1>"
    yield f"<p><code>{escape(story.source)}</code> &rarr; <code>{escape(story.target)}</code></p>"
    yield (
        f'<p class="soft">Made {time_text(story.made_seconds)} UTC by Noria '
        f"{escape(story.noria)} from <code>{escape(story.directory)}</code>, "
        f"job {escape(story.job)}</p>"
    )
    in_order, verdict = words.verdict(story)
    yield markup.verdict(in_order, verdict, words.state_line(story))
    yield markup.figures(words.figures(story))


def pictures(timeline: Sequence[TimeSlot], sizes: Sequence[SizedObjects]) -> Iterator[str]:
    """What landed when, how fast, and of which sizes."""
    if not timeline:
        return
    yield "<h2>When it moved, and how fast</h2>"
    slot = duration_text(timeline[0].seconds)
    for picture, caption in (
        (charts.throughput(timeline), f"Bytes a second, each bar {slot}; times are UTC."),
        (charts.object_rate(timeline), f"Objects a second, each bar {slot}."),
        (charts.by_size(sizes), "Objects (first bar) and bytes (second bar) by size."),
    ):
        yield f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"
    yield (
        '<p class="soft">By the receipts: a large object counts when it was whole, so one that '
        "took hours stands as one bar.</p>"
    )


def _passes(story: Story) -> Iterator[str]:
    yield "<h2>Passes</h2>"
    names = ("pass", "source listed", "last news", "entries", "to move", "sent", "failed", "ended")
    rows = [_pass_cells(each) for each in story.passes]
    yield markup.table(names, rows, numbers=range(3, 7))
    found = [rates_text(story.convergence), forecast_text(story.convergence)]
    for line in filter(None, found) if len(story.passes) > 1 else ():
        yield f"<p>{escape(line)}</p>"


def _pass_cells(each: PassStory) -> Sequence[str]:
    if each.phase != "finished":
        ended = each.phase
    elif each.reconciled:
        ended = "reconciled"
    else:
        found = ", ".join(f"{count:,} {name}" for name, count in each.differences.items())
        ended = f"not in order: {found or 'not compared'}"
    return (
        str(each.number),
        time_text(each.began_seconds),
        time_text(each.updated_seconds),
        f"{each.objects:,}",
        f"{each.objects_to_move:,} ({size_text(each.bytes_to_move)})",
        size_text(each.bytes_sent),
        f"{each.failed:,}",
        ended,
    )


def _failures(story: Story) -> Iterator[str]:
    found = words.causes(story)
    if not found:
        return
    yield from markup.counted("Failures", "cause", "entries", found)
    if story.failures:
        rows = [(each.name, each.cause, each.message) for each in story.failures]
        yield "<p>The first of the last pass; names are pseudonyms unless they were asked for:</p>"
        yield markup.table(("object", "cause", "message"), rows)
    yield (
        f"<p>All of them: <code>noria failures {escape(story.directory)} --show-keys</code>; "
        f"tried again by <code>noria retry {escape(story.directory)}</code>.</p>"
    )


def _history(story: Story) -> Iterator[str]:
    records: Sequence[dict[str, Any]] = story.history["records"]
    if not records:
        return
    yield "<h2>History</h2>"
    rows = [
        (
            str(record["number"]),
            _utc(record["at"]),
            record["by"],
            what_text(RecordKind(record["kind"]), record["facts"]),
        )
        for record in records
    ]
    yield markup.table(("", "when (UTC)", "who", "what"), rows)
    yield f"<p>Last digest: <code>{escape(str(story.history['head']))}</code></p>"


def steering(records: Sequence[SteeringStory]) -> Iterator[str]:
    """What people asked for, the last of it."""
    if not records:
        return
    yield "<h2>What was asked for while it ran</h2>"
    shown = records[-STEERING_SHOWN:]
    if (left := len(records) - len(shown)) > 0:
        yield f"<p>The last {len(shown)}; report.json has {left:,} more.</p>"
    rows = [
        (
            str(each.number),
            _utc(each.at),
            each.by,
            asked_text(ControlKind(each.kind), each.settings)
            + (f" until {_utc(each.until)}" if each.until else ""),
            each.reason or "",
        )
        for each in shown
    ]
    yield markup.table(("", "when (UTC)", "who", "what", "why"), rows)


def _utc(moment: str) -> str:
    return moment.replace("T", " ").removesuffix("Z")


def setting_rows(settings: Iterable[SettingInForce]) -> Iterator[tuple[str, str]]:
    """Each setting with its value and unit."""
    for each in settings:
        said = "-" if each.value is None else f"{each.value} {each.unit or ''}".rstrip()
        yield each.name, said


def _settings(story: Story) -> Iterator[str]:
    yield "<h2>Settings and versions</h2>"
    rows = [
        *setting_rows(story.settings),
        ("limits of the target", story.provider),
        ("checksum that the target verifies", story.checksum),
        ("driver", story.interpreter or "-"),
        ("this report", f"Noria {story.noria}, {story.machine}"),
        *((f"manifest of pass {each.number}, SHA-256", each.manifest_sha256)
          for each in story.passes),
    ]  # fmt: skip
    yield markup.table(("setting", "value"), rows)
    yield '<p class="soft">Settings that are not named have their defaults.</p>'
