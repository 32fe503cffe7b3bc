"""`--address` and `--ray`: a cluster that is joined, one that is not there, one of one's own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from noria.benchmarks.servers import free_ports
from tests.support.moves import NORIA, RAY_ITSELF
from tests.support.nodes import NO_TOKEN, Head, head_node, new_token, without_ray_settings
from tests.support.processes import (
    RAY_WORKER,
    descendants,
    is_alive,
    listening,
    marked,
    wait_until,
)
from tests.support.small_disk import SmallDisk

MARK = "NORIA_TEST_MARK"
OBJECTS = 20
ANSWER_SECONDS = 10.0
"""Within this a cluster that cannot be joined is named."""
ATTEMPTS = 3
"""The machine may be busy with something else: the best counts."""
STOP_SECONDS = 6.0
"""Well before a cluster that does not answer is given up."""
CPP_LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,|\bgcs_\w+\.cc:\d+|\braylet\b")


@dataclass
class Copy:
    """Files that are to be copied from one folder to another, with an environment of its own."""

    folder: Path
    environment: dict[str, str]

    @property
    def job(self) -> Path:
        return self.folder / "job"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(NORIA, "copy", f"file://{self.folder}/source", f"file://{self.folder}/target"),
                *("--job", str(self.job), "--metrics-address", "off", *arguments),
            ],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> tuple[int, list[str], float]:
        """Exit code, lines on the terminal, and seconds."""
        started = time.monotonic()
        process = self.start(*arguments)
        out, err = process.communicate(timeout=100)
        return process.returncode, [*out.splitlines(), *err.splitlines()], _since(started)

    def expect_done(self) -> None:
        landed = {path.name for path in (self.folder / "target").iterdir()}
        assert landed == {f"{number:03}" for number in range(OBJECTS)}


def _since(started: float) -> float:
    return time.monotonic() - started


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Of a user who has told Ray nothing, in a home of their own."""
    for name in ("source", "target", "home"):
        (tmp_path / name).mkdir()
    for number in range(OBJECTS):
        (tmp_path / "source" / f"{number:03}").write_bytes(b"x" * number)
    return Copy(tmp_path, {**without_ray_settings(), "HOME": str(tmp_path / "home")})


def about_ray(lines: list[str]) -> list[str]:
    return [line for line in lines if "Ray" in line]


# -- a cluster that stands -------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["in the environment", "in a file"])
def test_a_cluster_with_a_token_is_joined(copy: Copy, ray_head: Head, given: str) -> None:
    if given == "in a file":
        (copy.folder / "home" / ".ray").mkdir()
        (copy.folder / "home" / ".ray" / "auth_token").write_text(ray_head.token)
    else:
        copy.environment["RAY_AUTH_TOKEN"] = ray_head.token
    code, lines, _ = copy.run("--address", ray_head.address)
    assert code == 0, lines
    copy.expect_done()
    assert about_ray(lines) == []
    assert not [line for line in lines if CPP_LINE.search(line)]
    assert (copy.job / "log" / "ray.txt").is_file()
    assert ray_head.process.poll() is None, "it is left running"


@pytest.fixture(scope="module")
def open_head() -> Iterator[Head]:
    """A cluster that lets everybody in."""
    with head_node(NO_TOKEN, cpus=2) as head:
        yield head


def test_a_cluster_that_lets_everybody_in_is_named_in_one_line(copy: Copy, open_head: Head) -> None:
    copy.environment.update(open_head.access)
    code, lines, _ = copy.run("--address", open_head.address)
    assert code == 0, lines
    copy.expect_done()
    (line,) = about_ray(lines)
    assert f"the Ray cluster at {open_head.address} asks nobody for a token: " in line


# -- a cluster that is not there -------------------------------------------------------------------


@contextmanager
def mute_host() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def nobody() -> Iterator[str]:
    yield f"127.0.0.1:{free_ports(1)[0]}"


@contextmanager
def full_host() -> Iterator[str]:
    """Its queue of connections is full: those to come hang."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("host", [nobody, mute_host, full_host], ids=lambda host: host.__name__)
def test_a_cluster_that_is_not_there_is_named_in_one_line(
    copy: Copy, host: Callable[[], AbstractContextManager[str]]
) -> None:
    with host() as address:
        _expect_refusal(copy, address)


def test_a_wrong_token_is_named_in_one_line(copy: Copy, ray_head: Head) -> None:
    copy.environment.update(new_token())
    line = _expect_refusal(copy, ray_head.address)
    assert "token" in line
    assert copy.environment["RAY_AUTH_TOKEN"] not in line


def test_no_token_is_named_in_one_line(copy: Copy, ray_head: Head) -> None:
    assert "token" in _expect_refusal(copy, ray_head.address)


def _expect_refusal(copy: Copy, address: str) -> str:
    for _ in range(ATTEMPTS):
        code, lines, seconds = copy.run("--address", address, "--quiet")
        assert code == 2, lines
        if seconds < ANSWER_SECONDS:
            break
    assert seconds < ANSWER_SECONDS, f"{seconds:.1f} s; {lines}"
    (line,) = lines
    assert line.startswith(f"noria: cannot join the Ray cluster at {address}: ")
    return line


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
def test_waiting_for_a_cluster_ends_at_once_when_asked_to(copy: Copy, way: signal.Signals) -> None:
    with mute_host() as address:
        process = copy.start("--address", address, "--quiet")
        wait_until(lambda: (copy.job / "log" / "ray.txt").exists(), "the look for a cluster")
        asked = time.monotonic()
        process.send_signal(way)
        out, err = process.communicate(timeout=30)
        seconds = _since(asked)
    assert process.returncode == 3, (out, err)
    assert seconds < STOP_SECONDS
    assert err.splitlines() == ["noria: stopped; run it again to resume"]


# -- a Ray of one's own ----------------------------------------------------------------------------


@pytest.fixture
def own_ray(copy: Copy) -> Iterator[subprocess.Popen[str]]:
    """A run with `--ray` that has begun to move. The environment of its processes has a mark."""
    copy.environment[MARK] = _mark(copy)
    _add_many(copy)
    process = copy.start("--ray", "--workers", "1")
    try:
        wait_until(lambda: _moves(copy, process), "the first object")
        yield process
    finally:
        process.kill()
        process.communicate()


def _mark(copy: Copy) -> str:
    return f"{copy.folder}-{os.getpid()}"


def _add_many(copy: Copy) -> None:
    """So many that there is something to interrupt."""
    for number in range(1_000):
        (copy.folder / "source" / f"1{number:04}").write_bytes(b"y")


def _moves(copy: Copy, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()
    return any((copy.folder / "target").glob("0*"))


def test_a_ray_of_ones_own_says_which_ports_it_listens_on(
    copy: Copy, own_ray: subprocess.Popen[str]
) -> None:
    family = dict(descendants(own_ray.pid))
    assert all(any(part in command for command in family.values()) for part in RAY_ITSELF)
    (worker,) = [pid for pid, command in family.items() if RAY_WORKER in command]
    os.kill(worker, signal.SIGSTOP)
    ports = {int(each[4:]) for each in listening(family) if each.startswith("tcp ")}
    os.kill(worker, signal.SIGCONT)
    out, err = own_ray.communicate(timeout=60)
    assert own_ray.returncode == 0, (out, err)
    (line,) = about_ray([*out.splitlines(), *err.splitlines()])
    assert "listens on every interface of this machine, with a token: ports " in line
    assert {int(port) for port in re.findall(r"\d+", line.partition("ports ")[2])} == ports
    assert not [line for line in err.splitlines() if CPP_LINE.search(line)]
    wait_until(lambda: not marked(MARK, _mark(copy)), "the end of Ray")
    assert not any(map(is_alive, family))


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_ray_of_ones_own_ends_with_its_driver(
    copy: Copy, own_ray: subprocess.Popen[str], way: signal.Signals
) -> None:
    own_ray.send_signal(way)
    own_ray.communicate(timeout=30)
    assert own_ray.returncode == (-9 if way is signal.SIGKILL else 3)
    wait_until(lambda: not marked(MARK, _mark(copy)), "the end of Ray")


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("sign", ["ray_gateway", "gcs_server", "raylet/raylet"])
def test_a_ray_that_is_starting_ends_with_its_driver(
    copy: Copy, way: signal.Signals, sign: str
) -> None:
    copy.environment[MARK] = _mark(copy)
    process = copy.start("--ray", "--quiet")
    wait_until(lambda: any(sign in command for _, command in descendants(process.pid)), "the sign")
    process.send_signal(way)
    out, err = process.communicate(timeout=30)
    if way is signal.SIGTERM:
        assert process.returncode == 3, (out, err)
        assert err.splitlines() == ["noria: stopped; run it again to resume"]
    wait_until(lambda: not marked(MARK, _mark(copy)), "the end of Ray")


def test_a_ray_of_one_s_own_without_room_for_its_session_is_told_at_once(
    copy: Copy, tmp_path: Path
) -> None:
    with SmallDisk(tmp_path / "small", "1m"):
        copy.environment["RAY_TMPDIR"] = str(tmp_path / "small")
        code, lines, seconds = copy.run("--ray")
    assert code == 2
    (line,) = [line for line in lines if "RAY_TMPDIR" in line]
    assert "make room" in line
    assert seconds < 30
