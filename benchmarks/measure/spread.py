"""Medians, spreads, and ratios of what was measured side by side."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    lowest: float
    highest: float
    count: int

    def text(self, digits: int = 2) -> str:
        """As `0.51 (0.49 to 0.55)`; of one measurement, its value."""
        median, lowest, highest = (
            f"{value:,.{digits}f}" for value in (self.median, self.lowest, self.highest)
        )
        return median if self.count == 1 else f"{median} ({lowest} to {highest})"


def spread_of(values: Iterable[float]) -> Spread | None:
    """None if nothing was measured."""
    ordered = sorted(values)
    if not ordered:
        return None
    return Spread(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))


def paired_ratios(values: Mapping[int, float], others: Mapping[int, float]) -> Spread | None:
    """Of `values` over `others`, each by its round.

    Load that comes and goes strikes both of a round, so the ratio is taken inside each round and
    the median afterwards. Rounds that only one of them has do not count.
    """
    rounds = values.keys() & others.keys()
    return spread_of(values[number] / others[number] for number in rounds if others[number])
