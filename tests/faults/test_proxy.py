"""Each thing that the fault proxy can do, seen by a plain HTTP client before real stores."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal
from urllib.parse import urlsplit

import pytest
from azure.storage.blob import BlobServiceClient

from noria.benchmarks.servers import Azurite, S3Server
from tests.support.fault_proxy.plain_client import BODY, Plain, plain_azure, plain_s3
from tests.support.fault_proxy.proxy import run_fault_proxy
from tests.support.fault_proxy.rules import (
    Fault,
    Operation,
    ProxiedRequest,
    cap,
    cut_answer,
    error_document,
    flip_answer,
    flip_request,
    ignore_range,
    lose_answer,
    meanwhile,
    on,
    redirect,
    refuse,
    replace_answer,
    reset,
    reset_in_body,
    response,
    shift_range,
    stall,
)


@pytest.fixture(params=["s3", "azure"])
def plain(request: pytest.FixtureRequest) -> Iterator[Plain]:
    if request.param == "s3":
        names = request.getfixturevalue("seaweedfs"), request.getfixturevalue("s3_bucket")
        with plain_s3(*names) as client:
            yield client
    else:
        names = request.getfixturevalue("azurite"), request.getfixturevalue("azure_container")
        with plain_azure(*names) as client:
            yield client


def differing_bits(left: bytes, right: bytes) -> int:
    assert len(left) == len(right)
    return (int.from_bytes(left) ^ int.from_bytes(right)).bit_count()


# -- passing on ------------------------------------------------------------------------------------


def test_what_no_rule_claims_passes_unchanged_and_is_logged(plain: Plain) -> None:
    plain.put("a b/ü.bin")
    first_socket = plain.connection.sock
    whole = plain.send("GET", "a b/ü.bin")
    part = plain.send("GET", "a b/ü.bin", headers={"Range": "bytes=5-9"})
    head = plain.send("HEAD", "a b/ü.bin")
    missing = plain.send("GET", "missing")
    assert plain.connection.sock is first_socket
    assert (whole.status, whole.body) == (200, BODY)
    assert (part.status, part.body) == (206, BODY[5:10])
    assert part.headers["content-range"] == f"bytes 5-9/{len(BODY)}"
    assert (head.status, head.headers["content-length"]) == (200, str(len(BODY)))
    assert missing.status == 404
    log = plain.proxy.log
    assert [entry.operation for entry in log] == ["put", "read", "read", "head", "read"]
    assert [entry.status for entry in log[1:]] == [200, 206, 200, 404]
    assert [entry.happened for entry in log] == [True, True, True, True, False]
    assert {entry.fault for entry in log} == {None}
    assert log[0].request.path.endswith("/a b/ü.bin")
    assert log[0].request_bytes == log[0].forwarded_bytes == len(BODY)
    assert (log[1].answer_bytes, log[2].answer_bytes, log[3].answer_bytes) == (len(BODY), 5, 0)
    assert log[2].range == "bytes=5-9"
    assert plain.proxy.written_bytes() == len(BODY)
    assert plain.proxy.methods() == {"PUT", "GET", "HEAD"}


def test_signatures_and_expect_survive_the_way_of_the_aws_sdk(
    seaweedfs: S3Server, s3_bucket: str
) -> None:
    part = bytes(5 << 20)
    with run_fault_proxy(seaweedfs.endpoint) as proxy:
        client = seaweedfs.client(endpoint=proxy.endpoint)
        where = {"Bucket": s3_bucket, "Key": "large"}
        client.put_object(Bucket=s3_bucket, Key="small", Body=BODY)  # sends Expect
        upload = client.create_multipart_upload(**where)["UploadId"]
        etags = [
            client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)["ETag"]
            for number, body in ((1, part), (2, BODY))
        ]
        assert len(client.list_parts(**where, UploadId=upload)["Parts"]) == 2
        assert client.list_multipart_uploads(Bucket=s3_bucket)["Uploads"]
        parts = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]
        client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
        assert client.get_object(**where)["Body"].read() == part + BODY
        assert len(client.list_objects_v2(Bucket=s3_bucket)["Contents"]) == 2
        second = client.create_multipart_upload(**where)["UploadId"]
        client.abort_multipart_upload(**where, UploadId=second)
        client.delete_object(**where)
        client.close()
        kinds = [entry.operation for entry in proxy.log]
        assert proxy.written_bytes() == len(BODY) + len(part) + len(BODY)
    expected = "put create part part list_parts list_uploads complete read list create abort delete"
    assert kinds == expected.split()


def test_the_azure_sdk_works_through_the_proxy(azurite: Azurite, azure_container: str) -> None:
    with run_fault_proxy(azurite.endpoint) as proxy:
        through = azurite.connection_string.replace(azurite.endpoint, proxy.endpoint)
        with BlobServiceClient.from_connection_string(
            through, max_single_put_size=1000, max_block_size=100_000
        ) as service:
            blob = service.get_blob_client(azure_container, "large")
            blob.upload_blob(BODY)
            assert blob.download_blob().readall() == BODY
            assert [
                item.name for item in service.get_container_client(azure_container).list_blobs()
            ]
        kinds = [entry.operation for entry in proxy.log]
        assert proxy.written_bytes() == len(BODY)
    assert kinds == ["part", "part", "part", "complete", "read", "list"]


def raw_put(plain: Plain, key: str, size: int) -> tuple[socket.socket, bytes]:
    """Send the head of a PUT that expects to be asked for its body; returns what comes back."""
    url = urlsplit(plain.url("PUT", key))
    extra = "".join(f"{name}: {value}\r\n" for name, value in plain.put_headers.items())
    sock = socket.create_connection((str(url.hostname), url.port or 0), timeout=10)
    sock.sendall(
        f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n{extra}"
        f"Content-Length: {size}\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    return sock, sock.recv(4096)


def test_a_body_that_waits_for_continue_is_asked_for(plain: Plain) -> None:
    sock, said = raw_put(plain, "expected", 5)
    with sock:
        assert said == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"water")
        assert sock.recv(4096).split()[1] in (b"200", b"201")
    assert plain.stored("expected") == b"water"


def test_a_refused_body_that_waits_for_continue_is_never_asked_for(plain: Plain) -> None:
    plain.proxy.add(Fault(match=on(Operation.PUT), action=refuse(503, "SlowDown")))
    sock, said = raw_put(plain, "unwanted", 1 << 40)
    with sock:
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in said
        assert sock.recv(1) == b""
    (entry,) = plain.proxy.log
    assert (entry.status, entry.request_bytes, entry.forwarded) == (503, 0, False)


def test_a_body_in_chunks_arrives(seaweedfs: S3Server, s3_bucket: str) -> None:
    with plain_s3(seaweedfs, s3_bucket) as plain:
        assert plain.send("PUT", "chunked", iter([b"wa", b"ter"])).status == 200
        assert plain.stored("chunked") == b"water"
        assert plain.proxy.written_bytes() == 5


# -- rules -----------------------------------------------------------------------------------------


def test_a_refusal_is_answered_without_the_store(plain: Plain) -> None:
    slow = refuse(503, "SlowDown", retry_after_seconds=7)
    plain.proxy.add(
        Fault(match=on(Operation.PUT), action=slow),
        Fault(match=on(Operation.READ), action=refuse(429, "TooManyRequests")),
        Fault(match=on(Operation.HEAD), action=response(403, body=b"never sent to a HEAD")),
    )
    put = plain.send("PUT", "a", BODY)
    assert (put.status, put.headers["retry-after"]) == (503, "7")
    assert put.headers["x-ms-error-code"] == "SlowDown"
    assert b"<Code>SlowDown</Code>" in put.body
    get = plain.send("GET", "a")
    assert (get.status, "retry-after" in get.headers) == (429, False)
    assert plain.send("HEAD", "a").status == 403
    assert plain.send("HEAD", "a").status == 404
    assert plain.stored("a") is None
    assert [entry.forwarded for entry in plain.proxy.log] == [False, False, False, True]
    assert plain.proxy.log[0].request_bytes == len(BODY)


def test_skip_and_times_pick_the_requests_and_rules_can_be_changed(plain: Plain) -> None:
    fault = Fault(
        match=on(Operation.READ, name="/a"), action=refuse(500, "InternalError"), skip=1, times=2
    )
    plain.put("a")
    plain.put("b")
    plain.proxy.add(fault)
    assert plain.send("GET", "b").status == 200
    assert [plain.send("GET", "a").status for _ in range(4)] == [200, 500, 500, 200]
    forever = Fault(match=on(), action=refuse(500, "InternalError"), times=None)
    plain.proxy.add(forever)
    assert plain.send("GET", "b").status == 500
    plain.proxy.remove(forever)
    assert plain.send("GET", "b").status == 200
    plain.proxy.add(forever)
    plain.proxy.clear()
    assert plain.send("GET", "b").status == 200
    assert (fault.hits, forever.hits) == (2, 1)
    assert plain.proxy.taken("answer 500") == 3
    assert plain.proxy.count(Operation.READ, name="/a") == 4


def test_many_clients_share_one_rule_and_none_is_lost(plain: Plain) -> None:
    plain.put("a")
    plain.proxy.add(Fault(match=on(Operation.READ), action=refuse(503, "SlowDown"), times=20))

    def read(_: int) -> int:
        own = Plain(plain.proxy, plain.url, plain.stored)
        try:
            return own.send("GET", "a").status
        finally:
            own.connection.close()

    with ThreadPoolExecutor(16) as threads:
        statuses = list(threads.map(read, range(64)))
    assert (statuses.count(503), statuses.count(200)) == (20, 44)
    assert plain.proxy.count(Operation.READ) == 64


def test_a_part_is_told_by_its_number() -> None:
    request = ProxiedRequest(
        method="PUT", target="/bucket/a%20b?partNumber=2&uploadId=x", headers={}
    )
    assert request.path == "/bucket/a b"
    assert on(Operation.PART, name="/a b", part=2)(request)
    assert not on(Operation.PART, part=1)(request)
    assert not on(Operation.PUT)(request)


def test_only_a_server_on_this_machine_is_spoken_to() -> None:
    with (
        pytest.raises(ValueError, match="on this machine"),
        run_fault_proxy("http://192.0.2.1:80"),
    ):
        pass


# -- broken connections ----------------------------------------------------------------------------


def test_a_reset_before_forwarding_reaches_the_client_alone(plain: Plain) -> None:
    plain.proxy.add(Fault(match=on(Operation.PUT), action=reset()))
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        plain.send("PUT", "a", BODY)
    assert plain.stored("a") is None
    (entry,) = plain.proxy.log
    assert (entry.forwarded, entry.status, entry.fault) == (False, None, "reset")


def test_a_reset_in_the_body_stores_nothing(plain: Plain) -> None:
    plain.proxy.add(Fault(match=on(Operation.PUT), action=reset_in_body(100_000)))
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        plain.send("PUT", "a", BODY)
    (entry,) = plain.proxy.log
    assert (entry.forwarded_bytes, entry.status, entry.happened) == (100_000, None, False)
    assert plain.stored("a") is None
    plain.put("a")
    assert plain.stored("a") == BODY


def test_a_lost_answer_leaves_the_work_done(plain: Plain) -> None:
    plain.proxy.add(Fault(match=on(Operation.PUT), action=lose_answer()))
    with pytest.raises(ConnectionResetError):
        plain.send("PUT", "a", BODY)
    (entry,) = plain.proxy.log
    assert (entry.status, entry.happened) == (None, True)
    assert plain.stored("a") == BODY


def test_a_cut_body_ends_before_its_announced_length(plain: Plain) -> None:
    plain.put("a")
    plain.proxy.add(Fault(match=on(Operation.READ), action=cut_answer(0.25)))
    with pytest.raises(http.client.IncompleteRead) as caught:
        plain.send("GET", "a")
    assert caught.value.partial == BODY[: len(BODY) // 4]
    assert plain.proxy.log[-1].answer_bytes == len(BODY) // 4
    assert plain.send("GET", "a").body == BODY


@pytest.mark.parametrize("at", ["request", "answer", "body"])
def test_a_stall_holds_the_exchange_up(
    plain: Plain, at: Literal["request", "answer", "body"]
) -> None:
    plain.put("a")
    plain.proxy.add(Fault(match=on(Operation.READ), action=stall(0.2, at=at)))
    started = time.monotonic()
    assert plain.send("GET", "a").body == BODY
    assert time.monotonic() - started >= 0.2


def test_a_stall_ends_when_the_client_gives_up(plain: Plain) -> None:
    plain.put("a")
    plain.proxy.add(Fault(match=on(Operation.READ), action=stall(3600)))
    plain.connection.close()
    plain.connection.timeout = 0.1
    with pytest.raises(TimeoutError):
        plain.send("GET", "a")
    assert plain.proxy.log[-1].status is None


def test_closing_ends_a_stall(seaweedfs: S3Server, s3_bucket: str) -> None:
    with plain_s3(seaweedfs, s3_bucket) as plain, ThreadPoolExecutor(1) as threads:
        begun = threading.Event()
        stalled = replace(stall(3600), meanwhile=begun.set)
        plain.proxy.add(Fault(match=on(Operation.READ), action=stalled))
        waiting = threads.submit(plain.send, "GET", "a")
        assert begun.wait(10)
        plain.proxy.close()
        with pytest.raises((OSError, http.client.HTTPException)):
            waiting.result(10)


@pytest.mark.parametrize("operation", [Operation.PUT, Operation.READ])
def test_a_cap_slows_bodies_in_both_directions(plain: Plain, operation: Operation) -> None:
    plain.put("a")
    plain.proxy.add(Fault(match=on(operation), action=cap(len(BODY) / 0.25)))
    started = time.monotonic()
    if operation is Operation.PUT:
        plain.put("b")
        assert plain.stored("b") == BODY
    else:
        assert plain.send("GET", "a").body == BODY
    assert time.monotonic() - started >= 0.24


# -- damaged content -------------------------------------------------------------------------------


def test_a_flipped_bit_in_a_request_is_stored(plain: Plain) -> None:
    plain.proxy.add(Fault(match=on(Operation.PUT), action=flip_request(200_000)))
    plain.put("a")
    damaged = plain.stored("a")
    assert damaged is not None
    assert damaged[200_000] != BODY[200_000]
    assert differing_bits(damaged, BODY) == 1


def test_a_flipped_bit_in_an_answer_reaches_the_client(plain: Plain) -> None:
    plain.put("a")
    plain.proxy.add(Fault(match=on(Operation.READ), action=flip_answer(0)))
    damaged = plain.send("GET", "a").body
    assert damaged[0] != BODY[0]
    assert differing_bits(damaged, BODY) == 1
    assert plain.send("GET", "a").body == BODY


def test_chance_comes_from_the_seed(seaweedfs: S3Server, s3_bucket: str) -> None:
    def damage(seed: int) -> bytes:
        with plain_s3(seaweedfs, s3_bucket, seed=seed) as plain:
            plain.put("a")
            plain.proxy.add(Fault(match=on(Operation.READ), action=flip_answer(), times=2))
            first, second = plain.send("GET", "a").body, plain.send("GET", "a").body
            assert differing_bits(first, BODY) == differing_bits(second, BODY) == 1
            assert first != second
            return first + second

    assert damage(1) == damage(1)
    assert damage(1) != damage(2)


def test_an_answer_is_replaced_after_the_work_was_done(plain: Plain) -> None:
    error = error_document("InternalError")
    plain.proxy.add(
        Fault(
            match=on(Operation.PUT),
            action=replace_answer(status=200, headers={"etag": '"wrong"'}, body=error),
        ),
        Fault(match=on(Operation.READ), action=replace_answer(body=b"")),
        Fault(match=on(Operation.READ), action=replace_answer(body=lambda said: b" \n" + said)),
    )
    put = plain.send("PUT", "a", BODY)
    assert (put.status, put.headers["etag"], put.body) == (200, '"wrong"', error)
    assert plain.stored("a") == BODY
    assert plain.send("GET", "a").body == b""
    assert plain.send("GET", "a").body == b" \n" + BODY
    assert plain.send("GET", "a").body == BODY


def test_an_ignored_range_brings_the_whole_object(plain: Plain) -> None:
    plain.put("a")
    plain.proxy.add(Fault(match=on(Operation.READ), action=ignore_range()))
    reply = plain.send("GET", "a", headers={"Range": "bytes=5-9"})
    assert (reply.status, reply.body) == (200, BODY)
    assert "content-range" not in reply.headers


def test_a_shifted_content_range_goes_with_the_right_bytes(plain: Plain) -> None:
    plain.put("a")
    plain.proxy.add(Fault(match=on(Operation.READ), action=shift_range()))
    reply = plain.send("GET", "a", headers={"Range": "bytes=5-9"})
    assert (reply.status, reply.body) == (206, BODY[5:10])
    assert reply.headers["content-range"] == f"bytes 6-10/{len(BODY)}"


def test_a_redirect_names_another_place(plain: Plain) -> None:
    plain.proxy.add(Fault(match=on(), action=redirect("http://127.0.0.1:9/x")))
    reply = plain.send("GET", "a")
    assert (reply.status, reply.headers["location"]) == (307, "http://127.0.0.1:9/x")


def test_something_happens_before_a_request_is_forwarded(plain: Plain) -> None:
    plain.put("a", b"old")
    seen = []
    plain.proxy.add(Fault(match=on(Operation.PUT), action=meanwhile(lambda: seen.append("ran"))))
    plain.put("a", b"new")
    assert seen == ["ran"]
    assert plain.stored("a") == b"new"
