"""The crew of a run: how many workers it wants, who is up, and who is to leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from noria.engine.cluster.protocol import Cluster
from noria.engine.config.jobfile import RunConfig
from noria.engine.worker_spec import WorkerSpec

FAILED_STARTS: Final = 3
"""So many workers that die in a row before they are up end the run: another would die too."""
RESTART_SECONDS: Final = 1.0
"""A lost worker is replaced no sooner than this after the last one was."""
RESTARTS_SLOWER: Final = 6
"""That doubles with each worker in a row that did not come up, at most so often."""
WORKER_OBJECTS: Final = 25_000
WORKER_BYTES: Final = 1024 * 1024 * 1024
"""A worker is worth its start, half a second of CPU, where one of these falls to its share: some
five seconds of a core, or half a second of one."""


def worthwhile_workers(objects: int, size: int) -> int:
    """How many workers a job of that size keeps busy for longer than they take to start."""
    return 1 + max(objects // WORKER_OBJECTS, size // WORKER_BYTES)


class Crew:
    """Workers by name. The driver says what became of them."""

    def __init__(self, cluster: Cluster, run: RunConfig, *, objects: int, size: int) -> None:
        """`objects` and `size` in bytes are what there is to move."""
        self._cluster = cluster
        self._asked = run.workers
        self._rests = False
        self._worth = worthwhile_workers(objects, size)
        self._needed = 0
        """Workers that the work needs, as far as is known."""
        self._names = 0
        self._restarted_at = 0.0
        self.alive: set[str] = set()
        self.leaving: dict[str, float] = {}
        """Of these, those that have been told to hand all back, and since when."""
        self._avoids: dict[str, frozenset[str]] = {}
        """Worker that is not up -> hosts on which it may not be placed."""
        self.failed_starts = 0
        """Workers in a row that died before they were up."""

    def wanted(self, resting: Mapping[str, object]) -> int:
        """As many as asked for; otherwise one for each host at first, and more if CPU is short.

        Never more than there are CPUs, nor than there is work for. Hosts that are `resting` have
        none, nor has a crew that rests itself.
        """
        if self._rests:
            return 0
        known = self._cluster.hosts().items()
        hosts = {id_: cpus for id_, cpus in known if cpus and id_ not in resting}
        room = sum(hosts.values())
        if resting and not room:
            return 0
        if self._asked:
            return min(self._asked, room) if resting else self._asked
        self._needed = self._needed or max(1, len(hosts))
        return max(1, min(self._worth, room, self._needed))

    def ask(self, workers: int) -> None:
        """Want so many from now on. 0: as many as the work needs."""
        self._asked = workers

    def rest(self, on: bool) -> None:
        """Want none while it is on: others may have them."""
        self._rests = on
        if on:
            for worker in self._cluster.waiting():
                self._cluster.kill(worker)
                self._avoids.pop(worker, None)

    def surplus(self) -> list[str]:
        """Workers that are more than was asked for, the newest first."""
        if not self._asked and not self._rests:
            return []
        staying = sorted(self.alive - self.leaving.keys(), key=int)
        return staying[0 if self._rests else self._asked :][::-1]

    def begin(self, spec: WorkerSpec, resting: Mapping[str, object]) -> None:
        """Start the first workers."""
        for _ in range(self.wanted(resting)):
            self._start(spec, resting)

    def fill(
        self, spec: WorkerSpec, resting: Mapping[str, object], *, busy: bool, now: float
    ) -> None:
        """Replace who is gone; if all are up and their processors `busy`, want twice as many."""
        self._forget_old_rests(resting)
        wanted, staying = self.wanted(resting), len(self.alive - self.leaving.keys())
        pause = RESTART_SECONDS * 2.0 ** min(self.failed_starts, RESTARTS_SLOWER)
        missing = wanted - staying - len(self._cluster.waiting())
        if missing > 0 and now - self._restarted_at >= pause:
            self._restarted_at = now
            self._start(spec, resting)
        if busy and staying >= wanted:
            self._needed = 2 * wanted
            for _ in range(self.wanted(resting) - wanted):
                self._start(spec, resting)

    def note_up(self, worker: str) -> None:
        self.alive.add(worker)
        self._avoids.pop(worker, None)
        self.failed_starts = 0

    def note_failed_start(self) -> bool:
        """A worker died before it was up. Returns True if another would die too."""
        self.failed_starts += 1
        others = self.alive or self._cluster.waiting()
        return self.failed_starts >= FAILED_STARTS and not others

    def note_gone(self, worker: str) -> None:
        self.alive.discard(worker)
        self.leaving.pop(worker, None)
        self._avoids.pop(worker, None)

    def note_leaving(self, worker: str, now: float) -> bool:
        """A worker is to be told to hand all back; returns False if it was, or is gone."""
        if worker not in self.alive or worker in self.leaving:
            return False
        self.leaving[worker] = now
        return True

    def overdue(self, worker: str, now: float, seconds: float) -> bool:
        """Return True if a worker was told to hand all back so long ago."""
        return worker in self.leaving and now - self.leaving[worker] >= seconds

    def _start(self, spec: WorkerSpec, resting: Mapping[str, object]) -> None:
        self._names += 1
        name = f"{self._names}"
        self._avoids[name] = frozenset(resting)
        self._cluster.start_worker(replace(spec, name=name), avoid=resting)

    def _forget_old_rests(self, resting: Mapping[str, object]) -> None:
        """Who waits for a place and avoids a host that rests no more is asked for again."""
        for name in self._cluster.waiting():
            if not self._avoids.get(name, frozenset()) <= resting.keys():
                self._cluster.kill(name)
                self._avoids.pop(name)
