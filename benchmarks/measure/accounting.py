"""What a command used, from the operating system: CPU of all its processes, memory, wall time.

    with open_account() as account:
        usage = measure(["rclone", "copy", ...], environment, account=account)
    print(usage.cpu_seconds, usage.method, account.left_behind)

Every process that the command starts counts, whoever its parent is by then. This process looks at
memory every SAMPLE_SECONDS; its own CPU is nobody's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from noria.benchmarks.measure.cgroups import open_cgroup
from noria.benchmarks.measure.process_tree import ProcessTreeAccount
from noria.benchmarks.measure.processes import (
    read_command,
    read_pss_bytes,
    read_rss_bytes,
    read_times,
)

SAMPLE_SECONDS = 0.1
PSS_EVERY = 5  # samples: the kernel walks all pages for it, which holds the process up
LEAVING_SECONDS = 2.0
"""How long processes of a command that has ended may take to follow it."""
KILLED_SECONDS = 5.0

Roles = Callable[[str], str]
"""Which role a process plays, by its command line or title."""


class Account(Protocol):
    """The processes of one tool, and what they used."""

    method: str
    """How they are told from others; for the report."""

    def launch(
        self, command: Sequence[str], environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[bytes]: ...
    def members(self) -> list[int]: ...
    def look(self) -> None: ...
    def cpu_seconds(self) -> float: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one command used, and its account's other processes meanwhile."""

    exit_code: int
    """Negative: the number of the signal that ended it."""
    wall_seconds: float
    """Until the command itself ended."""
    cpu_seconds: float
    """User and system, up to the end of the last process that belongs to the command."""
    peak_rss_bytes: int
    """Of the sum over all processes; shared pages count in each."""
    peak_pss_bytes: int
    """Of the sum over all processes; shared pages count once."""
    cpu_by_role: Mapping[str, float]
    """As sampled; "unseen" is what is left: processes that lived too short to be seen."""
    rss_by_role: Mapping[str, int]
    """At the peak of the sum."""
    left_behind: Sequence[str]
    """Commands of the processes that outlived the command and had to be ended."""
    method: str


@contextlib.contextmanager
def open_account() -> Iterator[Account]:
    """A fresh account; whatever still runs in it at the end is killed."""
    account: Account = open_cgroup() or ProcessTreeAccount()
    try:
        yield account
    finally:
        _end_members(account)
        account.close()


def measure(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    account: Account,
    roles: Roles = lambda command: "tool",
    folder: Path | None = None,
    output: IO[bytes] | int = subprocess.DEVNULL,
    errors: IO[bytes] | int = subprocess.DEVNULL,
    stop_seconds: float | None = None,
    limit_seconds: float = 900.0,
) -> Usage:
    """Run a command to its end, and end what it leaves behind.

    Processes that were in the account before stay, and what they use meanwhile counts. A command
    that takes longer than `stop_seconds` is asked to end, with SIGTERM; one that takes longer than
    `limit_seconds` is killed: its exit code then says so.
    """
    standing = set(account.members())
    samples = _Samples(roles)
    samples.start(account)
    cpu_before, started = account.cpu_seconds(), time.perf_counter()
    child = account.launch(
        command, environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
    )
    signals = {signal.SIGKILL: started + limit_seconds}
    if stop_seconds is not None:
        signals[signal.SIGTERM] = started + stop_seconds
    _watch(child.pid, account, samples, signals)
    wall_seconds = time.perf_counter() - started
    # Before the child is waited for: its times are still to be seen.
    samples.take(account)
    account.look()
    exit_code = child.wait()
    left_behind = _end_members(account, standing, samples)
    cpu_seconds = account.cpu_seconds() - cpu_before
    return Usage(
        exit_code=exit_code,
        wall_seconds=wall_seconds,
        cpu_seconds=cpu_seconds,
        peak_rss_bytes=samples.peak_rss_bytes,
        peak_pss_bytes=samples.peak_pss_bytes,
        cpu_by_role=samples.cpu_by_role(cpu_seconds),
        rss_by_role=samples.rss_by_role,
        left_behind=left_behind,
        method=account.method,
    )


@dataclass(slots=True)
class _Samples:
    """Memory and CPU by role, as seen every SAMPLE_SECONDS."""

    roles: Roles
    peak_rss_bytes: int = 0
    peak_pss_bytes: int = 0
    rss_by_role: dict[str, int] = field(default_factory=dict)
    _taken: int = 0
    _before: dict[tuple[int, int], float] = field(default_factory=dict)
    _used: dict[tuple[int, int], float] = field(default_factory=dict)
    _role: dict[tuple[int, int], str] = field(default_factory=dict)

    def start(self, account: Account) -> None:
        """Note what members that were there before have used."""
        for pid in account.members():
            if (times := read_times(pid)) is not None:
                self._before[times.identity] = times.own_seconds

    def take(self, account: Account) -> None:
        with_pss = self._taken % PSS_EVERY == 0
        self._taken += 1
        rss: dict[str, int] = {}
        pss_bytes = 0
        for pid in account.members():
            if (times := read_times(pid)) is None:
                continue
            before = self._before.get(times.identity, 0.0)
            self._used[times.identity] = times.own_seconds - before
            # An ended process has no command any more: the last one it had counts.
            if command := read_command(pid):
                self._role[times.identity] = self.roles(command)
            role = self._role.get(times.identity, "unseen")
            rss[role] = rss.get(role, 0) + read_rss_bytes(pid)
            pss_bytes += read_pss_bytes(pid) if with_pss else 0
        if sum(rss.values()) > self.peak_rss_bytes:
            self.peak_rss_bytes, self.rss_by_role = sum(rss.values()), rss
        self.peak_pss_bytes = max(self.peak_pss_bytes, pss_bytes)

    def cpu_by_role(self, total_seconds: float) -> dict[str, float]:
        by_role: dict[str, float] = {}
        for identity, seconds in self._used.items():
            role = self._role.get(identity, "unseen")
            by_role[role] = by_role.get(role, 0.0) + seconds
        unseen = by_role.pop("unseen", 0.0)
        unseen = max(unseen, total_seconds - sum(by_role.values()))
        return {**dict(sorted(by_role.items())), "unseen": unseen}


def _watch(
    pid: int, account: Account, samples: _Samples, signals: dict[signal.Signals, float]
) -> None:
    """Sample until the process has ended, and send it each signal at its time.

    It stays to be waited for.
    """
    handle = os.pidfd_open(pid)
    try:
        ending = select.poll()
        ending.register(handle, select.POLLIN)
        while True:
            samples.take(account)
            account.look()
            if ending.poll(1000 * SAMPLE_SECONDS):
                return
            for one in [one for one, when in signals.items() if time.perf_counter() > when]:
                os.kill(pid, one)
                del signals[one]
    finally:
        os.close(handle)


def _end_members(
    account: Account,
    standing: set[int] | frozenset[int] = frozenset(),
    samples: _Samples | None = None,
) -> list[str]:
    """Wait for all but `standing` members to end, then kill them; returns their commands.

    Raises TimeoutError if they do not die.
    """
    readiness = time.monotonic() + LEAVING_SECONDS
    deadline = readiness + KILLED_SECONDS
    killed: dict[int, str] = {}
    while left := set(account.members()) - standing:
        if samples is not None:
            samples.take(account)
        account.look()
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes that do not die: {sorted(left)}")
        if time.monotonic() > readiness:
            for pid in left:
                killed.setdefault(pid, read_command(pid) or "?")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(SAMPLE_SECONDS / 2)
    return list(killed.values())
