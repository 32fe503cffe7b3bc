"""Files of what users' commands have printed in a cutover: DIR/cutover/000007-switch.txt.

The number is that of the record which the command was to end with. The file is there before its
command is run, so it tells that one was begun, even if whoever ran it was killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Record, RecordKind

OUTPUTS: Final = "cutover"


def output_name(records: Sequence[Record], step: str) -> str:
    """Of the file of a command that is run after these records, in the job directory."""
    return f"{OUTPUTS}/{len(records) + 1:06d}-{step}.txt"


def switch_was_begun(directory: JobDirectory, records: Sequence[Record]) -> bool:
    """Whether a switch command was run since the last freeze, however it ended."""
    frozen = max((each.number for each in records if each.kind is RecordKind.FROZEN), default=0)
    return frozen > 0 and any(
        name >= output_name(records[:frozen], "switch") and name.endswith("-switch.txt")
        for name in directory.names(OUTPUTS)
    )
