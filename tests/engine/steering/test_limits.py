"""Which setting is in force, and why: the run's own, then windows, then what people asked for."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from noria.engine.steering.limits import (
    PAUSED,
    RUN,
    STEERED,
    LimitsInForce,
    limits_in_force,
    setting_text,
)
from noria.engine.steering.windows import SettingsWindow
from noria.manifests.job.control import ControlKind, ControlRecord, SettingValue

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)  # a Saturday
OWN: dict[str, SettingValue] = {name: 0 for name in STEERED if name != PAUSED}


def record(
    number: int, kind: ControlKind, seconds: float | None = None, **settings: SettingValue | None
) -> ControlRecord:
    at = NOW - timedelta(hours=1) + timedelta(seconds=number)
    return ControlRecord(
        number=number,
        kind=kind,
        at=at,
        by=f"ann-{number}",
        settings=settings,
        until=None if seconds is None else NOW + timedelta(seconds=seconds),
        reason=None,
    )


def window(name: str, **values: SettingValue) -> SettingsWindow:
    """One that is always open."""
    return SettingsWindow(
        name=name,
        days=frozenset(range(7)),
        first_minute=0,
        end_minute=1440,
        zone=ZoneInfo("UTC"),
        values=values,
    )


def folded(
    *records: ControlRecord, windows: tuple[SettingsWindow, ...] = (), **own: SettingValue
) -> LimitsInForce:
    return limits_in_force({**OWN, **own}, windows, records, NOW)


def test_the_runs_own_settings_hold_if_nothing_else_is_said() -> None:
    limits = folded(bandwidth=5e6)
    assert limits.rate("bandwidth") == 5e6
    assert limits.rate("source_requests_per_second") == math.inf
    assert limits.settings["bandwidth"].by == RUN
    assert limits.paused is None
    assert limits.changed == {}


def test_what_is_asked_for_precedes_a_window_which_precedes_the_job_file() -> None:
    nights = window("nights", bandwidth=7e6, workers=3)
    assert folded(windows=(nights,), bandwidth=5e6).rate("bandwidth") == 7e6
    limits = folded(record(1, ControlKind.SET, bandwidth=9e6), windows=(nights,), bandwidth=5e6)
    assert limits.rate("bandwidth") == 9e6
    assert limits.number("workers") == 3
    assert limits.settings["bandwidth"].why == "by ann-1 since 2026-11-28 11:00 UTC"
    assert limits.settings["workers"].why == "by window nights until 2026-11-29 00:00 UTC"


def test_of_windows_that_overlap_the_strictest_holds_and_all_are_named() -> None:
    limits = folded(
        windows=(window("any", bandwidth=0), window("a", bandwidth=9e6), window("b", bandwidth=8e6))
    )
    assert limits.rate("bandwidth") == 8e6
    assert limits.settings["bandwidth"].by == "window b, the strictest of b, any, a"
    assert limits.windows == ("any", "a", "b")
    assert folded(windows=(window("a", paused=False), window("b", paused=True))).paused is not None


def test_what_was_set_for_a_while_gives_way_to_what_was_set_before() -> None:
    asked = (
        record(1, ControlKind.SET, bandwidth=1e6),
        record(2, ControlKind.SET, -1, bandwidth=2e6),
    )
    assert folded(*asked).rate("bandwidth") == 1e6
    asked = (
        record(1, ControlKind.SET, bandwidth=1e6),
        record(2, ControlKind.SET, 1, bandwidth=2e6),
    )
    assert folded(*asked).rate("bandwidth") == 2e6


def test_none_lifts_a_limit_of_the_job_file_and_clear_brings_it_back() -> None:
    lifted = record(1, ControlKind.SET, bandwidth=0)
    assert folded(lifted, bandwidth=5e6).rate("bandwidth") == math.inf
    assert folded(lifted, record(2, ControlKind.CLEAR), bandwidth=5e6).rate("bandwidth") == 5e6


def test_clear_takes_back_what_it_names_and_without_a_name_all_but_a_pause() -> None:
    both = record(1, ControlKind.SET, bandwidth=1e6, workers=4)
    limits = folded(both, record(2, ControlKind.CLEAR, workers=None))
    assert (limits.rate("bandwidth"), limits.number("workers")) == (1e6, 0)
    limits = folded(both, record(2, ControlKind.PAUSE), record(3, ControlKind.CLEAR))
    assert limits.rate("bandwidth") == math.inf
    assert limits.paused is not None


def test_a_pause_lasts_until_it_is_taken_back_or_over() -> None:
    paused = folded(record(1, ControlKind.PAUSE)).paused
    assert paused is not None
    assert paused.by == "ann-1"
    assert folded(record(1, ControlKind.PAUSE), record(2, ControlKind.RESUME)).paused is None
    assert folded(record(1, ControlKind.PAUSE, -1)).paused is None


def test_resume_takes_back_no_pause_of_a_window_but_a_setting_precedes_it() -> None:
    office = window("office", paused=True)
    assert folded(record(1, ControlKind.RESUME), windows=(office,)).paused is not None
    assert folded(record(1, ControlKind.SET, paused=False), windows=(office,)).paused is None


def test_settings_are_told_as_they_are_set() -> None:
    assert setting_text("bandwidth", 200e6) == "bandwidth=200MB/s"
    assert setting_text("bandwidth", 65_536) == "bandwidth=65.54kB/s"
    assert setting_text("bandwidth", 0) == "bandwidth=none"
    assert setting_text("workers", 0) == "workers=auto"
    assert setting_text("source_requests_per_second", 500.0) == "source_requests_per_second=500"
    assert setting_text("paused", True) == "paused=true"
