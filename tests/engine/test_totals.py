"""Totals: sealed once, reported while it lasts, never counted twice."""

from __future__ import annotations

from pathlib import Path

from noria.engine.status import JobStatus, Phase, load_status, save_status
from noria.engine.totals import Totals
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.seals import Seal
from noria.manifests.model import LeaseKind, LeaseProgress, MetricsSnapshot, Outcome, ReceiptSummary

NOTHING = ReceiptSummary()
Counts = dict[tuple[str, ...], float]


def transferred(objects: int, size: int) -> ReceiptSummary:
    return ReceiptSummary(
        outcomes={Outcome.TRANSFERRED: objects}, outcome_bytes={Outcome.TRANSFERRED: size}
    )


def seal(kind: LeaseKind, shard: int = 0, summary: ReceiptSummary = NOTHING) -> Seal:
    return Seal(
        shard=shard,
        kind=kind,
        first=0,
        end=1,
        attempt=1,
        generation=0,
        result_name="r",
        result_sha256="0",
        summary=summary,
    )


def status(totals: Totals, now: float) -> JobStatus:
    return totals.status(Phase.MOVING, now=now, started=0, unix=0, shards={})


def test_sealed_and_live_work_add_up() -> None:
    totals = Totals("j", objects_total=10, bytes_total=1000)
    totals.add_seal(seal(LeaseKind.OBJECTS, summary=transferred(3, 300)))
    progress = LeaseProgress(shard=1, first=0, attempt=2, end=5, units_done=2, bytes_done=50)
    totals.add_report("w", (progress,), MetricsSnapshot(counters={("parts",): 4.0}))
    seen = status(totals, 1)
    assert (seen.objects_done, seen.bytes_done, seen.workers) == (5, 350, 1)
    assert seen.metrics.counters == {("parts",): 4.0}
    totals.drop_worker("w", lost=True)
    seen = status(totals, 2)
    assert (seen.objects_done, seen.bytes_done, seen.workers) == (3, 300, 0)
    assert seen.metrics.counters == {("parts",): 4.0}, "what a lost worker did is not forgotten"
    assert seen.workers_lost == 1


def test_parts_of_a_huge_object_count_until_it_is_assembled() -> None:
    totals = Totals("j", objects_total=1, bytes_total=100)
    totals.add_seal(seal(LeaseKind.PARTS, summary=ReceiptSummary(part_bytes=60)))
    assert status(totals, 1).bytes_done == 60
    totals.add_seal(seal(LeaseKind.ASSEMBLE, summary=transferred(1, 100)))
    assert status(totals, 2).bytes_done == 100
    totals.add_seal(seal(LeaseKind.PARTS, shard=2))
    totals.void_parts(2)
    assert status(totals, 3).bytes_done == 100


def test_the_slower_of_bytes_and_objects_gives_the_eta() -> None:
    totals = Totals("j", objects_total=100, bytes_total=1000)
    status(totals, 0)
    totals.add_seal(seal(LeaseKind.OBJECTS, summary=transferred(10, 500)))
    seen = status(totals, 10)
    assert (seen.bytes_per_second, seen.objects_per_second) == (50, 1)
    assert seen.eta_seconds == 90


def test_what_failed_has_not_moved_and_is_shown_at_once() -> None:
    totals = Totals("j", objects_total=100, bytes_total=1000)
    status(totals, 0)
    failed = ReceiptSummary(
        outcomes={Outcome.TRANSFERRED: 1, Outcome.FAILED: 19},
        outcome_bytes={Outcome.TRANSFERRED: 10, Outcome.FAILED: 190},
        causes={"unavailable": 19},
    )
    totals.add_seal(seal(LeaseKind.OBJECTS, summary=failed))
    progress = LeaseProgress(
        shard=1, first=0, attempt=2, end=50, units_done=30, bytes_done=0, units_failed=30
    )
    totals.add_report("w", (progress,), MetricsSnapshot())
    seen = status(totals, 10)
    assert (seen.objects_done, seen.failed, seen.bytes_done) == (50, 49, 10)
    assert (seen.bytes_per_second, seen.objects_per_second) == (1, 0.1)
    assert seen.eta_seconds == 800, "the bytes that failed are not waited for"


def test_a_silence_is_as_long_as_the_longest_of_a_worker() -> None:
    totals = Totals("j", objects_total=1, bytes_total=1)
    for worker, seconds in (("1", 0.0), ("2", 40.0), ("3", 30.0)):
        gauges: Counts = {("silent_seconds", "target"): seconds, ("silent_seconds", "source"): 0.0}
        totals.add_report(worker, (), MetricsSnapshot(gauges=gauges))
    seen = status(totals, 1)
    assert seen.silent_seconds == {"target": 40.0}
    assert seen.metrics.gauges["silent_seconds", "target"] == 40.0


def test_retries_are_a_rate_of_their_own() -> None:
    totals = Totals("j", objects_total=1, bytes_total=1)
    status(totals, 0)
    counters: Counts = {("retries", "unavailable"): 30.0, ("retries", "throttled"): 10.0}
    totals.add_report("w", (), MetricsSnapshot(counters=counters))
    assert status(totals, 10).retries_per_second == 4


def test_a_status_comes_back_from_disk(tmp_path: Path) -> None:
    directory = JobDirectory.create(tmp_path / "job", {"id": "j"})
    assert load_status(directory) is None
    totals = Totals("j", objects_total=1, bytes_total=1)
    totals.add_report(
        "w", (), MetricsSnapshot(counters={("a", "b"): 1.0}, histograms={("h",): (1.0, 2.0)})
    )
    saved = status(totals, 1)
    save_status(directory, saved)
    assert load_status(directory) == saved
    text = directory.path("status.json").read_text()
    directory.path("status.json").write_text(text.replace('"metrics": {', '"tally": {'))
    assert load_status(directory) == saved, "as earlier versions named it"
    directory.replace("status.json", b"{half")
    assert load_status(directory) is None
