"""The probe's canaries are gone when a command ends; what cannot be removed is said and counted."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from noria.benchmarks.servers import S3Server
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.fault_proxy.rules import Fault, Operation, meanwhile, on, refuse
from tests.support.moves import Move, plain

WAIT_SECONDS = 30.0


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[FaultProxy]:
    with run_fault_proxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def move(make_move: Callable[..., Move], proxy: FaultProxy) -> Move:
    return make_move([plain("a", 10)], AWS_ENDPOINT_URL_S3=proxy.endpoint)


def canaries(move: Move) -> list[str]:
    """Objects and uploads of the probe that are at the target."""
    client = move.seaweedfs.client()
    try:
        objects = client.list_objects_v2(Bucket=move.bucket).get("Contents", ())
        uploads = client.list_multipart_uploads(Bucket=move.bucket).get("Uploads", ())
        keys = [entry["Key"] for entry in (*objects, *uploads)]
    finally:
        client.close()
    return [key for key in keys if "noria-probe" in key]


def test_canaries_that_may_not_be_deleted_are_said_and_counted(
    move: Move, proxy: FaultProxy
) -> None:
    fault = Fault(match=on(Operation.DELETE), action=refuse(403, "AccessDenied"), times=None)
    proxy.add(fault)
    process = move.start("plan", move.job_file(), "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    left = json.loads(out)["target"]["canaries_left"]
    assert left == len(canaries(move)) > 0
    assert f"{left} canaries of the probe left" in err
    proxy.remove(fault)
    done = move.noria("run", move.job)
    assert (done["canaries_left"], done["reconciled"]) == (0, True)
    assert canaries(move) == []


def test_a_run_ends_only_once_the_canaries_are_removed(move: Move, proxy: FaultProxy) -> None:
    came, released = threading.Event(), threading.Event()
    moved = threading.Event()

    def hold() -> None:
        came.set()
        released.wait(WAIT_SECONDS)

    proxy.add(Fault(match=on(Operation.DELETE, name="/standing"), action=meanwhile(hold)))
    proxy.add(Fault(match=on(Operation.PUT, name="/a"), action=meanwhile(moved.set)))
    process = move.start("run", move.job_file(), "--json")
    assert came.wait(WAIT_SECONDS)
    assert moved.wait(WAIT_SECONDS), "moving does not wait for it"
    released.set()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    assert json.loads(out)["reconciled"] is True
    assert canaries(move) == []


def test_canaries_of_a_killed_command_are_removed_by_the_next(
    move: Move, proxy: FaultProxy
) -> None:
    came, released = threading.Event(), threading.Event()

    def hold() -> None:
        came.set()
        released.wait(WAIT_SECONDS)

    proxy.add(Fault(match=on(Operation.DELETE, name="/standing"), action=meanwhile(hold)))
    process = move.start("plan", move.job_file())
    assert came.wait(WAIT_SECONDS)
    while not (move.job / "manifest" / "manifest.json").exists():
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=10)
    released.set()
    assert canaries(move)
    done = move.noria("run", move.job)
    assert done["reconciled"] is True
    assert canaries(move) == []


def test_a_command_that_is_interrupted_leaves_no_canary(move: Move, proxy: FaultProxy) -> None:
    came, released = threading.Event(), threading.Event()

    def hold() -> None:
        came.set()
        released.wait(0.5)

    proxy.add(Fault(match=on(Operation.COMPLETE), action=meanwhile(hold)))
    process = move.start("plan", move.job_file())
    assert came.wait(WAIT_SECONDS)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 3, (out, err)
    assert canaries(move) == []


def test_a_plan_that_is_killed_in_the_probe_is_cleaned_up_by_any_next_command(
    move: Move, proxy: FaultProxy
) -> None:
    """The token is durable before the first canary, so no plan and no job is needed for it."""
    came, released = threading.Event(), threading.Event()

    def hold() -> None:
        came.set()
        released.wait(WAIT_SECONDS)

    for command in ("clean", "run"):
        came.clear()
        released.clear()
        fault = Fault(match=on(Operation.COMPLETE), action=meanwhile(hold), times=None)
        proxy.add(fault)
        process = move.start("plan", move.job_file())
        assert came.wait(WAIT_SECONDS)
        process.kill()
        process.communicate(timeout=10)
        proxy.remove(fault)
        released.set()
        assert not (move.job / "job.json").exists()
        assert canaries(move)
        ended = move.start(command, str(move.job))
        out, err = ended.communicate(timeout=60)
        assert ended.returncode == (0 if command == "clean" else 2), (out, err)
        assert canaries(move) == [], (command, out, err, list(move.job.iterdir()))
    done = move.noria("run", move.job_file())
    assert done["reconciled"] is True
    assert done["differences"] == {}


def test_canaries_that_stay_are_no_objects_of_others(move: Move, proxy: FaultProxy) -> None:
    """A key without the right to delete: the canaries are counted, and nothing is `extra`."""
    proxy.add(Fault(match=on(Operation.DELETE), action=refuse(403, "AccessDenied"), times=None))
    done = move.noria("run", move.job_file())
    assert (done["reconciled"], done["differences"]) == (True, {})
    assert done["canaries_left"] >= len({key for key in canaries(move) if "upload" not in key}) > 0


def test_a_large_object_under_a_canarys_name_is_extra(move: Move) -> None:
    move.noria("plan", move.job_file())
    client = move.seaweedfs.client()
    client.put_object(
        Bucket=move.bucket, Key=".noria-probe-0123456789ab/hidden", Body=b"more than a canary"
    )
    client.put_object(Bucket=move.bucket, Key=".noria-probe-0123456789ab/standing", Body=b"canary")
    client.close()
    process = move.start("run", str(move.job), "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, (out, err)
    assert json.loads(out)["differences"] == {"extra": 1}


def test_nothing_is_left_in_a_bucket_that_keeps_versions(move: Move) -> None:
    client = move.seaweedfs.client()
    client.put_bucket_versioning(Bucket=move.bucket, VersioningConfiguration={"Status": "Enabled"})
    done = move.noria("run", move.job_file())
    assert (done["reconciled"], done["canaries_left"]) == (True, 0)
    found = client.list_object_versions(Bucket=move.bucket)
    client.close()
    assert [entry["Key"] for entry in found.get("Versions", ())] == ["a"]
    assert found.get("DeleteMarkers", []) == []


def test_a_target_that_takes_names_it_can_not_keep(
    make_move: Callable[..., Move], rclone_s3: S3Server
) -> None:
    move = make_move([plain("a", 10)], **rclone_s3.env())
    client = rclone_s3.client()
    client.create_bucket(Bucket=move.bucket)
    done = move.noria("run", move.job_file())
    again = move.noria("run", move.job)
    client.close()
    for ended in (done, again):
        assert (ended["reconciled"], ended["differences"]) == (True, {})
