"""One lease at work while connections break, stores throttle and answers lie; real stores."""

from __future__ import annotations

import time

import pytest

from noria.manifests.counters import Counter
from noria.manifests.model import LeaseEnd, Outcome
from tests.support.fault_proxy.proxy import run_fault_proxy
from tests.support.fault_proxy.rules import (
    Action,
    Fault,
    Operation,
    cut_answer,
    error_document,
    ignore_range,
    lose_answer,
    on,
    redirect,
    refuse,
    replace_answer,
    reset,
    reset_in_body,
    response,
    shift_range,
    stall,
)
from tests.support.faulty import (
    SMALL,
    THROTTLES,
    WRITES,
    NewCase,
    both_ways,
    large_only,
    to_s3,
)

# -- storms ----------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("status", THROTTLES)
def test_a_storm_of_throttling_on_reads_passes(new_case: NewCase, way: str, status: str) -> None:
    case = new_case(way, {"large": 3 << 20} | {f"k{n}": SMALL for n in range(12)})
    reads = on(Operation.READ, Operation.HEAD)
    case.source.add(Fault(match=reads, action=THROTTLES[status], times=30))
    case.finish_moved()
    assert case.source.taken(f"answer {status}") == 30
    assert case.counters.total(Counter.THROTTLES, "source") == 30
    assert case.retries("throttled") == 30
    assert case.counters.total(Counter.THROTTLES, "target") == 0
    assert case.lowest_limit(case.job.context.source.pacer) < 8


@both_ways
@pytest.mark.parametrize("status", THROTTLES)
def test_a_storm_of_throttling_on_writes_passes(new_case: NewCase, way: str, status: str) -> None:
    sizes = large_only(way) | {f"k{n}": SMALL for n in range(12)}
    case = new_case(way, sizes)
    case.target.add(Fault(match=on(), action=THROTTLES[status], times=30))
    case.finish_moved(exact=False)  # large bodies are refused before they are sent
    assert case.target.taken(f"answer {status}") == 30
    assert case.counters.total(Counter.THROTTLES, "target") == 30
    assert case.retries("throttled") == 30
    assert case.lowest_limit(case.job.context.target.pacer) < 8


@both_ways
def test_a_refused_body_counts_each_time_it_is_sent(new_case: NewCase, way: str) -> None:
    case = new_case(way, {f"k{n}": SMALL for n in range(4)})
    case.target.add(Fault(match=on(Operation.PUT), action=THROTTLES["503"], times=6))
    receipts = case.finish_moved()
    assert case.target.written_bytes() == 10 * SMALL
    assert sum(receipt.bytes_moved for receipt in receipts.values()) == 10 * SMALL


@both_ways
@pytest.mark.parametrize("end", ["source", "target"])
def test_what_retry_after_asks_for_is_waited(new_case: NewCase, way: str, end: str) -> None:
    case = new_case(way, {"small": SMALL})
    operation = Operation.READ if end == "source" else Operation.PUT
    asked = refuse(503, "SlowDown", retry_after_seconds=1)
    getattr(case, end).add(Fault(match=on(operation), action=asked))
    started = time.monotonic()
    case.finish_moved()
    assert time.monotonic() - started >= 1


@both_ways
def test_a_storm_of_errors_on_reads_and_writes_passes(new_case: NewCase, way: str) -> None:
    """500 says nothing of what became of a write: the target is looked at each time."""
    case = new_case(way, large_only(way) | {"k1": SMALL, "k2": SMALL})
    error = refuse(500, "InternalError")
    case.source.add(Fault(match=on(), action=error, times=20))
    case.target.add(Fault(match=on(*WRITES, Operation.PART), action=error, times=30))
    case.finish_moved(exact=False)
    assert case.target.taken("answer 500") == 30
    assert case.retries("unavailable") >= 20


@both_ways
def test_an_outage_that_outlasts_the_budget_fails_the_object_alone(
    new_case: NewCase, way: str
) -> None:
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
def test_a_reset_while_a_body_is_sent_stores_nothing_twice(
    new_case: NewCase, way: str, action: Action
) -> None:
    case = new_case(way)
    case.target.add(
        Fault(match=on(Operation.PUT), action=action),
        Fault(match=on(Operation.PART), action=action, times=2),
    )
    case.finish_moved(exact=False)
    assert case.target.taken(action.name) == 3


@both_ways
@pytest.mark.parametrize("operation", [Operation.PUT, Operation.PART, Operation.COMPLETE])
def test_a_lost_answer_is_settled_by_looking(
    new_case: NewCase, way: str, operation: Operation
) -> None:
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
def test_a_lost_answer_to_the_opening_leaves_an_upload_that_a_list_finds(
    new_case: NewCase, way: str
) -> None:
    case = new_case(way, large_only(way))
    case.target.add(Fault(match=on(Operation.CREATE), action=lose_answer()))
    receipts = case.job.receipts(case.run())
    case.check_landed(receipts)
    assert receipts["large"].outcome is Outcome.TRANSFERRED
    assert case.job.target.open_uploads() == ["to/large"]
    assert [upload.key for upload in case.job.context.target.list_uploads("to/")] == ["to/large"]


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
def test_a_body_of_another_length_is_read_again(
    new_case: NewCase, way: str, action: Action
) -> None:
    case = new_case(way)
    case.source.add(Fault(match=on(Operation.READ, name="/small"), action=action))
    case.source.add(Fault(match=on(Operation.READ, name="/large"), action=action, times=2))
    case.finish_moved()
    assert case.source.taken(action.name) == 3
    assert case.retries("short_body") + case.retries("unavailable") == 3


@both_ways
@pytest.mark.parametrize("action", [ignore_range(), shift_range()], ids=lambda a: a.name)
def test_a_range_that_is_not_the_one_asked_for_is_refused(
    new_case: NewCase, way: str, action: Action
) -> None:
    case = new_case(way, large_only(way))
    case.source.add(Fault(match=on(Operation.READ), action=action, times=3))
    case.finish_moved()
    assert case.source.taken(action.name) == 3
    assert case.retries("short_body") == 3


@both_ways
def test_a_stalled_body_is_given_up_and_read_again(new_case: NewCase, way: str) -> None:
    case = new_case(way, idle_seconds=1.0)
    case.source.add(Fault(match=on(Operation.READ), action=stall(600, at="body"), times=2))
    case.finish_moved()
    assert case.retries("unavailable") >= 2


@both_ways
def test_a_commit_may_take_its_time(new_case: NewCase, way: str) -> None:
    case = new_case(way, large_only(way), idle_seconds=1.0)
    case.target.add(Fault(match=on(Operation.COMPLETE), action=stall(2.0)))
    case.finish_moved()
    assert case.target.count(Operation.COMPLETE) == 1


# -- answers that lie ------------------------------------------------------------------------------

ERROR = error_document("InternalError")
LIES = {
    "error-not-done": response(200, body=ERROR),
    "empty-not-done": response(200),
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
def test_a_write_is_done_when_the_target_shows_it(
    new_case: NewCase, way: str, operation: Operation, lie: str
) -> None:
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
def test_white_space_before_the_result_of_complete_is_none_of_our_business(
    new_case: NewCase, way: str
) -> None:
    case = new_case(way, large_only(way))
    spaced = replace_answer(body=lambda said: b" \n \n" + said)
    case.target.add(Fault(match=on(Operation.COMPLETE), action=spaced))
    case.finish_moved()
    assert case.target.count(Operation.COMPLETE) == 1
    assert case.retries("outcome_unknown") == 0


@to_s3
@pytest.mark.parametrize("lie", ["error", "no-etag"])
def test_a_part_whose_answer_says_nothing_is_sent_again(
    new_case: NewCase, way: str, lie: str
) -> None:
    case = new_case(way, large_only(way))
    action = replace_answer(headers={"etag": None}, body=ERROR if lie == "error" else b"")
    case.target.add(Fault(match=on(Operation.PART, part=1), action=action))
    case.finish_moved()
    assert case.target.count(Operation.PART) == 3


@to_s3
def test_a_wrong_etag_of_a_part_never_makes_an_object(new_case: NewCase, way: str) -> None:
    case = new_case(way, large_only(way))
    wrong = replace_answer(headers={"etag": '"' + "0" * 32 + '"'})
    case.target.add(Fault(match=on(Operation.PART, part=1), action=wrong))
    case.finish_moved()
    assert case.target.count(Operation.CREATE) == 2
    assert case.target.count(Operation.PART) == 4
    assert case.target.count(Operation.ABORT) == 1


GONE = {
    "azure-s3": [(400, "InvalidPart"), (404, "NoSuchUpload"), (404, "NoSuchKey")],
    "s3-azure": [(400, "InvalidBlockList"), (404, "BlobNotFound")],
}


@pytest.mark.parametrize(
    ("way", "status", "code"), [(way, *said) for way, list_ in GONE.items() for said in list_]
)
def test_parts_that_the_target_lost_are_sent_in_another_upload(
    new_case: NewCase, way: str, status: int, code: str
) -> None:
    case = new_case(way, large_only(way))
    case.target.add(Fault(match=on(Operation.COMPLETE), action=refuse(status, code)))
    case.finish_moved()
    assert case.target.count(Operation.PART) == 4


@both_ways
@pytest.mark.parametrize("end", ["source", "target"])
def test_a_redirect_is_refused_and_nobody_else_is_spoken_to(
    new_case: NewCase, way: str, end: str
) -> None:
    case = new_case(way)
    with run_fault_proxy(case.job.source.endpoint) as elsewhere:
        sent_away = redirect(f"{elsewhere.endpoint}/stolen")
        getattr(case, end).add(Fault(match=on(), action=sent_away, times=None))
        result = case.run()
        assert (result.how, result.cause) == (LeaseEnd.FATAL, "configuration")
        assert elsewhere.log == []
    assert case.job.target.listed() == []
