"""Why an entry did not land, was left out, or landed otherwise; and why a run ended."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docs.reference.tables import table
from noria.engine.terminal.report import CHANGES, DAMAGE, PASSED_OVER, REASONS
from noria.manifests import errors
from noria.manifests.errors import Fatal, NoriaError, Retryable, Skippable
from noria.manifests.model import Reason

HEAD = """# Causes

Made from the errors and reasons that the code has. A cause is a short constant: it is in receipts
and in `failures.parquet`, in reports and in metrics. What to do about each:
[troubleshoot](../how-to/troubleshoot.md).

"""
KINDS = (
    (
        Retryable,
        "May pass",
        "The step is tried again, within `retry_seconds`. An entry that fails with it all the same "
        "is tried again by the next `noria run`.",
    ),
    (
        Skippable,
        "Of one object",
        "The job goes on. The entry is final, unless the last column says otherwise.",
    ),
    (Fatal, "Of the whole job", "The run stops, and can be resumed."),
)
_TREE_LINE = re.compile(r"[├└]── (\w+) {2,}(\S.*)")


def causes_page() -> str:
    """The text of reference/causes.md."""
    says = dict(_TREE_LINE.findall(errors.__doc__ or ""))
    parts = []
    for root, title, words in KINDS:
        rows: list[tuple[str, ...]] = [
            (_linked(kind.cause), says[kind.__name__], "yes" if kind.may_pass else "")
            for kind in own_causes(root)
        ]
        heads = ("cause", "meaning", "tried again by the next run")
        # What ends a run is not what becomes of an entry.
        columns = 2 if root is Fatal else 3
        parts.append(
            f"## {title} {{#{root.__name__.lower()}}}\n\n{words}\n\n"
            + table(heads[:columns], [row[:columns] for row in rows])
        )
    parts.append(
        "## Left out by the plan {#reasons}\n\nEach entry that the plan does not move has one. "
        "What was refused makes the exit code 1; what is left out by policy does not.\n\n"
        + table(
            ("reason", "meaning", "refused"),
            [
                (_linked(reason), REASONS[reason], "yes" if reason.refused else "by policy")
                for reason in Reason
            ],
        )
    )
    for title, anchor, words, texts in (
        ("Not in the plan at all", "passed-over", "Counted by the plan.", PASSED_OVER),
        ("Landed, but not as it was", "changes", "Counted in every report.", CHANGES),
        ("Found by verify", "damage", "Named until `noria retry` has sent it again.", DAMAGE),
    ):
        rows = [(_linked(name, anchor), text) for name, text in texts.items()]
        parts.append(f"## {title} {{#{anchor}}}\n\n{words}\n\n" + table(("name", "meaning"), rows))
    return HEAD + "\n".join(parts)


def own_causes(root: type[NoriaError]) -> Iterator[type[NoriaError]]:
    """The classes below `root` that have a cause of their own."""
    for child in root.__subclasses__():
        if "cause" in vars(child):
            yield child
        yield from own_causes(child)


def _linked(cause: str, family: str = "") -> str:
    """A cause, and where the way out is told."""
    anchor = family if family in ("passed-over", "changes") else cause
    return f"[`{cause}`](../how-to/troubleshoot.md#{anchor}){{#{family or 'cause'}-{cause}}}"
