"""A migration's history and its passes: the JSON document for programs, and lines for people."""

from __future__ import annotations

import math
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from noria.engine.convergence import (
    Figure,
    Freeze,
    Obstacle,
    PassSummary,
    SyncAction,
    SyncStep,
    convergence,
    forecast,
    is_growing,
    missing_passes,
)
from noria.engine.terminal.figures import duration_text, size_text, time_text
from noria.engine.terminal.verification_text import verification_text
from noria.manifests.count_text import count_text
from noria.manifests.job.cutover_states import MigrationState, standing, state_text
from noria.manifests.job.history import PASS, Fact, Record, RecordKind, head

DIGEST_SHOWN = 12
"""Letters of a digest that a table shows."""
WHAT = {
    RecordKind.PLANNED: "a pass is being planned",
    RecordKind.PASS_ENDED: "a pass ended",
    RecordKind.WITHDRAWN: "a pass is withdrawn: it had moved nothing",
    RecordKind.CONVERGING: "passes follow each other from here",
    RecordKind.FROZEN: "the source is frozen",
    RecordKind.PROVING: "the target is being compared with the source",
    RecordKind.PROVED: "the target has what the source has",
    RecordKind.APPROVED: "the switch is approved",
    RecordKind.SWITCHED: "the target is in use",
    RecordKind.GRACE: "the source is kept, in grace",
    RecordKind.ROLLED_BACK: "the source is in use again",
    RecordKind.RETIRED: "the source is not needed any longer",
    RecordKind.VERIFIED: "what stands was read back",
    RecordKind.STOPPED: "a step stopped before its end",
}
_OF_A_PASS = ("new_objects", "changed_objects", "gone_objects", "bytes_moved", "failed")
_OBJECTS = ("objects", "source_objects")
_FACTS = {
    "new_objects": "{} new",
    "changed_objects": "{} changed",
    "gone_objects": "{} gone",
    "bytes_moved": "{} moved",
    "failed": "{} failed",
    "command": "by {}",
    "output": "what it printed is in {}",
    "apart_seconds": "two equal listings {} apart",
    "objects": "{}",
    "bytes": "{}",
    "reread": "{} read back",
    "extra": "{} of others at the target",
    "filtered": "{} filtered out",
    "gone_at_source": "{} gone at the source",
    "gone_at_both": "{} of them gone at the target as well",
    "name": "by {}",
    "key": "signed with key {}",
    "moved_objects": "{} moved to the source",
    "deleted_objects": "{} deleted there",
    "way_back": "as in ways-back/{}",
    "confirmed_by": "by {}",
    "source_objects": "{} still there",
    "source_bytes": "{}",
    "source_versions": "{} older versions",
    "source_snapshots": "{} snapshots",
    "source_deleted": "{} soft-deleted",
    "source_retention": "kept from deletion: {}",
    "reason": "{}",
}
"""How facts are said; one that is 0 says nothing. Others are said by their names."""
_IN_JSON_ALONE = {
    *("evidence", "exit_code", "output_sha256", "seconds", "signature", "state", "switched"),
    *("differing", "missing", "listed_at_target", PASS),
    *("source_version_bytes", "source_snapshot_bytes", "source_deleted_bytes", "source_locks"),
}
"""Facts that a line leaves out."""
_OBSTACLES = {
    Obstacle.UNMOVED: "objects that did not move keep the lag as old as they are: see "
    "`noria failures`",
    Obstacle.CHANGES_TOO_FAST: "the source changes faster than passes move what has changed: the "
    "lag grows with each; give them more workers or more bandwidth",
}
_UNITS = ((120, 1, "s"), (36_000, 60, "min"), (864_000, 3600, "h"), (math.inf, 86_400, "d"))
"""Up to how many seconds a unit is used, how many it has, and its name."""


# -- the history -----------------------------------------------------------------------------------


def history_summary(records: Sequence[Record], root: Path) -> dict[str, Any]:
    """The document of `noria history --json`."""
    return {
        "directory": str(root),
        "state": standing(records).state.value,
        "head": head(records),
        "records": [asdict(record) for record in records],
    }


def print_history(summary: Mapping[str, Any]) -> None:
    print("\n".join(history_lines(summary, _columns())))


def history_lines(summary: Mapping[str, Any], columns: int | None) -> Iterator[str]:
    """A line for each record, or two if lines of `columns` are too short. None: any length."""
    if not summary["records"]:
        yield f"{summary['directory']} has no history yet: no pass was recorded"
        return
    records = summary["records"]
    rows = [
        (
            str(record["number"]),
            record["at"].replace("T", " ").removesuffix("Z"),
            record["digest"][:DIGEST_SHOWN],
            record["by"],
        )
        for record in records
    ]
    names = ("", "when (UTC)", "digest", "who")
    keys = Counter[str | None](record.get("key") for record in records)
    said = [
        what_text(record["kind"], record["facts"])
        + ("; not signed" if record.get("key") is None and keys.keys() != {None} else "")
        for record in records
    ]
    lines = list(_table(names, rows, "what", said))
    if columns is not None and max(map(len, lines)) > columns:
        said = [f"{row[-1]}: {text}" for row, text in zip(rows, said, strict=True)]
        lines = list(_table(names[:-1], [row[:-1] for row in rows], "what", said, columns))
    yield from lines
    if {record["kind"] for record in records} != {RecordKind.VERIFIED}:  # a job without passes
        yield f"this migration is {state_text(MigrationState(summary['state']))}"
    yield from _folded(_signed_text(keys), columns)
    yield from _folded(
        "write down the last digest: as long as a history has it, nothing up to it was changed",
        columns,
    )
    yield summary["head"]


def _signed_text(keys: Mapping[str | None, int]) -> str:
    """How many records are signed, and by which keys; None stands for those that are not."""
    unsigned = keys.get(None, 0)
    signed = [
        f"{count_text(count, 'record')} signed with key {key[:DIGEST_SHOWN]}"
        for key, count in keys.items()
        if key is not None
    ]
    if not signed:
        return "no record is signed: --signing-key FILE signs those to come"
    return ", ".join([*signed, f"{unsigned:,} not signed"] if unsigned else signed)


def what_text(kind: RecordKind, facts: Mapping[str, Fact]) -> str:
    """What happened, in words, then its facts: the source is frozen: by chmod.

    Of a pass that ended, its table says more: here are the most important ones.
    """
    happened = WHAT[kind]
    if kind is RecordKind.VERIFIED:
        return f"{happened}: {verification_text(facts)}"
    if facts.get(PASS) is not None:
        happened = happened.replace("a pass", f"pass {facts[PASS]}")
    shown = (
        _OF_A_PASS
        if kind is RecordKind.PASS_ENDED
        else sorted(facts.keys() - _IN_JSON_ALONE, key=_place)
    )
    said = [_fact_text(name, facts[name]) for name in shown if facts.get(name) is not None]
    if kind is RecordKind.PASS_ENDED and not any(said):
        said = ["nothing new"]
    return ": ".join(filter(None, [happened, ", ".join(filter(None, said))]))


def _place(name: str) -> tuple[int, str]:
    """Known facts in the order of their table, then the others by name."""
    known = list(_FACTS)
    return (known.index(name) if name in known else len(known), name)


def _fact_text(name: str, fact: Fact) -> str:
    """Empty if it is better left out."""
    if name in _FACTS:
        is_zero = isinstance(fact, int | float) and not fact
        return "" if is_zero else _FACTS[name].format(_value_text(name, fact))
    if name.startswith("level_"):
        return f"{_value_text(name, fact)} {name.removeprefix('level_')}"
    words = name.removesuffix("_seconds").replace("_", " ")
    return f"{words} {_value_text(name, fact)}"


def _value_text(name: str, fact: Fact) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, int | float):
        if name.endswith("_seconds"):
            return duration_text(fact)
        if name in _OBJECTS:
            return count_text(int(fact), "object")
        if name.split("_")[0] == "bytes" or name.endswith("_bytes") or name == "bytes":
            return size_text(fact)
        return f"{fact:,}"
    text = str(fact)
    return text[:DIGEST_SHOWN] if re.fullmatch("[0-9a-f]{32,}", text) else text


# -- passes ----------------------------------------------------------------------------------------


def passes_summary(
    passes: Sequence[PassSummary], *, frozen_at: float | None = None
) -> dict[str, Any]:
    """The passes that ended, in order, and what follows from them, for `noria status --json`.

    `frozen_at` is when the freeze begins that is forecast, in Unix seconds; None: as the last pass
    ended.
    """
    found, freeze = convergence(passes), forecast(passes, frozen_at=frozen_at)
    return {
        "passes": [
            {
                **asdict(each),
                "took_seconds": each.took_seconds,
                "lag_seconds": each.lag_seconds,
            }
            for each in passes
        ],
        "lag_grows": is_growing([each.lag_seconds for each in passes]),
        "convergence": None if found is None else {**asdict(found), "catches_up": found.catches_up},
        "freeze": None if freeze is None else asdict(freeze),
        "missing_passes": missing_passes(passes),
    }


def print_passes(summary: Mapping[str, Any]) -> None:
    print("\n".join(passes_lines(summary, _columns())))


def passes_lines(summary: Mapping[str, Any], columns: int | None) -> Iterator[str]:
    """A line for each pass, or two if lines of `columns` are too short; then the forecast."""
    yield from _table(
        ("pass", "ended (UTC)", "took", "lag"),
        [
            (
                str(each["number"]),
                time_text(each["ended_seconds"]),
                duration_text(each["took_seconds"]),
                duration_text(each["lag_seconds"]),
            )
            for each in summary["passes"]
        ],
        "what it found at the source",
        [_found_text(each) for each in summary["passes"]],
        columns,
    )
    for line in [*_trouble_lines(summary), forecast_text(summary)]:
        yield from _folded(line, columns)


def forecast_text(summary: Mapping[str, Any]) -> str:
    """One line: how long a freeze would do, or what is missing to tell."""
    if summary["freeze"] is not None:
        return freeze_text(Freeze(**summary["freeze"]))
    missing = summary["missing_passes"]
    more = "one more pass has" if missing == 1 else f"{missing} more passes have"
    return f"how long a freeze would do is not known yet: {more} to end first"


def freeze_text(freeze: Freeze) -> str:
    """As in "a freeze of about 38 min (between 30 and 55) would be enough"."""
    length, unit = next((length, name) for most, length, name in _UNITS if freeze.high < most)
    low, high = math.floor(freeze.low / length), math.ceil(freeze.high / length)
    about = max(low, round(freeze.seconds / length))
    return f"a freeze of about {about} {unit} (between {low} and {high}) would be enough"


def rates_text(summary: Mapping[str, Any]) -> str | None:
    """One line: what changes at the source, and what passes move. None: it is not known yet."""
    found = summary["convergence"]
    if found is None:
        return None
    objects, size = Figure(**found["changed_objects"]), Figure(**found["changed_bytes"])
    moved = []
    if found["moved_objects_per_second"] is not None:
        moved.append(f"{_rate_text(found['moved_objects_per_second'])} objects/s")
    if found["moved_bytes_per_second"] is not None:
        moved.append(f"{size_text(found['moved_bytes_per_second'])}/s")
    return (
        f"changes at the source: {_rate_text(objects.value)} objects/s (between "
        f"{_rate_text(objects.low)} and {_rate_text(objects.high)}), {size_text(size.value)}/s "
        f"(between {size_text(size.low)}/s and {size_text(size.high)}/s)"
        + (f"; passes move {', '.join(moved)}" if moved else "")
    )


def step_text(step: SyncStep) -> str:
    """One line: what `noria sync` does next, and why."""
    if step.lag_seconds is None:
        return "no pass has ended yet: one is run now"
    lag = f"the lag is {duration_text(step.lag_seconds)}"
    match step.action:
        case SyncAction.REACHED:
            return f"{lag}, as it was wanted"
        case SyncAction.RUN:
            return f"{lag}: a pass is run now"
        case SyncAction.WAIT:
            return f"{lag}: the next pass begins in {duration_text(step.wait_seconds)}"


def obstacle_text(step: SyncStep) -> str | None:
    """One line: why the lag that is wanted will not come. None: nothing is in the way."""
    if step.steady_lag_seconds is not None:
        return (
            f"passes come to a lag of about {duration_text(step.steady_lag_seconds)}, and not "
            "below: begin them more often, or ask for a longer lag"
        )
    return None if step.obstacle is None else _OBSTACLES[step.obstacle]


def _trouble_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    rates = rates_text(summary)
    if rates is not None:
        yield rates
    if summary["convergence"] is not None and not summary["convergence"]["catches_up"]:
        yield _OBSTACLES[Obstacle.CHANGES_TOO_FAST]
    elif summary["lag_grows"]:
        yield "the lag was longer after each of the last three passes than before"


def _found_text(each: Mapping[str, Any]) -> str:
    found = [
        f"{each[what]['objects']:,} {what} ({size_text(each[what]['bytes'])})"
        for what in ("new", "changed", "gone")
        if each[what]["objects"]
    ]
    if each["failed"]:
        found.append(f"{each['failed']:,} failed")
    return ", ".join(found) or "nothing new"


def _rate_text(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


# -- tables ----------------------------------------------------------------------------------------


def _columns() -> int | None:
    """Of the terminal. None: what is not one takes lines of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    last_name: str,
    last_cells: Sequence[str],
    columns: int | None = None,
) -> Iterator[str]:
    """Cells side by side; the last ones, which are long, below their row if there is no room."""
    lines = [names, *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    first, *others = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    longest = max(map(len, [last_name, *last_cells]))
    if columns is None or len(first) + 2 + longest <= columns:
        yield f"{first}  {last_name}"
        for line, last in zip(others, last_cells, strict=True):
            yield f"{line}  {last}"
        return
    yield first.rstrip()
    for line, last in zip(others, last_cells, strict=True):
        yield line.rstrip()
        yield from _folded(last, columns, " " * (widths[0] + 2))


def _folded(text: str, columns: int | None, indent: str = "") -> list[str]:
    if columns is None:
        return [indent + text]
    return textwrap.wrap(
        text,
        max(columns, 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
