"""Processes of this machine as the kernel has them, and waiting for what they do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

LOCAL_WORKER = "noria.engine.cluster.worker_process"
"""Is in the command line of a worker process of this machine."""
RAY_WORKER = "ray::WorkerActor"
"""Is the title of a worker on a Ray cluster."""
GATEWAY = "noria.engine.cluster.ray_gateway"
_TABLES = ("tcp", "tcp6", "udp", "udp6")
_TCP_LISTEN = "0A"
_UNIX_ACCEPTS = 0x10000


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Children of a process and theirs: pid and command line."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                command = (entry / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue
            parent = int(stat[stat.rindex(")") + 2 :].split()[1])
            parents.setdefault(parent, []).append((int(entry.name), command))
    waiting = [pid]
    while waiting:
        for child, command in parents.get(waiting.pop(), []):
            waiting.append(child)
            yield child, command


def marked(name: str, value: str) -> dict[int, str]:
    """Processes that have this in their environment, whoever their parent is: pid and command."""
    wanted = f"{name}={value}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    command = (folder / "cmdline").read_text().replace("\0", " ").strip()
                    found[int(folder.name)] = command
            except OSError:
                continue
    # An ended process that nobody has waited for yet has no command line.
    return {pid: command for pid, command in found.items() if command}


def command_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return None


def is_alive(pid: int) -> bool:
    """False too for one that has ended and that nobody has waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] != "Z"


def listening(pids: Iterable[int]) -> set[str]:
    """Sockets of these processes on which strangers can reach them.

    Tcp ports that listen, udp ports, unix sockets with a name that listen; as "tcp 8080" and
    "unix /run/x".
    """
    owned = set[str]()
    for pid in pids:
        try:
            owned.update(os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue  # it has ended, or is about to
    found = set()
    for table in _TABLES:
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = row.split()[:10]
            if f"socket:[{inode}]" in owned and (state == _TCP_LISTEN or "udp" in table):
                found.add(f"{table.rstrip('6')} {int(local.rpartition(':')[2], 16)}")
    for row in Path("/proc/net/unix").read_text().splitlines()[1:]:
        _, _, _, flags, _, _, inode, *path = row.split(maxsplit=7)
        if f"socket:[{inode}]" in owned and path and int(flags, 16) & _UNIX_ACCEPTS:
            found.add(f"unix {path[0]}")
    return found


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 60.0) -> None:
    """Look again and again, at bounded cost, until it holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"never happened: {what}"
        time.sleep(0.02)
