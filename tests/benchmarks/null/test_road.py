"""The road delays, slows and breaks as asked, and changes no byte.

Nothing here asks that it be fast enough: a busy machine makes everything slower, nothing faster.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from noria.benchmarks.null.road import measure_cost, run_road
from noria.benchmarks.null.stores import (
    BUCKET,
    CONTAINER,
    RequestCeiling,
    StoreSecond,
    run_null_sink,
    run_null_source,
)
from noria.benchmarks.servers import free_ports
from tests.support.null_objects import MIB, OBJECTS, needs_compiler

pytestmark = needs_compiler

WAIT_SECONDS = 60
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, for no time


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port behind which every connection gets `answer`, in a thread of its own."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=512) as door,
        ThreadPoolExecutor(256) as pool,
    ):

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    pool.submit(run, door.accept()[0])

        def run(connection: socket.socket) -> None:
            with connection:
                connection.settimeout(WAIT_SECONDS)
                answer(connection)

        pool.submit(accept)
        try:
            yield door.getsockname()[1]
        finally:
            door.shutdown(socket.SHUT_RDWR)


def echo(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while received := connection.recv(64 << 10):
            connection.sendall(received)


def digest_at_end(connection: socket.socket) -> None:
    """Read to the end, which is a half-close, and answer with the digest of everything."""
    digest = hashlib.sha256()
    while received := connection.recv(64 << 10):
        digest.update(received)
    connection.sendall(digest.digest())


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)


def ask(connection: socket.socket, question: bytes = b"x") -> float:
    """Seconds until the answer of one byte."""
    started = time.monotonic()
    connection.sendall(question)
    assert len(connection.recv(1)) == 1
    return time.monotonic() - started


def ask_forever(connection: socket.socket) -> None:
    while True:
        ask(connection)


def push(port: int, body: bytes) -> float:
    """Send `body` to digest_at_end; seconds until all of it has arrived and was answered."""
    with connect(port) as connection:
        started = time.monotonic()
        connection.sendall(body)
        connection.shutdown(socket.SHUT_WR)
        said = connection.recv(100, socket.MSG_WAITALL)
        assert said == hashlib.sha256(body).digest()
        return time.monotonic() - started


# Time.


def test_a_round_trip_takes_as_long_as_asked_and_a_handshake_is_one_more() -> None:
    with serving(echo) as store, run_road(store, delay_ms=30) as road, connect(road.port) as client:
        assert ask(client) >= 0.120
        assert min(ask(client) for _ in range(3)) >= 0.060


def test_jitter_comes_on_top_and_keeps_the_order() -> None:
    body = random.Random("jitter").randbytes(MIB)
    with (
        serving(digest_at_end) as store,
        run_road(store, delay_ms=2, jitter_ms=10, rate=20e6) as road,
    ):
        assert push(road.port, body) >= 0.008 + len(body) / 20e6


def test_a_connection_is_no_faster_than_its_rate() -> None:
    body = bytes(4 * MIB)
    with serving(digest_at_end) as store, run_road(store, delay_ms=5, rate=10e6) as road:
        # Out after a handshake, and the answer back.
        assert push(road.port, body) >= len(body) / 10e6 + 0.020


def test_all_connections_share_the_line_and_none_gets_all_of_it() -> None:
    body = bytes(2 * MIB)
    count, line = 8, 20e6
    with (
        serving(digest_at_end) as store,
        run_road(store, delay_ms=1, line=line) as road,
        ThreadPoolExecutor(count) as pool,
    ):
        started = time.monotonic()
        taken = list(pool.map(lambda _: push(road.port, body), range(count)))
        assert time.monotonic() - started >= count * len(body) / line
        assert min(taken) >= 2 * len(body) / line


def test_the_directions_do_not_share_the_line() -> None:
    body = bytes(2 * MIB)
    with serving(echo) as store, run_road(store, line=20e6) as road, connect(road.port) as client:
        sender = threading.Thread(target=client.sendall, args=(body,))
        sender.start()
        received = 0
        while received < len(body):
            received += len(client.recv(MIB))
        sender.join()
        time.sleep(1.1)
        [*_, last] = road.seconds()
        assert (last.up_bytes, last.down_bytes) == (len(body), len(body))


def test_what_is_under_way_is_bounded() -> None:
    """Nobody reads at the other end: the sender has to stop."""
    ended = threading.Event()

    def stay_away(connection: socket.socket) -> None:
        ended.wait(WAIT_SECONDS)

    with (
        serving(stay_away) as store,
        run_road(store, delay_ms=10, rate=10e6) as road,
        connect(road.port) as client,
    ):
        client.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 100 * MIB:
                sent += client.send(bytes(64 << 10))
        ended.set()
        # 0.2 MB for the round trip and 256 KiB; the rest lies in the kernel's own buffers.
        assert sent < 20 * MIB


# Bytes.


@pytest.mark.parametrize(
    "road",
    [{}, {"delay_ms": 3}, {"delay_ms": 1, "jitter_ms": 3, "rate": 30e6, "line": 90e6}],
    ids=["straight", "delayed", "everything"],
)
def test_no_byte_is_changed_on_any_of_many_connections(road: dict[str, Any]) -> None:
    bodies = [random.Random(f"body {n}").randbytes((n * 7919) % 300_000 + 1) for n in range(128)]
    with (
        serving(digest_at_end) as store,
        run_road(store, **road) as running,
        ThreadPoolExecutor(len(bodies)) as pool,
    ):
        for _ in pool.map(lambda body: push(running.port, body), bodies):
            pass


def test_a_store_over_https_answers_through_it() -> None:
    with (
        run_null_source(OBJECTS.items(), tls=True) as source,
        run_road(source.port, delay_ms=2, rate=50e6) as road,
        source.through(road.port).client() as client,
    ):
        names = list(client.get_container_client(CONTAINER).list_blob_names())
        assert names == sorted(OBJECTS, key=str.encode)
        body = client.get_blob_client(CONTAINER, "small/0/000").download_blob().readall()
        assert len(body) == OBJECTS["small/0/000"]


# Ends.


def test_a_connection_is_reset_after_some_seconds() -> None:
    with serving(echo) as store, run_road(store, die_seconds=0.3) as road:
        started = time.monotonic()
        with connect(road.port) as client, pytest.raises(ConnectionResetError):
            ask_forever(client)
        assert time.monotonic() - started >= 0.3


def test_a_connection_is_reset_after_some_bytes_both_directions_counted() -> None:
    with serving(echo) as store, run_road(store, die_bytes=2001) as road:
        with connect(road.port) as client:
            for _ in range(1000):
                ask(client)
            with pytest.raises(ConnectionResetError):
                ask(client)
        with connect(road.port) as client:
            ask(client)


def test_a_reset_by_the_client_gets_to_the_store() -> None:
    seen: list[type[BaseException] | None] = []
    done = threading.Event()

    def watch(connection: socket.socket) -> None:
        try:
            while connection.recv(MIB):
                pass
            seen.append(None)
        except OSError as error:
            seen.append(type(error))
        done.set()

    with serving(watch) as store, run_road(store, delay_ms=5) as road:
        with connect(road.port) as client:
            client.sendall(b"x")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        assert done.wait(WAIT_SECONDS)
    assert seen == [ConnectionResetError]


def test_a_reset_by_the_store_gets_to_the_client_behind_what_it_sent() -> None:
    def reset(connection: socket.socket) -> None:
        connection.sendall(b"last words")
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

    with serving(reset) as store, run_road(store, delay_ms=5) as road, connect(road.port) as client:
        assert client.recv(10, socket.MSG_WAITALL) == b"last words"
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_client_that_sends_to_a_store_that_is_gone_is_reset() -> None:
    def leave(connection: socket.socket) -> None:
        connection.recv(1)

    with serving(leave) as store, run_road(store, delay_ms=2) as road, connect(road.port) as client:
        client.sendall(b"x")
        assert client.recv(1) == b""
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            client.sendall(bytes(100 * MIB))


def test_where_nobody_listens_the_client_is_reset() -> None:
    [nobody] = free_ports(1)
    with run_road(nobody, delay_ms=1) as road, connect(road.port) as client:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        time.sleep(1.1)
        assert road.seconds()[-1].connections == 0


# Refusals are the stores' own, so that they are there over https too.


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_store_refuses_what_is_above_its_ceiling(tls: bool) -> None:
    ceiling = RequestCeiling(per_second=20, retry_after_seconds=2)
    with run_null_source(OBJECTS.items(), tls=tls, ceiling=ceiling) as source:
        answers = ask_often(source.port, f"/null/{CONTAINER}/empty", 60, tls)
        refusals = [answer for answer in answers if answer[0] == 503]
        assert refusals
        assert set(refusals) == {(503, "2", "ServerBusy")}
        assert {answer[0] for answer in answers} == {200, 503}
        # Over http, the look whether the server is there was a request too.
        last = wait_for_requests(source.seconds, 60 + (not tls))
        assert (last.limited, last.refused) == (60, len(refusals))


def test_a_sink_refuses_one_prefix_without_saying_for_how_long() -> None:
    with run_null_sink(ceiling=RequestCeiling(per_second=1, prefix="hot/")) as sink:
        hot = ask_often(sink.port, f"/{BUCKET}/hot/a", 20, tls=False, method="PUT")
        assert (503, None, "SlowDown") in hot
        cold = ask_often(sink.port, f"/{BUCKET}/cold/hot/", 20, tls=False, method="PUT")
        assert {answer[0] for answer in cold} == {200}
        bucket = ask_often(sink.port, f"/{BUCKET}", 20, tls=False)
        assert {answer[0] for answer in bucket} == {200}
        last = wait_for_requests(sink.seconds, 61)
        assert (last.limited, last.refused) == (20, [answer[0] for answer in hot].count(503))
        assert last.objects == 20 + [answer[0] for answer in hot].count(200)


def ask_often(
    port: int, path: str, count: int, tls: bool, method: str = "GET"
) -> list[tuple[int, str | None, str]]:
    """Status, Retry-After and the code of the error, of each of `count` answers."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = (
        http.client.HTTPSConnection("127.0.0.1", port, context=context)
        if tls
        else http.client.HTTPConnection("127.0.0.1", port)
    )
    answers = []
    with contextlib.closing(client):
        for _ in range(count):
            client.request(method, path, body=b"")
            answer = client.getresponse()
            code = answer.read().decode().partition("<Code>")[2].partition("</Code>")[0]
            answers.append((answer.status, answer.headers["Retry-After"], code))
    return answers


def wait_for_requests(seconds: Callable[[], list[StoreSecond]], count: int) -> StoreSecond:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        rows = seconds()
        if rows and rows[-1].requests >= count:
            return rows[-1]
        time.sleep(0.1)
    raise AssertionError(f"never counted {count} requests")


# What it costs.


def test_at_its_end_it_says_what_it_carried_and_used() -> None:
    with serving(echo) as store, run_road(store) as road:
        with connect(road.port) as client:
            ask(client)
        road.process.stop()
        said = json.loads(road.process.log.read_text())
    assert (said["up_bytes"], said["down_bytes"], said["connections"]) == (1, 1, 1)
    assert 0 < said["cpu_seconds"] < WAIT_SECONDS


def test_its_own_cost_is_told_apart() -> None:
    cost = measure_cost(False, streams=2, rate=50e6, size=40_000_000)
    assert 0 < cost.gb_per_second <= 0.1
    assert 0.01 < cost.source_road_seconds_per_gb < 20
    assert 0.01 < cost.sink_road_seconds_per_gb < 20
