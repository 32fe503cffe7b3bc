"""What Prometheus sees of a job: every metric in one table.

Loaded when somebody asks for `/metrics` for the first time: see watch/site.py. Everything is
read from the latest JobStatus; nothing is counted here. Base units, `_total` on counters. Every
label has a closed set of values, and whatever a worker reports beyond it is shown as "other": no
object key, shard or worker name can become a label. Of hosts, the status names a bounded number;
what none of them accounts for is of the host "other", so that a sum over hosts is always whole. Of
datasets, the first 200 have names, and all others are "other".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from noria.engine.convergence import MigrationFigures
from noria.engine.status import (
    DATASET_PAUSED,
    NOT_PLANNED,
    PLANNED,
    REFUSED,
    DatasetFigures,
    HostStatus,
    JobStatus,
    Phase,
)
from noria.engine.steering.limits import LimitsInForce
from noria.manifests.counters import (
    BodySize,
    Counter,
    Gauge,
    Histogram,
    StoreOperation,
    StoreRole,
)
from noria.manifests.errors import Fatal, NoriaError, Retryable, StopAsked
from noria.manifests.job.differences import DIFFERENCES
from noria.manifests.model import (
    LATENCY_BUCKETS,
    AttributeChange,
    Level,
    Outcome,
    PassedOver,
    Reason,
)
from noria.version import VERSION

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

OTHER = "other"
"""The label value of all that is beyond a label's closed set."""
DATASETS_NAMED = 200
"""Datasets that have a label value of their own."""

FetchStatus = Callable[[], JobStatus | None]
Values = tuple[float, ...]
"""One number, or a histogram: the count in each bucket and above the last, then the sum."""
Samples = Mapping[tuple[str, ...], Values]
"""Label values -> value."""


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    name: str
    values: tuple[str, ...] | None
    """All that it can be, beside "other". None: what the status names."""
    named: Callable[[JobStatus], Iterable[str]] | None = None
    """What the status names, if `values` is None."""

    def closed_set(self, status: JobStatus) -> Mapping[str, None]:
        """All that it can be in this status, beside "other" if there is something else."""
        values = self.values if self.named is None else self.named(status)
        return dict.fromkeys(values or ())


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Counters, and gauges with labels, are 0 from the start for every value of their labels, so that
    the first event counts as an increase, unless most of these can never come (`has_zeros`).
    Histograms appear with their first observation.
    """

    name: str
    kind: Kind
    help: str
    read: Callable[[JobStatus], Samples]
    labels: tuple[Label, ...] = ()
    has_zeros: bool = True
    """One that is False is absent where nothing is known."""


def _causes(root: type[NoriaError]) -> Iterator[str]:
    yield root.cause
    for child in root.__subclasses__():
        yield from _causes(child)


STOPS = tuple(
    sorted(
        {*_causes(Fatal), "cluster_lost", "internal", "no_hosts", "no_workers", "start_failed"}
        - {NoriaError.cause, StopAsked.cause}
    )
)
RETRYABLE = tuple(sorted({*_causes(Retryable)} - {NoriaError.cause}))
ERRORS = tuple(sorted({*_causes(NoriaError), "abort_failed"}))
ENDINGS = tuple(sorted({*ERRORS, *Reason, "internal", "target_changed", "target_missing"}))
STORE = Label("store", tuple(StoreRole))
OPERATION = Label("operation", tuple(StoreOperation))
OUTCOME = Label("outcome", tuple(Outcome))
LEVEL = Label("level", tuple(Level))
CHANGE = Label("change", tuple(AttributeChange))
PHASE = Label("phase", tuple(Phase))
SIZE = Label("size", tuple(BodySize))
STOP_CAUSE = Label("cause", STOPS)
STATE = Label("state", ("pending", "leased", "settled", "quarantined"))
RETRY_CAUSE = Label("cause", RETRYABLE)
ERROR_CAUSE = Label("cause", ERRORS)
END_CAUSE = Label("cause", ENDINGS)
DAMAGE_CAUSE = Label("cause", ("damaged", "target_changed", "target_missing"))
DIFFERENCE = Label("what", DIFFERENCES)
PASSED_OVER_CAUSE = Label("cause", tuple(cause.value for cause in PassedOver))
TLS = Label("tls", ("plain", "TLSv1.2", "TLSv1.3"))
HOST = Label("host", None, lambda status: status.hosts or (OTHER,))
DATASET = Label("dataset", None, lambda status: itertools.islice(status.datasets, DATASETS_NAMED))
DATASET_PHASE = Label("phase", (REFUSED, NOT_PLANNED, PLANNED, DATASET_PAUSED, *Phase))


def _one(value: float | None) -> Samples:
    return {} if value is None else {(): (value,)}


def _by(values: Mapping[str, float]) -> Samples:
    return {(label,): (value,) for label, value in values.items()}


def _of_migration(
    read: Callable[[MigrationFigures], float | None],
) -> Callable[[JobStatus], Samples]:
    return lambda status: {} if status.migration is None else _one(read(status.migration))


def _of_settings(
    read: Callable[[LimitsInForce], Mapping[str, float]],
) -> Callable[[JobStatus], Samples]:
    return lambda status: {} if status.in_force is None else _by(read(status.in_force))


def _counter(name: Counter) -> Callable[[JobStatus], Samples]:
    return lambda status: {
        labels[1:]: (value,)
        for labels, value in status.metrics.counters.items()
        if labels[0] == name
    }


def _connections(status: JobStatus) -> Samples:
    """By TLS version: ciphers are too many for a label."""
    found: dict[tuple[str, ...], float] = {}
    for labels, value in status.metrics.counters.items():
        if labels[0] == Counter.CONNECTIONS:
            place = (*labels[1:-1], labels[-1].partition(",")[0])
            found[place] = found.get(place, 0.0) + value
    return {place: (value,) for place, value in found.items()}


def _gauge(name: Gauge) -> Callable[[JobStatus], Samples]:
    return lambda status: {
        labels[1:]: (value,) for labels, value in status.metrics.gauges.items() if labels[0] == name
    }


def _histogram(name: Histogram) -> Callable[[JobStatus], Samples]:
    return lambda status: {
        labels[1:]: counts
        for labels, counts in status.metrics.histograms.items()
        if labels[0] == name
    }


def _by_host(
    total: Callable[[JobStatus], Samples],
    read: Callable[[HostStatus], Mapping[str, int] | float],
) -> Callable[[JobStatus], Samples]:
    """What `read` finds of each host, and what is missing to the total as that of "other"."""

    def samples(status: JobStatus) -> Samples:
        missing = {labels: value for labels, (value,) in total(status).items()}
        found: dict[tuple[str, ...], Values] = {}
        for name, host in status.hosts.items():
            counted = read(host)
            for labels, (value,) in (
                _one(counted) if isinstance(counted, int | float) else _by(counted)
            ).items():
                found[*labels, name] = (value,)
                missing[labels] = missing.get(labels, 0.0) - value
        for labels, value in missing.items():
            if value > 0:
                known = found.get((*labels, OTHER), (0.0,))
                found[*labels, OTHER] = (known[0] + value,)
        return found

    return samples


def _by_dataset(read: Callable[[DatasetFigures], float]) -> Callable[[JobStatus], Samples]:
    return lambda status: _by({name: read(each) for name, each in status.datasets.items()})


def _dataset_phases(status: JobStatus) -> Samples:
    """1 for the phase of each dataset; of those that are not named, how many are in each."""
    return {(name, each.phase): (1.0,) for name, each in status.datasets.items()}


def _dataset_lags(status: JobStatus) -> Samples:
    """Of those that are not named, the longest."""
    lags: dict[str, float] = {}
    for place, (name, each) in enumerate(status.datasets.items()):
        if each.lag_seconds is not None:
            label = name if place < DATASETS_NAMED else OTHER
            lags[label] = max(lags.get(label, 0.0), each.lag_seconds)
    return _by(lags)


# fmt: off
METRICS: tuple[Metric, ...] = (
    # What the job is, and how far it is. Totals are for the whole life of the job.
    Metric("noria_job_phase", Kind.GAUGE, "1 for the phase that the job is in, 0 for the others.",
           lambda status: _by({status.phase: 1}), (PHASE,)),
    Metric("noria_status_timestamp_seconds", Kind.GAUGE, "Unix time of the figures shown here.",
           lambda status: _one(status.updated_seconds)),
    Metric("noria_run_seconds", Kind.GAUGE, "Time since this run began to move.",
           lambda status: _one(status.run_seconds)),
    Metric("noria_planned_objects", Kind.GAUGE, "Entries of the manifest.",
           lambda status: _one(status.objects_total)),
    Metric("noria_planned_bytes", Kind.GAUGE, "Bytes of all entries of the manifest.",
           lambda status: _one(status.bytes_total)),
    Metric("noria_done_objects", Kind.GAUGE,
           "Entries with a final outcome, also of live leases; falls when a worker is lost.",
           lambda status: _one(status.objects_done)),
    Metric("noria_done_bytes", Kind.GAUGE,
           "Bytes that landed, also of live leases; falls when a worker is lost.",
           lambda status: _one(status.bytes_done)),
    Metric("noria_failed_objects", Kind.GAUGE,
           "Entries that someone has to look at, also of live leases.",
           lambda status: _one(status.failed)),
    Metric("noria_throughput_bytes_per_second", Kind.GAUGE,
           "Bytes done, over the last half minute.",
           lambda status: _one(status.bytes_per_second)),
    Metric("noria_throughput_objects_per_second", Kind.GAUGE,
           "Entries done, over the last half minute.",
           lambda status: _one(status.objects_per_second)),
    Metric("noria_retries_per_second", Kind.GAUGE,
           "Requests and objects tried again, over the last half minute.",
           lambda status: _one(status.retries_per_second)),
    Metric("noria_sent_bytes", Kind.COUNTER,
           "Bytes handed to the network for the target, those sent again included.",
           lambda status: _one(status.bytes_moved)),
    Metric("noria_sent_bytes_is_lower_bound", Kind.GAUGE,
           "1: something ended without a last report, and noria_sent_bytes lacks what it sent.",
           lambda status: _one(status.bytes_moved_at_least)),
    Metric("noria_eta_seconds", Kind.GAUGE,
           "Time left at this throughput; absent while nothing moves.",
           lambda status: _one(status.eta_seconds)),
    Metric("noria_deadline_timestamp_seconds", Kind.GAUGE,
           "Unix time by which the job should be done; absent if it has no deadline.",
           lambda status: _one(status.deadline_seconds)),
    Metric("noria_deadline_spare_seconds", Kind.GAUGE,
           "From the end at this throughput to the deadline; negative: too late.",
           lambda status: _one(status.spare_seconds)),
    Metric("noria_stopped", Kind.GAUGE,
           "1 for the cause for which the run stopped by itself before the end, 0 for the others.",
           lambda status: _by({status.stop_cause: 1} if status.stop_cause else {}), (STOP_CAUSE,)),
    Metric("noria_reconciled", Kind.GAUGE,
           "1 if manifest, receipts and target agreed at the end, 0 if not; absent until then.",
           lambda status: _one(status.reconciled)),
    Metric("noria_job_directory_free_bytes", Kind.GAUGE, "Room for the job directory.",
           lambda status: _one(status.free_bytes)),
    Metric("noria_credentials_end_timestamp_seconds", Kind.GAUGE,
           "Unix time at which the credentials of a store are over; 0 if they have no known end.",
           lambda status: _by(status.credentials_end), (STORE,)),
    Metric("noria_listed_objects", Kind.GAUGE,
           "Objects at the target that reconciling has listed so far.",
           lambda status: _one(status.listed)),
    Metric("noria_listed_objects_per_second", Kind.GAUGE, "How fast it lists them.",
           lambda status: _one(status.listed_per_second)),
    Metric("noria_damaged_objects", Kind.GAUGE,
           "Objects found damaged by a verification, and not sent again; as of a run's end.",
           lambda status: _by(status.damaged), (DAMAGE_CAUSE,)),
    Metric("noria_reconcile_differences", Kind.GAUGE,
           "What reconciling found that is not in order; as of a run's end.",
           lambda status: _by(status.differences), (DIFFERENCE,)),
    Metric("noria_passed_over_objects", Kind.GAUGE,
           "Entries of the inventory that are not in the plan: filtered, of another container, ...",
           lambda status: _by(status.passed_over), (PASSED_OVER_CAUSE,)),

    # A migration: as of the end of its last pass; absent in a job that stands alone.
    Metric("noria_passes_ended", Kind.GAUGE, "Passes of the migration that have ended.",
           _of_migration(lambda migration: migration.passes_ended)),
    Metric("noria_lag_seconds", Kind.GAUGE,
           "How old the oldest change could be that the target lacked as the last pass ended.",
           _of_migration(lambda migration: migration.lag_seconds)),
    Metric("noria_lag_grows", Kind.GAUGE,
           "1 if that lag was longer after each of the last three passes than before; else 0.",
           _of_migration(lambda migration: migration.lag_grows)),
    Metric("noria_source_changed_objects_per_second", Kind.GAUGE,
           "Objects new, changed or gone at the source a second, over the last passes.",
           _of_migration(lambda migration: migration.changed_objects_per_second)),
    Metric("noria_source_changed_bytes_per_second", Kind.GAUGE,
           "Bytes of objects new or changed at the source a second, over the last passes.",
           _of_migration(lambda migration: migration.changed_bytes_per_second)),
    Metric("noria_freeze_forecast_seconds", Kind.GAUGE,
           "How long the last pass would take under a freeze that began as the last one ended.",
           _of_migration(lambda migration: migration.freeze_seconds)),

    # A run of many datasets: each of the first 200 in the job file, all others as "other"; all
    # metrics above and below are of the whole run. Absent in a job of one.
    Metric("noria_dataset_phase", Kind.GAUGE,
           "1 for the phase that a dataset is in; of others, how many are in it.",
           _dataset_phases, (DATASET, DATASET_PHASE)),
    Metric("noria_dataset_planned_objects", Kind.GAUGE, "Entries of the latest pass.",
           _by_dataset(lambda each: each.objects), (DATASET,)),
    Metric("noria_dataset_planned_bytes", Kind.GAUGE, "Bytes of the latest pass.",
           _by_dataset(lambda each: each.bytes), (DATASET,)),
    Metric("noria_dataset_done_objects", Kind.GAUGE, "Of these, those with a final outcome.",
           _by_dataset(lambda each: each.objects_done), (DATASET,)),
    Metric("noria_dataset_done_bytes", Kind.GAUGE, "Of these, those that landed.",
           _by_dataset(lambda each: each.bytes_done), (DATASET,)),
    Metric("noria_dataset_failed_objects", Kind.GAUGE, "Entries that someone has to look at.",
           _by_dataset(lambda each: each.failed), (DATASET,)),
    Metric("noria_dataset_workers", Kind.GAUGE, "Workers that a dataset has now.",
           _by_dataset(lambda each: each.workers), (DATASET,)),
    Metric("noria_dataset_lag_seconds", Kind.GAUGE,
           "As noria_lag_seconds; of others, the longest. Absent until a pass has ended.",
           _dataset_lags, (DATASET,), has_zeros=False),

    # What is sealed: exact and durable, in steps of a lease.
    Metric("noria_sealed_objects", Kind.COUNTER, "Sealed entries by outcome.",
           lambda status: _by(status.outcomes), (OUTCOME,)),
    Metric("noria_sealed_bytes", Kind.COUNTER, "Bytes of sealed entries by outcome.",
           lambda status: _by(status.outcome_bytes), (OUTCOME,)),
    Metric("noria_sealed_sent_bytes", Kind.COUNTER,
           "Bytes sent for sealed entries, those sent again included.",
           lambda status: _one(status.sealed_sent_bytes)),
    Metric("noria_verified_objects", Kind.COUNTER, "Landed entries by verification level reached.",
           lambda status: _by(status.levels), (LEVEL,)),
    Metric("noria_unlanded_objects", Kind.COUNTER, "Sealed entries that did not land, by cause.",
           lambda status: _by(status.causes), (END_CAUSE,)),
    Metric("noria_changed_objects", Kind.COUNTER,
           "Landed entries whose attributes differ from the source's, by what differs.",
           lambda status: _by(status.changes), (CHANGE,)),
    Metric("noria_shards", Kind.GAUGE, "Shards, or spans of shards, by state.",
           lambda status: _by(status.shards), (STATE,)),

    # What workers count as they go; work that was done twice counts twice.
    Metric("noria_workers", Kind.GAUGE, "Workers that report.",
           _by_host(lambda status: _one(status.workers), lambda host: host.workers), (HOST,)),
    Metric("noria_workers_lost", Kind.COUNTER, "Workers lost in this run.",
           _by_host(lambda status: _one(status.workers_lost), lambda host: host.workers_lost),
           (HOST,)),
    Metric("noria_host_barred", Kind.GAUGE, "1 while a host rests, and gets no work; else 0.",
           lambda status: _by(dict.fromkeys(status.barred, 1)), (HOST,)),
    Metric("noria_objects", Kind.COUNTER, "Entries that workers finished, by outcome.",
           _counter(Counter.OBJECTS), (OUTCOME,)),
    Metric("noria_parts", Kind.COUNTER, "Parts that the target acknowledged.",
           _counter(Counter.PARTS)),
    Metric("noria_read_bytes", Kind.COUNTER, "Bytes read from the source.",
           _counter(Counter.BYTES_READ)),
    Metric("noria_written_bytes", Kind.COUNTER, "Bytes sent to the target.",
           _by_host(_counter(Counter.BYTES_WRITTEN), lambda host: host.written_bytes), (HOST,)),
    Metric("noria_reread_bytes", Kind.COUNTER, "Bytes read back from the target.",
           _counter(Counter.BYTES_REREAD)),
    Metric("noria_errors", Kind.COUNTER, "Requests that failed, by the class of the error.",
           _by_host(_counter(Counter.ERRORS), lambda host: host.errors), (ERROR_CAUSE, HOST)),
    Metric("noria_retries", Kind.COUNTER, "Requests and objects tried again, by cause.",
           _by_host(_counter(Counter.RETRIES), lambda host: host.retries), (RETRY_CAUSE, HOST)),
    Metric("noria_request_errors", Kind.COUNTER,
           "Requests that failed and may be tried again, by what they asked for.",
           _counter(Counter.REQUEST_ERRORS), (STORE, OPERATION, RETRY_CAUSE), has_zeros=False),
    Metric("noria_request_retries", Kind.COUNTER, "Requests that were tried again.",
           _counter(Counter.REQUEST_RETRIES), (STORE, OPERATION), has_zeros=False),
    Metric("noria_throttles", Kind.COUNTER, "Requests that a store refused for being too many.",
           _counter(Counter.THROTTLES), (STORE,)),
    Metric("noria_connections", Kind.COUNTER, "Connections that workers opened, by TLS version.",
           _connections, (STORE, TLS)),
    Metric("noria_request_duration_seconds", Kind.HISTOGRAM, "Requests that succeeded.",
           _histogram(Histogram.REQUEST_SECONDS), (STORE, OPERATION)),
    Metric("noria_failed_request_duration_seconds", Kind.HISTOGRAM,
           "Requests that failed and may be tried again.",
           _histogram(Histogram.FAILED_SECONDS), (STORE, OPERATION)),
    Metric("noria_body_duration_seconds", Kind.HISTOGRAM,
           "Requests that succeeded and carried an object's bytes, by how many at most.",
           _histogram(Histogram.BODY_SECONDS), (STORE, SIZE)),
    Metric("noria_journal_duration_seconds", Kind.HISTOGRAM,
           "Writes of workers' journals, until they are on disk.",
           _histogram(Histogram.JOURNAL_SECONDS)),
    Metric("noria_bytes_in_flight", Kind.GAUGE, "Buffer memory in use in all workers.",
           _gauge(Gauge.BYTES_IN_FLIGHT)),
    Metric("noria_transfers", Kind.GAUGE, "Transfers that all workers may have in flight.",
           _gauge(Gauge.TRANSFERS)),
    Metric("noria_transfer_seconds", Kind.GAUGE,
           "Time that transfers of the present workers have been in flight, all added up: its rate "
           "is how many are in flight.",
           _gauge(Gauge.TRANSFER_SECONDS)),
    Metric("noria_transfers_ended", Kind.GAUGE,
           "Objects and parts that the present workers have done with, one way or another.",
           _gauge(Gauge.TRANSFERS_ENDED)),
    Metric("noria_worker_seconds", Kind.GAUGE, "Time since the present workers began, added up.",
           _gauge(Gauge.WORKER_SECONDS)),
    Metric("noria_cpu_seconds", Kind.GAUGE, "Processor time of the present workers.",
           _by_host(_gauge(Gauge.CPU_SECONDS), lambda host: host.cpu_seconds), (HOST,)),
    Metric("noria_memory_bytes", Kind.GAUGE, "Resident memory of the present workers.",
           _by_host(_gauge(Gauge.MEMORY_BYTES), lambda host: host.memory_bytes), (HOST,)),
    Metric("noria_bandwidth_limit_bytes_per_second", Kind.GAUGE,
           "Bytes a second that all workers together may read; 0 if any number.",
           lambda status: _one(status.bandwidth or 0.0)),
    Metric("noria_requests_limit_per_second", Kind.GAUGE,
           "Requests a second that all workers together may begin; 0 if any number.",
           _of_settings(lambda limits: {
               store: limits.value(f"{store}_requests_per_second") for store in StoreRole
           }), (STORE,)),
    Metric("noria_paused", Kind.GAUGE, "1 while nothing new is begun, as was asked for; else 0.",
           lambda status: _one(status.paused is not None)),
    Metric("noria_windows_open", Kind.GAUGE, "Windows of the job file that are open now.",
           lambda status: _one(0 if status.in_force is None else len(status.in_force.windows))),
    Metric("noria_guard_holds", Kind.GAUGE, "1 while a store's guard holds the job back; else 0.",
           lambda status: _by(dict.fromkeys(status.held_by_guards, 1)), (STORE,)),
    Metric("noria_guard_withheld_ratio", Kind.GAUGE,
           "What a store's guard takes from the job's pace: 0, nothing; 1, all of it.",
           lambda status: _by({
               store: 1 - state.factor for store, state in status.held_by_guards.items()
           }), (STORE,)),
    Metric("noria_bandwidth_held_seconds", Kind.GAUGE,
           "Time that transfers of the present workers have waited for that, all added up: its "
           "rate is how many wait.",
           _gauge(Gauge.HELD_SECONDS)),
    Metric("noria_concurrency", Kind.GAUGE,
           "Requests that all workers may have under way, as throttling leaves it.",
           _gauge(Gauge.CONCURRENCY), (STORE,)),
    Metric("noria_in_flight_seconds", Kind.GAUGE,
           "Time that requests of the present workers have been under way, all added up: its rate "
           "is how many are under way.",
           _gauge(Gauge.IN_FLIGHT_SECONDS), (STORE,)),
    Metric("noria_store_silent_seconds", Kind.GAUGE,
           "How long workers have been waiting for a store that answers nobody; 0 if it answers.",
           _gauge(Gauge.SILENT_SECONDS), (STORE,)),
)
"""Counters get `_total` at the end of their name.

There are also noria_job_info with the job's id (`job_id`, since Prometheus sets `job` itself),
noria_build_info with the version, and the driver's own process_* metrics.
"""
# fmt: on


def families(status: JobStatus) -> Iterator[Family]:
    """The status as Prometheus families: what is running, then the table.

    Before a job is known, while it is planned, its phase alone: its counters may stand at numbers
    that are yet to be read, and after 0 they would look as if all were done twice.
    """
    build = GaugeMetricFamily(
        "noria_build_info", "1, with the version of the driver.", labels=["version"]
    )
    build.add_metric([VERSION], 1)
    yield build
    if not status.job:
        for metric in METRICS:
            if metric.name in ("noria_job_phase", "noria_status_timestamp_seconds"):
                closed_sets = [label.closed_set(status) for label in metric.labels]
                yield _family(metric, _bounded(metric, closed_sets, metric.read(status)))
        return
    job = GaugeMetricFamily(
        "noria_job_info",
        "1, with the job's id and the driver's Python and TLS library.",
        labels=["job_id", "interpreter"],
    )
    job.add_metric([status.job, status.interpreter], 1)
    yield job
    for metric in METRICS:
        closed_sets = [label.closed_set(status) for label in metric.labels]
        yield _family(metric, _bounded(metric, closed_sets, metric.read(status)))


def _bounded(
    metric: Metric, closed_sets: Sequence[Mapping[str, None]], samples: Samples
) -> Samples:
    """The samples, every label within its closed set, and zeros if there is no sample yet."""
    bounded: dict[tuple[str, ...], Values] = {}
    always = metric.kind is Kind.COUNTER or (metric.kind is Kind.GAUGE and metric.labels)
    if always and metric.has_zeros:
        every = itertools.product(*closed_sets)
        bounded = dict.fromkeys(every, (0.0,))
    for found, values in samples.items():
        if len(found) != len(metric.labels):
            continue  # a worker of another version
        place = tuple(
            value if value in closed else OTHER
            for closed, value in zip(closed_sets, found, strict=True)
        )
        known = bounded.get(place, (0.0,) * len(values))
        bounded[place] = tuple(a + b for a, b in zip(known, values, strict=True))
    return bounded


def _family(metric: Metric, samples: Samples) -> Family:
    labels = [label.name for label in metric.labels]
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        for place, values in samples.items():
            histogram.add_metric(place, _cumulated(values), sum_value=values[-1])
        return histogram
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=labels)
    for place, values in samples.items():
        family.add_metric(place, values[0])
    return family


def _cumulated(values: Values) -> list[tuple[str, float]]:
    """The buckets of a histogram as Prometheus counts them: all observations up to each bound."""
    bounds = [*(str(float(bound)) for bound in LATENCY_BUCKETS), "+Inf"]
    return list(zip(bounds, itertools.accumulate(values[:-1]), strict=True))


class _StatusCollector(Collector):
    """Gives Prometheus the latest status."""

    def __init__(self, fetch: FetchStatus) -> None:
        self._fetch = fetch

    def collect(self) -> Iterator[Family]:
        status = self._fetch()
        if status is not None:
            yield from families(status)


def metrics_application(fetch: FetchStatus) -> WSGIApplication:
    """What answers a scrape.

    `fetch` returns the latest status, None before the first; it is called for each scrape.
    """
    registry = CollectorRegistry()
    registry.register(_StatusCollector(fetch))
    ProcessCollector(registry=registry)  # a driver whose memory grows is worth an alert
    return make_wsgi_app(registry)
