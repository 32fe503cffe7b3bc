"""The seals that a driver writes: durable at once, and compacted a hundred at a time meanwhile."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import SHARDS_TOGETHER, JobDirectory
from noria.manifests.job.seals import SEGMENT_SEALS, Seal, compact_shards, seal
from noria.manifests.model import LeaseResult

log = logging.getLogger("noria.seals")


class Sealer:
    """Seals leases of one job; a context manager, which ends when nothing is left to compact."""

    def __init__(self, directory: JobDirectory, area: str) -> None:
        self._directory = directory
        self._area = area
        self._single: Counter[int] = Counter()
        """Thousand shards -> seals that were written since they were compacted."""
        self._background = ThreadPoolExecutor(1, thread_name_prefix="compact")

    def __enter__(self) -> Sealer:
        return self

    def __exit__(self, *_: object) -> None:
        self._background.shutdown()

    def seal(self, result: LeaseResult) -> Seal:
        """Seal an accepted result. Durable when it returns. Raises JobDirectoryError."""
        sealed = seal(self._directory, result, self._area)
        thousand = result.shard // SHARDS_TOGETHER
        self._single[thousand] += 1
        if self._single[thousand] >= SEGMENT_SEALS:
            del self._single[thousand]
            self._background.submit(self._compact, result.shard)
        return sealed

    def _compact(self, shard: int) -> None:
        """What fails is tried again by the next run. Seals count wherever they are."""
        try:
            compact_shards(self._directory, self._area, shard)
        except JobDirectoryError as error:
            log.warning("seals stay in files of their own: %s", error.message)
