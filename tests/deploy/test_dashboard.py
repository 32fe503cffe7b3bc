"""Every query of the dashboards, and every recording rule, gives figures of a real migration.

The dashboards keep the rules of Grafana's linter (dashboard_rules.py).
"""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from noria.benchmarks.servers import ROOT, Prometheus, S3Server, free_ports, run_prometheus
from tests.deploy.dashboard_rules import RULES, Dashboard, complaints, targets
from tests.deploy.test_prometheus import PROMETHEUS, metric_names, names_in, rules
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.fault_proxy.rules import Fault, Operation, ProxiedRequest, refuse

GRAFANA = ROOT / "deploy/grafana"
DASHBOARDS: dict[str, Dashboard] = {
    path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("noria-*.json"))
}
LINT = GRAFANA / ".lint"

OBJECTS = (3000, 12_000)
"""How many small files to copy: enough for some scrapes. More, where they were too few."""

RUN_SECONDS = 75.0

OF_MIGRATION_ALONE = {
    "noria_passes_ended",
    "noria_lag_seconds",
    "noria_lag_grows",
    "noria_source_changed_objects_per_second",
    "noria_source_changed_bytes_per_second",
    "noria_freeze_forecast_seconds",
}
"""Absent from a copy that stands alone; tests/engine/test_metrics.py sees their figures."""
OF_A_RUN_THAT_STOPPED = {"Stopped by itself"}
"""Panels that have nothing to show of one that ends well."""
OF_DATASETS_ALONE = {name for name in metric_names() if name.startswith("noria_dataset_")}
"""Absent from a job of one dataset; the same test sees their figures."""


def queries() -> list[str]:
    return [query for dashboard in DASHBOARDS.values() for _, query in asked(dashboard)]


def asked(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """(panel, query)."""
    for title, target in targets(dashboard):
        yield title, target["expr"]


def test_there_is_one_for_a_migration_a_fleet_stores_and_a_comparison() -> None:
    assert list(DASHBOARDS) == ["noria-compare", "noria-fleet", "noria-job", "noria-stores"]
    for name, dashboard in DASHBOARDS.items():
        assert dashboard["uid"] == name
    titles = {dashboard["title"] for dashboard in DASHBOARDS.values()}
    assert len(titles) == len(DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_it_keeps_the_rules_of_the_linter(name: str) -> None:
    assert len(RULES) == 17
    assert complaints(DASHBOARDS[name], LINT) == []


def test_nothing_is_excluded_in_vain() -> None:
    """A panel that keeps a rule needs no exclusion from it; and each says why there is one."""
    found = {
        tuple(line.split(": ", 1)) for board in DASHBOARDS.values() for line in complaints(board)
    }
    for rule, given in yaml.safe_load(LINT.read_text())["exclusions"].items():
        assert given["reason"]
        for entry in given["entries"]:
            assert any(
                broken == rule and where.startswith(f"{entry['panel']}: ")
                for broken, where in found
            ), entry


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("template-datasource-rule", lambda board: board["templating"]["list"].pop(0)),
        ("template-job-rule", lambda board: board["templating"]["list"].pop(1)),
        ("template-instance-rule", lambda board: board["templating"]["list"].pop(2)),
        (
            "template-label-promql-rule",
            lambda board: board["templating"]["list"][1].update(definition="label_values({, job)"),
        ),
        (
            "template-on-time-change-reload-rule",
            lambda board: board["templating"]["list"][1].update(refresh=1),
        ),
        ("panel-datasource-rule", lambda board: board["panels"][1].update(datasource=None)),
        ("panel-title-description-rule", lambda board: board["panels"][1].update(description="")),
        (
            "panel-units-rule",
            lambda board: board["panels"][1]["fieldConfig"]["defaults"].update(unit="furlongs"),
        ),
        ("panel-no-targets-rule", lambda board: board["panels"][1].update(targets=[])),
        ("target-promql-rule", lambda board: ask(board, "sum(")),
        ("target-rate-interval-rule", lambda board: ask(board, f"rate({SERIES}[5m])")),
        ("target-job-rule", lambda board: ask(board, 'up{instance=~"$instance"}')),
        ("target-instance-rule", lambda board: ask(board, 'up{job=~"$job"}')),
        ("target-instance-rule", lambda board: ask(board, "noria_workers")),
        ("target-counter-agg-rule", lambda board: ask(board, f"sum({SERIES})")),
        ("uneditable-dashboard-rule", lambda board: board.update(editable=True)),
    ],
)
def test_the_rules_find_what_breaks_them(rule: str, spoil: Any) -> None:
    board = json.loads(json.dumps(DASHBOARDS["noria-fleet"]))
    spoil(board)
    assert rule in {line.partition(":")[0] for line in complaints(board)}


SERIES = 'noria_errors_total{job=~"$job", instance=~"$instance"}'


def ask(board: Dashboard, query: str) -> None:
    board["panels"][1]["targets"][0]["expr"] = query


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_ids_of_their_own_and_do_not_overlap(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert DASHBOARDS[name]["schemaVersion"] >= 39
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        lines = range(place["y"], place["y"] + place["h"])
        cells = set(itertools.product(columns, lines))
        assert columns.stop <= 24
        assert cells, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
        letters = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(letters)) == len(letters)


def test_together_they_show_every_metric() -> None:
    shown = set().union(*(names_in(query) for query in queries()))
    assert shown <= metric_names()
    assert metric_names() - shown == set()


def test_the_one_of_a_migration_shows_all_but_what_is_of_the_stores() -> None:
    shown = set().union(*(names_in(query) for _, query in asked(DASHBOARDS["noria-job"])))
    missing = {
        name
        for name in metric_names() - shown
        if not name.startswith(("noria_request_", "noria_failed_request_", "noria_body_"))
    }
    assert missing <= {"noria_journal_duration_seconds_count", "noria_journal_duration_seconds_sum"}


def test_grafana_is_told_where_they_are() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/noria.yaml").read_text())[
        "providers"
    ]
    assert provider["options"] == {"path": "$NORIA_DASHBOARDS"}
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/noria.yaml").read_text())[
        "datasources"
    ]
    assert (source["type"], source["url"]) == ("prometheus", "$PROMETHEUS_URL")


# -- a real migration ------------------------------------------------------------------------------


class Moves:
    """Passes of one migration, from a folder to a bucket that refuses a request now and then."""

    def __init__(self, folder: Path, proxy: FaultProxy, seaweedfs: S3Server, bucket: str) -> None:
        self.source = folder / "source"
        self.source.mkdir(parents=True)
        self._folder = folder
        self._target = f"s3://{bucket}/{folder.name}"
        self._environment = {
            **os.environ,
            **seaweedfs.env(),
            "AWS_ENDPOINT_URL_S3": proxy.endpoint,
            "AWS_CREDENTIAL_EXPIRATION": "2099-01-01T00:00:00Z",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
        }
        self.log = folder / "log"

    def add(self, name: str, objects: int) -> None:
        for number in range(objects):
            (self.source / f"{name}-{number}").write_bytes(bytes(1000))

    @contextmanager
    def running(self, port: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """The next pass, with its metrics at `port`; ended with the block."""
        job = self._folder / "job"
        words = ["sync", str(job)]
        if not job.exists():
            words = ["copy", str(self.source), self._target, f"--job={job}"]
        address = "off" if port is None else f"127.0.0.1:{port}"
        words += ["--workers=1", "--streams=4", f"--metrics-address={address}"]
        words += ["--deadline=2099-01-01T00:00:00Z"]
        with self.log.open("ab") as log:
            run = subprocess.Popen(
                [sys.executable, "-c", "from noria.__main__ import main; main()", *words],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        try:
            yield run
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()

    def run(self) -> None:
        with self.running() as run:
            assert run.wait(timeout=60) == 0, self.log.read_text()


def refuse_now_and_then(proxy: FaultProxy) -> None:
    """One write in twenty is told to slow down, and one in thirty that the store is not well."""

    def one_in(number: int) -> Callable[[ProxiedRequest], bool]:
        seen = itertools.count(1)

        def match(request: ProxiedRequest) -> bool:
            return request.operation is Operation.PUT and next(seen) % number == 0

        return match

    proxy.add(Fault(match=one_in(20), action=refuse(503, "SlowDown"), times=None))
    proxy.add(Fault(match=one_in(30), action=refuse(500, "InternalError"), times=None))


def as_grafana_sends(query: str, instance: str) -> str:
    """For a scrape interval of one second, Grafana's $__rate_interval is four."""
    return (
        query.replace("$__rate_interval", "4s")
        .replace("$instance", instance)
        .replace("$job", "noria")
    )


def gave_figures(prometheus: Prometheus, query: str, since: float) -> bool:
    """Whether it had a figure at any time from `since` to now.

    What was scraped last holds until the next scrape finds nobody: a step beyond now meets it, too.
    """
    series = prometheus.query_range(query, since, time.time() + 1, step_seconds=0.25)
    return any(not math.isnan(float(value)) for found in series for _, value in found["values"])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_real_migration_feeds_every_query_and_rule(tmp_path: Path, seaweedfs: S3Server) -> None:
    (port,) = free_ports(1)
    instance = f"127.0.0.1:{port}"
    shown = [item for board in DASHBOARDS.values() for item in asked(board)]
    wanted = {
        as_grafana_sends(query, instance)
        for title, query in shown
        if title not in OF_A_RUN_THAT_STOPPED and not names_in(query) <= OF_DATASETS_ALONE
    }
    wanted |= {rule["record"] for rule in rules() if "record" in rule}
    seaweedfs.client().create_bucket(Bucket="watched")
    with (
        run_fault_proxy(seaweedfs.endpoint) as proxy,
        run_prometheus(targets=[instance], rule_files=[PROMETHEUS / "rules.yml"]) as prometheus,
    ):
        for objects in OBJECTS:
            proxy.clear()
            moves = Moves(tmp_path / f"{objects}", proxy, seaweedfs, "watched")
            foreign = f"{objects}/third-of-somebody"
            seaweedfs.client().put_object(Bucket="watched", Key=foreign, Body=b"theirs")
            for name in ("first", "second"):
                moves.add(name, 3)
                moves.run()
            moves.add("third", objects)
            (moves.source / "third-of-somebody").write_bytes(b"ours")
            refuse_now_and_then(proxy)
            begun = time.time()
            _run_watched(moves, port)
            _check_last_figures(prometheus, objects)
            _check_rules(prometheus)
            wanted = {query for query in wanted if not gave_figures(prometheus, query, begun)}
            if not wanted:
                break
        for title, query in shown:
            if title in OF_A_RUN_THAT_STOPPED:
                assert prometheus.query(as_grafana_sends(query, instance)) == []
    assert sorted(wanted) == [], "no figures while the runs lasted"


def _run_watched(moves: Moves, port: int) -> None:
    """The next pass, whose metrics are scraped."""
    with moves.running(port) as run:
        # One object is somebody else's: 1, as of a run with failures.
        assert run.wait(timeout=RUN_SECONDS) == 1, moves.log.read_text()


def _check_last_figures(prometheus: Prometheus, objects: int) -> None:
    """Wait until Prometheus has written down the last figures.

    The driver ended only after they had been fetched.
    """
    finished = 'last_over_time(noria_job_phase{phase="finished"}[1m]) == 1'
    deadline = time.monotonic() + 5
    while not prometheus.query(finished) and time.monotonic() < deadline:
        time.sleep(0.1)
    for query, number in (
        ('noria_sealed_objects_total{outcome="TRANSFERRED"}', objects),
        ('noria_objects_total{outcome="TRANSFERRED"}', objects),
        ("noria_done_objects", objects + 1),
        ("noria_failed_objects", 1),
        ("noria_passes_ended", 2),
    ):
        (found,) = prometheus.query(f"last_over_time({query}[1m])")
        assert float(found["value"][1]) == number, query
    for cause in ("throttled", "outcome_unknown"):
        errors = f'noria_request_errors_total{{operation="put", cause="{cause}"}}'
        (found,) = prometheus.query(f"last_over_time({errors}[1m])")
        assert float(found["value"][1]) > 5, cause
    (phase,) = prometheus.query("last_over_time(noria_job_phase[1m]) == 1")
    assert phase["metric"]["phase"] == "finished"


def _check_rules(prometheus: Prometheus) -> None:
    """None fails, and nothing worse is raised than that an entry wants to be looked at."""
    loaded: list[dict[str, Any]] = [
        rule for group in prometheus.rule_groups() for rule in group["rules"]
    ]
    assert len(loaded) == len(rules())
    for rule in loaded:
        assert (rule["health"], rule.get("lastError")) == ("ok", None), rule["name"]
        assert rule.get("state", "inactive") in ("inactive", "pending"), rule["name"]
