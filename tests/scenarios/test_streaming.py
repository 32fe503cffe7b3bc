"""Parts that are sent while they are read: what breaks in the middle is sent again."""

from __future__ import annotations

import pytest

from manifests.model import Level, Part
from tests.faults.azure_message_shim import as_message, asking, damaged
from tests.faults.rules import (
    Fault,
    Operation,
    cut_answer,
    flip_answer,
    flip_request,
    lose_answer,
    on,
    refuse,
    reset_in_body,
    stall,
)
from tests.lease_jobs import MIB
from tests.scenarios.faulty import Case, large_only
from workers.part import STREAM_BYTES, WINDOW_BYTES, is_streamed
from workers.store import Checksum

READ = on(Operation.READ)
FIRST_PART = on(Operation.PART, part=1)


@pytest.fixture
def case(new_case):
    return streamed_case(new_case)


def streamed_case(new_case, **options: float) -> Case:
    """One object whose first part is streamed, from two ranges; the first is four windows long."""
    case = new_case("azure-s3", large_only("azure-s3"), range_bytes=4 * MIB, **options)
    case.job.route.target.trailers = True
    return case


def finish(case: Case, level: Level = Level.INGESTED) -> None:
    """Frames and trailers count on the wire, so the bytes are not compared to the last."""
    receipts = case.finish_moved(streams=1, exact=False)
    assert receipts["large"].level is level


def test_nothing_is_asked_or_sent_twice_where_nothing_fails(case):
    finish(case)
    assert case.source.count(Operation.READ) == 3
    assert case.target.count(Operation.PART) == 2
    assert case.counting.total("bytes_written") == case.job.sizes["large"]
    assert case.counting.total("bytes_read") == case.job.sizes["large"]


@pytest.mark.parametrize("action", [cut_answer(0.6), stall(120, at="body")], ids=["cut", "stall"])
def test_a_source_that_fails_in_the_middle_costs_one_part(new_case, action):
    case = streamed_case(new_case, idle_seconds=3.0)
    case.source.add(Fault(match=READ, action=action))
    finish(case)
    assert case.source.taken(action.name) == 1
    assert case.target.count(Operation.PART) >= 3
    assert case.retries("unavailable") + case.retries("short_body") >= 1


def test_a_source_that_refuses_at_first_costs_no_part(case):
    case.source.add(Fault(match=READ, action=refuse(503, "ServerBusy"), times=3))
    finish(case)
    assert case.target.count(Operation.PART) == 2
    assert case.retries("throttled") == 3


@pytest.mark.parametrize("action", [reset_in_body(2_500_000), lose_answer()], ids=["reset", "lost"])
def test_a_target_that_fails_is_no_fault_of_the_source(case, action):
    case.target.add(Fault(match=FIRST_PART, action=action))
    finish(case)
    assert case.target.count(Operation.PART) == 3
    assert case.counting.total("throttles", "source") == 0
    assert case.source.count(Operation.READ) <= 5


@pytest.mark.parametrize("place", [2, 3_000_000], ids=["in a frame's length", "in the bytes"])
def test_a_bit_flipped_on_the_way_out_belies_the_trailer(case, place):
    case.target.add(Fault(match=FIRST_PART, action=flip_request(place)))
    finish(case)
    assert case.retries("digest_refused") + case.retries("unavailable") >= 1
    assert case.target.count(Operation.PART) >= 3


@pytest.mark.parametrize("place", [100_000, 3_500_000])
def test_a_bit_flipped_on_the_way_in_ends_the_part_before_its_last_byte(case, place):
    """The source states the CRC64 of four MiB, most of which have gone out by then."""
    flip = damaged(as_message(), flip_answer(place))
    case.source.add(
        Fault(match=asking(), action=flip), Fault(match=asking(), action=as_message(), times=None)
    )
    finish(case, Level.CHAINED)
    assert case.retries("digest_refused") == 1
    sent = [exchange for exchange in case.target.seen(Operation.PART) if exchange.happened]
    assert len(sent) == 2, "the damaged one was never whole"


def test_a_large_part_is_streamed_where_its_checksum_can_follow_it(new_case):
    route = new_case("azure-s3", range_bytes=64 * MIB).job.route
    large = Part(number=1, offset=0, size=STREAM_BYTES)
    found = {}
    for checksum in Checksum:
        for trailers in (False, True):
            route.target.checksum, route.target.trailers = checksum, trailers
            found[checksum, trailers] = is_streamed(route, large)
    assert WINDOW_BYTES < STREAM_BYTES
    assert [key for key, streamed in found.items() if not streamed] == [
        (Checksum.CRC64NVME, False),
        (Checksum.MD5, False),
        (Checksum.MD5, True),
    ]
    small = Part(number=1, offset=0, size=STREAM_BYTES - 1)
    longest = Part(number=1, offset=0, size=route.options.range_bytes + 1)
    route.target.checksum, route.target.trailers = Checksum.CRC64NVME, True
    assert not is_streamed(route, small)
    route.target.trailers = False
    assert is_streamed(route, longest), "no buffer holds it"
