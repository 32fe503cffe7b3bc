"""Ray nodes on this machine, started as a person would, and ended by their pids."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.servers import free_ports
from tests.support.processes import descendants, wait_until

RAY = Path(sys.executable).with_name("ray")
STORE = "--object-store-memory=100000000"
NO_TOKEN = {"RAY_AUTH_MODE": "disabled"}
"""What makes a cluster that lets everybody in."""


def new_token() -> dict[str, str]:
    """What lets a driver into the cluster that is started with it, and nobody else."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@dataclass(frozen=True, slots=True)
class Head:
    """A cluster of one node."""

    process: subprocess.Popen[bytes]
    address: str
    access: dict[str, str]
    """What a driver needs in its environment."""

    @property
    def token(self) -> str:
        return self.access["RAY_AUTH_TOKEN"]


class Nodes:
    """A head and a worker node, each with one CPU."""

    def __init__(
        self, head: subprocess.Popen[bytes], worker: subprocess.Popen[bytes], address: str
    ):
        self.head = head
        self.worker = worker
        self.address = address


@contextmanager
def node(
    environment: dict[str, str], *arguments: str, below: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """`ray start --block` in a process group of its own, which ends with the block.

    `below` is a command that runs it, such as setpriv.
    """
    start = (RAY, "start", "--block", "--disable-usage-stats")
    command: list[str | Path] = [*below, *start, *arguments]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        left = [pid for pid, _ in descendants(process.pid)]
        for pid in [process.pid, *left]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()


@contextmanager
def head_node(
    access: dict[str, str], *, cpus: int = 1, below: Sequence[str] = ()
) -> Iterator[Head]:
    """A head, once it is up. `access` is its token, or NO_TOKEN. `below`: see node()."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    environment = {**without_ray_settings(), **access}
    with (
        tempfile.TemporaryDirectory(
            prefix="ray-", dir="/tmp", ignore_cleanup_errors=True
        ) as folder,
        node(
            environment,
            "--head",
            f"--num-cpus={cpus}",
            f"--port={port}",
            "--node-ip-address=127.0.0.1",
            "--include-dashboard=false",
            f"--temp-dir={folder}",
            STORE,
            below=below,
        ) as process,
    ):
        wait_until(lambda: is_up(address, environment, cpus), "the head", seconds=60)
        yield Head(process, address, access)


@contextmanager
def node_pair(environment: dict[str, str], second: dict[str, str] | None = None) -> Iterator[Nodes]:
    """Two nodes of one cluster, once they are up.

    Their workers read their credentials from `environment`; it holds the cluster's token, too.
    `second` is what the second node has beyond that, or otherwise.
    """
    with head_node(environment) as head:
        environment = {**without_ray_settings(), **environment, **(second or {})}
        join = ("--num-cpus=1", f"--address={head.address}", STORE)
        with node(environment, *join) as worker:
            wait_until(lambda: is_up(head.address, environment, 2), "the second node", seconds=60)
            yield Nodes(head.process, worker, head.address)


def without_ray_settings() -> dict[str, str]:
    """This process's environment, but for what is said to Ray."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def is_up(address: str, environment: dict[str, str], cpus: int) -> bool:
    ended = subprocess.run(
        [RAY, "status", f"--address={address}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode == 0 and f"0.0/{cpus}.0 CPU" in ended.stdout


def workers_of(node: subprocess.Popen[bytes]) -> list[int]:
    return [pid for pid, command in descendants(node.pid) if "ray::WorkerActor" in command]


def drain(node: subprocess.Popen[bytes], address: str, access: dict[str, str]) -> None:
    """As an autoscaler that is told of a pre-emption."""
    commands = [command for _, command in descendants(node.pid)]
    (node_id,) = {found[1] for c in commands if (found := re.search(r"--node_id=(\w+)", c))}
    subprocess.run(
        [
            *(RAY, "drain-node", "--address", address, "--node-id", node_id),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"),
            *("--deadline-remaining-seconds", "600"),
        ],
        env={**without_ray_settings(), **access},
        check=True,
        capture_output=True,
        timeout=60,
    )
