"""One bed for all scenarios: a Ray cluster on three hosts takes a while to come up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from noria.benchmarks.servers import Azurite, S3Server
from tests.hosts.bed import HostBed
from tests.hosts.namespaces import why_not


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips the test where there can be none."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="package")
def host_bed(namespaces: None, azurite: Azurite, seaweedfs: S3Server) -> Iterator[HostBed]:
    with HostBed(azurite, seaweedfs) as bed:
        yield bed
