"""F10 to F21: what goes wrong at the source, and on the way from it."""

from __future__ import annotations

from collections.abc import Callable

from noria.manifests.model import Level, Outcome, Receipt
from tests.faults.cells import Scene, cell
from tests.support.fault_proxy.azure_message_shim import as_message, asking, damaged
from tests.support.fault_proxy.rules import (
    Action,
    Fault,
    Operation,
    ProxiedRequest,
    cut_answer,
    flip_answer,
    ignore_range,
    meanwhile,
    on,
    refuse,
    reset,
    shift_range,
    stall,
)
from tests.support.faulty import Case
from tests.support.lease_jobs import STREAMS

ONLY_MOVED = {Outcome.TRANSFERRED}


def expect_all_moved(receipts: dict[str, Receipt]) -> None:
    said = {key: (receipt.outcome, receipt.cause) for key, receipt in receipts.items()}
    assert {outcome for outcome, _ in said.values()} == ONLY_MOVED, said


def drawn_read(scene: Scene, case: Case) -> str:
    """A key whose reads are to be hit."""
    return f"/{scene.dice.choice(sorted(case.job.sizes))}"


def hit_reads(scene: Scene, action: Action, *, times: int = 1, way: str = "azure-s3") -> None:
    """The action on drawn reads; everything moves all the same."""
    case = scene.case(way)
    name = drawn_read(scene, case)
    case.source.add(Fault(match=on(Operation.READ, name=name), action=action, times=times))
    expect_all_moved(scene.finish(case))
    assert case.source.taken(action.name) == times


@cell("F10", "an object is overwritten between two ranges")
def overwritten(scene: Scene) -> None:
    case = scene.case("azure-s3")
    body = scene.dice.randbytes(case.job.sizes["large"])
    overwrite = meanwhile(lambda: case.job.source.put("from/large", body))
    case.source.add(Fault(match=on(Operation.READ, name="/large"), action=overwrite, skip=1))
    receipts = scene.finish(case, streams=1)
    assert receipts.pop("large").outcome is Outcome.SOURCE_CHANGED
    expect_all_moved(receipts)
    assert "to/large" not in case.job.target.listed(), "I3: no mixed object"


@cell("F11", "an object is deleted in the middle")
def deleted(scene: Scene) -> None:
    case = scene.case("s3-azure")
    key = scene.dice.choice(sorted(case.job.sizes))
    delete = meanwhile(lambda: case.job.source.delete(f"from/{key}"))
    case.source.add(Fault(match=on(Operation.READ, name=f"/{key}"), action=delete))
    receipts = scene.finish(case)
    assert receipts.pop(key).outcome is Outcome.SOURCE_MISSING
    expect_all_moved(receipts)


@cell("F12", "an object grows while it is read")
def grows(scene: Scene) -> None:
    case = scene.case("azure-s3")
    longer = case.job.source_bytes("large") + scene.dice.randbytes(1000)
    grow = meanwhile(lambda: case.job.source.put("from/large", longer))
    case.source.add(Fault(match=on(Operation.READ, name="/large"), action=grow))
    receipts = scene.finish(case)
    assert receipts.pop("large").outcome is Outcome.SOURCE_CHANGED
    expect_all_moved(receipts)


@cell("F13", "a storm of 503, 429 and 500 on reads")
def read_storm(scene: Scene) -> None:
    case = scene.case(scene.dice.choice(["azure-s3", "s3-azure"]))
    for status, code in ((503, "ServerBusy"), (429, "TooManyRequests"), (500, "OperationTimedOut")):
        times = scene.dice.randint(3, 15)
        case.source.add(Fault(match=on(), action=refuse(status, code), times=times))
    expect_all_moved(scene.finish(case))
    assert min(case.retries("throttled"), case.retries("unavailable")) > 0, "I11"


@cell("F14", "a body is cut, reset or stalls")
def broken_body(scene: Scene) -> None:
    for action in (cut_answer(scene.dice.random()), reset()):
        hit_reads(scene, action, times=scene.dice.randint(1, 2) if action.reset else 1)
    case = scene.case("azure-s3", idle_seconds=1.0)
    name = drawn_read(scene, case)
    case.source.add(Fault(match=on(Operation.READ, name=name), action=stall(120, at="body")))
    expect_all_moved(scene.finish(case))
    assert case.retries("unavailable") >= 1, "I11: given up long before the stall is over"


@cell("F15", "a bit flips on the way from the source")
def flipped_read(scene: Scene) -> None:
    case = scene.case("azure-s3")
    name = drawn_read(scene, case)
    flip = damaged(as_message(), flip_answer())
    case.source.add(
        Fault(match=asking(name), action=flip, times=scene.dice.randint(1, 2)),
        Fault(match=asking(), action=as_message(), times=None),
    )
    receipts = scene.finish(case)
    expect_all_moved(receipts)
    assert {receipt.level for receipt in receipts.values()} == {Level.CHAINED}, "I13: repaired"
    # A source that states no checksum: nobody can notice, and no level says otherwise.
    blind = scene.case("azure-s3")
    name = drawn_read(scene, blind)
    blind.source.add(Fault(match=on(Operation.READ, name=name), action=flip_answer()))
    receipts = scene.finish(blind, vouched=False)
    assert {receipt.level for receipt in receipts.values()} == {Level.INGESTED}


@cell("F16", "the server ignores the range")
def ignored_range(scene: Scene) -> None:
    case = scene.case("azure-s3")
    case.source.add(Fault(match=on(Operation.READ, name="/large"), action=ignore_range(), times=2))
    expect_all_moved(scene.finish(case))
    assert case.retries("short_body") == 2


@cell("F17", "the range that comes is another one")
def shifted_range(scene: Scene) -> None:
    case = scene.case(scene.dice.choice(["azure-s3", "s3-azure"]))
    shift = shift_range(scene.dice.choice([-1, 1, 4096]) or 1)
    reads = Fault(match=on(Operation.READ, name="/large"), action=shift, skip=1, times=2)
    case.source.add(reads)
    expect_all_moved(scene.finish(case))
    assert case.source.taken(shift.name) == case.retries("short_body")


@cell("F18", "the source states no checksum of some of what it serves")
def unstated(scene: Scene) -> None:
    case = scene.case("azure-s3")
    silent = drawn_read(scene, case)
    case.source.add(Fault(match=_asking_but(silent), action=as_message(), times=None))
    receipts = scene.finish(case)
    expect_all_moved(receipts)
    for key, receipt in receipts.items():
        if silent.endswith(f"/{key}"):
            assert receipt.level is Level.INGESTED, "not rounded up"
            assert receipt.level_reason, "it is lower for a reason that can be read"
        else:
            assert receipt.level is Level.CHAINED


def _asking_but(name: str) -> Callable[[ProxiedRequest], bool]:
    requests = asking()
    return lambda request: requests(request) and not request.path.endswith(name)


@cell("F20", "an object turns out to be archived")
def archived(scene: Scene) -> None:
    case = scene.case("azure-s3")
    key = scene.dice.choice(sorted(case.job.sizes))
    said = refuse(409, scene.dice.choice(["BlobArchived", "BlobBeingRehydrated"]))
    reads = on(Operation.READ, name=f"/{key}")
    case.source.add(Fault(match=reads, action=said, times=None))
    receipts = scene.finish(case)
    assert receipts.pop(key).cause == "source_unreadable"
    expect_all_moved(receipts)
    # Of a large object, each part that was in flight is refused once.
    assert 1 <= case.source.count(Operation.READ, name=f"/{key}") <= STREAMS, "I11: no loop"


@cell("F21", "nobody answers at the source for a while")
def unreachable(scene: Scene) -> None:
    case = scene.case("azure-s3", retry_cap_seconds=0.2)
    case.source.add(Fault(match=on(), action=reset(), times=scene.dice.randint(10, 40)))
    expect_all_moved(scene.finish(case))
    assert case.retries("unavailable") >= 10, "I11"
