"""Leases at work between two buckets of a real S3 server: moved, journalled, resumed, refused."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from noria.engine.status import Phase
from noria.engine.totals import Totals
from noria.manifests.counters import Counter
from noria.manifests.job.journals import read_journals
from noria.manifests.job.read_backs import ReadBacks
from noria.manifests.job.receipts import receipts_of
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import seal
from noria.manifests.model import LeaseEnd, LeaseKind, Level, MetricsSnapshot, Outcome
from noria.workers.lease.reread import RereadRun
from tests.support.lease_jobs import MIB, BucketShelf, Job, lease_job, open_executor
from tests.support.processes import wait_until

MakeJob = Callable[..., Job]
"""make_job(sizes, **options): two new buckets, the first one filled."""


@pytest.fixture
def make_job(buckets: BucketShelf, tmp_path: Path) -> Iterator[MakeJob]:
    with contextlib.ExitStack() as stack:

        def make(sizes: dict[str, int], **options: Any) -> Job:
            source, target = (stack.enter_context(buckets.take()) for _ in range(2))
            return stack.enter_context(
                lease_job(tmp_path / "job", source, target, sizes, **options)
            )

        yield make


def expect_all(job: Job) -> None:
    for key in job.sizes:
        assert job.target_bytes(key) == job.source_bytes(key), key


def test_small_and_multipart_objects_arrive_whole(make_job: MakeJob) -> None:
    sizes = {"a": 0, "b/ c": 1, "d": 5 * MIB, "e": 5 * MIB + 1, "f": 17 * MIB}
    job = make_job(sizes)
    receipts = job.receipts(job.run(job.lease()))
    assert {receipt.outcome for receipt in receipts.values()} == {Outcome.TRANSFERRED}, receipts
    expect_all(job)
    assert {key: receipt.parts for key, receipt in receipts.items()} == {
        "a": 0,
        "b/ c": 0,
        "d": 0,
        "e": 2,
        "f": 4,
    }
    assert all(receipt.level in (Level.INGESTED, Level.CHAINED) for receipt in receipts.values())
    metadata = job.target.metadata("to/f")
    assert metadata["who"] == "me"
    assert metadata["noriatxid"] == receipts["f"].txid
    assert job.sent() == sum(sizes.values())


def test_large_objects_are_read_back_in_slices(make_job: MakeJob) -> None:
    sizes = {"none": 0, "one": 5 * MIB, "two": 5 * MIB + 1, "four": 17 * MIB}
    job = make_job(sizes)
    moved = job.receipts(job.run(job.lease()))
    assert {receipt.outcome for receipt in moved.values()} == {Outcome.TRANSFERRED}, moved
    with open_executor() as executor:
        run = RereadRun(
            job.resources(executor),
            job.lease(),
            ReadBacks(job.directory, "verified/1"),
        )
        result = run.run()
    progress = run.tasks.progress()
    assert (progress.units_done, progress.bytes_done) == (4, sum(sizes.values()))
    table = read_result(job.directory, seal(job.directory, result, "verified/1"))
    assert {receipt.key: (receipt.size, receipt.level) for receipt in receipts_of(table)} == {
        key: (size, Level.REREAD) for key, size in sizes.items()
    }


def test_a_part_larger_than_a_buffer_is_streamed(make_job: MakeJob) -> None:
    sizes = {"large": 12 * MIB + 7}
    job = make_job(sizes, range_bytes=2 * MIB)
    receipts = job.receipts(job.run(job.lease()))
    expect_all(job)
    assert receipts["large"].parts == 3
    assert len(receipts["large"].chunks or b"") == 16 * 13


def test_what_is_journalled_is_not_done_again(make_job: MakeJob) -> None:
    sizes = {f"k{n}": 1000 + n for n in range(10)} | {"z": 40 * MIB}
    job = make_job(sizes)
    with open_executor(1) as executor:
        run = job.start(job.lease(), executor)
        thread = threading.Thread(target=run.run)
        thread.start()
        wait_until(lambda: job.context.counters.total(Counter.PARTS) >= 2, "two parts")
        run.tasks.stop()
        thread.join(timeout=30)
    done = job.context.counters.total(Counter.PARTS)
    assert 2 <= done < 8
    before = job.sent()
    receipts = job.receipts(job.run(job.lease()))
    expect_all(job)
    assert job.sent() - before == 40 * MIB - done * 5 * MIB
    assert receipts["z"].bytes_moved == 40 * MIB, "what an earlier attempt sent is part of the sum"


def test_a_cut_lease_ends_early_and_the_rest_can_be_leased(make_job: MakeJob) -> None:
    sizes = {f"k{n:02}": 100 for n in range(20)}
    job = make_job(sizes)
    with open_executor(1) as executor:
        run = job.start(job.lease(), executor)
        run.tasks.cut(7)
        result = run.run()
    assert (result.first, result.end) == (0, 7)
    assert len(job.receipts(result)) == 7
    rest = job.receipts(job.run(job.lease(first=7)))
    assert len(rest) == 13
    expect_all(job)


def test_a_source_that_changed_or_went_is_reported_and_nothing_is_left(make_job: MakeJob) -> None:
    sizes = {"changed": 9 * MIB, "changed-small": 10, "gone": 10, "gone-large": 9 * MIB, "ok": 1}
    job = make_job(sizes)
    for key in ("changed", "changed-small"):
        job.source.put(f"from/{key}", b"x" * sizes[key])
    for key in ("gone", "gone-large"):
        job.source.delete(f"from/{key}")
    receipts = job.receipts(job.run(job.lease()))
    assert {key: receipt.outcome for key, receipt in receipts.items()} == {
        "changed": Outcome.SOURCE_CHANGED,
        "changed-small": Outcome.SOURCE_CHANGED,
        "gone": Outcome.SOURCE_MISSING,
        "gone-large": Outcome.SOURCE_MISSING,
        "ok": Outcome.TRANSFERRED,
    }
    assert job.target.listed() == ["to/ok"]
    assert job.target.open_uploads() == []


def test_a_foreign_object_is_never_overwritten(make_job: MakeJob) -> None:
    sizes = {"equal": 30, "equal-large": 9 * MIB, "other": 30, "other-large": 9 * MIB}
    job = make_job(sizes)
    for key, size in sizes.items():
        body = job.source_bytes(key) if key.startswith("equal") else b"y" * size
        job.target.put(f"to/{key}", body)
    receipts = job.receipts(job.run(job.lease()))
    assert {key: (r.outcome, r.cause) for key, r in receipts.items()} == {
        "equal": (Outcome.ALREADY_PRESENT, None),
        "equal-large": (Outcome.FAILED, "target_conflict"),
        "other": (Outcome.FAILED, "target_conflict"),
        "other-large": (Outcome.FAILED, "target_conflict"),
    }
    assert job.target_bytes("other") == b"y" * 30
    assert job.target_bytes("other-large") == b"y" * 9 * MIB
    assert job.target.open_uploads() == []


def test_looking_first_spares_what_is_there(make_job: MakeJob) -> None:
    sizes = {"equal": 30, "equal-large": 9 * MIB, "other-large": 9 * MIB}
    job = make_job(sizes, look_first=True)
    for key, size in sizes.items():
        body = job.source_bytes(key) if key.startswith("equal") else b"y" * size
        job.target.put(f"to/{key}", body)
    receipts = job.receipts(job.run(job.lease()))
    assert {key: r.outcome for key, r in receipts.items()} == {
        "equal": Outcome.ALREADY_PRESENT,
        "equal-large": Outcome.ALREADY_PRESENT,
        "other-large": Outcome.FAILED,
    }
    assert job.sent() == 0


def test_an_upload_that_a_third_party_aborted_is_opened_anew(make_job: MakeJob) -> None:
    sizes = {"large": 20 * MIB}
    job = make_job(sizes)
    with open_executor(1) as executor:
        run = job.start(job.lease(), executor)
        thread = threading.Thread(target=run.run)
        thread.start()
        wait_until(lambda: job.context.counters.total(Counter.PARTS) >= 1, "a part")
        run.tasks.stop()
        thread.join(timeout=30)
    assert len(job.target.open_uploads()) == 1
    job.target.drop_uploads()
    job.receipts(job.run(job.lease()))
    expect_all(job)


def test_a_huge_object_is_moved_in_segments_and_assembled(make_job: MakeJob) -> None:
    sizes = {"huge": 32 * MIB + 5}
    job = make_job(sizes, segment_bytes=10 * MIB)
    plan = job.manifest.shard(0)
    assert (plan.kind, plan.units, plan.units_per_lease) == ("parts", 7, 2)
    spans = [(0, 2), (2, 4), (4, 6), (6, 7)]
    leases = [job.lease(kind=LeaseKind.PARTS, first=first, end=end) for first, end in spans]
    with ThreadPoolExecutor(4) as workers:
        results = list(workers.map(job.run, leases))
    for result in results:
        assert result.how is LeaseEnd.FINISHED, result.message
        seal(job.directory, result)
    assert len(job.target.open_uploads()) == 1
    assemble = job.lease(kind=LeaseKind.ASSEMBLE, end=0)
    receipts = job.receipts(job.run(assemble))
    expect_all(job)
    assert receipts["huge"].parts == 7
    assert job.target.open_uploads() == []
    again = job.run(job.lease(kind=LeaseKind.ASSEMBLE, end=0))
    assert again.how is LeaseEnd.FINISHED
    assert again.summary.outcomes[Outcome.TRANSFERRED] == 1


def test_parts_of_a_huge_object_are_not_reported_as_objects(make_job: MakeJob) -> None:
    """Neither while they are moved nor while they are read back."""
    job = make_job({"huge": 16 * MIB}, segment_bytes=8 * MIB)
    with open_executor() as executor:
        moving = job.start(job.lease(kind=LeaseKind.PARTS, first=0, end=4), executor)
        seal(job.directory, moving.run())
        job.receipts(job.run(job.lease(kind=LeaseKind.ASSEMBLE, end=0)))
        # As a verification leases it: whatever the shard is, its units are like rows.
        rereading = RereadRun(
            job.resources(executor),
            job.lease(end=4),
            ReadBacks(job.directory, "verified/1"),
        )
        assert rereading.run().how is LeaseEnd.FINISHED
    for run in (moving, rereading):
        progress = run.tasks.progress()
        assert (progress.kind, progress.units_done) == (LeaseKind.PARTS, 4)
        totals = Totals("j", objects_total=1, bytes_total=16 * MIB)
        totals.add_report("1", (progress,), MetricsSnapshot())
        seen = totals.status(Phase.MOVING, now=1, started=0, unix=0, shards={})
        assert (seen.objects_done, seen.bytes_done) == (0, 16 * MIB)


def test_a_lost_upload_of_a_huge_object_voids_its_generation(make_job: MakeJob) -> None:
    sizes = {"huge": 16 * MIB}
    job = make_job(sizes, segment_bytes=8 * MIB)
    result = job.run(job.lease(kind=LeaseKind.PARTS, first=0, end=1))
    seal(job.directory, result)
    assert len(job.target.open_uploads()) == 1
    job.target.drop_uploads()
    lost = job.run(job.lease(kind=LeaseKind.PARTS, first=1, end=4))
    assert lost.how is LeaseEnd.UPLOAD_LOST
    anew = job.run(job.lease(kind=LeaseKind.PARTS, first=0, end=4, generation=1))
    seal(job.directory, anew)
    job.receipts(job.run(job.lease(kind=LeaseKind.ASSEMBLE, end=0, generation=1)))
    expect_all(job)


def test_what_a_lease_did_is_journalled_when_it_ends(make_job: MakeJob) -> None:
    """Its result may never be sealed."""
    job = make_job({f"k{number}": 1000 for number in range(20)})
    receipts = job.receipts(job.run(job.lease()))
    assert {receipt.outcome for receipt in receipts.values()} == {Outcome.TRANSFERRED}
    assert len(receipts) == 20
    assert read_journals(job.directory, 0, 0, 20).final_rows() == set(range(20))


def test_a_journal_that_cannot_be_written_stops_the_run(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"large": 9 * MIB}
    job = make_job(sizes)
    lease = job.lease()
    journal = job.directory.path("journal/00000/00000000")
    journal.parent.mkdir(parents=True)
    journal.write_bytes(b"a file where the folder should be")
    result = job.run(lease)
    assert result.how is LeaseEnd.FATAL
    assert result.cause == "job_directory"
    assert job.target.listed() == []
    assert read_journals(job.directory, 0, 0, 1).final_rows() == set()


def test_an_upload_of_an_earlier_attempt_is_not_left_open_if_its_object_fails(
    make_job: MakeJob,
) -> None:
    job = make_job({"large": 20 * MIB})
    with open_executor(1) as executor:
        run = job.start(job.lease(), executor)
        thread = threading.Thread(target=run.run)
        thread.start()
        wait_until(lambda: job.context.counters.total(Counter.PARTS) >= 1, "a part")
        run.tasks.stop()
        thread.join(timeout=30)
    assert len(job.target.open_uploads()) == 1
    job.source.put("from/large", b"x" * 20 * MIB)
    receipts = job.receipts(job.run(job.lease()))
    assert receipts["large"].outcome is Outcome.SOURCE_CHANGED
    assert job.target.open_uploads() == []
