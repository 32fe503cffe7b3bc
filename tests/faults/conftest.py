"""The servers that all cells share, as a fixture."""

from __future__ import annotations

import pytest

from noria.benchmarks.servers import Azurite, S3Server
from tests.faults.cells import Stage
from tests.support.lease_jobs import BucketShelf


@pytest.fixture
def stage(azurite: Azurite, seaweedfs: S3Server, buckets: BucketShelf) -> Stage:
    return Stage(azurite=azurite, seaweedfs=seaweedfs, shelf=buckets)
