"""F35 to F46: what goes wrong when an object is made, and when it is checked afterwards."""

from __future__ import annotations

import mmap
from typing import Any
from unittest import mock

import pytest

from noria.manifests.job.read_backs import ReadBacks
from noria.manifests.job.receipts import receipts_of
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import seal
from noria.manifests.model import LeaseEnd, LeaseResult, Outcome
from noria.workers.lease.reread import RereadRun
from tests.faults.cells import Scene, cell
from tests.faults.read_cells import expect_all_moved
from tests.support.fault_proxy.rules import (
    Fault,
    Operation,
    error_document,
    flip_answer,
    lose_answer,
    meanwhile,
    on,
    refuse,
    replace_answer,
    response,
    stall,
)
from tests.support.faulty import Case
from tests.support.lease_jobs import open_executor

ERROR = error_document("InternalError")
COMMITS = on(Operation.PUT, Operation.COMPLETE)


@cell("F35", "200, and an error in the body")
def error_in_success(scene: Scene) -> None:
    for lie in (
        response(200, body=ERROR),
        replace_answer(status=200, headers={"etag": None}, body=ERROR),
    ):
        case = scene.case("azure-s3")
        case.target.add(Fault(match=on(Operation.COMPLETE), action=lie))
        expect_all_moved(scene.finish(case))


@cell("F36", "200 with an empty or torn body, or with white space before it")
def torn_success(scene: Scene) -> None:
    kept = scene.dice.random()
    for lie in (
        response(200),
        replace_answer(headers={"etag": None}, body=b""),
        replace_answer(headers={"etag": None}, body=lambda said: said[: int(len(said) * kept)]),
        replace_answer(body=lambda said: b" \n\t" * 30 + said),
    ):
        case = scene.case("azure-s3")
        case.target.add(Fault(match=on(Operation.COMPLETE), action=lie))
        expect_all_moved(scene.finish(case))


@cell("F37", "the answer to a commit is lost")
def lost_commit(scene: Scene) -> None:
    case = scene.case(scene.dice.choice(["azure-s3", "s3-azure"]))
    times = scene.dice.randint(1, len(case.job.sizes))
    case.target.add(Fault(match=COMMITS, action=lose_answer(), times=times))
    expect_all_moved(scene.finish(case))
    assert case.target.count(Operation.COMPLETE) == 1, "committed once, known by its transfer id"


@cell("F38", "the answer to a commit is lost, and the repeat meets its own object")
def lost_commit_repeated(scene: Scene) -> None:
    case = scene.case("azure-s3")
    case.target.add(
        Fault(match=on(Operation.COMPLETE), action=lose_answer()),
        # What was stored is not to be seen at first: so the commit is sent again.
        Fault(match=on(Operation.HEAD, name="/large"), action=refuse(404, "NoSuchKey")),
    )
    expect_all_moved(scene.finish(case))


@cell("F39", "another writer comes first")
def another_writer(scene: Scene) -> None:
    case = scene.case(scene.dice.choice(["azure-s3", "s3-azure"]))
    key = scene.dice.choice(sorted(case.job.sizes))
    theirs = scene.dice.randbytes(100)
    put = meanwhile(lambda: case.job.target.put(f"to/{key}", theirs))
    case.target.add(
        Fault(match=on(Operation.PUT, Operation.COMPLETE, name=f"/to/{key}"), action=put)
    )
    receipts = scene.finish(case)
    conflict = receipts.pop(key)
    assert (conflict.outcome, conflict.cause) == (Outcome.FAILED, "target_conflict")
    assert case.job.target_bytes(key) == theirs, "I4"
    expect_all_moved(receipts)


@cell("F40", "a part has vanished at the commit")
def vanished_part(scene: Scene) -> None:
    case = scene.case("azure-s3")
    said = refuse(400, scene.dice.choice(["InvalidPart", "InvalidPartOrder"]))
    case.target.add(Fault(match=on(Operation.COMPLETE), action=said))
    expect_all_moved(scene.finish(case))
    assert case.target.count(Operation.COMPLETE) <= 3, "bounded"


@cell("F41", "a commit stalls, then succeeds")
def stalled_commit(scene: Scene) -> None:
    case = scene.case("azure-s3", idle_seconds=1.0)
    slow = stall(1.5 + scene.dice.random())
    case.target.add(Fault(match=on(Operation.COMPLETE), action=slow))
    expect_all_moved(scene.finish(case))
    assert case.target.count(Operation.COMPLETE) == 1
    assert case.job.context.buffers.bytes_in_flight == 0, "no buffer is kept"


@cell("F42", "somebody else aborts the upload")
def aborted_upload(scene: Scene) -> None:
    case = scene.case("azure-s3")
    drop = meanwhile(case.job.target.drop_uploads)
    operation = scene.dice.choice([Operation.PART, Operation.COMPLETE])
    case.target.add(Fault(match=on(operation), action=drop))
    expect_all_moved(scene.finish(case))


@cell("F43", "a wrong checksum of the whole goes out")
def wrong_whole(scene: Scene) -> None:
    case = scene.case("azure-s3")
    target = case.job.context.target.inner
    real, wrong = target.complete_upload, scene.dice.randrange(1, 1 << 64)

    def complete(*arguments: Any, **values: Any) -> object:
        once.append(values["crc64nvme"])
        scene.evidence.faults += len(once) == 1
        flipped = values["crc64nvme"] ^ wrong if len(once) == 1 else values["crc64nvme"]
        return real(*arguments, **{**values, "crc64nvme": flipped})

    once: list[int] = []
    with mock.patch.object(target, "complete_upload", complete):
        expect_all_moved(scene.finish(case))
    assert len(once) == 2, "the target refused the first"


def verified(scene: Scene, case: Case) -> dict[str, Outcome]:
    """What a verification says of each object."""
    with open_executor() as executor:
        run = RereadRun(
            case.job.resources(executor),
            case.job.lease(),
            ReadBacks(case.job.directory, "verified/1"),
        )
        result: LeaseResult = run.run()
    assert result.how is LeaseEnd.FINISHED, (result.cause, result.message)
    table = read_result(case.job.directory, seal(case.job.directory, result, "verified/1"))
    return {receipt.key: receipt.outcome for receipt in receipts_of(table)}


@cell("F44", "the target serves other bytes than it took")
def wrong_bytes_served(scene: Scene) -> None:
    case = scene.case("azure-s3")
    expect_all_moved(scene.finish(case))
    key = scene.dice.choice(sorted(case.job.sizes))
    flips = Fault(match=on(Operation.READ, name=f"/to/{key}"), action=flip_answer(), times=None)
    case.target.add(flips)
    found = verified(scene, case)
    assert found.pop(key) is Outcome.FAILED, "I13"
    assert set(found.values()) == {Outcome.TRANSFERRED}
    scene.evidence.faults += flips.hits
    scene.evidence.invariants += 1


@cell("F45", "bytes rot on the target's disk, and its checksum says nothing of it")
def rotten(scene: Scene) -> None:
    """HEAD states what was taken in; only reading every byte finds what lies there now."""
    case = scene.case("azure-s3")
    expect_all_moved(scene.finish(case))
    rot(scene, case.job.source_bytes("large"))
    head = case.job.context.target.head("to/large")
    assert head is not None
    assert head.crc64nvme is not None, "it states the checksum all the same"
    found = verified(scene, case)
    assert found.pop("large") is Outcome.FAILED, "I13: a reread finds it"
    assert set(found.values()) == {Outcome.TRANSFERRED}
    scene.evidence.faults += 1
    scene.evidence.invariants += 2


def rot(scene: Scene, body: bytes) -> None:
    """Flip one bit of these bytes wherever SeaweedFS keeps them: deleted ones stay for a while."""
    place = scene.dice.randrange(len(body) // 2)
    wanted, found = body[place : place + 64], 0
    for volume in scene.stage.seaweedfs.process.folder.rglob("*.dat"):
        if volume.stat().st_size == 0:
            continue
        with open(volume, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
            while (offset := pages.find(wanted)) >= 0:
                pages[offset] ^= 1
                found += 1
    assert found, "the object is not found on the target's disk"


@cell("F46", "the verifier itself is broken")
def broken_verifier(scene: Scene) -> None:
    """A verifier that finds everything equal must turn this very suite red."""
    lax = mock.patch.object(RereadRun, "_equal", return_value=True)
    with lax, pytest.raises(AssertionError, match="I13"):
        wrong_bytes_served(scene)
    scene.evidence.faults += 1
    scene.evidence.invariants += 1
