"""The cluster of one dataset: workers that it has from a pool which all datasets of a run share.

To the driver it is a cluster like any other. A worker that another dataset has more right to counts
as leaving; one that the driver lets go of, and which holds no lease, is not ended but handed back.
"""

from __future__ import annotations

import queue
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from noria.engine.budgets import WorkerShare
from noria.engine.cluster.local import HERE
from noria.engine.cluster.protocol import (
    PATIENCE_SECONDS,
    ClusterEvent,
    Instruction,
    Lost,
    Reported,
    Started,
    drain_queue,
)
from noria.engine.fleet.budgets import RunBudgets
from noria.engine.fleet.pool import WorkerPool, WorkerProcess
from noria.engine.fleet.stacked_shares import StackedShare
from noria.engine.scheduler.events import Grant
from noria.engine.worker_spec import WorkerSpec
from noria.manifests.counters import StoreRole
from noria.manifests.model import BandwidthShare, Limits, RequestShare, WorkerReport


class WorkerShares:
    """What a worker may use a second: of the budgets of all, and of its own dataset's."""

    def __init__(self, of_all: WorkerShare, own: WorkerShare) -> None:
        """What each of the two has it begin with."""
        self._bandwidth = StackedShare(of_all=of_all.bandwidth, own=own.bandwidth)
        self._requests = {
            StoreRole.SOURCE.value: StackedShare(
                of_all=of_all.source_requests, own=own.source_requests
            ),
            StoreRole.TARGET.value: StackedShare(
                of_all=of_all.target_requests, own=own.target_requests
            ),
        }

    def begun(self, spec: WorkerSpec) -> WorkerSpec:
        """The spec with what the worker is to begin with."""
        return replace(
            spec,
            bandwidth=self._bandwidth.share,
            source_requests=self._requests[StoreRole.SOURCE].share,
            target_requests=self._requests[StoreRole.TARGET].share,
        )

    def told(self, instruction: Instruction, *, by_all: bool) -> Instruction:
        """What the worker is to be told if one of the two budgets decides that."""
        match instruction:
            case BandwidthShare(bytes_per_second=share):
                return BandwidthShare(bytes_per_second=_tell(self._bandwidth, share, by_all))
            case RequestShare(store=store, per_second=share):
                told = _tell(self._requests[store], share, by_all)
                return RequestShare(store=store, per_second=told)
        return instruction

    def of_all(self, report: WorkerReport) -> WorkerReport:
        """A report as the budgets of all are to hear it."""
        requests = {store: self._requests[store].of_all(u) for store, u in report.requests.items()}
        return replace(
            report, bandwidth=self._bandwidth.of_all(report.bandwidth), requests=requests
        )

    def own(self, report: WorkerReport) -> WorkerReport:
        """The same for the driver of its dataset."""
        requests = {store: self._requests[store].own(use) for store, use in report.requests.items()}
        return replace(report, bandwidth=self._bandwidth.own(report.bandwidth), requests=requests)


def _own(spec: WorkerSpec) -> WorkerShare:
    """What its dataset has a worker begin with."""
    return WorkerShare(
        bandwidth=spec.bandwidth,
        source_requests=spec.source_requests,
        target_requests=spec.target_requests,
    )


def _tell(stacked: StackedShare, share: float, by_all: bool) -> float:
    return stacked.tell(of_all=share) if by_all else stacked.tell(own=share)


@dataclass(slots=True)
class _PooledWorker:
    spec: WorkerSpec
    process: WorkerProcess | None = None
    """None: its turn has not come yet."""
    is_up: bool = False
    is_leaving: bool = False
    exchange_due: bool = False
    outbox: list[Instruction] = field(default_factory=list)
    key: str = ""
    """What names it among the workers of all datasets."""
    shares: WorkerShares | None = None
    """None: it has not begun."""


class PooledCluster:
    """See protocol.Cluster. `start`, `prestart` and hosts are the pool's affair."""

    def __init__(
        self, name: str, pool: WorkerPool, budgets: RunBudgets, *, priority: int, weight: float
    ) -> None:
        """`budgets` decide what the whole run may use, all datasets together.

        What the driver of this one, `name`, decides on bytes and requests a second holds beside
        that; what it decides on transfers goes nowhere.
        """
        self._name = name
        self._pool = pool
        self._budgets = budgets
        self._members: dict[str, _PooledWorker] = {}
        self._events: queue.SimpleQueue[ClusterEvent] = queue.SimpleQueue()
        self._is_closed = False
        pool.enter(name, self, priority=priority, weight=weight)

    # -- what the pool asks, under its lock --------------------------------------------------------

    def take(self, process: WorkerProcess) -> None:
        """See pool.Wanting."""
        member = next(each for each in self._members.values() if each.process is None)
        member.process = process
        member.key, share = self._budgets.join()
        member.shares = WorkerShares(share, _own(member.spec))
        process.begin(member.shares.begun(share.in_spec(member.spec)), self._events.put)

    def let_go(self) -> WorkerProcess | None:
        """See pool.Wanting."""
        for member in reversed(self._members.values()):
            if member.is_up and not member.is_leaving:
                member.is_leaving = True
                return member.process
        return None

    # -- what the driver asks ----------------------------------------------------------------------

    def prestart(self) -> None:
        """Nothing: whose turn it is gets a process that is up, or starts one."""

    def start(self, log_directory: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Nothing to do: workers write to the log of the job that they are told of."""

    def trouble(self) -> str | None:
        return None

    def workers_elsewhere(self) -> str | None:
        return None

    def nodes_lost(self) -> str | None:
        return None

    def hosts(self) -> dict[str, int]:
        return {HERE.id: self._pool.workers}

    def start_worker(self, spec: WorkerSpec, *, avoid: Collection[str] = ()) -> None:
        with self._pool.lock:
            self._members[spec.name] = _PooledWorker(spec)
            self._pool.ask(self._name)

    def waiting(self) -> list[str]:
        return [name for name, member in self._members.items() if not member.is_up]

    def send(self, worker: str, instruction: Instruction) -> None:
        member = self._members.get(worker)
        if member is None or isinstance(instruction, Limits):
            return
        if member.shares is not None:
            instruction = member.shares.told(instruction, by_all=False)
        member.outbox.append(instruction)

    def exchange(self, worker: str) -> None:
        """Due with the next poll(): a driver that ends meanwhile has no answer to wait for."""
        member = self._members.get(worker)
        if member is not None:
            member.exchange_due = True

    def poll(self, seconds: float) -> list[ClusterEvent]:
        for member in self._members.values():
            if member.exchange_due and member.process is not None:
                member.exchange_due = False
                told = (*member.outbox, *self._news(member))
                member.outbox.clear()
                member.process.exchange(told, grants=any(isinstance(one, Grant) for one in told))
        found = []
        for event in drain_queue(self._events, seconds):
            known = self._members.get(event.worker)
            if known is None:
                continue  # it was let go of meanwhile
            match event:
                case Started():
                    known.is_up = True
                    self._pool.look_again()
                case Reported(report=report) if known.shares is not None:
                    self._budgets.hear(known.key, known.shares.of_all(report))
                    event = replace(event, report=known.shares.own(report))
                case Lost():
                    self._forget(event.worker)
            found.append(event)
        return found

    def _news(self, member: _PooledWorker) -> list[Instruction]:
        news = self._budgets.news(member.key)
        if member.shares is None:
            return news
        return [member.shares.told(each, by_all=True) for each in news]

    def kill(self, worker: str) -> None:
        """Let go of a worker: it goes back to the pool, or ends if it holds leases."""
        with self._pool.lock:
            member = self._forget(worker)
            if member is None:
                return
            if member.process is None:
                self._pool.withdraw(self._name)
            elif member.is_up:
                member.process.release()
            else:
                member.process.kill()

    def leaving(self) -> set[str]:
        return {name for name, member in self._members.items() if member.is_leaving}

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for worker in list(self._members):
            self.kill(worker)
        self._pool.leave(self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _forget(self, worker: str) -> _PooledWorker | None:
        with self._pool.lock:
            member = self._members.pop(worker, None)
        if member is not None and member.process is not None:
            self._budgets.leave(member.key)
        return member
