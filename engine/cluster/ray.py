"""The one door to Ray: worker actors, what they say, and what becomes of them.

Ray places processes and carries leases and heartbeats. It never retries, restarts or resumes
anything for us: `max_restarts=0, max_task_retries=0`, since its own retries would run side effects
twice without telling. Bytes never enter its object store. Each actor has at most one call under
way, `exchange`, which brings instructions and waits a little for news; every way such a call can
fail means that the worker is lost, and its handle is never used again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_DISABLE_CUSTOM_ARROW_JSON_OPTIONS_SERIALIZATION": "1",
    "RAY_worker_niceness": "0",
}
"""No telemetry, no tips, no task events (these cost the driver about a fifth of its call rate),
nothing imported to send options of JSON files, and workers as nice as the driver: Ray's are of
niceness 15, the last to get a CPU."""
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402 - reads its environment when it is imported
from ray.exceptions import RayError, RayTaskError  # noqa: E402

from noria.engine.scheduler.events import Grant, Revoke, Split  # noqa: E402
from noria.engine.worker_spec import WorkerSpec  # noqa: E402
from noria.manifests.errors import ConfigurationError, NoriaError  # noqa: E402
from noria.manifests.model import Limits, WorkerReport  # noqa: E402

if TYPE_CHECKING:
    from noria.workers.lease.worker import Worker

log = logging.getLogger("noria.cluster")

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's minimum is 75 MiB; nothing of ours goes in."""

PULSE_SECONDS = 3.0
PULSE_LIMIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainWorker:
    """Instruction: hand every lease back."""


Instruction = Grant | Revoke | Split | DrainWorker | Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    worker: str
    node: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    worker: str
    report: WorkerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The worker is gone. `error` is set where its start said why; that is no use to try again."""

    worker: str
    cause: str
    error: NoriaError | None = None


ClusterEvent = Started | Reported | Lost


class WorkerActor:
    """The process that holds a Worker. Its constructor cannot fail, and imports all that a worker
    needs; start() tells what went wrong."""

    def __init__(self) -> None:
        from noria.engine.worker_factory import make_worker

        self._outfit = make_worker
        self._worker: Worker | None = None

    def start(self, order: WorkerSpec) -> tuple[str, int, NoriaError | None]:
        """Open stores and job directory; returns node id, pid and why it cannot work, if so."""
        node = str(ray.get_runtime_context().get_node_id())
        try:
            self._worker = self._outfit(order)
        except NoriaError as error:
            return node, os.getpid(), error
        return node, os.getpid(), None

    def exchange(self, instructions: tuple[Instruction, ...], wait_seconds: float) -> WorkerReport:
        worker = self._worker
        assert worker is not None, "start() comes first"
        for instruction in instructions:
            match instruction:
                case Grant(lease=lease):
                    worker.grant(lease)
                case Revoke(shard=shard, first=first, attempt=attempt):
                    worker.revoke(shard, first, attempt)
                case Split(shard=shard, first=first, attempt=attempt, end=end):
                    worker.split(shard, first, attempt, end)
                case Limits():
                    worker.limit(instruction)
                case DrainWorker():
                    worker.drain()
        return worker.report(wait_seconds)


@dataclass(slots=True)
class _Member:
    actor: Any
    call: Any
    calling: Literal["start", "exchange"]
    outbox: list[Instruction] = field(default_factory=list)
    node_id: str | None = None


class Cluster:
    """Workers by name. Methods belong to one thread at a time.

    The kernel ends a local Ray with the thread that made the cluster: see standby.py.
    """

    def __init__(self, address: str | None, *, cpus: int, report_seconds: float = 1.0) -> None:
        """Join the cluster at `address`, or start a local Ray of `cpus` CPUs that ends with
        close()."""
        self._members: dict[str, _Member] = {}
        self._spares: list[Any] = []
        self._report_seconds = report_seconds
        self._is_local = address is None
        self.is_bare = False
        """True where a local Ray runs without the processes that no job uses."""
        # Ray sets the level too, but not before its first words.
        logging.getLogger("ray").setLevel(logging.ERROR)
        options: dict[str, Any] = {
            "logging_level": logging.ERROR,
            "log_to_driver": False,
            "namespace": "noria",
        }
        self._pulse_at = time.monotonic()
        try:
            if address is None:
                self.is_bare = _start_ray(options, cpus)
            else:
                ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            where = "a local Ray" if address is None else f"the Ray cluster at {address}"
            raise ConfigurationError(
                f"cannot reach {where}: {_first_line(error)}; see `ray status`"
            ) from error
        self._look_at_nodes()
        threading.Thread(target=self._feel_pulse, name="pulse", daemon=True).start()

    def trouble(self) -> str | None:
        """Why this cluster is of no more use, or None.

        A dead control store has to be noticed by us: Ray only waits for it, and then ends this
        process.
        """
        if time.monotonic() - self._pulse_at > PULSE_LIMIT_SECONDS:
            return "Ray's control store does not answer any more"
        return None if self._nodes_alive else "the last node of the Ray cluster is gone"

    def cpus(self) -> int:
        """CPUs that workers may take, on all nodes that are alive and stay; a few seconds old."""
        return self._cpus

    def prestart_worker(self) -> None:
        """Have a process come up that the next start_worker() will take."""
        remote = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(WorkerActor)
        self._spares.append(remote.remote())

    def start_worker(self, order: WorkerSpec) -> None:
        """Ask for one more worker; Started or Lost tells how it went, whenever there is room."""
        if not self._spares:
            self.prestart_worker()
        actor = self._spares.pop()
        self._members[order.name] = _Member(
            actor=actor, call=actor.start.remote(order), calling="start"
        )

    def send(self, worker: str, instruction: Instruction) -> None:
        """Give an instruction with the next exchange; to a lost worker it goes nowhere."""
        member = self._members.get(worker)
        if member is not None:
            member.outbox.append(instruction)

    def waiting(self) -> list[str]:
        """Workers that have not started yet."""
        return [name for name, member in self._members.items() if member.calling == "start"]

    def poll(self, seconds: float) -> list[ClusterEvent]:
        """What happened, waiting up to `seconds` for the first of it. Calls out again at once."""
        calls = {member.call: name for name, member in self._members.items()}
        if not calls:
            time.sleep(seconds)
            return []
        done, _ = ray.wait(list(calls), num_returns=1, timeout=seconds)
        if done:
            done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        return [self._on_event(calls[call]) for call in done]

    def exchange(self, worker: str) -> None:
        """Call a worker that has answered: carries what is in its outbox, brings back its
        report."""
        member = self._members.get(worker)
        if member is None:
            return
        outbox, member.outbox = tuple(member.outbox), []
        member.call = member.actor.exchange.remote(outbox, self._report_seconds)
        member.calling = "exchange"

    def kill(self, worker: str) -> None:
        """End a worker's process, whatever it does."""
        member = self._members.pop(worker, None)
        if member is not None and self.trouble() is None:
            with contextlib.suppress(RayError):
                ray.kill(member.actor)

    def leaving(self) -> set[str]:
        """Workers on nodes that are being drained."""
        return {name for name, member in self._members.items() if member.node_id in self._draining}

    def close(self) -> bool:
        """End the workers, and a local Ray with them. False where Ray is too broken to be left
        well.

        Without its control store Ray's own clean-up waits for ever, also when the interpreter
        exits; the caller then has to end this process with os._exit().
        """
        if self.trouble() is None:
            for worker in list(self._members):
                self.kill(worker)
            ray.shutdown()
            return True
        node = getattr(ray._private.worker, "_global_node", None)
        if self._is_local and node is not None:
            with contextlib.suppress(Exception):
                node.kill_all_processes(check_alive=False, allow_graceful=False, wait=False)
        return False

    def _look_at_nodes(self) -> None:
        draining = _draining_nodes()
        self._nodes_alive, self._cpus = _count_nodes(draining)
        self._draining = draining

    def _feel_pulse(self) -> None:
        """On a thread of its own: each of these calls waits as long as the control store is
        silent."""
        while True:
            time.sleep(PULSE_SECONDS)  # whoever started this has just looked
            if not ray.is_initialized():
                return
            try:
                self._look_at_nodes()
                self._pulse_at = time.monotonic()
            except Exception:
                log.debug("no pulse", exc_info=True)

    def _on_event(self, worker: str) -> ClusterEvent:
        member = self._members[worker]
        try:
            answer = ray.get(member.call)
        except RayTaskError as error:
            self.kill(worker)
            log.error("worker %s failed: %s", worker, type(error.cause).__name__)
            return Lost(worker=worker, cause="worker_error")
        except RayError as error:
            self.kill(worker)
            return Lost(worker=worker, cause=type(error).__name__)
        if member.calling == "exchange":
            return Reported(worker=worker, report=answer)
        node, pid, failure = answer
        if failure is not None:
            self.kill(worker)
            return Lost(worker=worker, cause=failure.cause, error=failure)
        member.node_id = node
        return Started(worker=worker, node=node, pid=pid)


def _start_ray(options: dict[str, Any], cpus: int) -> bool:
    """Start a Ray on this machine, and join it. False where it has all the processes it likes.

    Beside a control store and a raylet Ray starts a dashboard, an autoscaler, a log monitor and two
    agents. No job uses them, they take 2.5 s of CPU and two seconds to wait for, and no setting
    leaves them out. Ray's private Node can; where that has moved, all of them start.
    """
    options = {
        **options,
        "address": "local",
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    # Runtime environments are what one of the agents is for.
    if _JOB_CONFIG not in os.environ and _ENVIRONMENT_HOOK not in os.environ:
        try:
            private = ray._private
            with (
                _replaced(private.node, "Node", _bare_node_class()),
                _replaced(private.ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False),
            ):
                ray.init(**options)
        except Exception:
            log.info("Ray starts with all its processes", exc_info=True)
            ray.shutdown()
        else:
            return True
    ray.init(**options)
    return False


_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_ENVIRONMENT_HOOK = "RAY_RUNTIME_ENV_HOOK"
_TETHER = [sys.executable, "-I", "-S", str(Path(__file__).with_name("tether.py"))]
_WORKER = str(Path(__file__).with_name("ray_worker.py"))


def _bare_node_class() -> type:
    """A Node of Ray that starts a control store and a raylet, both of which end with this process.
    Raises AttributeError where Ray has no such Node."""
    services: Any = ray._private.services
    raylet: Any = ray._raylet
    ports = {
        raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME: -1,
        raylet.METRICS_AGENT_PORT_NAME: -1,
        raylet.METRICS_EXPORT_PORT_NAME: -1,
        raylet.RUNTIME_ENV_AGENT_PORT_NAME: _NO_PORT,
    }
    start_process, persist_port = services.start_ray_process, raylet.persist_port

    def start_tethered(command: list[str], process_type: str, **options: Any) -> Any:
        tethered = [*_TETHER, str(os.getpid()), *map(_without_agents, command)]
        return start_process(tethered, process_type, **{**options, "fate_share": False})

    class BareNode(ray._private.node.Node):
        def __init__(self, ray_params: Any, **options: Any) -> None:
            ray_params.update(no_monitor=True, include_log_monitor=False, worker_path=_WORKER)
            try:
                with _replaced(services, "start_ray_process", start_tethered):
                    super().__init__(ray_params, **options)
            except BaseException:
                self.kill_all_processes(check_alive=False)
                raise

        def start_api_server(self, **_: Any) -> None:
            """No dashboard."""

        def start_raylet(self, *arguments: Any, **options: Any) -> None:
            # The raylet waits until its agents have written down where they listen.
            for name, port in ports.items():
                persist_port(self._session_dir, self._node_id, name, port)
            super().start_raylet(*arguments, **options)

    return BareNode


_NO_PORT = 1
"""Nobody listens there, and nobody asks: no job has a runtime environment."""


def _without_agents(word: str) -> str:
    """A word of the raylet's command line. Its agents have to live, or it ends; workers it starts
    before they are asked for would be too many."""
    option, is_option, _ = word.partition("=")
    if is_option and option in ("--dashboard_agent_command", "--runtime_env_agent_command"):
        return f"{option}={subprocess.list2cmdline(_TETHER)}"
    if is_option and option == "--num_prestart_python_workers":
        return f"{option}=0"
    return word


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Raises AttributeError where the owner has nothing of that name."""
    earlier = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, earlier)


def _count_nodes(draining: frozenset[str]) -> tuple[int, int]:
    """Nodes that are alive, and the CPUs of those that stay together."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no types here
    alive = [node for node in nodes if node["Alive"]]
    staying = [node for node in alive if node["NodeID"] not in draining]
    return len(alive), int(sum(node["Resources"].get("CPU", 0) for node in staying))


def _draining_nodes() -> frozenset[str]:
    """Ids of nodes that leave. Ray has no public call for it: none, where it has moved."""
    try:
        return frozenset(ray._private.state.state.get_draining_nodes())
    except AttributeError:
        return frozenset()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def quiet_ray(log_path: str) -> Iterator[None]:
    """Send what Ray prints to a file: it writes to standard output from threads of its own, and no
    setting stops that. The caller keeps its own handle on the terminal."""
    out, err = sys.stdout, sys.stderr
    with open(log_path, "a", buffering=1) as file:
        sys.stdout = sys.stderr = file
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err
