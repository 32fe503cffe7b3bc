"""The status of a run of many datasets: what each of them shows, added up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

from noria.engine.status import DatasetFigures, HostStatus, JobStatus, Phase
from noria.manifests.model import MetricsSnapshot

_SUMS = (
    "objects_total",
    "bytes_total",
    "objects_done",
    "bytes_done",
    "bytes_moved",
    "sealed_sent_bytes",
    "failing",
    "workers",
    "workers_lost",
    "listed",
    "bytes_per_second",
    "objects_per_second",
    "retries_per_second",
    "listed_per_second",
)
_TALLIES = (
    "outcomes",
    "outcome_bytes",
    "levels",
    "causes",
    "changes",
    "shards",
    "damaged",
    "differences",
    "passed_over",
)


def added(one: JobStatus, other: JobStatus) -> JobStatus:
    """Two statuses as one; the first one's phase."""
    sums: dict[str, Any] = {name: getattr(one, name) + getattr(other, name) for name in _SUMS}
    tallies: dict[str, Any] = {
        name: _tally(getattr(one, name), getattr(other, name)) for name in _TALLIES
    }
    return replace(
        one,
        **sums,
        **tallies,
        bytes_moved_at_least=one.bytes_moved_at_least or other.bytes_moved_at_least,
        interpreter=one.interpreter or other.interpreter,
        hosts=_hosts(one.hosts, other.hosts),
        metrics=one.metrics + other.metrics,
    )


def whole(
    id: str, statuses: Iterable[JobStatus], ended: JobStatus, *, phase: Phase, run_seconds: float
) -> JobStatus:
    """The status of the whole run; `ended` is the sum of the datasets that are not at work."""
    begin = JobStatus(job=id, phase=phase, updated_seconds=time.time())
    total = reduce(added, statuses, added(begin, ended))
    left = total.bytes_total - total.bytes_done
    rate = total.bytes_per_second
    return replace(
        total,
        run_seconds=run_seconds,
        eta_seconds=left / rate if rate > 0 and left > 0 else None,
    )


def at_its_end(status: JobStatus) -> JobStatus:
    """What still counts of a dataset once nothing of it is at work."""
    metrics = MetricsSnapshot(
        counters=status.metrics.counters, gauges={}, histograms=status.metrics.histograms
    )
    return replace(
        status,
        workers=0,
        listed=0,
        failing=0,
        bytes_per_second=0.0,
        objects_per_second=0.0,
        retries_per_second=0.0,
        listed_per_second=0.0,
        metrics=metrics,
    )


def figures_of(status: JobStatus, before: DatasetFigures) -> DatasetFigures:
    """A dataset at work, as metrics have it."""
    return replace(
        before,
        phase=str(status.phase),
        objects=status.objects_total,
        bytes=status.bytes_total,
        objects_done=status.objects_done,
        bytes_done=status.bytes_done,
        failed=status.failed,
        workers=status.workers,
    )


def _tally(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other)) if one and other else dict(one or other)


def _hosts(one: Mapping[str, HostStatus], other: Mapping[str, HostStatus]) -> dict[str, HostStatus]:
    hosts = dict(one)
    for name, host in other.items():
        known = hosts.get(name)
        if known is None:
            hosts[name] = host
            continue
        hosts[name] = HostStatus(
            workers=known.workers + host.workers,
            workers_lost=known.workers_lost + host.workers_lost,
            bytes_per_second=known.bytes_per_second + host.bytes_per_second,
            written_bytes=known.written_bytes + host.written_bytes,
            objects=known.objects + host.objects,
            errors=_tally(known.errors, host.errors),
            retries=_tally(known.retries, host.retries),
            barred=known.barred or host.barred,
        )
    return hosts
