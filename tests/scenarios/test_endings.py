"""However a command ends, and however early: its processes end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from noria.benchmarks.servers import S3Server
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.fault_proxy.rules import Fault, Operation, meanwhile, on, refuse
from tests.support.moves import Move, plain
from tests.support.processes import LOCAL_WORKER, marked, wait_until

MARK = "NORIA_TEST_MARK"
WAIT_SECONDS = 30.0


@dataclass
class Marked:
    """A command whose processes are known by their environment, whoever their parent is by then."""

    move: Move
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        self.move.environment[MARK] = self.mark
        return self.move.start(*arguments, "--metrics-address", "off")

    def copy(self) -> subprocess.Popen[str]:
        return self.start("copy", self.move.source, self.move.target, "--job", self.move.job)

    def processes(self) -> dict[int, str]:
        return marked(MARK, self.mark)

    def has_a_spare(self) -> bool:
        """A worker process waits for the plan."""
        return any(LOCAL_WORKER in command for command in self.processes().values())


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[FaultProxy]:
    with run_fault_proxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def command(make_move: Callable[..., Move], proxy: FaultProxy) -> Marked:
    return Marked(make_move([plain("a", 10)], AWS_ENDPOINT_URL_S3=proxy.endpoint))


@contextmanager
def held_in_planning(
    proxy: FaultProxy, operation: Operation = Operation.PUT
) -> Iterator[threading.Event]:
    """The probe's first write waits until the block ends; the event says that it has come."""
    came, released = threading.Event(), threading.Event()

    def hold() -> None:
        came.set()
        released.wait(WAIT_SECONDS)

    proxy.add(Fault(match=on(operation), action=meanwhile(hold)))
    try:
        yield came
    finally:
        released.set()


def test_a_copy_leaves_no_process(command: Marked) -> None:
    process = command.copy()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    wait_until(lambda: command.processes() == {}, "the end of the last worker")


def test_a_plan_that_is_refused_late_says_so_in_one_line_and_leaves_no_process(
    command: Marked, proxy: FaultProxy
) -> None:
    with held_in_planning(proxy) as came:
        proxy.add(Fault(match=on(Operation.PUT), action=refuse(403, "AccessDenied"), times=None))
        process = command.start(
            "copy", command.move.source, command.move.target, "--job", command.move.job, "--json"
        )
        assert came.wait(WAIT_SECONDS)
        wait_until(command.has_a_spare, "a worker process, while the plan is made")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2, (out, err)
    assert len(err.strip().splitlines()) == 1, err
    wait_until(lambda: command.processes() == {}, "the end of the last worker")


@pytest.mark.parametrize(
    "way", ["SIGTERM", "SIGHUP", "SIGINT", "SIGINT to all, as a terminal does"]
)
@pytest.mark.parametrize("spare_is_up", [False, True], ids=["at once", "with a spare"])
def test_a_plan_that_is_interrupted_leaves_no_process(
    command: Marked, proxy: FaultProxy, way: str, spare_is_up: bool
) -> None:
    with held_in_planning(proxy) as came:
        process = command.copy()
        assert came.wait(WAIT_SECONDS)
        if spare_is_up:
            wait_until(command.has_a_spare, "a worker on standby")
        if "all" in way:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.Signals[way])
        out, err = process.communicate(timeout=30)
    assert process.returncode == 3, (out, err)
    assert "noria: stopped; run it again to resume" in err.splitlines()
    assert "Traceback" not in err
    wait_until(lambda: command.processes() == {}, "the end of the last worker")


def test_a_plan_that_is_interrupted_leaves_no_upload(command: Marked, proxy: FaultProxy) -> None:
    with held_in_planning(proxy, Operation.PART) as came:
        process = command.copy()
        assert came.wait(WAIT_SECONDS)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 3, (out, err)
    client = command.move.seaweedfs.client()
    try:
        assert not client.list_multipart_uploads(Bucket=command.move.bucket).get("Uploads")
        assert not client.list_objects_v2(Bucket=command.move.bucket).get("Contents")
    finally:
        client.close()


def test_a_driver_that_is_killed_takes_a_worker_on_standby_with_it(
    command: Marked, proxy: FaultProxy
) -> None:
    with held_in_planning(proxy) as came:
        process = command.copy()
        assert came.wait(WAIT_SECONDS)
        wait_until(command.has_a_spare, "a worker on standby")
        process.kill()
        process.communicate(timeout=10)
        wait_until(lambda: command.processes() == {}, "the end of the worker")


def test_a_plan_goes_on_where_it_was_interrupted(command: Marked, proxy: FaultProxy) -> None:
    with held_in_planning(proxy) as came:
        process = command.copy()
        assert came.wait(WAIT_SECONDS)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert command.move.copy()["outcomes"] == {"TRANSFERRED": 1}
    wait_until(lambda: command.processes() == {}, "the end of the last worker")
