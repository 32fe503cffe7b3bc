"""Later passes at work: only what an earlier pass left is replaced or deleted.

The targets are real servers behind a proxy, which counts the looks and can let somebody else write
while a request of ours waits.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from noria.benchmarks.servers import Azurite
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import failures_of, receipt_batch
from noria.manifests.job.seals import seal
from noria.manifests.model import (
    ConflictPolicy,
    Guard,
    LeaseEnd,
    LeaseKind,
    Outcome,
    Receipt,
    ShardKind,
)
from tests.support.fault_proxy.rules import Action, Fault, Operation, lose_answer, on, refuse
from tests.support.faulty import SMALL, Case, case_ends, faulty_case
from tests.support.lease_jobs import MIB, BucketShelf, Job

FOREIGN = b"somebody else wrote this"
CHANGES = {"small": 120, "gone": None, "new": 7}
"""At the source, before the second pass; and the large object, by one byte."""

ways = pytest.mark.parametrize("way", ["s3-s3", "s3-azure"])
honours = pytest.mark.parametrize("if_match", [True, False], ids=["if_match", "look"])
MakeCase = Callable[..., Case]


@pytest.fixture
def make_case(buckets: BucketShelf, azurite: Azurite, tmp_path: Path) -> Iterator[MakeCase]:
    """make_case(way, if_match, **options): a job whose first pass has ended."""
    with contextlib.ExitStack() as stack:

        def make(way: str, if_match: bool = True, **options: Any) -> Case:
            source, target = case_ends(way, buckets, azurite, stack)
            large = target.part_bytes + SMALL
            sizes = {"gone": 50, "large": large, "same": 10, "small": 100}
            folder = tmp_path / "job"
            case = stack.enter_context(faulty_case(folder, source, target, sizes, **options))
            case.job.set_capabilities(if_match=if_match, if_match_delete=if_match)
            moved = move_all(case.job)
            assert {receipt.outcome for receipt in moved.values()} == {Outcome.TRANSFERRED}
            assert {receipt.delta for receipt in moved.values()} == {None}
            return case

        yield make


def move_all(job: Job) -> dict[str, Receipt]:
    """Run leases until all shards are sealed; the receipts of all objects by key."""
    receipts: dict[str, Receipt] = {}
    for plan in list(job.manifest.shards()):
        if plan.kind is ShardKind.OBJECTS:
            receipts |= job.receipts(job.run(job.lease(plan.shard)))
        else:
            receipts |= move_huge(job, plan.shard)
    return receipts


def move_huge(job: Job, shard: int) -> dict[str, Receipt]:
    for generation in range(3):
        parts = job.run(job.lease(shard, LeaseKind.PARTS, generation=generation))
        if parts.how is LeaseEnd.UPLOAD_LOST:
            continue
        seal(job.directory, parts)
        whole = job.run(job.lease(shard, LeaseKind.ASSEMBLE, 0, 0, generation))
        if whole.how is not LeaseEnd.UPLOAD_LOST:
            return job.receipts(whole)
    raise AssertionError("three uploads were lost")


def second_pass(case: Case) -> Job:
    case.target.clear()
    case.job = case.job.next_pass({**CHANGES, "large": case.job.sizes["large"] + 1})
    return case.job


def looks(case: Case, key: str) -> int:
    return case.target.count(Operation.HEAD, name=f"/to/{key}")


def foreign(case: Case, *keys: str) -> None:
    for key in keys:
        case.job.target.put(f"to/{key}", FOREIGN)


def outcomes(receipts: dict[str, Receipt]) -> dict[str, tuple[Outcome, str | None, str | None]]:
    return {key: (each.outcome, each.cause, each.guard) for key, each in receipts.items()}


@ways
@honours
def test_what_is_as_it_was_left_is_replaced_or_deleted(
    make_case: MakeCase, way: str, if_match: bool
) -> None:
    case = make_case(way, if_match)
    job = second_pass(case)
    before = {key: looks(case, key) for key in ("small", "gone")}
    receipts = move_all(job)
    guard = Guard.IF_MATCH if if_match else Guard.LOOK
    assert outcomes(receipts) == {
        "small": (Outcome.TRANSFERRED, None, guard),
        "large": (Outcome.TRANSFERRED, None, guard),
        "new": (Outcome.TRANSFERRED, None, None),
        "gone": (Outcome.DELETED, None, guard),
    }
    deltas = {key: receipt.delta for key, receipt in receipts.items()}
    assert deltas == {"small": "size", "large": "size", "new": "new", "gone": "gone"}
    for key in ("small", "large", "new"):
        assert job.target_bytes(key) == job.source_bytes(key), key
    assert sorted(job.target.listed()) == ["to/large", "to/new", "to/same", "to/small"]
    for key in before:
        assert looks(case, key) - before[key] == (0 if if_match else 1), key


@ways
def test_what_the_source_has_after_all_is_not_deleted(make_case: MakeCase, way: str) -> None:
    """By a list that is older than the object, or of a part of the source."""
    case = make_case(way)
    job = second_pass(case)
    job.source.put("from/gone", b"written meanwhile")
    receipt = move_all(job)["gone"]
    assert (receipt.outcome, receipt.cause) == (Outcome.SOURCE_CHANGED, "source_changed")
    assert job.target_bytes("gone")


@ways
@honours
def test_what_somebody_else_wrote_stays(make_case: MakeCase, way: str, if_match: bool) -> None:
    case = make_case(way, if_match)
    job = second_pass(case)
    foreign(case, "small", "large", "gone", "new")
    receipts = move_all(job)
    assert {key: each.outcome for key, each in receipts.items()} == dict.fromkeys(
        receipts, Outcome.FAILED
    )
    assert {each.cause for each in receipts.values()} == {"target_conflict"}
    for key in ("small", "large", "gone", "new"):
        assert job.target.get(f"to/{key}") == FOREIGN
        assert receipts[key].delta is not None
        assert receipts[key].guard is None
    for key in ("small", "large", "gone"):
        assert "not what this migration left" in (receipts[key].message or "")
    assert job.target.open_uploads() == []


@ways
@honours
def test_what_is_gone_at_the_target_is_written_as_new(
    make_case: MakeCase, way: str, if_match: bool
) -> None:
    case = make_case(way, if_match)
    job = second_pass(case)
    for key in ("small", "large", "gone"):
        job.target.delete(f"to/{key}")
    receipts = move_all(job)
    assert outcomes(receipts) == {
        "small": (Outcome.TRANSFERRED, None, None),
        "large": (Outcome.TRANSFERRED, None, None),
        "new": (Outcome.TRANSFERRED, None, None),
        "gone": (Outcome.DELETED, None, None),
    }
    for key in ("small", "large"):
        assert job.target_bytes(key) == job.source_bytes(key), key


@ways
@pytest.mark.parametrize(
    ("operation", "key"),
    [(Operation.PUT, "small"), (Operation.COMPLETE, "large"), (Operation.DELETE, "gone")],
)
@pytest.mark.parametrize("what", ["done and not told", "not done", "others write meanwhile"])
def test_a_change_whose_answer_is_lost_is_settled_by_looking(
    make_case: MakeCase, way: str, operation: Operation, key: str, what: str
) -> None:
    case = make_case(way)
    job = second_pass(case)
    action = {
        "done and not told": lose_answer(),
        "not done": refuse(500, "InternalError"),
        "others write meanwhile": Action(
            name="meanwhile", meanwhile=lambda: foreign(case, key), lose_answer=True
        ),
    }[what]
    case.target.add(Fault(match=on(operation, name=f"/to/{key}"), action=action))
    receipt = move_all(job)[key]
    assert case.target.taken(action.name) == 1
    if what == "others write meanwhile":
        assert (receipt.outcome, receipt.cause) == (Outcome.FAILED, "target_conflict")
        assert job.target.get(f"to/{key}") == FOREIGN
    elif key == "gone":
        assert receipt.outcome is Outcome.DELETED
        assert "to/gone" not in job.target.listed()
    else:
        assert (receipt.outcome, receipt.guard) == (Outcome.TRANSFERRED, Guard.IF_MATCH)
        assert job.target_bytes(key) == job.source_bytes(key)
        assert job.target.metadata(f"to/{key}")["noriatxid"] == receipt.txid


@ways
@honours
def test_an_attempt_that_was_killed_before_its_receipts_is_gone_on_with(
    make_case: MakeCase, way: str, if_match: bool, tmp_path: Path
) -> None:
    """Its objects are there, its journal is not."""
    case = make_case(way, if_match)
    job = second_pass(case)
    shutil.copytree(job.directory.root, tmp_path / "killed")
    killed = replace(job, directory=JobDirectory.open(tmp_path / "killed"))
    assert killed.run(killed.lease()).how is LeaseEnd.FINISHED
    written = {key: job.target.metadata(f"to/{key}") for key in ("small", "large", "new")}
    job.attempts += 1
    receipts = move_all(job)
    for key, metadata in written.items():
        assert receipts[key].outcome is Outcome.TRANSFERRED, receipts[key]
        assert receipts[key].txid == metadata["noriatxid"]
        assert job.target.metadata(f"to/{key}") == metadata, "it was written once"
        assert job.target_bytes(key) == job.source_bytes(key)
    assert (receipts["gone"].outcome, receipts["gone"].guard) == (Outcome.DELETED, None)
    assert {each.delta for each in receipts.values()} == {"size", "new", "gone"}


@ways
@honours
def test_conflicts_are_kept_by_policy(make_case: MakeCase, way: str, if_match: bool) -> None:
    case = make_case(way, if_match, conflicts=ConflictPolicy.KEEP)
    job = second_pass(case)
    foreign(case, "small", "large", "gone", "new")
    receipts = move_all(job)
    kept = (Outcome.SKIPPED, "target_kept", None)
    assert outcomes(receipts) == dict.fromkeys(("small", "large", "gone", "new"), kept)
    for key in receipts:
        assert job.target.get(f"to/{key}") == FOREIGN
    table = pa.Table.from_batches([receipt_batch(list(receipts.values()))])
    assert len(failures_of(table)) == 0
    assert job.target.open_uploads() == []


@ways
@honours
def test_conflicts_are_replaced_by_policy_but_nothing_of_others_is_deleted(
    make_case: MakeCase, way: str, if_match: bool
) -> None:
    case = make_case(way, if_match, conflicts=ConflictPolicy.REPLACE)
    job = second_pass(case)
    foreign(case, "small", "large", "gone", "new")
    receipts = move_all(job)
    guard = Guard.IF_MATCH if if_match else Guard.LOOK
    assert outcomes(receipts) == {
        "small": (Outcome.TRANSFERRED, None, guard),
        "large": (Outcome.TRANSFERRED, None, guard),
        "new": (Outcome.TRANSFERRED, None, guard),
        "gone": (Outcome.FAILED, "target_conflict", None),
    }
    for key in ("small", "large", "new"):
        assert job.target_bytes(key) == job.source_bytes(key), key
    assert job.target.get("to/gone") == FOREIGN


@ways
def test_what_comes_while_a_conflict_is_replaced_is_seen(make_case: MakeCase, way: str) -> None:
    """The first replacement meets another object again, and the second one takes that."""
    case = make_case(way, conflicts=ConflictPolicy.REPLACE)
    job = second_pass(case)
    foreign(case, "small")
    meanwhile = Action(name="meanwhile", meanwhile=lambda: job.target.put("to/small", b"again"))
    case.target.add(Fault(match=on(Operation.PUT, name="/to/small"), action=meanwhile, skip=1))
    receipt = move_all(job)["small"]
    assert (receipt.outcome, receipt.guard) == (Outcome.TRANSFERRED, Guard.IF_MATCH)
    assert case.target.count(Operation.PUT, name="/to/small") == 1 + 3
    assert job.target_bytes("small") == job.source_bytes("small")


@ways
@honours
@pytest.mark.parametrize("there", ["as left", "gone", "foreign"])
@pytest.mark.parametrize("policy", list(ConflictPolicy))
def test_a_huge_object_is_replaced_by_the_leases_of_its_parts(
    make_case: MakeCase, way: str, if_match: bool, there: str, policy: ConflictPolicy
) -> None:
    case = make_case(way, if_match, conflicts=policy, segment_bytes=MIB)
    job = second_pass(case)
    if there == "gone":
        job.target.delete("to/large")
    elif there == "foreign":
        foreign(case, "large")
    receipt = move_all(job)["large"]
    guard = Guard.IF_MATCH if if_match else Guard.LOOK
    expected = {
        "as left": (Outcome.TRANSFERRED, None, guard),
        "gone": (Outcome.TRANSFERRED, None, None),
        "foreign": {
            ConflictPolicy.REFUSE: (Outcome.FAILED, "target_conflict", None),
            ConflictPolicy.KEEP: (Outcome.SKIPPED, "target_kept", None),
            ConflictPolicy.REPLACE: (Outcome.TRANSFERRED, None, guard),
        }[policy],
    }[there]
    assert (receipt.outcome, receipt.cause, receipt.guard) == expected
    landed = receipt.outcome is Outcome.TRANSFERRED
    assert job.target.get("to/large") == (job.source_bytes("large") if landed else FOREIGN)
    assert job.target.open_uploads() == []


@ways
def test_a_huge_object_that_is_looked_for_first_is_compared_and_then_replaced_by_policy(
    make_case: MakeCase, way: str
) -> None:
    """No part is sent before the comparison, which ends in another generation."""
    case = make_case(way, conflicts=ConflictPolicy.REPLACE, segment_bytes=MIB, look_first=True)
    case.job = job = case.job.next_pass({"huge": 2 * case.job.target.part_bytes})
    foreign(case, "huge")
    case.target.clear()
    receipt = move_all(job)["huge"]
    assert (receipt.outcome, receipt.guard) == (Outcome.TRANSFERRED, Guard.IF_MATCH)
    assert case.target.count(Operation.PART, name="/to/huge") == 2
    assert job.target_bytes("huge") == job.source_bytes("huge")
