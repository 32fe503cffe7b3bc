from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from noria.benchmarks.servers import free_ports
from noria.manifests.errors import ConfigurationError
from noria.workers.http import connection
from noria.workers.http.client import (
    EXPECT_BYTES,
    JOINED_BYTES,
    Body,
    HttpClient,
    HttpSettings,
    Request,
    Send,
    StreamedBody,
    TransportError,
)
from noria.workers.http.connection import WAKE_BYTES, OnBytes, OnSent
from noria.workers.http.response import HEAD_BYTES_MAX, Response, Sink
from noria.workers.runtime.buffers import BodyBuffer, ScratchBuffer
from tests.support.poured import poured
from tests.support.processes import wait_until
from tests.support.scripted import Caller, Play, scripted

LARGE = EXPECT_BYTES + 1


@contextmanager
def wired(play: Play, **settings: Any) -> Iterator[HttpClient]:
    """The host ends last, when the client's connections are closed."""
    with scripted(play) as host:
        client = HttpClient(HttpSettings(url=host.url, **settings))
        try:
            yield client
        finally:
            client.close()


def ask(
    client: HttpClient,
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    body: Body | None = None,
    into: BodyBuffer | None = None,
    on_bytes: OnBytes | None = None,
    wait_seconds: float | None = None,
    on_sent: OnSent | None = None,
) -> Response:
    """One exchange."""
    request = Request(
        method=method,
        target=target,
        headers=headers,
        body=body,
        wait_seconds=wait_seconds,
        on_sent=on_sent,
    )
    sink = None if into is None else Sink(into=into, on_bytes=on_bytes)
    return client.exchange(request, sink)


def test_a_connection_serves_many_exchanges() -> None:
    seen: list[tuple[int, bytes]] = []

    def play(caller: Caller) -> None:
        while head := caller.request():
            seen.append((caller.number, head.split(b"\r\n")[0]))
            caller.say("HTTP/1.1 200 OK", "content-length: 2", "x-a: 1", "X-A: 2", body=b"ok")

    with wired(play) as client:
        for _ in range(3):
            response = ask(client, "GET", "/a?b", {})
            assert (response.status, response.body, response.headers["x-a"]) == (200, b"ok", "1, 2")
    assert seen == [(1, b"GET /a?b HTTP/1.1")] * 3


def test_a_connection_that_the_host_closed_is_not_used_again() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 200 OK", "content-length: 0", f"n: {caller.number}")

    with wired(play) as client:
        for number in ("1", "2", "3"):
            assert ask(client, "GET", "/", {}).headers["n"] == number
            (resting,) = client._idle[None]
            resting.readiness.await_reading(10)  # the host's word that it has closed


def test_a_connection_that_rested_too_long_is_not_used_again() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 200 OK", "content-length: 0", f"n: {caller.number}")
        caller.request()

    with wired(play, keep_seconds=0.0) as client:
        assert [ask(client, "GET", "/", {}).headers["n"] for _ in range(2)] == ["1", "2"]


@pytest.mark.parametrize(
    "framing",
    ["content-length: 11", "transfer-encoding: chunked", "connection: close"],
)
def test_a_body_in_every_framing(framing: str) -> None:
    def play(caller: Caller) -> None:
        while caller.request():
            caller.say("HTTP/1.1 100 Continue")
            chunked = b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nx-trailer: 1\r\n\r\n"
            body = chunked if "chunked" in framing else b"hello world"
            caller.say("HTTP/1.1 200 OK", framing, body=body)
            if "close" in framing:
                return

    with wired(play) as client:
        assert ask(client, "GET", "/", {}).body == b"hello world"
        into = memoryview(bytearray(11))
        response = ask(client, "GET", "/", {}, into=into)
        assert (response.filled, response.body, bytes(into)) == (True, b"", b"hello world")
        assert not ask(client, "GET", "/", {}, into=into[:5]).filled
        assert bytes(into) == b"hello world"


def test_an_error_does_not_go_into_the_callers_buffer() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 404 Not Found", "content-length: 4", body=b"none")

    with wired(play) as client:
        into = memoryview(bytearray(b"kept"))
        response = ask(client, "GET", "/", {}, into=into)
        assert (response.body, response.filled, bytes(into)) == (b"none", False, b"kept")


def test_an_answer_to_head_has_no_body() -> None:
    def play(caller: Caller) -> None:
        while caller.request():
            caller.say("HTTP/1.1 200 OK", "content-length: 1000000")

    with wired(play) as client:
        for _ in range(2):
            response = ask(client, "HEAD", "/", {})
            assert (response.headers["content-length"], response.body) == ("1000000", b"")


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (HEAD_BYTES_MAX + 70_000),
    ],
    ids=lambda response: ascii(response[:60]),
)
def test_what_is_cut_or_no_http_is_no_answer(response: bytes) -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.sock.sendall(response)

    with wired(play) as client:
        with pytest.raises(TransportError) as caught:
            ask(client, "GET", "/", {})
        assert caught.value.sent
        with pytest.raises(TransportError):
            ask(client, "GET", "/", {}, into=memoryview(bytearray(10)))


@pytest.mark.parametrize("size", [3 * WAKE_BYTES - 1, 5 * WAKE_BYTES // 2, WAKE_BYTES, 0])
def test_a_large_body_that_is_cut_is_noticed_at_once(size: int) -> None:
    """The kernel wakes us for a MiB at a time, and for the end."""

    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 200 OK", f"content-length: {3 * WAKE_BYTES}", body=bytes(size))

    with wired(play) as client, pytest.raises(TransportError, match=r"ended|closed"):
        ask(client, "GET", "/", {}, into=memoryview(bytearray(3 * WAKE_BYTES)))


def test_a_large_body_in_small_pieces() -> None:
    body = os.urandom(1 << 20) * 3 + b"tail"

    def play(caller: Caller) -> None:
        while caller.request():
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            caller.say("HTTP/1.1 200 OK", f"content-length: {len(body)}")
            for start in range(0, len(body), 4099):
                caller.sock.sendall(body[start : start + 4099])

    with wired(play) as client:
        for _ in range(2):
            into = memoryview(bytearray(len(body)))
            assert ask(client, "GET", "/", {}, into=into).filled
            assert into == body


def test_a_silent_host_is_given_up() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.request()

    with wired(play, idle_seconds=0.1) as client:
        with pytest.raises(TransportError) as caught:
            ask(client, "GET", "/", {})
        assert caught.value.sent


def test_an_answer_may_be_given_longer() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            caller.request()
        caller.say("HTTP/1.1 200 OK", "content-length: 0")

    with wired(play, idle_seconds=0.1) as client:
        assert ask(client, "GET", "/", {}, wait_seconds=10).status == 200


@pytest.mark.parametrize("form", ["length", "chunks"])
def test_a_body_passes_through_a_window(form: str) -> None:
    body = os.urandom(1_000_003)

    def play(caller: Caller) -> None:
        caller.request()
        if form == "length":
            caller.say("HTTP/1.1 200 OK", f"content-length: {len(body)}", body=body)
        else:
            framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            caller.say("HTTP/1.1 200 OK", "transfer-encoding: chunked", body=framed)

    with wired(play) as client:
        memory, came = memoryview(bytearray(64 * 1024)), bytearray()
        window = ScratchBuffer(memory, len(body))
        response = ask(
            client, "GET", "/", {}, into=window, on_bytes=lambda view, _=None: came.extend(view)
        )
        assert response.filled
    assert came == body


@pytest.mark.parametrize("size", [0, 5, 100_000, LARGE, 3 * LARGE])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_arrives_whole(size: int, streamed: bool) -> None:
    sent = os.urandom(size)
    arrived: list[bytes] = []

    def play(caller: Caller) -> None:
        while head := caller.request():
            assert f"content-length: {size}".encode() in head
            assert (b"expect: 100-continue" in head) == (size >= EXPECT_BYTES)
            if b"expect" in head:
                caller.say("HTTP/1.1 100 Continue")
            arrived.append(caller.body(size))
            caller.say("HTTP/1.1 200 OK", "content-length: 0")

    with wired(play) as client:
        view = memoryview(sent)
        pieces = poured([view[:1], view[1:77_777], view[77_777:]])
        body = StreamedBody(pieces, size) if streamed else view
        assert ask(client, "PUT", "/", {}, body=body).status == 200
        assert ask(client, "PUT", "/", {}, body=sent).status == 200
    assert arrived == [sent, sent]


def test_a_host_that_ignores_expect_gets_the_body() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        assert len(caller.body(LARGE)) == LARGE
        caller.say("HTTP/1.1 100 Continue")
        caller.say("HTTP/1.1 200 OK", "content-length: 0")

    with wired(play) as client:
        assert ask(client, "PUT", "/", {}, body=bytes(LARGE)).status == 200


@pytest.mark.parametrize("streamed", [False, True])
def test_a_host_that_refuses_expect_is_not_asked_again(streamed: bool) -> None:
    sent = os.urandom(LARGE)
    arrived: list[bytes] = []

    def play(caller: Caller) -> None:
        while head := caller.request():
            if b"expect" in head:
                caller.say("HTTP/1.1 417 Expectation Failed", "content-length: 0")
                return
            arrived.append(caller.body(LARGE))
            caller.say("HTTP/1.1 200 OK", "content-length: 0")

    with wired(play) as client:
        body = StreamedBody(poured([memoryview(sent)]), LARGE) if streamed else sent
        assert ask(client, "PUT", "/", {}, body=body).status == 200
        assert ask(client, "PUT", "/", {}, body=sent).status == 200
    assert arrived == [sent, sent]


def test_a_body_that_was_begun_is_not_written_twice() -> None:
    def play(caller: Caller) -> None:
        assert b"expect" in caller.request()
        caller.say("HTTP/1.1 100 Continue")
        caller.body(LARGE)
        caller.say("HTTP/1.1 417 Expectation Failed", "content-length: 0")

    with wired(play) as client:
        body = StreamedBody(poured([memoryview(bytes(LARGE))]), LARGE)
        with pytest.raises(TransportError) as caught:
            ask(client, "PUT", "/", {}, body=body)
        assert not caught.value.sent


def test_a_refusal_arrives_before_the_body_is_sent() -> None:
    got: list[bytes] = []

    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 503 Slow Down", "content-length: 4", "retry-after: 3", body=b"slow")
        got.append(caller.body(1))

    with wired(play) as client:
        response = ask(client, "PUT", "/", {}, body=bytes(LARGE))
        assert (response.status, response.body, response.headers["retry-after"]) == (
            503,
            b"slow",
            "3",
        )
        assert ask(client, "PUT", "/", {}, body=bytes(LARGE)).status == 503
    assert got == [b"", b""]


def test_a_refusal_in_mid_body_is_heard() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 100 Continue")
        caller.body(1000)
        caller.say("HTTP/1.1 403 Forbidden", "content-length: 2", body=b"no")
        caller.sock.shutdown(socket.SHUT_WR)
        while caller.body(1 << 20):
            pass

    with wired(play) as client:
        response = ask(client, "PUT", "/", {}, body=bytes(64 << 20))
        assert (response.status, response.body) == (403, b"no")


def test_a_reset_in_mid_body_says_that_the_request_was_not_whole() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 100 Continue")
        caller.body(1000)
        caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with wired(play) as client:
        with pytest.raises(TransportError) as caught:
            ask(client, "PUT", "/", {}, body=bytes(64 << 20))
        assert not caught.value.sent


def test_what_the_body_raises_passes_through_and_ends_the_connection() -> None:
    numbers: list[int] = []

    def play(caller: Caller) -> None:
        numbers.append(caller.number)
        while head := caller.request():
            if b"expect" in head:
                caller.say("HTTP/1.1 100 Continue")
                assert len(caller.body(LARGE)) < LARGE
                return
            caller.say("HTTP/1.1 200 OK", "content-length: 0")

    def failing(send: Send) -> None:
        send(b"some")
        raise LookupError("of the source")

    with wired(play) as client:
        with pytest.raises(LookupError):
            ask(client, "PUT", "/", {}, body=StreamedBody(failing, LARGE))
        for wrong in ([b"short"], [bytes(LARGE - 1), b"long"]):
            with pytest.raises(ValueError, match="announced"):
                ask(client, "PUT", "/", {}, body=StreamedBody(poured(wrong), LARGE))
        assert ask(client, "GET", "/", {}).status == 200
    assert numbers == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [0, 1, JOINED_BYTES, JOINED_BYTES + 1, 5 << 20])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_bytes_of_a_body_are_counted_without_its_head(size: int, streamed: bool) -> None:
    def play(caller: Caller) -> None:
        if b"expect" in caller.request():
            caller.say("HTTP/1.1 100 Continue")
        assert len(caller.body(size)) == size
        caller.say("HTTP/1.1 200 OK", "content-length: 0")

    sent: list[int] = []
    content = memoryview(bytes(size))
    pieces = [content[: size // 2], content[size // 2 :]]
    body = StreamedBody(poured(pieces), size) if streamed else content
    with wired(play) as client:
        assert ask(client, "PUT", "/", {"a": "b"}, body=body, on_sent=sent.append).status == 200
    assert sum(sent) == size


def test_what_nobody_wanted_or_could_take_is_not_counted() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 503 Slow Down", "content-length: 0")

    sent: list[int] = []
    with wired(play) as client:
        assert ask(client, "PUT", "/", {}, body=bytes(LARGE), on_sent=sent.append).status == 503
    nobody = HttpClient(HttpSettings(url=f"http://127.0.0.1:{free_ports(1)[0]}"))
    for body in (b"small", bytes(LARGE)):
        with pytest.raises(TransportError):
            ask(nobody, "PUT", "/", {}, body=body, on_sent=sent.append)
    assert sent == []


def test_of_a_body_that_broke_off_what_the_network_took_is_counted() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 100 Continue")
        caller.body(1 << 20)
        caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    sent: list[int] = []
    with wired(play) as client, pytest.raises(TransportError):
        ask(client, "PUT", "/", {}, body=bytes(64 << 20), on_sent=sent.append)
    assert 1 << 20 <= sum(sent) < 64 << 20


def test_redirects_are_not_followed() -> None:
    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 307 Go", "location: http://127.0.0.1:9/", "content-length: 0")

    with wired(play) as client:
        assert ask(client, "GET", "/", {}).status == 307


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b"])
def test_a_line_break_in_a_header_is_refused(value: str) -> None:
    with wired(lambda caller: None) as client, pytest.raises(ValueError, match="line break"):
        ask(client, "GET", "/", {"a": value})


def test_headers_beyond_ascii_travel_as_utf8() -> None:
    def play(caller: Caller) -> None:
        head = caller.request()
        assert "x: é漢".encode() in head
        caller.sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: \xc3\xa9\r\n\r\n")
        caller.request()
        caller.sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: \xe9\r\n\r\n")

    with wired(play) as client:
        assert ask(client, "GET", "/", {"x": "é漢"}).headers["x"] == "é"
        assert ask(client, "GET", "/", {}).headers["x"] == "é"


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1", "http://", "https://host/path", "http://10.0.0.1", "http://host"]
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        HttpClient(HttpSettings(url=url))


class Authority:
    """A certificate authority of a test, which signs for one address."""

    def __init__(self, folder: Path, address: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .sign(key, hashes.SHA256())
        )
        self.path = folder / f"{address}.pem"
        self.path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context


def test_tls_with_the_roots_that_were_named(tmp_path: Path) -> None:
    body = os.urandom(1 << 20) * 8
    authority = Authority(tmp_path, "127.0.0.1")

    def play(caller: Caller) -> None:
        while head := caller.request():
            if head.startswith(b"PUT"):
                caller.say("HTTP/1.1 100 Continue")
                assert caller.body(len(body)) == body
                caller.say("HTTP/1.1 200 OK", "content-length: 0")
            else:
                caller.say("HTTP/1.1 200 OK", f"content-length: {len(body)}", body=body)

    with scripted(play, authority.context()) as host:
        client = HttpClient(HttpSettings(url=host.url, ca_bundle=str(authority.path)))
        for _ in range(2):
            into = memoryview(bytearray(len(body)))
            assert ask(client, "GET", "/", {}, into=into).filled
            assert into == body
            assert ask(client, "PUT", "/", {}, body=memoryview(body)).status == 200
        assert (client.encryption or "").startswith("TLSv1.3, TLS_")
        assert client.connections() == {client.encryption: 1}
        client.close()


def test_connections_that_are_opened_ahead_are_used(tmp_path: Path) -> None:
    """Also over TLS 1.3, where the host sends session tickets unasked."""
    authority = Authority(tmp_path, "127.0.0.1")
    callers = threading.Semaphore(0)

    def play(caller: Caller) -> None:
        callers.release()
        while caller.request():
            caller.say("HTTP/1.1 200 OK", "content-length: 0", f"n: {caller.number}")

    with scripted(play, authority.context()) as host:
        client = HttpClient(HttpSettings(url=host.url, ca_bundle=str(authority.path)))
        client.open_ahead(1)
        assert callers.acquire(timeout=10)
        wait_until(lambda: bool(client._idle[None]), "a connection that waits")
        (waiting,) = client._idle[None]
        waiting.readiness.await_reading(10)  # the tickets
        assert ask(client, "GET", "/", {}).headers["n"] == "1"
        client.close()


def test_a_connection_that_the_host_closed_before_its_first_use_is_not_used(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path, "127.0.0.1")

    def play(caller: Caller) -> None:
        if caller.number > 1:
            caller.request()
            caller.say("HTTP/1.1 200 OK", "content-length: 0", f"n: {caller.number}")

    with scripted(play, authority.context()) as host:
        client = HttpClient(HttpSettings(url=host.url, ca_bundle=str(authority.path)))
        client.open_ahead(1)
        wait_until(lambda: bool(client._idle[None]), "a connection that waits")
        (waiting,) = client._idle[None]
        wait_until(waiting.is_stale, "the host's word that it has closed")
        assert ask(client, "GET", "/", {}).headers["n"] == "2"
        client.close()


def test_a_host_that_is_not_there_is_no_error_ahead(tmp_path: Path) -> None:
    client = HttpClient(HttpSettings(url="http://127.0.0.1:9"))
    client.open_ahead(2)
    with pytest.raises(TransportError):
        ask(client, "GET", "/", {})


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "204 No Content"])
def test_success_before_the_body_is_none(status: str) -> None:
    """Nothing was sent that could have been stored: it is no outcome, and may be tried again."""
    received: list[bytes] = []

    def play(caller: Caller) -> None:
        assert b"expect: 100-continue" in caller.request()
        caller.say(f"HTTP/1.1 {status}", "content-length: 0", 'etag: "x"')
        with suppress(ConnectionResetError):
            received.append(caller.body(1))

    with wired(play) as client:
        with pytest.raises(TransportError, match="before the body") as caught:
            ask(client, "PUT", "/", {}, body=memoryview(bytearray(LARGE)))
        assert not caught.value.sent
    assert not b"".join(received)


def test_a_folder_of_roots_may_be_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "127.0.0.1")
    folder = tmp_path / "roots"
    folder.mkdir()
    ended = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", authority.path],
        capture_output=True,
        text=True,
        check=True,
    )
    (folder / f"{ended.stdout.strip()}.0").write_bytes(authority.path.read_bytes())

    def play(caller: Caller) -> None:
        while caller.request():
            caller.say("HTTP/1.1 200 OK", "content-length: 0")

    with scripted(play, authority.context()) as host:
        client = HttpClient(HttpSettings(url=host.url, ca_bundle=str(folder)))
        assert ask(client, "GET", "/", {}).status == 200
        client.close()


def test_certificates_that_are_refused(tmp_path: Path) -> None:
    known = Authority(tmp_path, "127.0.0.1")
    another_host = Authority(tmp_path, "127.0.0.2")
    for served, trusted in (
        (known, None),
        (known, another_host),
        (another_host, another_host),
    ):
        with scripted(lambda caller: None, served.context()) as host:
            bundle = str(trusted.path) if trusted else None
            client = HttpClient(HttpSettings(url=host.url, ca_bundle=bundle))
            with pytest.raises(ConfigurationError, match="certificate"):
                ask(client, "GET", "/", {})
    with pytest.raises(ConfigurationError, match="ca_bundle"):
        HttpClient(HttpSettings(url="https://127.0.0.1", ca_bundle=str(tmp_path / "none.pem")))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "127.0.0.1")
    context = authority.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with scripted(lambda caller: None, context) as host:
        client = HttpClient(HttpSettings(url=host.url, ca_bundle=str(authority.path)))
        with pytest.raises(TransportError, match=r"(?i)version|alert"):
            ask(client, "GET", "/", {})


def trickling(caller: Caller, *, head: bool) -> None:
    """Answer a byte at a time, or the body alone: the next byte always comes before long."""
    caller.request()
    start = b"HTTP/1.1 200 OK\r\ncontent-length: 50000\r\n\r\n"
    if not head:
        caller.sock.sendall(start)
    with suppress(OSError):
        for byte in (start if head else b"") + b"x" * 50_000:
            caller.sock.sendall(bytes([byte]))
            time.sleep(0.01)


@pytest.mark.parametrize("head", [True, False])
def test_a_host_that_trickles_is_too_slow(monkeypatch: pytest.MonkeyPatch, head: bool) -> None:
    monkeypatch.setattr(connection, "RATE_SECONDS", 1.0)
    with (
        wired(lambda caller: trickling(caller, head=head)) as client,
        pytest.raises(TransportError, match="1024 B/s are the least"),
    ):
        ask(client, "GET", "/", {}, into=memoryview(bytearray(50_000)))


def test_a_slow_answer_that_was_announced_may_trickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 sends a space now and then while it completes an upload."""
    monkeypatch.setattr(connection, "RATE_SECONDS", 0.2)

    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 200 OK", "content-length: 50", body=b"")
        for _ in range(50):
            caller.sock.sendall(b" ")
            time.sleep(0.02)

    with wired(play) as client:
        assert ask(client, "POST", "/", {}, wait_seconds=60).body == b" " * 50
