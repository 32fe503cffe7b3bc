"""Connections that one client has done with serve the next client of the same host."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from noria.workers.http.client import PLAIN, HttpClient, HttpSettings, Request
from noria.workers.http.resting import RESTING_MOST, RestingConnections
from noria.workers.runtime.greenlets import FiberPool
from tests.support.counting_host import host_that_counts
from tests.support.scripted import Caller, scripted

ASK = Request(method="GET", target="/")


@pytest.fixture
def resting() -> Iterator[RestingConnections]:
    kept = RestingConnections()
    yield kept
    kept.close()


def use_once(url: str, resting: RestingConnections | None, **settings: Any) -> HttpClient:
    """A client that asks once, and is closed."""
    client = HttpClient(HttpSettings(url=url, **settings), resting)
    client.exchange(ASK)
    client.close()
    return client


def test_the_next_client_goes_on_with_a_connection(resting: RestingConnections) -> None:
    with host_that_counts() as (url, served):
        use_once(url, resting)
        second = use_once(url, resting)
        assert served == [served[0]] * 2
        assert second.connections() == {PLAIN: 1}, "what it says of its encryption counts too"
        resting.close()


def test_without_a_place_to_rest_each_opens_its_own() -> None:
    with host_that_counts() as (url, served):
        use_once(url, None)
        use_once(url, None)
        assert served[0] != served[1]


def test_a_client_that_trusts_or_waits_otherwise_gets_none(resting: RestingConnections) -> None:
    with host_that_counts() as (url, served):
        use_once(url, resting)
        use_once(url, resting, idle_seconds=5.0)
        assert served[0] != served[1]
        resting.close()


def test_what_has_rested_for_long_is_closed_and_not_used(resting: RestingConnections) -> None:
    with host_that_counts() as (url, served):
        settings = HttpSettings(url=url, keep_seconds=0.05)
        use_once(url, resting, keep_seconds=0.05)
        time.sleep(0.1)
        HttpClient(settings, resting)
        assert resting.count(settings) == 0
        use_once(url, resting, keep_seconds=0.05)
        assert served[0] != served[1]
        resting.close()


def test_one_that_the_host_has_closed_is_not_used(resting: RestingConnections) -> None:
    closed = threading.Event()

    def play(caller: Caller) -> None:
        caller.request()
        caller.say("HTTP/1.1 200 OK", "content-length: 2", body=b"ok")
        caller.sock.close()
        closed.set()

    with scripted(play) as host:
        use_once(host.url, resting)
        assert closed.wait(10)
        use_once(host.url, resting)
        resting.close()


def test_fibers_go_on_with_what_fibers_of_a_pool_that_is_gone_have_left(
    resting: RestingConnections,
) -> None:
    with host_that_counts() as (url, served):
        for _ in range(3):
            pool = FiberPool(1)
            client = HttpClient(HttpSettings(url=url), resting)
            answers: list[bytes] = []

            def ask(client: HttpClient = client, answers: list[bytes] = answers) -> None:
                answers.append(client.exchange(ASK).body)

            for _ in range(2):
                pool.submit(ask)
            pool.close()
            client.close()
            assert answers == [b"ok"] * 2
        assert set(served) == {served[0]}
        resting.close()


def test_no_more_rest_than_there_is_room_for(resting: RestingConnections) -> None:
    with host_that_counts() as (url, _):
        settings = HttpSettings(url=url)
        client = HttpClient(settings, resting)
        client.open_ahead(RESTING_MOST + 5)
        until = time.monotonic() + 20
        while client.connections().get(PLAIN, 0) < RESTING_MOST + 5 and time.monotonic() < until:
            time.sleep(0.01)
        client.close()
        assert resting.count(settings) == RESTING_MOST
        resting.close()
        assert resting.count(settings) == 0
