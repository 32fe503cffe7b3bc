"""Sick hosts: whose trouble it is, and which hosts may have workers.

What one machine cannot do says nothing about the job while others can do it: its clock, its
credentials, its way to a store, its view of the job directory. Such a host rests. Its workers hand
back what they hold, others get it, and after the rest a new worker finds out whether it is well:
it may not start before it has seen both stores. Each further trouble doubles the rest. If no host
is left, the trouble is the job's, and the run stops with the reason of each.

    well ──── trouble ────▶ resting ──── rest is over ────▶ on trial ──── a lease ends well ──▶ well
                               ▲                                │
                               └──────── trouble, twice as long ┘

Pure: the driver tells what happens, with its own clock, and asks.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from noria.engine.cluster.protocol import Host
from noria.manifests.count_text import count_text
from noria.manifests.counters import Gauge, Histogram, StoreRole
from noria.manifests.model import MetricsSnapshot

REST_SECONDS: Final = 60.0
"""How long a host rests after its first trouble."""
REST_SECONDS_MAX: Final = 1800.0
MARGIN_SECONDS: Final = 5.0
"""A host whose requests are held is in trouble if others are answered so long after it was seen."""
ID_DIGITS: Final = 8
"""Of its id, in the name of a host if an earlier one has the same."""
NAMED: Final = 5
"""Hosts that one line names."""
LOSSES: Final = 3
"""So many workers that end on one host, and no lease that ends well in between, are its trouble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a host rests."""

    cause: str
    message: str
    compared: bool = False
    """It is one only beside others that are well."""


@dataclass(slots=True, eq=False)
class HostHealth:
    """What is known of one host."""

    name: str
    workers: set[str] = field(default_factory=set)
    trouble: Trouble | None = None
    """The last one; None: it is well."""
    troubles: int = 0
    """Since it was well."""
    rests_until: float = -math.inf
    losses: int = 0
    """Workers lost in a row."""
    answered_at: dict[StoreRole, float] = field(default_factory=dict)
    """When a store was last seen to have answered a worker here."""


class HostWatch:
    """Judges hosts. Names are those that the cluster gives: see protocol.Host."""

    def __init__(self) -> None:
        self._hosts: dict[str, HostHealth] = {}
        self._host_of: dict[str, HostHealth] = {}
        """By worker."""
        self._answers: dict[tuple[str, StoreRole], float] = {}
        """(worker, store) -> requests that were answered, as of its last report."""
        self._silent: dict[tuple[str, StoreRole], float] = {}
        """(worker, store) that does not answer it -> when that was first seen."""

    # -- what happens ------------------------------------------------------------------------------

    def join(self, worker: str, host: Host) -> None:
        """A worker is up."""
        health = self._know(host)
        health.workers.add(worker)
        self._host_of[worker] = health

    def leave(self, worker: str, *, lost: bool, now: float) -> None:
        """A worker is gone; `lost`: by itself."""
        health = self._host_of.pop(worker, None)
        for role in StoreRole:
            self._answers.pop((worker, role), None)
            self._silent.pop((worker, role), None)
        if health is None:
            return
        health.workers.discard(worker)
        health.losses += lost
        if health.losses >= LOSSES and self._others_are_well(health, now):
            words = f"{count_text(health.losses, 'worker')} in a row ended there"
            trouble = Trouble(cause="workers_lost", message=words, compared=True)
            self._rest(health, trouble, now)

    def hear(self, worker: str, metrics: MetricsSnapshot, now: float) -> None:
        """A worker has reported what its stores do."""
        health = self._host_of.get(worker)
        if health is None:
            return
        for role in StoreRole:
            place = worker, role
            answers = _answered(metrics, role)
            if answers > self._answers.get(place, 0.0):
                health.answered_at[role] = now
            self._answers[place] = answers
            if metrics.gauges.get((Gauge.SILENT_SECONDS, role), 0.0) > 0:
                self._silent.setdefault(place, now)
            else:
                self._silent.pop(place, None)

    def succeed(self, worker: str, now: float) -> None:
        """A lease has ended well: the host is well, unless it still rests."""
        health = self._host_of.get(worker)
        if health is None:
            return
        health.losses = 0
        if now >= health.rests_until:
            health.trouble, health.troubles = None, 0

    def refuse_start(self, host: Host, trouble: Trouble, now: float) -> None:
        """A worker could not start on this host: its trouble, unless others work there."""
        health = self._know(host)
        if not health.workers:
            self._rest(health, trouble, now)

    def blame(self, worker: str, trouble: Trouble, now: float) -> None:
        """A worker has met what ends all work on its host."""
        health = self._host_of.get(worker)
        if health is not None:
            self._rest(health, trouble, now)

    def doubt(self, worker: str, trouble: Trouble, now: float) -> None:
        """A worker has failed where its work may be at fault too; others are to try."""
        health = self._host_of.get(worker)
        if health is not None and self._others_are_well(health, now):
            self._rest(health, replace(trouble, compared=True), now)

    def look(self, now: float) -> None:
        """Find hosts that a store does not answer, though it answers others."""
        for role in StoreRole:
            silent = {worker: at for (worker, of), at in self._silent.items() if of is role}
            unanswered = {id(self._host_of[worker]) for worker in silent}
            # Who is not answered itself proves nothing: a store may refuse one operation to all.
            answered_at = max(
                (
                    health.answered_at.get(role, -math.inf)
                    for health in self._hosts.values()
                    if id(health) not in unanswered
                ),
                default=-math.inf,
            )
            words = f"the {role} answers other hosts, and does not answer this one"
            trouble = Trouble(cause="unavailable", message=words, compared=True)
            for worker, seen_at in silent.items():
                if answered_at >= seen_at + MARGIN_SECONDS:
                    self._rest(self._host_of[worker], trouble, now)

    # -- what a driver asks ------------------------------------------------------------------------

    def resting(self, now: float) -> Mapping[str, Trouble]:
        """Ids of the hosts that may have no worker now, and why."""
        return {
            id_: health.trouble
            for id_, health in self._hosts.items()
            if health.trouble is not None and now < health.rests_until
        }

    def reasons(self, now: float) -> dict[str, str]:
        """Names of the hosts that rest -> what a person is told of it."""
        return {
            self._hosts[id_].name: f"{trouble.cause}: {trouble.message}"
            for id_, trouble in self.resting(now).items()
        }

    def workers_to_end(self, now: float) -> list[str]:
        """Those on hosts that rest."""
        return [worker for id_ in self.resting(now) for worker in sorted(self._hosts[id_].workers)]

    def occupied(self) -> set[str]:
        """Ids of the hosts that have workers."""
        return {id_ for id_, health in self._hosts.items() if health.workers}

    def verdict(self, known: Collection[str], now: float) -> Trouble | None:
        """Why the run has to stop, if every host rests that the cluster is `known` to have.

        If one of them rests only because others were well, it is tried again instead.
        """
        resting = {id_: one for id_, one in self.resting(now).items() if id_ in known}
        if len(resting) < len(known) or not known:
            return None
        compared = [id_ for id_, trouble in resting.items() if trouble.compared]
        for id_ in compared:
            self._hosts[id_].rests_until = now
        if compared:
            return None
        troubles = list(resting.values())
        first = troubles[0]
        if len(troubles) == 1:
            return first
        if len({trouble.cause for trouble in troubles}) == 1:
            words = f"{first.message} (so on all {len(troubles)} hosts)"
            return Trouble(cause=first.cause, message=words)
        return Trouble(cause="no_hosts", message=f"no host is left: {self.told(now)}")

    def told(self, now: float) -> str:
        """Each host that rests with its reason, in one line; empty if none does."""
        resting = self.resting(now)
        each = [f"{self._hosts[id_].name}: {one.message}" for id_, one in resting.items()]
        more = f"; and {len(each) - NAMED} more" if len(each) > NAMED else ""
        return "; ".join(each[:NAMED]) + more

    def name_of(self, host: Host) -> str:
        """What people are told: its own name, with its id if an earlier host has the same."""
        return self._know(host).name

    # -- its own -----------------------------------------------------------------------------------

    def _know(self, host: Host) -> HostHealth:
        health = self._hosts.get(host.id)
        if health is None:
            taken = any(known.name == host.name for known in self._hosts.values())
            name = f"{host.name} ({host.id[:ID_DIGITS]})" if taken else host.name
            health = self._hosts[host.id] = HostHealth(name)
        return health

    def _others_are_well(self, health: HostHealth, now: float) -> bool:
        return any(
            other is not health and other.workers and now >= other.rests_until
            for other in self._hosts.values()
        )

    def _rest(self, health: HostHealth, trouble: Trouble, now: float) -> None:
        if health.trouble is not None and now < health.rests_until:
            return
        health.trouble, health.losses = trouble, 0
        health.rests_until = now + min(REST_SECONDS * 2.0**health.troubles, REST_SECONDS_MAX)
        health.troubles += 1


def _answered(metrics: MetricsSnapshot, role: StoreRole) -> float:
    return sum(
        sum(counts[:-1])
        for labels, counts in metrics.histograms.items()
        if labels[:2] == (Histogram.REQUEST_SECONDS, role)
    )
