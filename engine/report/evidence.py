"""What a data protection officer asks for: each fact with where it comes from.

What Noria cannot know (purposes, people, contracts) is left open for a person, and said to be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from noria.engine.report import words
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
)
from noria.engine.report.document import StoreFlow, Story
from noria.engine.retire import CHECKLIST
from noria.engine.terminal.figures import size_text, time_text
from noria.engine.terminal.history_report import what_text
from noria.manifests.job.history import RecordKind

TITLE: Final = "Evidence for data protection"
OPEN: Final = Open("to be filled in: Noria does not know it")
_LOGS: Final = (
    ("log/noria.log", "what the driver said: starts, ends, errors by cause", "pseudonyms"),
    ("log/workers*.txt", "what workers said before a driver heard them", "pseudonyms"),
    ("history/", "who did what and when; records name each other by digest", "none"),
    ("sealed/, results/", "the receipts: one for each object, with its name", "names, as they are"),
    ("manifest/", "what was to be moved, with names and attributes", "names, as they are"),
    ("pseudonyms.key", "the secret that makes pseudonyms of names", "a secret"),
)


def evidence(story: Story) -> str:
    """The whole document, as Markdown."""
    return markdown(evidence_blocks(story))


def evidence_blocks(story: Story) -> Iterator[Block]:
    """The whole document."""
    yield Heading(1, TITLE)
    yield Paragraph(
        f"Made {time_text(story.made_seconds)} UTC by Noria {story.noria} from the directory "
        f"of job {story.job}. Each fact names where it comes from; what is in italics is for a "
        "person to fill in."
    )
    yield from _record(story)
    yield from _flows(story)
    yield from _logging()
    yield from _integrity(story)
    yield from _deletion(story)


def _record(story: Story) -> Iterator[Block]:
    yield Heading(2, "Record of processing (GDPR, Article 30)")
    history = story.history["records"]
    people = sorted({record["by"] for record in history})
    first, last = story.passes[0], story.passes[-1]
    yield FactTable(
        names=("what", "fact", "from"),
        widths=(4, 6, 3),
        rows=[
            ("controller, representative, officer", OPEN, ""),
            ("processor and its contract", OPEN, ""),
            ("purpose", OPEN, ""),
            ("categories of people and of data", OPEN, ""),
            ("operation", "copy of objects from one store to another", "job.json"),
            ("from", Code(story.source), "job.json"),
            ("to", Code(story.target), "job.json"),
            ("how it stands", words.verdict(story)[1], "status.json, reconcile.json, receipts"),
            ("objects at the target", f"{story.standing.objects:,}", "receipts"),
            ("bytes of these", f"{size_text(story.standing.bytes)}", "receipts"),
            ("first listing of the source", _when(first.began_seconds), "job.json"),
            ("last news", _when(last.updated_seconds), "status.json of the last pass"),
            ("run by", ", ".join(people) or "not recorded", "history/"),
            ("time limits for erasure at the source", OPEN, ""),
        ],
    )


def _flows(story: Story) -> Iterator[Block]:
    yield Heading(2, "Flows")
    yield FactTable(
        names=("end", "place", "endpoint", "provider, region", "read", "written"),
        widths=(3, 8, 7, 5, 4, 4),
        rows=[
            (
                flow.end,
                Code(flow.place),
                _endpoint(flow),
                ", ".join(filter(None, (flow.provider, flow.region))),
                size_text(flow.bytes_read),
                size_text(flow.bytes_written),
            )
            for flow in story.flows
        ],
    )
    yield Paragraph("From job.json and what workers counted (status.json of each pass).")
    yield Paragraph(
        "Encryption on the way, as it was negotiated for each connection that workers opened:"
    )
    yield FactTable(
        names=("end", "TLS version, cipher", "connections"),
        widths=(3, 8, 3),
        rows=[cells for flow in story.flows for cells in _connections(flow)],
    )
    yield Paragraph(
        "Bytes pass from socket to socket through the memory of workers, and are written to no "
        "disk between the two ends."
    )


def _endpoint(flow: StoreFlow) -> str:
    if flow.endpoint is not None:
        return flow.endpoint
    return "a file system" if flow.provider == "local" else "the provider's own"


def _connections(flow: StoreFlow) -> Iterator[tuple[str, str, str]]:
    if not flow.connections:
        yield flow.end, "none (a file system, or counted by no version of Noria then)", "-"
    for encryption, count in sorted(flow.connections.items()):
        said = "none: plain http" if encryption == "plain" else encryption
        yield flow.end, said, f"{count:,}"


def _logging() -> Iterator[Block]:
    yield Heading(2, "Logging policy")
    yield FactTable(
        names=("file", "what it holds", "names of objects"), widths=(4, 7, 3), rows=_LOGS
    )
    yield ItemList(
        items=(
            "Times are UTC, by the clocks of the machines; the driver compares them with the "
            "stores' own and says if they differ.",
            "No secret is written. Names are replaced by pseudonyms in logs, plans and metrics; "
            "who has pseudonyms.key can tell which pseudonym belongs to a name that he knows.",
            (
                "noria.log is put aside at 10 MB, and five of those before it are kept; nothing "
                "else is removed by itself. How long the directory is kept: ",
                OPEN,
                ".",
            ),
            (
                "Files are readable as the umask and the folder say. Who may read the directory: ",
                OPEN,
                ".",
            ),
        )
    )


def _integrity(story: Story) -> Iterator[Block]:
    yield Heading(2, "Integrity: what is proved, and what is not")
    if proved := list(words.proved(story)):
        yield ItemList(items=proved)
    items: list[Text] = [f"Not: {line}" for line in words.not_proved(story)]
    if (digest := story.history["head"]) is not None:
        items.append(("Last digest of the history: ", Code(str(digest))))
    yield ItemList(items=items)
    lost = [
        *words.left_out(story.last.left_out, story.last.passed_over),
        *words.changes(story.standing.changes),
    ]
    if lost:
        yield FactTable(
            names=("what was not carried", "how many"),
            widths=(5, 2),
            rows=[(what, f"{count:,}") for what, count in lost],
        )


def _deletion(story: Story) -> Iterator[Block]:
    yield Heading(2, "Deletion at the source")
    retired = [each for each in story.history["records"] if each["kind"] == RecordKind.RETIRED]
    if not retired:
        yield Paragraph(
            "The source has not been given up yet: `noria retire` records that, with what it still "
            "holds. Noria deletes nothing at a source."
        )
        return
    record = retired[-1]
    yield Paragraph(
        f"{record['at']}: {what_text(RecordKind.RETIRED, record['facts'])} (history, record "
        f"{record['number']}, digest {record['digest']})."
    )
    yield Paragraph("Noria has deleted nothing there. What a person has to see to, and to sign:")
    yield ItemList(items=CHECKLIST, to_tick=True)


def _when(seconds: float) -> str:
    return f"{time_text(seconds)} UTC"
