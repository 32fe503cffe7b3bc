"""Processes of this machine as the kernel has them: who is below whom, and who listens where."""

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


_LISTEN: Final = "0A"
"""As /proc/net/tcp writes it."""
