"""What /proc says about processes: CPU time, memory, parents, command lines.

A process may end between any two looks: whatever asks about it then gets None.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTimes:
    """A process at one moment; times are CPU seconds, user and system together."""

    pid: int
    parent: int
    zombie: bool
    started_ticks: int
    """With the pid, which may be given again, the identity of the process."""
    own_seconds: float
    waited_seconds: float
    """Of the children that it has waited for, and theirs."""

    @property
    def identity(self) -> tuple[int, int]:
        return self.pid, self.started_ticks


def read_times(pid: int) -> ProcessTimes | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name is in brackets and may hold anything, brackets too.
    fields = text.rpartition(")")[2].split()
    user, system, waited_user, waited_system = (int(field) for field in fields[11:15])
    return ProcessTimes(
        pid=pid,
        parent=int(fields[1]),
        zombie=fields[0] == "Z",
        started_ticks=int(fields[19]),
        own_seconds=(user + system) / TICKS_PER_SECOND,
        waited_seconds=(waited_user + waited_system) / TICKS_PER_SECOND,
    )


def read_all_times() -> dict[int, ProcessTimes]:
    """Every process of this machine that can be seen."""
    found = (read_times(int(name)) for name in os.listdir(PROC) if name.isdecimal())
    return {times.pid: times for times in found if times is not None}


def descendants(root: int, table: dict[int, ProcessTimes]) -> list[ProcessTimes]:
    """All below `root`, parents before their children."""
    children: dict[int, list[ProcessTimes]] = {}
    for times in table.values():
        children.setdefault(times.parent, []).append(times)
    found: list[ProcessTimes] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [times.pid for times in below]
    return found


def read_rss_bytes(pid: int) -> int:
    """Resident memory; pages that processes share count in each."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


def read_pss_bytes(pid: int) -> int:
    """Resident memory; a page that n processes share counts 1/n in each."""
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def read_command(pid: int) -> str | None:
    """The command line, or the title that the process has given itself."""
    try:
        return (PROC / str(pid) / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        return None
