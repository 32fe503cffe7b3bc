"""What `noria set` and `noria pause` print."""

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


def _origin(name: str, each: Steered) -> str:
    if each.by == RUN:
        return "" if name == PAUSED or not each.value else each.why
    return each.why
