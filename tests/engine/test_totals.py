"""Totals: sealed once, reported while it lasts, never counted twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from noria.engine.status import HostStatus, JobStatus, Phase, at_rest, load_status, save_status
from noria.engine.totals import MOST_HOSTS, OTHER_HOSTS, Totals
from noria.manifests.counters import Counter, Gauge
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.seals import Seal
from noria.manifests.model import (
    LeaseEnd,
    LeaseKind,
    LeaseProgress,
    LeaseResult,
    Level,
    MetricsSnapshot,
    Outcome,
    ReceiptSummary,
)

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


def test_what_a_lease_had_done_that_is_handed_back_goes_on_counting() -> None:
    totals = Totals("j", objects_total=10, bytes_total=1000)
    held = LeaseProgress(shard=1, first=2, attempt=2, end=7, units_done=3, bytes_done=300)
    result = LeaseResult(
        shard=1, kind=LeaseKind.OBJECTS, first=2, end=7, attempt=2, generation=0,
        how=LeaseEnd.RETURNED,
    )  # fmt: skip
    totals.add_report("w", (held,), MetricsSnapshot())
    totals.add_report("w", (), MetricsSnapshot(), [result])
    assert status(totals, 1).objects_done == 3
    totals.drop_worker("w", lost=False)
    seen = status(totals, 2)
    assert (seen.objects_done, seen.bytes_done) == (3, 300), "its journal has it"
    # Whoever goes on begins with what the journal has: it counts once.
    again = replace(held, first=0, attempt=3, units_done=4, bytes_done=350)
    totals.add_report("v", (again,), MetricsSnapshot())
    assert (status(totals, 3).objects_done, status(totals, 3).bytes_done) == (4, 350)


def test_what_was_handed_back_counts_for_the_next_driver(tmp_path: Path) -> None:
    totals = Totals("j", objects_total=10, bytes_total=1000)
    held = [
        LeaseProgress(shard=shard, first=2, attempt=2, end=4, units_done=2, bytes_done=200)
        for shard in (1, 2)
    ]
    results = [
        LeaseResult(
            shard=item.shard, kind=LeaseKind.OBJECTS, first=2, end=4, attempt=2, generation=0,
            how=LeaseEnd.RETURNED,
        )
        for item in held
    ]  # fmt: skip
    totals.add_report("w", tuple(held), MetricsSnapshot())
    totals.add_report("w", (), MetricsSnapshot(), results)
    save_status(JobDirectory(tmp_path), status(totals, 1))
    latest = load_status(JobDirectory(tmp_path))
    assert latest is not None
    assert latest.handed_back == tuple(held)
    bad = replace(held[0], shard=9, units_done=-5)
    again = Totals("j", objects_total=10, bytes_total=1000, handed_back=[*latest.handed_back, bad])
    assert (status(again, 1).objects_done, status(again, 1).bytes_done) == (4, 400)
    # A seal that came after the last status counts in its place, and so does who goes on.
    again.add_seal(
        replace(seal(LeaseKind.OBJECTS, shard=1, summary=transferred(2, 200)), first=2, end=4)
    )
    assert (status(again, 2).objects_done, status(again, 2).bytes_done) == (4, 400)
    again.add_report("v", (replace(held[1], units_done=1, bytes_done=100),), MetricsSnapshot())
    assert (status(again, 3).objects_done, status(again, 3).bytes_done) == (3, 300)


@pytest.mark.parametrize("how", [LeaseEnd.FINISHED, LeaseEnd.FAILED])
def test_what_is_handed_back_counts_no_more_once_it_is_sealed(how: LeaseEnd) -> None:
    totals = Totals("j", objects_total=10, bytes_total=1000)
    held = LeaseProgress(shard=0, first=0, attempt=2, end=1, units_done=1, bytes_done=100)
    result = LeaseResult(
        shard=0, kind=LeaseKind.OBJECTS, first=0, end=1, attempt=2, generation=0, how=how
    )
    totals.add_report("w", (held,), MetricsSnapshot())
    totals.add_report("w", (), MetricsSnapshot(), [result])
    assert status(totals, 1).objects_done == 0, "a seal tells of it, or it is done again"
    totals.add_report("w", (held,), MetricsSnapshot())
    totals.add_report("w", (), MetricsSnapshot(), [replace(result, how=LeaseEnd.RETURNED)])
    totals.add_seal(seal(LeaseKind.OBJECTS, summary=transferred(1, 100)))
    assert (status(totals, 2).objects_done, status(totals, 2).bytes_done) == (1, 100)


def test_parts_of_a_huge_object_count_until_it_is_assembled() -> None:
    totals = Totals("j", objects_total=1, bytes_total=100)
    totals.add_seal(seal(LeaseKind.PARTS, summary=ReceiptSummary(part_bytes=60)))
    assert status(totals, 1).bytes_done == 60
    totals.add_seal(seal(LeaseKind.ASSEMBLE, summary=transferred(1, 100)))
    assert status(totals, 2).bytes_done == 100
    totals.add_seal(seal(LeaseKind.PARTS, shard=2))
    totals.void_parts(2)
    assert status(totals, 3).bytes_done == 100


def test_an_object_of_which_several_leases_tell_counts_once() -> None:
    def told(outcome: Outcome, size: int) -> ReceiptSummary:
        reread = outcome is Outcome.TRANSFERRED
        return ReceiptSummary(
            outcomes={outcome: 1},
            outcome_bytes={outcome: size},
            levels={Level.REREAD: 1} if reread else {},
            causes={} if reread else {"damaged": 1},
        )

    well, damaged = told(Outcome.TRANSFERRED, 30), told(Outcome.FAILED, 40)
    for order in ((well, damaged, well, damaged), (damaged, well, damaged, well)):
        totals = Totals("j", objects_total=2, bytes_total=200, shared=[7])
        totals.add_seal(seal(LeaseKind.OBJECTS, shard=1, summary=transferred(1, 60)))
        for summary in (NOTHING, *order):
            totals.add_seal(seal(LeaseKind.OBJECTS, shard=7, summary=summary))
        sums = totals.sums
        assert sums.outcomes == {Outcome.TRANSFERRED: 1, Outcome.FAILED: 1}
        assert (sums.levels.get(Level.REREAD, 0), sums.causes) == (0, {"damaged": 1})
        assert sums.outcome_bytes == {Outcome.TRANSFERRED: 120, Outcome.FAILED: 80}
        assert len(totals.failing) == 1
    totals = Totals("j", objects_total=1, bytes_total=60, shared=[7])
    for _ in range(2):
        totals.add_seal(seal(LeaseKind.OBJECTS, shard=7, summary=well))
    assert (totals.sums.entries, totals.sums.levels) == (1, {Level.REREAD: 1})
    assert totals.failing == []


def test_live_parts_of_a_huge_object_are_bytes_and_no_objects() -> None:
    totals = Totals("j", objects_total=5, bytes_total=1000)
    live = [
        LeaseProgress(
            shard=shard,
            first=0,
            attempt=1,
            end=9,
            units_done=3,
            bytes_done=30,
            units_failed=1,
            kind=kind,
        )
        for shard, kind in enumerate(LeaseKind)
    ]
    totals.add_report("w", tuple(live), MetricsSnapshot())
    seen = status(totals, 1)
    assert (seen.objects_done, seen.failing, seen.bytes_done) == (3, 1, 30 * len(live))


def test_the_slower_of_bytes_and_objects_gives_the_eta() -> None:
    totals = Totals("j", objects_total=100, bytes_total=1000)
    status(totals, 0)
    totals.add_seal(seal(LeaseKind.OBJECTS, summary=transferred(10, 500)))
    seen = status(totals, 10)
    assert (seen.bytes_per_second, seen.objects_per_second) == (50, 1)
    assert seen.eta_seconds == 90


def test_what_was_deleted_or_kept_by_policy_is_no_failure() -> None:
    totals = Totals("j", objects_total=3, bytes_total=10)
    summary = ReceiptSummary(
        outcomes={Outcome.TRANSFERRED: 1, Outcome.DELETED: 1, Outcome.SKIPPED: 1},
        outcome_bytes={Outcome.TRANSFERRED: 10, Outcome.DELETED: 7, Outcome.SKIPPED: 5},
        causes={"target_kept": 1},
    )
    totals.add_seal(seal(LeaseKind.OBJECTS, summary=summary))
    seen = totals.status(Phase.MOVING, now=1, started=0, unix=0, shards={})
    assert (seen.objects_done, seen.failed, seen.bytes_done, seen.eta_seconds) == (3, 0, 10, 0)


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


def counted(written: float, *, errors: float = 0, objects: float = 0) -> MetricsSnapshot:
    return MetricsSnapshot(
        counters={
            (Counter.BYTES_WRITTEN,): written,
            (Counter.BYTES_READ,): 7.0,
            (Counter.ERRORS, "unavailable"): errors,
            (Counter.RETRIES, "unavailable"): errors,
            (Counter.RETRIES, "throttled"): 1.0,
            (Counter.OBJECTS, "TRANSFERRED"): objects,
            (Counter.OBJECTS, "FAILED"): 1.0,
        }
    )


def test_hosts_have_what_their_workers_counted_also_those_that_are_gone() -> None:
    totals = Totals("j", objects_total=100, bytes_total=1000)
    for worker, host in (("1", "node-a"), ("2", "node-a"), ("3", "node-b")):
        totals.place_worker(worker, host)
    assert list(status(totals, 0).hosts.values()) == [HostStatus(), HostStatus()]
    totals.add_report("1", (), counted(100, errors=2, objects=5))
    totals.add_report("2", (), counted(200))
    totals.add_report("3", (), counted(30, objects=1))
    seen = status(totals, 10)
    assert seen.hosts["node-a"] == HostStatus(
        workers=2,
        bytes_per_second=30,
        written_bytes=300,
        objects=7,
        errors={"unavailable": 2},
        retries={"unavailable": 2, "throttled": 2},
    )
    assert (seen.hosts["node-b"].workers, seen.hosts["node-b"].written_bytes) == (1, 30)
    totals.drop_worker("1", lost=True)
    totals.drop_worker("3", lost=False)
    after = status(totals, 10).hosts
    assert after["node-a"] == replace(seen.hosts["node-a"], workers=1, workers_lost=1)
    assert after["node-b"] == replace(seen.hosts["node-b"], workers=0)


def test_hosts_have_the_cpu_and_memory_of_the_workers_that_they_run_now() -> None:
    totals = Totals("j", objects_total=100, bytes_total=1000)
    for worker, host in (("1", "node-a"), ("2", "node-a"), ("3", "node-b")):
        totals.place_worker(worker, host)
        gauges: Counts = {(Gauge.CPU_SECONDS,): 1.5, (Gauge.MEMORY_BYTES,): 1000.0}
        totals.add_report(worker, (), MetricsSnapshot(gauges=gauges))
    seen = {name: (host.cpu_seconds, host.memory_bytes) for name, host in hosts_of(totals)}
    assert seen == {"node-a": (3.0, 2000), "node-b": (1.5, 1000)}
    totals.drop_worker("3", lost=False)
    assert dict(hosts_of(totals))["node-b"].memory_bytes == 0
    at_end = at_rest(dict(hosts_of(totals)))
    assert {host.memory_bytes for host in at_end.values()} == {0}


def hosts_of(totals: Totals) -> list[tuple[str, HostStatus]]:
    return list(status(totals, 0).hosts.items())


def test_a_deadline_is_in_each_status() -> None:
    totals = Totals("j", objects_total=1, bytes_total=1, deadline_seconds=99.0)
    assert status(totals, 0).deadline_seconds == 99.0


def test_a_log_names_a_worker_with_its_host() -> None:
    totals = Totals("j", objects_total=1, bytes_total=1)
    assert totals.describe_worker("3") == "worker 3"
    totals.place_worker("3", "node-b")
    assert totals.describe_worker("3") == "worker 3 on node-b"
    totals.drop_worker("3", lost=True)
    assert totals.describe_worker("3") == "worker 3 on node-b", "it may be given up later"


def test_hosts_of_earlier_runs_go_on_counting() -> None:
    first = Totals("j", objects_total=1, bytes_total=1)
    first.place_worker("1", "node-a")
    first.add_report("1", (), counted(100, errors=2, objects=5))
    first.drop_worker("1", lost=True)
    first.set_barred({"node-a": "its clock is wrong"})
    earlier = status(first, 1)
    second = Totals("j", objects_total=1, bytes_total=1, earlier=earlier)
    resumed = status(second, 1).hosts["node-a"]
    assert resumed == replace(earlier.hosts["node-a"], workers_lost=0, barred=None)
    second.place_worker("1", "node-a")
    second.add_report("1", (), counted(11, errors=1, objects=1))
    seen = status(second, 2)
    assert seen.hosts["node-a"].written_bytes == 111
    assert seen.hosts["node-a"].objects == 8
    assert seen.hosts["node-a"].errors == {"unavailable": 3}
    assert seen.hosts["node-a"].bytes_per_second == 11, "what an earlier run sent is no rate"
    assert seen.metrics.counters[Counter.BYTES_WRITTEN,] == 111


def test_a_barred_host_has_its_reason_whether_it_ever_had_a_worker_or_not() -> None:
    totals = Totals("j", objects_total=1, bytes_total=1)
    totals.place_worker("1", "node-a")
    totals.set_barred({"node-b": "its clock is wrong"})
    seen = status(totals, 1)
    assert seen.barred == {"node-b": "its clock is wrong"}
    assert list(seen.hosts) == ["node-a", "node-b"]
    totals.set_barred({})
    assert status(totals, 2).barred == {}


def test_hosts_beyond_the_first_are_counted_together() -> None:
    totals = Totals("j", objects_total=1, bytes_total=1)
    for number in range(MOST_HOSTS + 50):
        worker = f"{number}"
        totals.place_worker(worker, f"node-{number}")
        totals.add_report(worker, (), counted(1))
    totals.set_barred({f"node-{MOST_HOSTS + 1}": "its disk is full"})
    totals.drop_worker(f"{MOST_HOSTS}", lost=True)
    hosts = status(totals, 1).hosts
    assert len(hosts) == MOST_HOSTS + 1
    assert (hosts[OTHER_HOSTS].workers, hosts[OTHER_HOSTS].workers_lost) == (49, 1)
    assert hosts[OTHER_HOSTS].written_bytes == 50
    assert hosts[OTHER_HOSTS].barred == f"node-{MOST_HOSTS + 1}: its disk is full"
    assert totals.describe_worker("249") == "worker 249 on node-249", "a log names it all the same"
    assert sum(host.workers for host in hosts.values()) == status(totals, 1).workers


def test_a_status_comes_back_from_disk(tmp_path: Path) -> None:
    directory = JobDirectory.create(tmp_path / "job", {"id": "j"})
    assert load_status(directory) is None
    totals = Totals("j", objects_total=1, bytes_total=1)
    totals.add_report(
        "w", (), MetricsSnapshot(counters={("a", "b"): 1.0}, histograms={("h",): (1.0, 2.0)})
    )
    totals.place_worker("w", "node-a")
    totals.add_report("v", (), counted(1, errors=1))
    totals.place_worker("v", "node-b")
    totals.set_barred({"node-b": "its clock is wrong"})
    saved = status(totals, 1)
    assert len(saved.hosts) == 2
    save_status(directory, saved)
    assert load_status(directory) == saved
    text = directory.path("status.json").read_text()
    directory.path("status.json").write_text(text.replace('"metrics": {', '"tally": {'))
    assert load_status(directory) == saved, "as earlier versions named it"
    values = json.loads(text)
    del values["hosts"]
    directory.replace("status.json", json.dumps(values).encode())
    assert load_status(directory) == replace(saved, hosts={}), "earlier versions knew no host"
    directory.replace("status.json", b"{half")
    assert load_status(directory) is None


WRITTEN = MetricsSnapshot(counters={("bytes_written",): 700.0})


def test_bytes_moved_are_what_workers_handed_to_the_network() -> None:
    """Also what was sent for nothing, which no receipt counts."""
    totals = Totals("j", objects_total=10, bytes_total=1000)
    totals.add_report("w", (), WRITTEN)
    totals.add_seal(seal(LeaseKind.OBJECTS, summary=ReceiptSummary(bytes_moved=500)))
    seen = status(totals, 1)
    assert (seen.bytes_moved, seen.sealed_sent_bytes) == (700, 500)
    totals.drop_worker("w", lost=False)
    assert not status(totals, 2).bytes_moved_at_least, "it had nothing to do when it ended"
    again = Totals("j", objects_total=10, bytes_total=1000, earlier=status(totals, 3))
    assert status(again, 1).bytes_moved == 700, "over all runs of the job"


@pytest.mark.parametrize(
    "fate", ["lost", "ended at work", "of an earlier run", "nothing but seals"]
)
def test_what_ended_without_a_last_report_makes_it_a_lower_bound(fate: str) -> None:
    earlier = fate == "of an earlier run"
    totals = Totals("j", objects_total=10, bytes_total=1000, is_lower_bound=earlier)
    totals.add_seal(seal(LeaseKind.OBJECTS, summary=ReceiptSummary(bytes_moved=900)))
    progress = LeaseProgress(shard=1, first=0, attempt=2, end=5, units_done=2, bytes_done=50)
    totals.add_report("w", (progress,), WRITTEN)
    assert status(totals, 1).bytes_moved_at_least is earlier
    if fate == "nothing but seals":
        totals.note_uncounted()
    elif not earlier:
        totals.drop_worker("w", lost=fate == "lost")
    seen = status(totals, 2)
    assert (seen.bytes_moved, seen.bytes_moved_at_least) == (900, True)
