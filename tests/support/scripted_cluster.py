"""A cluster of workers in the test's own process, which does to them what a test says."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from noria.engine.cluster.protocol import (
    PATIENCE_SECONDS,
    ClusterEvent,
    Host,
    Instruction,
    Lost,
    Reported,
    Started,
)
from noria.engine.cluster.worker_process import exchange
from noria.engine.worker_factory import make_worker
from noria.engine.worker_spec import WorkerSpec
from noria.manifests.model import WorkerReport
from noria.workers.lease.worker import Worker

WAIT_SECONDS = 0.05
LOOK_SECONDS = 0.01


def reported(worker: str, report: WorkerReport) -> ClusterEvent:
    """The fate of a worker that is well."""
    return Reported(worker=worker, report=report)


@dataclass
class ScriptedCluster:
    """See protocol.Cluster. Workers are real; `fate` says what the driver hears of each report."""

    fate: Callable[[str, WorkerReport], ClusterEvent | None] = reported
    """None: nothing any more."""
    names: tuple[str, ...] = ("here",)
    """Of its hosts, which have room for one worker each."""
    full: set[str] = field(default_factory=set)
    """Of these, those that take no more workers."""
    places: dict[str, str] = field(default_factory=dict)
    """Worker -> host."""
    elsewhere: str | None = None
    starts: bool = True
    """False: no worker ever comes up."""
    losses: str | None = None
    said: str | None = None
    """What trouble() says."""
    started: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    patience_seconds: float = 0.0
    closed: int = 0
    _workers: dict[str, Worker] = field(default_factory=dict)
    _asked: dict[str, tuple[WorkerSpec, Collection[str]]] = field(default_factory=dict)
    """Those that are not up yet, and the hosts that they avoid."""
    _outboxes: dict[str, list[Instruction]] = field(default_factory=dict)
    _events: deque[ClusterEvent] = field(default_factory=deque)

    def prestart(self) -> None:
        pass

    def start(self, log_directory: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.patience_seconds = patience_seconds

    def trouble(self) -> str | None:
        return self.said

    def workers_elsewhere(self) -> str | None:
        return self.elsewhere

    def nodes_lost(self) -> str | None:
        return self.losses

    def hosts(self) -> dict[str, int]:
        return {name: int(name not in self.full) for name in self.names}

    def start_worker(self, spec: WorkerSpec, *, avoid: Collection[str] = ()) -> None:
        self.started.append(spec.name)
        self._asked[spec.name] = (spec, avoid)

    def waiting(self) -> list[str]:
        return list(self._asked)

    def send(self, worker: str, instruction: Instruction) -> None:
        if worker in self._outboxes:
            self._outboxes[worker].append(instruction)

    def exchange(self, worker: str) -> None:
        if worker not in self._workers:
            return
        outbox, self._outboxes[worker] = tuple(self._outboxes[worker]), []
        event = self.fate(worker, exchange(self._workers[worker], outbox, WAIT_SECONDS))
        if isinstance(event, Lost):
            del self._workers[worker]  # to the cluster it is gone, whatever it does yet
        if event is not None:
            self._events.append(event)

    def poll(self, seconds: float) -> list[ClusterEvent]:
        if self.starts:
            self._place()
        if not self._events:
            time.sleep(min(seconds, LOOK_SECONDS))
        found = list(self._events)
        self._events.clear()
        return found

    def kill(self, worker: str) -> None:
        self.killed.append(worker)
        self._asked.pop(worker, None)
        self._workers.pop(worker, None)

    def leaving(self) -> set[str]:
        return set()

    def close(self) -> None:
        self.closed += 1
        for worker in self._workers.values():
            worker.close()  # its threads and connections; not if it has leases, as after a crash

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _place(self) -> None:
        """Start those for which a host has room."""
        for name, (spec, avoid) in list(self._asked.items()):
            taken = [self.places[worker] for worker in self._workers]
            shut = {*avoid, *taken, *self.full}
            free = [each for each in self.names if each not in shut]
            if free:
                del self._asked[name]
                self.places[name] = free[0]
                self._workers[name] = make_worker(spec)
                self._outboxes[name] = []
                host = Host(id=free[0], name=free[0])
                self._events.append(Started(worker=name, host=host, pid=0))
