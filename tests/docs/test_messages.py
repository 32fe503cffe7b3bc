"""Each warning, and each refusal of a step, is explained where people look for its words.

A row of the page quotes words that the message has. `…` stands for what differs from one time to
the next.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/pages/how-to/troubleshoot.md"
PACKAGES = ("engine", "manifests", "workers")
LOGGERS = ("log", "_LOGGER")
LEVELS = ("warning", "error", "exception", "critical")
RELAYED = Counter(
    {
        "engine/cluster/ray.py": 2,  # what the gateway's own process says, which logs it first
        "engine/fleet/running.py": 1,  # why a dataset is refused: an error, with a cause
        "engine/live_settings.py": 1,  # a setting and who gave it, which is all there is to say
    }
)
"""Where a message is handed on whose words are made elsewhere, and how often."""
_PLACE = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[sdrf]")
_ROW = re.compile(r"^\| `([^`]+)`\{#(log|step)-[\w-]+\} \| \S", re.MULTILINE)


@cache
def trees() -> dict[str, ast.Module]:
    files = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in files}


def calls(kind: str) -> Iterator[tuple[str, ast.expr]]:
    """The file, and the first argument, of each call that says something to people."""
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            called = node.func
            if kind == "step":
                says = isinstance(called, ast.Name) and called.id == "StepRefused"
            else:
                says = (
                    isinstance(called, ast.Attribute)
                    and called.attr in LEVELS
                    and isinstance(called.value, ast.Name)
                    and called.value.id in LOGGERS
                )
            if says:
                yield file, node.args[0]


def words(argument: ast.expr) -> str:
    """The message, with … for what it is filled with."""
    match argument:
        case ast.Constant(value=str(text)):
            return _PLACE.sub("…", text)
        case ast.JoinedStr(values=parts):
            return "".join(words(part) for part in parts)
        case _:
            return "…"


def unexplained(messages: Sequence[str], rows: Sequence[str]) -> list[str]:
    return [message for message in messages if explanation(message, rows) is None]


def explanation(message: str, rows: Sequence[str]) -> str | None:
    """The row with the most words of the message."""
    return max((row for row in rows if row in message), key=len, default=None)


def rows_of(kind: str) -> list[str]:
    return [text for text, of in _ROW.findall(PAGE.read_text()) if of == kind]


def messages_of(kind: str) -> list[str]:
    said = (words(argument) for _, argument in calls(kind))
    return [message for message in said if message != "…"]


@pytest.mark.parametrize("kind", ["log", "step"])
def test_every_message_has_its_entry(kind: str) -> None:
    messages, rows = messages_of(kind), rows_of(kind)
    assert len(messages) >= 15
    assert unexplained(messages, rows) == [], f"write a row for it in {PAGE.relative_to(ROOT)}"
    used = {explanation(message, rows) for message in messages}
    assert [row for row in rows if row not in used] == [], "no message has these words"
    assert len(rows) == len(set(rows))


def test_what_is_handed_on_is_known() -> None:
    found = Counter(file for file, argument in calls("log") if words(argument) == "…")
    assert found == RELAYED
    assert all(words(argument) != "…" for _, argument in calls("step"))


def test_a_new_message_would_be_missed() -> None:
    argument = ast.parse('log.warning("a new trouble of %s: %s", 1, 2)', mode="eval").body
    assert isinstance(argument, ast.Call)
    message = words(argument.args[0])
    assert message == "a new trouble of …: …"
    assert unexplained([message], rows_of("log")) == [message]
