"""Backoff stays within its bounds; concurrency falls on throttling and comes back."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from noria.workers.runtime.pacing import AdaptiveLimit, Pacer, backoff_seconds
from tests.support.slots import slot


@given(st.integers(1, 60), st.floats(0, 1), st.floats(0, 100))
def test_backoff_is_jittered_capped_and_never_below_retry_after(
    tries: int, jitter: float, floor: float
) -> None:
    seconds = backoff_seconds(
        tries, base_seconds=0.2, cap_seconds=20, jitter=jitter, floor_seconds=floor
    )
    assert floor <= seconds <= max(floor, 20)
    assert seconds >= jitter * min(20, 0.2 * 2 ** (tries - 1)) or seconds == floor


def test_a_storm_of_throttles_within_one_moment_falls_once() -> None:
    limit = AdaptiveLimit(limit=64, ceiling=64)
    for _ in range(50):
        limit.on_throttle(now=10.0)
    assert limit.limit == 64 * 0.7
    limit.on_throttle(now=11.5)
    assert limit.limit == 64 * 0.7 * 0.7


def test_it_never_falls_below_one_nor_rises_above_its_ceiling() -> None:
    limit = AdaptiveLimit(limit=2, ceiling=4)
    for second in range(100):
        limit.on_throttle(now=2.0 * second)
    assert limit.limit == 1
    for _ in range(1000):
        limit.on_success()
    assert limit.limit == 4


def test_the_pacer_lets_no_more_in_than_its_limit() -> None:
    pacer = Pacer(3)
    inside, most, lock = 0, 0, threading.Lock()
    gate = threading.Barrier(3)

    def work() -> None:
        nonlocal inside, most
        with slot(pacer):
            with lock:
                inside += 1
                most = max(most, inside)
            gate.wait(timeout=10)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert most == 3


def test_a_new_ceiling_takes_a_full_limit_along_and_lets_a_fallen_one_climb() -> None:
    limit = AdaptiveLimit(limit=10, ceiling=10)
    limit.set_ceiling(20)
    assert limit.limit == 20
    limit.on_throttle(now=0.0)
    limit.set_ceiling(40)
    assert limit.limit == 14
    limit.set_ceiling(5)
    assert limit.limit == 5


def test_a_raised_ceiling_lets_in_who_waits() -> None:
    pacer = Pacer(1)
    entered = threading.Event()

    def work() -> None:
        with slot(pacer):
            entered.set()

    with slot(pacer):
        thread = threading.Thread(target=work)
        thread.start()
        assert not entered.wait(0.05)
        pacer.set_ceiling(2)
        assert entered.wait(10)
    thread.join(10)


def test_seconds_in_flight_are_those_of_all_requests_together() -> None:
    now = 0.0
    pacer = Pacer(2, clock=lambda: now)
    with slot(pacer):
        now = 1.0
        with slot(pacer):
            now = 3.0
            assert pacer.in_flight_seconds == 1 + 2 * 2
    now = 9.0
    assert pacer.in_flight_seconds == 5
