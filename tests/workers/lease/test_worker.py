"""A worker that does not hear its driver hands back what it holds, and ends if that takes long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from noria.manifests.model import Lease, LeaseEnd, LeaseKind, LeaseProgress, LeaseResult
from noria.workers.counters import CounterRegistry
from noria.workers.lease.lease import LeaseRun
from noria.workers.lease.worker import Worker
from noria.workers.runtime.executors import make_executor
from noria.workers.runtime.hold import Hold
from tests.support.processes import wait_until

LEASE = Lease(shard=0, kind=LeaseKind.OBJECTS, first=0, end=9, attempt=1, generation=0)


@dataclass
class Work:
    """A lease that ends once it is stopped and `may_end` is set; its own tasks, as LeaseRun has."""

    lease: Lease
    stopped: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    @property
    def tasks(self) -> Work:
        return self

    def stop(self) -> None:
        self.stopped.set()

    def progress(self) -> LeaseProgress:
        return LeaseProgress(shard=0, first=0, attempt=1, end=9, units_done=0, bytes_done=0)

    def run(self) -> LeaseResult:
        self.stopped.wait()
        self.may_end.wait()
        values = {name: getattr(self.lease, name) for name in ("shard", "kind", "first", "end")}
        return LeaseResult(**values, attempt=1, generation=0, how=LeaseEnd.RETURNED)


@dataclass
class Unheard:
    now: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)
    work: Work = field(default_factory=lambda: Work(LEASE))


@contextmanager
def worker_of(scene: Unheard) -> Iterator[Worker]:
    executor = make_executor(1, over_network=False)
    try:
        yield Worker(
            "1",
            lambda lease: cast("LeaseRun", scene.work),
            CounterRegistry(),
            executor,
            lambda limits: None,
            journal_seconds=1000.0,
            hold=Hold(30.0, clock=lambda: scene.now),
            end_process=scene.ended.set,
        )
    finally:
        scene.work.stopped.set()
        scene.work.may_end.set()


def test_it_hands_everything_back_and_lives_on() -> None:
    scene = Unheard()
    scene.work.may_end.set()
    with worker_of(scene) as worker:
        worker.hear()
        worker.grant(LEASE)
        scene.now = 29.0
        worker.report(0.0)
        assert not scene.work.stopped.is_set()
        scene.now = 31.0
        wait_until(scene.work.stopped.is_set, "the lease is handed back")
        scene.now = 500.0
        worker.hear()
        wait_until(lambda: bool(worker.report(0.1).results), "the driver is told")
        assert not scene.ended.is_set(), "nothing was in flight"


def test_what_takes_too_long_is_cut_off_with_its_process() -> None:
    scene = Unheard()
    with worker_of(scene) as worker:
        worker.grant(LEASE)
        scene.now = 44.0
        wait_until(scene.work.stopped.is_set, "the lease is handed back")
        assert not scene.ended.is_set()
        scene.now = 46.0
        wait_until(scene.ended.is_set, "the process ends")
