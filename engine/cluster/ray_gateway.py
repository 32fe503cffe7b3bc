"""The one door to Ray: a process that places workers as actors, and carries what they are told.

Ray places processes and tells when they die. It never retries, restarts or resumes anything for us:
`max_restarts=0, max_task_retries=0`, since its own retries would run side effects twice without
telling. Only its public API is used.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from noria.engine.cluster.child import Channel, print_to
from noria.engine.cluster.processes import (
    descendants,
    listening_ports,
    own_niceness,
    take_niceness,
)
from noria.engine.cluster.protocol import (
    START_FAILED,
    Build,
    Host,
    Instruction,
    Lost,
    Reported,
    Started,
)
from noria.engine.cluster.ray import (
    ClusterState,
    Exchange,
    GatewayOptions,
    Joined,
    KillWorker,
    Leave,
    NotJoined,
    Remark,
    StartWorker,
)
from noria.engine.cluster.ray_health import Node
from noria.engine.cluster.worker_process import exchange, gather_log
from noria.engine.worker_spec import WorkerSpec
from noria.manifests.errors import NoriaError
from noria.manifests.model import WorkerReport

if TYPE_CHECKING:
    from noria.workers.lease.worker import Worker

log = logging.getLogger("noria.ray")

_SETTINGS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_worker_niceness": "0",
}
"""No telemetry, no task events (these cost about a fifth of the rate of calls), no working folder
taken along by `uv run`, and workers as nice as the driver: Ray's default, 15, gets the last CPU.

For a Ray of our own. On a cluster that is joined, the environment of `ray start` decides."""
_RECONNECT: Final = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Ray ends its processes, the gateway among them, if the control store is silent for so long; a
minute by default."""
RECONNECT_SECONDS: Final = 30
"""The gateway stays for so much longer than its driver is patient, which says why it gives up."""
TOKEN_FILE: Final = Path("~/.ray/auth_token")
"""Where `ray get-auth-token --generate` leaves a token, and `ray start` finds it."""
OBJECT_STORE_BYTES: Final = 80 * 1024 * 1024
"""Ray's minimum is 75 MiB; nothing of ours goes in."""
SESSION_BYTES: Final = 64 * 1024 * 1024
"""Room that a Ray of our own has to find for its session: logs, sockets, what is spilled."""
NODE_LABEL: Final = "ray.io/node-id"
PULSE_SECONDS: Final = 2.0
RESERVE_SECONDS: Final = 1.0
"""How long a node that takes new work may take to reserve next to nothing: it takes 3 ms."""
RESERVED_SECONDS: Final = 0.1
"""How long Ray may take to say that a reservation has been granted."""
NODE_PULSE_SECONDS: Final = 0.02
"""Nodes are asked for a reservation no more often than this for each: it costs the control store
3 ms."""
RESERVED: Final = 0.001
"""Of the resource `node:ADDRESS` that each node has one of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorStart:
    """How the start of an actor went."""

    host: Host
    pid: int
    niceness: int
    error: NoriaError | None


class WorkerActor:
    """The process that holds a Worker. Its constructor cannot fail; start() tells what does."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def build(self) -> tuple[Build, Host]:
        """Which Noria this process runs, and where."""
        import ray

        return Build.own(), Host.own(ray.get_runtime_context().get_node_id())

    def start(self, spec: WorkerSpec, niceness: int) -> ActorStart:
        """Open stores and job directory; returns where this is, and why it cannot work.

        `niceness` is the driver's: this process takes it, if it may.
        """
        import ray

        from noria.engine.worker_factory import make_worker

        host = Host.own(ray.get_runtime_context().get_node_id())
        gather_log(spec, host.name)
        niceness = take_niceness(niceness)  # before there are threads: they inherit it
        error = None
        try:
            self._worker = make_worker(spec, look=True)
        except NoriaError as refusal:
            error = refusal
        return ActorStart(host=host, pid=os.getpid(), niceness=niceness, error=error)

    def exchange(self, instructions: tuple[Instruction, ...], wait_seconds: float) -> WorkerReport:
        """See worker_process.exchange."""
        assert self._worker is not None, "start() comes first"
        return exchange(self._worker, instructions, wait_seconds)


@dataclass(slots=True)
class _Placed:
    actor: Any
    spec: WorkerSpec
    node: str | None = None
    """Where it is; None: it is not up yet."""


@dataclass(frozen=True, slots=True)
class _Done:
    """A call to an actor has ended, one way or the other."""

    worker: str
    call: str
    future: Future[Any]


def main(channel: Channel) -> None:
    """Serve a driver until it says Leave. Once it is gone this process is, too."""
    options: GatewayOptions = channel.receive()
    print_to(Path(options.log))
    # The driver's end. Not SIGTERM: Ray takes that for itself, and takes its time.
    signal.signal(signal.SIGHUP, lambda number, frame: _end_at_once())
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, inbox), name="listen", daemon=True).start()
    # Ray puts the current folder on the module path of all workers; this one is there anyway.
    os.chdir(os.path.dirname(os.__file__))
    os.environ.pop("PYTHONPATH", None)
    try:
        address, notes = _join(options)
    except Exception as error:  # noqa: BLE001 - whatever Ray raises, the driver is told
        channel.send(NotJoined(reason=_first_line(error)))
        return
    gateway = Gateway(channel, inbox, options.report_seconds)
    channel.send(gateway.look())
    channel.send(Joined(address=address, notes=notes))
    gateway.serve()


def _listen(channel: Channel, inbox: queue.SimpleQueue[Any]) -> None:
    """Hear the driver; on a thread of its own, while Ray waits as well."""
    try:
        while True:
            inbox.put(channel.receive())
    except (EOFError, OSError):
        _end_at_once()


def _end_at_once() -> None:
    """End this process and, if it started a Ray of its own, all processes of that Ray.

    A Ray that is shut down takes some seconds, and its agents notice only after twenty seconds that
    it was killed. A cluster that was joined ends the workers of a lost driver by itself.
    """
    family: list[int] = []
    while found := set(descendants(os.getpid())).difference(family):
        family += found
        _send(signal.SIGSTOP, found)  # what stands still starts nothing more
    _send(signal.SIGKILL, [*family, os.getpid()])


def _send(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _join(options: GatewayOptions) -> tuple[str, tuple[str, ...]]:
    """Join or start the cluster. Raises what Ray raises.

    Returns the address of the control store, and lines for the user.
    """
    patience = math.ceil(options.patience_seconds) + RECONNECT_SECONDS
    for name, value in {**_SETTINGS, _RECONNECT: str(patience)}.items():
        os.environ.setdefault(name, value)
    has_token = _find_token()
    if options.address is None:
        _refuse_full_folder(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    import ray

    common: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "namespace": "noria",
    }
    if options.address is not None:
        ray.init(address=options.address, **common)
        notes: tuple[str, ...] = (
            f"the Ray cluster at {options.address} asks nobody for a token: whoever reaches its "
            "ports runs code on its nodes (RAY_AUTH_MODE=token)",
        )
        return _control_store(), () if has_token else notes
    ray.init(
        address="local",
        num_cpus=options.cpus,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        **common,
    )
    ports = ", ".join(map(str, listening_ports(os.getpid())))
    notes = (f"Ray listens on every interface of this machine, with a token: ports {ports}",)
    return _control_store(), notes


def _control_store() -> str:
    """The address at which this process has found it."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _refuse_full_folder(folder: str) -> None:
    """Raise OSError if Ray could not keep its session there: it would wait a minute, then say less.

    What Ray itself writes there in the first seconds is well below SESSION_BYTES.
    """
    free = shutil.disk_usage(folder).free
    if free < SESSION_BYTES:
        needed = SESSION_BYTES // (1024 * 1024)
        raise OSError(
            f"{folder} has {free // (1024 * 1024)} MiB free, and Ray keeps its session there: make "
            f"room for {needed} MiB, or name another folder by RAY_TMPDIR"
        )


def _find_token() -> bool:
    """Whether this process joins with a token. Ray itself looks for one only with `auto`."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is not None:
        return mode.lower() == "token"
    has_token = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    with contextlib.suppress(RuntimeError, OSError):  # no home, or not ours to look into
        has_token = has_token or TOKEN_FILE.expanduser().is_file()
    if has_token:
        os.environ["RAY_AUTH_MODE"] = "token"
    return has_token


class Gateway:
    """Actors by the names of their workers. One thread acts; others put what they hear in line."""

    def __init__(
        self, channel: Channel, inbox: queue.SimpleQueue[Any], report_seconds: float
    ) -> None:
        self._channel = channel
        self._inbox = inbox
        self._report_seconds = report_seconds
        self._members: dict[str, _Placed] = {}
        self._actor_class: Any = None
        self._leaving_nodes: frozenset[str] = frozenset()
        self._nodes = 1
        self._niceness = own_niceness()
        """The driver's, too: whose child this is."""
        self._has_warned = False
        """Of workers that are nicer."""

    def serve(self) -> None:
        """Until the driver says Leave."""
        threading.Thread(target=self._feel_pulse, name="pulse", daemon=True).start()
        while True:
            match self._inbox.get():
                case StartWorker(spec=spec, avoid=avoid):
                    self._start_worker(spec, avoid)
                case Exchange(worker=worker, instructions=instructions):
                    self._call(worker, "exchange", instructions, self._report_seconds)
                case KillWorker(worker=worker):
                    self._kill(worker)
                case _Done() as done:
                    self._on_done(done)
                case ClusterState() as state:
                    self._channel.send(state)
                case Leave():
                    break
        for worker in list(self._members):
            self._kill(worker)
        import ray

        ray.shutdown()

    def look(self) -> ClusterState:
        """See which nodes there are."""
        import ray

        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]  # Ray has no types here
        self._nodes = len(nodes)
        cpus = {id_: int(node["Resources"].get("CPU", 0)) for id_, node in nodes.items()}
        leaving = frozenset(
            name
            for name, member in list(self._members.items())
            if member.node in self._leaving_nodes
        )
        return ClusterState(
            nodes={id_: _as_node(node) for id_, node in nodes.items()},
            hosts={
                id_: 0 if id_ in self._leaving_nodes else number
                for id_, number in cpus.items()
                if number
            },
            leaving=leaving,
        )

    def _start_worker(self, spec: WorkerSpec, avoid: tuple[str, ...]) -> None:
        import ray

        if self._actor_class is None:
            # Once: Ray sends a class to its control store, and waits for that. It restarts and
            # repeats nothing by itself: see the top of this file.
            once = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)
            self._actor_class = once(WorkerActor)
        remote = self._actor_class
        if avoid:
            remote = remote.options(label_selector={NODE_LABEL: f"!in({','.join(avoid)})"})
        try:
            self._members[spec.name] = _Placed(remote.remote(), spec)
        except Exception as error:  # noqa: BLE001 - whatever Ray raises, the driver is told
            words = f"{type(error).__name__}: {_first_line(error)}"
            self._lose(spec.name, START_FAILED, last_words=words)
            return
        self._call(spec.name, "build")

    def _call(self, worker: str, call: str, *arguments: Any) -> None:
        member = self._members.get(worker)
        if member is not None:
            future = getattr(member.actor, call).remote(*arguments).future()
            future.add_done_callback(lambda future: self._inbox.put(_Done(worker, call, future)))

    def _on_done(self, done: _Done) -> None:
        from ray.exceptions import RayError, RayTaskError

        worker, member = done.worker, self._members.get(done.worker)
        if member is None:
            return  # it was killed meanwhile
        cause = "worker_lost" if member.node else START_FAILED
        try:
            answer = done.future.result()
        except RayTaskError as error:
            raised = error.cause if isinstance(error.cause, BaseException) else error
            self._lose(worker, cause, last_words=f"{type(raised).__name__}: {_first_line(raised)}")
            return
        except RayError as error:
            words = f"{type(error).__name__}: {_first_line(error)}"
            self._lose(worker, cause, last_words=words, ended=_has_ended(error, member.node))
            return
        match answer:
            case Build() as build, Host() as host:
                refusal = build.refusal()
                if refusal is None:
                    self._call(worker, "start", member.spec, self._niceness)
                else:
                    self._lose(worker, refusal.cause, error=refusal, host=host)
            case ActorStart():
                self._on_start(worker, member, answer)
            case _:
                self._channel.send(Reported(worker=worker, report=answer))

    def _on_start(self, worker: str, member: _Placed, answer: ActorStart) -> None:
        if answer.error is not None:
            self._lose(worker, answer.error.cause, error=answer.error, host=answer.host)
            return
        member.node = answer.host.id
        if answer.niceness > self._niceness and not self._has_warned:
            self._has_warned = True
            self._channel.send(
                Remark(
                    line=f"workers on {answer.host.name} run at nice {answer.niceness}, the driver "
                    f"at {self._niceness}: they get what others leave of the CPU; start Ray there "
                    "with RAY_worker_niceness=0 in its environment"
                )
            )
        self._channel.send(Started(worker=worker, host=answer.host, pid=answer.pid))

    def _lose(self, worker: str, cause: str, **why: Any) -> None:
        self._kill(worker)
        self._channel.send(Lost(worker=worker, cause=cause, **why))

    def _kill(self, worker: str) -> None:
        import ray
        from ray.exceptions import RayError

        member = self._members.pop(worker, None)
        if member is not None:
            with contextlib.suppress(RayError):
                ray.kill(member.actor)

    def _feel_pulse(self) -> None:
        """Look at the nodes again and again; on a thread of its own.

        Each look waits as long as the control store is silent, and the driver counts the seconds.
        """
        asked_at = 0.0
        while True:
            try:
                if time.monotonic() - asked_at >= NODE_PULSE_SECONDS * self._nodes:
                    self._leaving_nodes = closed_nodes()
                    asked_at = time.monotonic()
                self._inbox.put(self.look())
            except Exception:  # the driver takes silence for what it is
                log.debug("no pulse", exc_info=True)
            time.sleep(PULSE_SECONDS)


def _as_node(found: dict[str, Any]) -> Node:
    """A node as ray.nodes() describes it."""
    return Node(name=found["NodeManagerHostname"], address=found["NodeManagerAddress"])


def _has_ended(error: Exception, node: str | None) -> bool:
    """Return True if a worker's process is known to be gone.

    Ray calls an actor dead also if its whole node does not answer. Only a node that does has seen
    the process end.
    """
    import ray
    from ray.exceptions import ActorDiedError, RayError

    if node is None:
        return True  # it was never given anything
    if not isinstance(error, ActorDiedError):
        return False
    try:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no types here
    except RayError:
        return False
    return any(known["NodeID"] == node and known["Alive"] for known in nodes)


def closed_nodes() -> frozenset[str]:
    """Ids of the nodes that are alive and take nothing new: they are being drained.

    Ray has no public call that tells. But a node that is drained reserves nothing any more, and a
    reservation of next to nothing is public, needs no process, and is over in milliseconds.
    Reservations are tried one after the other, and one on a node that does not answer holds all
    others up. So a node is called closed only if one that was asked for later is granted.
    """
    import ray

    known = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]  # Ray has no types here
    groups = {node: _reservation(known[node]) for node in known}
    try:
        end = time.monotonic() + RESERVE_SECONDS
        refused = [
            node
            for node, group in groups.items()
            if not group.wait(max(RESERVED_SECONDS, end - time.monotonic()))
        ]
        granted = known.keys() - set(refused)
        if not refused or not granted:
            return frozenset()
        groups["witness"] = _reservation(known[granted.pop()])
        if not groups["witness"].wait(RESERVE_SECONDS):
            return frozenset()
        return frozenset(node for node in refused if not groups[node].wait(RESERVED_SECONDS))
    finally:
        _give_back(groups.values())


def _reservation(node: dict[str, Any]) -> Any:
    """Next to nothing of a node, once it is granted."""
    from ray.util.placement_group import placement_group

    return placement_group(
        [{f"node:{node['NodeManagerAddress']}": RESERVED}],
        bundle_label_selector=[{NODE_LABEL: node["NodeID"]}],
    )


def _give_back(groups: Iterable[Any]) -> None:
    from ray.util.placement_group import remove_placement_group

    for group in groups:
        remove_placement_group(group)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
