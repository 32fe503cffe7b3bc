"""Whether a job will be done by its deadline, by the throughput that it has now. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

NARROW_SHARE = 0.1
"""A forecast that leaves less than a tenth of the time that is left is no more than a hope."""


class DeadlineState(StrEnum):
    MET = "met"
    """The job has ended, before its deadline."""
    MISSED = "missed"
    """The deadline is over, and the job was not done by then."""
    AHEAD = "ahead"
    NARROW = "narrow"
    """Before the deadline, with less than a tenth of the time left to spare."""
    LATE = "late"
    """After the deadline, as things are."""
    UNKNOWN = "unknown"
    """Nothing moves, so nothing can be said yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineForecast:
    """The deadline of a job, and when it ends at this throughput."""

    deadline_seconds: float
    """Unix time."""
    state: DeadlineState
    end_seconds: float | None = None
    """Unix time at which the last byte lands, or landed. None: unknown."""
    spare_seconds: float | None = None
    """From that end to the deadline; negative: it comes too late. None: unknown."""


def forecast(
    deadline_seconds: float, *, now: float, eta_seconds: float | None, ended: bool
) -> DeadlineForecast:
    """`now` is Unix time; of a job that has ended (`ended`), the time at which it did."""
    end = now if ended else None if eta_seconds is None else now + eta_seconds
    spare = None if end is None else deadline_seconds - end
    if ended:
        state = DeadlineState.MISSED if now > deadline_seconds else DeadlineState.MET
    elif now > deadline_seconds:
        state = DeadlineState.MISSED
    elif spare is None:
        state = DeadlineState.UNKNOWN
    elif spare < 0:
        state = DeadlineState.LATE
    elif spare < NARROW_SHARE * (deadline_seconds - now):
        state = DeadlineState.NARROW
    else:
        state = DeadlineState.AHEAD
    return DeadlineForecast(
        deadline_seconds=deadline_seconds, state=state, end_seconds=end, spare_seconds=spare
    )
