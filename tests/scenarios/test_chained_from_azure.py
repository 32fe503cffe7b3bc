"""From Azure with its CRC64s: both ends agree on every byte, or the receipt says why not.

Azurite states none, so the proxy before it does (tests/support/fault_proxy/azure_message_shim.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from noria.benchmarks.servers import Azurite
from noria.manifests.job.seals import seal
from noria.manifests.model import LeaseEnd, LeaseKind, Level, Outcome, Receipt
from noria.workers.digest import crc64nvme
from tests.support.fault_proxy.azure_message_shim import (
    SEGMENT_BYTES,
    as_message,
    asking,
    damaged,
    stating_crc64,
)
from tests.support.fault_proxy.proxy import run_fault_proxy
from tests.support.fault_proxy.rules import (
    Action,
    Fault,
    Operation,
    ProxiedRequest,
    cut_answer,
    flip_answer,
    flip_request,
    on,
    refuse,
    replace_answer,
    shift_range,
)
from tests.support.faulty import SMALL, Case, NewCase, large_only
from tests.support.lease_jobs import MIB
from tests.support.moves import Move, plain

NO_CRC64 = "the source states no CRC64"
BOTH = {**large_only("azure-s3"), "small": SMALL}
A_LIE = 1 << 40
"""The bits in which a CRC64 is not the right one."""


@pytest.fixture
def new_azure_case(new_case: NewCase) -> NewCase:
    """As new_case("azure-s3", ...), and the source states CRC64s."""

    def make(sizes: dict[str, int] | None = None, **options: object) -> Case:
        case = new_case("azure-s3", sizes, **options)
        case.source.add(states_all())
        return case

    return make


def states_all() -> Fault:
    return Fault(match=asking(), action=as_message(), times=None)


def states_nothing(case: Case) -> None:
    case.source.clear()


def damage_first(case: Case, fault: Fault) -> None:
    """A fault in place of the messages, where it claims a request."""
    case.source.clear()
    case.source.add(fault, states_all())


def levels(receipts: dict[str, Receipt]) -> dict[str, tuple[Level | None, str | None]]:
    return {key: (receipt.level, receipt.level_reason) for key, receipt in receipts.items()}


def all_chained(receipts: dict[str, Receipt]) -> bool:
    return set(levels(receipts).values()) == {(Level.CHAINED, None)}


def test_small_and_multipart_objects_are_chained(new_azure_case: NewCase) -> None:
    case = new_azure_case({**BOTH, "empty": 0, "one": 1, "huge": 17 * MIB + 3})
    receipts = case.finish_moved()
    assert all_chained(receipts)
    reads = case.source.count(Operation.READ)
    assert case.source.taken("as message") == reads == 3 + 2 + 4
    for key, receipt in receipts.items():
        assert receipt.crc64nvme == crc64nvme(case.job.source_bytes(key))


def test_a_part_that_is_streamed_from_many_ranges_is_chained(new_azure_case: NewCase) -> None:
    case = new_azure_case(large_only("azure-s3"), range_bytes=256 << 10)
    assert all_chained(case.finish_moved())
    assert case.source.taken("as message") == 21


def test_a_source_that_ignores_the_request_is_ingested_for_a_reason(new_case: NewCase) -> None:
    case = new_case("azure-s3")
    receipts = case.finish_moved()
    assert case.source.count(Operation.READ) == 3
    assert all(asking()(exchange.request) for exchange in case.source.seen(Operation.READ))
    assert set(levels(receipts).values()) == {(Level.INGESTED, NO_CRC64)}


def test_one_range_of_which_nothing_is_stated_costs_the_object_its_level(
    new_azure_case: NewCase,
) -> None:
    case = new_azure_case(range_bytes=MIB)
    plain = Fault(match=asking("/large"), action=replace_answer(), skip=2)
    damage_first(case, plain)
    assert levels(case.finish_moved()) == {
        "large": (Level.INGESTED, "the source stated no CRC64 of some parts"),
        "small": (Level.CHAINED, None),
    }
    assert plain.hits == 1


def test_an_endpoint_that_refuses_the_request_is_read_without(new_case: NewCase) -> None:
    case = new_case("azure-s3", BOTH, resend_limit=0)
    document = b"<Error><Code>UnsupportedHeader</Code><HeaderName>x-ms-structured-body</HeaderName>"
    case.source.add(
        Fault(
            match=asking(),
            action=replace_answer(status=400, body=document + b"</Error>"),
            times=None,
        )
    )
    receipts = case.finish_moved()
    assert set(levels(receipts).values()) == {(Level.INGESTED, NO_CRC64)}
    assert 1 <= case.retries("unavailable") <= 3


# -- damage on the way -----------------------------------------------------------------------------

WHERE = {
    "version": 0,
    "length": 2,
    "properties": 9,
    "segments": 11,
    "number": 13,
    "size": 16,
    "bytes": 23 + 1000,
    "segment's CRC64": -16,
    "trailer": -1,
}
"""Bytes of a message of one segment."""


@pytest.mark.parametrize("place", WHERE.values(), ids=WHERE.keys())
@pytest.mark.parametrize("key", ["small", "large"])
def test_a_bit_flipped_anywhere_in_a_message_is_caught_and_repaired(
    new_azure_case: NewCase, key: str, place: int
) -> None:
    case = new_azure_case()
    bodies = {"small": SMALL, "large": SMALL}  # the second part of the large one
    size = 13 + 18 + bodies[key] + 8
    flip = damaged(as_message(), flip_answer(place % size))
    second = asking(f"/{key}") if key == "small" else second_part
    damage_first(case, Fault(match=second, action=flip))
    receipts = case.finish_moved()
    assert case.source.taken("as message, flip answer") == 1
    assert case.retries("digest_refused") + case.retries("short_body") == 1
    assert case.source.count(Operation.READ) == 3 + 1
    assert all_chained(receipts)


def second_part(request: ProxiedRequest) -> bool:
    return asking("/large")(request) and not request.headers["range"].startswith("bytes=0-")


def test_a_bit_flipped_in_a_later_segment_is_caught_and_repaired(new_azure_case: NewCase) -> None:
    case = new_azure_case({"large": 5 * MIB + SMALL})
    flip = damaged(as_message(), flip_answer(SEGMENT_BYTES + 1000))
    damage_first(case, Fault(match=asking("/large"), action=flip))
    assert all_chained(case.finish_moved(streams=1))
    assert case.retries("digest_refused") == 1


def test_a_bit_flipped_in_a_streamed_part_is_caught_and_repaired(new_azure_case: NewCase) -> None:
    case = new_azure_case(large_only("azure-s3"), range_bytes=256 << 10)
    flip = damaged(as_message(), flip_answer(100_000))
    damage_first(case, Fault(match=asking("/large"), action=flip, skip=3))
    assert all_chained(case.finish_moved(exact=False))
    assert case.retries("digest_refused") == 1


def test_a_message_that_is_cut_or_of_another_range_or_form_is_read_again(
    new_azure_case: NewCase,
) -> None:
    case = new_azure_case()
    shift = shift_range()
    faults = [
        Fault(match=asking("/small"), action=damaged(as_message(), cut_answer(0.5))),
        Fault(match=asking("/small"), action=as_message(form="XSM/1.0; properties=md5")),
        Fault(match=asking("/large"), action=shift),
        Fault(match=asking("/large"), action=as_message(form="XSM/2.0; properties=crc64")),
    ]
    case.source.clear()
    case.source.add(*faults, states_all())
    assert all_chained(case.finish_moved())
    assert [fault.hits for fault in faults] == [1] * 4
    assert case.retries("unavailable") == 1
    assert case.retries("short_body") == 3


def test_what_is_flipped_on_the_way_to_the_target_is_still_caught(new_azure_case: NewCase) -> None:
    case = new_azure_case()
    case.target.add(Fault(match=on(Operation.PUT, Operation.PART), action=flip_request(), times=3))
    assert all_chained(case.finish_moved())


@pytest.mark.parametrize("lie", [{"lies": A_LIE}, {"trailer_lies": A_LIE}])
def test_a_source_that_never_states_what_it_serves_fails_its_objects_alone(
    new_azure_case: NewCase, lie: dict[str, Any]
) -> None:
    case = new_azure_case({**BOTH, "sound": SMALL}, resend_limit=2)
    case.source.clear()
    lies = [Fault(match=asking(f"/{k}"), action=as_message(**lie), times=None) for k in BOTH]
    case.source.add(*lies, states_all())
    receipts = case.finish()
    assert {key: (r.outcome, r.cause, r.level) for key, r in receipts.items()} == {
        "large": (Outcome.FAILED, "digest_refused", None),
        "small": (Outcome.FAILED, "digest_refused", None),
        "sound": (Outcome.TRANSFERRED, None, Level.CHAINED),
    }
    assert case.source.count(Operation.READ, name="/small") == 3
    assert case.job.target.listed() == ["to/sound"]


def test_a_source_that_never_sends_a_sound_message_fails_its_object_alone(
    new_azure_case: NewCase,
) -> None:
    case = new_azure_case({"small": SMALL, "sound": SMALL}, retry_seconds=0.3)
    broken = damaged(as_message(), flip_answer(14))
    damage_first(case, Fault(match=asking("/small"), action=broken, times=None))
    receipts = case.finish()
    assert (receipts["small"].outcome, receipts["small"].cause) == (Outcome.FAILED, "short_body")
    assert receipts["sound"].level is Level.CHAINED


def test_messages_that_are_right_of_other_bytes_are_belied_by_what_is_stated_of_the_whole(
    new_case: NewCase,
) -> None:
    case = new_case("azure-s3", large_only("azure-s3"), resend_limit=1)
    said = stating_crc64(crc64nvme(case.job.source_bytes("large")))
    other = replace_answer(body=lambda body: bytes([body[0] ^ 1]) + body[1:]).edit
    message = as_message().edit
    assert other is not None
    assert message is not None
    wrong = Action(name="other message", edit=lambda *response: message(*other(*response)))
    case.source.add(
        Fault(match=on(Operation.HEAD), action=said, times=None),
        Fault(match=asking(), action=wrong, times=None),
    )
    receipts = case.finish()
    assert (receipts["large"].outcome, receipts["large"].cause) == (
        Outcome.FAILED,
        "digest_refused",
    )


def test_a_crc64_that_is_stated_of_the_whole_chains_without_messages(new_case: NewCase) -> None:
    case = new_case("azure-s3", BOTH)
    for key in BOTH:
        said = stating_crc64(crc64nvme(case.job.source_bytes(key)))
        reads = on(Operation.HEAD, Operation.READ, name=f"/{key}")
        case.source.add(Fault(match=reads, action=said, times=None))
    assert all_chained(case.finish_moved())


# -- over several attempts -------------------------------------------------------------------------


def stop_before_completing(case: Case) -> None:
    """A first attempt whose parts all land, and that is not allowed to complete."""
    stop = Fault(match=on(Operation.COMPLETE), action=refuse(403, "AccessDenied"))
    case.target.add(stop)
    assert case.run(streams=1).how is LeaseEnd.FATAL
    assert stop.hits == 1
    case.source.clear()


def test_parts_that_nobody_vouched_for_stay_so_in_later_attempts(new_case: NewCase) -> None:
    case = new_case("azure-s3", large_only("azure-s3"))
    stop_before_completing(case)
    case.source.add(states_all())
    receipts = case.finish_moved()
    assert case.source.count(Operation.READ) == 2
    assert levels(receipts) == {"large": (Level.INGESTED, NO_CRC64)}


def test_parts_that_the_source_vouched_for_stay_so_in_later_attempts(
    new_azure_case: NewCase,
) -> None:
    case = new_azure_case(large_only("azure-s3"))
    stop_before_completing(case)
    receipts = case.finish_moved()
    assert case.source.count(Operation.READ) == 2
    assert all_chained(receipts)


@pytest.mark.parametrize("first_stated", [True, False])
def test_a_huge_object_is_chained_only_where_all_its_leases_vouch_for_it(
    new_case: NewCase, first_stated: bool
) -> None:
    case = new_case("azure-s3", {"huge": 22 * MIB + 5}, segment_bytes=10 * MIB)
    job = case.job
    if first_stated:
        case.source.add(states_all())
    for first, end in ((0, 2), (2, 5)):
        result = job.run(job.lease(kind=LeaseKind.PARTS, first=first, end=end))
        assert result.how is LeaseEnd.FINISHED, result.message
        seal(job.directory, result)
        if not first_stated:
            case.source.add(states_all())
    receipts = job.receipts(job.run(job.lease(kind=LeaseKind.ASSEMBLE, end=0)))
    case.check_landed(receipts)
    some = (Level.INGESTED, "the source stated no CRC64 of some parts")
    assert levels(receipts) == {"huge": (Level.CHAINED, None) if first_stated else some}


def test_an_object_that_stands_already_is_chained_by_reading_it(new_azure_case: NewCase) -> None:
    case = new_azure_case({"there": 9 * MIB}, look_first=True)
    case.job.target.put("to/there", case.job.source_bytes("there"), states_crc=True)
    flip = damaged(as_message(), flip_answer(100))
    damage_first(case, Fault(match=asking("/there"), action=flip))
    receipts = case.finish()
    assert receipts["there"].outcome is Outcome.ALREADY_PRESENT
    assert all_chained(receipts)
    assert case.retries("digest_refused") == 1


# -- as a user runs it -----------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [True, False])
def test_a_whole_move_asks_as_its_settings_say(
    make_move: Callable[..., Move], azurite: Azurite, asked: bool
) -> None:
    sizes = {"large": 9 * MIB, "small": SMALL}
    with run_fault_proxy(azurite.endpoint) as proxy:
        proxy.add(states_all())
        behind = azurite.connection_string.replace(azurite.endpoint, proxy.endpoint)
        specs = [plain(key, size) for key, size in sizes.items()]
        move = make_move(specs, AZURE_STORAGE_CONNECTION_STRING=behind)
        plan = {"part_bytes": "5MiB", "chunk_bytes": "1MiB"}
        run = {"workers": 1, "source_crc64": asked}
        done = move.noria("run", move.job_file(plan=plan, run=run))
        assert done["levels"] == {"chained" if asked else "ingested": 2}
        assert proxy.taken("as message") == (3 if asked else 0)
    move.expect_all_arrived()
