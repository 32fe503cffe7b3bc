"""One lease at work while bits flip on their way; real stores at both ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from manifests.model import Level, Outcome
from tests.faults.rules import (
    Fault,
    Operation,
    cut_answer,
    flip_answer,
    flip_request,
    lose_answer,
    on,
    replace_answer,
    reset_in_body,
)
from tests.scenarios.faulty import (
    SMALL,
    THROTTLES,
    Case,
    both_ways,
    large_only,
    to_s3,
)
from workers.store import Checksum

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


def test_a_target_that_states_another_checksum_is_not_believed(new_case):
    case = new_case("s3-s3", {"small": SMALL})
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


@to_s3
def test_a_bit_flipped_in_a_streamed_part_belies_its_trailer(new_case, way):
    case = streamed_case(new_case, way)
    case.job.route.target.trailers = True
    case.target.add(Fault(match=on(Operation.PART, part=1), action=flip_request(3_000_000)))
    receipts = case.finish_moved(exact=False)  # frames and trailers count on the wire
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
