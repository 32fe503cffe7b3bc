"""Workers as processes of this machine: the cluster of a job without `--address`.

Each worker is a child of the driver, talks to it over a socket pair, and ends with it. A thread of
the driver waits for each: none of them can hold up another, nor the driver.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from noria.engine.cluster.child import Child
from noria.engine.cluster.protocol import (
    PATIENCE_SECONDS,
    START_FAILED,
    Build,
    ClusterEvent,
    Host,
    Instruction,
    Lost,
    Reported,
    Started,
    drain_queue,
)
from noria.engine.worker_spec import WorkerSpec
from noria.manifests.errors import NoriaError

_MODULE = "noria.engine.cluster.worker_process"
HERE = Host.own("")


@dataclass(slots=True)
class _LocalWorker:
    spec: WorkerSpec
    child: Child | None
    """None: there was no room for its process."""
    is_up: bool = False
    outbox: list[Instruction] = field(default_factory=list)
    exchanges: queue.SimpleQueue[tuple[Instruction, ...] | None] = field(
        default_factory=queue.SimpleQueue
    )
    """What to exchange next; None: nothing any more."""


class LocalCluster:
    """See protocol.Cluster."""

    def __init__(self, *, report_seconds: float = 1.0) -> None:
        """`report_seconds` is how long a worker may wait for news before it reports."""
        self._report_seconds = report_seconds
        self._members: dict[str, _LocalWorker] = {}
        self._spares: list[Child] = []
        self._threads: dict[str, threading.Thread] = {}
        self._events: queue.SimpleQueue[ClusterEvent] = queue.SimpleQueue()

    def prestart(self) -> None:
        if not self._spares and not self._members:
            # A hint: if there is no room for a process now, start_worker() says so.
            with contextlib.suppress(OSError):
                self._spares.append(Child(_MODULE))

    def start(self, log_directory: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Nothing to do: workers write to the log of the job that they are told of."""

    def trouble(self) -> str | None:
        return None

    def workers_elsewhere(self) -> str | None:
        return None

    def nodes_lost(self) -> str | None:
        return None

    def hosts(self) -> dict[str, int]:
        return {HERE.id: len(os.sched_getaffinity(0))}

    def start_worker(self, spec: WorkerSpec, *, avoid: Collection[str] = ()) -> None:
        try:
            child = self._spares.pop() if self._spares else Child(_MODULE)
        except OSError as error:
            self._members[spec.name] = _LocalWorker(spec, None)
            words = f"this machine starts no more processes ({error.strerror})"
            self._events.put(Lost(worker=spec.name, cause=START_FAILED, last_words=words))
            return
        self._members[spec.name] = member = _LocalWorker(spec, child)
        self._threads[spec.name] = threading.Thread(
            target=self._attend, args=(member, child), name=f"worker-{spec.name}", daemon=True
        )
        self._threads[spec.name].start()

    def waiting(self) -> list[str]:
        return [name for name, member in self._members.items() if not member.is_up]

    def send(self, worker: str, instruction: Instruction) -> None:
        member = self._members.get(worker)
        if member is not None:
            member.outbox.append(instruction)

    def exchange(self, worker: str) -> None:
        member = self._members.get(worker)
        if member is not None:
            outbox, member.outbox = tuple(member.outbox), []
            member.exchanges.put(outbox)

    def poll(self, seconds: float) -> list[ClusterEvent]:
        found = []
        for event in drain_queue(self._events, seconds):
            member = self._members.get(event.worker)
            if member is None:
                continue  # it was killed meanwhile
            if isinstance(event, Lost):
                self.kill(event.worker)
            elif isinstance(event, Started):
                member.is_up = True
            found.append(event)
        return found

    def kill(self, worker: str) -> None:
        member = self._members.pop(worker, None)
        self._threads.pop(worker, None)
        if member is not None and member.child is not None:
            member.child.kill()
            member.exchanges.put(None)

    def leaving(self) -> set[str]:
        return set()

    def close(self) -> None:
        for child in self._spares:
            child.kill()
            child.wait()
        self._spares.clear()
        threads = list(self._threads.values())
        for worker in list(self._members):
            self.kill(worker)
        for thread in threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _attend(self, member: _LocalWorker, child: Child) -> None:
        """Wait for one worker, from its first word to its end; on a thread of its own."""
        name, channel = member.spec.name, child.channel
        cause = START_FAILED
        try:
            build: Build = channel.receive()
            error: NoriaError | None = build.refusal()
            if error is None:
                channel.send(member.spec)
                error = channel.receive()
            if error is not None:
                self._events.put(Lost(worker=name, cause=error.cause, error=error, host=HERE))
                return
            self._events.put(Started(worker=name, host=HERE, pid=child.pid))
            cause = "worker_lost"
            while (instructions := member.exchanges.get()) is not None:
                channel.send((instructions, self._report_seconds))
                self._events.put(Reported(worker=name, report=channel.receive()))
        except (EOFError, OSError):
            self._events.put(Lost(worker=name, cause=cause, last_words=child.last_words()))
        finally:
            child.kill()
            child.wait()
