"""What a job does now, in a word, and why: its phase, or what keeps it from going on.

    moving
    paused            by ann@mover-1 since 2026-11-28 07:20 UTC (a patch)
    paused_by_window  by window office until 2026-11-28 18:00 UTC
    paused_by_guard   by the guard of the source (a small read takes 240 ms, 9 ms when quiet)
    held_by_guard     the guard of the source leaves 22 % of the pace: ...
    draining          drained on request of ann@mover-1

Pure. A driver goes through phases whatever keeps it from going on; people ask what it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.engine.status import JobStatus, Phase
from noria.engine.steering.limits import Giver

_PAUSED_BY: Final = {Giver.WINDOW: "paused_by_window", Giver.GUARD: "paused_by_guard"}
PAUSED: Final = "paused"
"""As somebody asked for."""
HELD: Final = "held_by_guard"
"""It moves, but not as fast as it could."""
STATES: Final = (*(phase.value for phase in Phase), PAUSED, *_PAUSED_BY.values(), HELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """One of STATES, and why."""

    state: str
    words: str
    """The same for people, in a few words."""
    why: str | None
    """By whom, since when, for people. None: there is nothing to say."""

    @property
    def line(self) -> str:
        """What it does and why, in a line."""
        if self.why is None or self.state == HELD:  # what guards say has lines of its own
            return self.words
        if self.state.startswith(PAUSED):
            return f"paused {self.why}: nothing new is begun"
        return f"{self.words}: {self.why}"


def job_state(status: JobStatus) -> JobState:
    """What keeps it from going on comes before its phase; its end comes before all."""
    phase = status.phase.value
    if status.phase is Phase.DRAINING:
        return JobState(state=phase, words=phase, why=status.drains)
    pause = status.pause
    if pause is not None:
        state = _PAUSED_BY.get(pause.giver, PAUSED)
        words = state.replace("_by_", " by a ")
        return JobState(state=state, words=words, why=pause.why)
    held = min(status.held_by_guards.items(), key=lambda each: each[1].factor, default=None)
    if held is not None:
        store, guard = held
        share = f"{guard.factor:.0%}".replace("%", " %")
        why = f"the guard of the {store} leaves {share} of the pace: {guard.said}"
        return JobState(state=HELD, words=f"{phase}, held by a guard", why=why)
    return JobState(state=phase, words=phase, why=None)
