"""Servers for a whole session, started when a test first asks, and fresh containers and buckets."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import settings

from noria.benchmarks.servers import (
    Azurite,
    Prometheus,
    S3Server,
    run_azurite,
    run_prometheus,
    run_rclone_s3,
    run_seaweedfs,
)
from tests.support.installed import Installation, build, copy_tree, install
from tests.support.lease_jobs import BucketShelf
from tests.support.long_tests import long_tests
from tests.support.nodes import Head, head_node, new_token

SERVERS = {"azurite", "seaweedfs", "buckets", "rclone_s3", "prometheus_factory", "ray_head"}
"""Fixtures that start one."""
SERVER_FOLDERS = (
    "conformance",
    "scenarios",
    "clouds",
    "faults",
    "deploy",
    "benchmarks/sweep",
    "benchmarks/null",
    "benchmarks/test_servers.py",
)
"""Tests that take such a fixture by its name at run time, or start a server of their own."""


MEMORY, MEMINFO = Path("/dev/shm"), Path("/proc/meminfo")
MEMORY_BYTES = 12_000_000_000
"""What has to be free there and in memory at all: several times what the tests need of it."""


def _work_in_memory() -> None:
    """Lay temporary files in memory, if there is room and TMPDIR says nothing else.

    Noria waits for each record to be on the disk. Tests write some hundred thousand, for stores and
    jobs that end with them: on a disk that is what they would spend most of their time on.
    """
    if "TMPDIR" in os.environ:
        return
    try:
        (free,) = re.findall(r"^MemAvailable: +(\d+) kB$", MEMINFO.read_text(), flags=re.MULTILINE)
        if min(1024 * int(free), shutil.disk_usage(MEMORY).free) < MEMORY_BYTES:
            return
        with tempfile.NamedTemporaryFile(dir=MEMORY) as file:
            os.setxattr(file.name, "user.noria", b"")  # tmpfs of older kernels has none
    except (OSError, ValueError):
        return
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None  # it is asked for again


_work_in_memory()

# A busy machine is no failure: pytest's own time-out bounds a test.
settings.register_profile("noria", deadline=None)
settings.load_profile("noria")


LOST_SECONDS = 5.0
"""After which an end is asked for again: what is raised within a callback of the garbage collector
or a `__del__` is dropped."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came. As Ctrl-C it passes Hypothesis and `except Exception`, and ends the session."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """By default SIGTERM ends Python at once: servers and temporary folders would stay."""

    raised = -math.inf

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if time.monotonic() < raised + LOST_SECONDS / 2:
            return  # `timeout` sends it twice: the second must not break off the cleaning up
        raised = time.monotonic()
        session.shouldstop = "ended by SIGTERM"  # in case the code under test takes the exception
        again = threading.Timer(LOST_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()
        raise Terminated("the session was ended by SIGTERM")

    signal.signal(signal.SIGTERM, end)


def pytest_keyboard_interrupt() -> None:
    """The session ends: from here on SIGTERM has nothing to add."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, which `make test-fast` leaves out, and what `make test` does."""
    long = long_tests()
    for item in items:
        if needs_server(item):
            item.add_marker(pytest.mark.servers)
        if item.nodeid.removeprefix("tests/") in long:
            item.add_marker(pytest.mark.long)


def needs_server(item: pytest.Item) -> bool:
    if not SERVERS.isdisjoint(getattr(item, "fixturenames", ())):
        return True
    parameters = getattr(item, "callspec", None)
    if parameters is not None and parameters.params.get("home") == "local":
        return False  # the conformance suite in a folder
    here = Path(__file__).parent
    return any(item.path.is_relative_to(here / folder) for folder in SERVER_FOLDERS)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What commands keep for the next one is not kept in the developer's own cache."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    return build(copy_tree(folder / "tree"), "wheel", folder / "dist")


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel, installed beside its dependencies and nothing else."""
    return install(wheel, tmp_path_factory.mktemp("installed") / "venv")


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    with run_azurite() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[S3Server]:
    with run_seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def buckets(seaweedfs: S3Server) -> Iterator[BucketShelf]:
    """Where a test takes empty buckets on `seaweedfs` that are warm already."""
    with contextlib.closing(BucketShelf(seaweedfs)) as shelf:
        yield shelf


@pytest.fixture(scope="session")
def rclone_s3() -> Iterator[S3Server]:
    with run_rclone_s3() as server:
        yield server


@pytest.fixture(scope="session")
def prometheus_factory() -> Iterator[Callable[..., Prometheus]]:
    """Starts one with `targets=[...]` and `rule_files=[...]`, which ends with the session."""
    with contextlib.ExitStack() as servers:

        def start(*, targets: Sequence[str] = (), rule_files: Sequence[Path] = ()) -> Prometheus:
            return servers.enter_context(run_prometheus(targets=targets, rule_files=rule_files))

        yield start


@pytest.fixture(scope="session")
def ray_head() -> Iterator[Head]:
    """A Ray cluster of one node, as `ray start --head` makes it, with a token of its own."""
    with head_node(new_token(), cpus=6) as head:
        yield head


@pytest.fixture
def azure_container(azurite: Azurite) -> Iterator[str]:
    """The name of a new, empty container on `azurite`."""
    name = f"container-{uuid.uuid4().hex}"
    with azurite.client() as client:
        client.create_container(name)
        yield name
        client.delete_container(name)


@pytest.fixture
def s3_bucket(seaweedfs: S3Server) -> Iterator[str]:
    """The name of a new, empty bucket on `seaweedfs`."""
    name = f"bucket-{uuid.uuid4().hex}"
    client = seaweedfs.client()
    client.create_bucket(Bucket=name)
    yield name
    client.delete_bucket(Bucket=name)  # SeaweedFS drops the objects with it
    client.close()


@pytest.fixture
def rclone_bucket(rclone_s3: S3Server) -> str:
    """The name of a new, empty bucket on `rclone_s3`; it stays until the server's folder goes."""
    name = f"bucket-{uuid.uuid4().hex}"
    client = rclone_s3.client()
    client.create_bucket(Bucket=name)
    client.close()
    return name
