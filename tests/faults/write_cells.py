"""F22 to F34: what goes wrong at the target, and on the way to it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from unittest import mock

from awscrt import checksums

from noria.manifests.model import LeaseEnd, Level, Outcome
from noria.workers.stores.protocol import Checksum
from tests.faults.cells import Scene, cell
from tests.faults.read_cells import expect_all_moved
from tests.support.fault_proxy.azure_message_shim import as_message, asking
from tests.support.fault_proxy.proxy import run_fault_proxy
from tests.support.fault_proxy.rules import (
    Fault,
    Operation,
    flip_request,
    lose_answer,
    on,
    redirect,
    refuse,
    replace_answer,
    reset_in_body,
)
from tests.support.lease_jobs import open_executor

BODIES = on(Operation.PUT, Operation.PART)


@cell("F22", "a storm of 503 and 429 on writes")
def write_storm(scene: Scene) -> None:
    case = scene.case(scene.dice.choice(["azure-s3", "s3-azure"]))
    for status, code in ((503, "SlowDown"), (429, "TooManyRequests")):
        times = scene.dice.randint(5, 15)
        case.target.add(Fault(match=on(), action=refuse(status, code), times=times))
    expect_all_moved(scene.finish(case, exact=False))
    assert case.lowest_limit(case.job.context.target.pacer) < 8, "the limit fell"


@cell("F23", "the connection breaks while a body is sent")
def reset_while_sending(scene: Scene) -> None:
    case = scene.case("azure-s3")
    action = reset_in_body(scene.dice.randrange(1, 1 << 20))
    case.target.add(Fault(match=on(Operation.PART), action=action, times=scene.dice.randint(1, 2)))
    expect_all_moved(scene.finish(case, exact=False))


@cell("F24", "the answer is lost after a part was stored")
def lost_part_answer(scene: Scene) -> None:
    case = scene.case("azure-s3")
    case.target.add(Fault(match=on(Operation.PART), action=lose_answer()))
    expect_all_moved(scene.finish(case))


@cell("F25", "a bit flips on the way to a target that checks")
def flipped_write(scene: Scene) -> None:
    case = scene.case(scene.dice.choice(["azure-s3", "s3-azure"]))
    times = scene.dice.randint(1, 3)
    case.target.add(Fault(match=BODIES, action=flip_request(), times=times))
    expect_all_moved(scene.finish(case))
    assert case.retries("digest_refused") == times, "I13"


@cell("F26", "a bit flips on the way to a target that checks nothing")
def flipped_unchecked(scene: Scene) -> None:
    case = scene.case("s3-azure")
    case.job.set_capabilities(checksum=Checksum.NONE)
    silent = replace_answer(headers={"x-ms-content-crc64": None, "content-md5": None})
    key = scene.dice.choice([key for key in sorted(case.job.sizes) if key != "large"])
    case.target.add(
        Fault(match=on(Operation.PUT, name=f"/{key}"), action=flip_request()),
        Fault(match=on(), action=silent, times=None),
    )
    receipts = case.job.receipts(case.run())
    assert receipts[key].level is Level.COUNTED, "nobody vouches for what nobody checked"
    assert case.job.target_bytes(key) != case.job.source_bytes(key)
    scene.evidence.faults += 1
    scene.evidence.invariants += 1


@cell("F27", "memory flips between hash and send")
def flipped_after_hash(scene: Scene) -> None:
    """The buffer changes after its digest is taken: as the last bytes of the body are heard."""
    case = scene.case("azure-s3")
    hits = MemoryFlip(scene, after=True)
    with hits.patched():
        expect_all_moved(scene.finish(case))
    assert hits.done == 1
    assert case.retries("digest_refused") == 1, "I13: the target refused it"


@cell("F28", "memory flips before the hash")
def flipped_before_hash(scene: Scene) -> None:
    """Found where the source states its checksum; elsewhere nobody can, and no level says so."""
    chained = scene.case("azure-s3")
    chained.source.add(Fault(match=asking(), action=as_message(), times=None))
    hits = MemoryFlip(scene, after=False)
    with hits.patched():
        receipts = scene.finish(chained)
    expect_all_moved(receipts)
    assert {receipt.level for receipt in receipts.values()} == {Level.CHAINED}, "I13: repaired"
    blind = scene.case("azure-s3")
    hits = MemoryFlip(scene, after=False)
    with hits.patched():
        receipts = scene.finish(blind, vouched=False)
    assert hits.done, "a bit was flipped"
    through = [
        key for key in blind.job.sizes if blind.job.target_bytes(key) != blind.job.source_bytes(key)
    ]
    assert through in ([], ["large"]), "of what is read at once, Azure states the MD5"
    assert {receipt.level for receipt in receipts.values()} == {Level.INGESTED}


class MemoryFlip:
    """One bit of a body in this process's memory, before or after it is hashed; once."""

    def __init__(self, scene: Scene, *, after: bool) -> None:
        self._scene, self._after, self.done = scene, after, 0
        self._skip = scene.dice.randrange(3)

    def patched(self) -> AbstractContextManager[object]:
        real = checksums.crc64nvme

        def flipping(view: memoryview, so_far: int = 0) -> int:
            due = len(view) > 0 and not memoryview(view).readonly and not self.done
            if due and self._skip == 0:
                self.done = 1
                self._scene.evidence.faults += 1
                if self._after:
                    value = real(view, so_far)
                    self._flip(view)
                    return int(value)
                self._flip(view)
            elif due:
                self._skip -= 1
            return int(real(view, so_far))

        return mock.patch.object(checksums, "crc64nvme", flipping)

    def _flip(self, view: memoryview) -> None:
        view[self._scene.dice.randrange(len(view))] ^= 1 << self._scene.dice.randrange(8)


@cell("F29", "the target names a part by a wrong ETag")
def wrong_part_etag(scene: Scene) -> None:
    case = scene.case("azure-s3")
    wrong = replace_answer(headers={"etag": f'"{scene.dice.randbytes(16).hex()}"'})
    case.target.add(Fault(match=on(Operation.PART, part=1), action=wrong))
    expect_all_moved(scene.finish(case))
    assert case.target.count(Operation.CREATE) == 2, "its upload was given up"


@cell("F30", "a worker that was thought dead goes on")
def two_attempts(scene: Scene) -> None:
    case = scene.case("azure-s3")
    first, second = case.job.lease(), case.job.lease()
    with open_executor() as executor:
        zombie = case.job.start(first, executor)
        zombie.tasks.stop()
        result = case.job.run(second)
        late = zombie.run()
    assert late.how is not LeaseEnd.FINISHED or late.attempt < result.attempt
    scene.request(case, case.job.receipts(result), exact=False)
    scene.evidence.faults += 1


@cell("F31", "the worker's clock is wrong")
def skewed_clock(scene: Scene) -> None:
    case = scene.case("azure-s3")
    skewed = refuse(403, "RequestTimeTooSkewed")
    case.target.add(Fault(match=BODIES, action=skewed, times=None))
    result = case.run()
    assert (result.how, result.cause) == (LeaseEnd.FATAL, "clock_skewed"), "one error, no storm"
    assert case.target.taken(skewed.name) <= 2 * 4 * len(case.job.sizes)
    scene.evidence.faults += case.target.taken(skewed.name)
    scene.evidence.invariants += 2


@cell("F32", "the target is full")
def target_full(scene: Scene) -> None:
    case = scene.case("azure-s3", retry_seconds=0.3)
    key = scene.dice.choice(sorted(case.job.sizes))
    full = refuse(507, "InsufficientStorage")
    writes = on(Operation.PUT, Operation.PART, name=f"/to/{key}")
    case.target.add(Fault(match=writes, action=full, times=None))
    receipts = scene.finish(case, exact=False)
    failed = receipts.pop(key)
    assert (failed.outcome, failed.cause) == (Outcome.FAILED, "unavailable")
    expect_all_moved(receipts)


@cell("F33", "the credentials are revoked in the middle")
def revoked(scene: Scene) -> None:
    case = scene.case("azure-s3")
    denied = refuse(403, scene.dice.choice(["AccessDenied", "InvalidAccessKeyId"]))
    case.target.add(Fault(match=BODIES, action=denied, skip=1, times=None))
    result = case.run()
    assert (result.how, result.cause) == (LeaseEnd.FATAL, "access_denied"), "one alert"
    assert case.target.taken(denied.name) <= 2 * 4 * len(case.job.sizes), "no storm"
    scene.evidence.faults += case.target.taken(denied.name)
    case.target.clear()
    expect_all_moved(scene.finish(case, exact=False))


@cell("F34", "the target sends us elsewhere")
def redirected(scene: Scene) -> None:
    case = scene.case("azure-s3")
    with run_fault_proxy(case.job.target.endpoint) as elsewhere:
        status = scene.dice.choice([301, 302, 307, 308])
        away = redirect(f"{elsewhere.endpoint}/stolen", status=status)
        case.target.add(Fault(match=BODIES, action=away, times=None))
        result = case.run()
        assert (result.how, result.cause) == (LeaseEnd.FATAL, "configuration")
        assert elsewhere.log == [], "nobody else is spoken to"
    scene.evidence.faults += 1
    scene.evidence.invariants += 2
