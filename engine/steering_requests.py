"""What a person asks of a migration while it runs, or before it does: written down, and heard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from noria.engine import job
from noria.engine.live_settings import LiveSettings
from noria.engine.passes import current_pass
from noria.engine.planning import job_parts
from noria.engine.status import JobStatus
from noria.engine.steering.limits import LimitsInForce
from noria.manifests.job.control import ControlKind, ControlRecord, SettingValue, append
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


class SteeredJob:
    """A migration as people steer it."""

    def __init__(self, directory: Path) -> None:
        """Raises ConfigurationError, JobDirectoryError."""
        JobDirectory.open(directory)
        self._root = JobDirectory(outermost(directory))

    def ask(
        self,
        kind: ControlKind,
        settings: Mapping[str, SettingValue | None] | None = None,
        *,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> Heeded:
        """Write it down, and wait until the driver has heeded it, if there is one.

        `seconds`: for how long. None: for good.
        """
        until = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
        record = append(self._root, kind, settings, until=until, reason=reason)
        is_driven = self.driven() is not None
        limits = self._heeded(record) if is_driven and kind is not ControlKind.DRAIN else None
        has_ended = is_driven and limits is None and self.driven() is None
        return Heeded(record=record, is_driven=is_driven, limits=limits, has_ended=has_ended)

    def driven(self) -> JobStatus | None:
        """What the living driver has said last; None: there is none."""
        for place in self._places():
            found = job.status(place)
            if found.phase.has_driver:
                return found
        return None

    def limits(self) -> LimitsInForce:
        """What is in force: as the driver says, or as one would have it that began now."""
        status = self.driven()
        if status is not None and status.in_force is not None:
            return status.in_force
        config, _ = job_parts(JobDirectory.open(current_pass(self._root.root)))
        return LiveSettings(self._root.root, config.run, says=False).limits

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

    def _places(self) -> list[Path]:
        """Job directories in which a driver may be at work."""
        ways_back = [
            current_pass(back.root)
            for back in Migration(self._root.root).ways_back()
            if back.exists
        ]
        return [current_pass(self._root.root), *ways_back]
