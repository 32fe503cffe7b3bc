"""What a data protection officer asks for, as Markdown: each fact with where it comes from.

What Noria cannot know (purposes, people, contracts) is left open for a person, and said to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from noria.engine.report import words
from noria.engine.report.document import StoreFlow, Story
from noria.engine.retire import CHECKLIST
from noria.engine.terminal.figures import size_text, time_text
from noria.engine.terminal.history_report import what_text
from noria.manifests.job.history import RecordKind

OPEN: Final = "*to be filled in: Noria does not know it*"
_LOGS: Final = (
    ("log/noria.log", "what the driver said: starts, ends, errors by cause", "pseudonyms"),
    ("log/workers*.txt", "what workers said before a driver heard them", "pseudonyms"),
    ("history/", "who did what and when; records name each other by digest", "none"),
    ("sealed/, results/", "the receipts: one for each object, with its name", "names, as they are"),
    ("manifest/", "what was to be moved, with names and attributes", "names, as they are"),
    ("pseudonyms.key", "the secret that makes pseudonyms of names", "a secret"),
)


def evidence(story: Story) -> str:
    """The whole document."""
    return "\n".join(_lines(story)) + "\n"


def _lines(story: Story) -> Iterator[str]:
    yield "# Evidence for data protection"
    yield ""
    yield (
        f"Made {time_text(story.made_seconds)} UTC by Noria {story.noria} from the directory "
        f"of job {story.job}. Each fact names where it comes from; what is in italics is for a "
        "person to fill in."
    )
    yield from _record(story)
    yield from _flows(story)
    yield from _logging()
    yield from _integrity(story)
    yield from _deletion(story)


def _record(story: Story) -> Iterator[str]:
    yield from _heading("Record of processing (GDPR, Article 30)")
    history = story.history["records"]
    people = sorted({record["by"] for record in history})
    first, last = story.passes[0], story.passes[-1]
    yield from _table(
        ("what", "fact", "from"),
        [
            ("controller, representative, officer", OPEN, ""),
            ("processor and its contract", OPEN, ""),
            ("purpose", OPEN, ""),
            ("categories of people and of data", OPEN, ""),
            ("operation", "copy of objects from one store to another", "job.json"),
            ("from", _code(story.source), "job.json"),
            ("to", _code(story.target), "job.json"),
            ("objects at the target", f"{story.standing.objects:,}", "receipts"),
            ("bytes of these", f"{size_text(story.standing.bytes)}", "receipts"),
            ("first listing of the source", _when(first.began_seconds), "job.json"),
            ("last news", _when(last.updated_seconds), "status.json of the last pass"),
            ("run by", ", ".join(people) or "not recorded", "history/"),
            ("time limits for erasure at the source", OPEN, ""),
        ],
    )


def _flows(story: Story) -> Iterator[str]:
    yield from _heading("Flows")
    yield from _table(
        ("end", "place", "endpoint", "provider, region", "read", "written"),
        [
            (
                flow.end,
                _code(flow.place),
                _endpoint(flow),
                ", ".join(filter(None, (flow.provider, flow.region))),
                size_text(flow.bytes_read),
                size_text(flow.bytes_written),
            )
            for flow in story.flows
        ],
    )
    yield ""
    yield "From job.json and what workers counted (status.json of each pass)."
    yield ""
    yield "Encryption on the way, as it was negotiated for each connection that workers opened:"
    yield ""
    yield from _table(
        ("end", "TLS version, cipher", "connections"),
        [cells for flow in story.flows for cells in _connections(flow)],
    )
    yield ""
    yield (
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


def _logging() -> Iterator[str]:
    yield from _heading("Logging policy")
    yield from _table(("file", "what it holds", "names of objects"), _LOGS)
    yield ""
    yield from (
        "- Times are UTC, by the clocks of the machines; the driver compares them with the "
        "stores' own and says if they differ.",
        "- No secret is written. Names are replaced by pseudonyms in logs, plans and metrics; who "
        "has pseudonyms.key can tell which pseudonym belongs to a name that he knows.",
        "- noria.log is put aside at 10 MB, and five of those before it are kept; nothing else is "
        "removed by itself. How long the directory is kept: " + OPEN + ".",
        "- Files are readable as the umask and the folder say. Who may read the directory: "
        + OPEN
        + ".",
    )


def _integrity(story: Story) -> Iterator[str]:
    yield from _heading("Integrity: what is proved, and what is not")
    for line in words.proved(story):
        yield f"- {line}"
    yield ""
    for line in words.not_proved(story):
        yield f"- Not: {line}"
    if (digest := story.history["head"]) is not None:
        yield f"- Last digest of the history: {_code(str(digest))}"
    lost = [*words.left_out(story), *words.changes(story)]
    if lost:
        yield ""
        yield from _table(
            ("what was not carried", "how many"), [(what, f"{count:,}") for what, count in lost]
        )


def _deletion(story: Story) -> Iterator[str]:
    yield from _heading("Deletion at the source")
    retired = [each for each in story.history["records"] if each["kind"] == RecordKind.RETIRED]
    if not retired:
        yield (
            "The source has not been given up yet: `noria retire` records that, with what it still "
            "holds. Noria deletes nothing at a source."
        )
        return
    record = retired[-1]
    yield (
        f"{record['at']}: {what_text(RecordKind.RETIRED, record['facts'])} (history, record "
        f"{record['number']}, digest {record['digest']})."
    )
    yield ""
    yield "Noria has deleted nothing there. What a person has to see to, and to sign:"
    yield ""
    for each in CHECKLIST:
        yield f"- [ ] {each}"


def _heading(text: str) -> tuple[str, str, str]:
    return "", f"## {text}", ""


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield f"|{' --- |' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _code(text: str) -> str:
    return f"`{text.replace('`', '')}`"


def _when(seconds: float) -> str:
    return f"{time_text(seconds)} UTC"
