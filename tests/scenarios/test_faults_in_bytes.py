"""One lease at work while bits flip on their way; real stores at both ends."""

from __future__ import annotations

import pytest

from noria.manifests.model import Level, Outcome
from tests.support.fault_proxy.rules import (
    Fault,
    Operation,
    flip_answer,
    flip_request,
    on,
    replace_answer,
)
from tests.support.faulty import (
    SMALL,
    NewCase,
    both_ways,
    large_only,
)

# -- damaged bytes ---------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("key", ["small", "large"])
def test_a_bit_flipped_on_the_way_to_the_target_is_refused_and_sent_anew(
    new_case: NewCase, way: str, key: str
) -> None:
    case = new_case(way)
    writes = on(Operation.PUT, Operation.PART, name=f"/to/{key}")
    case.target.add(Fault(match=writes, action=flip_request()))
    case.finish_moved()
    assert case.retries("digest_refused") == 1
    reads = {"small": 1, "large": 2}
    assert case.source.count(Operation.READ, name=f"/{key}") == reads[key] + 1


@both_ways
def test_bytes_that_never_arrive_intact_fail_their_object_alone(
    new_case: NewCase, way: str
) -> None:
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
def test_a_bit_flipped_on_the_way_from_a_source_that_states_crc64_is_repaired(
    new_case: NewCase, way: str, key: str
) -> None:
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
    new_case: NewCase, way: str, key: str
) -> None:
    """Nobody may notice: so the receipt may not say that what the source served was stored.

    Azure states the MD5 of what was written in one request, and that is found.
    """
    flipped_bits = 0 if (way, key) == ("azure-s3", "small") else 1
    case = new_case(way)
    case.source.add(Fault(match=on(Operation.READ, name=f"/from/{key}"), action=flip_answer()))
    receipts = case.job.receipts(case.run())
    arrived, held = case.job.target_bytes(key), case.job.source_bytes(key)
    assert (int.from_bytes(arrived) ^ int.from_bytes(held)).bit_count() == flipped_bits
    assert receipts[key].outcome is Outcome.TRANSFERRED
    assert receipts[key].level is Level.INGESTED
    assert receipts[key].level_reason == "the source states no CRC64"


def test_a_target_that_states_another_checksum_is_not_believed(new_case: NewCase) -> None:
    case = new_case("s3-s3", {"small": SMALL})
    wrong = {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}
    stated = on(Operation.PUT, Operation.HEAD)
    case.target.add(Fault(match=stated, action=replace_answer(headers=wrong), times=None))
    receipts = case.job.receipts(case.run())
    assert receipts["small"].outcome is Outcome.FAILED
    assert receipts["small"].level is None
