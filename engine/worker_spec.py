"""What a worker process is started with.

Separate from worker_factory.py, so that the driver does not import the data plane.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from noria.engine.config.jobfile import JobConfig
from noria.manifests.errors import JobDirectoryError
from noria.manifests.model import Limits
from noria.workers.stores.protocol import Checksum, TargetCapabilities


class Mode(StrEnum):
    MOVE = "move"
    REREAD = "reread"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """What planning found out about both ends; part of job.json: no secret, no object name."""

    job_id: str
    source_prefix: str
    target_prefix: str
    provider: str
    """Whose limits the plan keeps to."""
    checksum: Checksum
    if_absent: bool
    trailers: bool
    """A streamed part may carry its checksum behind its bytes."""
    target_was_empty: bool
    single_object: bool
    """The source's URL names one object, which is right below source_prefix."""

    @property
    def capabilities(self) -> TargetCapabilities:
        """What the target does; flat above, as job.json has it."""
        return TargetCapabilities(
            checksum=self.checksum,
            if_absent=self.if_absent,
            checksum_in_trailer=self.trailers,
        )

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> JobFacts:
        """From the content of job.json. Raises JobDirectoryError."""
        try:
            return TypeAdapter(cls).validate_json(json.dumps(job["facts"]), strict=True)
        except (KeyError, ValueError) as error:
            raise JobDirectoryError("job.json is damaged; restore it or plan a new job") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker process is started with: names, paths and numbers. Crosses to other nodes."""

    name: str
    directory: str
    config: JobConfig
    facts: JobFacts
    mode: Mode
    area: str
    """Where results of a verification go, below the job directory."""
    limits: Limits | None = None
    """What may be in flight to begin with. None: as much as there is room for."""
