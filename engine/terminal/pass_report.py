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
    "gone": "gone at the source",
    "gone_before": "gone since an earlier pass",
    "unchanged": "unchanged",
}


def print_pass(summary: Mapping[str, Any]) -> None:
    """What was found, then what became of it as of any run."""
    found = summary["delta"]
    if found is not None:
        print(f"Pass {summary['pass']}: what the source has since the last one")
        for name, words in _WORDS.items():
            if count := found["objects"].get(name):
                size = size_text(found["bytes"][name])
                print(f"  {count:>12,} {size:>10}  {words}")
        if summary["renamed"]:
            print(f"  {summary['renamed']:,} of the new ones had another name: see renamed.parquet")
    print_run(summary)
