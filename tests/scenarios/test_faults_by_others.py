"""One lease at work while others change both ends, or after another lease died; real stores."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from noria.manifests.counters import Counter
from noria.manifests.job.seals import seal
from noria.manifests.model import LeaseEnd, LeaseKind, LeaseResult, Outcome, Receipt
from noria.workers.runtime.buffers import MIN_BUFFER_BYTES, BufferPool
from tests.support.fault_proxy.rules import (
    Fault,
    Operation,
    flip_answer,
    lose_answer,
    meanwhile,
    on,
    refuse,
)
from tests.support.faulty import (
    SMALL,
    THROTTLES,
    WRITES,
    Case,
    NewCase,
    both_ways,
    large_only,
    to_s3,
)
from tests.support.lease_jobs import STREAMS, open_executor

# -- others at work --------------------------------------------------------------------------------


@both_ways
def test_a_source_overwritten_between_two_parts_leaves_nothing_at_the_target(
    new_case: NewCase, way: str
) -> None:
    case = new_case(way)
    for key, skip in (("large", 1), ("small", 0)):
        other = b"x" * case.job.sizes[key]
        overwrite = meanwhile(partial(case.job.source.put, f"from/{key}", other))
        reads = on(Operation.READ, name=f"/from/{key}")
        case.source.add(Fault(match=reads, action=overwrite, skip=skip))
    receipts = case.finish(streams=1)
    assert {receipt.outcome for receipt in receipts.values()} == {Outcome.SOURCE_CHANGED}
    assert case.target.count(Operation.PART) == 1
    assert case.job.target.listed() == []


@both_ways
def test_a_source_deleted_in_the_middle_leaves_nothing_at_the_target(
    new_case: NewCase, way: str
) -> None:
    case = new_case(way)
    for key, skip in (("large", 1), ("small", 0)):
        delete = meanwhile(partial(case.job.source.delete, f"from/{key}"))
        reads = on(Operation.READ, name=f"/from/{key}")
        case.source.add(Fault(match=reads, action=delete, skip=skip))
    receipts = case.finish(streams=1)
    # HTTP lets a store answer 412 to an If-Match on nothing (RFC 9110, 13.1.1), as Azurite does.
    gone = Outcome.SOURCE_MISSING if way == "s3-azure" else Outcome.SOURCE_CHANGED
    assert {receipt.outcome for receipt in receipts.values()} == {gone}
    assert case.target.count(Operation.PART) == 1
    assert case.job.target.listed() == []


@both_ways
def test_an_archived_object_is_tried_once(new_case: NewCase, way: str) -> None:
    case = new_case(way)
    case.source.add(
        Fault(
            match=on(Operation.READ, name="/small"), action=refuse(409, "BlobArchived"), times=None
        )
    )
    receipts = case.finish()
    assert receipts["small"].cause == "source_unreadable"
    assert receipts["large"].outcome is Outcome.TRANSFERRED
    assert case.source.count(Operation.READ, name="/small") == 1


@both_ways
def test_another_writer_who_comes_first_is_not_overwritten(new_case: NewCase, way: str) -> None:
    case = new_case(way)
    for key, operation in (("small", Operation.PUT), ("large", Operation.COMPLETE)):
        put = meanwhile(partial(case.job.target.put, f"to/{key}", b"another's"))
        case.target.add(Fault(match=on(operation), action=put))
    receipts = case.finish()
    assert {key: (r.outcome, r.cause) for key, r in receipts.items()} == {
        "large": (Outcome.FAILED, "target_conflict"),
        "small": (Outcome.FAILED, "target_conflict"),
    }
    assert case.job.target_bytes("small") == case.job.target_bytes("large") == b"another's"


@to_s3
def test_an_upload_dropped_before_its_completion_is_opened_anew(
    new_case: NewCase, way: str
) -> None:
    case = new_case(way, large_only(way))
    drop = meanwhile(case.job.target.drop_uploads)
    case.target.add(Fault(match=on(Operation.COMPLETE), action=drop))
    case.finish_moved()
    assert case.target.count(Operation.PART) == 4


@to_s3
def test_an_upload_dropped_between_two_parts_is_opened_anew(new_case: NewCase, way: str) -> None:
    case = new_case(way, large_only(way))
    drop = meanwhile(case.job.target.drop_uploads)
    case.target.add(Fault(match=on(Operation.PART, part=2), action=drop))
    case.finish_moved(streams=1)
    assert case.target.count(Operation.CREATE) == 2


@both_ways
def test_conflicts_side_by_side_do_not_wait_for_each_others_buffers(
    new_case: NewCase, way: str
) -> None:
    case = new_case(way, {"a": SMALL, "b": SMALL})
    case.job.context = replace(case.job.context, buffers=BufferPool(2 * MIN_BUFFER_BYTES))
    together = threading.Barrier(2, timeout=10)
    for key in ("a", "b"):
        case.job.target.put(f"to/{key}", b"y" * SMALL)
    both_there = meanwhile(together.wait)
    case.target.add(Fault(match=on(Operation.PUT), action=both_there, times=2))
    receipts = case.finish()
    assert {receipt.cause for receipt in receipts.values()} == {"target_conflict"}


@both_ways
def test_a_lease_that_is_handed_back_does_not_wait_out_a_storm(new_case: NewCase, way: str) -> None:
    case = new_case(way, retry_seconds=600)
    slow = refuse(503, "SlowDown", retry_after_seconds=600)
    case.target.add(Fault(match=on(), action=slow, times=None))
    with open_executor() as executor, ThreadPoolExecutor(1) as leases:
        run = case.job.start(case.job.lease(), executor)
        result = leases.submit(run.run)
        while case.counters.total(Counter.THROTTLES, "target") == 0:
            assert not result.done()
        run.tasks.stop()
        assert result.result(10).how is LeaseEnd.RETURNED


@both_ways
@pytest.mark.parametrize("end", ["source", "target"])
def test_revoked_credentials_stop_the_lease_with_few_errors(
    new_case: NewCase, way: str, end: str
) -> None:
    case = new_case(way, large_only(way) | {f"k{n:02}": SMALL for n in range(30)})
    operations = () if end == "source" else (Operation.PUT, Operation.PART)
    denied = Fault(match=on(*operations), action=refuse(403, "AccessDenied"), skip=4, times=None)
    proxy = getattr(case, end)
    proxy.add(denied)
    result = case.run()
    assert (result.how, result.cause) == (LeaseEnd.FATAL, "access_denied")
    assert result.message
    # At the source each stream may ask for an object, its tags and its head, and each time once
    # whether the container is refused as well.
    assert 1 <= proxy.taken("answer 403") <= (6 * STREAMS if end == "source" else STREAMS)
    proxy.clear()
    case.finish_moved(exact=False)


@both_ways
def test_one_object_that_the_source_refuses_fails_alone(new_case: NewCase, way: str) -> None:
    case = new_case(way, {f"k{n}": SMALL for n in range(5)})
    refused = on(Operation.READ, name="/k3")
    case.source.add(Fault(match=refused, action=refuse(403, "AccessDenied"), times=None))
    receipts = case.finish()
    assert {key: receipt.cause for key, receipt in receipts.items() if receipt.cause} == {
        "k3": "source_unreadable"
    }


@pytest.mark.parametrize("way", ["s3-azure"])
def test_a_bit_that_flips_on_the_way_from_s3_is_seen_by_the_etag(
    new_case: NewCase, way: str
) -> None:
    """Over plain http nothing else would tell; the first objects show what this source's are."""
    case = new_case(way, {f"k{n}": SMALL for n in range(8)})
    flipped = Fault(match=on(Operation.READ, name="/k7"), action=flip_answer())
    case.source.add(flipped)
    receipts = case.finish(streams=1)
    assert {receipt.outcome for receipt in receipts.values()} == {Outcome.TRANSFERRED}
    assert case.source.taken("flip answer") == 1
    assert case.source.count(Operation.READ) == 9, "k7 was read again"


# -- a lease after another -------------------------------------------------------------------------


@both_ways
def test_an_object_that_landed_before_its_lease_died_is_found_and_not_sent_again(
    new_case: NewCase, way: str
) -> None:
    """The lease dies between Complete and the receipt."""
    case = new_case(way, large_only(way))
    looks = on(Operation.HEAD)
    case.target.add(
        Fault(match=on(Operation.COMPLETE), action=lose_answer()),
        Fault(match=looks, action=refuse(403, "AccessDenied"), times=None),
    )
    assert case.run().how is LeaseEnd.FATAL
    assert case.job.target.listed() == ["to/large"]
    case.target.clear()
    sent = case.job.sent()
    case.finish_moved()
    assert case.job.sent() == sent


@both_ways
def test_an_object_of_an_attempt_that_left_no_journal_is_known_as_ours(
    new_case: NewCase, way: str
) -> None:
    """A receipt names the transfer that wrote the object, and the second upload is dropped."""
    case = new_case(way)
    case.target.add(
        Fault(match=on(*WRITES), action=lose_answer(), times=2),
        Fault(match=on(Operation.HEAD), action=refuse(403, "AccessDenied"), times=None),
    )
    for row in range(2):
        lease = case.job.lease(first=row, end=row + 1)
        assert case.job.run(lease).how is LeaseEnd.FATAL
    assert sorted(case.job.target.listed()) == ["to/large", "to/small"]
    shutil.rmtree(case.job.directory.path("journal"))
    case.target.clear()
    receipts = case.finish_moved()
    attempts = {key: str(receipt.txid).rpartition(".")[2] for key, receipt in receipts.items()}
    assert attempts == {"large": "101", "small": "102"}


@to_s3
def test_an_upload_that_is_lost_because_another_completed_one_is_not_opened_again(
    new_case: NewCase, way: str
) -> None:
    """Two attempts at one object, and the journal of the first is gone."""
    case = new_case(way, large_only(way))
    case.target.add(
        Fault(match=on(Operation.COMPLETE), action=lose_answer()),
        Fault(match=on(Operation.HEAD), action=refuse(403, "AccessDenied"), times=None),
    )
    assert case.run().how is LeaseEnd.FATAL
    assert case.job.target.listed() == ["to/large"]
    shutil.rmtree(case.job.directory.path("journal"))
    case.target.clear()
    created = case.target.count(Operation.CREATE)
    case.target.add(Fault(match=on(Operation.PART), action=refuse(404, "NoSuchUpload")))
    case.finish_moved()
    assert case.target.count(Operation.CREATE) == created + 1


@to_s3
def test_an_upload_that_cannot_be_opened_anew_fails_its_object_alone(
    new_case: NewCase, way: str
) -> None:
    case = new_case(way)
    stop = Fault(match=on(Operation.COMPLETE), action=refuse(403, "AccessDenied"))
    case.target.add(stop)
    assert case.run().how is LeaseEnd.FATAL
    case.job.target.drop_uploads()
    case.target.add(Fault(match=on(Operation.CREATE), action=refuse(400, "MetadataTooLarge")))
    receipts = case.finish()
    assert receipts["large"].cause == "target_refused"
    assert receipts["small"].outcome is Outcome.TRANSFERRED


@both_ways
def test_two_attempts_at_the_same_time_do_no_harm(new_case: NewCase, way: str) -> None:
    """The first one's worker was thought dead, and was not."""
    case = new_case(way, large_only(way) | {f"k{n}": SMALL for n in range(6)})
    with ThreadPoolExecutor(2) as leases:
        results = list(leases.map(case.job.run, [case.job.lease(), case.job.lease()]))
    for result in results:
        assert result.how is LeaseEnd.FINISHED, (result.cause, result.message)
    receipts = case.job.receipts(results[1])
    assert {receipt.outcome for receipt in receipts.values()} == {Outcome.TRANSFERRED}
    # SeaweedFS looks for the object and makes it in two steps: both may pass, with equal bytes.
    case.check_landed(receipts, most_writes=2)
    assert case.job.target.open_uploads() == []


def huge_case(new_case: NewCase, **options: Any) -> Case:
    """One object of three parts, moved by two leases and assembled by a third."""
    part_bytes = 5 << 20
    return new_case("azure-s3", {"huge": 2 * part_bytes + 1}, segment_bytes=part_bytes, **options)


def run_parts(case: Case, first: int, end: int) -> LeaseResult:
    result = case.job.run(case.job.lease(kind=LeaseKind.PARTS, first=first, end=end))
    assert result.how is LeaseEnd.FINISHED, (result.cause, result.message)
    seal(case.job.directory, result)
    return result


def assemble(case: Case) -> Receipt:
    result = case.job.run(case.job.lease(kind=LeaseKind.ASSEMBLE, end=0))
    (receipt,) = case.job.receipts(result).values()
    case.check_landed({"huge": receipt})
    assert case.job.target.open_uploads() == []
    assert case.source.methods() <= {"GET", "HEAD"}
    return receipt


def test_a_huge_object_survives_throttling_and_a_lost_commit(new_case: NewCase) -> None:
    case = huge_case(new_case, look_first=True)
    case.source.add(Fault(match=on(), action=THROTTLES["503"], times=5))
    case.target.add(
        Fault(match=on(Operation.HEAD), action=THROTTLES["503"], times=5),
        Fault(match=on(Operation.COMPLETE), action=lose_answer()),
    )
    run_parts(case, 0, 2)
    run_parts(case, 2, 3)
    assert assemble(case).outcome is Outcome.TRANSFERRED
    assert case.target.count(Operation.COMPLETE) == 1


def test_a_huge_source_overwritten_between_two_segments_is_reported_once(new_case: NewCase) -> None:
    case = huge_case(new_case)
    run_parts(case, 0, 2)
    case.job.source.put("from/huge", b"x" * case.job.sizes["huge"])
    run_parts(case, 2, 3)
    assert assemble(case).outcome is Outcome.SOURCE_CHANGED
    assert case.job.target.listed() == []


def test_a_huge_source_overwritten_between_two_parts_is_reported_once(new_case: NewCase) -> None:
    case = huge_case(new_case)
    overwrite = meanwhile(lambda: case.job.source.put("from/huge", b"x" * case.job.sizes["huge"]))
    case.source.add(Fault(match=on(Operation.READ), action=overwrite, skip=1))
    run_parts(case, 0, 2)
    run_parts(case, 2, 3)
    assert assemble(case).outcome is Outcome.SOURCE_CHANGED
    assert case.job.target.listed() == []
