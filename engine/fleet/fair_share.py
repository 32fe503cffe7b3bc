"""Which dataset gets an idle worker next, and from which one a worker is taken back. Pure.

Those of the highest priority that want a worker go first. Among these, the one that has the fewest
workers for its weight; then the one that has waited longest.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

from noria.manifests.errors import ConfigurationError

TAKEN_AT_ONCE: Final = 1
"""Workers that are on their way back from one dataset."""


@dataclass(slots=True)
class _Claimant:
    """A dataset at work: what it has, and what it wants."""

    name: str
    priority: int
    weight: float
    held: int = 0
    """Workers that it has."""
    leaving: int = 0
    """Of these, those that are to come back."""
    wanted: int = 0
    """Workers that it wants besides."""
    since: int = 0
    """When it began to wait, in calls."""
    has_left: bool = False

    @property
    def staying(self) -> int:
        return self.held - self.leaving


class FairShare:
    """Shares a number of workers among datasets that come and go. One for each run.

    Promises, whatever the order of the calls:
    - no more workers are out than there are;
    - none is granted to a dataset that wants none;
    - no dataset waits while one of a lower priority is granted a worker;
    - of one priority, a dataset that has none goes before those that have some of equal weight;
    - who waits behind others of one priority gets its turn once these have ended or have more;
    - a worker is taken back only for a dataset that has less even after it has got it, or that is
      of a higher priority; so none goes back and forth.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ConfigurationError(f"workers is {workers}; it has to be 1 or more")
        self._workers = workers
        self._claimants: dict[str, _Claimant] = {}
        self._calls = itertools.count()

    @property
    def free(self) -> int:
        """Workers that nobody has."""
        return self._workers - sum(each.held for each in self._claimants.values())

    def resize(self, workers: int) -> None:
        """There are so many from now on; those that are too many are taken back."""
        self._workers = max(1, workers)

    def enter(self, name: str, *, priority: int, weight: float) -> None:
        """A dataset may want workers from now on."""
        self._claimants[name] = _Claimant(name, priority, weight)

    def leave(self, name: str) -> None:
        """A dataset wants none any more; what it still has is given back one by one."""
        claimant = self._claimants[name]
        claimant.wanted, claimant.has_left = 0, True
        self._forget_if_over(claimant)

    def prioritize(self, name: str, priority: int) -> None:
        """A dataset that has entered has another priority from now on."""
        if name in self._claimants:
            self._claimants[name].priority = priority

    def ask(self, name: str) -> None:
        """A dataset wants one more worker."""
        claimant = self._claimants[name]
        if not claimant.wanted:
            claimant.since = next(self._calls)
        claimant.wanted += 1

    def withdraw(self, name: str) -> None:
        """It wants one less."""
        claimant = self._claimants[name]
        claimant.wanted = max(0, claimant.wanted - 1)

    def grant(self) -> str | None:
        """The dataset that gets a worker now, which counts as its own; None: nobody does."""
        claimant = self._next()
        if claimant is None or self.free < 1:
            return None
        claimant.wanted -= 1
        claimant.held += 1
        claimant.since = next(self._calls)
        return claimant.name

    def take_back(self) -> str | None:
        """The dataset that is to give a worker back; None: nobody is.

        For one that waits, or as there are too many. That one is then on its way, until
        give_back().
        """
        claimant = self._next()
        on_their_way = sum(each.leaving for each in self._claimants.values())
        if self.free + on_their_way < 0:
            holders = [each for each in self._claimants.values() if each.staying]
        elif claimant is None or self.free + on_their_way > 0:
            return None
        else:
            holders = [
                each
                for each in self._claimants.values()
                if each.staying and each.leaving < TAKEN_AT_ONCE and _may_take(each, claimant)
            ]
        if not holders:
            return None
        holder = min(holders, key=lambda each: (each.priority, -each.staying / each.weight))
        holder.leaving += 1
        return holder.name

    def keep(self, name: str) -> None:
        """Of what take_back() asked a dataset for, it has nothing that could be given."""
        self._claimants[name].leaving -= 1

    def give_back(self, name: str, *, taken: bool = False) -> None:
        """A dataset has one worker less; `taken`: one that take_back() asked for."""
        claimant = self._claimants[name]
        claimant.held -= 1
        claimant.leaving -= taken
        self._forget_if_over(claimant)

    def held(self, name: str) -> int:
        """Workers that a dataset has."""
        claimant = self._claimants.get(name)
        return 0 if claimant is None else claimant.held

    def _forget_if_over(self, claimant: _Claimant) -> None:
        if claimant.has_left and not claimant.held:
            del self._claimants[claimant.name]

    def _next(self) -> _Claimant | None:
        waiting = [each for each in self._claimants.values() if each.wanted]
        return min(
            waiting,
            key=lambda each: (-each.priority, each.held / each.weight, each.since),
            default=None,
        )


def _may_take(holder: _Claimant, claimant: _Claimant) -> bool:
    """Whether a worker may go from one dataset to another."""
    if holder.name == claimant.name or holder.priority > claimant.priority:
        return False
    if holder.priority < claimant.priority:
        return True
    return (claimant.held + 1) / claimant.weight <= (holder.staying - 1) / holder.weight
