"""The servers that all cells share, as a fixture."""

from __future__ import annotations

import pytest

from tests.faults.cells import Stage
from tests.lease_jobs import BucketShelf
from tests.servers import Azurite, S3Server


@pytest.fixture
def stage(azurite: Azurite, seaweedfs: S3Server, buckets: BucketShelf) -> Stage:
    return Stage(azurite=azurite, seaweedfs=seaweedfs, shelf=buckets)
