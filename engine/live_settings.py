"""The settings of a run that may change while it runs, looked at again and again.

A driver that begins reads all records of its migration, so that what was asked for is lost by no
restart; then it looks for new ones. What they make together is told by engine/steering.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from noria.engine.config.jobfile import EndConfig, RunConfig
from noria.engine.guards import GuardsOfRun
from noria.engine.steering.guard import GuardState
from noria.engine.steering.limits import (
    PAUSED,
    RUN,
    STEERED,
    LimitsInForce,
    limits_in_force,
    setting_text,
)
from noria.manifests.counters import StoreRole
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.control import ControlKind, ControlLog, ControlRecord
from noria.manifests.job.directory import JobDirectory
from noria.manifests.model import BandwidthUse
from noria.manifests.passes.migration import outermost

log = logging.getLogger("noria.driver")

LOOK_SECONDS: Final = 1.5
"""How often a driver looks. Workers are told within another second, and have ten in all."""


class LooksAtGuards(Protocol):
    """What asks the guards of a run."""

    def look(self, now: float, *, quiet: bool) -> Mapping[str, GuardState]:
        """Store -> what its guard says."""


class ListingTurn(Protocol):
    """What one listing of a driver has of the rates that many datasets share."""

    def exchange(self, bandwidth: BandwidthUse, requests: BandwidthUse) -> tuple[float, float]:
        """Say what it used; returns the bytes and the requests a second that it may use now."""

    def close(self) -> None:
        """It has ended. A repeat does nothing."""


class SettingsOfAll(Protocol):
    """What is in force for all datasets of a run, as one of them asks for it."""

    @property
    def limits(self) -> LimitsInForce: ...

    @property
    def drain(self) -> ControlRecord | None:
        """Somebody has asked the run to end."""

    def begin_listing(self, role: StoreRole) -> ListingTurn:
        """A driver lists this end."""

    def listing_guards_for(self, source: EndConfig) -> GuardsOfRun:
        """The part that one of them has in the guards of all while its source is listed."""


class LiveSettings:
    """What is in force for one run. One for each driver."""

    def __init__(
        self,
        place: Path,
        run: RunConfig,
        *,
        of_all: SettingsOfAll | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        says: bool = True,
    ) -> None:
        """`place` is the job directory of the run. Raises JobDirectoryError if one is damaged.

        `of_all`: the run is of one of many datasets; what [run] and the windows say is then of all
        of them, and not of this one. One of many that is run by itself is paused with all others.
        """
        is_alone = of_all is None
        windows = run.windows if is_alone else ()
        self._windows = [each.window(number) for number, each in enumerate(windows, 1)]
        self._run = {
            name: getattr(run, name) if is_alone else 0 for name in STEERED if name != PAUSED
        }
        self._of_all = of_all
        self._guards: LooksAtGuards | None = None
        root = outermost(place)
        self._log = ControlLog(JobDirectory(root))
        # One of many that is run by itself reads what was asked of all, too.
        above = directory_of_all(root) if is_alone else None
        self._log_of_all = None if above is None else ControlLog(JobDirectory(above))
        self._now = now
        self._damage: str | None = None
        """As was said."""
        self._drain: ControlRecord | None = None
        self.limits = self._fold()
        if says:
            _say_change(None, self.limits, of_many=self.is_of_many)

    @property
    def drain(self) -> ControlRecord | None:
        """Somebody has asked this driver to end."""
        return self._drain or (None if self._of_all is None else self._of_all.drain)

    @property
    def is_of_many(self) -> bool:
        """The run is of one of many datasets."""
        return self._of_all is not None

    @property
    def records(self) -> Sequence[ControlRecord]:
        """All that people have asked for so far."""
        return self._log.records

    def heed(self, guards: LooksAtGuards) -> None:
        """From here on guards take part, which are closed by whoever made them."""
        self._guards = guards

    def look(self, now: float, *, quiet: bool) -> LimitsInForce:
        """What is in force now; changes are said, and so is a record that is damaged.

        `quiet`: the job does nothing at either store; it tells guards what that is like.
        """
        for record in self._new():
            if record.kind is ControlKind.DRAIN:
                self._drain = record
        guards = {} if self._guards is None else self._guards.look(now, quiet=quiet)
        before, self.limits = self.limits, self._fold().guarded(guards)
        _say_change(before, self.limits, of_many=self.is_of_many)
        return self.limits

    def _new(self) -> list[ControlRecord]:
        try:
            if self._log_of_all is not None:
                self._log_of_all.look()
            found = list(self._log.look())
        except JobDirectoryError as error:
            if error.message != self._damage:
                log.error("%s; nothing that was asked for later is followed", error.message)
            self._damage = error.message
            return []
        self._damage = None
        return found

    def _fold(self) -> LimitsInForce:
        own = limits_in_force(self._run, self._windows, self._log.records, self._now())
        if self._of_all is not None:
            return own.among(self._of_all.limits)
        if self._log_of_all is not None:
            return own.among(limits_in_force({}, (), self._log_of_all.records, self._now()))
        return own


def directory_of_all(root: Path) -> Path | None:
    """The directory of many datasets of which this migration is one. None: it is alone."""
    place = root.absolute().parent
    is_one = place.name == "datasets" and (place.parent / "fleet.json").is_file()
    return place.parent if is_one else None


def _say_change(before: LimitsInForce | None, now: LimitsInForce, *, of_many: bool) -> None:
    """A line for each setting whose value is another one now."""
    for name, steered in now.settings.items():
        earlier = None if before is None else before.settings[name]
        if name == PAUSED:
            if (earlier is not None and bool(earlier.value)) == bool(steered.value):
                continue
            if of_many and (steered.of_all or (earlier is not None and earlier.of_all)):
                continue  # it is said once, for all
            if steered.value:
                log.warning("paused %s: nothing new is begun", steered.why)
            else:
                log.warning("resumed")
        elif (steered.by != RUN) if earlier is None else earlier.value != steered.value:
            log.warning("%s", setting_text(name, steered.value) + " " + steered.why)
