"""A worker that does not hear its driver hands back what it holds, and ends if that takes long."""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.model import Lease, LeaseEnd, LeaseKind, LeaseProgress, LeaseResult
from noria.workers.counters import CounterRegistry
from noria.workers.lease.journal import LeaseJournals
from noria.workers.lease.lease import LeaseRun, WorkerResources
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
    thread: threading.Thread | None = None
    error: Exception | None = None

    @property
    def tasks(self) -> Work:
        return self

    def stop(self) -> None:
        self.stopped.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.stop()

    def progress(self) -> LeaseProgress:
        return LeaseProgress(shard=0, first=0, attempt=1, end=9, units_done=0, bytes_done=0)

    def run(self) -> LeaseResult:
        self.thread = threading.current_thread()
        self.stopped.wait()
        self.may_end.wait()
        names = ("shard", "kind", "first", "end", "attempt")
        values = {name: getattr(self.lease, name) for name in names}
        return LeaseResult(**values, generation=0, how=LeaseEnd.RETURNED)


@dataclass
class Unheard:
    now: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)
    work: Work = field(default_factory=lambda: Work(LEASE))
    """Of the lease that is granted next."""
    flush: Callable[[], None] = lambda: None
    journal_seconds: float = 1000.0


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
            flush_journals=scene.flush,
            journal_seconds=scene.journal_seconds,
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


def test_leases_one_after_another_share_a_thread() -> None:
    """And a thread without a lease holds on to nothing of the last one."""
    scene, threads = Unheard(), set()
    with worker_of(scene) as worker:
        for attempt in range(5):
            work = scene.work = Work(replace(LEASE, attempt=attempt))
            work.stopped.set()
            work.may_end.set()
            worker.grant(work.lease)
            wait_until(lambda: bool(worker.report(0.1).results), "the lease ends")
            threads.add(work.thread)
        last = weakref.ref(work)
        work = scene.work = Work(LEASE)
        wait_until(lambda: last() is None, "the lease is forgotten")
    assert len(threads) == 1


def test_leases_that_are_held_at_once_are_worked_on_at_once() -> None:
    scene, works = Unheard(), [Work(replace(LEASE, attempt=attempt)) for attempt in range(3)]
    with worker_of(scene) as worker:
        for work in works:
            scene.work = work
            worker.grant(work.lease)
        wait_until(lambda: all(work.thread for work in works), "the leases begin")
        for work in works:
            work.stopped.set()
            work.may_end.set()
        assert len({work.thread for work in works}) == 3


@pytest.mark.parametrize("refused", [JobDirectoryError("no room"), OSError("no room")])
def test_journals_that_cannot_be_written_end_every_lease(refused: Exception) -> None:
    def refuse() -> None:
        raise refused

    scene = Unheard(flush=refuse, journal_seconds=0.01)
    with worker_of(scene) as worker:
        worker.grant(LEASE)
        wait_until(scene.work.stopped.is_set, "the lease ends")
        assert scene.work.error is refused
        again = scene.work = Work(replace(LEASE, attempt=2))
        worker.grant(again.lease)
        wait_until(again.stopped.is_set, "the next one ends too")


class HandedBack(LeaseRun):
    def work(self) -> LeaseResult:
        return self.tasks.ended_early()


def test_a_lease_whose_journal_cannot_be_saved_ends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = JobDirectory.create(tmp_path / "job", {"id": "j"})
    journals = LeaseJournals(directory)

    def refuse() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(journals, "flush", refuse)
    resources = SimpleNamespace(
        directory=directory,
        manifest=None,
        executor=None,
        journals=journals,
        context=SimpleNamespace(for_lease=lambda *arguments: None),
    )
    run = HandedBack(cast("WorkerResources", resources), LEASE)
    assert run.run().how is LeaseEnd.RETURNED
