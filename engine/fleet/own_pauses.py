"""Which datasets are paused by themselves, while others go on: as their own records say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from noria.engine.fleet.directory import FleetDirectory
from noria.engine.steering.limits import PAUSED, Steered, asked_for
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.control import CONTROL, ControlLog, ControlRecord, read
from noria.manifests.job.directory import JobDirectory


class OwnPauses:
    """For a run that asks again and again: a dataset of which nothing was asked costs one call."""

    def __init__(
        self, fleet: FleetDirectory, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._fleet = fleet
        self._now = now
        self._logs: dict[str, ControlLog] = {}

    def of(self, name: str) -> Steered | None:
        """Why a dataset is paused; None: it is not. What is damaged is for its driver to say."""
        with contextlib.suppress(JobDirectoryError):
            if name in self._logs:
                self._logs[name].look()
            elif _was_steered(place := self._fleet.place(name)):
                self._logs[name] = ControlLog(JobDirectory(place))
        log = self._logs.get(name)
        return None if log is None else _pause_in(log.records, self._now())

    def forget(self, name: str) -> None:
        """It is at its end."""
        self._logs.pop(name, None)


def own_pause(place: Path) -> Steered | None:
    """Why the dataset with that directory is paused by itself; None: it is not.

    Raises JobDirectoryError if a record is damaged.
    """
    if not _was_steered(place):
        return None
    return _pause_in(read(JobDirectory(place)), datetime.now(UTC))


def _pause_in(records: Sequence[ControlRecord], now: datetime) -> Steered | None:
    found = asked_for(records, now).get(PAUSED)
    return found if found is not None and found.value else None


def _was_steered(place: Path) -> bool:
    return (place / CONTROL).is_dir()
