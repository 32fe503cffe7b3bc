"""Workers as actors of a Ray cluster: the driver's half.

Ray itself lives in a process of its own, the gateway (ray_gateway.py): it prints to standard output
from threads, ends its process a minute after its control store has died, and gives workers the
current folder as a module path. None of that reaches the program that runs a job. The gateway ends
with the driver, and Ray ends the workers with the gateway.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import signal
import socket
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from noria.engine.cluster.child import Child
from noria.engine.cluster.protocol import (
    PATIENCE_SECONDS,
    ClusterEvent,
    Instruction,
    Lost,
    Started,
    drain_queue,
)
from noria.engine.cluster.ray_health import ClusterHealth, Node
from noria.engine.worker_spec import WorkerSpec
from noria.manifests.errors import ConfigurationError

log = logging.getLogger("noria.ray")

_MODULE: Final = "noria.engine.cluster.ray_gateway"
AUTO: Final = "auto"
"""The address of a cluster that Ray is to find by itself."""
REACH_SECONDS: Final = 3.0
"""How long a host may take to accept a connection."""
JOIN_SECONDS: Final = 8.0
"""How long a cluster may take to let the gateway in, so that a command says within ten seconds that
there is none. It is the gateway's own two seconds to load Ray, and far more than a cluster that
stands ever took."""
START_SECONDS: Final = 60.0
"""How long a Ray on this machine may take to come up."""
LOOK_SECONDS: Final = 0.25
_TOKEN_REFUSED: Final = re.compile(rb"AuthToken|AuthenticationError|Unauthenticated", re.IGNORECASE)
CLOSE_SECONDS: Final = 5.0
"""How long the gateway may take to leave the cluster."""
HANG_UP_SECONDS: Final = 1.0
"""How long it may take to end at once, with a Ray of its own."""
OWN_SILENCE_SECONDS: Final = 20.0
"""A control store of this machine that is silent for so long is dead: no network lies between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """What the gateway is told first."""

    address: str | None
    """None: start a Ray on this machine."""
    cpus: int
    log: str
    report_seconds: float
    patience_seconds: float
    """How long the control store may be silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The gateway is in the cluster."""

    address: str
    """Of its control store."""
    notes: tuple[str, ...]
    """Lines for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotJoined:
    """The gateway could not join, or start, the cluster."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A line for the user."""

    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """What the gateway sees of the cluster, every few seconds."""

    nodes: Mapping[str, Node]
    """Those that are alive, by their ids."""
    hosts: Mapping[str, int]
    """Of these, ids of the nodes with CPUs -> CPUs; 0: it takes nothing new."""
    leaving: frozenset[str]
    """Workers on nodes that take nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWorker:
    spec: WorkerSpec
    avoid: tuple[str, ...]
    """Ids of nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    worker: str
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KillWorker:
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """The last word to a gateway."""


@dataclass(slots=True)
class _RemoteWorker:
    is_up: bool = False
    outbox: list[Instruction] = field(default_factory=list)


class RayCluster:
    """See protocol.Cluster."""

    def __init__(
        self,
        address: str | None,
        *,
        report_seconds: float = 1.0,
    ) -> None:
        """Nothing is started yet.

        `address` names a running cluster: HOST:PORT or auto. None: a Ray on this machine, which
        ends with close().
        """
        self._address = address
        self._report_seconds = report_seconds
        self._gateway: Child | None = None
        self._thread: threading.Thread | None = None
        self._members: dict[str, _RemoteWorker] = {}
        self._events: queue.SimpleQueue[ClusterEvent] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Joined | NotJoined] = queue.SimpleQueue()
        self._state = ClusterState(nodes={}, hosts={}, leaving=frozenset())
        self._health = ClusterHealth(address, patience_seconds=PATIENCE_SECONDS)
        self._is_in = False
        self._is_gone = False

    def prestart(self) -> None:
        """Nothing: a cluster that stands gives no CPU away before it is needed."""

    def start(self, log_directory: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        if self._gateway is not None:
            return
        if self._address is not None:
            _reach(self._address)
        log_file = log_directory / "ray.txt"
        said_before = log_file.stat().st_size if log_file.exists() else 0
        if self._address is None:
            patience_seconds = min(patience_seconds, OWN_SILENCE_SECONDS)
        self._health = ClusterHealth(self._address, patience_seconds=patience_seconds)
        self._gateway = Child(_MODULE, death_signal=signal.SIGHUP)
        self._thread = threading.Thread(
            target=self._listen, args=(self._gateway,), name="gateway", daemon=True
        )
        self._thread.start()
        self._tell(
            GatewayOptions(
                address=self._address,
                cpus=len(os.sched_getaffinity(0)),
                log=str(log_file),
                report_seconds=self._report_seconds,
                patience_seconds=patience_seconds,
            )
        )
        answer = self._wait_for_answer(log_file, said_before)
        if isinstance(answer, NotJoined):
            self.close()
            raise ConfigurationError(_not_joined(self._address, answer.reason, log_file))
        self._is_in = True
        if self._address == AUTO:
            self._health.address = answer.address
        for note in answer.notes:
            log.warning("%s", note)

    def trouble(self) -> str | None:
        return self._health.trouble()

    def workers_elsewhere(self) -> str | None:
        return self._address

    def nodes_lost(self) -> str | None:
        return self._health.nodes_lost()

    def hosts(self) -> Mapping[str, int]:
        return self._state.hosts

    def start_worker(self, spec: WorkerSpec, *, avoid: Collection[str] = ()) -> None:
        self._members[spec.name] = _RemoteWorker()
        self._tell(StartWorker(spec=spec, avoid=tuple(sorted(avoid))))

    def waiting(self) -> list[str]:
        return [name for name, member in self._members.items() if not member.is_up]

    def send(self, worker: str, instruction: Instruction) -> None:
        member = self._members.get(worker)
        if member is not None:
            member.outbox.append(instruction)

    def exchange(self, worker: str) -> None:
        member = self._members.get(worker)
        if member is not None:
            outbox, member.outbox = tuple(member.outbox), []
            self._tell(Exchange(worker=worker, instructions=outbox))

    def poll(self, seconds: float) -> list[ClusterEvent]:
        found = []
        for event in drain_queue(self._events, seconds):
            member = self._members.get(event.worker)
            if member is None:
                continue  # it was killed meanwhile
            if isinstance(event, Lost):
                del self._members[event.worker]
            elif isinstance(event, Started):
                member.is_up = True
            found.append(event)
        self._health.look()
        if self._is_gone:  # and with the gateway all workers
            ended = self._address is None  # on other hosts Ray has to hear of it first
            found += [
                Lost(worker=worker, cause="cluster_lost", ended=ended) for worker in self._members
            ]
            self._members.clear()
        return found

    def kill(self, worker: str) -> None:
        if self._members.pop(worker, None) is not None:
            self._tell(KillWorker(worker=worker))

    def leaving(self) -> set[str]:
        return set(self._state.leaving & self._members.keys())

    def close(self) -> None:
        gateway, self._gateway = self._gateway, None
        if gateway is None or self._thread is None:
            return
        if self._is_in and self.trouble() is None:
            with contextlib.suppress(OSError):
                gateway.channel.send(Leave())
                self._thread.join(CLOSE_SECONDS)
        gateway.channel.hang_up()
        self._thread.join(HANG_UP_SECONDS)
        gateway.kill()
        self._thread.join()  # it has the gateway's last words, which wait() throws away
        gateway.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _wait_for_answer(self, log_file: Path, said_before: int) -> Joined | NotJoined:
        """What the gateway says, or why it says nothing.

        Ray repeats a token that is refused for twenty seconds; only its log tells that it was.
        """
        seconds = START_SECONDS if self._address is None else JOIN_SECONDS
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                return self._answers.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                with contextlib.suppress(OSError), log_file.open("rb") as said:
                    said.seek(said_before)
                    if _TOKEN_REFUSED.search(said.read()):
                        return NotJoined(reason="it does not take this driver's token")
        return NotJoined(reason=f"no answer within {seconds:.0f} s")

    def _tell(self, message: object) -> None:
        if self._gateway is not None and not self._is_gone:
            try:
                self._gateway.channel.send(message)
            except OSError:
                self._note_end()

    def _listen(self, gateway: Child) -> None:
        """Hear the gateway until it is gone; on a thread of its own."""
        try:
            while True:
                match gateway.channel.receive():
                    case ClusterState() as state:
                        self._state = state
                        self._health.hear(state.nodes)
                    case Remark(line=line):
                        log.warning("%s", line)
                    case (Joined() | NotJoined()) as answer:
                        self._answers.put(answer)
                    case event:
                        self._events.put(event)
        except (EOFError, OSError):
            self._note_end()
            self._answers.put(NotJoined(reason=gateway.last_words()))

    def _note_end(self) -> None:
        self._is_gone = True
        self._health.end()


def _reach(address: str) -> None:
    """Raise ConfigurationError at once if nobody listens at HOST:PORT.

    What is not written so is for Ray to understand.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS):
            return
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(_not_joined(address, reason, None)) from None


def _not_joined(address: str | None, reason: str, log: Path | None) -> str:
    if address is None:
        return f"cannot start a Ray on this machine: {reason}; see {log}"
    hint = "see that it is up (`ray status`)"
    if log is not None:
        hint += (
            " and that this driver has the cluster's token (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH "
            f"or ~/.ray/auth_token); Ray's own words are in {log}"
        )
    return f"cannot join the Ray cluster at {address}: {reason}; {hint}"
