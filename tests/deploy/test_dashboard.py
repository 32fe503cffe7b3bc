"""Every query of the dashboard, and every recording rule, gives figures of a real run."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.servers import ROOT, Prometheus, free_ports, run_prometheus
from tests.deploy.test_prometheus import PROMETHEUS, metric_names, names_in, rules

DASHBOARD = json.loads((ROOT / "deploy/grafana/noria-job.json").read_text())

OBJECTS = (8000, 32_000)
"""How many small files to copy: enough for some scrapes. More, where they were too few."""

RUN_SECONDS = 50.0

OF_MIGRATION_ALONE = {
    "noria_passes_ended",
    "noria_lag_seconds",
    "noria_lag_grows",
    "noria_source_changed_objects_per_second",
    "noria_source_changed_bytes_per_second",
    "noria_freeze_forecast_seconds",
}
"""Absent from a copy that stands alone; tests/engine/test_metrics.py sees their figures."""
OF_DATASETS_ALONE = {name for name in metric_names() if name.startswith("noria_dataset_")}
"""Absent from a job of one dataset; the same test sees their figures."""


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert DASHBOARD["schemaVersion"] >= 39
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


def test_panels_say_what_they_show_and_where_from() -> None:
    datasource = {"type": "prometheus", "uid": "${datasource}"}
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["instance"]["definition"] == "label_values(noria_job_info, instance)"
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters) > 0
        for source in (panel, *panel["targets"]):
            assert source["datasource"] == datasource


def test_queries_are_of_one_driver_and_show_every_metric() -> None:
    for query in queries():
        assert query.count('instance=~"$instance"') == query.count("{"), query
    shown = set().union(*(names_in(query) for query in queries()))
    assert shown <= metric_names()
    assert metric_names() - shown == {"noria_request_duration_seconds_sum"}


@contextmanager
def running_copy(folder: Path, port: int, objects: int) -> Iterator[subprocess.Popen[bytes]]:
    """A `noria copy` of small files, with its metrics at `port`; ended with the block."""
    source, target = folder / "source", folder / "target"
    for place in (source, target):
        place.mkdir(parents=True)
    for number in range(objects):
        (source / f"{number}").write_bytes(bytes(1000))
    with (folder / "log").open("wb") as log:
        copy = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from noria.__main__ import main; main()",
                "copy",
                f"file://{source}",
                f"file://{target}",
                f"--job={folder}/job",
                "--workers=1",
                "--streams=1",
                f"--metrics-address=127.0.0.1:{port}",
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)},
            stdout=log,
            stderr=log,
            process_group=0,
        )
        try:
            yield copy
        finally:
            if copy.poll() is None:
                os.killpg(copy.pid, signal.SIGKILL)
            copy.wait()


def as_grafana_sends(query: str, instance: str) -> str:
    """For a scrape interval of one second, Grafana's $__rate_interval is four."""
    return query.replace("$__rate_interval", "4s").replace("$instance", instance)


def gives_figures(prometheus: Prometheus, query: str) -> bool:
    return any(not math.isnan(float(found["value"][1])) for found in prometheus.query(query))


@pytest.mark.slow
def test_a_real_run_feeds_every_query_and_rule(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    instance = f"127.0.0.1:{port}"
    wanted = [
        as_grafana_sends(query, instance)
        for query in queries()
        if not names_in(query) <= OF_MIGRATION_ALONE | OF_DATASETS_ALONE
    ]
    wanted += [rule["record"] for rule in rules() if "record" in rule]
    with run_prometheus(targets=[instance], rule_files=[PROMETHEUS / "rules.yml"]) as prometheus:
        for objects in OBJECTS:
            wanted = _watch_a_copy(prometheus, wanted, tmp_path / f"{objects}", port, objects)
            _check_last_figures(prometheus, objects)
            _check_rules(prometheus)
            if not wanted:
                break
    assert wanted == [], "no figures while the runs lasted"


def _watch_a_copy(
    prometheus: Prometheus, wanted: list[str], folder: Path, port: int, objects: int
) -> list[str]:
    """The queries of `wanted` that gave no figures at any time of the run."""
    with running_copy(folder, port, objects) as copy:
        deadline = time.monotonic() + RUN_SECONDS
        while copy.poll() is None and time.monotonic() < deadline:
            wanted = [query for query in wanted if not gives_figures(prometheus, query)]
            time.sleep(0.5)
        assert copy.returncode == 0, (folder / "log").read_text()
    return wanted


def _check_last_figures(prometheus: Prometheus, objects: int) -> None:
    """Wait until Prometheus has written down the last figures.

    The driver ended only after they had been fetched.
    """
    finished = 'last_over_time(noria_job_phase{phase="finished"}[1m]) == 1'
    deadline = time.monotonic() + 5
    while not prometheus.query(finished) and time.monotonic() < deadline:
        time.sleep(0.1)
    for query in (
        'noria_sealed_objects_total{outcome="TRANSFERRED"}',
        'noria_objects_total{outcome="TRANSFERRED"}',
        "noria_done_objects",
    ):
        (found,) = prometheus.query(f"last_over_time({query}[1m])")
        assert float(found["value"][1]) == objects, query
    (phase,) = prometheus.query("last_over_time(noria_job_phase[1m]) == 1")
    assert phase["metric"]["phase"] == "finished"


def _check_rules(prometheus: Prometheus) -> None:
    """None fails, and a healthy run raises no alert."""
    loaded: list[dict[str, Any]] = [
        rule for group in prometheus.rule_groups() for rule in group["rules"]
    ]
    assert len(loaded) == len(rules())
    for rule in loaded:
        assert (rule["health"], rule.get("lastError")) == ("ok", None), rule["name"]
        assert rule.get("state", "inactive") in ("inactive", "pending"), rule["name"]
