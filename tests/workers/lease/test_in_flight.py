"""A lease has no more in flight than its lanes' windows, and knows when all of it has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from noria.manifests.model import Lease, LeaseKind
from noria.workers.lease.in_flight import TaskGroup
from noria.workers.runtime.executors import SMALL_BYTES, Executor, Executors, StreamPool

LEASE = Lease(shard=0, kind=LeaseKind.OBJECTS, first=0, end=1000, attempt=1, generation=0)


class Held:
    """Runs nothing until it is told to."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []
        self.most = 0
        self.grown = threading.Condition()

    def submit(self, work: Callable[[], None]) -> None:
        with self.grown:
            self.work.append(work)
            self.most = max(self.most, len(self.work))
            self.grown.notify_all()

    def wait_for(self, count: int) -> None:
        with self.grown:
            assert self.grown.wait_for(lambda: len(self.work) >= count, timeout=10)

    def run_one(self) -> None:
        with self.grown:
            work = self.work.pop(0)
        work()


def test_no_more_is_queued_than_the_window_and_a_full_one_is_refilled_in_one_go() -> None:
    held = Held()
    executor = Executor(runs=held, running_max=lambda: 4)
    tasks = TaskGroup(LEASE)
    done: list[int] = []

    def submit_all() -> None:
        for number in range(20):
            tasks.submit(lambda number=number: done.append(number), executor)  # type: ignore[misc]  # mypy: no type for it

    thread = threading.Thread(target=submit_all)
    thread.start()
    held.wait_for(8)
    held.run_one()
    assert len(held.work) == 7, "one free place is not worth a wake-up"
    held.run_one()
    held.wait_for(8)
    while len(done) < 20:
        held.wait_for(1)
        held.run_one()
    thread.join(10)
    tasks.wait_until_idle()
    assert done == list(range(20))
    assert held.most == 8


def test_lanes_do_not_wait_for_each_other() -> None:
    full, free = Held(), Held()
    tasks = TaskGroup(LEASE)
    for held in (full, free):
        executor = Executor(runs=held, running_max=lambda: 1)
        for _ in range(executor.window):
            tasks.submit(lambda: None, executor)
    assert (len(full.work), len(free.work)) == (2, 2)


def test_small_bodies_go_to_fibers_unless_there_are_none() -> None:
    executors = Executors(1, requests=2)
    assert executors.of(SMALL_BYTES) is executors.small is not executors.bulk
    assert executors.of(SMALL_BYTES + 1) is executors.bulk
    executors.close()
    files = Executors(1, requests=0)
    assert files.of(1) is files.bulk
    files.close()


def test_streams_follow_their_limit() -> None:
    pool = StreamPool(8)
    pool.set_limit(2)
    running, most, lock = 0, 0, threading.Lock()
    gate = threading.Semaphore(0)

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.acquire(timeout=10)
        with lock:
            running -= 1

    for _ in range(12):
        pool.submit(work)
    for _ in range(4):
        gate.release()
    pool.set_limit(5)
    while most < 5:
        time.sleep(0.001)
    for _ in range(12):
        gate.release()
    pool.close()
    assert (running, most) == (0, 5)
