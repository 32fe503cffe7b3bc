"""The share of one worker that two budgets decide on: that of all datasets, and its dataset's own.

The worker keeps to the smaller one. Each budget counts on hearing which of its shares is in force,
so what the worker says is told to each in its own terms. Pure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from noria.manifests.model import BandwidthUse


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    of_all: float
    own: float

    @property
    def share(self) -> float:
        return min(self.of_all, self.own)


class StackedShare:
    """What one worker was told, until it says what is in force. inf: any."""

    def __init__(self, *, of_all: float, own: float) -> None:
        """What it begins with."""
        self._told = deque([_Told(of_all=of_all, own=own)])
        self._held_seconds = 0.0
        """That transfers have waited for what all have."""
        self._heard_seconds = 0.0
        """That they have waited at all, as was said last."""

    @property
    def share(self) -> float:
        """What the worker was told last, or is to begin with."""
        return self._told[-1].share

    def tell(self, *, of_all: float | None = None, own: float | None = None) -> float:
        """One of the budgets has decided; returns what the worker is to be told."""
        last = self._told[-1]
        told = _Told(
            of_all=last.of_all if of_all is None else of_all, own=last.own if own is None else own
        )
        self._told.append(told)
        return told.share

    def of_all(self, use: BandwidthUse) -> BandwidthUse:
        """What a worker says, as the budget of all is to hear it: once for each report.

        Who waits for its dataset's own limit has no use for more, and leaves it to others.
        """
        told = self._in_force(use.share)
        if told.of_all <= told.own:
            self._held_seconds += use.held_seconds - self._heard_seconds
        self._heard_seconds = use.held_seconds
        return replace(use, share=told.of_all, held_seconds=self._held_seconds)

    def own(self, use: BandwidthUse) -> BandwidthUse:
        """The same for the budget of its dataset."""
        return replace(use, share=self._in_force(use.share).own)

    def _in_force(self, share: float) -> _Told:
        """The last that it was told with that share; what it was told before is over."""
        places = [place for place, told in enumerate(self._told) if told.share == share]
        for _ in range(places[-1] if places else 0):
            self._told.popleft()
        return self._told[0]
