"""Backoff stays within its bounds; requests wait in turn, and for what a store refuses."""

import math
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from noria.workers.runtime.greenlets import FiberPool
from noria.workers.runtime.pacing import Pacer, Slot, backoff_seconds
from noria.workers.runtime.refusals import SAMPLE
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


# -- a store that refuses --------------------------------------------------------------------------


def acquired(pacer: Pacer, key: str = "") -> Slot:
    slot = pacer.acquire(key)
    assert slot is not None
    return slot


def refuse(pacer: Pacer, key: str, asked_seconds: float = 0.0) -> bool:
    slot = acquired(pacer, key)
    pacer.release(slot, succeeded=False)
    return pacer.on_throttle(slot, asked_seconds)


def refuse_one_folder(pacer: Pacer, asked_seconds: float) -> None:
    """Let it refuse `b/` until that is known, and nothing else."""
    for _ in range(2 * SAMPLE):
        for other in "acd":
            pacer.release(acquired(pacer, f"{other}/key"), succeeded=True)
        pacer.on_throttle(Slot("b/key", time.monotonic()))
    assert pacer.on_throttle(Slot("b/key", time.monotonic()), asked_seconds), "others go on"


def test_a_refusal_lowers_the_limit_at_once_and_a_ceiling_bounds_it() -> None:
    pacer = Pacer(64)
    refuse(pacer, "a/key")
    assert 0 < pacer.limit < 0.9
    pacer.set_ceiling(0)
    assert pacer.limit == 0


def test_who_waits_for_a_store_is_let_in_in_time() -> None:
    pacer = Pacer(4)
    for _ in range(2 * SAMPLE):
        refuse(pacer, "a/key", asked_seconds=0.0)
    asked = 0.3
    refuse(pacer, "a/key", asked_seconds=asked)
    began = time.monotonic()
    pacer.release(acquired(pacer, "a/key"), succeeded=True)
    assert time.monotonic() - began >= asked - 0.01


def test_a_refused_folder_waits_and_the_others_go_on() -> None:
    pacer = Pacer(64)
    refuse_one_folder(pacer, asked_seconds=600.0)
    for other in "acd":
        pacer.release(acquired(pacer, f"{other}/key"), succeeded=True)
    stopping = threading.Event()
    threading.Timer(0.1, stopping.set).start()
    assert pacer.acquire("b/key", stopping) is None, "the wait ended with the lease"
    assert pacer.limit == 64


def test_a_fiber_that_waits_for_a_folder_leaves_its_place() -> None:
    pacer = Pacer(64)
    refuse_one_folder(pacer, asked_seconds=600.0)
    pool = FiberPool(8)
    pool.set_limit(1)
    stopping, done = threading.Event(), threading.Event()
    ended: list[Slot | None] = []
    pool.submit(lambda: ended.append(pacer.acquire("b/key", stopping)))
    pool.submit(done.set)
    assert done.wait(10), "other work has its place"
    stopping.set()
    pool.close()
    assert ended == [None]


def test_what_a_store_refuses_is_forgotten() -> None:
    now = 0.0
    pacer = Pacer(64, clock=lambda: now)
    refuse(pacer, "a/key")
    now = 600.0
    pacer.release(acquired(pacer, "a/key"), succeeded=True)
    assert pacer.limit == 64
    assert acquired(pacer, "a/key").accepted_at == math.inf
