"""The journal of one lease: records wait in memory for a moment and reach the disk in batches."""

from __future__ import annotations

import threading

from manifests.jobdir import JobDirectory


class Journal:
    """Thread-safe. What add() took is durable once flush() has returned; flush() is called every
    journal interval, and before anything that relies on the record."""

    def __init__(self, directory: JobDirectory, shard: int, attempt: int) -> None:
        self._appender = directory.journal(shard, attempt)
        self._lines: list[bytes] = []
        self._lines_lock = threading.Lock()
        self._disk_lock = threading.Lock()

    def add(self, line: bytes) -> None:
        with self._lines_lock:
            self._lines.append(line)

    def flush(self) -> None:
        """Raises JobDirectoryError; the records stay queued then."""
        with self._disk_lock:
            with self._lines_lock:
                lines, self._lines = self._lines, []
            if not lines:
                return
            try:
                self._appender.append(b"".join(lines))
            except BaseException:
                with self._lines_lock:
                    self._lines = lines + self._lines
                raise

    def close(self) -> None:
        self._appender.close()
