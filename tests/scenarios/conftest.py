"""Fixtures of whole moves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.dataset import ObjectSpec, upload_azure
from tests.scenarios.moves import SEED, Move
from tests.servers import Azurite, S3Server


@pytest.fixture
def make_move(
    azurite: Azurite, seaweedfs: S3Server, azure_container: str, s3_bucket: str, tmp_path: Path
) -> Callable[..., Move]:
    """make_move(specs, **environment): a filled container, an empty bucket, no job yet."""

    def make(specs: list[ObjectSpec], **environment: str) -> Move:
        upload_azure(specs, azurite.connection_string, azure_container, SEED)
        return Move(
            azurite=azurite,
            seaweedfs=seaweedfs,
            container=azure_container,
            bucket=s3_bucket,
            job=tmp_path / "job",
            environment={**os.environ, **azurite.env(), **seaweedfs.env(), **environment},
            specs=specs,
        )

    return make
