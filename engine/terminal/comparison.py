"""What a check of two places found, in lines; and rclone's reports of it, in files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TextIO

from noria.engine.checking import CheckCounts, Compared, Verdict
from noria.engine.terminal.listing import printable
from noria.manifests.count_text import count_text

COMBINED: Final = "combined"
"""The report that has every name, behind the sign of its verdict."""
STANDARD_OUTPUT: Final = Path("-")
_WORDS: Final = {
    Verdict.DIFFER: "differs",
    Verdict.MISSING_ON_A: "missing on A",
    Verdict.MISSING_ON_B: "missing on B",
    Verdict.ERROR: "error",
}


class Reports:
    """Files of names, one a line, as `rclone check` writes them; a context manager.

    A report whose path is "-" goes among the lines for standard output.
    """

    def __init__(self, paths: Mapping[Verdict | str, Path | None]) -> None:
        """Of each verdict, or COMBINED, the file. Raises OSError if one cannot be written."""
        self._stack = ExitStack()
        self._files: dict[Verdict | str, TextIO | None] = {}
        for report, path in paths.items():
            if path == STANDARD_OUTPUT:
                self._files[report] = None
            elif path is not None:
                self._files[report] = self._stack.enter_context(path.open("w", encoding="utf-8"))

    @property
    def on_standard_output(self) -> bool:
        return None in self._files.values()

    def add(self, compared: Compared) -> Iterator[str]:
        """Write a name to the files that want it; yield its lines for standard output."""
        name = compared.name.replace("\r", "\\r").replace("\n", "\\n")
        lines = {compared.verdict: name, COMBINED: f"{compared.verdict} {name}"}
        for report, line in lines.items():
            if report in self._files:
                file = self._files[report]
                if file is None:
                    yield line
                else:
                    file.write(line + "\n")

    def __enter__(self) -> Reports:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def difference_lines(found: Iterable[Compared], reports: Reports) -> Iterator[str]:
    """A line for each name that does not match; or those of reports on standard output, alone."""
    for compared in found:
        yield from reports.add(compared)
        if compared.verdict is not Verdict.MATCH and not reports.on_standard_output:
            why = compared.why if compared.verdict in (Verdict.DIFFER, Verdict.ERROR) else ""
            name = printable(compared.name)
            yield f"{_WORDS[compared.verdict]:12}  {name}{f'  ({why})' if why else ''}"


def check_lines(counts: CheckCounts) -> Iterator[str]:
    """What was found in all, as people read it."""
    alone = counts.match_by_size_alone
    how = f", {alone:,} of them by size alone (--download compares bytes)" if alone else ""
    yield f"{counts.match:,} match{how}"
    for count, what in (
        (counts.differ, "differ"),
        (counts.missing_on_a, "missing on A"),
        (counts.missing_on_b, "missing on B"),
        (counts.errors, "could not be compared"),
        (counts.left_out, "left out: links, sockets and the like"),
    ):
        if count:
            yield f"{count:,} {what}"
    yield f"{count_text(counts.differences, 'difference')} found"


def check_summary(counts: CheckCounts) -> dict[str, Any]:
    return {
        "equal": not counts.differences and not counts.errors,
        "differences": counts.differences,
        "match": counts.match,
        "match_by_size_alone": counts.match_by_size_alone,
        "differ": counts.differ,
        "missing_on_a": counts.missing_on_a,
        "missing_on_b": counts.missing_on_b,
        "errors": counts.errors,
        "left_out": counts.left_out,
    }
