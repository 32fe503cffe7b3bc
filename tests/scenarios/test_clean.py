"""Open multipart uploads: a job's own go, and are told from those that a job cannot know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from noria.benchmarks.servers import S3Server
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.fault_proxy.rules import Fault, Operation, lose_answer, on, refuse, stall
from tests.support.moves import Move, plain
from tests.support.processes import wait_until

MIB = 1024 * 1024
PART = 8 * MIB
SPECS = [plain("large/one", 3 * PART), plain("large/two", 2 * PART + 1), plain("small", 10)]


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[FaultProxy]:
    with run_fault_proxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def client(seaweedfs: S3Server) -> Iterator[Any]:
    client = seaweedfs.client()
    yield client
    client.close()


@pytest.fixture
def move(make_move: Callable[..., Move], proxy: FaultProxy) -> Move:
    move = make_move(SPECS, AWS_ENDPOINT_URL_S3=proxy.endpoint)
    move.job_file(plan={"part_bytes": PART}, run={"workers": 1, "journal_seconds": 0.1})
    return move


def open_keys(client: Any, move: Move) -> list[str]:
    uploads = client.list_multipart_uploads(Bucket=move.bucket).get("Uploads", ())
    return sorted(upload["Key"] for upload in uploads)


def test_a_stopped_job_keeps_its_uploads_for_the_next_run_until_it_is_cleaned(
    move: Move, proxy: FaultProxy, client: Any
) -> None:
    foreign = ["large/elsewhere", "others"]
    for key in foreign:
        client.create_multipart_upload(Bucket=move.bucket, Key=key)
    denied = refuse(403, "AccessDenied")
    proxy.add(Fault(match=on(Operation.COMPLETE, name="/large/one"), action=denied, times=None))
    stopped = move.noria("run", move.job.with_suffix(".toml"), exit_code=3)
    assert not stopped["complete"]
    ours = open_keys(client, move)
    assert set(foreign) < set(ours)
    cleaned = move.noria("clean", move.job)
    assert (cleaned["aborted"], cleaned["failed"]) == (len(ours) - len(foreign), 0)
    assert (cleaned["unclaimed"], cleaned["foreign"]) == (0, len(foreign))
    assert open_keys(client, move) == foreign
    assert move.noria("clean", move.job)["aborted"] == 0, "a repeat finds nothing"
    proxy.clear()
    done = move.noria("run", move.job)
    assert done["outcomes"] == {"TRANSFERRED": len(SPECS)}
    assert done["open_uploads"] == 0
    assert open_keys(client, move) == foreign


def test_an_upload_whose_opening_was_not_answered_is_aborted_only_where_a_person_says_so(
    move: Move, proxy: FaultProxy, client: Any
) -> None:
    proxy.add(Fault(match=on(Operation.CREATE, name="large/one"), action=lose_answer()))
    client.create_multipart_upload(Bucket=move.bucket, Key="others")
    done = move.noria("run", move.job.with_suffix(".toml"))
    assert done["outcomes"] == {"TRANSFERRED": len(SPECS)}
    assert open_keys(client, move) == ["large/one", "others"]
    assert (done["open_uploads"], done["unclaimed_uploads"]) == (1, 1), "nothing hidden"
    out, _ = move.start("run", move.job).communicate(timeout=60)
    (hint,) = [line for line in out.splitlines() if "multipart upload" in line]
    assert hint.startswith("1 multipart upload open on names of this job, ")
    assert hint.endswith(f"noria clean {move.job} --unclaimed aborts them")
    looked = move.noria("clean", move.job, exit_code=1)
    assert (looked["aborted"], looked["unclaimed"], looked["foreign"]) == (0, 1, 1)
    assert open_keys(client, move) == ["large/one", "others"]
    cleaned = move.noria("clean", move.job, "--unclaimed")
    assert (cleaned["aborted"], cleaned["unclaimed"], cleaned["foreign"]) == (1, 0, 1)
    assert open_keys(client, move) == ["others"]
    again = move.noria("run", move.job)
    assert (again["open_uploads"], again["unclaimed_uploads"]) == (0, 0)


def test_an_upload_that_could_not_be_aborted_is_remembered(
    move: Move, proxy: FaultProxy, client: Any
) -> None:
    """The shard is settled, its journal stays: the next clean knows the id."""
    wrong, denied = refuse(400, "InvalidPart"), refuse(403, "AccessDenied")
    proxy.add(
        Fault(match=on(Operation.COMPLETE, name="large/one"), action=wrong),
        Fault(match=on(Operation.ABORT, name="/large/one"), action=denied, times=None),
    )
    done = move.noria("run", move.job.with_suffix(".toml"))
    assert done["outcomes"] == {"TRANSFERRED": len(SPECS)}
    assert (done["open_uploads"], done["unclaimed_uploads"]) == (1, 0)
    assert open_keys(client, move) == ["large/one"]
    refused = move.noria("clean", move.job, exit_code=1)
    assert (refused["aborted"], refused["failed"], refused["unclaimed"]) == (0, 1, 0)
    proxy.clear()
    assert move.noria("clean", move.job)["aborted"] == 1
    assert open_keys(client, move) == []


def test_a_running_job_is_not_cleaned(move: Move, proxy: FaultProxy) -> None:
    late = stall(3.0)
    proxy.add(Fault(match=on(Operation.COMPLETE, name="/large/one"), action=late, times=None))
    process = move.start("run", move.job.with_suffix(".toml"), "--json")
    wait_until(lambda: any(move.job.glob("journal/*/*/*.journal")), "a first upload")
    second = move.start("clean", move.job)
    _, said = second.communicate(timeout=30)
    assert second.returncode == 2
    assert len(said.strip().splitlines()) == 1, said
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, (out, err)
    move.expect_all_arrived()
