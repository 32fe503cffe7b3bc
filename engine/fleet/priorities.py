"""Priorities of datasets as they are in force: the job file's, or what people have set since.

    noria set DIR priority.genomes=5      control/000001.json in the directory of all

A run looks about once a second, so that a record is followed within ten, and none is lost by its
end. `heeded.json` says how many records the run that lives has followed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from noria.engine.steering.limits import asked_for
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.control import ControlLog, ControlRecord
from noria.manifests.job.directory import JobDirectory

log = logging.getLogger("noria.fleet")

PREFIX: Final = "priority."
"""Of the name of such a setting; the dataset's follows."""
LEAST: Final = -1000
MOST: Final = 1000
_HEEDED: Final = "heeded.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPriority:
    """A priority that somebody has set, and that is in force."""

    priority: int
    by: str
    """user@host"""


def set_priorities(records: Sequence[ControlRecord], now: datetime) -> dict[str, SetPriority]:
    """Dataset -> what is in force of what was set: of each the last that is not over."""
    return {
        name.removeprefix(PREFIX): SetPriority(priority=int(asked.value), by=asked.by)
        for name, asked in asked_for(records, now).items()
        if name.startswith(PREFIX)
    }


class LivePriorities:
    """The priorities of one run, looked at again and again."""

    def __init__(
        self,
        files: JobDirectory,
        noted: Mapping[str, int],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`files` is the directory of all, `noted` what the job file says of each dataset.

        Raises JobDirectoryError if a record is damaged.
        """
        self._files = files
        self._noted = noted
        self._log = ControlLog(files)
        self._now = now
        self._noted_records = 0
        self._damage: str | None = None
        """As was said."""
        self._set: Mapping[str, SetPriority] = set_priorities(self._log.records, now())

    def of(self, dataset: str) -> int:
        """The priority that is in force."""
        found = self._set.get(dataset)
        return self._noted.get(dataset, 0) if found is None else found.priority

    def look(self) -> dict[str, int]:
        """Datasets whose priority is another one since the last look, and which; it is said."""
        try:
            self._log.look()
        except JobDirectoryError as error:
            if error.message != self._damage:
                log.error("%s; nothing that was asked for later is followed", error.message)
            self._damage = error.message
            return {}
        before, self._set = self._set, set_priorities(self._log.records, self._now())
        changed = {}
        for name in sorted(before.keys() | self._set.keys()):
            was, now = before.get(name), self._set.get(name)
            if name in self._noted and was != now:
                changed[name] = self.of(name)
                whose = "as the job file has it" if now is None else f"by {now.by}"
                log.warning("priority of %s is %d %s", name, changed[name], whose)
        return changed

    def note_heeded(self) -> None:
        """Say that what was asked for so far is followed."""
        records = len(self._log.records)
        if records != self._noted_records:
            self._noted_records = records
            self._files.replace(_HEEDED, f"{json.dumps({'records': records})}\n".encode())


def heeded(files: JobDirectory) -> int | None:
    """How many records the last run has followed; None: no run has said so."""
    try:
        return int(json.loads(files.read(_HEEDED) or b"null")["records"])
    except (ValueError, LookupError, TypeError):
        return None
