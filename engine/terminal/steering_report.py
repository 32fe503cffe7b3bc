"""What `noria set` and `noria pause` print, and what a report says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.engine.steering.limits import (
    PAUSED,
    RUN,
    LimitsInForce,
    Steered,
    setting_text,
)
from noria.manifests.job.control import ControlKind, SettingValue


def print_limits(summary: Mapping[str, Any]) -> None:
    """What is in force, each setting with where it comes from."""
    print(summary["said"])
    print_damage(summary)
    limits: LimitsInForce = summary["limits"]
    if limits.windows:
        print(f"open windows: {', '.join(limits.windows)}")
    width = max(len(setting_text(name, each.value)) for name, each in limits.settings.items())
    for name, each in limits.settings.items():
        print(f"  {setting_text(name, each.value):<{width}}  {_origin(name, each)}".rstrip())
    for store, guard in limits.guards.items():
        print(f"  guard of the {store}: leaves {guard.factor:.0%}, {guard.said}")


def print_damage(summary: Mapping[str, Any]) -> None:
    """Which record is damaged, if one is."""
    if summary.get("damage"):
        print(f"{summary['damage']}; nothing that was asked for later is followed")


def print_said(summary: Mapping[str, Any]) -> None:
    """One line."""
    print(summary["said"])


def asked_text(kind: ControlKind, settings: Mapping[str, SettingValue | None]) -> str:
    """What a record asks for, in a few words."""
    match kind:
        case ControlKind.SET:
            given = (setting_text(name, value or 0) for name, value in settings.items())
            return f"set {', '.join(given)}"
        case ControlKind.CLEAR:
            return f"took back {', '.join(settings) or 'all that was set'}"
        case ControlKind.PAUSE:
            return "paused"
        case ControlKind.RESUME:
            return "resumed"
        case ControlKind.DRAIN:
            return "asked the driver to end"


def _origin(name: str, each: Steered) -> str:
    if each.by == RUN:
        return "" if name == PAUSED or not each.value else each.why
    return each.why
