"""What a pass of a migration found and did, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from noria.engine.terminal.figures import size_text
from noria.engine.terminal.report import print_run

_WORDS: Final = {
    "new": "new",
    "size": "changed: another size",
    "etag": "changed: another ETag",
    "version": "changed: another version",
    "modified": "changed: written again",
    "content": "to be compared byte by byte",
    "damaged": "unchanged, and damaged where they were moved to: sent again",
    "gone": "gone at the {end}",
    "gone_before": "gone since an earlier pass",
    "unchanged": "unchanged",
}


def print_pass(summary: Mapping[str, Any]) -> None:
    """What was found at the source, then what became of it as of any run."""
    if summary["delta"] is not None:
        print(f"Pass {summary['pass']}: what the source has since the last one")
        _print_delta(summary["delta"], "source")
        if summary["renamed"]:
            print(f"  {summary['renamed']:,} of the new ones had another name: see renamed.parquet")
    print_run(summary)


def print_way_back(summary: Mapping[str, Any]) -> None:
    """What was found at the target since the switch, then what became of it at the source."""
    print("The way back: what the target has since the switch")
    _print_delta(summary["delta"], "target")
    print_run(summary, "noria rollback")


def print_withdrawn(summary: Mapping[str, Any]) -> None:
    """A pass that was taken back, and the record that says so."""
    print(
        f"pass {summary['withdrawn']} is withdrawn, and had moved nothing: record "
        f"{summary['record']} of the history"
    )


def _print_delta(delta: Mapping[str, Any], end: str) -> None:
    for name, words in _WORDS.items():
        if count := delta["objects"].get(name):
            size = size_text(delta["bytes"][name])
            print(f"  {count:>12,} {size:>10}  {words.format(end=end)}")
