"""What a person asks of a migration while it runs, or before it does: written down, and heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from noria.engine import job
from noria.engine.live_settings import LiveSettings
from noria.engine.passes import current_pass
from noria.engine.planning import job_parts
from noria.engine.presence import is_somebody_present
from noria.engine.status import JobStatus
from noria.engine.steering.limits import LimitsInForce
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.control import ControlKind, ControlRecord, SettingValue, append, read
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import Migration, outermost

HEARD_SECONDS: Final = 10.0
"""A driver has followed after so long, or something keeps it from doing so."""
LOOK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Heeded:
    """What became of a record."""

    record: ControlRecord
    is_driven: bool
    """A driver lived when it was written."""
    limits: LimitsInForce | None
    """In force at that driver, once it had heeded the record. None: it has not said so."""
    has_ended: bool = False
    """It ended before it said so."""
    damage: str | None = None
    """Which earlier record is damaged: a driver that had not read it before heeds none behind."""


class SteeredMigration:
    """A migration, or many in one directory, as people steer them."""

    def __init__(
        self,
        root: JobDirectory,
        *,
        driven: Callable[[], JobStatus | None],
        begun: Callable[[], LimitsInForce],
        waits: Callable[[], bool] = lambda: False,
    ) -> None:
        """`root` has the records.

        `driven` is what the living driver has said last, None without one; `begun` is what would be
        in force for one that began now; `waits`: a command is there that goes on from one pass to
        the next, and heeds what is asked.
        """
        self.root = root.root
        self.driven = driven
        self.waits = waits
        self._files = root
        self._begun = begun

    def ask(
        self,
        kind: ControlKind,
        settings: Mapping[str, SettingValue | None] | None = None,
        *,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> Heeded:
        """Write it down, and wait until the driver has heeded it, if there is one.

        `seconds`: for how long. None: for good. Raises JobDirectoryError if a record is damaged and
        no driver lives, which may have read it before.
        """
        is_driven, damage = self.driven() is not None, self.damage()
        if damage is not None and not is_driven:
            raise JobDirectoryError(damage)
        until = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
        record = append(self._files, kind, settings, until=until, reason=reason)
        says = is_driven and (kind is not ControlKind.DRAIN or damage is not None)
        limits = self._heeded(record) if says else None
        has_ended = is_driven and limits is None and self.driven() is None
        return Heeded(
            record=record, is_driven=is_driven, limits=limits, has_ended=has_ended, damage=damage
        )

    def limits(self) -> LimitsInForce:
        """What is in force: as the driver says, or as one would have it that began now.

        Raises JobDirectoryError if a record is damaged and no driver lives.
        """
        status = self.driven()
        if status is not None and status.in_force is not None:
            return status.in_force
        return self._begun()

    def damage(self) -> str | None:
        """Which record is damaged, and what to do; None: none is."""
        try:
            read(self._files)
        except JobDirectoryError as error:
            return error.message
        return None

    def _heeded(self, record: ControlRecord) -> LimitsInForce | None:
        ends = time.monotonic() + HEARD_SECONDS
        while time.monotonic() < ends:
            status = self.driven()
            if status is None:
                return None
            if status.in_force is not None and status.in_force.records >= record.number:
                return status.in_force
            time.sleep(LOOK_SECONDS)
        return None


def steered_job(directory: Path) -> SteeredMigration:
    """The migration of a job directory. Raises ConfigurationError, JobDirectoryError."""
    JobDirectory.open(directory)
    root = outermost(directory)

    def driven() -> JobStatus | None:
        for place in _places(root):
            found = job.status(place)
            if found.phase.has_driver:
                return found
        return None

    def begun() -> LimitsInForce:
        config, _ = job_parts(JobDirectory.open(current_pass(root)))
        return LiveSettings(root, config.run, says=False).limits

    return SteeredMigration(
        JobDirectory(root), driven=driven, begun=begun, waits=partial(is_somebody_present, root)
    )


def _places(root: Path) -> list[Path]:
    """Job directories in which a driver may be at work."""
    ways_back = [current_pass(back.root) for back in Migration(root).ways_back() if back.exists]
    return [current_pass(root), *ways_back]
