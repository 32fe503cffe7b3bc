"""A lease has no more in flight than its window, and knows when all of it has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from noria.manifests.model import Lease, LeaseKind
from noria.workers.lease.in_flight import TaskGroup
from noria.workers.runtime.executors import StreamPool
from noria.workers.runtime.greenlets import WorkQueue
from noria.workers.runtime.places import Places

LEASE = Lease(shard=0, kind=LeaseKind.OBJECTS, first=0, end=1000, attempt=1, generation=0)


class Held:
    """Runs nothing until it is told to."""

    def __init__(self, places: int) -> None:
        self.places = Places(places)
        self.work = WorkQueue()
        self.most = 0
        self.grown = threading.Condition()

    @property
    def queued(self) -> int:
        return len(self.work)

    def submit(self, work: Callable[[], None], *, first: bool = False) -> None:
        with self.grown:
            self.work.add(work, first=first)
            self.most = max(self.most, len(self.work))
            self.grown.notify_all()

    def set_limit(self, places: int) -> None:
        self.places.limit = places

    def close(self) -> None:
        assert len(self.work) == 0

    def wait_for(self, count: int) -> None:
        with self.grown:
            assert self.grown.wait_for(lambda: len(self.work) >= count, timeout=10)

    def run_one(self) -> None:
        with self.grown:
            work = self.work.popleft()
        work()


def submit_all(tasks: TaskGroup, done: list[int]) -> threading.Thread:
    def submit() -> None:
        for number in range(20):
            tasks.submit(partial(done.append, number))

    thread = threading.Thread(target=submit)
    thread.start()
    return thread


def test_no_more_is_queued_than_the_window_and_a_full_one_is_refilled_in_one_go() -> None:
    held = Held(8)
    tasks = TaskGroup(LEASE, held)
    done: list[int] = []
    thread = submit_all(tasks, done)
    held.wait_for(12)
    held.run_one()
    assert len(held.work) == 11, "one free place is not worth a wake-up"
    held.run_one()
    held.run_one()
    held.wait_for(12)
    while len(done) < 20:
        held.wait_for(1)
        held.run_one()
    thread.join(10)
    tasks.wait_until_idle()
    assert done == list(range(20))
    assert held.most == 12


def test_a_window_that_grows_is_filled_though_nothing_ends() -> None:
    held = Held(4)
    tasks = TaskGroup(LEASE, held)
    done: list[int] = []
    thread = submit_all(tasks, done)
    held.wait_for(6)
    held.set_limit(20)
    held.wait_for(20)
    thread.join(10)
    assert not done


def test_what_follows_runs_before_what_is_queued() -> None:
    held = Held(4)
    tasks = TaskGroup(LEASE, held)
    done: list[str] = []
    parts = [partial(done.append, "part 1"), partial(done.append, "part 2")]
    tasks.submit(lambda: tasks.submit_next(parts))
    tasks.submit(partial(done.append, "next object"))
    for _ in range(4):
        held.run_one()
    tasks.wait_until_idle()
    assert done == ["part 1", "part 2", "next object"]


def test_an_object_takes_the_room_of_its_parts() -> None:
    """Otherwise as many objects would be open as may run, and none would end for long."""
    held = Held(4)
    tasks = TaskGroup(LEASE, held)

    def submit() -> None:
        for _ in range(5):
            tasks.submit(lambda: None, followers=3)

    thread = threading.Thread(target=submit)
    thread.start()
    held.wait_for(2)
    assert held.most == 2
    while thread.is_alive() or held.queued:
        held.wait_for(1)
        held.run_one()
        thread.join(0.1)
    assert held.most <= 3


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
