"""What a job may read each second, shared out to its workers.

Shares follow demand: who used less than its share leaves the rest to those who were held up by
theirs, and these get the same. Workers say with each report what they used, how long transfers were
in flight and waited, and which share is in force there.

No byte is given twice. A share counts as used until its worker has said that a smaller one is in
force; only then do others get the difference. The share of a worker that was lost stays with it
until it must have stopped by itself (workers/runtime/hold.py).

Pure: time comes in with each call, in seconds on any one clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from noria.manifests.model import BandwidthShare, BandwidthUse

HELD = 0.1
"""Workers with so many transfers that wait, on average, are held up."""
NEGLIGIBLE = 0.001
"""So few have waited before, and do no more: what is left of that fades, and is never nothing."""
SPARE = 1.05
"""Of what a worker has a use for: so much is left to it if there are others who want it."""
MEMORY_SECONDS = 2.0
"""What a worker did is forgotten over this time: single pieces and reports are no measure."""
FLOOR = 0.02
"""Of an even share: each worker has it, so that it can begin, and show that it wants more."""
WINDOW_SECONDS = 0.5
"""What a worker wants is told from no less time than this: reports may come close together."""
WORTH = 0.01
"""A share that would change by less than this part stays as it is."""


@dataclass(slots=True)
class _Holder:
    """A worker: the share it was told, the one it has said to be in force, what it wants."""

    told: float
    heard: float
    use: BandwidthUse | None = None
    """As it was at its last report but those that came too close upon it."""
    rate: float = 0.0
    """Bytes a second that it used."""
    transfers: float = 0.0
    held: float = 0.0
    """Of its transfers, those that waited."""
    is_known: bool = False

    def learn(self, use: BandwidthUse) -> None:
        before = self.use = self.use or use
        seconds = use.seconds - before.seconds
        if seconds < WINDOW_SECONDS:
            return
        weight = 1 - math.exp(-seconds / MEMORY_SECONDS) if self.is_known else 1.0
        # What was given back may be more than what was used since.
        used = max(0.0, use.used_bytes - before.used_bytes)
        self.rate += weight * (used / seconds - self.rate)
        in_flight = (use.transfer_seconds - before.transfer_seconds) / seconds
        self.transfers += weight * (in_flight - self.transfers)
        held = (use.held_seconds - before.held_seconds) / seconds
        self.held += weight * (held - self.held)
        self.use, self.is_known = use, True

    @property
    def wants(self) -> float:
        """Bytes a second that it has a use for: as if those that waited had moved as others did."""
        busy = self.transfers - self.held
        if not self.is_known or (self.held > NEGLIGIBLE and (busy <= 0 or self.rate <= 0)):
            return math.inf
        return SPARE * self.rate * (self.transfers / busy if busy > 0 else 1.0)

    @property
    def is_settled(self) -> bool:
        """It has said that what it was told is in force."""
        return self.told == self.heard

    @property
    def may_use(self) -> float:
        return max(self.told, self.heard)


class BandwidthBudget:
    """Hears all workers, and says which share of the job's bandwidth each has. One for each run."""

    def __init__(self, ask_limit: Callable[[], float]) -> None:
        """`ask_limit`: bytes a second of the whole job, asked for at each decision. inf: any."""
        self._ask_limit = ask_limit
        self._members: dict[str, _Holder] = {}
        self._leavers: list[tuple[float, float]] = []
        """Shares of workers that may go on, and until when."""

    @property
    def limit(self) -> float:
        """Bytes a second of the whole job. inf: any number."""
        return self._ask_limit()

    @property
    def rate(self) -> float:
        """Bytes a second that all workers together use."""
        return sum(member.rate for member in self._members.values())

    @property
    def start(self) -> float:
        """The share that a worker starts with."""
        return math.inf if self.limit == math.inf else 0.0

    @property
    def holds(self) -> bool:
        """The limit holds workers up now."""
        return self.limit != math.inf and any(
            member.held >= HELD for member in self._members.values()
        )

    def join(self, worker: str) -> None:
        self._members[worker] = _Holder(told=self.start, heard=self.start)

    def restart(self, worker: str) -> float:
        """Another worker goes on in its place, with the share that this returns in force there."""
        share = self._members[worker].may_use
        self._members[worker] = _Holder(told=share, heard=share)
        return share

    def leave(self, worker: str, *, may_work_until: float = -math.inf) -> None:
        """A worker is gone; one that was not seen to end may go on until then."""
        member = self._members.pop(worker, None)
        if member is not None:
            self._leavers.append((may_work_until, member.may_use))

    def hear(self, worker: str, use: BandwidthUse) -> None:
        """A worker's report."""
        member = self._members.get(worker)
        if member is None:
            return
        if member.is_settled:
            member.told = use.share
        member.heard = use.share
        member.learn(use)

    def decide(self, now: float) -> dict[str, BandwidthShare]:
        """Worker -> its share, for those whose share changes now."""
        limit = self.limit
        self._leavers = [leaver for leaver in self._leavers if leaver[0] > now]
        if limit == math.inf:
            return self._tell(dict.fromkeys(self._members, limit))
        kept = sum(share for _, share in self._leavers)
        wants = {name: member.wants for name, member in self._members.items()}
        fair = fair_shares(max(0.0, limit - kept), wants)
        # Whoever has not confirmed its last share is not told another one: what is in force at a
        # worker is then always one of two shares that are known here.
        free = {name for name, member in self._members.items() if member.is_settled}
        news = {name: fair[name] for name in free if fair[name] < self._members[name].told}
        room = limit - kept - sum(member.may_use for member in self._members.values())
        for name in sorted(free - news.keys(), key=lambda name: (self._members[name].told, name)):
            more = min(fair[name] - self._members[name].told, room)
            if more > 0:
                news[name] = self._members[name].told + more
                room -= more
        return self._tell(news)

    def _tell(self, news: Mapping[str, float]) -> dict[str, BandwidthShare]:
        told = {}
        for name, share in news.items():
            member = self._members[name]
            if member.told == share or _is_near(member.told, share):
                continue
            member.told = share
            told[name] = BandwidthShare(bytes_per_second=share)
        return told


def fair_shares(rate: float, wants: Mapping[str, float]) -> dict[str, float]:
    """The rate split evenly among those who want that much; each has FLOOR of an even share.

    What some do not want goes to the others; what nobody wants, to all: they may want it soon.
    """
    split: dict[str, float] = {}
    left, least = rate, FLOOR * rate / max(1, len(wants))
    for place, name in enumerate(sorted(wants, key=lambda name: (wants[name], name))):
        even = left / (len(wants) - place)
        split[name] = min(even, max(least, wants[name]))
        left -= split[name]
    return {name: share + left / len(wants) for name, share in split.items()}


def _is_near(told: float, share: float) -> bool:
    return math.isfinite(told) and abs(share - told) <= WORTH * told
