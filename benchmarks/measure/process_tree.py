"""CPU time of a tool and all its descendants, if no control group can be made.

This process becomes a subreaper: a process that loses its parent becomes its child, so nobody
leaves the tree unseen. What a process used is known exactly while it lives, while it is a zombie,
and when its parent waits for it, since the parent then states it. What is lost is what a process
whose parent ignores its end used since the last look.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from noria.benchmarks.measure.processes import ProcessTimes, descendants, read_all_times

PR_SET_CHILD_SUBREAPER = 36


class ProcessTreeAccount:
    """What belongs to one tool: all descendants of this process but those it had before.

    Only one at a time, and while it is open this process starts nothing that is not the tool's.
    """

    method = "subreaper and samples of /proc"

    def __init__(self) -> None:
        _set_subreaper(True)
        self._strangers = frozenset(
            times.identity for times in descendants(os.getpid(), read_all_times())
        )
        self._roots: list[subprocess.Popen[bytes]] = []
        self._seen: dict[tuple[int, int], ProcessTimes] = {}
        self._gone_seconds = 0.0

    def launch(
        self, command: Sequence[str], environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[bytes]:
        root = subprocess.Popen(command, env=dict(environment), **options)
        self._roots.append(root)
        self.look()
        return root

    def members(self) -> list[int]:
        return [times.pid for times in self._members() if not times.zombie]

    def look(self) -> None:
        """Bring the account up to date, and let orphans that have ended go."""
        tree = {times.identity: times for times in self._members()}
        self._gone_seconds += self._lost_seconds(tree)
        roots = {root.pid for root in self._roots}
        for identity, times in list(tree.items()):
            # A root is waited for by whoever has launched it, after a last look.
            if times.zombie and times.parent == os.getpid() and times.pid not in roots:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(times.pid, os.WNOHANG)
                self._gone_seconds += times.own_seconds + times.waited_seconds
                del tree[identity]
        self._seen = tree

    def cpu_seconds(self) -> float:
        """User and system time of all processes that ever were members, as far as seen."""
        self.look()
        alive = sum(times.own_seconds + times.waited_seconds for times in self._seen.values())
        return self._gone_seconds + alive

    def close(self) -> None:
        self.look()
        _set_subreaper(False)

    def _members(self) -> list[ProcessTimes]:
        table = read_all_times()
        # A stranger's own children are strangers too.
        known = {
            pid: times for pid, times in table.items() if times.identity not in self._strangers
        }
        return descendants(os.getpid(), known)

    def _lost_seconds(self, tree: Mapping[tuple[int, int], ProcessTimes]) -> float:
        """What members that have ended had used, less what a surviving ancestor states of them."""
        by_pid = {times.pid: times for times in self._seen.values()}
        gone_below: dict[tuple[int, int], float] = {}
        lost = 0.0
        for identity, times in self._seen.items():
            if identity in tree:
                continue
            ancestor = by_pid.get(times.parent)
            while ancestor is not None and ancestor.identity not in tree:
                ancestor = by_pid.get(ancestor.parent)
            used = times.own_seconds + times.waited_seconds
            if ancestor is None:
                lost += used
            else:
                gone_below[ancestor.identity] = gone_below.get(ancestor.identity, 0.0) + used
        for identity, used in gone_below.items():
            stated = tree[identity].waited_seconds - self._seen[identity].waited_seconds
            lost += max(0.0, used - stated)
        return lost


def _set_subreaper(wanted: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
