"""Ray nodes, started with `ray start` on this machine: one may die, or their store fall silent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from noria.benchmarks.servers import S3Server
from tests.support.fault_proxy.proxy import run_fault_proxy
from tests.support.fault_proxy.rules import Fault, Operation, cap, on
from tests.support.moves import Move, kill_one, plain
from tests.support.nodes import Head, head_node, new_token, node_pair, workers_of
from tests.support.processes import descendants, wait_until

MIB = 1024 * 1024
SLOW_SPECS = [plain("slow", 40 * MIB)]
PART_RATE = MIB
"""Bytes a second of one part: with one stream the slow object takes 40 s."""
SPECS = [
    plain("huge", 200 * MIB + 1),
    *(plain(f"medium/{n:02}", 3 * MIB) for n in range(20)),
    *(plain(f"small/{n:03}", 4_000) for n in range(200)),
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fate", ["both live", "one dies"])
def test_two_nodes_share_a_job(make_move: Callable[..., Move], fate: str) -> None:
    access = new_token()
    move = make_move(SPECS, **access)
    job_file = move.job_file(
        plan={"part_bytes": 16 * MIB, "segment_bytes": 48 * MIB},
        run={"workers": 2, "streams": 2, "heartbeat_timeout_seconds": 15},
    )
    with node_pair(move.environment) as nodes:
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


@contextmanager
def slow_move(
    make_move: Callable[..., Move], seaweedfs: S3Server, **run: float
) -> Iterator[tuple[Move, Path]]:
    """A move of some 40 s at least, whose target is behind a proxy: move, and job file."""
    with run_fault_proxy(seaweedfs.endpoint) as proxy:
        access = new_token()
        move = make_move(SLOW_SPECS, AWS_ENDPOINT_URL_S3=proxy.endpoint, **access)
        proxy.add(Fault(match=on(Operation.PART), action=cap(PART_RATE), times=None))
        job_file = move.job_file(
            plan={"part_bytes": 8 * MIB},
            run={"workers": 1, "streams": 1, "drain_seconds": 100, **run},
        )
        yield move, job_file


@contextmanager
def slow_run(
    make_move: Callable[..., Move], seaweedfs: S3Server, **run: float
) -> Iterator[tuple[Move, Head, subprocess.Popen[str]]]:
    """A slow move on a cluster of one node, once it has begun: move, node, driver."""
    with (
        slow_move(make_move, seaweedfs, **run) as (move, job_file),
        head_node(move.environment, cpus=1) as head,
    ):
        process = move.start("run", job_file, "--address", head.address, "--json")
        wait_until(lambda: any(move.job.rglob("journal/**/*.journal")), "an upload", seconds=90)
        yield move, head, process


def control_store_of(head: Head) -> int:
    (pid,) = [pid for pid, command in descendants(head.process.pid) if "gcs_server" in command]
    return pid


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(300)
def test_a_control_store_that_is_back_in_time_ends_nothing(
    make_move: Callable[..., Move], seaweedfs: S3Server
) -> None:
    """It is silent for longer than any fixed patience of a driver once was."""
    with slow_run(make_move, seaweedfs, heartbeat_timeout_seconds=60) as (move, head, process):
        with stopped(control_store_of(head)):
            time.sleep(30)
            assert process.poll() is None, process.communicate()
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, (out, err)
        assert json.loads(out)["reconciled"]
        said = (move.job / "log" / "noria.log").read_text()
        assert f"no answer from Ray's control store at {head.address} for 1" in said
        assert f"Ray's control store at {head.address} answers again, after " in said
        move.expect_all_arrived()


@pytest.mark.timeout(300)
def test_one_that_stays_silent_ends_the_run_at_once_with_one_line(
    make_move: Callable[..., Move], seaweedfs: S3Server
) -> None:
    """As patient as with a worker, and no wait for workers that nobody can hear."""
    with slow_run(make_move, seaweedfs, heartbeat_timeout_seconds=12) as (_, head, process):
        began = time.monotonic()
        with stopped(control_store_of(head)):
            out, err = process.communicate(timeout=100)
            seconds = time.monotonic() - began
        assert process.returncode == 3, (out, err)
        assert 10 < seconds < 60, "nothing of the 100 s of a drain"
        why = json.loads(out)["stopped"]
        assert why.startswith(f"no answer from Ray's control store at {head.address} for 1")
        assert why.endswith(f"that {socket.gethostname()} reaches it; then run again")
