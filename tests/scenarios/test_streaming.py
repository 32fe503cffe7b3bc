"""Parts that are sent while they are read: what breaks in the middle is sent again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from noria.manifests.counters import Counter
from noria.manifests.model import Level, Outcome, Part
from noria.workers.part import STREAM_BYTES, WINDOW_BYTES, is_streamed
from noria.workers.stores.protocol import Checksum
from tests.support.fault_proxy.azure_message_shim import as_message, asking, damaged
from tests.support.fault_proxy.rules import (
    Action,
    Fault,
    Operation,
    cut_answer,
    flip_answer,
    flip_request,
    lose_answer,
    on,
    refuse,
    replace_answer,
    reset_in_body,
    stall,
)
from tests.support.faulty import THROTTLES, Case, NewCase, both_ways, large_only, to_s3
from tests.support.lease_jobs import MIB

READ = on(Operation.READ)
FIRST_PART = on(Operation.PART, part=1)


def streamed_case(new_case: NewCase, way: str, *, range_bytes: int, **options: float) -> Case:
    """One object whose first part is streamed, from several ranges."""
    return new_case(way, large_only(way), range_bytes=range_bytes, **options)


def trailed_case(new_case: NewCase, **options: float) -> Case:
    """The same from two ranges, the first four windows long; its checksum follows the part."""
    case = streamed_case(new_case, "azure-s3", range_bytes=4 * MIB, **options)
    case.job.set_capabilities(checksum_in_trailer=True)
    return case


@pytest.fixture
def case(new_case: NewCase) -> Case:
    return trailed_case(new_case)


def finish(case: Case, level: Level = Level.INGESTED) -> None:
    """Frames and trailers count on the wire, so the bytes are not compared to the last."""
    receipts = case.finish_moved(streams=1, exact=False)
    assert receipts["large"].level is level


def test_nothing_is_asked_or_sent_twice_where_nothing_fails(case: Case) -> None:
    finish(case)
    assert case.source.count(Operation.READ) == 3
    assert case.target.count(Operation.PART) == 2
    assert case.counters.total(Counter.BYTES_WRITTEN) == case.job.sizes["large"]
    assert case.counters.total(Counter.BYTES_READ) == case.job.sizes["large"]


@pytest.mark.parametrize("action", [cut_answer(0.6), stall(120, at="body")], ids=["cut", "stall"])
def test_a_source_that_fails_in_the_middle_costs_one_part(
    new_case: NewCase, action: Action
) -> None:
    case = trailed_case(new_case, idle_seconds=3.0)
    case.source.add(Fault(match=READ, action=action))
    finish(case)
    assert case.source.taken(action.name) == 1
    assert case.target.count(Operation.PART) >= 3
    assert case.retries("unavailable") + case.retries("short_body") >= 1


def test_a_source_that_refuses_at_first_costs_no_part(case: Case) -> None:
    case.source.add(Fault(match=READ, action=refuse(503, "ServerBusy"), times=3))
    finish(case)
    assert case.target.count(Operation.PART) == 2
    assert case.retries("throttled") == 3


@pytest.mark.parametrize("action", [reset_in_body(2_500_000), lose_answer()], ids=["reset", "lost"])
def test_a_target_that_fails_is_no_fault_of_the_source(case: Case, action: Action) -> None:
    case.target.add(Fault(match=FIRST_PART, action=action))
    finish(case)
    assert case.target.count(Operation.PART) == 3
    assert case.counters.total(Counter.THROTTLES, "source") == 0
    assert case.source.count(Operation.READ) <= 5


def test_a_bit_flipped_in_the_length_of_a_frame_costs_one_part(case: Case) -> None:
    case.target.add(Fault(match=FIRST_PART, action=flip_request(2)))
    finish(case)
    assert case.retries("digest_refused") + case.retries("unavailable") >= 1
    assert case.target.count(Operation.PART) >= 3


@pytest.mark.parametrize("place", [100_000, 3_500_000])
def test_a_bit_flipped_on_the_way_in_ends_the_part_before_its_last_byte(
    case: Case, place: int
) -> None:
    """The source states the CRC64 of four MiB, most of which have gone out by then."""
    flip = damaged(as_message(), flip_answer(place))
    case.source.add(
        Fault(match=asking(), action=flip), Fault(match=asking(), action=as_message(), times=None)
    )
    finish(case, Level.CHAINED)
    assert case.retries("digest_refused") == 1
    sent = [exchange for exchange in case.target.seen(Operation.PART) if exchange.happened]
    assert len(sent) == 2, "the damaged one was never whole"


def test_a_large_part_is_streamed_where_its_checksum_can_follow_it(new_case: NewCase) -> None:
    job = new_case("azure-s3", range_bytes=64 * MIB).job
    large = Part(number=1, offset=0, size=STREAM_BYTES)
    found = {}
    for checksum in Checksum:
        for trailers in (False, True):
            job.set_capabilities(checksum=checksum, checksum_in_trailer=trailers)
            found[checksum, trailers] = is_streamed(job.context, large)
    assert WINDOW_BYTES < STREAM_BYTES
    assert [key for key, streamed in found.items() if not streamed] == [
        (Checksum.CRC64NVME, False),
        (Checksum.MD5, False),
        (Checksum.MD5, True),
    ]
    small = Part(number=1, offset=0, size=STREAM_BYTES - 1)
    longest = Part(number=1, offset=0, size=job.context.options.range_bytes + 1)
    job.set_capabilities(checksum=Checksum.CRC64NVME, checksum_in_trailer=True)
    assert not is_streamed(job.context, small)
    job.set_capabilities(checksum_in_trailer=False)
    assert is_streamed(job.context, longest), "no buffer holds it"


# -- ranges shorter than the window ----------------------------------------------------------------


@both_ways
def test_a_streamed_part_survives_what_happens_at_both_ends(new_case: NewCase, way: str) -> None:
    case = streamed_case(new_case, way, range_bytes=256 << 10)
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
def test_a_bit_flipped_in_a_streamed_part_shows_in_what_the_target_states(
    new_case: NewCase, way: str
) -> None:
    case = streamed_case(new_case, way, range_bytes=256 << 10)
    case.target.add(Fault(match=on(Operation.PART), action=flip_request()))
    receipts = case.finish_moved(streams=1)
    assert case.retries("digest_refused") == 1
    assert case.target.count(Operation.PART) == 3
    assert receipts["large"].level is Level.INGESTED


@to_s3
def test_a_bit_flipped_in_a_streamed_part_belies_its_trailer(new_case: NewCase, way: str) -> None:
    case = streamed_case(new_case, way, range_bytes=256 << 10)
    case.job.set_capabilities(checksum_in_trailer=True)
    case.target.add(Fault(match=FIRST_PART, action=flip_request(3_000_000)))
    receipts = case.finish_moved(exact=False)  # frames and trailers count on the wire
    assert case.retries("digest_refused") == 1
    assert case.target.count(Operation.PART) == 3
    assert receipts["large"].level is Level.INGESTED


def test_a_streamed_part_that_nobody_checks_is_not_vouched_for(new_case: NewCase) -> None:
    """It goes out without a checksum; here, the target states none either."""
    case = new_case("s3-azure", {"large": 2 << 20}, range_bytes=256 << 10)
    case.job.set_capabilities(checksum=Checksum.CRC64NVME)
    silent = replace_answer(headers={"x-ms-content-crc64": None})
    case.target.add(
        Fault(match=on(Operation.PART), action=replace(flip_request(), edit=silent.edit)),
        Fault(match=on(Operation.PART), action=silent, times=None),
    )
    receipts = case.job.receipts(case.run())
    assert case.job.target_bytes("large") != case.job.source_bytes("large")
    assert receipts["large"].outcome is Outcome.TRANSFERRED
    assert receipts["large"].level is Level.COUNTED
