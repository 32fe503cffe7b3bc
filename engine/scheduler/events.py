"""What the scheduler is given, what it hears (events), and what it asks for (commands): data only.

`now` is seconds on any monotonic clock, one for all events of a run. `worker` names one life of a
worker: whoever comes back under an old name is new, and has none of the old one's leases.
"""

from __future__ import annotations

from dataclasses import dataclass

from noria.manifests.errors import ConfigurationError
from noria.manifests.model import Lease, LeaseKind, LeaseProgress, LeaseResult
from noria.manifests.plan.shards import MIN_SHARD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions:
    """The scheduler's bounds. Times are in seconds; 0 is refused unless its meaning is given."""

    leases_per_worker: int = 64
    """No worker holds more leases than this, whatever it offers and however hungry it is.

    Each is a thread that mostly waits. With four objects to a lease, 64 keep 256 transfers busy.
    """
    hunger_seconds: float = 10.0
    """After so long without hunger a worker may hold one lease less, down to its slots."""
    attempts_per_span: int = 4
    """After so many failed attempts a span is quarantined; after so many lost uploads, a shard."""
    worker_failure_limit: int = 3
    """A worker whose leases fail on so many shards, with no success in between, is ended."""
    heartbeat_timeout_seconds: float = 60.0
    """A worker not heard of for so long is lost."""
    stall_seconds: float = 900.0
    """A lease without a unit or a byte of progress for so long is revoked, and counts as failed."""
    revoke_seconds: float = 120.0
    """A worker that still reports a lease so long after it was revoked is ended."""
    retry_seconds: float = 5.0
    """How long a span rests after its first failure, doubled with each more; 0 means not at all."""
    min_split_units: int = 1
    """Neither half of a split is smaller."""
    min_split_bytes: int = MIN_SHARD_BYTES
    """If both halves of a lease are as large, it is split before its pace is known."""
    split_seconds: float = 5.0
    """A lease expected to end sooner is not split; 0 means that any may be.

    A split takes two or three seconds to reach the worker that it is for.
    """
    split_timeout_seconds: float = 60.0
    """A split that is not answered, or refused, may be asked for again after this."""
    max_clock_gap_seconds: float = 20.0
    """No more time than this counts between two events.

    While the driver itself stood still (its job directory hung, it was stopped), nobody was late.
    """
    drain_timeout_seconds: float = 300.0
    """How long a draining run waits for live leases before it revokes them; 0 means not at all."""

    def __post_init__(self) -> None:
        may_be_zero = {"retry_seconds", "split_seconds", "drain_timeout_seconds"}
        for name in self.__slots__:
            value = getattr(self, name)
            if value < 0 or (value == 0 and name not in may_be_zero):
                raise ConfigurationError(f"{name} is {value}; it has to be greater than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledSpan:
    """What a seal of the shard's current generation says: units [first, end) are final.

    Of kind ASSEMBLE: the object of a PARTS shard is complete, whatever `first` and `end` are.
    """

    shard: int
    kind: LeaseKind
    first: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJoined:
    now: float
    worker: str
    slots: int
    """How many leases it works on side by side at least."""
    host: str = ""
    """Where it runs. Workers of one host share its troubles."""
    hosts: int = 1
    """How many hosts the cluster has, as far as is known: what fails on one, another may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReported:
    """A heartbeat. LeaseEnded for the results that came with it goes first, or they look lost."""

    now: float
    worker: str
    progress: tuple[LeaseProgress, ...]
    """Every lease that the worker holds, also one on which nothing is done yet."""
    free_places: int = 0
    """Transfers that it could have had in flight since its last report, if it had had work.

    With some, the worker is hungry.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseEnded:
    now: float
    worker: str
    result: LeaseResult


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseCut:
    """The answer to a Split: the worker stops at `end`, perhaps later than it was asked to."""

    now: float
    worker: str
    shard: int
    first: int
    attempt: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    now: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDraining:
    """Its node leaves soon: it finishes or returns what it holds, and gets nothing more."""

    now: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """From here on nothing is granted, or things are again. The driver tells workers to return."""

    now: float
    on: bool
    """False: the pause is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """The run stops: nothing more is granted, and what is live may end."""

    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time passes. Time-outs and splits are decided here alone; one each second is plenty."""

    now: float


Event = (
    WorkerJoined
    | WorkerReported
    | LeaseEnded
    | LeaseCut
    | WorkerLost
    | WorkerDraining
    | Pause
    | Drain
    | Tick
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    worker: str
    lease: Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """Stop this work: it does not count any more, heard or not. May be repeated."""

    worker: str
    shard: int
    first: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Ask the worker to stop at `end`. It answers with LeaseCut, or not at all."""

    worker: str
    shard: int
    first: int
    attempt: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SealLease:
    """The result counts. Its seal is written before any later command is carried out."""

    result: LeaseResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """The span has spent its attempts: it has failed in this run. The next run tries it again."""

    shard: int
    kind: LeaseKind
    first: int
    end: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseWorker:
    """End this worker's process: others get its leases, and nobody listens to it any more."""

    worker: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGeneration:
    """The shard's upload is gone. Seals of earlier generations are void; leases carry this one."""

    shard: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A fatal error. The job drains by itself; this says why."""

    cause: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The run is over. The last command ever; later events change nothing."""


Command = (
    Grant | Revoke | Split | SealLease | Quarantine | LoseWorker | NewGeneration | Stop | Finish
)
