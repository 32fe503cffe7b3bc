"""Two Ray nodes, started with `ray start` on this machine, run one job; one of them may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.scenarios.moves import Move, descendants, kill_one, plain, wait_until
from tests.servers import free_ports

MIB = 1024 * 1024
RAY = Path(sys.executable).with_name("ray")
SPECS = [
    plain("huge", 200 * MIB + 1),
    *(plain(f"medium/{n:02}", 3 * MIB) for n in range(20)),
    *(plain(f"small/{n:03}", 4_000) for n in range(200)),
]


class Nodes:
    """A head and a worker node, each with one CPU."""

    def __init__(self, head: subprocess.Popen[bytes], worker: subprocess.Popen[bytes], port: int):
        self.head = head
        self.worker = worker
        self.address = f"127.0.0.1:{port}"


@contextmanager
def node(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ray start --block` in a process group of its own, which ends with the block."""
    command = [RAY, "start", "--block", "--num-cpus=1", "--disable-usage-stats", *arguments]
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


@pytest.fixture
def make_nodes() -> Iterator[Callable[[dict[str, str]], Nodes]]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp"))

        def make(environment: dict[str, str]) -> Nodes:
            (port,) = free_ports(1)
            address = f"127.0.0.1:{port}"
            head = stack.enter_context(
                node(
                    environment,
                    "--head",
                    f"--port={port}",
                    "--node-ip-address=127.0.0.1",
                    "--include-dashboard=false",
                    f"--temp-dir={folder}",
                    "--object-store-memory=100000000",
                )
            )
            wait_until(lambda: is_up(address, environment, 1), "the head", seconds=60)
            worker = stack.enter_context(
                node(environment, f"--address={address}", "--object-store-memory=100000000")
            )
            wait_until(lambda: is_up(address, environment, 2), "the second node", seconds=60)
            return Nodes(head, worker, port)

        yield make


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


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fate", ["both live", "one dies"])
def test_two_nodes_share_a_job(
    make_move: Callable[..., Move],
    make_nodes: Callable[[dict[str, str]], Nodes],
    fate: str,
) -> None:
    move = make_move(SPECS, RAY_AUTH_MODE="disabled")
    nodes = make_nodes(move.environment)
    job_file = move.job_file(
        plan={"part_bytes": 8 * MIB, "segment_bytes": 40 * MIB},
        run={"workers": 2, "streams": 2, "heartbeat_timeout_seconds": 15},
    )
    process = move.start("run", job_file, "--address", nodes.address, "--json")
    wait_until(lambda: any(move.job.glob("sealed/*/*.json")), "a first seal", seconds=90)
    wait_until(
        lambda: len(workers_of(nodes.head)) + len(workers_of(nodes.worker)) == 2,
        "a worker on each node",
    )
    assert workers_of(nodes.worker), "the second node works too"
    if fate == "one dies":
        kill_one(nodes.worker, "raylet/raylet")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    assert "Traceback" not in err
    move.expect_all_arrived()
    assert nodes.head.poll() is None, "a cluster that was joined is left running"


def workers_of(node: subprocess.Popen[bytes]) -> list[int]:
    return [pid for pid, command in descendants(node.pid) if "ray::WorkerActor" in command]
