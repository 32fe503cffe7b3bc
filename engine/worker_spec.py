"""What a worker process is told.

Separate from worker_factory.py, so that the driver does not import the data plane. Plain values: a
worker does not load what checks a job file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from noria.engine.config.locations import End, Location
from noria.manifests.errors import JobDirectoryError
from noria.manifests.model import ConflictPolicy, Limits, LinkPolicy, Treatment
from noria.manifests.strict_json import from_json
from noria.workers.stores.protocol import Checksum, TargetCapabilities

if TYPE_CHECKING:
    from noria.engine.config.jobfile import PlanConfig, RunConfig


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
    atomic_complete: bool = False
    """Jobs that were planned before this was asked do not know, and look first."""
    drops_tags: bool = False
    """The target takes a write with tags, and drops them without a word."""
    if_match: bool = False
    if_match_delete: bool = False
    """Jobs that were planned before these were asked do not know, and look before each change."""

    @property
    def capabilities(self) -> TargetCapabilities:
        """What the target does; flat above, as job.json has it."""
        return TargetCapabilities(
            checksum=self.checksum,
            if_absent=self.if_absent,
            checksum_in_trailer=self.trailers,
            atomic_complete=self.atomic_complete,
            if_match=self.if_match,
            if_match_delete=self.if_match_delete,
        )

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> JobFacts:
        """From the content of job.json. Raises JobDirectoryError."""
        try:
            return from_json(cls, job["facts"])
        except (KeyError, ValueError) as error:
            raise JobDirectoryError("job.json is damaged; restore it or plan a new job") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """One end of the job: see config.locations.End."""

    location: Location
    endpoint: str | None
    region: str | None
    provider: str | None
    profile: str | None
    ca_bundle: str | None
    allow_plain_http: bool
    path_style: bool | None
    anonymous: bool
    links: LinkPolicy = LinkPolicy.SKIP
    storage_class: str | None = None
    encryption: str | None = None
    kms_key_id: str | None = None
    acl: str | None = None
    retention: str | None = None
    request_payer: bool = False

    @classmethod
    def of(cls, end: End) -> WorkerEnd:
        """The same values without what checked them."""
        return cls(**{field.name: getattr(end, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker needs of [plan] and [run]: config.jobfile says what each value means."""

    chunk_bytes: int
    streams: int
    bytes_in_flight: int
    range_bytes: int
    source_crc64: bool
    source_md5: bool
    journal_seconds: float
    hold_seconds: float
    retry_seconds: float
    outage_seconds: float
    idle_seconds: float
    least_rate: float
    unfit_metadata: Treatment = Treatment.REFUSE
    unfit_headers: Treatment = Treatment.REFUSE
    unfit_tags: Treatment = Treatment.REFUSE
    unfit_others: Treatment = Treatment.LEAVE
    representable: str | None = None
    conflicts: ConflictPolicy = ConflictPolicy.REFUSE

    @classmethod
    def of(cls, plan: PlanConfig, run: RunConfig) -> WorkerSettings:
        """The same values without what checked them."""
        of_plan = ("chunk_bytes", "representable")
        return cls(
            **{
                field.name: getattr(plan if field.name in of_plan else run, field.name)
                for field in fields(cls)
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker process is started with: names, paths and numbers. Crosses to other nodes."""

    name: str
    directory: str
    source: WorkerEnd
    target: WorkerEnd
    settings: WorkerSettings
    facts: JobFacts
    mode: Mode
    area: str
    """Where results of a verification go, below the job directory."""
    limits: Limits | None = None
    """What may be in flight to begin with. None: as much as there is room for."""
    bandwidth: float = math.inf
    """Bytes a second to begin with. inf: no limit; 0: none until the driver gives a share."""
    source_requests: float = math.inf
    """Requests a second to begin with, in the same way."""
    target_requests: float = math.inf
