"""Jobs that revision 586b44f began, and was killed in the middle of, are finished by this one.

tests/data/job-586b44f holds their directories as it left them, and what had landed by then. Both
move the same objects from bucket to bucket of a SeaweedFS.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.servers import S3Server
from noria.benchmarks.servers.dataset import object_bytes
from tests.support.lease_jobs import BucketShelf
from tests.support.moves import NORIA, RUN_SECONDS

DATA = Path(__file__).parent.parent / "data" / "job-586b44f"
SEED = 586
MIB = 1 << 20
PART = 5 * MIB
SIZES = {
    "large": 48 * MIB + 12345,
    "middle": 9 * MIB,
    **{f"small/{number:03}": 4096 for number in range(60)},
}


@pytest.fixture
def ends(buckets: BucketShelf) -> Iterator[tuple[str, str]]:
    """The names of two empty buckets."""
    with contextlib.ExitStack() as stack:
        source, target = (stack.enter_context(buckets.take()).name for _ in range(2))
        yield source, target


@pytest.mark.parametrize("moment", ["parts", "objects"])
def test_a_job_is_finished_and_verified(
    seaweedfs: S3Server, ends: tuple[str, str], tmp_path: Path, moment: str
) -> None:
    """A job that was killed in the middle.

    In the middle of a large object, whose upload is gone since, and of small ones, of which some
    are journalled.
    """
    landed = json.loads((DATA / f"{moment}-landed.json").read_text())
    with contextlib.closing(seaweedfs.client()) as client:
        _fill(client, *ends, landed)
        job = _job_directory(moment, seaweedfs, *ends, tmp_path)
        status = _noria(seaweedfs, "status", job)
        assert status["phase"] == "stopped"
        assert "killed" in status["stopped"]
        done = _noria(seaweedfs, "run", job)
        assert done["complete"] is True
        assert _noria(seaweedfs, "status", job)["phase"] == "finished"
        assert done["reconciled"] is True
        assert sum(done["outcomes"].values()) == len(SIZES)
        assert done["bytes"] == sum(SIZES.values())
        for key, size in SIZES.items():
            head = client.get_object(Bucket=ends[1], Key=key)
            assert head["Body"].read() == object_bytes(SEED, key, 0, size), key
            if key in landed:
                assert head["Metadata"] == landed[key]["metadata"], "what had landed was left"
    verified = _noria(seaweedfs, "verify", job)
    assert (verified["damaged"], verified["unsettled"]) == (0, 0)
    assert verified["complete"] is True
    assert _noria(seaweedfs, "reconcile", job)["reconciled"] is True


def _fill(client: Any, source: str, target: str, landed: dict[str, Any]) -> None:
    """Both buckets as they were."""
    for key, size in SIZES.items():
        client.put_object(Bucket=source, Key=key, Body=object_bytes(SEED, key, 0, size))
    for key, facts in landed.items():
        body = object_bytes(SEED, key, 0, SIZES[key])
        about = {
            "Bucket": target,
            "Key": key,
            "Metadata": facts["metadata"],
            "ContentType": facts["type"],
            "ChecksumAlgorithm": "CRC64NVME",
        }
        if len(body) > PART:
            _put_in_parts(client, body, about)
        else:
            client.put_object(Body=body, **about)
        assert client.head_object(Bucket=target, Key=key)["ETag"] == facts["etag"], key


def _put_in_parts(client: Any, body: bytes, about: dict[str, Any]) -> None:
    place = {"Bucket": about["Bucket"], "Key": about["Key"]}
    upload = client.create_multipart_upload(**about)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(body), PART), 1):
        part = client.upload_part(
            **place,
            UploadId=upload,
            PartNumber=number,
            Body=body[start : start + PART],
            ChecksumAlgorithm="CRC64NVME",
        )
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})


def _job_directory(moment: str, server: S3Server, source: str, target: str, tmp_path: Path) -> Path:
    """A copy of what was left, which knows where the server is now."""
    job = tmp_path / "job"
    shutil.copytree(DATA / moment, job)
    facts = (job / "job.json").read_text()
    for old, new in {
        json.loads(facts)["config"]["target"]["endpoint"]: server.endpoint,
        "s3://source": f"s3://{source}",
        "s3://target": f"s3://{target}",
        "/home/user/job": str(job),
    }.items():
        facts = facts.replace(old, new)
    (job / "job.json").write_text(facts)
    return job


def _noria(server: S3Server, *arguments: str | Path) -> dict[str, Any]:
    ended = subprocess.run(
        [NORIA, *arguments, "--json"],
        env={**os.environ, **server.env()},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document
