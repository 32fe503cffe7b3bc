"""Hosts that are network namespaces of this machine, on one bridge, and cannot reach anything else.

    head ─┐
    a    ─┤
    b    ─┼─ bridge, in a namespace of its own ("switch"): this machine has no address in it
    ...  ─┤
    stores┘

A host has a name, an address in 10.77.0.0/24, no route out of it, and a folder of its own on a
small disk. All names carry the id of the process that made them: what a killed process leaves
behind is found by that, and removed by the next (`sweep`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.support.processes import is_alive

NAMESPACE = "noria-hosts-"
FOLDER = Path("/tmp/nh-")
"""Short: Ray puts sockets below it, whose paths may have 107 bytes."""
SWITCH = "switch"
NETWORK = "10.77.0"
CLONE_NEWNET = 0x40000000
COMMAND_SECONDS = 30.0
GONE_SECONDS = 20.0
DISK_SIZE = "160m"
TOOLS = ("ip", "iptables", "unshare", "nsenter", "mount", "umount", "hostname")


class BedFailed(Exception):
    """Namespaces cannot be made here. The message says why."""


def why_not() -> str | None:
    """Why this machine can have no hosts, or None. Leaves nothing behind."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (iproute2, iptables, util-linux)"
    name = f"{NAMESPACE}{os.getpid()}-try"
    try:
        run("ip", "netns", "add", name)
        try:
            run("ip", "netns", "exec", name, "iptables", "-w", "-L", "-n")
        finally:
            run("ip", "netns", "delete", name)
    except BedFailed as error:
        return f"network namespaces cannot be made here: {error}"
    return None


def run(*command: str | Path) -> str:
    """What a command prints. Raises BedFailed with what it says of its failure."""
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if ended.returncode != 0:
        raise BedFailed(f"{' '.join(map(str, command))}: {ended.stderr.strip()}")
    return ended.stdout


class Network:
    """The hosts of one bed, without anything that runs on them. A context manager."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self.addresses = dict(addresses)
        """Host -> its address, which may change."""
        self.folder = Path(f"{FOLDER}{os.getpid()}")

    def __enter__(self) -> Network:
        sweep()
        try:
            self._make()
        except BaseException:
            remove(os.getpid())
            raise
        return self

    def __exit__(self, *_: object) -> None:
        remove(os.getpid())

    def _make(self) -> None:
        self.folder.mkdir()
        run("ip", "netns", "add", self.namespace(SWITCH))
        run("ip", "-n", self.namespace(SWITCH), "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.namespace(SWITCH), "link", "set", "dev", "br0", "up")
        for host, address in self.addresses.items():
            self._plug_in(host, address)

    def _plug_in(self, host: str, address: str) -> None:
        name, switch = self.namespace(host), self.namespace(SWITCH)
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "dev", "lo", "up")
        ends = ("link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", switch)
        run("ip", "-n", name, *ends)
        run("ip", "-n", switch, "link", "set", "dev", host, "master", "br0", "up")
        run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "dev", "eth0", "up")
        disk = self.disk(host)
        disk.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", disk)

    @staticmethod
    def namespace(host: str) -> str:
        return f"{NAMESPACE}{os.getpid()}-{host}"

    def disk(self, host: str) -> Path:
        """The host's own folder, on a disk of DISK_SIZE."""
        return self.folder / host

    # -- what runs on a host -----------------------------------------------------------------------

    def command(self, host: str, words: Sequence[str | Path]) -> list[str | Path]:
        """The command as it is run on the host: in its namespace, under its name."""
        named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host)
        return ["ip", "netns", "exec", self.namespace(host), *named, *words]

    def pids(self, host: str) -> list[int]:
        return pids_in(self.namespace(host))

    def listen(self, host: str, port: int) -> socket.socket:
        """A socket on the host's address that this process serves."""
        made: list[socket.socket] = []
        failed: list[Exception] = []

        def make() -> None:
            # A namespace belongs to a thread; a socket stays in the one it was made in.
            try:
                _enter(self.namespace(host))
                made.append(socket.create_server((self.addresses[host], port), backlog=128))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failed:
            raise BedFailed(f"cannot listen on {host}: {failed[0]}")
        return made[0]

    # -- cables, and what they carry ---------------------------------------------------------------

    def cut(self, host: str) -> None:
        """Pull the host's cable out of the switch."""
        run("ip", "-n", self.namespace(SWITCH), "link", "set", "dev", host, "down")

    def join(self, host: str) -> None:
        run("ip", "-n", self.namespace(SWITCH), "link", "set", "dev", host, "up")

    def drop(self, sender: str, receiver: str) -> None:
        """From now on nothing arrives that `sender` sends to `receiver`."""
        self._rule("-I", sender, receiver)

    def pass_on(self, sender: str, receiver: str) -> None:
        self._rule("-D", sender, receiver)

    def _rule(self, verb: str, sender: str, receiver: str) -> None:
        rule = (verb, "OUTPUT", "-d", self.addresses[receiver], "-j", "DROP")
        run("ip", "netns", "exec", self.namespace(sender), "iptables", "-w", *rule)

    def move_to(self, host: str, address: str) -> None:
        """Give the host another address."""
        name = self.namespace(host)
        run("ip", "-n", name, "addr", "flush", "dev", "eth0", "scope", "global")
        run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        self.addresses[host] = address


def pids_in(namespace: str) -> list[int]:
    return [int(pid) for pid in run("ip", "netns", "pids", namespace).split()]


def end_all(namespace: str) -> None:
    """Kill every process of a namespace, and wait until none is left."""
    until = time.monotonic() + GONE_SECONDS
    while left := [pid for pid in pids_in(namespace) if is_alive(pid)]:
        if time.monotonic() > until:
            raise BedFailed(f"processes {left} of {namespace} do not end")
        send(signal.SIGKILL, left)
        time.sleep(0.02)


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def sweep() -> None:
    """Remove what processes have left that do not live any more."""
    owners = {owner for owner, _ in _namespaces()}
    owners.update(
        int(found)
        for path in FOLDER.parent.glob(f"{FOLDER.name}*")
        if (found := path.name.removeprefix(FOLDER.name)).isdigit()
    )
    for owner in owners:
        if owner == os.getpid() or not is_alive(owner):
            remove(owner)


def remove(owner: int) -> None:
    """End and remove all that a process has made: processes, namespaces, disks, folders."""
    for _, namespace in [each for each in _namespaces() if each[0] == owner]:
        end_all(namespace)
        run("ip", "netns", "delete", namespace)
    folder = Path(f"{FOLDER}{owner}")
    mounts = Path("/proc/mounts").read_text().splitlines()
    for place in [line.split()[1] for line in mounts]:
        if Path(place).is_relative_to(folder):
            run("umount", "-l", place)
    shutil.rmtree(folder, ignore_errors=True)


def _namespaces() -> Iterator[tuple[int, str]]:
    """Owner and name of each namespace that was made here."""
    for line in run("ip", "netns", "list").splitlines():
        if found := re.match(rf"{NAMESPACE}(\d+)-\S+", line):
            yield int(found[1]), found[0]


def _enter(namespace: str) -> None:
    """Take the calling thread into a namespace, for good."""
    with open(f"/run/netns/{namespace}", "rb") as file:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
