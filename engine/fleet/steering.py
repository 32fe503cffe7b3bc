"""What is in force for all datasets of a run together: what people ask for, windows and guards.

The same settings, windows and guards as those of one job; what they come to is heeded by what all
datasets share. Of what is decided here a dataset's own driver hears of pauses and of the end alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from noria.engine.config.jobfile import EndConfig, RunConfig
from noria.engine.fleet.budgets import ListingOfRun, RunBudgets
from noria.engine.fleet.directory import FLEET_FILE, FleetDirectory
from noria.engine.fleet.shared_guards import DatasetGuards, SharedGuards
from noria.engine.listing_guards import refuse_foreign_commands
from noria.engine.live_settings import LOOK_SECONDS, LiveSettings
from noria.engine.planning import Prepared
from noria.engine.status import JobStatus
from noria.engine.steering.limits import LimitsInForce
from noria.manifests.counters import StoreRole
from noria.manifests.job.control import ControlRecord

_GUARDS: Final = ("source_guard", "target_guard")


class FleetSteering:
    """What one run keeps to. See guarded_ends.RunOfMany, for its datasets; to be closed."""

    def __init__(self, fleet: FleetDirectory, run: RunConfig, *, is_named: bool) -> None:
        """`is_named`: a job file of this command says what `run` is, not the directory alone.

        Raises ConfigurationError, JobDirectoryError.
        """
        given = dict.fromkeys(_GUARDS) if is_named else {}
        refuse_foreign_commands(fleet.files, run, given, file=FLEET_FILE)
        self._settings = LiveSettings(fleet.root, run)
        self._guards = SharedGuards(run)
        self._settings.heed(self._guards)
        self._looked: float | None = None
        self.budgets = RunBudgets(self._settings.limits)

    @property
    def limits(self) -> LimitsInForce:
        return self._settings.limits

    @property
    def drain(self) -> ControlRecord | None:
        return self._settings.drain

    @property
    def drained(self) -> str | None:
        """Who has asked the run to end. None: nobody, by a record."""
        return None if self.drain is None else f"drained on request of {self.drain.by}"

    @property
    def records(self) -> Sequence[ControlRecord]:
        """All that people have asked of all datasets so far."""
        return self._settings.records

    def look(self, now: float, *, quiet: bool) -> None:
        """Follow what has changed, every LOOK_SECONDS. `quiet`: no worker does anything."""
        if self._looked is not None and now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        before = self._settings.limits
        if self._settings.look(now, quiet=quiet and before.paused is not None) != before:
            self.budgets.follow(self._settings.limits)

    def told_in(self, status: JobStatus) -> JobStatus:
        """The status of the run with what is in force."""
        return replace(
            status,
            bandwidth=self.budgets.bandwidth,
            held=self.budgets.holds,
            in_force=self.limits,
            drains=self.drained,
        )

    def close(self) -> None:
        self._guards.close()

    # -- what one of the datasets asks for ---------------------------------------------------------

    def begin_listing(self, role: StoreRole) -> ListingOfRun:
        return self.budgets.begin_listing(role)

    def listing_guards_for(self, source: EndConfig) -> DatasetGuards:
        return self._guards.of_listing(source)

    def guards_for(self, prepared: Prepared, *, moving: bool) -> DatasetGuards:
        return self._guards.of(prepared, moving=moving)
