"""Which settings are in force now, and why: the run's own, then windows, then what people asked.

The own ones are those of the job file, or of the command line. An open window precedes them in
what it names; of several windows the strictest value holds. What `noria set` and `noria pause`
recorded precedes both: the last that is not over.

Guards (guard.py) come last: they only ever take something away.

Pure: the moment comes in with the call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from noria.engine.steering.guard import GuardState
from noria.engine.steering.windows import SettingsWindow
from noria.manifests.job.control import ControlKind, ControlRecord, SettingValue

PAUSED: Final = "paused"
STEERED: Final = (
    "bandwidth",
    "source_requests_per_second",
    "target_requests_per_second",
    "workers",
    "transfers",
    "source_requests",
    "target_requests",
    PAUSED,
)
"""The settings that may change while a job runs: those of [run] in a job file, and PAUSED."""
RUN: Final = "the job file or the command line"


class Giver(StrEnum):
    """What kind of thing gave a setting the value that is in force."""

    RUN = "run"
    WINDOW = "window"
    PERSON = "person"
    GUARD = "guard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Steered:
    """A setting as it is in force."""

    value: SettingValue
    """0: any number, or as many as Noria finds right."""
    by: str
    """What gave it, for people: RUN, "window nights", "ann@mover-1"."""
    giver: Giver = Giver.RUN
    since: str | None = None
    """When it was asked for, for people."""
    until: str | None = None
    """When it is over by itself, for people. None: not by itself."""
    reason: str | None = None
    """In words of whoever asked."""
    of_all: bool = False
    """It was given for all datasets, of which this is one."""

    @property
    def why(self) -> str:
        """Who gave it, since when, until when, and why."""
        words = [f"by {self.by}" if self.by != RUN else f"from {RUN}"]
        words += ["for all datasets"] if self.of_all else []
        words += [f"since {self.since}"] if self.since else []
        words += [f"until {self.until}"] if self.until else []
        words += [f"({self.reason})"] if self.reason else []
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsInForce:
    """All settings of STEERED at one moment."""

    settings: Mapping[str, Steered]
    windows: tuple[str, ...] = ()
    """Names of those that are open."""
    records: int = 0
    """The number of the last control record that is heeded."""
    guards: Mapping[str, GuardState] = field(default_factory=dict)
    """Store -> what its guard says."""

    @property
    def guard_factor(self) -> float:
        """The share of its pace that guards leave the job. 1: all of it."""
        return min((state.factor for state in self.guards.values()), default=1.0)

    def guarded(self, guards: Mapping[str, GuardState]) -> LimitsInForce:
        """The same with what guards say: one that leaves nothing is a pause."""
        settings = dict(self.settings)
        for store, state in guards.items():
            if not state.factor and not self.paused:
                by = f"the guard of the {store}"
                settings[PAUSED] = Steered(value=True, by=by, giver=Giver.GUARD, reason=state.said)
        return replace(self, settings=settings, guards=guards)

    def among(self, of_all: LimitsInForce) -> LimitsInForce:
        """The same for one of many datasets: what pauses all pauses this one, too."""
        paused = of_all.paused
        if paused is None or self.paused:
            return self
        return replace(self, settings={**self.settings, PAUSED: replace(paused, of_all=True)})

    @property
    def changed(self) -> Mapping[str, Steered]:
        """Those that neither the job file nor the command line of the run gave."""
        return {name: each for name, each in self.settings.items() if each.by != RUN}

    @property
    def paused(self) -> Steered | None:
        """Why nothing new is begun; None if something is."""
        found = self.settings[PAUSED]
        return found if found.value else None

    def rate(self, name: str) -> float:
        """A rate, a second. inf: any."""
        return self.value(name) or math.inf

    def number(self, name: str) -> int:
        """A number. 0: as many as Noria finds right."""
        return int(self.value(name))

    def value(self, name: str) -> float:
        """As it is set. 0: any, or as many as Noria finds right."""
        return float(self.settings[name].value) if name in self.settings else 0.0


def limits_in_force(
    run: Mapping[str, SettingValue],
    windows: Sequence[SettingsWindow],
    records: Sequence[ControlRecord],
    now: datetime,
) -> LimitsInForce:
    """Fold it all. `run` has a value for each name of STEERED, but for PAUSED."""
    found = {name: Steered(value=run.get(name, False), by=RUN) for name in STEERED}
    opened = [(window, ends) for window in windows if (ends := window.end_of(now)) is not None]
    for name in STEERED:
        given = [(window, ends) for window, ends in opened if name in window.values]
        if given:
            found[name] = _strictest(name, given)
    found |= {name: asked for name, asked in asked_for(records, now).items() if name in found}
    return LimitsInForce(
        settings=found,
        windows=tuple(window.name for window, _ in opened),
        records=records[-1].number if records else 0,
    )


def _strictest(name: str, given: Sequence[tuple[SettingsWindow, datetime]]) -> Steered:
    """Of what several windows say: a pause, or the least number."""

    def strictness(each: tuple[SettingsWindow, datetime]) -> float:
        value = each[0].values[name]
        return -float(value) if name == PAUSED else float(value) or math.inf

    window, ends = min(given, key=strictness)
    others = [other.name for other, _ in given if other is not window]
    by = f"window {window.name}"
    if others:
        by += f", the strictest of {', '.join([window.name, *others])}"
    return Steered(value=window.values[name], by=by, giver=Giver.WINDOW, until=time_text(ends))


def asked_for(records: Sequence[ControlRecord], now: datetime) -> dict[str, Steered]:
    """What people have set, and not taken back: of each setting the last that is not over."""
    asked: dict[str, list[tuple[ControlRecord, SettingValue]]] = {}
    for record in records:
        match record.kind:
            case ControlKind.SET | ControlKind.PAUSE:
                settings = {PAUSED: True} if record.kind is ControlKind.PAUSE else record.settings
                for name, value in settings.items():
                    if value is not None:
                        asked.setdefault(name, []).append((record, value))
            case ControlKind.RESUME:
                asked.pop(PAUSED, None)
            case ControlKind.CLEAR:
                for name in list(record.settings or asked.keys() - {PAUSED}):
                    asked.pop(name, None)
            case ControlKind.DRAIN:
                pass
    found = {}
    for name, stack in asked.items():
        for record, value in reversed(stack):
            if record.until is None or now < record.until:
                found[name] = Steered(
                    value=value,
                    by=record.by,
                    giver=Giver.PERSON,
                    since=time_text(record.at),
                    until=None if record.until is None else time_text(record.until),
                    reason=record.reason,
                )
                break
    return found


def time_text(moment: datetime) -> str:
    """A moment in UTC, for people."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def setting_text(name: str, value: SettingValue) -> str:
    """A setting as `noria set` takes it: bandwidth=200MB/s, workers=auto."""
    if name == PAUSED:
        return f"{name}={'true' if value else 'false'}"
    if not value:
        return f"{name}={'auto' if name in ('workers', 'transfers') else 'none'}"
    if name != "bandwidth":
        return f"{name}={value:g}"
    unit, size = next((unit, size) for unit, size in _UNITS if value >= size)
    return f"{name}={value / size:.4g}{unit}/s"


_UNITS: Final = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1))
