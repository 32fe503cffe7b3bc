"""Made-up jobs, workers and events for the scheduler, honest and not, each answer judged."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from noria.engine.scheduler.events import (
    Command,
    Drain,
    Event,
    Finish,
    Grant,
    LeaseEnded,
    LoseWorker,
    Revoke,
    Split,
    Tick,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
    WorkerReported,
)
from noria.engine.scheduler.scheduler import Scheduler, SchedulerOptions, SettledSpan
from noria.manifests.model import Lease, LeaseEnd, LeaseKind, ShardKind, ShardPlan
from tests.support.scheduler_ledger import Ledger, Live, cut_of, progress_of, result_of

FIRST_ATTEMPT = 7_000_000_001
WORKERS = ("w1", "w2", "w3", "w4")
FAIR = ("lossy", "hanging")
ROUND_SECONDS = 3.0
ROUNDS_LIMIT = 400
"""The longest job that is made up: 4 shards of 12 units, one at a time, with all its time-outs."""


@st.composite
def plans(draw: st.DrawFn) -> list[ShardPlan]:
    return [
        ShardPlan(
            shard=number * 3,
            kind=draw(st.sampled_from(ShardKind)),
            units=draw(st.integers(1, 12)),
            bytes=draw(st.integers(0, 1000)),
            units_per_lease=draw(st.integers(1, 12)),
        )
        for number in range(draw(st.integers(1, 4)))
    ]


@st.composite
def seals_of(draw: st.DrawFn, plan: ShardPlan) -> list[SettledSpan]:
    """What an earlier run may have sealed of a shard."""
    kind = LeaseKind(plan.kind.value)
    if kind is LeaseKind.PARTS and draw(st.integers(0, 9)) == 0:
        return [SettledSpan(shard=plan.shard, kind=LeaseKind.ASSEMBLE, first=0, end=0)]
    cuts = sorted(draw(st.sets(st.integers(0, plan.units), max_size=5)))
    return [
        SettledSpan(shard=plan.shard, kind=kind, first=first, end=end)
        for first, end in pairwise(cuts)
        if draw(st.booleans())
    ]


OPTIONS = st.builds(
    SchedulerOptions,
    leases_per_worker=st.integers(1, 6),
    hunger_seconds=st.sampled_from([1.0, 10.0]),
    attempts_per_span=st.integers(1, 4),
    worker_failure_limit=st.integers(1, 3),
    heartbeat_timeout_seconds=st.just(10.0),
    stall_seconds=st.just(25.0),
    revoke_seconds=st.just(15.0),
    retry_seconds=st.sampled_from([0.0, 4.0]),
    min_split_units=st.integers(1, 2),
    min_split_bytes=st.sampled_from([1, 1000]),
    split_seconds=st.sampled_from([0.0, 5.0]),
    split_timeout_seconds=st.just(5.0),
    max_clock_gap_seconds=st.sampled_from([6.0, 1000.0]),
    drain_timeout_seconds=st.sampled_from([0.0, 20.0]),
)


class SchedulerMachine(RuleBasedStateMachine):
    scheduler_type: type[Scheduler] = Scheduler

    def __init__(self) -> None:
        super().__init__()
        self.clock = 100.0
        self.log: list[tuple[Event, list[Command]]] = []
        self.granted: list[tuple[str, Lease]] = []
        self.broken = False

    @initialize(data=st.data(), made_up=plans(), options=OPTIONS, may_end_early=st.booleans())
    def begin(
        self,
        data: st.DataObject,
        made_up: list[ShardPlan],
        options: SchedulerOptions,
        may_end_early: bool,
    ) -> None:
        self.may_end_early = may_end_early
        self.settled = [seal for plan in made_up for seal in data.draw(seals_of(plan))]
        parts = [plan.shard for plan in made_up if plan.kind is ShardKind.PARTS]
        self.generations = {shard: data.draw(st.integers(0, 2)) for shard in parts}
        self.plans, self.options = made_up, options
        self.scheduler = self.new_scheduler()
        self.ledger = Ledger.of(
            made_up,
            self.settled,
            self.generations,
            first_attempt=FIRST_ATTEMPT,
            options=options,
        )

    def new_scheduler(self) -> Scheduler:
        return self.scheduler_type(
            self.plans,
            settled=self.settled,
            generations=self.generations,
            first_attempt=FIRST_ATTEMPT,
            options=self.options,
        )

    def tell(self, event: Event) -> list[Command]:
        """Hand one event over, and have the answer judged."""
        self.broken = True
        commands = self.scheduler.on(event)
        self.log.append((event, commands))
        self.ledger.take(event, commands)
        assert self.scheduler.units() == self.ledger.units_by_state()
        assert list(self.scheduler.live()) == [
            (live.worker, replace(live.lease, end=live.end)) for live in self.ledger.live.values()
        ]
        self.granted += [(item.worker, item.lease) for item in commands if isinstance(item, Grant)]
        self.broken = False
        return commands

    # -- what may happen ---------------------------------------------------------------------------

    @rule(worker=st.sampled_from(WORKERS), slots=st.integers(0, 4))
    def join(self, worker: str, slots: int) -> None:
        self.tell(WorkerJoined(now=self.clock, worker=worker, slots=slots))

    @rule(worker=st.sampled_from(WORKERS))
    def lose(self, worker: str) -> None:
        self.tell(WorkerLost(now=self.clock, worker=worker))

    @rule(worker=st.sampled_from(WORKERS))
    def drain_worker(self, worker: str) -> None:
        self.tell(WorkerDraining(now=self.clock, worker=worker))

    @rule(seconds=st.sampled_from([-2.0, 0.0, 1.0, 4.0, 9.0, 30.0, 1e6]))
    def tick(self, seconds: float) -> None:
        self.clock += max(0.0, seconds)
        self.tell(Tick(now=self.clock + min(0.0, seconds)))

    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def report(self, worker: str, data: st.DataObject) -> None:
        """It names some of what it was ever granted, be it still its own or not."""
        leases = [lease for name, lease in self.granted if name == worker][-4:]
        progress = tuple(
            progress_of(
                lease,
                end=data.draw(st.integers(lease.first, lease.end + 1)),
                units=data.draw(st.integers(0, lease.end - lease.first)),
            )
            for lease in leases
            if data.draw(st.integers(0, 3))
        )
        free_places = data.draw(st.sampled_from([0, 0, 1, 9]))
        self.tell(
            WorkerReported(
                now=self.clock, worker=worker, progress=progress, free_places=free_places
            )
        )

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """An honest worker has done its lease, or some of it."""
        worker, lease = data.draw(st.sampled_from(self.granted))
        live = self.ledger.live.get(lease.attempt)
        last = lease.end if live is None else live.end
        end = data.draw(st.integers(min(lease.first + 1, last), last))
        self.tell(LeaseEnded(now=self.clock, worker=worker, result=result_of(lease, end=end)))

    @precondition(lambda self: self.granted)
    @rule(
        data=st.data(),
        how=st.sampled_from(
            [LeaseEnd.RETURNED, LeaseEnd.FAILED, LeaseEnd.UPLOAD_LOST, LeaseEnd.FATAL]
        ),
    )
    def fail(self, data: st.DataObject, how: LeaseEnd) -> None:
        if how is LeaseEnd.FATAL and not self.may_end_early:
            how = LeaseEnd.FAILED
        worker, lease = data.draw(st.sampled_from(self.granted))
        result = result_of(lease, how, cause="test")
        self.tell(LeaseEnded(now=self.clock, worker=worker, result=result))

    @precondition(lambda self: self.live_uploads())
    @rule(data=st.data())
    def lose_upload(self, data: st.DataObject) -> None:
        live = data.draw(st.sampled_from(self.live_uploads()))
        result = result_of(live.lease, LeaseEnd.UPLOAD_LOST, cause="upload_lost")
        self.tell(LeaseEnded(now=self.clock, worker=live.worker, result=result))

    def live_uploads(self) -> list[Live]:
        live = self.ledger.live.values()
        return [item for item in live if item.lease.kind is not LeaseKind.OBJECTS]

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), how=st.sampled_from(LeaseEnd))
    def lie(self, data: st.DataObject, how: LeaseEnd) -> None:
        """A result that is nobody's, or more than was leased, or less than nothing."""
        if how is LeaseEnd.FATAL and not self.may_end_early:
            how = LeaseEnd.FINISHED
        worker, lease = data.draw(st.sampled_from(self.granted))
        forged = replace(
            result_of(lease, how, cause="test"),
            first=lease.first + data.draw(st.sampled_from([0, 0, 0, 1])),
            end=data.draw(st.integers(0, lease.end + 3)),
            attempt=lease.attempt + data.draw(st.sampled_from([0, 0, 0, 1])),
            generation=lease.generation + data.draw(st.sampled_from([0, 0, 0, 1])),
        )
        speaker = data.draw(st.sampled_from([worker, worker, *WORKERS]))
        self.tell(LeaseEnded(now=self.clock, worker=speaker, result=forged))

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """An old event comes again, late."""
        event, _ = data.draw(st.sampled_from(self.log[-12:]))
        if not isinstance(event, Drain):
            self.tell(replace(event, now=self.clock))

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        worker, lease = data.draw(st.sampled_from(self.granted))
        end = data.draw(st.integers(lease.first, lease.end + 1))
        self.tell(cut_of(self.clock, worker, lease, end))

    @precondition(lambda self: self.may_end_early and len(self.log) > 15)
    @rule()
    def drain(self) -> None:
        self.tell(Drain(now=self.clock))

    # -- how it has to end -------------------------------------------------------------------------

    def teardown(self) -> None:
        if self.broken or not hasattr(self, "ledger"):
            return
        FairWorkers(self).run()
        assert self.ledger.finished, "workers behave, and the job does not end"
        assert sum(isinstance(item, Finish) for _, commands in self.log for item in commands) == 1
        again = self.new_scheduler()
        assert [again.on(event) for event, _ in self.log] == [commands for _, commands in self.log]


class FairWorkers:
    """Two workers that do what they are told, with some bad luck.

    The first grant of one is lost on its way, the first lease of the other hangs until it is
    revoked, and half of all splits are not heard. A worker that is ended comes back.
    """

    def __init__(self, machine: SchedulerMachine) -> None:
        self.machine = machine
        self.lost_grant: int | None = None
        self.hung: int | None = None
        self.rounds = 0

    def run(self) -> None:
        self.tell(Tick(now=self.now))
        for name in FAIR:
            self.join(name)
        while self.rounds < ROUNDS_LIMIT and not self.machine.ledger.finished:
            self.rounds += 1
            self.machine.clock += ROUND_SECONDS
            self.tell(Tick(now=self.now))
            for name in FAIR:
                self.work(name)

    @property
    def now(self) -> float:
        return self.machine.clock

    def tell(self, event: Event) -> None:
        for command in self.machine.tell(event):
            match command:
                case Grant(worker="lossy", lease=lease) if self.lost_grant is None:
                    self.lost_grant = lease.attempt
                case Grant(worker="hanging", lease=lease) if self.hung is None:
                    self.hung = lease.attempt
                case Revoke(worker="hanging", attempt=attempt) if attempt == self.hung:
                    self.hung = 0
                case Split(worker=worker, attempt=attempt, end=end) if self.rounds % 2:
                    lease = self.machine.ledger.live[attempt].lease
                    if worker in FAIR:
                        self.tell(cut_of(self.now, worker, lease, end))
                case LoseWorker(worker=worker) if worker in FAIR:
                    self.join(worker)

    def join(self, name: str) -> None:
        self.tell(WorkerJoined(now=self.now, worker=name, slots=2))

    def work(self, name: str) -> None:
        """End one lease, then report the others."""
        able = [n for n in self.held(name) if n not in (self.hung, self.lost_grant)]
        if able:
            live = self.machine.ledger.live[able[0]]
            result = result_of(live.lease, end=live.end)
            self.tell(LeaseEnded(now=self.now, worker=name, result=result))
        progress = tuple(
            progress_of(live.lease, end=live.end, units=0 if n == self.hung else self.rounds)
            for n, live in self.held(name).items()
            if n != self.lost_grant
        )
        free_places = 4 if self.rounds % 3 == 0 else 0
        self.tell(
            WorkerReported(now=self.now, worker=name, progress=progress, free_places=free_places)
        )

    def held(self, name: str) -> dict[int, Live]:
        return {n: live for n, live in self.machine.ledger.live.items() if live.worker == name}


QUIET = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    stateful_step_count=40,
)
