"""What a person asks of the priorities of datasets: checked, written down, and heard by a run."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from noria.engine.config.refused_settings import WrongSettings
from noria.engine.fleet.directory import FleetDirectory
from noria.engine.fleet.priorities import LEAST, MOST, PREFIX, heeded, set_priorities
from noria.manifests.job.control import ControlKind, ControlRecord, append, read

HEARD_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.25
_WHERE: Final = "noria set"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardPriorities:
    """What became of a request."""

    record: ControlRecord
    is_driven: bool
    """A run lived when it was written."""
    is_heeded: bool
    """It has said that it follows it."""


class PrioritizedFleet:
    """The datasets of a directory, as people steer them."""

    def __init__(self, root: Path) -> None:
        """Raises ConfigurationError, JobDirectoryError."""
        self._fleet = FleetDirectory(root)
        self._noted = self._fleet.priorities()

    def in_force(self) -> dict[str, tuple[int, str]]:
        """Dataset -> its priority and who gave it: of those that have one, or were given one."""
        said = set_priorities(read(self._fleet.files), datetime.now(UTC))
        found = {
            name: (priority, "from the job file")
            for name, priority in self._noted.items()
            if priority
        }
        given = {name: (each.priority, f"by {each.by}") for name, each in said.items()}
        return {name: each for name, each in (found | given).items() if name in self._noted}

    def set_from(
        self, given: Sequence[str], *, seconds: float | None, reason: str | None
    ) -> HeardPriorities:
        """Set what texts such as `priority.genomes=5` say. Raises WrongSettings, for all of it."""
        settings, wrong = dict[str, int](), list[str]()
        for text in given:
            name, equals, value = text.partition("=")
            fault = self._fault(name) or (None if equals else f"write it as {name}=NUMBER")
            if fault is None and not _is_priority(value):
                fault = f"it should be a whole number from {LEAST} to {MOST}"
            if fault is None:
                settings[name] = int(value)
            else:
                wrong.append(f"{_WHERE}: {name}: {fault}")
        if wrong:
            raise WrongSettings(wrong)
        until = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
        return self._ask(ControlKind.SET, settings, until, reason)

    def clear(self, names: Sequence[str], *, reason: str | None) -> HeardPriorities:
        """Take back what was set: of these names, or all. Raises WrongSettings."""
        wrong = [f"{_WHERE}: {name}: {fault}" for name in names if (fault := self._fault(name))]
        if wrong:
            raise WrongSettings(wrong)
        return self._ask(ControlKind.CLEAR, dict.fromkeys(names), None, reason)

    def is_driven(self) -> bool:
        """Whether a run of them lives on this machine."""
        return self._fleet.files.is_held(None)

    def _fault(self, name: str) -> str | None:
        """Why this is not the priority of a dataset; None: it is."""
        dataset = name.removeprefix(PREFIX)
        if dataset == name:
            return (
                f"of many datasets, {PREFIX}NAME is set; what else concerns one of them is set in "
                f"its own directory, {self._fleet.place('NAME')}"
            )
        if dataset in self._noted:
            return None
        near = difflib.get_close_matches(dataset, self._noted, n=1, cutoff=0.6)
        return "no such dataset" + (f"; did you mean {PREFIX}{near[0]}?" if near else "")

    def _ask(
        self,
        kind: ControlKind,
        settings: Mapping[str, int | None],
        until: datetime | None,
        reason: str | None,
    ) -> HeardPriorities:
        record = append(self._fleet.files, kind, settings, until=until, reason=reason)
        is_driven = self.is_driven()
        ends = time.monotonic() + HEARD_SECONDS
        while is_driven and time.monotonic() < ends:
            if (heeded(self._fleet.files) or 0) >= record.number:
                return HeardPriorities(record=record, is_driven=True, is_heeded=True)
            time.sleep(LOOK_SECONDS)
        return HeardPriorities(record=record, is_driven=is_driven, is_heeded=False)


def _is_priority(text: str) -> bool:
    try:
        return LEAST <= int(text) <= MOST
    except ValueError:
        return False
