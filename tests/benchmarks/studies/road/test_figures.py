"""What a run over a road comes to: rates, tails and refusals out of known curves."""

from __future__ import annotations

import pytest

from noria.benchmarks.null.stores import StoreSecond
from noria.benchmarks.studies.road.figures import (
    bytes_at,
    rate_between,
    seconds_until,
    served_between,
    steady_rate,
    tail_ratio,
)

# Nothing for 5 s, then 10 MB/s for 20 s, then the last 5 MB in 5 s.
CURVE = [(0.0, 0), (5.0, 0), (25.0, 200_000_000), (30.0, 205_000_000), (31.0, 205_000_000)]


def test_bytes_between_two_looks_are_in_proportion() -> None:
    assert bytes_at(CURVE, 15) == 100_000_000
    assert bytes_at(CURVE, -1) == 0
    assert bytes_at(CURVE, 99) == 205_000_000


def test_a_moment_is_found_by_its_bytes() -> None:
    assert seconds_until(CURVE, 100_000_000) == 15
    assert seconds_until(CURVE, 205_000_000) == 30


def test_the_steady_rate_leaves_out_the_start() -> None:
    assert steady_rate(CURVE, 25) == pytest.approx(10)
    assert rate_between(CURVE, 0, 25) == pytest.approx(8)
    assert steady_rate(CURVE, 19) is None


def test_a_slow_tail_shows() -> None:
    even = [(0.0, 0), (3.0, 0), (13.0, 1000)]
    assert tail_ratio(even) == pytest.approx(1)
    slow = [(0.0, 0), (9.0, 900), (19.0, 1000), (40.0, 1000)]
    assert tail_ratio(slow) == pytest.approx(0.1)
    assert tail_ratio([(0.0, 0), (9.0, 0)]) is None
    assert tail_ratio([]) is None


def test_what_a_ceiling_refused_is_told_from_what_has_none() -> None:
    def look(seconds: int, limited: int, refused: int, others: int) -> StoreSecond:
        return StoreSecond(
            unix_seconds=100.0 + seconds,
            requests=limited + others,
            limited=limited,
            refused=refused,
            objects=10 * seconds,
        )

    rows = [look(n, 110 * n, 10 * n, 50 * n) for n in range(20)]
    served = served_between(rows, 104.5, 115.2)
    assert served is not None
    assert (served.seconds, served.limited, served.refused) == (10, 1100, 100)
    assert served.refused_share == pytest.approx(1 / 11)
    assert served.ceiling_share(200) == pytest.approx(0.5)
    assert served.others_per_second == 50
    assert served.objects_per_second == 10
    assert served_between(rows, 118.5, 119.2) is None
