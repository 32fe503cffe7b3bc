"""Who may write, and until when: promise I17 of RELIABILITY.md, judged by a bookkeeping of its own.

It sees what no driver and no worker can see: every write, when each report was sent and whether the
driver got it, and how fast each clock runs. It shares no code with what workers keep to.

As RELIABILITY.md says, a worker that was heard and told to hand a lease back, or to end, may meet
others for a moment. It is held to the time-out all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from noria.benchmarks.simulate.ledger import Violation
from noria.benchmarks.simulate.workers import SimulatedWorker, Task
from noria.engine.scheduler.events import (
    Command,
    Event,
    Grant,
    LeaseCut,
    LeaseEnded,
    LoseWorker,
    Revoke,
    SettledSpan,
    WorkerLost,
    WorkerReported,
)
from noria.manifests.model import Lease, LeaseKind

BEGIN_SHARE, END_SHARE = 0.5, 0.75
"""Of the heartbeat time-out, since the worker sent the last report that its driver got: so long it
may begin requests, and so long they may last."""
WAKING_SECONDS = 0.25
"""Until a process that stood still has looked whether it must end. What it had in flight goes on
meanwhile, since nobody can stop a process that stands still."""
ROUNDING_SECONDS = 1e-3


@dataclass(slots=True)
class _Bounds:
    """Of one worker, in simulated time."""

    begin_until: float = 0.0
    end_until: float = 0.0
    woken_until: float = 0.0


class HolderLedger:
    """`note_write` raises Violation if a worker writes what it may not write any more."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._bounds: dict[str, _Bounds] = {}
        self._held: dict[str, dict[int, Lease]] = {}
        """By worker and attempt, as the driver has granted them, with the ends after cuts."""
        self._lost: dict[int, dict[int, Lease]] = {}
        """By shard and attempt: taken from workers that nobody could tell."""
        self._given: dict[int, str] = {}
        """Attempt -> who was granted something of it after it was lost."""

    # -- what workers and the driver's end of the wire know ----------------------------------------

    def note_heard(self, worker: SimulatedWorker, sent_at: float) -> None:
        """The driver that counts on the worker has got a report of that time, or its first word."""
        bounds = self._bounds.setdefault(worker.name, _Bounds())
        lasts = worker.node.clock.lasts
        bounds.begin_until = sent_at + lasts(BEGIN_SHARE * self._timeout_seconds) + ROUNDING_SECONDS
        bounds.end_until = sent_at + lasts(END_SHARE * self._timeout_seconds) + ROUNDING_SECONDS

    def note_woken(self, worker: SimulatedWorker, now: float) -> None:
        """The process stood still until now."""
        lasts = worker.node.clock.lasts
        self._bounds[worker.name].woken_until = now + lasts(WAKING_SECONDS) + ROUNDING_SECONDS

    def note_write(self, task: Task, now: float) -> None:
        """The task has got further until now."""
        bounds = self._bounds[task.worker.name]
        begun = now if task.stopped_at is None else task.stopped_at
        if begun > bounds.begin_until:
            raise Violation(
                f"worker {task.worker.name} begins a request later than half of the time-out after "
                "the last report that its driver got"
            )
        if now > bounds.end_until and now > bounds.woken_until:
            raise Violation(
                f"worker {task.worker.name} writes later than three quarters of the time-out after "
                "the last report that its driver got"
            )
        other = self._given.get(task.lease.attempt)
        if other is not None and now > bounds.woken_until:
            raise Violation(
                f"worker {task.worker.name} writes in shard {task.lease.shard} what worker {other} "
                "has been granted, and nobody has told it"
            )

    # -- what the driver does ----------------------------------------------------------------------

    def begin_run(
        self, settled: Sequence[SettledSpan], generations: Mapping[int, int], first_attempt: int
    ) -> None:
        """A new driver knows nothing of what the last one granted, and can tell nobody."""
        for worker in list(self._held):
            self._lose(worker)

    def take(self, event: Event, commands: Sequence[Command]) -> None:
        if not isinstance(event, WorkerReported):
            self._hear(event)
        for command in commands:
            self._obey(command)

    def _hear(self, event: Event) -> None:
        match event:
            case LeaseEnded(worker=worker, result=result):
                self._held.get(worker, {}).pop(result.attempt, None)
            case LeaseCut(worker=worker, attempt=attempt, end=end):
                leases = self._held.get(worker, {})
                lease = leases.get(attempt)
                if lease is not None and lease.first < end < lease.end:
                    leases[attempt] = replace(lease, end=end)
            case WorkerLost(worker=worker):
                self._lose(worker)

    def _obey(self, command: Command) -> None:
        match command:
            case Grant(worker=worker, lease=lease):
                self._grant(worker, lease)
            case Revoke(worker=worker, attempt=attempt):
                self._held.get(worker, {}).pop(attempt, None)
            case LoseWorker(worker=worker, cause="heartbeat_expired"):
                self._lose(worker)
            case LoseWorker(worker=worker):
                self._held.pop(worker, None)

    def _lose(self, worker: str) -> None:
        for attempt, lease in self._held.pop(worker, {}).items():
            self._lost.setdefault(lease.shard, {})[attempt] = lease

    def _grant(self, worker: str, lease: Lease) -> None:
        self._held.setdefault(worker, {})[lease.attempt] = lease
        for attempt, lost in self._lost.get(lease.shard, {}).items():
            if _meet(lease, lost):
                self._given[attempt] = worker


def _meet(lease: Lease, other: Lease) -> bool:
    """Whether both write to the same place: the same upload, or the same objects."""
    if (lease.kind, lease.generation) != (other.kind, other.generation):
        return False
    if lease.kind is LeaseKind.ASSEMBLE:
        return True
    return lease.first < other.end and other.first < lease.end
