"""Bytes on their way: what both stores give, shared out by what each worker could take.

Where the workers could take more than a store gives, all get the same share of what they could
take. So time can be counted in *volume*: it runs at that share of the clock's pace. A lease's pace
in volume is its worker's alone, and a store that throttles changes one number, not a thousand.
"""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar

FOREVER = float("inf")


class Timed(Protocol):
    version: int


T = TypeVar("T", bound=Timed)


class Flow(Generic[T]):
    """The volume so far, and what is due at which volume.

    Entries that have a newer version by then are passed over.
    """

    def __init__(self, source_rate: float, target_rate: float) -> None:
        self.now = 0.0
        self.volume = 0.0
        self.moved = 0.0
        """Bytes so far, and what else work costs in bytes."""
        self._cap = FOREVER
        self._share = 1.0
        self._demand = 0.0
        self._rates = {"source": source_rate, "target": target_rate}
        self._throttles = {"source": 1.0, "target": 1.0}
        self._due: list[tuple[float, int, int, T]] = []
        self._serial = 0

    def advance(self, now: float) -> None:
        self.volume += (now - self.now) * self._share
        self.moved += (now - self.now) * self._share * self._demand
        self.now = now

    def change_demand(self, difference: float) -> None:
        """Workers could take so much more, in bytes a second."""
        self._demand += difference
        self._set_share()

    def throttle(self, store: str, factor: float) -> None:
        """From now on the store gives this share of its rate."""
        self._throttles[store] = factor
        self._set_share()

    def cap(self, rate: float) -> None:
        """From now on all together get no more than this. inf: what the stores give."""
        self._cap = rate
        self._set_share()

    def add(self, volume: float, item: T) -> None:
        self._serial += 1
        heapq.heappush(self._due, (volume, self._serial, item.version, item))

    def next_time(self) -> float:
        """When the next item is due, if nothing changes."""
        due = self._due
        while due and due[0][2] != due[0][3].version:
            heapq.heappop(due)
        if not due or not self._share:
            return FOREVER
        return self.now + max(0.0, due[0][0] - self.volume) / self._share

    def pop(self) -> T:
        """The item that next_time() is about."""
        volume, _, _, item = heapq.heappop(self._due)
        self.volume = max(self.volume, volume)
        return item

    def _set_share(self) -> None:
        given = min(rate * self._throttles[store] for store, rate in self._rates.items())
        given = min(given, self._cap)
        self._share = min(1.0, given / self._demand) if self._demand > given else 1.0
