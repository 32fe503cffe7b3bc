"""Null stores at the end of a road: reached through it, counted without it."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import pytest
from botocore.exceptions import HTTPClientError

from noria.benchmarks.null.stores import NullSink
from noria.benchmarks.suite.routes import RouteTestBed, run_route_bed
from noria.benchmarks.suite.tools import Ends
from noria.benchmarks.suite.workloads import Route
from tests.support.null_objects import MIB, needs_compiler

pytestmark = needs_compiler

NEAR = Route(round_trip_ms=10, rate=20e6, line=30e6)
LOG_SECONDS = 0.05
WAIT_SECONDS = 20


def put(bed: RouteTestBed, ends: Ends, size: int) -> float:
    """Seconds that an object took to the bucket of `ends`, through the road."""
    port = int(ends.endpoint.rpartition(":")[2])
    sink: NullSink = bed.sink.through(port)
    with contextlib.closing(sink.client()) as client:
        started = time.monotonic()
        client.put_object(Bucket=ends.bucket, Key="a", Body=bytes(size))
        return time.monotonic() - started


def test_a_run_goes_through_the_road_and_is_counted_by_it() -> None:
    with run_route_bed([("a", 5)], NEAR, tls=False, log_seconds=LOG_SECONDS) as bed:
        with bed.fresh_ends() as ends:
            # A connection, and a question with its answer.
            assert put(bed, ends, 4 * MIB) >= 4 * MIB / 20e6 + 0.020
            deadline = time.monotonic() + WAIT_SECONDS
            while bed.sink_road.seconds()[-1].up_bytes <= 4 * MIB:
                assert time.monotonic() < deadline
                time.sleep(LOG_SECONDS)
            assert bed.source_road.seconds()[-1].up_bytes == 0
            assert bed.arrived(ends) == (1, 4 * MIB)
        with bed.fresh_ends() as others:
            assert others.bucket != ends.bucket
            assert bed.sink_road.seconds()[0].up_bytes == 0
            assert bed.arrived(others) == (0, 0)


def test_a_route_on_which_connections_break() -> None:
    with (
        run_route_bed([("a", 5)], replace(NEAR, die_seconds=0.05), tls=False) as bed,
        bed.fresh_ends() as ends,
    ):
        with pytest.raises(HTTPClientError):
            put(bed, ends, 20 * MIB)
        assert bed.arrived(ends) == (0, 0)
