"""Small planned jobs, and workers of a cluster that tests talk to one by one."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import noria
from noria.engine.cluster.protocol import (
    Cluster,
    ClusterEvent,
    Instruction,
    Lost,
    Reported,
    Started,
)
from noria.engine.job import worker_spec
from noria.engine.planning import open_prepared
from noria.engine.scheduler.events import Grant
from noria.engine.worker_spec import WorkerSpec
from noria.manifests.model import Lease, LeaseKind, LeaseResult, WorkerReport

_Event = TypeVar("_Event", bound=ClusterEvent)
EVENT_SECONDS = 40.0


def planned_spec(folder: Path, *, objects: int = 20) -> WorkerSpec:
    """What a worker is told of a planned job: files of one folder go to another."""
    source, target, job = (folder / name for name in ("source", "target", "job"))
    source.mkdir(parents=True)
    target.mkdir()
    for number in range(objects):
        (source / f"{number:05}").write_bytes(content(number))
    config = noria.job_config(
        {"source": {"url": f"file://{source}"}, "target": {"url": f"file://{target}"}}, "a test"
    )
    noria.plan(config, job)
    (job / "log").mkdir()
    prepared = open_prepared(job)
    return worker_spec(prepared, prepared.config.run)


def content(number: int) -> bytes:
    return f"object {number}".encode()


@contextmanager
def held_start(spec: WorkerSpec) -> Iterator[WorkerSpec]:
    """A job that a worker opens, and then waits, on its way up, until the block ends."""
    held = Path(spec.directory).with_name("held")
    shutil.copytree(spec.directory, held)
    pipe = held / "manifest" / "manifest.json"
    pipe.unlink()
    os.mkfifo(pipe)
    try:
        yield replace(spec, directory=str(held))
    finally:
        # Whoever waits for a writer meets an empty file.
        os.close(os.open(pipe, os.O_RDWR))


class Team:
    """Workers of one cluster, by name, and what has been heard of them and not been asked for."""

    def __init__(self, cluster: Cluster, spec: WorkerSpec) -> None:
        self.cluster = cluster
        self.spec = spec
        self.heard: list[ClusterEvent] = []
        self._names = itertools.count()
        self._asked: list[str] = []
        self._attempts = itertools.count(1)

    def ask_for_worker(self, spec: WorkerSpec | None = None) -> str:
        """The name of a worker that is on its way."""
        name = f"{Path(self.spec.directory).parent.name}-{next(self._names)}"
        self._asked.append(name)
        self.cluster.start_worker(replace(spec or self.spec, name=name))
        return name

    def end(self) -> None:
        """No worker of this team is left to the next test."""
        for name in self._asked:
            self.cluster.kill(name)

    def lost(self, worker: str) -> Lost:
        return self.next(worker, Lost)

    def start(self) -> Started:
        return self.next(self.ask_for_worker(), Started)

    def exchange(self, worker: str, *instructions: Instruction) -> WorkerReport:
        for instruction in instructions:
            self.cluster.send(worker, instruction)
        self.cluster.exchange(worker)
        return self.next(worker, Reported).report

    def grant(self, worker: str, end: int) -> Grant:
        """The first `end` entries of the job, for a worker."""
        lease = Lease(
            shard=0,
            kind=LeaseKind.OBJECTS,
            first=0,
            end=end,
            attempt=next(self._attempts),
            generation=0,
        )
        return Grant(worker=worker, lease=lease)

    def result(self, worker: str, *instructions: Instruction) -> LeaseResult:
        """Exchange until a lease has ended."""
        report = self.exchange(worker, *instructions)
        until = time.monotonic() + EVENT_SECONDS
        while not report.results:
            assert time.monotonic() < until, "no lease ended"
            report = self.exchange(worker)
        (result,) = report.results
        return result

    def next(self, worker: str, kind: type[_Event], *, seconds: float = EVENT_SECONDS) -> _Event:
        """The next that is heard of a worker, which has to be of that kind."""
        until = time.monotonic() + seconds
        while True:
            for event in self.heard:
                if event.worker == worker:
                    self.heard.remove(event)
                    assert isinstance(event, kind), event
                    return event
            assert time.monotonic() < until, f"nothing was heard of worker {worker}"
            self.heard += self.cluster.poll(0.1)

    def listen(self, seconds: float) -> None:
        """Hear all that is said for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.heard += self.cluster.poll(0.1)
