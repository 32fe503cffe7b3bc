"""A control group of its own for each tool: the kernel adds up what its processes use.

Exact even for daemons that left their parents and for processes that came and went between two
looks. Wanted is cgroup v2, pure or beside v1; else v1's cpuacct. Limits are never set.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

MOUNTS = Path("/proc/self/mounts")
OWN_GROUPS = Path("/proc/self/cgroup")
ENDING_SECONDS = 5.0
"""How long killed processes may take to be gone from their group."""

# The shell joins the group and becomes the tool: nothing of its own start is counted.
JOIN = 'echo $$ > "$0" && exec "$@"'

_numbers = itertools.count(1)


class CgroupAccount:
    """What belongs to one tool. Close it, or a group that nobody uses stays behind."""

    def __init__(self, folder: Path, method: str) -> None:
        self.method = method
        self._folder = folder

    def launch(
        self, command: Sequence[str], environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a process in the group; whatever it starts is in it too."""
        joining = ["/bin/sh", "-c", JOIN, str(self._folder / "cgroup.procs"), *command]
        return subprocess.Popen(joining, env=dict(environment), **options)

    def members(self) -> list[int]:
        try:
            return [int(line) for line in (self._folder / "cgroup.procs").read_text().split()]
        except OSError:  # of processes that end meanwhile
            return []

    def look(self) -> None:
        """The kernel looks for us."""

    def cpu_seconds(self) -> float:
        """User and system time of all processes that ever were members."""
        if self.method == "cgroup v2":
            values = (self._folder / "cpu.stat").read_text().split()
            return int(values[values.index("usage_usec") + 1]) / 1e6
        return int((self._folder / "cpuacct.usage").read_text()) / 1e9

    def close(self) -> None:
        """Raises OSError if members are still alive."""
        deadline = time.monotonic() + ENDING_SECONDS
        while True:
            try:
                self._folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


def open_cgroup() -> CgroupAccount | None:
    """A new group below the first folder in which one can be made and joined, or None."""
    name = f"noria-bench-{os.getpid()}-{next(_numbers)}"
    for place, method in _places():
        account = CgroupAccount(place / name, method)
        try:
            (place / name).mkdir()
        except OSError:
            continue
        with contextlib.suppress(OSError):
            if account.launch(["true"], {}, stderr=subprocess.DEVNULL).wait() == 0:
                account.cpu_seconds()
                return account
        account.close()
    return None


def _places() -> Iterator[tuple[Path, str]]:
    """Where a group may go: below our own, so that its limits hold, else below the root."""
    own = dict(_own_groups())
    mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    for kind, option, method in (("cgroup2", "", "cgroup v2"), ("cgroup", "cpuacct", "cpuacct v1")):
        for _, folder, mounted, options, *_ in mounts:
            if mounted == kind and (not option or option in options.split(",")):
                if own.get(option):
                    yield Path(folder) / own[option].lstrip("/"), method
                yield Path(folder), method


def _own_groups() -> Iterator[tuple[str, str]]:
    """Controller -> our own group; v2 has no controller's name."""
    for line in OWN_GROUPS.read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, group
