"""What a verification reads back: the jobs whose receipts say what stands, as one row of shards.

    verified/EPOCH/jobs.json                  each job, and the number that its first shard has here
    verified/EPOCH/superseded-000000.parquet  receipts of such a job that are out of date
    verified/EPOCH/drawn-000000.parquet       of a sample: the receipts that were drawn

The passes of a migration are one walk for one crew of workers: a lease's shard is a number in this
row, and ReadBacks says which shard of which job that is. Without the file it is the job itself.
"""

from __future__ import annotations

import functools
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.results import places_of_shard
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.strict_json import from_json

JOBS_FILE: Final = "jobs.json"
OPEN_JOBS: Final = 8
"""Whose manifests a worker keeps open: leases come by rising shards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReadBack:
    """A job of a verification."""

    directory: str
    """Its absolute path, the same on all nodes."""
    first_shard: int
    """The number of its shard 0 in the verification; no other job has it, also if it has none."""
    is_way_back: bool = False
    """Its receipts have the ends exchanged: what they name as the source is read."""
    all_stand: bool = False
    """None of its receipts is out of date, so that there is no file of them."""
    is_sampled: bool = False
    """Only what was drawn is read: there is a file of it."""

    def drawn_name(self, area: str) -> str:
        """The file of its receipts that were drawn."""
        return f"{area}/drawn-{self.first_shard:06d}.parquet"

    def superseded_name(self, area: str) -> str:
        """The file of its receipts that are out of date."""
        return f"{area}/superseded-{self.first_shard:06d}.parquet"


@dataclass(frozen=True, slots=True)
class ShardReadBack:
    """A shard whose receipts are read back."""

    directory: JobDirectory
    manifest: Manifest
    shard: int
    """Its number in its own job."""
    is_way_back: bool
    superseded: frozenset[int]
    """Rows whose receipts are out of date."""
    drawn: frozenset[int] | None
    """The rows that are read. None: all that stand."""


def write_read_backs(home: JobDirectory, area: str, jobs: Sequence[JobReadBack]) -> None:
    """Note the jobs, by rising shards, before a worker is started. Raises JobDirectoryError."""
    data = json.dumps([asdict(each) for each in jobs], indent=1).encode()
    home.write_once(f"{area}/{JOBS_FILE}", data)


class ReadBacks:
    """The jobs of a verification as a worker opens them. Threads may share it."""

    def __init__(self, home: JobDirectory, area: str) -> None:
        self._home = home
        self.area = area
        """The folder of the verification's results."""
        self._opened = functools.lru_cache(OPEN_JOBS)(_open)

    def of(self, shard: int) -> ShardReadBack:
        """What shard number `shard` of the verification is. Raises JobDirectoryError."""
        job = self._jobs[bisect_right(self._jobs, shard, key=lambda each: each.first_shard) - 1]
        directory, manifest = self._opened(job.directory)
        own = shard - job.first_shard
        superseded = frozenset[int]()
        if not job.all_stand:
            superseded = places_of_shard(self._home, job.superseded_name(self.area), own)
        drawn = None
        if job.is_sampled:
            drawn = places_of_shard(self._home, job.drawn_name(self.area), own)
        return ShardReadBack(directory, manifest, own, job.is_way_back, superseded, drawn)

    @functools.cached_property
    def _jobs(self) -> list[JobReadBack]:
        name = f"{self.area}/{JOBS_FILE}"
        data = self._home.read(name)
        if data is None:
            return [JobReadBack(directory=str(self._home.root), first_shard=0, all_stand=True)]
        try:
            return [from_json(JobReadBack, each) for each in json.loads(data)]
        except (ValueError, TypeError, RecursionError):
            raise JobDirectoryError(f"{name} is damaged; verify again") from None


def _open(directory: str) -> tuple[JobDirectory, Manifest]:
    opened = JobDirectory.open(Path(directory))
    return opened, open_manifest(opened.manifest_path)
