"""A process reads no more than its share, in the order in which it was asked for."""

from __future__ import annotations

import math
import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.workers.runtime.bandwidth import BURST_SECONDS, LATE_SECONDS, Bandwidth, TokenBucket
from noria.workers.runtime.greenlets import FiberPool
from noria.workers.runtime.hold import Hold


def test_what_is_asked_for_first_comes_first() -> None:
    bucket = TokenBucket(100.0, now=0.0)
    first, second = bucket.ask(100, 0.0), bucket.ask(50, 0.0)
    assert (bucket.wait_seconds(first, 0.0), bucket.wait_seconds(second, 0.0)) == (1.0, 1.5)
    assert abs(bucket.wait_seconds(second, 0.3) - 1.2) < 1e-9


def test_a_new_rate_holds_for_those_who_wait() -> None:
    bucket = TokenBucket(100.0, now=0.0)
    place = bucket.ask(100, 0.0)
    bucket.set_rate(1000.0, 0.1)
    assert abs(bucket.wait_seconds(place, 0.1) - 0.09) < 1e-9
    bucket.set_rate(0.0, 0.1)
    assert bucket.wait_seconds(place, 0.3) == math.inf
    bucket.set_rate(math.inf, 0.3)
    assert bucket.wait_seconds(place, 0.3) == 0.0


def test_what_was_not_used_is_kept_for_a_moment_only() -> None:
    bucket = TokenBucket(100.0, now=0.0)
    for now in (1.0, 2.0, 3.0):
        bucket.ask(0, now)
    place = bucket.ask(100, 3.0)
    assert abs(bucket.wait_seconds(place, 3.0) - (1 - BURST_SECONDS)) < 1e-9


def test_a_process_that_stood_still_does_not_make_up_for_it() -> None:
    bucket = TokenBucket(100.0, now=0.0)
    place = bucket.ask(1000, 0.0)
    assert abs(bucket.wait_seconds(place, 5.0) - (10 - LATE_SECONDS)) < 1e-9


def test_it_takes_as_long_as_the_bytes_need_on_threads_and_fibers() -> None:
    """Only a lower bound of time can be asserted on a busy machine."""
    bandwidth = Bandwidth(2_000_000.0)
    pool, ended = FiberPool(8), threading.Semaphore(0)

    def read() -> None:
        for _ in range(5):
            assert bandwidth.take(20_000)
        ended.release()

    began = time.monotonic()
    for _ in range(4):
        pool.submit(read)
    for _ in range(4):
        threading.Thread(target=read, daemon=True).start()
    for _ in range(8):
        assert ended.acquire(timeout=60)
    assert time.monotonic() - began >= 8 * 5 * 20_000 / 2_000_000 - BURST_SECONDS
    used = bandwidth.use()
    assert used.used_bytes == 8 * 5 * 20_000
    assert used.held_seconds > 0
    pool.close()


def test_nothing_is_allowed_once_the_hold_is_over() -> None:
    now = [0.0]
    hold = Hold(30.0, clock=lambda: now[0])
    bandwidth = Bandwidth(1000.0, hold=hold, clock=lambda: now[0])
    now[0] = 1.0
    assert bandwidth.take(100)
    now[0] = 31.0
    assert not bandwidth.take(100)
    assert bandwidth.use().used_bytes == 100


def test_who_stops_gives_back_what_it_asked_for() -> None:
    bandwidth, stopping = Bandwidth(1.0), threading.Event()
    stopping.set()
    assert not bandwidth.take(1_000_000, stopping)
    bandwidth.set_share(1000.0)
    assert bandwidth.take(10)


def test_who_leaves_the_line_lends_nothing_to_those_ahead() -> None:
    bucket = TokenBucket(100.0, now=0.0)
    ahead, leaver, behind = (bucket.ask(100, 0.0) for _ in range(3))
    bucket.leave(leaver, 100)
    assert bucket.wait_seconds(ahead, 0.0) == 1.0
    assert bucket.wait_seconds(behind, 0.0) == 2.0
    for step in range(1, 21):
        seconds = bucket.wait_seconds(behind, step / 10)
        assert abs(seconds - max(0.0, 2.0 - step / 10)) < 1e-9
    assert abs(bucket.wait_seconds(bucket.ask(100, 2.0), 2.0) - 1.0) < 1e-9


@given(st.integers(0, 2**32))
def test_whoever_leaves_no_more_is_allowed_than_the_rate(seed: int) -> None:
    chance, now, used, rate = random.Random(seed), 0.0, 0.0, 1000.0
    bucket, line = TokenBucket(rate, now), list[tuple[float, int]]()
    for _ in range(200):
        now += chance.uniform(0.0, 0.05)
        for _ in range(chance.randrange(3)):
            size = chance.randrange(1, 100)
            line.append((bucket.ask(size, now), size))
        if line and chance.random() < 0.3:
            bucket.leave(*line.pop(chance.randrange(len(line))))
        while line and bucket.wait_seconds(line[0][0], now) <= 0:
            used += line.pop(0)[1]
        assert used <= rate * (now + BURST_SECONDS) + 1e-6
    if line:
        # Nobody waits longer than for the bytes of those ahead, whoever has left.
        left = sum(size for _, size in line)
        assert bucket.wait_seconds(line[-1][0], now) <= left / rate + 1e-9


def test_a_wait_that_ends_by_an_exception_leaves_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    now = [0.0]
    bandwidth = Bandwidth(100.0, clock=lambda: now[0])
    with monkeypatch.context() as patched:
        patched.setattr("noria.workers.runtime.bandwidth.pause", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bandwidth.take(1_000_000)
    now[0] = 0.3
    assert bandwidth.take(10)
    assert bandwidth.use().used_bytes == 10


def test_what_is_given_back_late_is_lost() -> None:
    """All that failed after a minute would come at once otherwise, on top of the rate."""
    now = [0.0]
    bandwidth, over = Bandwidth(100.0, clock=lambda: now[0]), threading.Event()
    over.set()
    for seconds, others_may_take in ((0.1, True), (10.0, False)):
        now[0] += 100.0
        assert bandwidth.take(20, over)
        taken_at = bandwidth.now()
        now[0] += seconds
        while bandwidth.take(10, over):
            pass
        bandwidth.give_back(20, taken_at)
        assert bandwidth.take(20, over) == others_may_take
    assert bandwidth.use().share == 100.0


def test_without_a_limit_nobody_waits() -> None:
    bandwidth = Bandwidth()
    assert not bandwidth.is_limited
    assert bandwidth.take(10**15)
    assert bandwidth.use().share == math.inf
