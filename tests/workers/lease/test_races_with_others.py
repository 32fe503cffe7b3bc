"""A later pass, and others who write to its objects at the very moment in which it does so.

They ask for no condition, so that their write always succeeds: right before ours, which then has to
be refused, or right after it. Either way theirs is what stands in the end.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from noria.benchmarks.servers import Azurite
from noria.manifests.model import Outcome, Receipt
from noria.workers.stores.listing import list_objects
from tests.support.fault_proxy.rules import Fault, Operation, meanwhile, on
from tests.support.faulty import case_ends, faulty_case
from tests.support.lease_jobs import BucketShelf, Job

OBJECTS = 80
"""Half of them change at the source, half are gone there: so many races."""
FOREIGN = b"somebody else wrote this"


@pytest.mark.parametrize("way", ["s3-s3", "s3-azure"])
def test_what_others_write_at_the_same_moment_is_never_replaced_or_deleted(
    buckets: BucketShelf, azurite: Azurite, tmp_path: Path, way: str
) -> None:
    seed = 4
    dice = random.Random(seed)
    sizes = {f"{n:03}": dice.randrange(1, 3_000) for n in range(OBJECTS)}
    theirs: list[Future[None]] = []
    with contextlib.ExitStack() as stack:
        ends = case_ends(way, buckets, azurite, stack)
        case = stack.enter_context(faulty_case(tmp_path / "job", *ends, sizes))
        case.job.set_capabilities(if_match=True, if_match_delete=True)
        _run_all(case.job)
        changes = {key: None if int(key) % 2 else size + 1 for key, size in sizes.items()}
        case.job = job = case.job.next_pass(changes)
        threads = stack.enter_context(ThreadPoolExecutor(8))

        def race(key: str) -> Callable[[], None]:
            """Others write while our request is on its way."""
            write = partial(job.target.put, f"to/{key}", FOREIGN)
            return lambda: theirs.append(threads.submit(write))

        for key in sizes:
            change = on(Operation.PUT, Operation.DELETE, name=f"/to/{key}")
            case.target.add(Fault(match=change, action=meanwhile(race(key))))
        receipts = _run_all(job)
        for write in theirs:
            write.result()
        lost = [key for key in sizes if job.target.get(f"to/{key}") != FOREIGN]
    assert len(theirs) == OBJECTS, "each of them was a race"
    assert lost == [], f"seed {seed}: what others wrote is gone"
    said = {(each.outcome, each.cause) for each in receipts.values()}
    assert said <= {
        (Outcome.TRANSFERRED, None),
        (Outcome.DELETED, None),
        (Outcome.FAILED, "target_conflict"),
    }


@pytest.mark.parametrize("way", ["s3-azure", "azure-s3"])
def test_what_is_rewritten_within_the_second_after_it_was_moved_is_found(
    buckets: BucketShelf, azurite: Azurite, tmp_path: Path, way: str
) -> None:
    """With as many bytes; a listing has whole seconds, so that its ETag alone tells."""
    with contextlib.ExitStack() as stack:
        ends = case_ends(way, buckets, azurite, stack)
        case = stack.enter_context(faulty_case(tmp_path / "job", *ends, {"key": 100}))
        case.finish_moved()
        for _ in range(20):
            before = _listed(case.job)
            case.job = job = case.job.next_pass({"key": 100})
            moved = job.receipts(job.run(job.lease()))
            assert {key: each.outcome for key, each in moved.items()} == {
                "key": Outcome.TRANSFERRED
            }
            assert job.target_bytes("key") == job.source_bytes("key")
            if _listed(job) == before:
                return
    raise AssertionError("no two writes fell into one second")


def _run_all(job: Job) -> dict[str, Receipt]:
    """Run a lease of each shard and seal it."""
    found = dict[str, Receipt]()
    for shard in job.manifest.shards():
        found |= job.receipts(job.run(job.lease(shard.shard)))
    return found


def _listed(job: Job) -> datetime:
    """When the source says that the object was written, as its listings do: to the second."""
    (batch,) = [*list_objects(job.context.source.inner, "from/")]
    return cast(datetime, batch.column("last_modified")[0].as_py().replace(microsecond=0))
