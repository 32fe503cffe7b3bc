"""A rate that people set while a job runs holds over all workers, ten seconds after it was set."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.workers.runtime.bandwidth import TokenBucket
from tests.engine.concurrency.test_bandwidth import MB, HeldJob

FOLLOW_SECONDS = 10.0
LOOK_SECONDS = 1.5
"""A driver looks for records so often."""


@pytest.mark.parametrize("workers", [1, 100])
@pytest.mark.parametrize("before", [math.inf, 2_000 * MB, 20 * MB])
@pytest.mark.parametrize("limit", [100 * MB, 1_000 * MB])
def test_what_is_set_holds_within_a_twentieth_after_ten_seconds(
    workers: int, before: float, limit: float
) -> None:
    job = HeldJob(before, seed=workers)
    for _ in range(workers):
        job.join(rate=3 * limit / workers)
    job.play(30)
    job.play(LOOK_SECONDS)
    job.limit = limit
    job.play(FOLLOW_SECONDS - LOOK_SECONDS)
    job.play(40)
    after = job.windows(last_seconds=40)
    assert max(after) <= 1.05 * limit
    assert min(job.windows(last_seconds=25)) >= 0.95 * limit


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.sampled_from([30.0, 100.0, 700.0, math.inf]), st.floats(10.0, 40.0)),
        min_size=2,
        max_size=6,
    ),
)
def test_whatever_is_set_and_whoever_leaves_meanwhile(
    seed: int, sets: list[tuple[float, float]]
) -> None:
    chance = random.Random(seed)
    job = HeldJob(math.inf, seed)
    for _ in range(12):
        job.join(rate=chance.choice([5, 50, 300]) * MB)
    for limit, seconds in sets:
        job.limit = limit * MB
        heard = [worker for worker in job.workers if worker.heard]
        if len(heard) > 6 and chance.random() < 0.4:
            (job.lose if chance.random() < 0.5 else job.end)(chance.choice(heard))
        job.play(FOLLOW_SECONDS)
        # Nobody can tell a worker that is lost: it keeps its share until its hold is over.
        kept = sum(worker.bucket.rate for worker in job.workers if not worker.heard)
        job.play(seconds)
        assert max(job.windows(last_seconds=seconds)) <= 1.05 * limit * MB + kept


@pytest.mark.parametrize("rate", [0.5, 1.0, 5.0, 500.0])
def test_requests_are_shared_in_the_same_way_one_by_one(rate: float) -> None:
    """Whole requests at a rate of less than one in each look; none is given on top."""
    bucket, now, begun = TokenBucket(rate, 0.0), 0.0, 0
    place = bucket.ask(1, now)
    while now < 60:
        now += 0.1
        while bucket.wait_seconds(place, now) <= 0:
            begun += 1
            place = bucket.ask(1, now)
    assert begun <= 1.05 * rate * 60
    assert begun >= 0.95 * rate * 60 - 1
