"""Bytes and requests a second, as a store around a store keeps to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from noria.manifests.errors import StoreUnavailable
from noria.workers.runtime.bandwidth import BURST_SECONDS, PIECE_BYTES, Bandwidth
from noria.workers.stores.paced import PacedStore, Stopped
from noria.workers.stores.protocol import ReadListener, TargetStore
from tests.workers.stores.test_paced import AT_ONCE, BODY, Failing


class Halting:
    """A source whose body comes in four pieces; what happens after the first is up to the test."""

    def __init__(self, after_first: Callable[[], None]) -> None:
        self._after_first = after_first

    def read_object(
        self, key: str, *, into: memoryview, listener: ReadListener | None, **_: Any
    ) -> None:
        assert listener is not None
        size = len(into) // 4
        for number in range(4):
            listener.update(into[number * size : (number + 1) * size])
            if number == 0:
                self._after_first()


def test_a_limit_holds_for_the_rest_of_a_body_that_began_without_one() -> None:
    bandwidth = Bandwidth()
    body = memoryview(bytearray(4 * PIECE_BYTES))
    inner = Halting(lambda: bandwidth.set_share(2 * PIECE_BYTES / 0.5))
    store = PacedStore(inner=cast(TargetStore, inner), bandwidth=bandwidth)
    began = time.monotonic()
    store.read_object("key", into=body, etag=None)
    assert time.monotonic() - began >= 0.25
    assert bandwidth.held_seconds > 0.2
    assert bandwidth.use().used_bytes == len(body)


def test_small_bodies_without_a_limit_are_counted() -> None:
    bandwidth = Bandwidth()
    store = PacedStore(inner=cast(TargetStore, Failing([])), bandwidth=bandwidth)
    store.read_object("key", into=memoryview(bytearray(len(BODY))), etag=None)
    assert bandwidth.use().used_bytes == len(BODY)


def test_each_try_waits_for_its_share_of_requests_a_second() -> None:
    requests = Bandwidth(10.0)
    store = PacedStore(
        inner=cast(TargetStore, Failing([StoreUnavailable("503"), StoreUnavailable("503")])),
        policy=AT_ONCE,
        requests=requests,
    )
    began = time.monotonic()
    store.read_object("key", into=memoryview(bytearray(len(BODY))), etag=None)
    assert time.monotonic() - began >= 0.2 - BURST_SECONDS
    assert requests.use().used_bytes == 3, "a try that failed was a request, too"


def test_a_wait_for_a_request_ends_with_its_lease() -> None:
    stopping = threading.Event()
    stopping.set()
    store = PacedStore(
        inner=cast(TargetStore, Failing([])), requests=Bandwidth(0.0), stopping=stopping
    )
    with pytest.raises(Stopped):
        store.head("key")
