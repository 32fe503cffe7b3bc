"""Two machines, each with what its unit of deploy/machines starts, without systemd.

They are network namespaces (tests/hosts/namespaces.py): each has an address and all ports, so that
the units run as they are written. What systemd would do is done by hand: paths are put in, the
token is a file, and the environment is what the unit states.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.units import HEAD, JOB, MACHINES, WORKER, Unit, read_environment, read_unit
from tests.hosts.namespaces import BedFailed, Network, end_all, run
from tests.support.nodes import RAY, without_ray_settings
from tests.support.processes import wait_until

HEAD_HOST, WORKER_HOST = "head", "worker"
UNITS = {HEAD_HOST: HEAD, WORKER_HOST: WORKER}
ADDRESSES = {HEAD_HOST: "10.77.0.1", WORKER_HOST: "10.77.0.2"}
TOOLS = ("ip", "unshare", "mount", "umount", "hostname", "ss")
UP_SECONDS = 90.0
END_SECONDS = 60.0
SCRIPTS = MACHINES.parent / "scripts"
_PORT = re.compile(r":(\d+)$")


def why_not() -> str | None:
    """Why this machine cannot have two machines, or None."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)} (iproute2, util-linux)"
    name = f"noria-hosts-{os.getpid()}-try"
    try:
        run("ip", "netns", "add", name)
        run("ip", "netns", "delete", name)
    except BedFailed as error:
        return f"network namespaces cannot be made here: {error}"
    return None


class MachinePair:
    """A head and a worker, each with one CPU, in a cluster that asks for a token."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.jobs = folder / "srv"
        self.token = folder / "ray-token"
        self.jobs.mkdir()
        self.token.write_text(secrets.token_hex(32))
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, unit: Unit, host: str, token: Path | None = None) -> dict[str, str]:
        """What a unit's processes have in theirs on a machine: its own lines and node.env."""
        node = read_environment(MACHINES / "node.env")
        assert node.keys() == {"NORIA_HEAD_ADDRESS", "NORIA_NODE_ADDRESS", "NORIA_NODE_CPUS"}
        stated = unit.environment()
        assert stated.pop("RAY_AUTH_TOKEN_PATH") in {"%d/ray-token", "%t/noria-ray/ray-token"}
        assert unit.one("LoadCredential").startswith("ray-token:")
        return {
            **without_ray_settings(),
            **stated,
            "NORIA_HEAD_ADDRESS": self.network.addresses[HEAD_HOST],
            "NORIA_NODE_ADDRESS": self.network.addresses[host],
            "NORIA_NODE_CPUS": "1",
            "RAY_AUTH_TOKEN_PATH": str(token or self.token),
            "PATH": f"{SCRIPTS}:{RAY.parent}:{os.environ['PATH']}",
        }

    def words(self, words: list[str], host: str) -> list[str]:
        """A command of a unit, with the paths of this machine."""
        paths = {
            "/opt/noria/bin/noria-drain-node": str(SCRIPTS / "noria-drain-node"),
            "/opt/noria/bin": str(RAY.parent),
            "/var/lib/noria-ray": str(self.network.disk(host)),
            "/srv/noria": str(self.jobs),
        }
        for old, new in paths.items():
            words = [word.replace(old, new) for word in words]
        return words

    def start(self, host: str, token: Path | None = None) -> subprocess.Popen[bytes]:
        """`systemctl start` of a machine's unit."""
        unit = read_unit(UNITS[host])
        environment = self.environment(unit, host, token)
        words = self.words(unit.command("ExecStart", environment), host)
        with (self.network.folder / f"{host}.log").open("ab") as log:
            self._nodes[host] = subprocess.Popen(
                self.network.command(host, words), env=environment, stdout=log, stderr=log
            )
        return self._nodes[host]

    def stop(self, host: str) -> str:
        """Run ExecStop as `systemctl stop` does, and end what is left; returns what it says."""
        unit = read_unit(UNITS[host])
        environment = self.environment(unit, host)
        words = self.words(unit.command("ExecStop", environment), host)
        ended = subprocess.run(
            self.network.command(host, words),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=END_SECONDS,
            check=True,
        )
        self.end(host)
        return ended.stdout

    def end(self, host: str) -> None:
        end_all(self.network.namespace(host))
        node = self._nodes.pop(host, None)
        if node is not None:
            node.wait()

    def job(self, name: str, *options: str, token: Path | None = None) -> subprocess.Popen[str]:
        """`systemctl start noria-job@NAME` on the head, with options besides."""
        unit = read_unit(JOB)
        environment = self.environment(unit, HEAD_HOST, token)
        words = self.words(unit.command("ExecStart", environment, name), HEAD_HOST)
        return subprocess.Popen(
            self.network.command(HEAD_HOST, [*words, *options]),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def status(self) -> str:
        """What `ray status` says on the head; empty if there is no cluster yet."""
        ended = subprocess.run(
            self.network.command(
                HEAD_HOST, [RAY, "status", f"--address={ADDRESSES[HEAD_HOST]}:6379"]
            ),
            env=self.environment(read_unit(HEAD), HEAD_HOST),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return ended.stdout if ended.returncode == 0 else ""

    def cpus(self) -> str | None:
        """CPUs in use and in all, such as 0.0/2.0; None if there is no cluster yet."""
        found = re.search(r"([0-9.]+/[0-9.]+) CPU", self.status())
        return found[1] if found else None

    def listening(self, host: str) -> set[int]:
        """TCP ports that are open to other machines."""
        rows = self._sockets(host, "-ltnH")
        return {_port(row[3]) for row in rows if not row[3].startswith(("127.", "[::1]"))}

    def connections(self, host: str) -> set[tuple[int, int]]:
        """Own port and other port of each connection to the other machine."""
        (other,) = ADDRESSES.keys() - {host}
        rows = self._sockets(host, "-tnH")
        return {(_port(row[3]), _port(row[4])) for row in rows if ADDRESSES[other] in row[4]}

    def _sockets(self, host: str, options: str) -> list[list[str]]:
        said = run("ip", "netns", "exec", self.network.namespace(host), "ss", options)
        return [line.split() for line in said.splitlines()]


def _port(address: str) -> int:
    found = _PORT.search(address)
    assert found is not None, address
    return int(found[1])


@contextlib.contextmanager
def machine_pair(folder: Path) -> Iterator[MachinePair]:
    """Both machines, once they are one cluster."""
    with Network(ADDRESSES) as network:
        pair = MachinePair(network, folder)
        pair.start(HEAD_HOST)
        wait_until(lambda: pair.cpus() == "0.0/1.0", "the head", seconds=UP_SECONDS)
        join(pair)
        try:
            yield pair
        finally:
            for host in ADDRESSES:
                pair.end(host)


def join(pair: MachinePair) -> None:
    """Start the worker's unit, and wait until it is in the cluster."""
    pair.start(WORKER_HOST)
    wait_until(lambda: pair.cpus() == "0.0/2.0", "the second machine", seconds=UP_SECONDS)
