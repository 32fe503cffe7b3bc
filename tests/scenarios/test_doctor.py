"""`noria doctor`: what it finds on real servers, and that it leaves nothing there."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.servers import S3Server
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.fault_proxy.rules import Fault, Operation, meanwhile, on, refuse
from tests.support.moves import NORIA, Move, plain

WAIT_SECONDS = 30.0
DOCTOR_SECONDS = 300
"""A person would not wait longer than a minute, a busy machine may take longer."""


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[FaultProxy]:
    with run_fault_proxy(seaweedfs.endpoint) as proxy:
        yield proxy


def doctor(move: Move, *arguments: Any, exit_code: int = 0) -> dict[str, Any]:
    """What it prints with --json."""
    ended = subprocess.run(
        [NORIA, "doctor", *arguments, "--json"],
        env=move.environment,
        text=True,
        capture_output=True,
        timeout=DOCTOR_SECONDS,
        check=False,
    )
    assert ended.returncode == exit_code, (ended.stdout, ended.stderr)
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def marks(document: dict[str, Any], role: str) -> dict[str, str]:
    """The mark of each topic at one end."""
    (end,) = (end for end in document["ends"] if end["role"] == role)
    return {finding["topic"]: finding["mark"] for finding in end["findings"]}


def keys_of(server: S3Server, bucket: str) -> set[str]:
    """Names of objects and open uploads."""
    client = server.client()
    try:
        objects = client.list_objects_v2(Bucket=bucket).get("Contents", ())
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
        return {entry["Key"] for entry in (*objects, *uploads)}
    finally:
        client.close()


def test_both_ends_of_a_job(make_move: Callable[..., Move]) -> None:
    move = make_move([plain("a", 10)])
    found = doctor(move, move.job_file())
    assert (found["lacks"], found["exit_code"]) == (0, 0)
    source, target = marks(found, "source"), marks(found, "target")
    assert (source["list"], source["read"], source["may-write"]) == ("ok", "ok", "note")
    assert source["credentials"] == "note", "an account's key"
    assert target["checksum"] == target["trailer"] == target["parts"] == "ok"
    assert target["condition"] == "note", "SeaweedFS completes two uploads of one name"
    assert target["odd-names"] == target["metadata"] == target["tags"] == "ok"
    assert target["delete"] == "ok"
    assert keys_of(move.seaweedfs, move.bucket) == set()
    assert not move.job.exists(), "there is no job yet"


def test_a_plan_uses_what_it_found(make_move: Callable[..., Move], proxy: FaultProxy) -> None:
    move = make_move([plain("a", 10)], AWS_ENDPOINT_URL_S3=proxy.endpoint)
    job_file = move.job_file()
    doctor(move, job_file)
    proxy.add(Fault(match=on(Operation.PUT), action=refuse(403, "AccessDenied"), times=None))
    planned = move.noria("plan", job_file)
    assert planned["target"]["checksum"] == "crc64nvme"


def test_a_url_alone_is_a_source_and_nothing_is_written(
    make_move: Callable[..., Move], proxy: FaultProxy
) -> None:
    move = make_move([], AWS_ENDPOINT_URL_S3=proxy.endpoint)
    client = move.seaweedfs.client()
    client.put_object(Bucket=move.bucket, Key="p/a", Body=b"x", Tagging="k=v")
    client.put_object(Bucket=move.bucket, Key="q", Body=b"x")
    found = doctor(move, f"{move.target}/p")
    (end,) = found["ends"]
    rights = end["facts"]["rights"]
    assert rights == dict.fromkeys(rights, "yes")
    assert marks(found, "source")["outside"] == "note"
    assert keys_of(move.seaweedfs, move.bucket) == {"p/a", "q"}
    client.put_bucket_versioning(Bucket=move.bucket, VersioningConfiguration={"Status": "Enabled"})
    found = doctor(move, f"{move.target}/p")
    assert found["ends"][0]["facts"]["rights"]["deletes"] == "unclear", "it would leave a marker"
    assert client.list_object_versions(Bucket=move.bucket).get("DeleteMarkers", []) == []
    client.close()


def test_what_lacks_is_said_and_ends_with_2(
    make_move: Callable[..., Move], proxy: FaultProxy
) -> None:
    move = make_move([plain("a", 10)], AWS_ENDPOINT_URL_S3=proxy.endpoint)
    proxy.add(Fault(match=on(Operation.DELETE), action=refuse(403, "AccessDenied"), times=None))
    found = doctor(move, move.target, "--target", exit_code=2)
    assert marks(found, "target")["delete"] == "lacks"
    (end,) = found["ends"]
    assert set(end["canaries_left"]) == keys_of(move.seaweedfs, move.bucket)
    objects = {key for key in end["canaries_left"] if not key.endswith("/parts")}
    assert len(objects) == 1, "one told that what is written cannot be deleted"
    found = doctor(move, move.source, "s3://no-such-bucket-here", exit_code=2)
    assert marks(found, "target")["reach"] == "lacks"
    assert marks(found, "source")["read"] == "ok"


def test_one_line_a_finding_in_a_pipe(make_move: Callable[..., Move]) -> None:
    move = make_move([plain("a", 10)])
    process = move.start("doctor", move.source)
    out, err = process.communicate(timeout=DOCTOR_SECONDS)
    assert (process.returncode, err) == (0, "")
    *findings, total = out.splitlines()
    assert total.endswith(" s)")
    assert {line.split()[0] for line in findings} == {"ok", "note"}
    assert all(" -> " in line for line in findings if line.startswith("note"))


@pytest.mark.parametrize("command", ["doctor", "plan"])
def test_a_doctor_that_is_killed_is_cleaned_up_by_the_next_command(
    make_move: Callable[..., Move], proxy: FaultProxy, command: str
) -> None:
    move = make_move([plain("a", 10)], AWS_ENDPOINT_URL_S3=proxy.endpoint)
    came, released = threading.Event(), threading.Event()

    def hold() -> None:
        came.set()
        released.wait(WAIT_SECONDS)

    fault = Fault(match=on(Operation.COMPLETE), action=meanwhile(hold), times=None)
    proxy.add(fault)
    process = move.start("doctor", move.target, "--target")
    assert came.wait(WAIT_SECONDS)
    process.kill()
    process.communicate(timeout=10)
    proxy.remove(fault)
    released.set()
    assert keys_of(move.seaweedfs, move.bucket)
    if command == "doctor":
        doctor(move, move.target, "--target")
    else:
        move.noria("plan", move.job_file(target={"endpoint": proxy.endpoint}))
    assert keys_of(move.seaweedfs, move.bucket) == set()


def test_a_bucket_that_keeps_what_is_written_gets_no_object(
    make_move: Callable[..., Move],
) -> None:
    """By its default retention: its canaries could not be deleted for days, by anybody."""
    move = make_move([plain("a", 10)])
    client = move.seaweedfs.client()
    client.create_bucket(Bucket=f"{move.bucket}-locked", ObjectLockEnabledForBucket=True)
    client.put_object_lock_configuration(
        Bucket=f"{move.bucket}-locked",
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
        },
    )
    job_file = move.job_file(target={"url": f"s3://{move.bucket}-locked"})
    found = doctor(move, job_file)
    target = marks(found, "target")
    assert (target["retention"], target["checksum"], target["delete"]) == ("note", "ok", "ok")
    planned = move.noria("plan", job_file)
    assert planned["target"]["checksum"] == "crc64nvme"
    assert planned["target"]["canaries_left"] == 0
    listed = client.list_object_versions(Bucket=f"{move.bucket}-locked")
    assert (listed.get("Versions", []), listed.get("DeleteMarkers", [])) == ([], [])
    assert client.list_multipart_uploads(Bucket=f"{move.bucket}-locked").get("Uploads", []) == []
    done = move.noria("run", move.job)
    assert (done["reconciled"], done["differences"]) == (True, {})
    listed = client.list_object_versions(Bucket=f"{move.bucket}-locked")
    client.close()
    assert [version["Key"] for version in listed["Versions"]] == ["a"]


def test_a_file_is_read_whatever_stands_beside_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a-folder").mkdir(parents=True)
    (source / "0-link").symlink_to("z-file")
    (source / "z-file").write_text("x")
    command: list[str | Path] = [NORIA, "doctor", source, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert marks(json.loads(ended.stdout), "source")["read"] == "ok"
