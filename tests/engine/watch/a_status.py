"""A status with something to say in each part of the page."""

from __future__ import annotations

import time

from noria.engine.convergence import MigrationFigures
from noria.engine.status import HostStatus, JobStatus, Phase
from noria.engine.steering.guard import GuardState
from noria.engine.steering.limits import PAUSED, LimitsInForce, Steered
from noria.manifests.counters import Counter, Gauge
from noria.manifests.model import MetricsSnapshot


def a_full_status(**changed: object) -> JobStatus:
    now = time.time()
    values: dict[str, object] = {
        "job": "e8e7bedc3d8e",
        "phase": Phase.MOVING,
        "updated_seconds": now,
        "run_seconds": 3000.0,
        "objects_total": 12_400_000,
        "bytes_total": 412 * 10**12,
        "objects_done": 8_370_000,
        "bytes_done": 278 * 10**12,
        "outcomes": {"TRANSFERRED": 8_000_000, "ALREADY_PRESENT": 120_311, "FAILED": 231},
        "causes": {"target_conflict": 200, "attributes_refused": 31},
        "shards": {"settled": 100, "pending": 200, "leased": 32, "quarantined": 2},
        "workers": 16,
        "workers_lost": 1,
        "bytes_per_second": 1.2e9,
        "objects_per_second": 900.0,
        "eta_seconds": 111_666.0,
        "deadline_seconds": now + 110_000.0,
        "bandwidth": 1.25e9,
        "held": True,
        "hosts": {
            "node-a": HostStatus(workers=16, bytes_per_second=1.2e9, objects=8_000_000),
            "node-b": HostStatus(
                workers_lost=1,
                errors={"unavailable": 3},
                retries={"unavailable": 2},
                barred="its clock is 95 s late",
            ),
        },
        "migration": MigrationFigures(
            passes_ended=3,
            lag_seconds=5600.0,
            lag_grows=True,
            changed_objects_per_second=1.5,
            changed_bytes_per_second=3.2e6,
            freeze_seconds=1900.0,
        ),
        "metrics": MetricsSnapshot(
            counters={
                (Counter.REQUEST_ERRORS, "source", "get", "throttled"): 800.0,
                (Counter.REQUEST_ERRORS, "source", "head", "throttled"): 12.0,
                (Counter.REQUEST_ERRORS, "target", "put", "unavailable"): 3.0,
                (Counter.ERRORS, "throttled"): 812.0,
                (Counter.ERRORS, "unavailable"): 3.0,
                (Counter.ERRORS, "abort_failed"): 1.0,
                (Counter.THROTTLES, "source"): 812.0,
            },
            gauges={
                (Gauge.CONCURRENCY, "source"): 96.0,
                (Gauge.CONCURRENCY, "target"): 128.0,
                (Gauge.SILENT_SECONDS, "target"): 42.0,
            },
        ),
        **changed,
    }
    return JobStatus(**values)  # type: ignore[arg-type]  # the fields of a JobStatus, by name


def a_paused_status(**why: object) -> JobStatus:
    """A job at work in which nothing new is begun; `why` are fields of Steered."""
    values: dict[str, object] = {"value": True, **why}
    limits = LimitsInForce(settings={PAUSED: Steered(**values)})  # type: ignore[arg-type]  # fields
    return a_full_status(in_force=limits, bytes_per_second=0.0, eta_seconds=None)


def a_guarded_status(factor: float, said: str) -> JobStatus:
    """A job that a guard of its source leaves this share of its pace."""
    settings = {PAUSED: Steered(value=False, by="the job file")}
    guards = {"source": GuardState(factor=factor, said=said)}
    limits = LimitsInForce(settings=settings).guarded(guards)
    return a_full_status(in_force=limits)
