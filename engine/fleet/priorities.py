"""Priorities of datasets as they are in force: the job file's, or what people have set since.

    noria set DIR priority.genomes=5      control/000001.json in the directory of all

A run looks every second or two, so that a record is followed within ten, and none is lost by its
end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from noria.engine.steering.limits import asked_for
from noria.manifests.job.control import ControlRecord

log = logging.getLogger("noria.fleet")

PREFIX: Final = "priority."
"""Of the name of such a setting; the dataset's follows."""
LEAST: Final = -1000
MOST: Final = 1000


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
    """The priorities of one run, as the records of all datasets change them."""

    def __init__(
        self,
        noted: Mapping[str, int],
        records: Sequence[ControlRecord],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`noted` is what the job file says of each dataset, `records` what people asked since."""
        self._noted = noted
        self._now = now
        self._set: Mapping[str, SetPriority] = set_priorities(records, now())

    def of(self, dataset: str) -> int:
        """The priority that is in force."""
        found = self._set.get(dataset)
        return self._noted.get(dataset, 0) if found is None else found.priority

    def follow(self, records: Sequence[ControlRecord]) -> dict[str, int]:
        """Datasets whose priority is another one since the last call, and which; it is said."""
        before, self._set = self._set, set_priorities(records, self._now())
        changed = {}
        for name in sorted(before.keys() | self._set.keys()):
            was, now = before.get(name), self._set.get(name)
            if name in self._noted and was != now:
                changed[name] = self.of(name)
                whose = "as the job file has it" if now is None else f"by {now.by}"
                log.warning("priority of %s is %d %s", name, changed[name], whose)
        return changed
