"""/metrics tells all that JobStatus holds, in bounded labels, and counters never go back."""

from __future__ import annotations

import math
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from noria.benchmarks.servers import find_tool, free_ports
from noria.engine.config.jobfile import RunConfig
from noria.engine.config.locations import METRICS_ADDRESS
from noria.engine.convergence import MigrationFigures
from noria.engine.metrics import (
    METRICS,
    OTHER,
    Kind,
    families,
)
from noria.engine.metrics_server import MetricsServer
from noria.engine.status import (
    DatasetFigures,
    HostStatus,
    JobStatus,
    Phase,
    load_status,
    save_status,
)
from noria.engine.steering.limits import PAUSED, LimitsInForce, Steered
from noria.engine.totals import MOST_HOSTS
from noria.manifests.counters import Counter, Gauge, Histogram, StoreOperation
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.model import LATENCY_BUCKETS, MetricsSnapshot, Outcome
from noria.version import VERSION
from noria.workers.counters import CounterRegistry
from tests.deploy.test_dashboard import OF_MIGRATION_ALONE

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def a_snapshot() -> MetricsSnapshot:
    counters = CounterRegistry()
    counters.add(Counter.BYTES_READ, by=4096)
    counters.add(Counter.BYTES_WRITTEN, by=2048)
    counters.add(Counter.BYTES_REREAD, by=1024)
    counters.add(Counter.OBJECTS, Outcome.TRANSFERRED.value, by=7)
    counters.add(Counter.PARTS, by=3)
    counters.add(Counter.RETRIES, "throttled")
    counters.add(Counter.THROTTLES, "target")
    counters.add(Counter.ERRORS, "throttled")
    counters.add(Counter.REQUEST_ERRORS, "source", "get", "throttled")
    counters.add(Counter.REQUEST_RETRIES, "source", "get")
    counters.observe(Histogram.FAILED_SECONDS, "source", "get", seconds=0.2)
    counters.observe(Histogram.BODY_SECONDS, "source", "1MiB", seconds=0.2)
    counters.observe(Histogram.JOURNAL_SECONDS, seconds=0.004)
    counters.gauge(Gauge.CPU_SECONDS, read=lambda: 4.0)
    counters.gauge(Gauge.MEMORY_BYTES, read=lambda: 4000.0)
    counters.gauge(Gauge.BYTES_IN_FLIGHT, read=lambda: 512.0)
    counters.gauge(Gauge.TRANSFERS, read=lambda: 16.0)
    counters.gauge(Gauge.CONCURRENCY, "source", read=lambda: 11.2)
    counters.observe(Histogram.REQUEST_SECONDS, "source", "get", seconds=0.02)
    return counters.snapshot()


def a_status() -> JobStatus:
    return JobStatus(
        job="7f3a",
        interpreter="Python 3",
        phase=Phase.MOVING,
        updated_seconds=1_700_000_000.5,
        run_seconds=61,
        objects_total=1000,
        bytes_total=1_000_000,
        objects_done=100,
        bytes_done=90_000,
        bytes_moved=81_500,
        sealed_sent_bytes=81_000,
        outcomes={"TRANSFERRED": 70, "FAILED": 2},
        outcome_bytes={"TRANSFERRED": 80_000},
        levels={"chained": 70},
        causes={"target_conflict": 2},
        shards={"pending": 5, "leased": 2, "settled": 3},
        workers=2,
        workers_lost=1,
        bytes_per_second=1234.5,
        objects_per_second=12.5,
        eta_seconds=737.0,
        deadline_seconds=1_700_001_000.5,
        stop_cause="target_full",
        reconciled=False,
        free_bytes=4_000_000,
        credentials_end={"source": 1_700_003_600.0},
        hosts={
            "node-a": HostStatus(
                workers=2,
                cpu_seconds=3.5,
                memory_bytes=3000,
                written_bytes=2000,
                errors={"throttled": 1},
                retries={"throttled": 1},
            ),
            "node-b": HostStatus(workers_lost=1, barred="its clock is wrong"),
        },
        metrics=a_snapshot(),
    )


def text_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def series_in(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def series_of(status: JobStatus) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(status)
        for sample in family.samples
    }


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1:0")
    yield server
    server.close()


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("noria_job_info", {"job_id": "7f3a", "interpreter": "Python 3"}, 1),
        ("noria_build_info", {"version": VERSION}, 1),
        ("noria_job_phase", {"phase": "moving"}, 1),
        ("noria_job_phase", {"phase": "finished"}, 0),
        ("noria_status_timestamp_seconds", {}, 1_700_000_000.5),
        ("noria_planned_bytes", {}, 1_000_000),
        ("noria_done_objects", {}, 100),
        ("noria_failed_objects", {}, 2),
        ("noria_eta_seconds", {}, 737),
        ("noria_deadline_timestamp_seconds", {}, 1_700_001_000.5),
        ("noria_deadline_spare_seconds", {}, 263.0),
        ("noria_stopped", {"cause": "target_full"}, 1),
        ("noria_stopped", {"cause": "access_denied"}, 0),
        ("noria_reconciled", {}, 0),
        ("noria_job_directory_free_bytes", {}, 4_000_000),
        ("noria_credentials_end_timestamp_seconds", {"store": "source"}, 1_700_003_600),
        ("noria_credentials_end_timestamp_seconds", {"store": "target"}, 0),
        (
            "noria_request_errors_total",
            {"store": "source", "operation": "get", "cause": "throttled"},
            1,
        ),
        ("noria_request_retries_total", {"store": "source", "operation": "get"}, 1),
        ("noria_failed_request_duration_seconds_count", {"store": "source", "operation": "get"}, 1),
        ("noria_body_duration_seconds_count", {"store": "source", "size": "1MiB"}, 1),
        ("noria_journal_duration_seconds_count", {}, 1),
        ("noria_cpu_seconds", {"host": "node-a"}, 3.5),
        ("noria_cpu_seconds", {"host": OTHER}, 0.5),
        ("noria_memory_bytes", {"host": "node-a"}, 3000),
        ("noria_memory_bytes", {"host": OTHER}, 1000),
        ("noria_sealed_objects_total", {"outcome": "FAILED"}, 2),
        ("noria_sealed_objects_total", {"outcome": "SKIPPED"}, 0),
        ("noria_unlanded_objects_total", {"cause": "target_conflict"}, 2),
        ("noria_verified_objects_total", {"level": "chained"}, 70),
        ("noria_shards", {"state": "settled"}, 3),
        ("noria_shards", {"state": "quarantined"}, 0),
        ("noria_written_bytes_total", {"host": "node-a"}, 2000),
        ("noria_written_bytes_total", {"host": "node-b"}, 0),
        ("noria_written_bytes_total", {"host": OTHER}, 48),
        ("noria_workers", {"host": "node-a"}, 2),
        ("noria_workers", {"host": "node-b"}, 0),
        ("noria_workers_lost_total", {"host": "node-b"}, 1),
        ("noria_host_barred", {"host": "node-a"}, 0),
        ("noria_host_barred", {"host": "node-b"}, 1),
        ("noria_errors_total", {"cause": "throttled", "host": "node-a"}, 1),
        ("noria_errors_total", {"cause": "throttled", "host": "node-b"}, 0),
        ("noria_objects_total", {"outcome": "TRANSFERRED"}, 7),
        ("noria_retries_total", {"cause": "throttled", "host": "node-a"}, 1),
        ("noria_retries_total", {"cause": "unavailable", "host": "node-a"}, 0),
        ("noria_throttles_total", {"store": "target"}, 1),
        ("noria_bytes_in_flight", {}, 512),
        ("noria_concurrency", {"store": "source"}, 11.2),
    ],
)
def test_it_shows(server: MetricsServer, name: str, labels: dict[str, str], value: float) -> None:
    server.show(a_status())
    assert series_in(text_of(server.url))[name, frozenset(labels.items())] == value


def test_every_field_of_the_status_is_shown() -> None:
    status, shown = a_status(), series_of(a_status())
    changed: dict[str, Any] = {
        "job": "other",
        "phase": Phase.DRAINING,
        "outcomes": {"SKIPPED": 9},
        "outcome_bytes": {"SKIPPED": 9},
        "levels": {"counted": 9},
        "causes": {"archived": 9},
        "changes": {"tags_left": 9},
        "shards": {"leased": 9},
        "damaged": {"target_missing": 9},
        "differences": {"missing": 9},
        "stop_cause": "clock_skewed",
        "credentials_end": {"source": 9.0},
        "passed_over": {"filtered_name": 9},
        "hosts": {"node-c": HostStatus(workers=2)},
        "migration": MigrationFigures(passes_ended=9),
        "in_force": LimitsInForce(settings={PAUSED: Steered(value=False, by="")}, windows=("w",)),
        "datasets": {"one": DatasetFigures(phase=Phase.MOVING)},
        "metrics": MetricsSnapshot(),
    }
    for field in fields(JobStatus):
        if field.name in ("stopped", "drains"):
            continue  # sentences for people: no label may hold one
        if field.name in ("bytes_moved", "bytes_moved_at_least"):
            continue  # noria_written_bytes is what workers counted of them
        if field.name == "held":
            continue  # noria_bandwidth_held_seconds is what workers counted of it
        if field.name == "handed_back":
            continue  # objects_done and bytes_done have it
        if field.name == "sealed":
            continue  # no run changes it: status.json has it
        value = changed.get(field.name, 99_999)
        assert series_of(replace(status, **{field.name: value})) != shown, field.name


COUNTED = [
    *((Kind.COUNTER, name) for name in Counter),
    *((Kind.GAUGE, name) for name in Gauge),
    *((Kind.HISTOGRAM, name) for name in Histogram),
]


@pytest.mark.parametrize(("kind", "name"), COUNTED)
def test_all_that_workers_count_is_in_the_table(kind: Kind, name: str) -> None:
    assert len(metrics_fed_by(kind, name)) == 1, "it is in no metric, or in several"


def metrics_fed_by(kind: Kind, name: str) -> set[str]:
    """Names of the metrics that show what a snapshot holds under this name, with any labels."""
    fed = set()
    for labels in range(4):
        place = (name, *["?"] * labels)
        metrics = MetricsSnapshot(
            counters={place: 7.5} if kind is Kind.COUNTER else {},
            gauges={place: 7.5} if kind is Kind.GAUGE else {},
            histograms={place: (7.5,) * 18} if kind is Kind.HISTOGRAM else {},
        )
        with_it = replace(a_status(), metrics=metrics)
        without = replace(a_status(), metrics=MetricsSnapshot())
        fed |= {metric.name for metric in METRICS if metric.read(with_it) != metric.read(without)}
    return fed


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_a_histogram_counts_up_to_each_bound(seconds: list[float]) -> None:
    counters = CounterRegistry()
    for value in seconds:
        counters.observe(Histogram.REQUEST_SECONDS, "target", "put", seconds=value)
    shown = series_of(replace(a_status(), metrics=counters.snapshot()))
    labels = {("store", "target"), ("operation", "put")}
    name = "noria_request_duration_seconds"
    for bound in LATENCY_BUCKETS if seconds else ():
        place = (f"{name}_bucket", frozenset({*labels, ("le", str(float(bound)))}))
        assert shown[place] == sum(value <= bound for value in seconds)
    assert shown.get((f"{name}_count", frozenset(labels)), 0) == len(seconds)
    assert math.isclose(shown.get((f"{name}_sum", frozenset(labels)), 0), math.fsum(seconds))


@given(st.text(), st.text())
def test_what_is_not_in_a_closed_set_is_other(label: str, cause: str) -> None:
    metrics = MetricsSnapshot(
        counters={("retries", f"x/{label}"): 2, ("retries", f"x/{cause}/y"): 3, ("throttles",): 1},
        histograms={("request_seconds", "target", f"x/{label}"): (1.0,) * 18},
    )
    status = replace(a_status(), metrics=metrics, causes={f"x/{label}": 4}, hosts={})
    shown = series_of(status)
    assert not any("x/" in value for _, labels in shown for _, value in labels)
    retries = frozenset({("cause", OTHER), ("host", OTHER)})
    assert shown["noria_retries_total", retries] == 5
    assert shown["noria_unlanded_objects_total", frozenset({("cause", OTHER)})] == 4


def test_the_number_of_series_does_not_grow_with_the_job() -> None:
    everything = replace(
        a_status(),
        metrics=MetricsSnapshot(
            counters={("errors", f"key-{number}"): 1 for number in range(5000)},
            histograms={
                ("request_seconds", store, operation): (1.0,) * 18
                for store in ("source", "target", "elsewhere")
                for operation in (*StoreOperation, "unheard-of")
            },
        ),
    )
    assert len(series_of(everything)) < 1000


def test_a_sum_over_hosts_is_whole_whatever_hosts_account_for() -> None:
    """Also in a job that an earlier version began, and in one on more hosts than are named."""
    for hosts in ({}, a_status().hosts, {OTHER: HostStatus(workers=1, written_bytes=5)}):
        shown = series_of(replace(a_status(), hosts=hosts))
        for name, total in (
            ("noria_workers", 2),
            ("noria_workers_lost_total", 1),
            ("noria_written_bytes_total", 2048),
            ("noria_errors_total", 1),
            ("noria_retries_total", 1),
        ):
            assert sum(value for (found, _), value in shown.items() if found == name) == total, name


def test_the_number_of_series_is_bounded_for_any_number_of_hosts() -> None:
    counts = dict.fromkeys(["unavailable", *map(str, range(1000))], 1)
    named = [f"node-{number}" for number in range(MOST_HOSTS)]
    hosts = {name: HostStatus(errors=counts, retries=counts) for name in [*named, OTHER]}
    series = len(series_of(replace(a_status(), hosts=hosts)))
    without = len(series_of(replace(a_status(), hosts={})))
    assert series - without < 50 * len(hosts)


def datasets(number: int) -> dict[str, DatasetFigures]:
    return {
        f"set-{place:04}": DatasetFigures(
            phase=Phase.FINISHED if place % 2 else "refused",
            objects=10,
            bytes=100,
            objects_done=place % 10,
            bytes_done=place,
            failed=place % 3,
            workers=place % 2,
            lag_seconds=float(place) if place % 5 == 0 else None,
        )
        for place in range(number)
    }


def test_of_many_datasets_the_first_200_have_names_and_sums_stay_whole() -> None:
    shown = series_of(replace(a_status(), datasets=datasets(250)))
    named: dict[str, dict[str, float]] = {}
    for (name, labels), value in shown.items():
        if name.startswith("noria_dataset_") and name != "noria_dataset_phase":
            named.setdefault(name, {})[dict(labels)["dataset"]] = value
    own = {f"set-{place:04}" for place in range(200)}
    for name, total in (
        ("noria_dataset_planned_objects", 2500),
        ("noria_dataset_planned_bytes", 25_000),
        ("noria_dataset_done_objects", sum(place % 10 for place in range(250))),
        ("noria_dataset_done_bytes", sum(range(250))),
        ("noria_dataset_failed_objects", sum(place % 3 for place in range(250))),
        ("noria_dataset_workers", 125),
    ):
        assert named[name].keys() == own | {OTHER}, name
        assert sum(named[name].values()) == total, name
    # A lag is no sum, and one that is not known is not 0.
    lags = named["noria_dataset_lag_seconds"]
    assert lags.keys() == {f"set-{place:04}" for place in range(0, 200, 5)} | {OTHER}
    assert lags[OTHER] == 245
    phases = {
        (dict(labels)["dataset"], dict(labels)["phase"]): value
        for (name, labels), value in shown.items()
        if name == "noria_dataset_phase"
    }
    assert phases["set-0001", "finished"] == 1
    assert phases["set-0001", "refused"] == 0
    assert phases[OTHER, "finished"] == 25
    assert sum(phases.values()) == 250


def test_the_number_of_series_is_bounded_for_any_number_of_datasets() -> None:
    without = len(series_of(a_status()))
    some, many = (len(series_of(replace(a_status(), datasets=datasets(n)))) for n in (250, 5000))
    assert many == some
    assert many - without < 20 * 201


def test_a_job_of_one_shows_no_dataset() -> None:
    assert not [name for name, _ in series_of(a_status()) if name.startswith("noria_dataset_")]


def test_counters_go_on_across_a_resume(tmp_path: Path) -> None:
    directory = JobDirectory.create(tmp_path / "job", {"id": "7f3a"})
    save_status(directory, a_status())
    before = series_of(a_status())
    known = load_status(directory)
    assert known is not None
    after = series_of(replace(known, metrics=known.metrics + a_snapshot()))
    counters = [place for place in before if place[0].endswith(("_total", "_bucket", "_count"))]
    assert len(counters) > 50
    assert all(after[place] >= before[place] for place in counters)
    assert after["noria_read_bytes_total", frozenset()] == 8192


def test_promtool_finds_no_fault_with_names_and_types(server: MetricsServer) -> None:
    server.show(a_status())
    checked = subprocess.run(
        [find_tool("promtool"), "check", "metrics"],
        input=text_of(server.url),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_before_the_first_status_it_shows_the_process_alone(server: MetricsServer) -> None:
    names = {name for name, _ in series_in(text_of(server.url))}
    assert "process_resident_memory_bytes" in names
    assert not any(name.startswith("noria_") for name in names)


def test_while_it_is_planned_it_shows_its_phase_and_no_counter() -> None:
    """A run that goes on with a job would look as if it had done all of it once more."""
    shown = series_of(JobStatus(job="", phase=Phase.PLANNING, updated_seconds=5.0))
    assert {name for name, _ in shown} == {
        *("noria_build_info", "noria_job_phase", "noria_status_timestamp_seconds")
    }
    assert shown["noria_job_phase", frozenset({("phase", "planning")})] == 1


MIGRATION = MigrationFigures(
    passes_ended=5,
    lag_seconds=660.5,
    lag_grows=True,
    changed_objects_per_second=1.25,
    changed_bytes_per_second=250_000.0,
    freeze_seconds=2280.0,
)
OF_MIGRATION = {
    "noria_passes_ended": 5.0,
    "noria_lag_seconds": 660.5,
    "noria_lag_grows": 1.0,
    "noria_source_changed_objects_per_second": 1.25,
    "noria_source_changed_bytes_per_second": 250_000.0,
    "noria_freeze_forecast_seconds": 2280.0,
}


def test_a_migration_shows_what_its_passes_came_to() -> None:
    assert set(OF_MIGRATION) == OF_MIGRATION_ALONE
    shown = series_of(replace(a_status(), migration=MIGRATION))
    for name, value in OF_MIGRATION.items():
        assert shown[name, frozenset()] == value


def test_what_is_not_known_of_a_migration_is_absent() -> None:
    """Nor is a lag of 0 shown for a job that has no passes."""
    names = {name for name, _ in series_of(a_status())}
    assert not names & set(OF_MIGRATION)
    begun = series_of(replace(a_status(), migration=MigrationFigures(passes_ended=0)))
    known = {name: value for (name, _), value in begun.items() if name in OF_MIGRATION}
    assert known == {"noria_passes_ended": 0, "noria_lag_grows": 0}


def test_a_status_keeps_what_it_knows_of_a_migration(tmp_path: Path) -> None:
    directory = JobDirectory.create(tmp_path / "job", {"id": "7f3a"})
    for migration in (MIGRATION, None):
        status = replace(a_status(), migration=migration)
        save_status(directory, status)
        assert load_status(directory) == status


def test_eta_is_absent_while_nothing_moves() -> None:
    shown = series_of(replace(a_status(), eta_seconds=None))
    assert not any(name == "noria_eta_seconds" for name, _ in shown)


@pytest.mark.parametrize(
    "address", ["", "9464", ":9464", "host:", "host:70000", "http://a:1", "a b:1"]
)
def test_a_bad_address_is_refused_in_one_line(address: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT") as caught:
        MetricsServer(address)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="--metrics-address"):
        MetricsServer(f"{host}:9464")


def test_a_port_in_use_is_refused(server: MetricsServer) -> None:
    address = server.url.removeprefix("http://").removesuffix("/metrics")
    with pytest.raises(ConfigurationError, match=f"{address}.*in use.*--metrics-address"):
        MetricsServer(address)


def test_two_jobs_on_one_machine_are_both_served() -> None:
    assert RunConfig().metrics_address == METRICS_ADDRESS
    one, two = MetricsServer(), MetricsServer()
    try:
        assert one.url != two.url
        for server, job in ((one, "one"), (two, "two")):
            server.show(replace(a_status(), job=job))
        for server, job in ((one, "one"), (two, "two")):
            assert f'job_id="{job}"' in text_of(server.url)
    finally:
        one.close()
        two.close()


def test_it_serves_on_ipv6() -> None:
    server = MetricsServer("[::1]:0")
    try:
        server.show(a_status())
        assert "noria_job_info" in text_of(server.url)
    finally:
        server.close()


def test_close_frees_the_port_at_once_and_may_be_repeated() -> None:
    (port,) = free_ports(1)
    began = time.monotonic()
    for _ in range(2):
        server = MetricsServer(f"127.0.0.1:{port}")
        server.show(a_status())
        text_of(server.url)  # one fetch is no scraper
        server.close()
        server.close()
    with pytest.raises(urllib.error.URLError):
        text_of(server.url)
    assert time.monotonic() - began < 3


def test_close_lets_a_regular_scraper_see_the_end() -> None:
    server = MetricsServer("127.0.0.1:0")
    server.show(a_status())
    text_of(server.url)
    text_of(server.url)
    server.show(replace(a_status(), phase=Phase.FINISHED))
    closing = threading.Thread(target=server.close)
    closing.start()
    last = series_in(text_of(server.url))
    closing.join(timeout=10)
    assert last["noria_job_phase", frozenset({("phase", "finished")})] == 1
    assert not closing.is_alive()
