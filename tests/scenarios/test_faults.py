"""One lease at work while the network and the stores misbehave, with real stores at both ends.

Every case ends with the same questions: is what arrived what the source held, did the source see
reads alone, was every object written once, is no upload left open, and do our counters say what
crossed the wire?
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from manifests.model import LeaseEnd, LeaseKind, LeaseResult, Level, Outcome, Receipt
from manifests.receipts import seal
from tests.fault_proxy import FaultProxy, run_fault_proxy
from tests.faults import (
    Fault,
    Operation,
    answer,
    cut_answer,
    error_document,
    flip_answer,
    flip_request,
    ignore_range,
    lose_answer,
    meanwhile,
    on,
    redirect,
    refuse,
    replace_answer,
    reset,
    reset_in_body,
    shift_range,
    stall,
)
from tests.lease_jobs import (
    STREAMS,
    Container,
    Job,
    S3Bucket,
    azure_container,
    lease_job,
    s3_bucket,
)
from workers.buffers import MIN_BUFFER_BYTES, BufferPool
from workers.store import Checksum

SMALL = 50_000
WRITES = (Operation.PUT, Operation.COMPLETE)
"""What makes an object."""

both_ways = pytest.mark.parametrize("way", ["azure-s3", "s3-azure"])
to_s3 = pytest.mark.parametrize("way", ["azure-s3"])
s3_to_s3 = pytest.mark.parametrize("way", ["s3-s3"])


@dataclass
class Case:
    """A job whose both ends lie behind fault proxies."""

    job: Job
    source: FaultProxy
    target: FaultProxy

    @property
    def counting(self):
        return self.job.route.counting

    def retries(self, cause: str) -> float:
        return self.counting.total("retries", cause)

    def run(self, *, streams: int = STREAMS) -> LeaseResult:
        return self.job.run(self.job.lease(), streams=streams)

    def finish(self, *, streams: int = STREAMS, exact: bool = True) -> dict[str, Receipt]:
        """Run a lease to its end and ask the questions of every case. Not `exact`: a fault hides
        from the target what was sent, or the other way round."""
        receipts = self.job.receipts(self.run(streams=streams))
        assert receipts.keys() == self.job.sizes.keys()
        self.check_landed(receipts)
        assert self.source.methods() <= {"GET", "HEAD"}
        assert self.job.target.open_uploads() == []
        if exact:
            assert self.counting.total("bytes_written") == self.target.written_bytes()
        return receipts

    def check_landed(self, receipts: dict[str, Receipt]) -> None:
        """What is said to have moved is there, whole, ours, and written once."""
        for key, receipt in receipts.items():
            writes = [e for e in self.target.seen(*WRITES, name=f"/to/{key}") if e.happened]
            if receipt.outcome is not Outcome.TRANSFERRED:
                assert writes == [], key
                continue
            assert len(writes) == 1, key
            assert self.job.target_bytes(key) == self.job.source_bytes(key), key
            assert self.job.target.metadata(f"to/{key}")["noriatxid"] == receipt.txid

    def finish_moved(self, *, streams: int = STREAMS, exact: bool = True) -> dict[str, Receipt]:
        """As finish(), and everything moved."""
        receipts = self.finish(streams=streams, exact=exact)
        said = {key: (receipt.outcome, receipt.cause) for key, receipt in receipts.items()}
        assert set(said.values()) == {(Outcome.TRANSFERRED, None)}, said
        return receipts


@pytest.fixture
def new_case(request, tmp_path) -> Iterator[Callable[..., Case]]:
    with contextlib.ExitStack() as stack:

        def container(kind: str) -> Container:
            if kind == "s3":
                return stack.enter_context(s3_bucket(request.getfixturevalue("seaweedfs")))
            return stack.enter_context(azure_container(request.getfixturevalue("azurite")))

        def make(way: str, sizes: dict[str, int] | None = None, **options) -> Case:
            """`way` names both ends. Objects: one small, one of two parts."""
            source, target = map(container, way.split("-"))
            proxies = [
                stack.enter_context(
                    run_fault_proxy(
                        end.endpoint, resign=end.resign if isinstance(end, S3Bucket) else None
                    )
                )
                for end in (source, target)
            ]
            options = {"retry_base_seconds": 0.01, "retry_cap_seconds": 0.05, **options}
            job = stack.enter_context(
                lease_job(
                    tmp_path / "job",
                    source,
                    target,
                    sizes or {"large": target.part_bytes + SMALL, "small": SMALL},
                    source_endpoint=proxies[0].endpoint,
                    target_endpoint=proxies[1].endpoint,
                    **options,
                )
            )
            return Case(job, *proxies)

        yield make


def large_only(way: str) -> dict[str, int]:
    part_bytes = S3Bucket.part_bytes if way.endswith("s3") else 1 << 20
    return {"large": part_bytes + SMALL}


# -- storms ----------------------------------------------------------------------------------------

THROTTLES = {"503": refuse(503, "SlowDown"), "429": refuse(429, "TooManyRequests")}


@both_ways
@pytest.mark.parametrize("status", THROTTLES)
def test_a_storm_of_throttling_on_reads_passes(new_case, way, status):
    case = new_case(way, {"large": 3 << 20} | {f"k{n}": SMALL for n in range(12)})
    reads = on(Operation.READ, Operation.HEAD)
    case.source.add(Fault(match=reads, action=THROTTLES[status], times=30))
    case.finish_moved()
    assert case.source.taken(f"answer {status}") == 30
    assert case.counting.total("throttles", "source") == 30
    assert case.retries("throttled") == 30
    assert case.counting.total("throttles", "target") == 0
    assert case.job.route.source_pacer.lowest < 8


@both_ways
@pytest.mark.parametrize("status", THROTTLES)
def test_a_storm_of_throttling_on_writes_passes(new_case, way, status):
    sizes = large_only(way) | {f"k{n}": SMALL for n in range(12)}
    case = new_case(way, sizes)
    case.target.add(Fault(match=on(), action=THROTTLES[status], times=30))
    case.finish_moved(exact=False)  # large bodies are refused before they are sent
    assert case.target.taken(f"answer {status}") == 30
    assert case.counting.total("throttles", "target") == 30
    assert case.retries("throttled") == 30
    assert case.job.route.target_pacer.lowest < 8


@both_ways
def test_a_refused_body_counts_each_time_it_is_sent(new_case, way):
    case = new_case(way, {f"k{n}": SMALL for n in range(4)})
    case.target.add(Fault(match=on(Operation.PUT), action=THROTTLES["503"], times=6))
    receipts = case.finish_moved()
    assert case.target.written_bytes() == 10 * SMALL
    assert sum(receipt.bytes_moved for receipt in receipts.values()) == 10 * SMALL


@both_ways
@pytest.mark.parametrize("end", ["source", "target"])
def test_what_retry_after_asks_for_is_waited(new_case, way, end):
    case = new_case(way, {"small": SMALL})
    operation = Operation.READ if end == "source" else Operation.PUT
    asked = refuse(503, "SlowDown", retry_after_seconds=1)
    getattr(case, end).add(Fault(match=on(operation), action=asked))
    started = time.monotonic()
    case.finish_moved()
    assert time.monotonic() - started >= 1


@both_ways
def test_a_storm_of_errors_on_reads_and_writes_passes(new_case, way):
    """500 says nothing of what became of a write: the target is looked at each time."""
    case = new_case(way, large_only(way) | {"k1": SMALL, "k2": SMALL})
    error = refuse(500, "InternalError")
    case.source.add(Fault(match=on(), action=error, times=20))
    case.target.add(Fault(match=on(*WRITES, Operation.PART), action=error, times=30))
    case.finish_moved(exact=False)
    assert case.target.taken("answer 500") == 30
    assert case.retries("unavailable") >= 20


@both_ways
def test_an_outage_that_outlasts_the_budget_fails_the_object_alone(new_case, way):
    case = new_case(way, {"a": SMALL, "b": SMALL}, retry_seconds=0.3)
    full = refuse(507, "InsufficientStorage")
    case.target.add(Fault(match=on(Operation.PUT, name="/to/a"), action=full, times=None))
    receipts = case.finish()
    assert (receipts["a"].outcome, receipts["a"].cause) == (Outcome.FAILED, "unavailable")
    assert receipts["b"].outcome is Outcome.TRANSFERRED
    assert 3 < case.target.taken("answer 507") < 100


# -- connections that break ------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("action", [reset(), reset_in_body(20_000)], ids=lambda a: a.name)
def test_a_reset_while_a_body_is_sent_stores_nothing_twice(new_case, way, action):
    case = new_case(way)
    case.target.add(
        Fault(match=on(Operation.PUT), action=action),
        Fault(match=on(Operation.PART), action=action, times=2),
    )
    case.finish_moved(exact=False)
    assert case.target.taken(action.name) == 3


@both_ways
@pytest.mark.parametrize("operation", [Operation.PUT, Operation.PART, Operation.COMPLETE])
def test_a_lost_answer_is_settled_by_looking(new_case, way, operation):
    case = new_case(way)
    case.target.add(Fault(match=on(operation), action=lose_answer()))
    receipts = case.finish_moved()
    assert case.target.taken("lose answer") == 1
    part_again = operation is Operation.PART
    assert case.target.count(operation) == (3 if part_again else 1)
    if not part_again:
        key = "small" if operation is Operation.PUT else "large"
        assert case.target.count(Operation.HEAD, name=f"/to/{key}") >= 1
        assert receipts[key].bytes_moved == case.job.sizes[key]


@to_s3
def test_a_lost_answer_to_the_opening_leaves_an_upload_that_a_list_finds(new_case, way):
    case = new_case(way, large_only(way))
    case.target.add(Fault(match=on(Operation.CREATE), action=lose_answer()))
    receipts = case.job.receipts(case.run())
    case.check_landed(receipts)
    assert receipts["large"].outcome is Outcome.TRANSFERRED
    assert case.job.target.open_uploads() == ["to/large"]
    assert [upload.key for upload in case.job.route.target.list_uploads("to/")] == ["to/large"]


@both_ways
@pytest.mark.parametrize(
    "action",
    [
        cut_answer(0.5),
        replace_answer(body=lambda said: said[: len(said) // 2]),
        replace_answer(body=lambda said: said + b"more"),
        reset(),
        lose_answer(),
    ],
    ids=["cut", "shortened", "lengthened", "reset", "lost"],
)
def test_a_body_of_another_length_is_read_again(new_case, way, action):
    case = new_case(way)
    case.source.add(Fault(match=on(Operation.READ, name="/small"), action=action))
    case.source.add(Fault(match=on(Operation.READ, name="/large"), action=action, times=2))
    case.finish_moved()
    assert case.source.taken(action.name) == 3
    assert case.retries("short_body") + case.retries("unavailable") == 3


@both_ways
@pytest.mark.parametrize("action", [ignore_range(), shift_range()], ids=lambda a: a.name)
def test_a_range_that_is_not_the_one_asked_for_is_refused(new_case, way, action):
    case = new_case(way, large_only(way))
    case.source.add(Fault(match=on(Operation.READ), action=action, times=3))
    case.finish_moved()
    assert case.source.taken(action.name) == 3
    assert case.retries("short_body") == 3


@both_ways
def test_a_stalled_body_is_given_up_and_read_again(new_case, way):
    case = new_case(way, idle_seconds=0.3)
    case.source.add(Fault(match=on(Operation.READ), action=stall(600, at="body"), times=2))
    case.finish_moved()
    assert case.retries("unavailable") == 2


@both_ways
def test_a_commit_may_take_its_time(new_case, way):
    case = new_case(way, large_only(way), idle_seconds=0.3)
    case.target.add(Fault(match=on(Operation.COMPLETE), action=stall(1.0)))
    case.finish_moved()
    assert case.target.count(Operation.COMPLETE) == 1


# -- answers that lie ------------------------------------------------------------------------------

ERROR = error_document("InternalError")
LIES = {
    "error-not-done": answer(200, body=ERROR),
    "empty-not-done": answer(200),
    "failed-not-done": refuse(500, "InternalError"),
    "error-though-done": replace_answer(status=200, headers={"etag": None}, body=ERROR),
    "empty-though-done": replace_answer(headers={"etag": None}, body=b""),
    "truncated-though-done": replace_answer(
        headers={"etag": None}, body=lambda said: said[: len(said) // 2]
    ),
    "failed-though-done": replace_answer(status=500, body=ERROR),
    "throttled-though-done": replace_answer(status=503, body=error_document("SlowDown")),
}


@both_ways
@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize("lie", LIES)
def test_a_write_is_done_when_the_target_shows_it(new_case, way, operation, lie):
    sizes = {"small": SMALL} if operation is Operation.PUT else large_only(way)
    case = new_case(way, sizes)
    case.target.add(Fault(match=on(operation), action=LIES[lie]))
    case.finish_moved()
    assert case.target.taken(LIES[lie].name) == 1
    if lie.endswith("though-done") and lie != "throttled-though-done":
        assert case.target.count(operation) == 1
    elif lie.endswith("not-done"):
        assert case.target.count(operation) == 2


@to_s3
def test_white_space_before_the_result_of_complete_is_none_of_our_business(new_case, way):
    case = new_case(way, large_only(way))
    spaced = replace_answer(body=lambda said: b" \n \n" + said)
    case.target.add(Fault(match=on(Operation.COMPLETE), action=spaced))
    case.finish_moved()
    assert case.target.count(Operation.COMPLETE) == 1
    assert case.retries("outcome_unknown") == 0


@to_s3
@pytest.mark.parametrize("lie", ["error", "no-etag"])
def test_a_part_whose_answer_says_nothing_is_sent_again(new_case, way, lie):
    case = new_case(way, large_only(way))
    action = replace_answer(headers={"etag": None}, body=ERROR if lie == "error" else b"")
    case.target.add(Fault(match=on(Operation.PART, part=1), action=action))
    case.finish_moved()
    assert case.target.count(Operation.PART) == 3


@to_s3
def test_a_wrong_etag_of_a_part_never_makes_an_object(new_case, way):
    case = new_case(way, large_only(way))
    wrong = replace_answer(headers={"etag": '"' + "0" * 32 + '"'})
    case.target.add(Fault(match=on(Operation.PART, part=1), action=wrong))
    case.finish_moved()
    assert case.target.count(Operation.CREATE) == 2
    assert case.target.count(Operation.PART) == 4
    assert case.target.count(Operation.ABORT) == 1


@both_ways
def test_parts_that_the_target_lost_are_sent_in_another_upload(new_case, way):
    case = new_case(way, large_only(way))
    code = "InvalidPart" if way == "azure-s3" else "InvalidBlockList"
    case.target.add(Fault(match=on(Operation.COMPLETE), action=refuse(400, code)))
    case.finish_moved()
    assert case.target.count(Operation.PART) == 4


@both_ways
@pytest.mark.parametrize("end", ["source", "target"])
def test_a_redirect_is_refused_and_nobody_else_is_spoken_to(new_case, way, end):
    case = new_case(way)
    with run_fault_proxy(case.job.source.endpoint) as elsewhere:
        sent_away = redirect(f"{elsewhere.endpoint}/stolen")
        getattr(case, end).add(Fault(match=on(), action=sent_away, times=None))
        result = case.run()
        assert (result.how, result.cause) == (LeaseEnd.FATAL, "configuration")
        assert elsewhere.log == []
    assert case.job.target.keys() == []


# -- damaged bytes ---------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("key", ["small", "large"])
def test_a_bit_flipped_on_the_way_to_the_target_is_refused_and_sent_anew(new_case, way, key):
    case = new_case(way)
    writes = on(Operation.PUT, Operation.PART, name=f"/to/{key}")
    case.target.add(Fault(match=writes, action=flip_request()))
    case.finish_moved()
    assert case.retries("digest_refused") == 1
    reads = {"small": 1, "large": 2}
    assert case.source.count(Operation.READ, name=f"/{key}") == reads[key] + 1


@both_ways
def test_bytes_that_never_arrive_intact_fail_their_object_alone(new_case, way):
    case = new_case(way, large_only(way) | {"small": SMALL, "sound": SMALL}, resend_limit=2)
    for key in ("small", "large"):
        writes = on(Operation.PUT, Operation.PART, name=f"/to/{key}")
        case.target.add(Fault(match=writes, action=flip_request(), times=None))
    receipts = case.finish()
    assert {key: (r.outcome, r.cause, r.level) for key, r in receipts.items()} == {
        "large": (Outcome.FAILED, "digest_refused", None),
        "small": (Outcome.FAILED, "digest_refused", None),
        "sound": (Outcome.TRANSFERRED, None, Level.INGESTED),
    }
    assert case.target.count(Operation.PUT, name="/to/small") == 3


@pytest.mark.parametrize("way", ["s3-s3", "s3-azure"])
@pytest.mark.parametrize("key", ["small", "large"])
def test_a_bit_flipped_on_the_way_from_a_source_that_states_crc64_is_repaired(new_case, way, key):
    case = new_case(way, states_crc=True)
    case.source.add(Fault(match=on(Operation.READ, name=f"/from/{key}"), action=flip_answer()))
    receipts = case.finish_moved()
    assert case.source.taken("flip answer") == 1
    expected = Level.CHAINED if way == "s3-s3" else Level.INGESTED
    assert {receipt.level for receipt in receipts.values()} == {expected}
    if way == "s3-azure":
        assert receipts[key].level_reason == "the target states no full-object CRC64NVME"


@both_ways
@pytest.mark.parametrize("key", ["small", "large"])
def test_a_bit_flipped_on_the_way_from_a_source_that_states_none_is_not_vouched_for(
    new_case, way, key
):
    """Nobody can notice: so the receipt may not say that what the source served was stored."""
    case = new_case(way)
    case.source.add(Fault(match=on(Operation.READ, name=f"/from/{key}"), action=flip_answer()))
    receipts = case.job.receipts(case.run())
    arrived, held = case.job.target_bytes(key), case.job.source_bytes(key)
    assert (int.from_bytes(arrived) ^ int.from_bytes(held)).bit_count() == 1
    assert receipts[key].outcome is Outcome.TRANSFERRED
    assert receipts[key].level is Level.INGESTED
    assert receipts[key].level_reason == "the source states no CRC64"


@s3_to_s3
def test_a_target_that_states_another_checksum_is_not_believed(new_case, way):
    case = new_case(way, {"small": SMALL})
    wrong = {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}
    stated = on(Operation.PUT, Operation.HEAD)
    case.target.add(Fault(match=stated, action=replace_answer(headers=wrong), times=None))
    receipts = case.job.receipts(case.run())
    assert receipts["small"].outcome is Outcome.FAILED
    assert receipts["small"].level is None


# -- parts larger than a buffer --------------------------------------------------------------------


def streamed_case(new_case, way: str) -> Case:
    """One object whose first part is streamed from four ranges or more."""
    return new_case(way, large_only(way), range_bytes=256 << 10)


@both_ways
def test_a_streamed_part_survives_what_happens_at_both_ends(new_case, way):
    case = streamed_case(new_case, way)
    case.source.add(
        Fault(match=on(Operation.READ), action=cut_answer(0.5), skip=1),
        Fault(match=on(Operation.READ), action=THROTTLES["503"], skip=2, times=2),
    )
    case.target.add(
        Fault(match=on(Operation.PART), action=reset_in_body(300_000)),
        Fault(match=on(Operation.PART), action=lose_answer()),
    )
    case.finish_moved(exact=False)
    assert case.target.taken("reset in body") == case.target.taken("lose answer") == 1


@both_ways
def test_a_bit_flipped_in_a_streamed_part_shows_in_what_the_target_states(new_case, way):
    case = streamed_case(new_case, way)
    case.target.add(Fault(match=on(Operation.PART), action=flip_request()))
    receipts = case.finish_moved(streams=1)
    assert case.retries("digest_refused") == 1
    assert case.target.count(Operation.PART) == 3
    assert receipts["large"].level is Level.INGESTED


def test_a_streamed_part_that_nobody_checks_is_not_vouched_for(new_case):
    """It goes out without a checksum; here, the target states none either."""
    case = new_case("s3-azure", {"large": 2 << 20}, range_bytes=256 << 10)
    case.job.route.target.checksum = Checksum.CRC64NVME
    silent = replace_answer(headers={"x-ms-content-crc64": None})
    case.target.add(
        Fault(match=on(Operation.PART), action=replace(flip_request(), edit=silent.edit)),
        Fault(match=on(Operation.PART), action=silent, times=None),
    )
    receipts = case.job.receipts(case.run())
    assert case.job.target_bytes("large") != case.job.source_bytes("large")
    assert receipts["large"].outcome is Outcome.TRANSFERRED
    assert receipts["large"].level is Level.COUNTED


# -- others at work --------------------------------------------------------------------------------


@both_ways
def test_a_source_overwritten_between_two_parts_leaves_nothing_at_the_target(new_case, way):
    case = new_case(way)
    for key, skip in (("large", 1), ("small", 0)):
        other = b"x" * case.job.sizes[key]
        overwrite = meanwhile(
            lambda key=key, other=other: case.job.source.put(f"from/{key}", other)
        )
        reads = on(Operation.READ, name=f"/from/{key}")
        case.source.add(Fault(match=reads, action=overwrite, skip=skip))
    receipts = case.finish(streams=1)
    assert {receipt.outcome for receipt in receipts.values()} == {Outcome.SOURCE_CHANGED}
    assert case.target.count(Operation.PART) == 1
    assert case.job.target.keys() == []


@both_ways
def test_a_source_deleted_in_the_middle_leaves_nothing_at_the_target(new_case, way):
    case = new_case(way)
    for key, skip in (("large", 1), ("small", 0)):
        delete = meanwhile(lambda key=key: case.job.source.delete(f"from/{key}"))
        reads = on(Operation.READ, name=f"/from/{key}")
        case.source.add(Fault(match=reads, action=delete, skip=skip))
    receipts = case.finish(streams=1)
    # HTTP lets a store answer 412 to an If-Match on nothing (RFC 9110, 13.1.1), as Azurite does.
    gone = Outcome.SOURCE_MISSING if way == "s3-azure" else Outcome.SOURCE_CHANGED
    assert {receipt.outcome for receipt in receipts.values()} == {gone}
    assert case.target.count(Operation.PART) == 1
    assert case.job.target.keys() == []


@both_ways
def test_an_archived_object_is_tried_once(new_case, way):
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
def test_another_writer_who_comes_first_is_not_overwritten(new_case, way):
    case = new_case(way)
    for key, operation in (("small", Operation.PUT), ("large", Operation.COMPLETE)):
        put = meanwhile(lambda key=key: case.job.target.put(f"to/{key}", b"another's"))
        case.target.add(Fault(match=on(operation), action=put))
    receipts = case.finish()
    assert {key: (r.outcome, r.cause) for key, r in receipts.items()} == {
        "large": (Outcome.FAILED, "target_conflict"),
        "small": (Outcome.FAILED, "target_conflict"),
    }
    assert case.job.target_bytes("small") == case.job.target_bytes("large") == b"another's"


@to_s3
def test_an_upload_dropped_before_its_completion_is_opened_anew(new_case, way):
    case = new_case(way, large_only(way))
    drop = meanwhile(case.job.target.drop_uploads)
    case.target.add(Fault(match=on(Operation.COMPLETE), action=drop))
    case.finish_moved()
    assert case.target.count(Operation.PART) == 4


@to_s3
def test_an_upload_dropped_between_two_parts_is_opened_anew(new_case, way):
    case = new_case(way, large_only(way))
    drop = meanwhile(case.job.target.drop_uploads)
    case.target.add(Fault(match=on(Operation.PART, part=2), action=drop))
    case.finish_moved(streams=1)
    assert case.target.count(Operation.CREATE) == 2


@both_ways
def test_conflicts_side_by_side_do_not_wait_for_each_others_buffers(new_case, way):
    case = new_case(way, {"a": SMALL, "b": SMALL})
    case.job.route = replace(case.job.route, buffers=BufferPool(2 * MIN_BUFFER_BYTES))
    together = threading.Barrier(2, timeout=10)
    for key in ("a", "b"):
        case.job.target.put(f"to/{key}", b"y" * SMALL)
    both_there = meanwhile(lambda: together.wait() and None)
    case.target.add(Fault(match=on(Operation.PUT), action=both_there, times=2))
    receipts = case.finish()
    assert {receipt.cause for receipt in receipts.values()} == {"target_conflict"}


@both_ways
def test_a_lease_that_is_handed_back_does_not_wait_out_a_storm(new_case, way):
    case = new_case(way, retry_seconds=600)
    slow = refuse(503, "SlowDown", retry_after_seconds=600)
    case.target.add(Fault(match=on(), action=slow, times=None))
    with ThreadPoolExecutor(STREAMS) as streams, ThreadPoolExecutor(1) as leases:
        run = case.job.start(case.job.lease(), streams)
        result = leases.submit(run.run)
        while case.counting.total("throttles", "target") == 0:
            assert not result.done()
        run.flight.stop()
        assert result.result(10).how is LeaseEnd.RETURNED


@both_ways
@pytest.mark.parametrize("end", ["source", "target"])
def test_revoked_credentials_stop_the_lease_with_few_errors(new_case, way, end):
    case = new_case(way, large_only(way) | {f"k{n:02}": SMALL for n in range(30)})
    operations = (Operation.READ,) if end == "source" else (Operation.PUT, Operation.PART)
    denied = Fault(match=on(*operations), action=refuse(403, "AccessDenied"), skip=4, times=None)
    proxy = getattr(case, end)
    proxy.add(denied)
    result = case.run()
    assert (result.how, result.cause) == (LeaseEnd.FATAL, "access_denied")
    assert result.message
    assert 1 <= proxy.taken("answer 403") <= STREAMS
    proxy.clear()
    case.finish_moved(exact=False)


# -- a lease after another -------------------------------------------------------------------------


@both_ways
def test_an_object_that_landed_before_its_lease_died_is_found_and_not_sent_again(new_case, way):
    """The lease dies between Complete and the receipt."""
    case = new_case(way, large_only(way))
    looks = on(Operation.HEAD)
    case.target.add(
        Fault(match=on(Operation.COMPLETE), action=lose_answer()),
        Fault(match=looks, action=refuse(403, "AccessDenied"), times=None),
    )
    assert case.run().how is LeaseEnd.FATAL
    assert case.job.target.keys() == ["to/large"]
    case.target.clear()
    sent = case.job.sent()
    case.finish_moved()
    assert case.job.sent() == sent


@both_ways
def test_an_object_of_an_attempt_that_left_no_journal_is_known_as_ours(new_case, way):
    """A receipt names the transfer that wrote the object, and the second upload is dropped."""
    case = new_case(way)
    case.target.add(
        Fault(match=on(*WRITES), action=lose_answer(), times=2),
        Fault(match=on(Operation.HEAD), action=refuse(403, "AccessDenied"), times=None),
    )
    for row in range(2):
        lease = case.job.lease(first=row, end=row + 1)
        assert case.job.run(lease).how is LeaseEnd.FATAL
    assert sorted(case.job.target.keys()) == ["to/large", "to/small"]
    shutil.rmtree(case.job.directory.path("journal"))
    case.target.clear()
    receipts = case.finish_moved()
    attempts = {key: receipt.txid.rpartition(".")[2] for key, receipt in receipts.items()}
    assert attempts == {"large": "101", "small": "102"}


@to_s3
def test_an_upload_that_cannot_be_opened_anew_fails_its_object_alone(new_case, way):
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
def test_two_attempts_at_the_same_time_write_each_object_once(new_case, way):
    """The first one's worker was thought dead, and was not."""
    case = new_case(way, large_only(way) | {f"k{n}": SMALL for n in range(6)})
    with ThreadPoolExecutor(2) as leases:
        results = list(leases.map(case.job.run, [case.job.lease(), case.job.lease()]))
    for result in results:
        assert result.how is LeaseEnd.FINISHED, (result.cause, result.message)
    receipts = case.job.receipts(results[1])
    assert {receipt.outcome for receipt in receipts.values()} == {Outcome.TRANSFERRED}
    case.check_landed(receipts)
    assert case.job.target.open_uploads() == []


def huge_case(new_case, **options) -> Case:
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


def test_a_huge_object_survives_throttling_and_a_lost_commit(new_case):
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


def test_a_huge_source_overwritten_between_two_segments_is_reported_once(new_case):
    case = huge_case(new_case)
    run_parts(case, 0, 2)
    case.job.source.put("from/huge", b"x" * case.job.sizes["huge"])
    run_parts(case, 2, 3)
    assert assemble(case).outcome is Outcome.SOURCE_CHANGED
    assert case.job.target.keys() == []


def test_a_huge_source_overwritten_between_two_parts_is_reported_once(new_case):
    case = huge_case(new_case)
    overwrite = meanwhile(lambda: case.job.source.put("from/huge", b"x" * case.job.sizes["huge"]))
    case.source.add(Fault(match=on(Operation.READ), action=overwrite, skip=1))
    run_parts(case, 0, 2)
    run_parts(case, 2, 3)
    assert assemble(case).outcome is Outcome.SOURCE_CHANGED
    assert case.job.target.keys() == []
