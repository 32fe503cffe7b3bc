"""A server as one child process on a free port, with its data in a temporary folder.

    with run_seaweedfs() as seaweedfs:
        seaweedfs.client().create_bucket(Bucket="reads")

A `run_...` returns when the server answers, and raises `ServerFailed` with its log if it does not.
When the block ends, the process is killed and the folder removed. A server also dies with the
*thread* that started it, however that thread ends: the kernel sees to it. So start servers from
the main thread.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# How long a server may take until it answers; on two busy cores they take one to two seconds.
READY_SECONDS = 30.0
READY_POLL_SECONDS = 0.05

# How long `ServerProcess.stop` waits for a clean end; SeaweedFS, the slowest, takes three seconds.
STOP_SECONDS = 10.0

# Below Linux's ephemeral ports (32768 and up), or an outgoing connection could take one between our
# look and the server's bind; above the ports of Ray's workers (10002 to 19999).
PORTS = range(20_000, 32_768)

ROOT = Path(__file__).resolve().parents[2]
TOOL_FOLDERS = (
    Path(sys.executable).parent,
    ROOT / ".venv/bin",
    ROOT / ".tools/usr/bin",
    ROOT / "build/kubectl",
    ROOT / "build/msc/bin",
)

# The child runs this and then becomes the server, under the same process id. Popen's preexec_fn
# could do the same, but forks a Python that has threads, which may deadlock.
EXEC_DYING_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
    sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has died already")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerFailed(Exception):
    """A server did not come up, or is not running. The message holds its command and its log."""


class ToolMissing(Exception):
    """A program that `make setup` or `make bench-tools` brings is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not installed: run `make setup bench-tools`")


def find_tool(name: str) -> Path:
    """The program called `name`, as `make setup` installed it, else as PATH has it."""
    for folder in TOOL_FOLDERS:
        if os.access(folder / name, os.X_OK):
            return folder / name
    if found := shutil.which(name):
        return Path(found)
    raise ToolMissing(name)


def free_ports(count: int, *, companion_offset: int = 0) -> list[int]:
    """Different ports, each free at this moment, as is the one `companion_offset` above it.

    They are this process's until it ends: no other one that asks here is given them, though a
    server may not have bound them yet.
    """
    candidates = list(PORTS[: len(PORTS) - companion_offset])
    random.shuffle(candidates)
    free = (
        port
        for port in candidates
        if all(_is_free(each) and _reserve(each) for each in {port, port + companion_offset})
    )
    return [next(free) for _ in range(count)]


def _reserve(port: int) -> bool:
    """Whether nobody else has it: told by a name that the kernel drops with its process."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0noria-port-{port}")
    except OSError:
        name.close()
        return False
    name.detach()  # it stays open as long as this process lives
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class ServerProcess:
    """One server: its command, its folder, its endpoint, and at most one live process.

    A stopped server can be started again: same port, and the data that it left.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        folder: Path,
        endpoint: str,
        ready_path: str = "/",
        ready_statuses: range = range(200, 500),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [str(word) for word in command]
        self.folder = folder
        self.endpoint = endpoint
        self.log = folder / "server.log"
        self._ready_path = ready_path
        self._ready_statuses = ready_statuses
        # Built from nothing: a developer's own AWS_* or RCLONE_* would change what a server does.
        self._environment = {"HOME": str(folder), "TMPDIR": str(folder), **(environment or {})}
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the process, and of its process group."""
        if self._child is None:
            raise ServerFailed(f"not running: {self.command[0]}")
        return self._child.pid

    def start(self) -> None:
        """Start the process and wait until it answers, or raise `ServerFailed` and leave none."""
        if self._child is not None:
            raise ServerFailed(f"running already: {self.command[0]}")
        launcher = [sys.executable, "-I", "-S", "-c", EXEC_DYING_WITH_PARENT, str(os.getpid())]
        atexit.register(self.kill)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*launcher, *self.command],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        try:
            self._wait_until_ready(self._child)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask for a clean end, so that `start` finds all data again; kill after STOP_SECONDS."""
        if self._child is not None:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the process group at once, as a crash would. A repeat does nothing."""
        if self._child is not None:
            # A group whose leader has been waited for may be another's by now.
            if self._child.poll() is None:
                os.killpg(self._child.pid, signal.SIGKILL)
                self._child.wait()
            self._child = None
        atexit.unregister(self.kill)

    def _wait_until_ready(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise self._failure(f"ended with status {child.returncode}")
            if _http_status(self.endpoint, self._ready_path) in self._ready_statuses:
                return
            time.sleep(READY_POLL_SECONDS)
        raise self._failure(f"not ready after {READY_SECONDS:.0f} s")

    def _failure(self, what: str) -> ServerFailed:
        log = self.log.read_text(errors="replace")
        return ServerFailed(f"{what}: {' '.join(self.command)}\n{log}")


def _http_status(endpoint: str, path: str) -> int | None:
    address = urllib.parse.urlsplit(endpoint)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@contextlib.contextmanager
def temporary_server_folder(name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"noria-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def started(process: ServerProcess) -> Iterator[None]:
    process.start()
    try:
        yield
    finally:
        process.kill()
