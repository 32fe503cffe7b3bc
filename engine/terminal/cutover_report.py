"""How far a cutover came, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from noria.engine.terminal.figures import size_text
from noria.engine.terminal.pass_report import print_way_back
from noria.manifests.count_text import count_text
from noria.manifests.job.cutover_states import MigrationState, state_text

_WORDS: Final = {
    "frozen": "frozen",
    "proving": "proving: what stands is compared with both ends",
    "verified": "what stands was read back",
    "proved": "proved: the target has what the source has",
    "approved": "approved",
    "switched": "switched",
    "grace": "in grace: the source is kept; `noria rollback` moves back what is written since",
    "stopped": "stopped",
    "planned": "pass {} is planned",
    "pass_ended": "pass {} has ended",
}


def print_cutover(summary: Mapping[str, Any]) -> None:
    """Each step of this call, and where the migration stands."""
    for step in summary["steps"]:
        if step["kind"] != "stopped":
            print(f"{step['at']}  {_step_text(step)}")
    if summary["stopped"] is not None:
        print(f"stopped: {summary['stopped']}")
    print(f"the migration is {state_text(MigrationState(summary['state']))}")
    print(f"its history: noria history {summary['directory']}")


def print_rollback(summary: Mapping[str, Any]) -> None:
    """What went back to the source."""
    if summary["back"] is not None:
        print_way_back(summary["back"])
    if summary["ended"]:
        print("rolled back: the source has what the target has, and may be used again")
    else:
        print(f"not rolled back yet: mend that, then noria rollback {summary['directory']}")


_KEPT: Final = (
    ("older versions and marks of deletions", "versions", "version_bytes"),
    ("snapshots", "snapshots", "snapshot_bytes"),
    ("soft-deleted objects", "deleted", "deleted_bytes"),
)


def print_retired(summary: Mapping[str, Any]) -> None:
    """What the source still holds, and what its owner has to see to."""
    source = summary["source"]
    held = f"{count_text(source['objects'], 'object')}, {size_text(source['bytes'])}"
    print(f"retired: the source still holds {held}")
    for words, name, size_name in _KEPT:
        if (count := source[name]) is None:
            print(f"  {words}: not visible with these rights, or not listed here")
        else:
            print(f"  {words}: {count:,}, {size_text(source[size_name] or 0)}")
    print(f"  kept from deletion: {_retention_text(source)}")
    print("before it is deleted, by its owner and with other tools:")
    for each in summary["checklist"]:
        print(f"  [ ] {each}")


def _retention_text(source: Mapping[str, Any]) -> str:
    if source["retention"] is not None:
        return f"{source['retention']}"
    if source["locks"] is None:
        return "not visible with these rights, or not told here"
    return "single objects may be locked" if source["locks"] else "nothing by default"


def _step_text(step: Mapping[str, Any]) -> str:
    words = _WORDS.get(step["kind"], str(step["kind"])).format(step["facts"].get("pass"))
    return f"{words}{_facts(step)}"


def _facts(step: Mapping[str, Any]) -> str:
    facts = step["facts"]
    match step["kind"]:
        case "frozen" if facts["evidence"] == "quiet":
            return f": two equal listings, {facts['apart_seconds']:.0f} s apart"
        case "frozen" | "switched":
            return f" by {facts['command']}"
        case "proved":
            return f" ({count_text(facts['objects'], 'object')})"
        case "approved":
            return f" by {facts['name']}{', signed' if 'key' in facts else ''}"
    return ""
