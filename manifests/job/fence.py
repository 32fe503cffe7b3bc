"""Drivers one after the other: no two act on a job at once, nor the workers of one and another.

A driver holds the job by its lock (directory.DriverHold). That does not stop workers on other hosts
whose driver has ended without a word: they go on until they notice, for `heartbeat_timeout_seconds`
at most. So such a driver leaves a note, before it starts its first worker:

    epochs/0000000002-workers.json   {"cluster": .., "host": .., "heartbeat_timeout_seconds": ..}

It touches the note as long as it lives, and removes it when all its workers are known to be done. A
driver that finds the note of an earlier one waits until that one's workers must have ended. How
long ago the note was touched is told by the clock of the file system alone.

A lock may be lost without a word too, on a file system whose server was out of reach. So a driver
also looks whether another one has begun an epoch after its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from noria.manifests.errors import AnotherDriver
from noria.manifests.job.directory import JobDirectory, disk_errors

MOST_SECONDS = 1e9
_NOTE = re.compile(r"epochs/([0-9]{10})-workers\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierWorkers:
    """Workers of an earlier driver that may still write."""

    host: str
    """Of their driver."""
    cluster: str
    seconds_left: float
    """Until they must have ended."""


class Fence:
    """What one driver notes for the next, and heeds of earlier ones."""

    def __init__(
        self,
        directory: JobDirectory,
        epoch: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`epoch` is that of the DriverHold."""
        self._directory = directory
        self._epoch = epoch
        self._clock = clock
        self._note = f"epochs/{epoch:010d}-workers.json"
        self._has_note = False
        self._seen: dict[str, tuple[float, float]] = {}
        """Note -> when it was last touched, as it says itself, and when we saw that first."""

    def begin(self, cluster: str, heartbeat_timeout_seconds: float) -> None:
        """Note, durably, that workers on that cluster may outlive this driver for so long."""
        note = {
            "cluster": cluster,
            "host": socket.gethostname(),
            "heartbeat_timeout_seconds": heartbeat_timeout_seconds,
        }
        self._directory.write_once(self._note, (json.dumps(note) + "\n").encode())
        self._has_note = True

    def keep(self) -> None:
        """Say that this driver lives; to be called every second or so, before anything is sealed.

        Raises AnotherDriver if another one has taken over, JobDirectoryError.
        """
        root = self._directory.root
        with disk_errors(root):
            # A client of NFS that knows of no such file looks again once it has opened its folder.
            os.close(os.open(root / "epochs", os.O_RDONLY | os.O_DIRECTORY))
            if (root / f"epochs/{self._epoch + 1:010d}.json").exists():
                raise AnotherDriver(
                    f"another noria process has taken {root} over while this one was stopped or "
                    f"cut off, so this one ends (`noria status {root}` shows what it does)"
                )
            if self._has_note:
                with contextlib.suppress(FileNotFoundError):
                    os.utime(root / self._note)

    def end(self) -> None:
        """All workers of this driver are known to be done."""
        if self._has_note:
            self._has_note = False
            self._directory.remove(self._note)

    def earlier(self) -> EarlierWorkers | None:
        """Workers of earlier drivers that may still write, those that may for longest.

        None: they must all have ended. To be asked again until then. Notes that are over are
        removed. Raises JobDirectoryError.
        """
        longest: EarlierWorkers | None = None
        for name in list(self._directory.names("epochs")):
            found = _NOTE.fullmatch(name)
            if found is None or int(found[1]) >= self._epoch:
                continue
            left = self._left(name)
            if left is None or left.seconds_left <= 0:
                self._directory.remove(name)
            elif longest is None or left.seconds_left > longest.seconds_left:
                longest = left
        return longest

    def _left(self, name: str) -> EarlierWorkers | None:
        """None: it says nothing, or is gone."""
        try:
            note = json.loads(self._directory.read(name) or b"")
            seconds = float(note["heartbeat_timeout_seconds"])
            host, cluster = str(note["host"]), str(note["cluster"])
            if not 0 <= seconds <= MOST_SECONDS:
                return None
            age = self._age(name)
        except (ValueError, TypeError, LookupError, RecursionError, FileNotFoundError):
            return None
        return EarlierWorkers(host=host, cluster=cluster, seconds_left=seconds - age)

    def _age(self, name: str) -> float:
        """For how long a note was not touched, in seconds.

        By the file system's clock, which a file of ours is touched to read. That clock may be set
        meanwhile: what this process has seen itself counts if it is more.
        """
        root = self._directory.root
        own = root / f"epochs/{self._epoch:010d}.json"
        with disk_errors(root):
            os.utime(own)
            now = own.stat().st_mtime
        touched = (root / name).stat().st_mtime
        seen_at = self._clock()
        before = self._seen.get(name)
        if before is None or before[0] != touched:
            before = self._seen[name] = (touched, seen_at)
        return max(now - touched, seen_at - before[1])
