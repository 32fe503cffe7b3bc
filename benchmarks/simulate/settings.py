"""What a simulation is made of: the site, what goes wrong there and how often, and its clock."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from noria.engine.estimate.rates import STREAM_RATE, TRANSFER_BYTES, WORKER_RATE
from noria.engine.scheduler.events import SchedulerOptions

MIB = 1024 * 1024
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
SEAL_OPERATIONS = 8
"""That a seal takes: folder, file, flushes, its name, and the journals that go."""
READ_OPERATIONS = 3
"""That a file of seals takes when a driver begins: open, size, close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Workers, their nodes, and both stores. Rates are bytes a second."""

    workers: int = 400
    workers_per_node: int = 4
    leases: int = 2
    """That a worker holds side by side, if they keep its transfers busy."""
    transfers: int = 8
    """That a worker has in flight, if its leases have as many. Nobody looks for the best number."""
    connection_rate: float = STREAM_RATE
    """Of one transfer, which reads and writes at once: both stores give it no more than this."""
    part_bytes: int = 64 * MIB
    """A unit of more bytes is moved by several transfers at once."""
    worker_rate: float = WORKER_RATE
    """Median of what one worker can move; speeds are log-normal."""
    worker_spread: float = 0.3
    """Sigma of the speeds' logarithm."""
    slow_share: float = 0.02
    """Of all workers, at a tenth of their speed."""
    node_rate: float = 3.1e9
    """Network interface of a node, shared by its workers: 25 Gbit/s."""
    source_rate: float = 12.5e9
    """Most that the source gives to all together: 100 Gbit/s."""
    target_rate: float = 12.5e9
    in_flight_bytes: int = 256 * MIB
    """Of one lease: what its worker loses when it dies, at most."""
    journal_seconds: float = 1.0
    object_bytes: int = TRANSFER_BYTES
    """What an object costs apart from its bytes, in bytes that would take as long."""
    metadata_seconds: float = 0.0
    """Of one operation on a name or for a flush in the job directory: milliseconds on a network
    file system. What one driver does of them one after the other is simulated; workers do theirs
    side by side, and have other leases meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Mean seconds between faults of the whole site, and shares. 0 means never."""

    node_loss_seconds: float = HOUR
    """Half of the time the driver is told that it cannot be reached, which is all that a cluster
    can say; half of the time it has to find out by itself."""
    node_drain_seconds: float = 6 * HOUR
    worker_crash_seconds: float = HOUR
    zombie_seconds: float = 2 * HOUR
    """A worker stands still, or works without being heard, some for longer than the heartbeat
    time-out; then it comes back with what it had."""
    node_cut_seconds: float = 6 * HOUR
    """A node is cut off from the driver, and not from the stores. Half of the time the driver is
    told that it cannot be reached."""
    node_freeze_seconds: float = 12 * HOUR
    """A node stands still with all its processes, and goes on."""
    late_message_seconds: float = HOUR
    """A report, or the driver's next call, is late, some later than the heartbeat time-out."""
    lost_message_seconds: float = 6 * HOUR
    """A report, or the driver's next call, never arrives. Nobody sends it again."""
    clock_drift: float = 0.1
    """The clock of each host, and of the driver's, runs at most so much too fast or too slow."""
    throttle_seconds: float = 4 * HOUR
    """A store answers 503 for a while: its rate falls to between 1/20 and 1/2."""
    outage_seconds: float = 0.0
    """A store answers nobody for two hours, and workers wait for it."""
    driver_pause_seconds: float = 12 * HOUR
    """The driver hangs: nothing is lost, everything is late."""
    driver_restart_seconds: float = DAY
    failed_leases: float = 1e-3
    lost_uploads: float = 1e-3
    """Of PARTS and ASSEMBLE leases."""
    hung_leases: float = 2e-6
    """Of all leases; half of these do not hear a Revoke. Time-outs of requests end what hangs long
    before: this is a fault that nobody knows of."""
    lost_grants: float = 1e-4
    wrong_results: float = 1e-4
    """Results that say more than was leased, or belong to another generation."""
    poisoned_shards: float = 1e-5
    """Shards on which every lease fails."""
    late_splits: float = 0.2
    lost_splits: float = 0.1

    def scaled(self, factor: float) -> Faults:
        """`factor` times as often. 0: none at all. Shares of leases stay below one half.

        Clocks drift as they do, or not at all.
        """
        changes = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith("_seconds"):
                changes[item.name] = value / factor if factor else 0.0
            elif item.name == "clock_drift":
                changes[item.name] = value if factor else 0.0
            else:
                changes[item.name] = min(0.5, value * factor)
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """Simulated seconds between events that recur.

    Real workers report each second. For a thousand workers over weeks that would be a billion
    events that say nothing new.
    """

    report_seconds: float
    tick_seconds: float
    bin_seconds: float
    """Of the curve of throughput."""

    @classmethod
    def fitting(cls, workers: int, seconds: float, reports: float) -> Cadence:
        """As dense as about so many reports of all workers allow, and no denser than reality."""
        report_seconds = max(1.0, workers * seconds / reports)
        return cls(
            report_seconds=report_seconds,
            tick_seconds=max(1.0, report_seconds / 4),
            bin_seconds=max(10.0, report_seconds),
        )

    def options(self, real: SchedulerOptions) -> SchedulerOptions:
        """The scheduler's bounds, fitted to reports and ticks that are rarer than real ones.

        A worker is lost after the real time-out, but not before it has missed four reports.
        """
        return replace(
            real,
            heartbeat_timeout_seconds=max(real.heartbeat_timeout_seconds, 4 * self.report_seconds),
            split_seconds=max(real.split_seconds, 2 * self.report_seconds),
            max_clock_gap_seconds=max(real.max_clock_gap_seconds, 3 * self.tick_seconds),
        )
