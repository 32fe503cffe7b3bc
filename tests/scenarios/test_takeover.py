"""A second driver, while the first one or its workers are not gone: real processes, real stores."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from noria.benchmarks.servers import S3Server
from noria.manifests.job.directory import ATTEMPTS_PER_EPOCH
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.fault_proxy.rules import Fault, Operation, cap, on
from tests.support.moves import Move, plain
from tests.support.nodes import head_node, new_token
from tests.support.processes import GATEWAY, descendants, wait_until

MIB = 1024 * 1024
PART = 8 * MIB
SPECS = [
    plain("large/one", 4 * PART),
    plain("large/two", 4 * PART),
    *(plain(f"small/{number:02}", 3_000) for number in range(40)),
]
TIMEOUT = 16.0
WRITES = (Operation.PUT, Operation.PART, Operation.CREATE, Operation.COMPLETE)


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[FaultProxy]:
    """Parts pass it at 1 MiB a second."""
    with run_fault_proxy(seaweedfs.endpoint) as proxy:
        proxy.add(Fault(match=on(Operation.PART), action=cap(MIB), times=None))
        yield proxy


def job_file(move: Move) -> Path:
    return move.job_file(
        plan={"part_bytes": PART},
        run={"workers": 1, "streams": 2, "heartbeat_timeout_seconds": TIMEOUT},
    )


def sealing_epochs(move: Move) -> dict[str, int]:
    """Seal -> epoch of the attempt that it names."""
    return {
        path.name: json.loads(path.read_text())["attempt"] // ATTEMPTS_PER_EPOCH
        for path in move.job.glob("sealed/*/*.json")
    }


def last_epoch(move: Move) -> int:
    return max(int(path.stem) for path in move.job.glob("epochs/??????????.json"))


@pytest.mark.timeout(240)
def test_a_driver_that_was_stopped_and_overtaken_ends_as_soon_as_it_is_back(
    make_move: Callable[..., Move], proxy: FaultProxy
) -> None:
    """Its lock is lost, as on a file system whose server was out of reach."""
    move = make_move(SPECS, AWS_ENDPOINT_URL_S3=proxy.endpoint)
    first = move.start("run", job_file(move), "--json")
    wait_until(lambda: any(move.job.glob("journal/*/*/*.journal")), "a first upload")
    before = last_epoch(move)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        sealed = sealing_epochs(move)
        (move.job / "driver.lock").unlink()
        second = move.start("run", move.job, "--json")
        wait_until(lambda: last_epoch(move) > before, "the second driver")
    finally:
        os.kill(first.pid, signal.SIGCONT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 2, err
    assert f"another noria process has taken {move.job} over" in err
    assert "Traceback" not in err
    assert second.poll() is None, "it is the first that ends"
    out, err = second.communicate(timeout=150)
    assert second.returncode == 0, (out, err)
    now = sealing_epochs(move)
    assert {name for name, epoch in now.items() if epoch == before} <= sealed.keys()
    move.expect_all_arrived()


@pytest.mark.timeout(300)
def test_a_driver_waits_for_workers_that_lost_theirs(
    make_move: Callable[..., Move], proxy: FaultProxy
) -> None:
    """Ray is stopped, so that nothing but their own patience ends them."""
    access = new_token()
    move = make_move(SPECS, AWS_ENDPOINT_URL_S3=proxy.endpoint, **access)
    with head_node(move.environment, cpus=1) as head, ExitStack() as stack:
        first = move.start("run", job_file(move), "--address", head.address, "--json")
        wait_until(lambda: any(move.job.rglob("journal/**/*.journal")), "an upload", seconds=90)
        for pid, command in [*descendants(head.process.pid)]:
            if "gcs_server" in command or "raylet/raylet" in command:
                os.kill(pid, signal.SIGSTOP)
                stack.callback(os.kill, pid, signal.SIGCONT)
        (gateway,) = [pid for pid, command in descendants(first.pid) if GATEWAY in command]
        for pid in (gateway, first.pid):
            os.kill(pid, signal.SIGKILL)
        first.communicate()
        written = proxy.written_bytes_so_far()
        second = move.start("run", move.job, "--json")
        quiet_seconds = _await_end_of_note(move, proxy)
        assert proxy.written_bytes_so_far() > written, "the first one's worker went on for a while"
        assert quiet_seconds > 1.0, "and had ended when the second driver began"
        out, err = second.communicate(timeout=150)
        assert second.returncode == 0, (out, err)
        assert f"its workers on the Ray cluster at {head.address} end; waiting 1" in err
        assert json.loads(out)["reconciled"]
        assert not list(move.job.glob("epochs/*-workers.json"))
        move.expect_all_arrived()


def _await_end_of_note(move: Move, proxy: FaultProxy) -> float:
    """Wait until the second driver may begin; for how long nothing was written before that."""
    seen, at = proxy.written_bytes_so_far(), time.monotonic()
    until = at + 90
    while any(move.job.glob("epochs/*-workers.json")):
        assert time.monotonic() < until, "the second driver never began"
        if proxy.written_bytes_so_far() != seen:
            seen, at = proxy.written_bytes_so_far(), time.monotonic()
        time.sleep(0.05)
    return time.monotonic() - at
