"""Which TCP ports processes of this machine listen on, as the kernel has them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final


def listening_ports(pid: int) -> list[int]:
    """TCP ports on which the processes below `pid` listen, as the kernel has them."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            parent = int(status.read_text().rpartition(") ")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    family, look = set[int](), [pid]
    while look:
        family.update(below := children.get(look.pop(), []))
        look += below
    sockets = set[str]()
    for one in (*family, pid):
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
