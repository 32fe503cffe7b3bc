"""The page of a report: one HTML file that needs nothing else, for screens and for paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

from noria.engine.report import charts, words
from noria.engine.report.document import PassStory, Story
from noria.engine.terminal.figures import duration_text, size_text, time_text
from noria.engine.terminal.history_report import forecast_text, rates_text, what_text
from noria.engine.terminal.steering_report import asked_text
from noria.manifests.job.control import ControlKind
from noria.manifests.job.history import RecordKind

STEERING_SHOWN: Final = 200
"""Records; a script may have set a limit every minute."""

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


def page(story: Story) -> str:
    """The whole file. Nothing in it is loaded from elsewhere, and nothing in it runs."""
    body = "\n".join(_sections(story))
    title = f"Migration of {story.source}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _sections(story: Story) -> Iterator[str]:
    yield from _head(story)
    yield "<h2>What is proved</h2>"
    yield _list(words.proved(story))
    yield "<h2>What is not</h2>"
    yield _list(words.not_proved(story))
    yield from _pictures(story)
    yield from _passes(story)
    yield from _counted("Left out", "why", "entries", words.left_out(story))
    yield from _counted("Attributes that differ", "how", "objects", words.changes(story))
    yield from _failures(story)
    yield from _history(story)
    yield from _steering(story)
    yield from _settings(story)


def _head(story: Story) -> Iterator[str]:
    in_order, verdict = words.verdict(story)
    yield "<h1>Migration report</h1>"
    yield f"<p><code>{escape(story.source)}</code> &rarr; <code>{escape(story.target)}</code></p>"
    yield (
        f'<p class="soft">Made {time_text(story.made_seconds)} UTC by Noria '
        f"{escape(story.noria)} from <code>{escape(story.directory)}</code>, "
        f"job {escape(story.job)}</p>"
    )
    kind = "verdict" if in_order else "verdict open"
    yield (
        f'<div class="{kind}"><p><strong>{escape(verdict)}</strong></p>'
        f"<p>{escape(words.state_line(story))}</p></div>"
    )
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for value, name in words.figures(story)
    )
    yield f'<dl class="figures">{"".join(cells)}</dl>'


def _pictures(story: Story) -> Iterator[str]:
    if not story.timeline:
        return
    yield "<h2>When it moved, and how fast</h2>"
    slot = duration_text(story.timeline[0].seconds)
    for picture, caption in (
        (charts.throughput(story.timeline), f"Bytes a second, each bar {slot}; times are UTC."),
        (charts.object_rate(story.timeline), f"Objects a second, each bar {slot}."),
        (charts.by_size(story.sizes), "Objects (first bar) and bytes (second bar) by size."),
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
    yield _table(names, rows, numbers=range(3, 7))
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
    yield from _counted("Failures", "cause", "entries", found)
    if story.failures:
        rows = [(each.name, each.cause, each.message) for each in story.failures]
        yield "<p>The first of the last pass; names are pseudonyms unless they were asked for:</p>"
        yield _table(("object", "cause", "message"), rows)
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
    yield _table(("", "when (UTC)", "who", "what"), rows)
    yield f"<p>Last digest: <code>{escape(str(story.history['head']))}</code></p>"


def _steering(story: Story) -> Iterator[str]:
    if not story.steering:
        return
    yield "<h2>What was asked for while it ran</h2>"
    shown = story.steering[-STEERING_SHOWN:]
    if (left := len(story.steering) - len(shown)) > 0:
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
    yield _table(("", "when (UTC)", "who", "what", "why"), rows)


def _utc(moment: str) -> str:
    return moment.replace("T", " ").removesuffix("Z")


def _settings(story: Story) -> Iterator[str]:
    yield "<h2>Settings and versions</h2>"
    rows = [
        (each.name, "-" if each.value is None else f"{each.value} {each.unit or ''}".rstrip())
        for each in story.settings
    ]
    rows += [
        ("limits of the target", story.provider),
        ("checksum that the target verifies", story.checksum),
        ("driver", story.interpreter or "-"),
        ("this report", f"Noria {story.noria}, {story.machine}"),
        *((f"manifest of pass {each.number}, SHA-256", each.manifest_sha256)
          for each in story.passes),
    ]  # fmt: skip
    yield _table(("setting", "value"), rows)
    yield '<p class="soft">Settings that are not named have their defaults.</p>'


def _counted(title: str, name: str, counted: str, rows: Sequence[tuple[str, int]]) -> Iterator[str]:
    if rows:
        yield f"<h2>{title}</h2>"
        yield _table((name, counted), [(what, f"{count:,}") for what, count in rows], numbers=(1,))


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _table(
    names: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Iterable[int] = ()
) -> str:
    """Columns that `numbers` names are set to the right."""
    kinds = [' class="number"' if place in set(numbers) else "" for place in range(len(names))]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for kind, name in zip(kinds, names, strict=True)
    )
    lines = (
        "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    head, body = f"<thead><tr>{head}</tr></thead>", f"<tbody>{body}</tbody>"
    return f'<div class="wide"><table>{head}{body}</table></div>'
