"""/status.json: what it tells of a status, and that it is what its schema says."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from pydantic import TypeAdapter

from noria.engine.metrics import DIFFERENCE, END_CAUSE, ERROR_CAUSE
from noria.engine.status import DatasetFigures, HostStatus, JobStatus, Phase
from noria.engine.steering.guard import GuardState
from noria.engine.steering.limits import PAUSED, RUN, LimitsInForce, Steered
from noria.engine.watch.advice import ADVICE, UNKNOWN, advice_on
from noria.engine.watch.document import SCHEMA, StatusDocument, document_of, stuck_seconds
from noria.engine.watch.throughput_history import ThroughputHistory
from noria.manifests.job.differences import DIFFERENCES
from noria.manifests.model import MetricsSnapshot
from tests.engine.watch.a_status import a_full_status


def shown(status: JobStatus) -> dict[str, Any]:
    history = ThroughputHistory()
    history.add(100.0, bytes_per_second=5.0, objects_per_second=2.0)
    document = document_of(status, history, name="lake", served_seconds=123.0)
    found: dict[str, Any] = json.loads(document.as_json())
    return found


def test_it_is_what_its_schema_says() -> None:
    for status in (a_full_status(), JobStatus(job="a", phase=Phase.STARTING, updated_seconds=1.0)):
        found = shown(status)
        assert found["schema"] == SCHEMA
        read = TypeAdapter(StatusDocument).validate_json(json.dumps(found), strict=True)
        assert json.loads(read.as_json()) == found


def test_it_tells_what_a_status_holds() -> None:
    status = a_full_status()
    found = shown(status)
    assert (found["job"], found["name"], found["phase"]) == (status.job, "lake", "moving")
    assert found["served_seconds"] == 123.0
    progress = found["progress"]
    assert progress["bytes_done"] == status.bytes_done
    assert progress["failed"] == 231
    assert progress["already_there"] == 120_311
    assert found["deadline"]["state"] == "late"
    assert found["migration"]["lag_seconds"] == 5600.0
    assert found["history"] == {"interval_seconds": 2.0, "points": [[100.0, 5.0, 2.0]]}
    assert found["limits"] == [
        {"limit": "bandwidth", "value": 1.25e9, "unit": "bytes_per_second", "holds": True}
    ]
    assert [host["host"] for host in found["hosts"]] == ["node-a", "node-b"]
    assert found["hosts"][1]["barred"] == "its clock is 95 s late"
    target = found["stores"][1]
    assert (target["store"], target["silent_seconds"]) == ("target", 42.0)
    assert len(found["notes"]) == 2


def test_errors_are_told_by_end_and_cause_the_most_frequent_first() -> None:
    errors = [
        (each["store"], each["cause"], each["count"]) for each in shown(a_full_status())["errors"]
    ]
    assert errors == [
        ("source", "throttled", 812),
        ("target", "unavailable", 3),
        ("", "abort_failed", 1),
    ]


def test_a_status_of_an_earlier_version_has_errors_of_no_end() -> None:
    metrics = MetricsSnapshot(counters={("errors", "unavailable"): 4.0})
    (error,) = shown(a_full_status(metrics=metrics))["errors"]
    assert (error["store"], error["cause"], error["count"]) == ("", "unavailable", 4)


def test_there_is_advice_on_every_cause() -> None:
    causes = {*(ERROR_CAUSE.values or ()), *(END_CAUSE.values or ()), *(DIFFERENCE.values or ())}
    causes |= {"damaged", *DIFFERENCES}
    assert {str(cause) for cause in causes} - ADVICE.keys() == set()
    assert advice_on("of another version") == UNKNOWN
    for words in ADVICE.values():
        assert words.endswith(".")


def test_no_signature_of_a_url_gets_out() -> None:
    secret = "https://a.blob.core.windows.net/c?sv=1&sig=S3CRET refused; run again"
    status = a_full_status(stopped=secret, hosts={"n": HostStatus(barred=secret)})
    text = json.dumps(shown(status))
    assert "S3CRET" not in text
    assert "https://a.blob.core.windows.net/c refused; run again" in text


@pytest.mark.parametrize(
    ("phase", "age", "is_stuck"),
    [
        (Phase.MOVING, 119.0, False),
        (Phase.MOVING, 121.0, True),
        (Phase.RECONCILING, 3600.0, False),
        (Phase.FINISHED, 3600.0, False),
    ],
)
def test_a_run_at_work_is_stuck_if_its_figures_are_old(
    phase: Phase, age: float, is_stuck: bool
) -> None:
    status = JobStatus(job="a", phase=phase, updated_seconds=1000.0)
    assert (stuck_seconds(status, 1000.0 + age) is not None) is is_stuck


def test_every_part_is_a_dataclass_of_plain_values() -> None:
    history = ThroughputHistory()
    document = document_of(a_full_status(), history, name="", served_seconds=0.0)
    for field in fields(document):
        value = getattr(document, field.name)
        for each in value if isinstance(value, list) else [value]:
            assert is_dataclass(each) or isinstance(each, str | int | float | None)


def test_what_holds_a_job_is_told_with_who_asked_for_it() -> None:
    settings = {
        PAUSED: Steered(value=True, by="ann@mover-1", since="09:00", reason="a demo"),
        "source_requests_per_second": Steered(value=500.0, by="window nights"),
        "workers": Steered(value=0, by=RUN),
    }
    guards = {"source": GuardState(factor=0.5, said="small reads take 3 times as long")}
    found = shown(a_full_status(in_force=LimitsInForce(settings=settings, guards=guards)))
    assert [(each["limit"], each["value"], each["unit"]) for each in found["limits"][1:]] == [
        ("source_requests_per_second", 500.0, "requests_per_second")
    ]
    assert "Paused by ann@mover-1 since 09:00 (a demo): nothing new is begun." in found["notes"]
    said = "The guard of the source leaves 50 % of the pace: small reads take 3 times as long."
    assert said in found["notes"]


def test_each_of_many_datasets_is_told() -> None:
    datasets = {
        "genomes": DatasetFigures(phase="moving", objects=4, bytes=100, bytes_done=25),
        "empty": DatasetFigures(phase="refused", failed=2),
    }
    found = shown(a_full_status(datasets=datasets))["datasets"]
    assert [(each["dataset"], each["phase"], each["done"]) for each in found] == [
        ("genomes", "moving", 0.25),
        ("empty", "refused", 0.0),
    ]
