"""The main job as a user runs it: Azurite to SeaweedFS, then look at it from every side."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from azure.storage.blob import BlobServiceClient, ContentSettings

from noria.benchmarks.servers.dataset import ObjectSpec, build_mixed
from tests.support.moves import NORIA, Move, plain

MIB = 1024 * 1024
GUESSED = "application/octet-stream"
"""SeaweedFS 4.48 does not keep this type: it answers with one that it guesses from the name."""


@pytest.fixture
def specs() -> list[ObjectSpec]:
    return build_mixed(60 * MIB, 3)


def test_copy_then_status_verify_reconcile_and_damage(
    make_move: Callable[..., Move], specs: list[ObjectSpec]
) -> None:
    move = make_move(specs)
    done = move.copy()
    total = sum(spec.size for spec in specs)
    assert done["outcomes"] == {"TRANSFERRED": len(specs)}
    assert (done["objects"], done["bytes"], done["bytes_moved"]) == (len(specs), total, total)
    assert done["levels"] == {"ingested": len(specs)}
    assert done["reconciled"] is True
    move.expect_rclone_finds_no_difference()
    move.expect_all_arrived()
    expect_attributes(move)

    again = move.copy()
    assert again["outcomes"] == done["outcomes"]
    assert again["bytes_moved"] == total, "a finished job moves nothing more"

    status = move.noria("status", move.job)
    assert (status["phase"], status["objects_done"]) == ("finished", len(specs))
    verified = move.noria("verify", move.job, "--metrics-address", "off")
    assert (verified["reread"], verified["damaged"]) == (len(specs), 0)

    client = move.seaweedfs.client()
    first, second, third = [spec.key for spec in specs if spec.size > 100][:3]
    flipped = bytearray(client.get_object(Bucket=move.bucket, Key=first)["Body"].read())
    flipped[50] ^= 1
    client.put_object(Bucket=move.bucket, Key=first, Body=bytes(flipped))
    client.delete_object(Bucket=move.bucket, Key=second)
    client.put_object(Bucket=move.bucket, Key="not/of/this/job", Body=b"x")
    client.close()
    red = move.noria("verify", move.job, "--metrics-address", "off", exit_code=1)
    assert red["damaged"] == 2
    assert red["reread"] == len(specs) - 2
    found = move.noria("reconcile", move.job, exit_code=1)
    assert (found["missing"], found["extra"], found["differing"]) == (1, 1, 1)
    assert found["reconciled"] is False
    named = move.noria("verify", move.job, "--metrics-address", "off", "--show-keys", exit_code=1)
    assert {failure["name"] for failure in named["failures"]} == {first, second}
    assert third not in json.dumps(red)
    assert first not in json.dumps(red)


def expect_attributes(move: Move) -> None:
    client = move.seaweedfs.client()
    for spec in move.specs[::17]:
        head = client.head_object(Bucket=move.bucket, Key=spec.key)
        if spec.content_type != GUESSED:
            assert head["ContentType"] == spec.content_type, spec.key
        metadata = {
            name: value
            for name, value in head["Metadata"].items()
            if name not in ("noriatxid", "mtime")
        }
        assert metadata == {name.lower(): value for name, value in spec.metadata.items()}
        tags = client.get_object_tagging(Bucket=move.bucket, Key=spec.key)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == dict(spec.tags)
    client.close()


def test_what_cannot_land_is_refused_before_the_first_byte(make_move: Callable[..., Move]) -> None:
    """SeaweedFS keeps a//b under a/b, and would keep one of the two: the plan says so."""
    specs = [plain(key=key, size=5) for key in ("a/b", "c", "archived", "w/x")]
    move = make_move(specs)
    with BlobServiceClient.from_connection_string(move.azurite.connection_string) as service:
        container = service.get_container_client(move.container)
        container.upload_blob("a//b", b"other")
        container.upload_blob("folder", b"", metadata={"hdi_isfolder": "true"})
        container.get_blob_client("archived").set_standard_blob_tier("Archive")
        container.upload_blob("w/y", b"<>", content_settings=ContentSettings(content_language="fr"))
    planned = move.noria("plan", move.job_file())
    assert planned["left_out"] == {"name_merged": 1, "folder_stub": 1, "archived": 1}
    assert planned["objects_to_move"] == 4
    client = move.seaweedfs.client()
    assert not client.list_objects_v2(Bucket=move.bucket).get("Contents"), "the probe cleans up"
    done = move.noria("run", move.job, exit_code=1)
    assert done["outcomes"] == {"TRANSFERRED": 4, "SKIPPED": 3}
    assert (done["failed"], done["reconciled"]) == (2, True)
    failures = pq.read_table(move.job / "failures.parquet").to_pylist()
    assert {row["key"]: row["cause"] for row in failures} == {
        "a//b": "name_merged",
        "archived": "archived",
    }
    assert client.get_object(Bucket=move.bucket, Key="a/b")["Body"].read() != b"other"
    assert client.head_object(Bucket=move.bucket, Key="w/y")["ContentLanguage"] == "fr"
    client.close()


def test_prefixes_keep_relative_names_with_or_without_a_slash(
    make_move: Callable[..., Move],
) -> None:
    keys = ["in/one", "in/deep/two", "inside", "out"]
    move = make_move([plain(key=key, size=10) for key in keys])
    for number, (source, target) in enumerate([("in", "to"), ("in/", "to2/")]):
        move.noria(
            "copy",
            f"{move.source}/{source}",
            f"{move.target}/{target}",
            "--job",
            move.job.with_name(f"job{number}"),
            "--metrics-address",
            "off",
        )
    move.noria(
        "copy",
        f"{move.source}/in/one",
        f"{move.target}/single",
        "--job",
        move.job.with_name("job9"),
        "--metrics-address",
        "off",
    )
    client = move.seaweedfs.client()
    listed = client.list_objects_v2(Bucket=move.bucket)["Contents"]
    client.close()
    assert [item["Key"] for item in listed] == [
        "single/one",
        "to/deep/two",
        "to/one",
        "to2/deep/two",
        "to2/one",
    ]


@pytest.mark.parametrize("way", ["back", "down-and-up"])
def test_a_move_can_be_rolled_back(
    make_move: Callable[..., Move], tmp_path: object, way: str
) -> None:
    """S3 to Azure, and by way of a local directory: bytes and attributes survive the round trip."""
    specs = build_mixed(12 * MIB, 9)[:60]
    move = make_move(specs)
    off = ("--metrics-address", "off")
    with BlobServiceClient.from_connection_string(move.azurite.connection_string) as service:
        returned = f"{move.container}-back"
        service.create_container(returned)
        folder = move.job.with_name("folder")
        folder.mkdir()
        stops = [move.source, move.target]
        if way == "down-and-up":
            stops = [move.source, f"file://{folder}", move.target]
        stops.append(f"az://{move.azurite.account}/{returned}")
        for number, (source, target) in enumerate(pairwise(stops)):
            job = move.job.with_name(f"job{number}")
            done = move.noria("copy", source, target, "--job", job, *off)
            assert done["outcomes"] == {"TRANSFERRED": len(specs)}
        back = service.get_container_client(returned)
        start = service.get_container_client(move.container)
        blobs = {blob.name: blob for blob in back.list_blobs(include=["metadata"])}
        assert blobs.keys() == {spec.key for spec in specs}
        for spec in specs:
            blob = blobs[spec.key]
            if spec.content_type != GUESSED:
                assert blob.content_settings.content_type == spec.content_type
            kept = {
                name.lower(): value
                for name, value in (blob.metadata or {}).items()
                if name.lower() not in ("noriatxid", "mtime")
            }
            assert kept == {name.lower(): value for name, value in spec.metadata.items()}
        for spec in specs[::7]:
            assert back.download_blob(spec.key).readall() == start.download_blob(spec.key).readall()
        service.delete_container(returned)


def test_json_is_all_that_standard_output_holds(make_move: Callable[..., Move]) -> None:
    move = make_move([plain(key="a", size=1)])
    process = move.start(
        "copy", move.source, move.target, "--job", move.job, "--metrics-address", "off", "--json"
    )
    out, err = process.communicate(timeout=60)
    assert json.loads(out)["exit_code"] == 0
    assert "Traceback" not in err
    version = subprocess.run([NORIA, "--help"], capture_output=True, text=True, check=True)
    for command in ("copy", "plan", "run", "status", "verify", "reconcile"):
        assert command in version.stdout
