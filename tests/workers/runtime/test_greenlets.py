"""Fibers wait for sockets, pauses and each other without holding up their thread."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from noria.workers.http.connection import Connection
from noria.workers.runtime.buffers import MIN_BUFFER_BYTES, BufferPool
from noria.workers.runtime.greenlets import FiberPool, Readiness, Waiter, current_pool, pause
from noria.workers.runtime.pacing import Pacer
from tests.support.slots import slot

SECONDS = 10.0


@contextlib.contextmanager
def pool_of(fibers: int) -> Iterator[FiberPool]:
    with contextlib.closing(FiberPool(fibers)) as pool:
        yield pool


def echo(peer: socket.socket, said: list[bytes], idle_seconds: float, data: bytes) -> None:
    """Ask the peer for an echo of data, and keep the answer."""
    connection = Connection(peer, Readiness(peer), idle_seconds)
    connection.send(data)
    view = memoryview(bytearray(len(data)))
    connection.fill(view)
    said.append(bytes(view))


Pair = Callable[[], tuple[socket.socket, socket.socket]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Makes two ends of a connection: ours, which does not block, and the peer's."""
    with contextlib.ExitStack() as stack:

        def make() -> tuple[socket.socket, socket.socket]:
            mine, other = socket.socketpair()
            stack.enter_context(mine)
            stack.enter_context(other)
            mine.setblocking(False)
            other.settimeout(SECONDS)
            return mine, other

        yield make


def test_many_wait_at_once_on_one_thread(pair: Pair) -> None:
    pairs = [pair() for _ in range(200)]
    said: list[bytes] = []
    threads: set[int] = set()

    def request(number: int) -> None:
        threads.add(threading.get_ident())
        echo(pairs[number][0], said, SECONDS, b"%04d" % number)

    with pool_of(200) as pool:
        for number in range(200):
            pool.submit(partial(request, number))
        # Nobody is answered before all have asked: so all of them wait at the same time.
        asked = [other.recv(4) for _, other in pairs]
        for (_, other), data in reversed(list(zip(pairs, asked, strict=True))):
            other.sendall(data)
    assert sorted(said) == [b"%04d" % number for number in range(200)]
    assert len(threads) == 1


def test_no_more_run_than_there_are_fibers_and_the_rest_follows_in_order(pair: Pair) -> None:
    pairs = [pair() for _ in range(6)]
    begun: list[int] = []
    said: list[bytes] = []

    def request(number: int) -> None:
        begun.append(number)
        echo(pairs[number][0], said, SECONDS, b"x")

    with pool_of(2) as pool:
        for number in range(6):
            pool.submit(partial(request, number))
        for number, (_, other) in enumerate(pairs):
            assert other.recv(1) == b"x"
            assert max(begun) <= number + 2
            other.sendall(b"y")
    assert begun == list(range(6))
    assert said == [b"y"] * 6


def test_a_silent_peer_is_given_up_and_the_fiber_goes_on(pair: Pair) -> None:
    mine, _silent = pair()
    ended: list[str] = []

    def request() -> None:
        try:
            echo(mine, [], 0.05, b"x")
        except TimeoutError:
            ended.append("timeout")

    with pool_of(1) as pool:
        pool.submit(request)
        pool.submit(lambda: ended.append("next"))
    assert ended == ["timeout", "next"]


def test_a_large_body_in_pieces_through_a_full_socket(pair: Pair) -> None:
    mine, other = pair()
    data = bytes(range(256)) * 16384
    got: list[bytes] = []
    pieces: list[int] = []

    def heard(piece: memoryview, crc: int | None = None) -> None:
        pieces.append(len(piece))

    def fetch() -> None:
        connection = Connection(mine, Readiness(mine), SECONDS)
        connection.send(data)
        view = memoryview(bytearray(len(data)))
        connection.fill(view, heard)
        got.append(bytes(view))

    with pool_of(1) as pool:
        pool.submit(fetch)
        received = b""
        while len(received) < len(data):
            received += other.recv(1 << 20)
        other.sendall(data)
    assert received == data
    assert got == [data]
    assert sum(pieces) == len(data)


def test_a_pause_lets_others_run_and_ends_when_asked_to() -> None:
    stopping = threading.Event()
    ran: list[str] = []

    def sleep() -> None:
        pause(600.0, stopping)
        ran.append("woken")

    def other() -> None:
        ran.append("other")
        stopping.set()

    with pool_of(2) as pool:
        pool.submit(sleep)
        pool.submit(other)
    assert ran == ["other", "woken"]


def test_a_pause_lasts_as_long_as_it_should() -> None:
    took: list[float] = []

    def sleep() -> None:
        began = time.monotonic()
        pause(0.15, threading.Event())
        took.append(time.monotonic() - began)

    with pool_of(1) as pool:
        pool.submit(sleep)
    assert took[0] >= 0.15


@pytest.mark.parametrize("early", [True, False])
def test_a_turn_ends_whether_its_wake_up_comes_before_or_after(early: bool) -> None:
    made: list[Waiter] = []
    ready, go = threading.Event(), threading.Event()
    ended: list[bool] = []

    def wait() -> None:
        made.append(Waiter())
        ready.set()
        if early:
            go.wait(SECONDS)
        made[0].wait()
        ended.append(True)

    with pool_of(1) as pool:
        pool.submit(wait)
        assert ready.wait(SECONDS)
        made[0].wake()
        go.set()
    assert ended == [True]


def test_threads_and_fibers_share_a_pacer_and_its_limit() -> None:
    pacer = Pacer(3)
    lock = threading.Lock()
    inside, most, done = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, done
        for _ in range(20):
            with slot(pacer):
                with lock:
                    inside += 1
                    most = max(most, inside)
                pause(0.001, threading.Event())
                with lock:
                    inside -= 1
        with lock:
            done += 1

    with pool_of(8) as pool:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            pool.submit(work)
        for thread in threads:
            thread.join(SECONDS)
    assert (most, done) == (3, 12)


def test_a_fiber_waits_for_a_buffer_that_a_thread_holds() -> None:
    buffers = BufferPool(MIN_BUFFER_BYTES)
    got: list[int] = []

    def take() -> None:
        with buffers.take(10) as view:
            got.append(len(view))

    with pool_of(2) as pool, buffers.take(1):
        pool.submit(take)
        pool.submit(take)
        reached = threading.Event()
        pool.submit(reached.set)
        assert not got
    assert got == [10, 10]
    assert buffers.bytes_in_flight == 0


def test_who_is_no_fiber_has_no_pool() -> None:
    seen: list[FiberPool | None] = []
    with pool_of(1) as pool:
        pool.submit(lambda: seen.append(current_pool()))
    assert seen == [pool]
    assert current_pool() is None
