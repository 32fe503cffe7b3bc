"""What is in force is shown to Prometheus, and nothing can be changed over HTTP."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from noria.engine.metrics import families
from noria.engine.metrics_server import MetricsServer
from noria.engine.status import JobStatus, Phase, load_status, save_status
from noria.engine.steering.guard import GuardState
from noria.engine.steering.limits import PAUSED, RUN, STEERED, LimitsInForce, Steered
from noria.manifests.job.directory import JobDirectory

OWN = {name: Steered(value=0, by=RUN) for name in STEERED}
LIMITS = LimitsInForce(
    settings={
        **OWN,
        "source_requests_per_second": Steered(value=500.0, by="ann@mover-1", since="today"),
        PAUSED: Steered(value=True, by="window office", until="18:00"),
    },
    windows=("office",),
    records=3,
    guards={
        "source": GuardState(factor=0.25, said="slow"),
        "target": GuardState(factor=1, said=""),
    },
)


def samples(status: JobStatus) -> dict[tuple[str, str], float]:
    return {
        (family.name, sample.labels.get("store", "")): sample.value
        for family in families(status)
        for sample in family.samples
    }


def moving(limits: LimitsInForce | None) -> JobStatus:
    return JobStatus(job="j", phase=Phase.MOVING, updated_seconds=1.0, in_force=limits)


def test_what_is_in_force_is_shown() -> None:
    shown = samples(moving(LIMITS))
    assert shown["noria_paused", ""] == 1
    assert shown["noria_windows_open", ""] == 1
    assert shown["noria_requests_limit_per_second", "source"] == 500
    assert shown["noria_requests_limit_per_second", "target"] == 0
    assert shown["noria_guard_holds", "source"] == 1
    assert shown["noria_guard_holds", "target"] == 0
    assert shown["noria_guard_withheld_ratio", "source"] == 0.75


def test_without_a_driver_that_says_it_nothing_holds() -> None:
    shown = samples(moving(None))
    assert {shown[name, ""] for name in ("noria_paused", "noria_windows_open")} == {0}
    assert shown["noria_guard_holds", "source"] == 0


def test_a_status_keeps_what_is_in_force(tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path)
    save_status(directory, moving(LIMITS))
    assert load_status(directory) == moving(LIMITS)
    ended = JobStatus(job="j", phase=Phase.STOPPED, updated_seconds=1.0, in_force=LIMITS)
    assert ended.paused is None
    assert ended.held_by_guards == {}


def test_a_status_of_an_earlier_edition_says_nothing_of_it(tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path)
    save_status(directory, moving(LIMITS))
    values = json.loads(directory.path("status.json").read_text())
    del values["in_force"]
    directory.path("status.json").write_text(json.dumps(values))
    assert load_status(directory) == moving(None)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/metrics", "/", "/pause", "/set?bandwidth=1"])
def test_the_server_takes_nothing_that_could_change_a_job(method: str, path: str) -> None:
    server = MetricsServer("127.0.0.1:0")
    try:
        server.show(moving(LIMITS))
        address = urlsplit(server.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
        connection.request(method, path, body=b"bandwidth=1")
        answer = connection.getresponse()
        answer.read()
        connection.close()
    finally:
        server.close()
    assert answer.status == (405 if path in ("/", "/metrics") else 404)


def test_a_limit_that_was_set_is_not_one_of_the_run() -> None:
    own = Steered(value=5e6, by=RUN)
    asked = Steered(value=5e6, by="ann@mover-1")
    by_run = LimitsInForce(settings={**OWN, "bandwidth": own})
    by_ann = LimitsInForce(settings={**OWN, "bandwidth": asked})
    assert moving(by_run).own_bandwidth == 5e6
    assert moving(by_ann).own_bandwidth is None
    assert moving(LimitsInForce(settings=OWN)).own_bandwidth is None
