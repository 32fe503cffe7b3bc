"""The text of a checkpoint: what a signature vouches for, line by line."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from noria.manifests.model import Level, Outcome, ReceiptSummary

FORMAT_LINE: Final = "noria-proof 1"
FIRST_PREVIOUS: Final = (0, "0" * 64)
RECONCILE_COUNTS: Final = (
    *("landed", "listed", "unsettled", "unplanned", "missing", "differing", "merged", "extra"),
)
MOVED: Final = "moved"
READ_BACK: Final = "read-back"
ROOT_BYTES: Final = 32
_TO_ESCAPE: Final = re.compile(rb"[^\x21-\x24\x26-\x7e]")
_ESCAPED: Final = re.compile(rb"%([0-9A-F]{2})")
_ORIGIN: Final = re.compile("noria/([0-9a-zA-Z._-]+)/([0-9]{6,})")
_ID: Final = re.compile("([0-9a-zA-Z._-]+)")
_HEX: Final = re.compile("([0-9a-f]{64})")
_NUMBER: Final = re.compile("(0|[1-9][0-9]*)")
_RECEIPTS: Final = re.compile(f"({MOVED}|{READ_BACK})")
_RECONCILED: Final = {"unknown": None, "yes": True, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is signed of a pass."""

    migration: str
    """The id of its first job."""
    number: int
    """Among the checkpoints of the migration, from 1."""
    size: int
    """Leaves."""
    root: bytes
    job: str
    """The id of the pass's job."""
    pass_number: int
    receipts: str = MOVED
    """MOVED or READ_BACK."""
    previous: tuple[int, str] = FIRST_PREVIOUS
    """Number of the checkpoint before, and the SHA-256 of its text."""
    source: str
    """Its location."""
    target: str
    manifest: str
    """Digest of the manifest."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """PassedOver -> rows of the listing."""
    sums: ReceiptSummary
    """Of the leaves, without the bytes that were moved."""
    last_receipt_ms: int
    reconciled: bool | None
    """None: not known."""
    reconcile: Mapping[str, int] = field(default_factory=dict)
    """RECONCILE_COUNTS; empty if the result is not known."""
    history: tuple[int, str] = FIRST_PREVIOUS
    """Number and digest of the last record of the history."""
    checker: str | None = None
    """SHA-256 of the checker that lies there, in hex."""
    version: str
    """Of Noria."""

    @property
    def origin(self) -> str:
        return f"noria/{self.migration}/{self.number:06d}"

    def encode(self) -> bytes:
        """The text, which is the same for the same values."""
        sums = self.sums
        outcomes = {
            each.value: f"{count} {sums.outcome_bytes.get(each, 0)}"
            for each, count in sums.outcomes.items()
        }
        reconciled = {value: word for word, value in _RECONCILED.items()}[self.reconciled]
        lines = [
            self.origin,
            str(self.size),
            base64.b64encode(self.root).decode(),
            FORMAT_LINE,
            f"job {self.job}",
            f"pass {self.pass_number}",
            f"receipts {self.receipts}",
            f"previous {self.previous[0]} {self.previous[1]}",
            f"source {_escaped(self.source)}",
            f"target {_escaped(self.target)}",
            f"manifest {self.manifest}",
            *_count_lines("passed-over", self.passed_over),
            *_count_lines("outcome", outcomes),
            *_count_lines("level", {each.value: count for each, count in sums.levels.items()}),
            *_count_lines("cause", sums.causes),
            *_count_lines("change", sums.changes),
            f"last-receipt {self.last_receipt_ms}",
            f"reconciled {reconciled}",
            *[f"reconcile {name} {count}" for name, count in self.reconcile.items()],
            f"history {self.history[0]} {self.history[1]}",
            *([] if self.checker is None else [f"checker {self.checker}"]),
            f"noria {_escaped(self.version)}",
        ]
        return "".join(f"{line}\n" for line in lines).encode()


def read_checkpoint(text: bytes) -> Checkpoint:
    """The checkpoint of a text. Raises ValueError if it is not just what encode() writes."""
    try:
        found = _read(_Lines(text.decode().split("\n")))
    except (LookupError, ValueError) as error:
        raise ValueError(f"the text is not a checkpoint of this format: {error}") from error
    if sum(found.sums.outcomes.values()) != found.size:
        raise ValueError("the outcomes of the checkpoint are not as many as its leaves")
    if found.encode() != text:
        raise ValueError("the checkpoint has other lines than its format, or in another order")
    return found


def _read(lines: _Lines) -> Checkpoint:
    migration, number = _matched(_ORIGIN, lines.next())
    size, root = _number(lines.next()), base64.b64decode(lines.next(), validate=True)
    if len(root) != ROOT_BYTES or lines.next() != FORMAT_LINE:
        raise ValueError("it is of another format, or its root is of another length")
    outcomes = {name: value.split(" ") for name, value in lines.named("outcome").items()}
    reconcile = _counts(lines.named("reconcile"))
    reconciled = _RECONCILED[lines.one("reconciled")]
    if tuple(reconcile) != (() if reconciled is None else RECONCILE_COUNTS):
        raise ValueError("it has other counts of a reconcile")
    checker = next(iter(lines.values("checker")), None)
    return Checkpoint(
        migration=migration,
        number=int(number),
        size=size,
        root=root,
        job=_matched(_ID, lines.one("job"))[0],
        pass_number=_number(lines.one("pass")),
        receipts=_matched(_RECEIPTS, lines.one("receipts"))[0],
        previous=_link(lines.one("previous")),
        source=_unescaped(lines.one("source")),
        target=_unescaped(lines.one("target")),
        manifest=_matched(_HEX, lines.one("manifest"))[0],
        passed_over=_counts(lines.named("passed-over")),
        sums=ReceiptSummary(
            outcomes={Outcome(name): _number(value[0]) for name, value in outcomes.items()},
            outcome_bytes={Outcome(name): _number(value[1]) for name, value in outcomes.items()},
            levels={Level(k): count for k, count in _counts(lines.named("level")).items()},
            causes=_counts(lines.named("cause")),
            changes=_counts(lines.named("change")),
        ),
        last_receipt_ms=_number(lines.one("last-receipt")),
        reconciled=reconciled,
        reconcile=reconcile,
        history=_link(lines.one("history")),
        checker=checker,
        version=_unescaped(lines.one("noria")),
    )


class _Lines:
    """The lines of a text: the first ones in turn, the others by the word they begin with."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._next = 0

    def next(self) -> str:
        self._next += 1
        return self._lines[self._next - 1]

    def values(self, word: str) -> list[str]:
        """What follows a word, in each line that begins with it."""
        lead = f"{word} "
        return [line.removeprefix(lead) for line in self._lines if line.startswith(lead)]

    def one(self, word: str) -> str:
        (value,) = self.values(word)
        return value

    def named(self, word: str) -> dict[str, str]:
        """Lines `WORD NAME VALUE`: name -> value."""
        parted = (value.partition(" ") for value in self.values(word))
        return {_unescaped(name): value for name, _, value in parted}


def _counts(values: Mapping[str, str]) -> dict[str, int]:
    return {name: _number(value) for name, value in values.items()}


def _count_lines(word: str, values: Mapping[str, object]) -> list[str]:
    named = sorted((_escaped(name), value) for name, value in values.items())
    return [f"{word} {name} {value}" for name, value in named]


def _number(text: str) -> int:
    return int(_matched(_NUMBER, text)[0])


def _link(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(" ")
    return _number(number), _matched(_HEX, digest)[0]


def _matched(form: re.Pattern[str], text: str) -> tuple[str, ...]:
    """The groups of a whole match. Raises ValueError."""
    found = form.fullmatch(text)
    if not found:
        raise ValueError(f"it says {text[:60]!r} where something else is expected")
    return found.groups()


def _escaped(text: str) -> str:
    """Printable ASCII without spaces."""
    return _TO_ESCAPE.sub(lambda sign: b"%%%02X" % ord(sign[0]), text.encode()).decode()


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda code: bytes([int(code[1], 16)]), text.encode()).decode()
