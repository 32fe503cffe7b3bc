"""Processes of this machine as the kernel has them: who is below whom, who listens, who is nice."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final


def descendants(pid: int) -> list[int]:
    """Processes below `pid`, each after its parent."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            parent = int(status.read_text().rpartition(") ")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def listening_ports(pid: int) -> list[int]:
    """TCP ports on which a process and those below it listen, as the kernel has them."""
    sockets = set[str]()
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            sockets.update(os.readlink(file) for file in Path(f"/proc/{one}/fd").iterdir())
    ports = set[int]()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for row in Path(table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = row.split()[:10]
                if state == _LISTEN and f"socket:[{inode}]" in sockets:
                    ports.add(int(local.rpartition(":")[2], 16))
    return sorted(ports)


def own_niceness() -> int:
    """How nice this process is: from -20 to 19, which gets what others leave of the CPU."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def take_niceness(wanted: int) -> int:
    """Make all threads of this process as nice as `wanted`; returns how nice they are.

    A smaller value than before takes a right (CAP_SYS_NICE, RLIMIT_NICE): without it, it stays.
    """
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(thread), wanted)
    return own_niceness()


_LISTEN: Final = "0A"
"""As /proc/net/tcp writes it."""
