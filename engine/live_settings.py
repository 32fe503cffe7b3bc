"""The settings of a run that may change while it runs, looked at again and again.

A driver that begins reads all records of its migration, so that what was asked for is lost by no
restart; then it looks for new ones. What they make together is told by engine/steering.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from noria.engine.config.jobfile import RunConfig
from noria.engine.guards import Guards
from noria.engine.steering.limits import (
    PAUSED,
    RUN,
    STEERED,
    LimitsInForce,
    limits_in_force,
    setting_text,
)
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.control import ControlKind, ControlLog, ControlRecord
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import outermost

log = logging.getLogger("noria.driver")

LOOK_SECONDS: Final = 1.5
"""How often a driver looks. Workers are told within another second, and have ten in all."""


class LiveSettings:
    """What is in force for one run. One for each driver."""

    def __init__(
        self,
        place: Path,
        run: RunConfig,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        says: bool = True,
    ) -> None:
        """`place` is the job directory of the run. Raises JobDirectoryError if one is damaged."""
        self._windows = [each.window(number) for number, each in enumerate(run.windows, 1)]
        self._run = {name: getattr(run, name) for name in STEERED if name != PAUSED}
        self._guards = Guards()
        self._log = ControlLog(JobDirectory(outermost(place)))
        self._now = now
        self._damage: str | None = None
        """As was said."""
        self.drain: ControlRecord | None = None
        """Somebody has asked this driver to end."""
        self.limits = self._fold()
        if says:
            _say_change(None, self.limits)

    def heed(self, guards: Guards) -> None:
        """From here on guards take part, which are closed by whoever made them."""
        self._guards = guards

    def look(self, now: float, *, quiet: bool) -> LimitsInForce:
        """What is in force now; changes are said, and so is a record that is damaged.

        `quiet`: the job does nothing at either store; it tells guards what that is like.
        """
        for record in self._new():
            if record.kind is ControlKind.DRAIN:
                self.drain = record
        guards = self._guards.look(now, quiet=quiet)
        before, self.limits = self.limits, self._fold().guarded(guards)
        _say_change(before, self.limits)
        return self.limits

    def _new(self) -> list[ControlRecord]:
        try:
            found = list(self._log.look())
        except JobDirectoryError as error:
            if error.message != self._damage:
                log.error("%s; nothing that was asked for later is followed", error.message)
            self._damage = error.message
            return []
        self._damage = None
        return found

    def _fold(self) -> LimitsInForce:
        return limits_in_force(self._run, self._windows, self._log.records, self._now())


def _say_change(before: LimitsInForce | None, now: LimitsInForce) -> None:
    """A line for each setting whose value is another one now."""
    for name, steered in now.settings.items():
        earlier = None if before is None else before.settings[name]
        if name == PAUSED:
            if (earlier is not None and bool(earlier.value)) == bool(steered.value):
                continue
            if steered.value:
                log.warning("paused %s: nothing new is begun", steered.why)
            else:
                log.warning("resumed")
        elif (steered.by != RUN) if earlier is None else earlier.value != steered.value:
            log.warning("%s", setting_text(name, steered.value) + " " + steered.why)
