"""A cluster of hosts, two stores behind fronts, and one Ray cluster that jobs share.

    with HostBed(azurite, seaweedfs) as bed:
        bed.ready()
        bed.popen(HEAD, ["noria", "run", ..., "--address", bed.ray_address])

Ray's control store is on `head`, which has no CPU for workers; `a` and `b` have one CPU each.
`driver` joins only if a job wants a driver on a host of its own. Each node has its own temporary
folder on its own small disk, and its own host name. Nodes are started as a person would, and are
replaced after a fault that they may not have survived.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from noria.benchmarks.servers import Azurite, S3Server
from tests.hosts.front import Fronts, StoreFront
from tests.hosts.namespaces import NETWORK, Network, end_all
from tests.support.nodes import RAY, STORE, new_token, without_ray_settings
from tests.support.processes import wait_until

HEAD, A, B, DRIVER, STORES = "head", "a", "b", "driver", "stores"
WORKER_HOSTS = (A, B)
ADDRESSES = {
    HEAD: f"{NETWORK}.1",
    A: f"{NETWORK}.2",
    B: f"{NETWORK}.3",
    DRIVER: f"{NETWORK}.4",
    STORES: f"{NETWORK}.9",
}
RAY_PORT, SOURCE_PORT, TARGET_PORT = 6379, 10000, 8333
CLOCK_FOLDER = Path(__file__).with_name("clock")
UP_SECONDS = 90.0
LOOK_SECONDS = 0.5
_TOTAL = re.compile(r"([0-9.]+)/([0-9.]+) CPU")
_OWN = ("RAY_", "AWS_", "AZURE_", "NORIA_", "HOSTS_")


class HostBed:
    """Made once for many jobs. A context manager; leaves nothing behind."""

    def __init__(self, azurite: Azurite, seaweedfs: S3Server) -> None:
        self.azurite = azurite
        self.seaweedfs = seaweedfs
        self.network = Network(ADDRESSES)
        self._access = new_token()
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._suspect: set[str] = set()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> HostBed:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.network)
            self.fronts = Fronts(
                source=self._front(stack, SOURCE_PORT, self.azurite.process.endpoint),
                target=self._front(stack, TARGET_PORT, self.seaweedfs.endpoint),
            )
            stack.callback(self._stop_all)
            self._start_all()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _front(self, stack: contextlib.ExitStack, port: int, endpoint: str) -> StoreFront:
        upstream = urlsplit(endpoint)
        assert upstream.hostname is not None, "a server has its host"
        assert upstream.port is not None, "and its port"
        listener = self.network.listen(STORES, port)
        return stack.enter_context(StoreFront(listener, (upstream.hostname, upstream.port)))

    def _stop_all(self) -> None:
        for host in list(self._nodes):
            self.stop_node(host)

    # -- Ray ---------------------------------------------------------------------------------------

    @property
    def ray_address(self) -> str:
        return f"{self.network.addresses[HEAD]}:{RAY_PORT}"

    def ready(self, *hosts: str) -> None:
        """Have the cluster be as it was made, and with nodes on these hosts too.

        Nodes that ended, or that faults may have harmed, are replaced.
        """
        wanted = {HEAD, *WORKER_HOSTS, *hosts}
        ended = {host for host, node in self._nodes.items() if node.poll() is not None}
        for host in (self._nodes.keys() - wanted) | self._suspect | ended:
            self.stop_node(host)
        if HEAD not in self._nodes:
            self._stop_all()
            self._start_all(*hosts)
        else:
            for host in wanted - self._nodes.keys():
                self.start_node(host)
            self._wait_until_idle()
        self._suspect.clear()

    def suspect(self, *hosts: str) -> None:
        """Faults may have harmed the nodes of these hosts."""
        self._suspect.update(hosts)

    def _start_all(self, *hosts: str) -> None:
        self._start(
            HEAD, "--head", "--num-cpus=0", f"--port={RAY_PORT}", "--include-dashboard=false"
        )
        wait_until(lambda: self._cpus() is not None, "the head", seconds=UP_SECONDS)
        for host in (*WORKER_HOSTS, *hosts):
            self.start_node(host)
        self._wait_until_idle()

    def start_node(self, host: str) -> None:
        """Start a node that joins the cluster, and do not wait for it."""
        cpus = 1 if host in WORKER_HOSTS else 0
        self._start(host, f"--num-cpus={cpus}", f"--address={self.ray_address}")

    def _start(self, host: str, *arguments: str) -> None:
        address = self.network.addresses[host]
        place = (f"--node-ip-address={address}", f"--temp-dir={self.network.disk(host)}")
        words: tuple[str | Path, ...] = (
            RAY,
            "start",
            "--block",
            "--disable-usage-stats",
            STORE,
            *place,
            *arguments,
        )
        with (self.network.folder / f"{host}.log").open("ab") as log:
            self._nodes[host] = self.popen(host, words, stdout=log, stderr=log)

    def stop_node(self, host: str) -> None:
        """Kill everything on a host."""
        end_all(self.network.namespace(host))
        node = self._nodes.pop(host, None)
        if node is not None:
            node.wait()

    def node_pid(self, host: str) -> int:
        """Of a process that sees files as all processes of that node do."""
        return self._nodes[host].pid

    def _wait_until_idle(self) -> None:
        wait_until(
            lambda: self._cpus() == (0.0, float(len(WORKER_HOSTS))),
            "a cluster that is up and idle",
            seconds=UP_SECONDS,
        )

    def _cpus(self) -> tuple[float, float] | None:
        """Used and all CPUs of the cluster, as it says; None: it does not answer."""
        time.sleep(LOOK_SECONDS)
        ended = subprocess.run(
            self.network.command(HEAD, (RAY, "status", f"--address={self.ray_address}")),
            env=self.environment(HEAD),
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )
        if ended.returncode != 0:
            return None
        found = _TOTAL.search(ended.stdout)
        return (float(found[1]), float(found[2])) if found else (0.0, 0.0)

    # -- processes on hosts ------------------------------------------------------------------------

    def environment(self, host: str) -> dict[str, str]:
        """Of what runs there: the way to the stores, and the token of the cluster."""
        stores = self.network.addresses[STORES]
        source = f"http://{stores}:{SOURCE_PORT}"
        plain = {
            name: value
            for name, value in without_ray_settings().items()
            if not name.startswith(_OWN)
        }
        return {
            **plain,
            **self.azurite.env(),
            **self.seaweedfs.env(),
            **self._access,
            "AZURE_STORAGE_CONNECTION_STRING": self.azurite.connection_string.replace(
                self.azurite.process.endpoint, source
            ),
            "AWS_ENDPOINT_URL_S3": f"http://{stores}:{TARGET_PORT}",
            "PYTHONPATH": str(CLOCK_FOLDER),
            "HOSTS_CLOCK": str(self.clock_file(host)),
        }

    def clock_file(self, host: str) -> Path:
        """Holds the seconds by which the clock of that host's workers is wrong."""
        return self.network.folder / f"{host}.clock"

    def popen(
        self, host: str, words: Sequence[str | Path], **streams: object
    ) -> subprocess.Popen[bytes]:
        """Start a command on a host, in a process group of its own."""
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]  # files or descriptors
            self.network.command(host, words),
            env=self.environment(host),
            start_new_session=True,
            **streams,
        )
