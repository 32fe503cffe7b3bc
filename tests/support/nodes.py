"""Two Ray nodes on this machine, started as a person would, and ended by their pids."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noria.benchmarks.servers import free_ports
from tests.support.moves import descendants, wait_until

RAY = Path(sys.executable).with_name("ray")


class Nodes:
    """A head and a worker node, each with one CPU."""

    def __init__(self, head: subprocess.Popen[bytes], worker: subprocess.Popen[bytes], port: int):
        self.head = head
        self.worker = worker
        self.address = f"127.0.0.1:{port}"


@contextmanager
def node(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ray start --block` in a process group of its own, which ends with the block."""
    command: list[str | Path] = [
        RAY,
        "start",
        "--block",
        "--num-cpus=1",
        "--disable-usage-stats",
        *arguments,
    ]
    process = subprocess.Popen(
        [*command, *arguments],
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
def node_pair(environment: dict[str, str]) -> Iterator[Nodes]:
    """Both nodes, once they are up."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder,
        node(
            environment,
            "--head",
            f"--port={port}",
            "--node-ip-address=127.0.0.1",
            "--include-dashboard=false",
            f"--temp-dir={folder}",
            "--object-store-memory=100000000",
        ) as head,
    ):
        wait_until(lambda: is_up(address, environment, 1), "the head", seconds=60)
        with node(environment, f"--address={address}", "--object-store-memory=100000000") as worker:
            wait_until(lambda: is_up(address, environment, 2), "the second node", seconds=60)
            yield Nodes(head, worker, port)


def is_up(address: str, environment: dict[str, str], nodes: int) -> bool:
    ended = subprocess.run(
        [RAY, "status", f"--address={address}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode == 0 and f"0.0/{nodes}.0 CPU" in ended.stdout


def workers_of(node: subprocess.Popen[bytes]) -> list[int]:
    return [pid for pid, command in descendants(node.pid) if "ray::WorkerActor" in command]


def drain(node: subprocess.Popen[bytes], address: str, environment: dict[str, str]) -> None:
    """As an autoscaler that is told of a pre-emption."""
    commands = [command for _, command in descendants(node.pid)]
    (node_id,) = {found[1] for c in commands if (found := re.search(r"--node_id=(\w+)", c))}
    subprocess.run(
        [
            *(RAY, "drain-node", "--address", address, "--node-id", node_id),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"),
            *("--deadline-remaining-seconds", "600"),
        ],
        env=environment,
        check=True,
        capture_output=True,
        timeout=60,
    )
