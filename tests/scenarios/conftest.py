"""Fixtures of whole moves, and of leases between faulty ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.servers import Azurite, S3Server
from noria.benchmarks.servers.dataset import ObjectSpec, upload_azure
from tests.support.faulty import SMALL, Case, NewCase, case_ends, faulty_case, large_only
from tests.support.lease_jobs import BucketShelf
from tests.support.moves import SEED, Move


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


@pytest.fixture
def new_case(buckets: BucketShelf, azurite: Azurite, tmp_path: Path) -> Iterator[NewCase]:
    """new_case("azure-s3", sizes, **options): a filled source, an empty target, two proxies.

    Without sizes: one small object, and one of two parts.
    """
    with contextlib.ExitStack() as stack:

        def make(way: str, sizes: dict[str, int] | None = None, **options: Any) -> Case:
            ends = case_ends(way, buckets, azurite, stack)
            sizes = sizes or {**large_only(way), "small": SMALL}
            return stack.enter_context(faulty_case(tmp_path / "job", *ends, sizes, **options))

        yield make
