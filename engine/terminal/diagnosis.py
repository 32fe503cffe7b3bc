"""A diagnosis as `noria doctor` prints it: a line a finding, or one document.

On a terminal, lines are folded below their own beginning. In a pipe each is one record: the mark,
the end, the topic, what was found, and behind an arrow what to do.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from noria.engine.doctor import Diagnosis
from noria.engine.findings import Mark

MARK_WIDTH: Final = 5
TOPIC_WIDTH: Final = 13
LEAST_COLUMNS: Final = 60


def diagnosis_summary(found: Diagnosis) -> dict[str, Any]:
    """The document of --json."""
    return {
        "ends": [asdict(end) for end in found.ends],
        "lacks": found.count(Mark.LACKS),
        "notes": found.count(Mark.NOTE),
        "seconds": round(found.seconds, 3),
        "exit_code": found.exit_code,
    }


def print_diagnosis(summary: Mapping[str, Any]) -> None:
    for end in summary["ends"]:
        if sys.stdout.isatty():
            print(f"{end['role']} {end['url']}")
        for finding in end["findings"]:
            _print_finding(end["role"], finding)
    what = [
        f"{count:,} {word}"
        for count, word in (
            (summary["lacks"], "lacking"),
            (summary["notes"], "to note"),
        )
        if count
    ]
    print(f"{', '.join(what) or 'all is well'} ({summary['seconds']:.1f} s)")


def _print_finding(role: str, finding: Mapping[str, str]) -> None:
    mark, topic = finding["mark"].ljust(MARK_WIDTH), finding["topic"].ljust(TOPIC_WIDTH)
    advice = f" -> {finding['advice']}" if finding["advice"] else ""
    says = f"{finding['says']}{advice}"
    if not sys.stdout.isatty():
        print(f"{mark}  {role}  {topic}  {says}")
        return
    start = f"  {mark}  {topic}  "
    columns = max(LEAST_COLUMNS, shutil.get_terminal_size().columns)
    print(
        textwrap.fill(
            says,
            columns,
            initial_indent=start,
            subsequent_indent=" " * len(start),
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
