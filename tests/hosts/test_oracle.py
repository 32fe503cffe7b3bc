"""The oracle sees what it is there to see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from noria.benchmarks.servers import ROOT
from tests.hosts.front import FrontRequest
from tests.hosts.namespaces import FOLDER, NAMESPACE, run, sweep
from tests.hosts.oracle import SilentTime, late_requests
from tests.support.processes import is_alive

TIMEOUT = 10.0
LONG = SilentTime(address="a", begun=100.0, ended=120.0)
"""Half of the time-out is over at 105, the whole at 110."""
SHORT = SilentTime(address="a", begun=100.0, ended=104.0)
STILL = SilentTime(address="a", begun=100.0, ended=120.0, still=True)


def request(
    begun: float, *, connected: float = 90.0, last: float | None = None, address: str = "a"
) -> FrontRequest:
    return FrontRequest(
        address=address,
        connected=connected,
        begun=begun,
        method="PUT",
        path="/x",
        last=begun if last is None else last,
    )


@pytest.mark.parametrize(
    ("silence", "asked", "is_late"),
    [
        (LONG, request(99.0), False),
        (LONG, request(105.5), False),
        (LONG, request(107.0), True),
        (LONG, request(107.0, connected=106.0), True),
        (LONG, request(107.0, address="b"), False),
        (LONG, request(125.0), True),
        (LONG, request(125.0, connected=124.0), False),
        (LONG, request(99.0, last=125.0), True),
        (LONG, request(99.0, last=107.0), False),
        (SHORT, request(107.0), False),
        (SHORT, request(99.0, last=125.0), False),
        (STILL, request(107.0), False),
        (STILL, request(121.0), False),
        (STILL, request(125.0), True),
        (STILL, request(99.0, last=125.0), True),
    ],
)
def test_a_request_after_the_lease_is_late(
    silence: SilentTime, asked: FrontRequest, is_late: bool
) -> None:
    assert bool(late_requests([asked], silence, TIMEOUT)) is is_late


@pytest.mark.slow
def test_what_a_killed_owner_leaves_is_found_and_removed(namespaces: None) -> None:
    code = """
        from tests.hosts.namespaces import Network
        import subprocess, time
        with Network({"a": "10.77.0.2"}) as network:
            left = subprocess.Popen(network.command("a", ["sleep", "600"]), start_new_session=True)
            print(left.pid, flush=True)
            time.sleep(600)
    """
    program = "\n".join(line[8:] for line in code.splitlines())
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        left = int(owner.stdout.readline())
        os.kill(owner.pid, signal.SIGKILL)
    assert is_alive(left), "what it started lives on"
    sweep()
    assert not is_alive(left)
    assert f"{NAMESPACE}{owner.pid}-" not in run("ip", "netns", "list")
    assert not Path(f"{FOLDER}{owner.pid}").exists()
    assert f"{FOLDER}{owner.pid}" not in Path("/proc/mounts").read_text()
