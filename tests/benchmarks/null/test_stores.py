"""The null stores answer real clients as the stores that they stand for, and the loop is whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobPrefix
from botocore.exceptions import ClientError

from noria.benchmarks.null.stores import (
    CONTAINER,
    NullSink,
    NullSource,
    run_null_sink,
    run_null_source,
)
from noria.workers.digest import crc64nvme
from noria.workers.stores.s3.headers import encode_crc
from tests.support.null_objects import BIG, MIB, OBJECTS, RUN_SECONDS, needs_compiler

pytestmark = needs_compiler

PATTERN_BYTES = 8 * MIB
KEPT_BYTES = 64 << 10


@pytest.fixture(scope="module")
def source() -> Iterator[NullSource]:
    with run_null_source(OBJECTS.items()) as server:
        yield server


@pytest.fixture(scope="module")
def sink() -> Iterator[NullSink]:
    with run_null_sink() as server:
        yield server


@pytest.fixture
def s3(sink: NullSink) -> Iterator[Any]:
    with contextlib.closing(sink.client()) as client:
        yield client


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own: all exist."""
    return "b-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


# The source.


def test_the_source_lists_what_it_was_given_in_pages(source: NullSource) -> None:
    with source.client() as client:
        pages = client.get_container_client(CONTAINER).list_blobs(results_per_page=10).by_page()
        listed = [[(blob.name, blob.size) for blob in page] for page in pages]
    assert [len(page) for page in listed] == [10] * (len(OBJECTS) // 10) + [len(OBJECTS) % 10]
    rows = [row for page in listed for row in page]
    assert rows == sorted(OBJECTS.items(), key=lambda row: row[0].encode())


def test_the_source_lists_below_a_prefix(source: NullSource) -> None:
    with source.client() as client:
        found = client.get_container_client(CONTAINER).list_blob_names(name_starts_with="small/1")
        assert list(found) == sorted(key for key in OBJECTS if key.startswith("small/1"))


@pytest.mark.parametrize("page", [1, 2, 100])
def test_the_source_lists_folders(source: NullSource, page: int) -> None:
    with source.client() as client:
        container = client.get_container_client(CONTAINER)
        walked = [
            (one.name, isinstance(one, BlobPrefix))
            for one in container.walk_blobs(delimiter="/", results_per_page=page)
        ]
    assert sorted(walked) == [(BIG, False), ("empty", False), ("names/", True), ("small/", True)]


def test_the_source_serves_one_pattern_whatever_the_blob_and_the_range(source: NullSource) -> None:
    with source.client() as client:
        big = client.get_blob_client(CONTAINER, BIG)
        whole = big.download_blob().readall()
        assert len(whole) == OBJECTS[BIG]
        assert whole[PATTERN_BYTES:] == whole[:-PATTERN_BYTES]
        assert len(set(whole[0:4096:8])) > 128, "it must not compress"
        part = big.download_blob(PATTERN_BYTES - 5, 1000).readall()
        assert part == whole[PATTERN_BYTES - 5 :][:1000]
        other = client.get_blob_client(CONTAINER, "names/with space & 100%+é<b>.txt")
        assert other.download_blob().readall() == whole[:70_000]
        assert client.get_blob_client(CONTAINER, "empty").download_blob().readall() == b""


def test_the_source_states_what_a_blob_is(source: NullSource) -> None:
    with source.client() as client:
        blob = client.get_blob_client(CONTAINER, BIG)
        properties = blob.get_blob_properties()
        [listed] = client.get_container_client(CONTAINER).list_blobs(name_starts_with=BIG)
        assert blob.get_blob_tags() == {}
        assert client.get_container_client(CONTAINER).get_container_properties().etag
    assert (properties.size, str(properties.blob_type)) == (OBJECTS[BIG], "BlobType.BLOCKBLOB")
    assert properties.etag.strip('"') == listed.etag.strip('"')
    assert properties.last_modified == listed.last_modified
    assert properties.content_settings.content_type == "application/octet-stream"
    assert properties.server_encrypted


def test_the_source_refuses_another_version_a_wrong_range_and_what_it_has_not(
    source: NullSource,
) -> None:
    url = f"{source.endpoint}/{CONTAINER}/{BIG}"
    assert status_of(url, {"If-Match": '"null-999"'}) == 412
    assert status_of(url, {"Range": f"bytes={OBJECTS[BIG]}-"}) == 416
    assert status_of(url, {"Range": "bytes=0-0", "x-ms-range": "bytes=3-5"}) == 206
    with source.client() as client:
        absent = client.get_blob_client(CONTAINER, "absent")
        with pytest.raises(ResourceNotFoundError):
            absent.get_blob_properties()
        with pytest.raises(HttpResponseError) as refusal:
            absent.upload_blob(b"water")
        assert refusal.value.status_code == 403


def status_of(url: str, headers: dict[str, str]) -> int:
    parts = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(str(parts.hostname), parts.port)) as client:
        client.request("GET", parts.path, headers=headers)
        response = client.getresponse()
        response.read()
        return response.status


def test_the_source_holds_a_hundred_thousand_keys() -> None:
    keys = [f"{number % 977:03}/{number:06}" for number in range(100_000)]
    with run_null_source((key, 1) for key in keys) as source:
        found: list[str] = []
        marker = "start"
        while marker:
            query = "" if marker == "start" else f"&marker={urllib.parse.quote(marker, safe='')}"
            url = f"{source.endpoint}/{CONTAINER}?restype=container&comp=list{query}"
            page = read(url).decode()
            found += re.findall("<Name>([^<]*)</Name>", page)
            [marker] = re.findall("<NextMarker>([^<]*)</NextMarker>", page)
    assert found == sorted(keys)


def test_a_key_with_a_line_break_is_no_line_of_its_own() -> None:
    with pytest.raises(ValueError, match="cannot hold"), run_null_source([("a\n5\tb", 1)]):
        pass


# The sink.


def test_the_sink_keeps_what_an_object_is(s3: Any, bucket: str) -> None:
    key = "deep/with space & 100%+é.txt"
    s3.put_object(
        Bucket=bucket,
        Key=key,
        Body=b"water",
        ContentType="text/plain",
        CacheControl="no-store",
        Metadata={"project": "p1"},
        Tagging="class=open%20data&ratio=1%2B2",
    )
    head = s3.head_object(Bucket=bucket, Key=key)
    assert (head["ContentLength"], head["ContentType"], head["CacheControl"]) == (
        5,
        "text/plain",
        "no-store",
    )
    assert head["Metadata"] == {"project": "p1"}
    tags = s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"class": "open data", "ratio": "1+2"}
    got = s3.get_object(Bucket=bucket, Key=key, Range="bytes=1-3")
    assert (got["Body"].read(), got["ContentRange"]) == (b"ate", "bytes 1-3/5")
    s3.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(ClientError) as refusal:
        s3.head_object(Bucket=bucket, Key=key)
    assert refused(refusal)[0] == 404


def test_the_sinks_etags_are_new_each_time_and_no_md5(s3: Any, bucket: str) -> None:
    etags = [s3.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"] for _ in range(2)]
    assert etags[0] != etags[1]
    assert all(re.fullmatch(r'"null-\d+"', etag) for etag in etags)


@pytest.mark.parametrize("size", [0, KEPT_BYTES, KEPT_BYTES + 1, 9 * MIB + 1])
def test_the_sink_gives_back_small_bodies_and_a_pattern_for_large_ones(
    s3: Any, bucket: str, source: NullSource, size: int
) -> None:
    body = bytes(size)
    s3.put_object(Bucket=bucket, Key="a", Body=body)
    # No checksum is asked for, or boto3 would find that the large one is not what it was.
    got = read(f"{s3.meta.endpoint_url}/{bucket}/a")
    assert len(got) == size
    if size <= KEPT_BYTES:
        assert got == body
    else:
        served = read(f"{source.endpoint}/{CONTAINER}/{BIG}")
        assert got == served[:size]


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=RUN_SECONDS) as response:
        body: bytes = response.read()
        return body


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4096])
def test_the_sink_refuses_a_small_body_that_is_not_what_its_crc_says(
    s3: Any, bucket: str, size: int
) -> None:
    body = bytes(range(256)) * 16
    body = body[:size]
    right = encode_crc(crc64nvme(memoryview(body)))
    wrong = encode_crc(crc64nvme(memoryview(body + b"!")))
    with pytest.raises(ClientError) as refusal:
        s3.put_object(Bucket=bucket, Key="a", Body=body, ChecksumCRC64NVME=wrong)
    assert refused(refusal) == (400, "BadDigest")
    put = s3.put_object(Bucket=bucket, Key="a", Body=body, ChecksumCRC64NVME=right)
    head = s3.head_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
    assert put["ChecksumCRC64NVME"] == head["ChecksumCRC64NVME"] == right
    assert head["ChecksumType"] == "FULL_OBJECT"


def test_the_sink_replaces_nothing_that_must_not_be_replaced(s3: Any, bucket: str) -> None:
    first = s3.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as refusal:
        s3.put_object(Bucket=bucket, Key="a", Body=b"2", IfNoneMatch="*")
    assert refused(refusal) == (412, "PreconditionFailed")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=1, Body=b"3")
    with pytest.raises(ClientError) as refusal:
        complete(s3, bucket, "a", upload, [part], IfNoneMatch="*")
    assert refused(refusal) == (412, "PreconditionFailed")
    assert s3.head_object(Bucket=bucket, Key="a")["ETag"] == first


def complete(s3: Any, bucket: str, key: str, upload: str, parts: list[Any], **more: Any) -> Any:
    listed = [{"ETag": part["ETag"], "PartNumber": n} for n, part in enumerate(parts, 1)]
    return s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": listed}, **more
    )


def test_the_sink_makes_an_object_of_parts(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(
        Bucket=bucket, Key="a&b", ContentType="text/csv", ChecksumAlgorithm="CRC64NVME"
    )["UploadId"]
    [open_one] = s3.list_multipart_uploads(Bucket=bucket, Prefix="a")["Uploads"]
    assert (open_one["Key"], open_one["UploadId"]) == ("a&b", upload)
    bodies = [bytes([number]) * (6 * MIB) for number in range(3)]
    crcs = [encode_crc(crc64nvme(memoryview(body))) for body in bodies]
    parts = [
        s3.upload_part(
            Bucket=bucket,
            Key="a&b",
            UploadId=upload,
            PartNumber=number,
            Body=body,
            ChecksumCRC64NVME=crc,
        )
        for number, (body, crc) in enumerate(zip(bodies, crcs, strict=True), 1)
    ]
    assert [part["ChecksumCRC64NVME"] for part in parts] == crcs
    pages = s3.get_paginator("list_parts").paginate(
        Bucket=bucket, Key="a&b", UploadId=upload, PaginationConfig={"PageSize": 2}
    )
    listed = [(part["ETag"], part["Size"]) for page in pages for part in page["Parts"]]
    assert listed == [(part["ETag"], 6 * MIB) for part in parts]
    whole = encode_crc(crc64nvme(memoryview(b"".join(bodies))))
    done = complete(s3, bucket, "a&b", upload, parts, ChecksumCRC64NVME=whole)
    head = s3.head_object(Bucket=bucket, Key="a&b", ChecksumMode="ENABLED")
    assert done["ChecksumCRC64NVME"] == head["ChecksumCRC64NVME"] == whole
    assert (head["ContentLength"], head["ContentType"]) == (18 * MIB, "text/csv")
    assert done["ETag"] == head["ETag"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_the_sink_knows_no_upload_that_was_given_up(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    s3.abort_multipart_upload(Bucket=bucket, Key="a", UploadId=upload)
    for call, more in (
        (s3.abort_multipart_upload, {}),
        (s3.list_parts, {}),
        (s3.upload_part, {"PartNumber": 1, "Body": b"x"}),
    ):
        with pytest.raises(ClientError) as refusal:
            call(Bucket=bucket, Key="a", UploadId=upload, **more)
        assert refused(refusal) == (404, "NoSuchUpload")


ODD_KEYS = [
    "a//b",
    "a/b",
    "back\\x",
    "c/./x",
    "c/../x",
    "ctrl\x01\x7f",
    "plus+ &<é>",
    "t./x.",
    "z/",
]


@pytest.mark.parametrize("operation", ["list_objects_v2", "list_objects"])
@pytest.mark.parametrize("page", [1, 2, 1000])
def test_the_sink_lists_odd_names_and_folders(
    s3: Any, bucket: str, operation: str, page: int
) -> None:
    for key in ODD_KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.put_object(Bucket=f"{bucket}-other", Key="not/this", Body=b"x")
    paginate = s3.get_paginator(operation).paginate
    sizes = {"PaginationConfig": {"PageSize": page}}
    pages = list(paginate(Bucket=bucket, **sizes))
    listed = [one["Key"] for response in pages for one in response.get("Contents", [])]
    assert listed == sorted(ODD_KEYS)
    pages = list(paginate(Bucket=bucket, Delimiter="/", **sizes))
    keys = [one["Key"] for response in pages for one in response.get("Contents", [])]
    folders = [one["Prefix"] for response in pages for one in response.get("CommonPrefixes", [])]
    assert keys == ["back\\x", "ctrl\x01\x7f", "plus+ &<é>"]
    assert folders == ["a/", "c/", "t./", "z/"]
    below = s3.list_objects_v2(Bucket=bucket, Prefix="a/", Delimiter="/")
    assert [one["Key"] for one in below["Contents"]] == ["a/b"]
    assert [one["Prefix"] for one in below["CommonPrefixes"]] == ["a//"]


def test_the_sink_lists_raw_names_to_who_does_not_ask_for_encoded_ones(
    s3: Any, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="a b&<é>+", Body=b"x")
    page = ElementTree.fromstring(read(f"{s3.meta.endpoint_url}/{bucket}?list-type=2"))
    assert [item.text for item in page.iterfind("{*}Contents/{*}Key")] == ["a b&<é>+"]


def test_the_sink_has_every_bucket(s3: Any, bucket: str) -> None:
    s3.create_bucket(Bucket=bucket)
    s3.head_bucket(Bucket=bucket)
    assert s3.get_bucket_location(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize("size", [0, 10, 4096, 70_000, 3 * MIB])
def test_the_sink_takes_a_body_with_its_checksum_behind_it(
    sink: NullSink, bucket: str, size: int
) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    body = body[:size]
    crc = encode_crc(crc64nvme(memoryview(body)))
    assert send_chunked(sink, f"/{bucket}/a", body, crc) == (200, crc)
    with contextlib.closing(sink.client()) as s3:
        head = s3.head_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["ChecksumCRC64NVME"]) == (size, crc)
    assert "ContentEncoding" not in head
    if size <= KEPT_BYTES:
        assert read(f"{sink.endpoint}/{bucket}/a") == body
    if size <= 4096:
        wrong = encode_crc(crc64nvme(memoryview(body + b"!")))
        assert send_chunked(sink, f"/{bucket}/b", body, wrong)[0] == 400


def send_chunked(sink: NullSink, path: str, body: bytes, crc: str) -> tuple[int, str | None]:
    """A PUT in aws-chunked coding; its status, and the checksum in its answer."""
    chunks = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    coded += b"0\r\nx-amz-checksum-crc64nvme:%b\r\n\r\n" % crc.encode()
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(body)),
        "x-amz-trailer": "x-amz-checksum-crc64nvme",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    }
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sink.port)) as client:
        client.request("PUT", path, body=coded, headers=headers)
        response = client.getresponse()
        response.read()
        return response.status, response.getheader("x-amz-checksum-crc64nvme")


def test_the_sink_answers_expect_and_refuses_before_the_body(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    address = urllib.parse.urlsplit(s3.meta.endpoint_url)
    heads = {"b": b"HTTP/1.1 100 ", "a": b"HTTP/1.1 412 "}
    for key, expected in heads.items():
        client = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
        with contextlib.closing(client):
            client.putrequest("PUT", f"/{bucket}/{key}")
            client.putheader("Content-Length", "2000000")
            client.putheader("Expect", "100-continue")
            client.putheader("If-None-Match", "*")
            client.endheaders()
            assert client.sock.recv(len(expected)) == expected


def test_a_broken_request_ends_its_connection_alone(sink: NullSink, s3: Any, bucket: str) -> None:
    lengths = b"x-amz-decoded-content-length: 9\r\ncontent-length: 28\r\n\r\n"
    for request in (
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /%00/a HTTP/1.1\r\n\r\n",
        b"PUT /b/a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"PUT /b/a HTTP/1.1\r\ncontent-length: -1\r\n\r\nx",
        b"PUT /b/a HTTP/1.1\r\n" + lengths + b"ffffffffffffffff\r\nxxxxxxxxxx",
        b"GET /b/a HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"GET /b/" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n",
    ):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sink.port)) as client:
            client.connect()
            client.sock.sendall(request)
            client.sock.shutdown(1)  # no more comes from us
            with contextlib.suppress(ConnectionResetError):
                while client.sock.recv(65536):
                    pass
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
