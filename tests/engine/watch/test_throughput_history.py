"""The whole run is kept in a bounded number of points."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from noria.engine.watch.throughput_history import (
    FIRST_INTERVAL_SECONDS,
    MOST_POINTS,
    ThroughputHistory,
)


def fed(times: list[float], rate: float = 8.0) -> ThroughputHistory:
    history = ThroughputHistory()
    for now in times:
        history.add(now, bytes_per_second=rate, objects_per_second=rate / 4)
    return history


def test_a_short_run_has_a_point_for_each_interval() -> None:
    history = ThroughputHistory()
    for now, rate in ((100.0, 2.0), (101.0, 4.0), (102.0, 10.0)):
        history.add(now, bytes_per_second=rate, objects_per_second=1.0)
    interval_seconds, points = history.read()
    assert interval_seconds == FIRST_INTERVAL_SECONDS
    assert [(point.unix_seconds, point.bytes_per_second) for point in points] == [
        (100.0, 3.0),
        (102.0, 10.0),
    ]


def test_a_week_is_kept_whole_and_bounded() -> None:
    week = [1.8e9 + 10.0 * step for step in range(60_480)]
    interval_seconds, points = fed(week).read()
    assert MOST_POINTS / 2 <= len(points) <= MOST_POINTS
    assert points[0].unix_seconds <= week[0] < points[0].unix_seconds + interval_seconds
    assert points[-1].unix_seconds <= week[-1] < points[-1].unix_seconds + interval_seconds
    assert {point.bytes_per_second for point in points} == {8.0}


@given(st.lists(st.floats(0, 4e9), max_size=600))
def test_it_is_bounded_and_in_order_whatever_the_clock_does(times: list[float]) -> None:
    interval_seconds, points = fed(times).read()
    assert len(points) <= MOST_POINTS
    starts = [point.unix_seconds for point in points]
    assert starts == sorted(set(starts))
    assert all(math.isclose(point.bytes_per_second, 8.0) for point in points)
    assert math.log2(interval_seconds / FIRST_INTERVAL_SECONDS).is_integer()


def test_a_clock_that_is_set_back_adds_to_the_last_point() -> None:
    _, points = fed([1000.0, 1010.0, 990.0]).read()
    assert [point.unix_seconds for point in points] == [1000.0, 1010.0]
