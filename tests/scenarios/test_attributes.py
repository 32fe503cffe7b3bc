"""What travels with objects between real stores: as it is, mapped, left and counted, or refused."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.storage.blob import BlobServiceClient, ContainerClient, ContentSettings, StandardBlobTier

from noria.benchmarks.servers import Azurite
from tests.support.moves import Move

MIB = 1024 * 1024
OURS = ("noriatxid", "mtime")
DISPOSITION = 'attachment; filename="résumé 漢字.pdf"'


@pytest.fixture
def other_container(azurite: Azurite) -> Iterator[ContainerClient]:
    name = f"other-{uuid.uuid4().hex}"
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        yield service.create_container(name)
        service.delete_container(name)


@contextlib.contextmanager
def container_of(move: Move) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(move.azurite.connection_string) as service:
        yield service.get_container_client(move.container)


def own(metadata: dict[str, str] | None) -> dict[str, str]:
    return {name: value for name, value in (metadata or {}).items() if name not in OURS}


def test_from_azure_to_azure_nothing_changes(
    make_move: Callable[..., Move], other_container: ContainerClient
) -> None:
    move = make_move([])
    large = bytes(range(256)) * (96 * 1024)  # 24 MiB: more than one part
    md5 = hashlib.md5(large, usedforsecurity=False).digest()
    metadata = {"searchTags": "a b", "UPPER": "", "x_1": "=?UTF-8?B?YQ==?="}
    with container_of(move) as source:
        source.upload_blob(
            "large",
            large,
            metadata=metadata,
            content_settings=ContentSettings(content_md5=bytearray(md5)),
            standard_blob_tier=StandardBlobTier.COOL,
        )
        source.upload_blob("small", b"x", metadata=metadata, tags={"k": "v"})
    job_file = move.job_file(
        target={
            "url": f"az://{move.azurite.account}/{other_container.container_name}",
            "storage_class": "source",
        },
        plan={"part_bytes": "16MiB"},
    )
    done = move.noria("run", job_file)
    assert (done["outcomes"], done["changes"]) == ({"TRANSFERRED": 2}, {})
    small, big = (
        other_container.get_blob_client(name).get_blob_properties() for name in ("small", "large")
    )
    assert own(small.metadata) == own(big.metadata) == metadata
    assert bytes(big.content_settings.content_md5 or b"") == md5
    assert big.blob_tier == "Cool"
    assert other_container.get_blob_client("small").get_blob_tags() == {"k": "v"}


def put_s3(move: Move, key: str, *, disposition: str | None = None, **attributes: Any) -> None:
    """Write an object; boto3 itself sends no header beyond ASCII, other clients do."""
    client = move.seaweedfs.client()
    try:
        if disposition is None:
            client.put_object(Bucket=move.bucket, Key=key, Body=b"x", **attributes)
            return
        given = {"Bucket": move.bucket, "Key": key, **attributes}
        url = urlsplit(client.generate_presigned_url("put_object", Params=given))
    finally:
        client.close()
    headers: dict[str, str | bytes] = {"content-disposition": disposition.encode()}
    headers |= {f"x-amz-meta-{name}": value for name, value in attributes["Metadata"].items()}
    headers["x-amz-tagging"] = attributes["Tagging"]
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    connection.request("PUT", f"{url.path}?{url.query}", b"x", headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def test_from_s3_to_s3_nothing_changes(make_move: Callable[..., Move]) -> None:
    move = make_move([])
    put_s3(
        move,
        "from/a",
        disposition=DISPOSITION,
        Metadata={"with-hyphens": "1", "spaces": "two  of them", "json": '{"a":   1}'},
        Tagging="k=v",
    )
    job_file = move.job_file(
        source={"url": f"s3://{move.bucket}/from"}, target={"url": f"s3://{move.bucket}/to"}
    )
    done = move.noria("run", job_file)
    assert (done["outcomes"], done["changes"]) == ({"TRANSFERRED": 1}, {})
    client = move.seaweedfs.client()
    before, after = (client.head_object(Bucket=move.bucket, Key=f"{at}/a") for at in ("from", "to"))
    assert after["ContentDisposition"] == before["ContentDisposition"]
    # boto3 reads headers as Latin-1, one character for each byte.
    assert after["ContentDisposition"].encode("latin-1").decode() == DISPOSITION
    assert own(after["Metadata"]) == before["Metadata"]
    tags = client.get_object_tagging(Bucket=move.bucket, Key="to/a")["TagSet"]
    client.close()
    assert tags == [{"Key": "k", "Value": "v"}]


@pytest.mark.parametrize("policy", ["refuse", "leave", "map"])
def test_from_s3_to_azure_by_policy(make_move: Callable[..., Move], policy: str) -> None:
    move = make_move([])
    put_s3(
        move,
        "from/a",
        disposition=DISPOSITION,
        Metadata={"with-hyphens": "1", "fine": "2"},
        Tagging="k=v&a%40b=1",
    )
    put_s3(move, "from/plain", Metadata={"fine": "2"})
    unfit = {f"unfit_{name}": policy for name in ("metadata", "headers", "tags")}
    job_file = move.job_file(
        source={"url": f"s3://{move.bucket}/from"}, target={"url": move.source}, run=unfit
    )
    done = move.noria("run", job_file, exit_code=1 if policy == "refuse" else 0)
    if policy == "refuse":
        assert done["outcomes"] == {"FAILED": 1, "TRANSFERRED": 1}
        assert done["causes"] == {"attributes_refused": 1}
        return
    assert done["outcomes"] == {"TRANSFERRED": 2}
    how = "left" if policy == "leave" else "mapped"
    assert done["changes"] == {f"header_{how}": 1, f"metadata_{how}": 1, "tags_left": 1}
    assert move.noria("status", move.job)["changes"] == done["changes"]
    with container_of(move) as target:
        blob = target.get_blob_client("a")
        found = blob.get_blob_properties()
        assert blob.get_blob_tags() == {"k": "v"}
    if policy == "leave":
        assert own(found.metadata) == {"fine": "2"}
        assert found.content_settings.content_disposition is None
    else:
        assert own(found.metadata) == {
            "fine": "2",
            "rename_with_hyphens": "1",
            "rename_key_with_hyphens": "with-hyphens",
        }
        name = "r%C3%A9sum%C3%A9%20%E6%BC%A2%E5%AD%97.pdf"
        expected = f"attachment; filename*=UTF-8''{name}"
        assert found.content_settings.content_disposition == expected


def test_a_blob_that_changes_its_type_is_counted(
    make_move: Callable[..., Move], other_container: ContainerClient
) -> None:
    """A disk that becomes a block blob is attached to no machine."""
    move = make_move([])
    with container_of(move) as source:
        source.get_blob_client("disk").create_page_blob(1024)
        source.get_blob_client("log").create_append_blob()
        source.upload_blob("block", b"x")
    to = f"az://{move.azurite.account}/{other_container.container_name}"
    done = move.noria("run", move.job_file(target={"url": to}))
    assert done["outcomes"] == {"TRANSFERRED": 3}
    assert done["changes"] == {"blob_type_left": 2}


def test_a_console_folder_and_an_azure_stub_have_one_verdict(
    make_move: Callable[..., Move],
) -> None:
    move = make_move([])
    with container_of(move) as source:
        source.upload_blob("d/", b"")
        source.upload_blob("e", b"", metadata={"hdi_isfolder": "true"})
        source.upload_blob("d/x", b"x")
    done = move.copy()
    assert done["outcomes"] == {"SKIPPED": 2, "TRANSFERRED": 1}
    assert done["causes"] == {"folder_stub": 2}


def test_the_mark_of_the_prefix_itself_has_the_verdict_of_all_marks(
    make_move: Callable[..., Move],
) -> None:
    """Consoles make `from/` for a folder `from`; below the prefix its key is empty."""
    move = make_move([])
    with container_of(move) as source:
        for name, body in (("from/", b""), ("from/d/", b""), ("from/x", b"x")):
            source.upload_blob(name, body)
    done = move.noria("run", move.job_file(source={"url": f"{move.source}/from/"}))
    assert done["outcomes"] == {"SKIPPED": 2, "TRANSFERRED": 1}
    assert done["causes"] == {"folder_stub": 2}


def test_a_plan_says_what_attributes_will_become(make_move: Callable[..., Move]) -> None:
    move = make_move([])
    for number in range(5):
        put_s3(move, f"from/{number}", Metadata={"with-hyphens": "1"} if number < 2 else {"a": "b"})
    ends: dict[str, Any] = {
        "source": {"url": f"s3://{move.bucket}/from"},
        "target": {"url": move.source},
    }
    planned = move.noria("plan", move.job_file(**ends))
    assert planned["attributes"] == {
        "looked_at": 5,
        "refused": 2,
        "changes": {"metadata_left": 2},
    }
    mapping = move.job_file(**ends, run={"unfit_metadata": "map"})
    planned = move.noria("plan", mapping)
    assert planned["attributes"] == {
        "looked_at": 5,
        "refused": 0,
        "changes": {"metadata_mapped": 2},
    }


@pytest.mark.parametrize(
    ("treatment", "outcomes"),
    [("leave", {"FAILED": 1, "TRANSFERRED": 1}), ("map", {"TRANSFERRED": 2})],
)
def test_where_all_has_to_be_representable_nothing_is_left(
    make_move: Callable[..., Move], treatment: str, outcomes: dict[str, int]
) -> None:
    move = make_move([])
    put_s3(move, "from/a", Metadata={"with-hyphens": "1"})
    put_s3(move, "from/b", Metadata={"fine": "1"})
    job_file = move.job_file(
        source={"url": f"s3://{move.bucket}/from"},
        target={"url": move.source},
        plan={"representable": "all"},
        run={"unfit_metadata": treatment},
    )
    done = move.noria("run", job_file, exit_code=1 if "FAILED" in outcomes else 0)
    assert done["outcomes"] == outcomes
    assert done["causes"] == ({"attributes_refused": 1} if "FAILED" in outcomes else {})


def test_where_all_has_to_be_representable_names_keep_their_case(
    make_move: Callable[..., Move],
) -> None:
    move = make_move([])
    with container_of(move) as source:
        source.upload_blob("a", b"x", metadata={"searchTags": "1"})
        source.upload_blob("b", b"x", metadata={"lower": "1"})
    done = move.noria("run", move.job_file(plan={"representable": "all"}), exit_code=1)
    assert done["outcomes"] == {"FAILED": 1, "TRANSFERRED": 1}


def test_bytes_that_are_not_those_of_the_stated_md5_do_not_land(
    make_move: Callable[..., Move],
) -> None:
    move = make_move([])
    wrong = ContentSettings(content_md5=bytearray(hashlib.md5(b"another").digest()))
    with container_of(move) as source:
        source.upload_blob("right", b"x")
        source.upload_blob("wrong", b"x")
        source.get_blob_client("wrong").set_http_headers(wrong)
    job_file = move.job_file()
    done = move.noria("run", job_file, exit_code=1)
    assert done["outcomes"] == {"FAILED": 1, "TRANSFERRED": 1}
    (cause,) = done["causes"]
    done = move.noria("run", move.job_file(run={"source_md5": False}))
    assert done["outcomes"] == {"TRANSFERRED": 2}, f"{cause} may pass"


@pytest.mark.parametrize("retention", ["carry", None])
def test_retention_is_carried_if_that_is_asked_for(
    make_move: Callable[..., Move], retention: str | None
) -> None:
    move = make_move([])
    client = move.seaweedfs.client()
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    buckets = [f"locked-{uuid.uuid4().hex}" for _ in range(2)]
    for bucket in buckets:
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    lock: dict[str, Any] = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until}
    client.put_object(Bucket=buckets[0], Key="kept", Body=b"x", **lock)
    client.put_object(Bucket=buckets[0], Key="held", Body=b"x", ObjectLockLegalHoldStatus="ON")
    client.put_object(Bucket=buckets[0], Key="free", Body=b"x")
    job_file = move.job_file(
        source={"url": f"s3://{buckets[0]}"},
        target={"url": f"s3://{buckets[1]}", **({"retention": retention} if retention else {})},
    )
    done = move.noria("run", job_file)
    heads = {
        key: client.head_object(Bucket=buckets[1], Key=key) for key in ("kept", "held", "free")
    }
    client.close()
    assert done["outcomes"] == {"TRANSFERRED": 3}
    assert done["changes"] == ({} if retention else {"retention_left": 2})
    locks = {key: head.get("ObjectLockMode") for key, head in heads.items()}
    holds = {key: head.get("ObjectLockLegalHoldStatus") for key, head in heads.items()}
    if not retention:
        assert set(locks.values()) == {None}
        assert set(holds.values()) <= {None, "OFF"}
        return
    assert locks == {"kept": "GOVERNANCE", "held": None, "free": None}
    assert heads["kept"]["ObjectLockRetainUntilDate"] == until
    assert [key for key, hold in holds.items() if hold == "ON"] == ["held"]
