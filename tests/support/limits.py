"""What is in force if nobody has asked for anything."""

from __future__ import annotations

from datetime import UTC, datetime

from noria.engine.config.jobfile import RunConfig
from noria.engine.steering.limits import PAUSED, STEERED, LimitsInForce, limits_in_force


def limits_of(run: RunConfig) -> LimitsInForce:
    """As [run] has it."""
    values = {name: getattr(run, name) for name in STEERED if name != PAUSED}
    return limits_in_force(values, [], [], datetime.now(UTC))
