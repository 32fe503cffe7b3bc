"""Leases at work between two buckets of a real S3 server: moved, journalled, resumed, refused."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from benchmarks.dataset import object_bytes
from manifests.jobdir import JobDirectory
from manifests.manifest import Manifest, freeze
from manifests.model import Lease, LeaseEnd, LeaseKind, LeaseResult, Level, Outcome, Receipt
from manifests.planning import PlanOptions
from manifests.providers import NameRules, limits_for
from manifests.receipts import read_journals, read_result, receipts_of, seal
from workers.buffers import BufferPool
from workers.pacing import Pacer
from workers.route import Route, TransferOptions
from workers.s3_store import S3Settings, S3Store
from workers.shard import LeaseRun
from workers.store import Checksum
from workers.tally import Counting

MIB = 1024 * 1024
SEED = 11


@dataclass
class Job:
    """One job between two buckets, with what a test needs to look at it."""

    directory: JobDirectory
    manifest: Manifest
    route: Route
    client: object
    source: str
    target: str
    attempts: int = 100

    def lease(self, shard=0, kind=LeaseKind.OBJECTS, first=0, end=None, generation=0):
        self.attempts += 1
        end = self.manifest.shard(shard).units if end is None else end
        return Lease(
            shard=shard,
            kind=kind,
            first=first,
            end=end,
            attempt=self.attempts,
            generation=generation,
        )

    def start(self, lease: Lease, streams: ThreadPoolExecutor) -> LeaseRun:
        return LeaseRun(self.directory, self.manifest, self.route, streams, lease, window=8)

    def run(self, lease: Lease) -> LeaseResult:
        with ThreadPoolExecutor(4) as streams:
            return self.start(lease, streams).run()

    def receipts(self, result: LeaseResult) -> dict[str, Receipt]:
        assert result.how is LeaseEnd.FINISHED, (result.cause, result.message)
        table = read_result(self.directory, seal(self.directory, result))
        return {receipt.key: receipt for receipt in receipts_of(table)}

    def target_bytes(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.target, Key=f"to/{key}")["Body"].read()

    def sent(self) -> float:
        return self.route.counting.total("bytes_written")


@pytest.fixture
def make_job(seaweedfs, tmp_path, monkeypatch):
    for name, value in seaweedfs.env().items():
        monkeypatch.setenv(name, value)
    client = seaweedfs.client()
    stores = []

    def make(sizes: dict[str, int], *, segment_bytes=1 << 40, **options) -> Job:
        source, target = (f"b{uuid.uuid4().hex[:12]}" for _ in range(2))
        client.create_bucket(Bucket=source)
        client.create_bucket(Bucket=target)
        for key, size in sizes.items():
            body = object_bytes(SEED, key, 0, size)
            client.put_object(Bucket=source, Key=f"from/{key}", Body=body, Metadata={"who": "me"})
        ends = [
            S3Store(S3Settings(bucket=bucket, endpoint_url=seaweedfs.endpoint))
            for bucket in (source, target)
        ]
        stores.extend(ends)
        ends[1].checksum, ends[1].if_absent = Checksum.CRC64NVME, True
        directory = JobDirectory.create(tmp_path / uuid.uuid4().hex, {"id": "job"})
        manifest = freeze(
            ends[0].list_objects("from/"),
            directory.manifest_path,
            source_prefix="from/",
            options=PlanOptions(
                limits=limits_for("seaweedfs"),
                rules=NameRules(),
                target_prefix="to/",
                part_bytes=5 * MIB,
                chunk_bytes=MIB,
                segment_bytes=segment_bytes,
            ),
        )
        values = {"chunk_bytes": MIB, "range_bytes": 8 * MIB, "retry_seconds": 5.0, **options}
        route = Route(
            job_id="job",
            source=ends[0],
            target=ends[1],
            source_prefix="from/",
            target_prefix="to/",
            options=TransferOptions(**values),
            buffers=BufferPool(64 * MIB),
            source_pacer=Pacer(8),
            target_pacer=Pacer(8),
            counting=Counting(),
            stopping=threading.Event(),
        )
        return Job(directory, manifest, route, client, source, target)

    yield make
    for store in stores:
        store.close()
    client.close()


def expect_all(job: Job, sizes: dict[str, int]) -> None:
    for key, size in sizes.items():
        assert job.target_bytes(key) == object_bytes(SEED, key, 0, size), key


def test_small_and_multipart_objects_arrive_whole(make_job):
    sizes = {"a": 0, "b/ c": 1, "d": 5 * MIB, "e": 5 * MIB + 1, "f": 17 * MIB}
    job = make_job(sizes)
    receipts = job.receipts(job.run(job.lease()))
    assert {receipt.outcome for receipt in receipts.values()} == {Outcome.TRANSFERRED}, receipts
    expect_all(job, sizes)
    assert {key: receipt.parts for key, receipt in receipts.items()} == {
        "a": 0,
        "b/ c": 0,
        "d": 0,
        "e": 2,
        "f": 4,
    }
    assert all(receipt.level in (Level.INGESTED, Level.CHAINED) for receipt in receipts.values())
    head = job.client.head_object(Bucket=job.target, Key="to/f")
    assert head["Metadata"]["who"] == "me"
    assert head["Metadata"]["noriatxid"] == receipts["f"].txid
    assert job.sent() == sum(sizes.values())


def test_a_part_larger_than_a_buffer_is_streamed(make_job):
    sizes = {"large": 12 * MIB + 7}
    job = make_job(sizes, range_bytes=2 * MIB)
    receipts = job.receipts(job.run(job.lease()))
    expect_all(job, sizes)
    assert receipts["large"].parts == 3
    assert len(receipts["large"].chunks) == 16 * 13


def test_what_is_journalled_is_not_done_again(make_job):
    sizes = {f"k{n}": 1000 + n for n in range(10)} | {"z": 20 * MIB}
    job = make_job(sizes)
    with ThreadPoolExecutor(1) as streams:
        run = job.start(job.lease(), streams)
        thread = threading.Thread(target=run.run)
        thread.start()
        while job.route.counting.total("parts") < 2:
            assert thread.is_alive()
        run.flight.stop()
        thread.join(timeout=30)
    done = job.route.counting.total("parts")
    assert 2 <= done < 4
    before = job.sent()
    job.receipts(job.run(job.lease()))
    expect_all(job, sizes)
    assert job.sent() - before == 20 * MIB - done * 5 * MIB


def test_a_cut_lease_ends_early_and_the_rest_can_be_leased(make_job):
    sizes = {f"k{n:02}": 100 for n in range(20)}
    job = make_job(sizes)
    with ThreadPoolExecutor(1) as streams:
        run = job.start(job.lease(), streams)
        run.flight.cut(7)
        result = run.run()
    assert (result.first, result.end) == (0, 7)
    assert len(job.receipts(result)) == 7
    rest = job.receipts(job.run(job.lease(first=7)))
    assert len(rest) == 13
    expect_all(job, sizes)


def test_a_source_that_changed_or_went_is_reported_and_nothing_is_left(make_job):
    sizes = {"changed": 9 * MIB, "changed-small": 10, "gone": 10, "gone-large": 9 * MIB, "ok": 1}
    job = make_job(sizes)
    for key in ("changed", "changed-small"):
        job.client.put_object(Bucket=job.source, Key=f"from/{key}", Body=b"x" * sizes[key])
    for key in ("gone", "gone-large"):
        job.client.delete_object(Bucket=job.source, Key=f"from/{key}")
    receipts = job.receipts(job.run(job.lease()))
    assert {key: receipt.outcome for key, receipt in receipts.items()} == {
        "changed": Outcome.SOURCE_CHANGED,
        "changed-small": Outcome.SOURCE_CHANGED,
        "gone": Outcome.SOURCE_MISSING,
        "gone-large": Outcome.SOURCE_MISSING,
        "ok": Outcome.TRANSFERRED,
    }
    listed = job.client.list_objects_v2(Bucket=job.target)["Contents"]
    assert [item["Key"] for item in listed] == ["to/ok"]
    assert not job.client.list_multipart_uploads(Bucket=job.target).get("Uploads")


def test_a_foreign_object_is_never_overwritten(make_job):
    sizes = {"equal": 30, "equal-large": 9 * MIB, "other": 30, "other-large": 9 * MIB}
    job = make_job(sizes)
    for key, size in sizes.items():
        body = object_bytes(SEED, key, 0, size) if key.startswith("equal") else b"y" * size
        job.client.put_object(Bucket=job.target, Key=f"to/{key}", Body=body)
    receipts = job.receipts(job.run(job.lease()))
    assert {key: (r.outcome, r.cause) for key, r in receipts.items()} == {
        "equal": (Outcome.ALREADY_PRESENT, None),
        "equal-large": (Outcome.FAILED, "target_conflict"),
        "other": (Outcome.FAILED, "target_conflict"),
        "other-large": (Outcome.FAILED, "target_conflict"),
    }
    assert job.target_bytes("other") == b"y" * 30
    assert job.target_bytes("other-large") == b"y" * 9 * MIB
    assert not job.client.list_multipart_uploads(Bucket=job.target).get("Uploads")


def test_looking_first_spares_what_is_there(make_job):
    sizes = {"equal": 30, "equal-large": 9 * MIB, "other-large": 9 * MIB}
    job = make_job(sizes, look_first=True)
    for key, size in sizes.items():
        body = object_bytes(SEED, key, 0, size) if key.startswith("equal") else b"y" * size
        job.client.put_object(Bucket=job.target, Key=f"to/{key}", Body=body)
    receipts = job.receipts(job.run(job.lease()))
    assert {key: r.outcome for key, r in receipts.items()} == {
        "equal": Outcome.ALREADY_PRESENT,
        "equal-large": Outcome.ALREADY_PRESENT,
        "other-large": Outcome.FAILED,
    }
    assert job.sent() == 0


def test_an_upload_that_a_third_party_aborted_is_opened_anew(make_job):
    sizes = {"large": 20 * MIB}
    job = make_job(sizes)
    with ThreadPoolExecutor(1) as streams:
        run = job.start(job.lease(), streams)
        thread = threading.Thread(target=run.run)
        thread.start()
        while job.route.counting.total("parts") < 1:
            assert thread.is_alive()
        run.flight.stop()
        thread.join(timeout=30)
    (upload,) = job.client.list_multipart_uploads(Bucket=job.target)["Uploads"]
    job.client.abort_multipart_upload(
        Bucket=job.target, Key=upload["Key"], UploadId=upload["UploadId"]
    )
    job.receipts(job.run(job.lease()))
    expect_all(job, sizes)


def test_a_huge_object_is_moved_in_segments_and_assembled(make_job):
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
    assert len(job.client.list_multipart_uploads(Bucket=job.target)["Uploads"]) == 1
    assemble = job.lease(kind=LeaseKind.ASSEMBLE, end=0)
    receipts = job.receipts(job.run(assemble))
    expect_all(job, sizes)
    assert receipts["huge"].parts == 7
    assert not job.client.list_multipart_uploads(Bucket=job.target).get("Uploads")
    again = job.run(job.lease(kind=LeaseKind.ASSEMBLE, end=0))
    assert again.how is LeaseEnd.FINISHED
    assert again.summary["outcome.TRANSFERRED"] == 1


def test_a_lost_upload_of_a_huge_object_voids_its_generation(make_job):
    sizes = {"huge": 16 * MIB}
    job = make_job(sizes, segment_bytes=8 * MIB)
    result = job.run(job.lease(kind=LeaseKind.PARTS, first=0, end=1))
    seal(job.directory, result)
    (upload,) = job.client.list_multipart_uploads(Bucket=job.target)["Uploads"]
    job.client.abort_multipart_upload(
        Bucket=job.target, Key=upload["Key"], UploadId=upload["UploadId"]
    )
    lost = job.run(job.lease(kind=LeaseKind.PARTS, first=1, end=4))
    assert lost.how is LeaseEnd.UPLOAD_LOST
    anew = job.run(job.lease(kind=LeaseKind.PARTS, first=0, end=4, generation=1))
    seal(job.directory, anew)
    job.receipts(job.run(job.lease(kind=LeaseKind.ASSEMBLE, end=0, generation=1)))
    expect_all(job, sizes)


def test_a_journal_that_cannot_be_written_stops_the_run(make_job, monkeypatch):
    sizes = {"large": 9 * MIB}
    job = make_job(sizes)
    lease = job.lease()
    journal = job.directory.path("journal/00000000")
    journal.parent.mkdir()
    journal.write_bytes(b"a file where the folder should be")
    result = job.run(lease)
    assert result.how is LeaseEnd.FATAL
    assert result.cause == "job_directory"
    assert not job.client.list_objects_v2(Bucket=job.target).get("Contents")
    assert read_journals(job.directory, 0, 0, 1).receipts == {}
