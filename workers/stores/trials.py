"""What a target makes of a request, as the probe counts it: taken, refused, or won in a race."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TypeVar

from noria.manifests.errors import ClockSkewed, NoriaError, StoreUnavailable, Throttled

T = TypeVar("T")


class Lap(Enum):
    """How one of several writes of one name at once ended."""

    WON = "won"
    LOST = "lost"
    THROTTLED = "throttled"
    """Cloudflare R2 and Google take one write a second of one name: this one did not take part."""
    NOT_RUN = "not run"


def works(call: Callable[[], object]) -> bool:
    """Return False if the target refuses. Errors that say nothing about its rules propagate."""
    try:
        call()
    except (StoreUnavailable, Throttled, ClockSkewed):
        raise
    except NoriaError:
        return False
    return True


def lap(write: Callable[[], object]) -> Lap:
    try:
        return Lap.WON if works(write) else Lap.LOST
    except Throttled:
        return Lap.THROTTLED


def are_single_winners(races: Sequence[Sequence[Lap]]) -> bool:
    """Return True if all races were run, none was won twice, and one had two that took part."""
    return all(Lap.NOT_RUN not in race and race.count(Lap.WON) <= 1 for race in races) and any(
        len(race) - race.count(Lap.THROTTLED) > 1 for race in races
    )


def answers(call: Callable[[], T]) -> list[T]:
    """Return the result in a list of one; an empty list if the target refuses."""
    responses: list[T] = []
    works(lambda: responses.append(call()))
    return responses


def raises(kind: type[NoriaError], call: Callable[[], object]) -> bool:
    """Return True if the target refuses with exactly this error."""
    try:
        call()
    except (StoreUnavailable, Throttled, ClockSkewed):
        raise
    except NoriaError as error:
        return isinstance(error, kind)
    return False
