"""What is imported where: start-up time is mostly imports, and they creep in unseen."""

from __future__ import annotations

import json
import subprocess
import sys

from noria.engine.cluster.imports import ABSENT, LATE

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
    loaded = imported_by(
        "import noria.engine.job, noria.engine.planning, noria.engine.cluster.standby"
    )
    assert loaded & {"azure", "botocore", "duckdb", "prometheus_client", "ray", "rich"} == set()


def test_what_only_workers_do_is_not_imported_by_the_driver() -> None:
    code = "import sys, engine.driver; print('noria.workers.lease.lease' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert ended.stdout.split() == ["False"]


def test_what_is_left_out_is_not_found_and_nobody_minds() -> None:
    code = (
        "from noria.engine.cluster.imports import spare_imports; spare_imports(); spare_imports()"
    )
    loaded = imported_by(f"{code}; import ray, pyarrow.parquet, pyarrow.compute, duckdb, pydantic")
    assert "numpy" not in loaded
    left_out = f"{code}\nimport {ABSENT[0]}"
    ended = subprocess.run([sys.executable, "-c", left_out], capture_output=True, check=False)
    assert b"ModuleNotFoundError" in ended.stderr


def test_what_is_late_comes_when_it_is_asked_for() -> None:
    for name in LATE:
        code = (
            "from noria.engine.cluster.imports import spare_imports; spare_imports(); import sys\n"
            f"import {name}; import {name}, pyarrow; before = len(sys.modules)\n"
            f"{name}.__version__\n"
            "assert len(sys.modules) > before"
        )
        subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)


def test_a_submodule_does_not_come_before_its_late_package() -> None:
    code = (
        "from noria.engine.cluster.imports import spare_imports; spare_imports()\n"
        "import requests; from requests.adapters import HTTPAdapter\n"
        "from azure.core.pipeline.transport import RequestsTransport\n"
        "assert requests.adapters.HTTPAdapter is HTTPAdapter"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
