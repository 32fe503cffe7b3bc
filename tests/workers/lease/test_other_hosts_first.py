"""What fails on one host for a cause that may pass is no verdict: another host tries first."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from noria.manifests.job.journals import read_journals
from noria.manifests.model import LeaseEnd, Outcome
from noria.workers.context import TransferContext
from tests.support.lease_jobs import MIB, BucketShelf, Job, lease_job

SIZES = {"small": 3, "large": 6 * MIB}


@pytest.fixture
def job(buckets: BucketShelf, tmp_path: Path) -> Iterator[Job]:
    with contextlib.ExitStack() as stack:
        source, target = (stack.enter_context(buckets.take()) for _ in range(2))
        yield stack.enter_context(
            lease_job(tmp_path / "job", source, target, SIZES, retry_seconds=0.5)
        )


@contextlib.contextmanager
def cut_off(job: Job) -> Iterator[None]:
    """The block runs on a host that cannot reach the target."""
    whole: TransferContext = job.context
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with contextlib.closing(job.target.store(endpoint, idle_seconds=5.0)) as store:
            job.context = replace(whole, target=replace(whole.target, inner=store))
            yield
    job.context = whole


def test_the_lease_ends_and_the_next_host_lands_it(job: Job) -> None:
    with cut_off(job):
        lease = job.lease()
        result = job.run(replace(lease, is_last=False))
    assert (result.how, result.cause) == (LeaseEnd.FAILED, "unavailable")
    assert not read_journals(job.directory, 0, lease.first, lease.end).final_rows()
    receipts = job.receipts(job.run(job.lease()))
    assert {receipt.outcome for receipt in receipts.values()} == {Outcome.TRANSFERRED}
    for key in SIZES:
        assert job.target_bytes(key) == job.source_bytes(key)


def test_the_last_host_has_the_last_word(job: Job) -> None:
    with cut_off(job):
        result = job.run(job.lease())
    receipts = job.receipts(result)
    assert {receipt.cause for receipt in receipts.values()} == {"unavailable"}


def test_what_is_final_for_an_object_is_final_anywhere(job: Job) -> None:
    job.source.delete("from/small")
    receipts = job.receipts(job.run(replace(job.lease(), is_last=False)))
    assert receipts["small"].outcome is Outcome.SOURCE_MISSING
    assert receipts["large"].outcome is Outcome.TRANSFERRED
