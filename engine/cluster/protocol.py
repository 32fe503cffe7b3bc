"""What a cluster is to the driver: workers by name, what they are told, and what they say.

Two classes keep it: local.LocalCluster starts processes on this machine, ray.RayCluster places them
on a Ray cluster. A worker has at most one exchange under way: instructions go in, a report comes
out within about a second. Every way in which that can fail means that the worker is lost, and it is
never called again. Nothing is retried here, and no object's bytes pass through.
"""

from __future__ import annotations

import queue
import re
import socket
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

from noria.engine.cluster.child import PACKAGE
from noria.engine.scheduler.events import Grant, Revoke, Split
from noria.engine.worker_spec import WorkerSpec
from noria.manifests.errors import ConfigurationError, NoriaError
from noria.manifests.model import BandwidthShare, Limits, RequestShare, WorkerReport
from noria.version import VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainWorker:
    """Instruction: hand every lease back that is held now. Another one may be granted later."""


Instruction = Grant | Revoke | Split | DrainWorker | Limits | BandwidthShare | RequestShare


START_FAILED = "start_failed"
NAME_LETTERS = 64
"""Of a host's name, as the kernel takes it."""
PATIENCE_SECONDS: Final = 60.0
"""How long a cluster may be silent before it counts as gone, where nothing else is asked for."""
_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z._-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where a worker's process runs."""

    id: str
    """The cluster's own: no two hosts share it, and one that comes back has another."""
    name: str
    """For people; as the host calls itself, in letters that a file's name and a terminal take."""

    @classmethod
    def own(cls, id: str) -> Host:
        """The one that this process runs on."""
        return cls(id=id, name=_NOT_IN_NAMES.sub("_", socket.gethostname())[:NAME_LETTERS] or "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A worker is up and may be exchanged with."""

    worker: str
    host: Host
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A worker has answered an exchange."""

    worker: str
    report: WorkerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A worker is gone."""

    worker: str
    cause: str
    """START_FAILED if it died before it was up."""
    error: NoriaError | None = None
    """What keeps it from working, if that could be said: another try would end the same way."""
    last_words: str | None = None
    """How its process ended, if it is known."""
    host: Host | None = None
    """Where it was to work, if that was said before it was up."""
    ended: bool = True
    """Its process is known to be gone. False: it cannot be reached, and may be at work still."""


_Item = TypeVar("_Item")

ClusterEvent = Started | Reported | Lost


class Cluster(Protocol):
    """Workers by name. Methods belong to one thread at a time; a context manager that closes."""

    def prestart(self) -> None:
        """Have what a first worker needs come up meanwhile: a plan takes its time. A hint."""

    def start(self, log_directory: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Make the cluster usable; a repeat does nothing.

        `log_directory` takes what its processes print. The cluster itself may be silent for
        `patience_seconds`. Raises ConfigurationError.
        """

    def trouble(self) -> str | None:
        """Why this cluster is no longer usable, with what to look at; None if it is.

        Then no worker can be heard any more, nor told anything.
        """

    def workers_elsewhere(self) -> str | None:
        """The cluster whose workers may outlive this process for a while, by its address.

        None: they end with it.
        """

    def nodes_lost(self) -> str | None:
        """Which nodes were lost since start() and are not back, and when; None if none were."""

    def hosts(self) -> Mapping[str, int]:
        """Ids of the hosts that are alive, and how many CPUs workers may take on each.

        0: it takes no more workers, or did not say in time that it does. Seconds old at most.
        """

    def start_worker(self, spec: WorkerSpec, *, avoid: Collection[str] = ()) -> None:
        """Ask for one more worker, on none of the hosts with the ids to `avoid`.

        Started or Lost tells how it went, when there is room.
        """

    def waiting(self) -> list[str]:
        """Workers that have been asked for and are not up yet."""

    def send(self, worker: str, instruction: Instruction) -> None:
        """Give an instruction with the next exchange; to a lost worker it goes nowhere."""

    def exchange(self, worker: str) -> None:
        """Call a worker that is up and has answered: carries its instructions, brings a report."""

    def poll(self, seconds: float) -> list[ClusterEvent]:
        """What has happened; waits up to `seconds` for the first of it."""

    def kill(self, worker: str) -> None:
        """End a worker's process, whatever it does; no event tells of it."""

    def leaving(self) -> set[str]:
        """Workers on nodes that are being drained."""

    def close(self) -> None:
        """End all workers, and what was started for them. A repeat does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Which Noria a process runs. The first thing that a worker says."""

    version: str
    python: str
    package: str

    @classmethod
    def own(cls) -> Build:
        """That of this process."""
        python = ".".join(map(str, sys.version_info[:3]))
        return cls(version=VERSION, python=python, package=PACKAGE)

    def refusal(self) -> ConfigurationError | None:
        """Why a driver of this process takes no worker of that build, or None."""
        own = Build.own()
        if self == own:
            return None
        return ConfigurationError(
            f"a worker runs {self}, this driver {own}; install the same on every node, in the same "
            "place"
        )

    def __str__(self) -> str:
        return f"Noria {self.version} from {self.package} on Python {self.python}"


def drain_queue(events: queue.SimpleQueue[_Item], seconds: float) -> list[_Item]:
    """All that is there; waits up to `seconds` for the first of it."""
    found = []
    try:
        found.append(events.get(timeout=seconds))
        while True:
            found.append(events.get_nowait())
    except queue.Empty:
        return found
