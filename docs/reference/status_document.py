"""What `/status.json` of a running job holds, as the dataclasses that make it declare it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docs.reference.settings import declared
from docs.reference.tables import table
from noria.engine.convergence import MigrationFigures
from noria.engine.deadline import DeadlineForecast, DeadlineState
from noria.engine.status import Phase, SealedObjects
from noria.engine.watch.document import (
    SCHEMA,
    StatusDataset,
    StatusDocument,
    StatusError,
    StatusFinding,
    StatusHistory,
    StatusHost,
    StatusLimit,
    StatusProgress,
    StatusStore,
)

HEAD = f"""# Status document

Made from the code that serves it. A running job answers `/status.json` with this, beside its live
page: [watch a job](../how-to/watch.md). `schema` is `{SCHEMA}`; its number changes if a field
changes its meaning or goes. Fields may be added at any time: pass over what you do not know.

Times are Unix seconds, rates a mean over the last half minute, counts for the whole life of the
job. There is no object's name in it, and no credential. Before the first figures the answer is 503,
and `phase` is null; while a job is planned, `job` is empty.

`phase` is one of {", ".join(f"`{phase.value}`" for phase in Phase)}.
`deadline.state` is one of {", ".join(f"`{state.value}`" for state in DeadlineState)}.

"""
PARTS: dict[str, type] = {
    "": StatusDocument,
    "progress": StatusProgress,
    "deadline": DeadlineForecast,
    "hosts": StatusHost,
    "stores": StatusStore,
    "errors": StatusError,
    "findings": StatusFinding,
    "limits": StatusLimit,
    "datasets": StatusDataset,
    "migration": MigrationFigures,
    "sealed": SealedObjects,
    "history": StatusHistory,
}
"""Field of the document -> what it holds, or what each item of its list holds."""
_NUMBERS = re.compile(r"\b(int|float)\b")
_TEXTS = re.compile(r"\b(str|DeadlineState)\b")


def status_page() -> str:
    """The text of reference/status.md."""
    parts = []
    for name, kind in PARTS.items():
        title = f"## `{name}`" if name else "## The document {#document}"
        parts.append(f"{title}\n\n" + table(("field", "is", "meaning"), _rows(kind)))
    return HEAD + "\n".join(parts)


def _rows(kind: type) -> Iterator[tuple[str, str, str]]:
    annotations, meanings = declared(kind)
    for field, annotation in annotations.items():
        meaning = meanings.get(field, "").replace("None:", "null:")
        place = field if kind is StatusDocument and field in PARTS else None
        yield f"`{field}`", _words(annotation, place), meaning


def _words(annotation: str, place: str | None) -> str:
    """What a field is; `place` is the section of this page that tells it."""
    if place is not None:
        words = f"[see below](#{place})"
        words = f"list, {words}" if annotation.startswith("list") else words
    elif annotation.startswith("list[tuple"):
        words = "list of lists of numbers"
    else:
        inner = annotation.removeprefix("list[").removesuffix("]").removesuffix(" | None")
        words = "true or false" if inner == "bool" else _TEXTS.sub("text", inner)
        words = _NUMBERS.sub("number", words)
        words = f"list of {words}s" if annotation.startswith("list") else words
    return f"{words}, or null" if annotation.endswith("| None") else words
