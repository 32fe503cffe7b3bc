"""What is imported where: start-up time is mostly imports, and they creep in unseen."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"azure", "botocore", "duckdb", "prometheus_client", "pyarrow", "pydantic", "ray", "rich"}


def imported_by(code: str) -> set[str]:
    """Packages that a fresh process has loaded after this code."""
    shown = (
        "import json, sys; print(json.dumps([name for name, module in sys.modules.items()"
        " if module is not None]))"
    )
    command = [sys.executable, "-c", f"{code}\n{shown}"]
    ended = subprocess.run(command, capture_output=True, check=True, text=True)
    return {name.partition(".")[0] for name in json.loads(ended.stdout.splitlines()[-1])}


def test_help_needs_none_of_it() -> None:
    assert imported_by("import noria.engine.cli") & HEAVY == set()


def test_a_plan_needs_no_ray_and_nothing_of_the_end() -> None:
    loaded = imported_by("import noria.engine.job, noria.engine.planning")
    assert loaded & {"azure", "botocore", "duckdb", "prometheus_client", "ray", "rich"} == set()


def test_what_only_workers_do_is_not_imported_by_the_driver() -> None:
    code = "import sys, noria.engine.driver; print('noria.workers.lease.lease' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert ended.stdout.split() == ["False"]


def test_metrics_are_served_before_what_makes_them_is_loaded() -> None:
    code = "from noria.engine.metrics_server import MetricsServer; MetricsServer('127.0.0.1:0')"
    assert imported_by(code) & {"prometheus_client", "wsgiref", "http"} == set()


def test_a_probe_needs_nothing_that_computes_checksums() -> None:
    assert "awscrt" not in imported_by("import noria.workers.stores.probe")


def test_a_worker_needs_nothing_that_checks_job_files_or_joins() -> None:
    loaded = imported_by("import noria.engine.cluster.worker_process, noria.engine.worker_factory")
    assert loaded & {"azure", "botocore", "duckdb", "prometheus_client", "pydantic"} == set()
