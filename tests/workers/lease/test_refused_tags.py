"""A target that takes objects and refuses their tags: by policy they land without, and it is said.

No server of the tests refuses tags alone, so the refusal is put before a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noria.manifests.errors import TagsDenied, TagsRefused
from noria.manifests.model import Attributes, LeaseEnd, Outcome, Receipt, Treatment
from noria.workers.carriage import AttributePolicy
from noria.workers.stores.protocol import TargetStore, Written
from tests.support.lease_jobs import MIB, BucketShelf, S3Bucket, lease_job

SIZES = {"small": 3, "large": 6 * MIB}


class WithoutTags:
    """A target that refuses every write with tags."""

    def __init__(self, inner: TargetStore, error: type[TagsDenied | TagsRefused]) -> None:
        self._inner = inner
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put_object(self, key: str, body: memoryview, **given: Any) -> Written:
        self._refuse(given["attributes"])
        return self._inner.put_object(key, body, **given)

    def create_upload(self, key: str, **given: Any) -> str:
        self._refuse(given["attributes"])
        return self._inner.create_upload(key, **given)

    def _refuse(self, attributes: Attributes) -> None:
        if attributes.tags:
            raise self._error("no tags")


def tag_all(source: S3Bucket) -> None:
    for key in SIZES:
        source.client.put_object_tagging(
            Bucket=source.name,
            Key=f"from/{key}",
            Tagging={"TagSet": [{"Key": "k", "Value": "v"}]},
        )


@pytest.fixture
def run(buckets: BucketShelf, tmp_path: Path) -> Callable[..., dict[str, Receipt] | LeaseEnd]:
    """run(error, treatment): the receipts of a lease, or how it ended if not well."""

    def run_one(
        error: type[TagsDenied | TagsRefused], treatment: Treatment
    ) -> dict[str, Receipt] | LeaseEnd:
        with buckets.take() as source, buckets.take() as target:
            policy = AttributePolicy(tags=treatment)
            with lease_job(tmp_path / "job", source, target, SIZES, policy=policy) as job:
                tag_all(source)
                inner: Any = WithoutTags(job.context.target.inner, error)
                refusing = replace(job.context.target, inner=inner)
                job.context = replace(job.context, target=refusing)
                result = job.run(job.lease())
                if result.how is not LeaseEnd.FINISHED:
                    return result.how
                return job.receipts(result)

    return run_one


@pytest.mark.parametrize("error", [TagsDenied, TagsRefused])
def test_objects_land_without_tags_by_policy(
    run: Callable[..., dict[str, Receipt]], error: type[TagsDenied | TagsRefused]
) -> None:
    receipts = run(error, Treatment.LEAVE)
    assert set(receipts) == set(SIZES)
    found = {(receipt.outcome, receipt.changes) for receipt in receipts.values()}
    assert found == {(Outcome.TRANSFERRED, "tags_refused")}


def test_a_target_without_tags_fails_its_objects(run: Callable[..., dict[str, Receipt]]) -> None:
    receipts = run(TagsRefused, Treatment.REFUSE)
    assert {receipt.cause for receipt in receipts.values()} == {"tags_refused"}


def test_a_missing_right_stops_the_run(run: Callable[..., LeaseEnd]) -> None:
    assert run(TagsDenied, Treatment.REFUSE) is LeaseEnd.FATAL
