"""What a job stands on: room for its directory, and credentials that last. Both may run out."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from noria.engine.config.credential_ends import credential_ends
from noria.engine.config.jobfile import JobConfig
from noria.engine.status import JobStatus

LOOK_SECONDS = 10.0
"""How often the room is looked at."""


class Surroundings:
    """Looked at now and then; told in each status."""

    def __init__(
        self, root: Path, config: JobConfig, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._root = root
        self._credentials_end = credential_ends(config, environment)
        self._free_bytes: int | None = None
        self._due_seconds = 0.0

    def told_in(self, status: JobStatus) -> JobStatus:
        """The same status with what is known of them."""
        if time.monotonic() >= self._due_seconds:
            self._due_seconds = time.monotonic() + LOOK_SECONDS
            # Whether a file system says it or not, the run goes on.
            with suppress(OSError):
                self._free_bytes = shutil.disk_usage(self._root).free
        return replace(status, free_bytes=self._free_bytes, credentials_end=self._credentials_end)
