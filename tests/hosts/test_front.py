"""The front notes what passes, as it passes, and changes nothing."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.hosts.front import FrontRequest, RequestReader, StoreFront
from tests.support.processes import wait_until

BODY = bytes(range(256)) * 1024


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


def put(port: int, path: str, body: bytes) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("PUT", path, body=body)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_what_passes_is_noted_and_not_changed(echo: tuple[str, int]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    before = time.monotonic()
    with StoreFront(listener, echo) as front:
        assert put(port, "/a?b=c", BODY) == BODY
        wait_until(lambda: front.written_bytes("127.0.0.1") == len(BODY), "all of it is noted")
    (request,) = front.requests
    assert (request.method, request.path, request.address) == ("PUT", "/a?b=c", "127.0.0.1")
    assert request.writes
    assert before < request.connected <= request.begun <= request.last < time.monotonic()


def test_a_client_that_is_slowed_takes_its_time(echo: tuple[str, int]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with StoreFront(listener, echo) as front:
        front.rates["127.0.0.1"] = len(BODY) / 0.5
        start = time.monotonic()
        put(listener.getsockname()[1], "/a", BODY)
        assert time.monotonic() - start >= 1.0, "half a second each way"


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_requests_are_read_however_they_are_cut(size: int) -> None:
    stream = (
        b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n"
        b"PUT /two HTTP/1.1\r\nContent-Length: 11\r\n\r\nGET / HTTP/"
        b"POST /three HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: z\r\n\r\n"
        b"DELETE /four HTTP/1.1\r\n\r\n"
    )
    noted: list[FrontRequest] = []

    def note(method: str, path: str, begun: float) -> FrontRequest:
        noted.append(
            FrontRequest(address="", connected=0, begun=begun, method=method, path=path, last=begun)
        )
        return noted[-1]

    reader = RequestReader(note)
    for moment, start in enumerate(range(0, len(stream), size), 1):
        reader.feed(stream[start : start + size], float(moment))
    assert [(each.method, each.path, each.body_bytes) for each in noted] == [
        ("GET", "/one", 0),
        ("PUT", "/two", 11),
        ("POST", "/three", 13),
        ("DELETE", "/four", 0),
    ]
    assert [each.begun for each in noted] == sorted(each.begun for each in noted)
    assert [each.writes for each in noted] == [False, True, True, True]
