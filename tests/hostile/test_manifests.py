"""Manifests, job.json and the caches of a job, of any content: noticed, or of no consequence."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noria.engine import job as jobs
from noria.engine.planning import open_prepared
from noria.engine.terminal.report import status_summary
from noria.manifests.errors import ConfigurationError, InventoryError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.uploads import read_uploads
from noria.manifests.manifest.freeze import freeze
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.model import ObjectEntry
from tests.support.commands import noria, refusal_of
from tests.support.finished_jobs import FinishedJob, contents
from tests.support.fuzzing import (
    ODD_DOCUMENTS,
    ODD_VALUES,
    changed,
    damaged,
    examples,
    refused,
)
from tests.support.rows import inventory, plan

MANIFEST = "manifest/manifest.json"
ROWS = "manifest/part-00000.parquet"


def entries(job: Path) -> list[ObjectEntry]:
    manifest = open_manifest(job / "manifest")
    shards = manifest.shards()
    for shard in shards:
        manifest.fit(shard.bytes)
    return [entry for shard in shards for entry in manifest.entries(shard.shard)]


def as_text(values: Any) -> bytes:
    return json.dumps(values, indent=1, sort_keys=True).encode()


def document(job: FinishedJob, name: str) -> st.SearchStrategy[bytes]:
    values = json.loads((job.root / name).read_bytes())
    return changed(values).map(as_text) | ODD_VALUES.map(as_text) | ODD_DOCUMENTS


@examples(120)
@given(st.data())
def test_a_manifest_json_of_any_content(finished: FinishedJob, data: st.DataObject) -> None:
    with finished.live_lease(MANIFEST, data.draw(document(finished, MANIFEST))) as job:
        error = refused(lambda: entries(job))
        assert isinstance(error, JobDirectoryError | None)
        if error is None:
            open_manifest(job / "manifest")
            assert refused(lambda: jobs.status(job)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"objects": 6},
        {"objects": "5"},
        {"files": []},
        {"files": [{"name": "../job.json", "bytes": 1, "sha256": "0", "rows": 5}]},
        {"to_move": {"bytes": 0, "objects": 5}},
        {"plan": {}},
        {"plan": []},
        {"schema": {"a": ["b\n"]}},
        {"digest": None},
        {"sizes": [{"below": 1}]},
    ],
    ids=str,
)
def test_a_manifest_json_that_says_something_else(
    finished: FinishedJob, change: dict[str, Any]
) -> None:
    values = {**json.loads((finished.root / MANIFEST).read_bytes()), **change}
    with finished.live_lease(MANIFEST, as_text(values)) as job:
        line = refusal_of("reconcile", job, job=job)
        assert line is not None
        assert "the version that made it" in line or "restore it" in line


@examples(120)
@given(st.data())
def test_rows_that_are_damaged_are_noticed_or_the_same(
    finished: FinishedJob, data: st.DataObject
) -> None:
    truth = entries(finished.root)
    whole = (finished.root / ROWS).read_bytes()
    hurt = data.draw(damaged(whole))
    found: list[ObjectEntry] = []
    with finished.live_lease(ROWS, hurt) as job:
        error = refused(lambda: found.extend(entries(job)))
        assert isinstance(error, JobDirectoryError) or found == truth
        late = refused(lambda: open_manifest(job / "manifest").verify())
        assert isinstance(late, JobDirectoryError) or hurt == whole


@examples(100)
@given(st.data())
def test_shards_that_are_damaged_are_noticed(finished: FinishedJob, data: st.DataObject) -> None:
    name = "manifest/shards.parquet"
    whole = (finished.root / name).read_bytes()
    hurt = data.draw(damaged(whole))
    with finished.live_lease(name, hurt) as job:
        error = refused(lambda: open_manifest(job / "manifest"))
        assert isinstance(error, JobDirectoryError) or hurt == whole


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"key": ["a"]},
        {"key": pa.array([None], pa.string()), "size": pa.array([1])},
        {"key": ["a"], "size": ["1"]},
    ],
    ids=["none", "key", "null", "text"],
)
def test_rows_of_another_schema(
    tmp_path: Path, finished: FinishedJob, columns: dict[str, Any]
) -> None:
    job = finished.copy(tmp_path / "job")
    pq.write_table(pa.table(columns), job / ROWS)
    values = json.loads((job / MANIFEST).read_bytes())
    values["files"][0]["bytes"] = (job / ROWS).stat().st_size
    (job / MANIFEST).write_bytes(as_text(values))
    assert isinstance(refused(lambda: entries(job)), JobDirectoryError)
    assert refusal_of("reconcile", job, job=job) is not None


def test_another_file_beside_the_frozen_ones_is_not_read(
    tmp_path: Path, finished: FinishedJob
) -> None:
    job = finished.copy(tmp_path / "job [1]")
    (job / "manifest/part-00001.parquet").write_bytes((job / ROWS).read_bytes())
    assert refusal_of("reconcile", job, job=job) is None


@pytest.mark.parametrize("sizes", [[2**63 - 1] * 2, [2**62, 1], [2**52] * 2000], ids=len)
def test_sizes_that_add_up_beyond_all_bounds(tmp_path: Path, sizes: list[int]) -> None:
    rows = inventory({"key": f"{number:06}", "size": size} for number, size in enumerate(sizes))
    error = refused(lambda: freeze([rows], tmp_path / "manifest", options=plan()))
    assert isinstance(error, InventoryError)
    assert list(tmp_path.iterdir()) == []


# -- job.json --------------------------------------------------------------------------------------


@examples(120)
@given(st.data())
def test_a_job_json_of_any_content(finished: FinishedJob, data: st.DataObject) -> None:
    with finished.live_lease("job.json", data.draw(document(finished, "job.json"))) as job:
        errors = [refused(lambda: jobs.status(job)), refused(lambda: open_prepared(job))]
        for error in errors:
            assert isinstance(error, JobDirectoryError | ConfigurationError | None)


@examples(30)
@given(st.data())
@example(None)
def test_commands_on_a_job_json_of_any_content(
    finished: FinishedJob, data: st.DataObject | None
) -> None:
    text = data.draw(document(finished, "job.json")) if data else b"[" * 100_000
    with finished.live_lease("job.json", text) as job:
        refusal_of("status", job, job=job)
        line = refusal_of("run", job, "--metrics-address", "nowhere", job=job)
        assert line is not None, "there is no such address"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("facts", None),
        ("facts", []),
        ("facts", {"job_id": 5}),
        ("facts", {"checksum": "sha1"}),
        ("facts", {"target_was_empty": "yes"}),
        ("name_rules", None),
        ("name_rules", {"merges_slashes": "maybe"}),
        ("name_rules", {"reserved_segments": "x"}),
        ("name_rules", {"max_segment_bytes": 1.5}),
    ],
    ids=str,
)
def test_facts_and_rules_of_a_plan_that_was_cut_short(
    tmp_path: Path, finished: FinishedJob, name: str, value: Any
) -> None:
    job = finished.copy(tmp_path / "job")
    shutil.rmtree(job / "manifest")
    values = json.loads((job / "job.json").read_bytes())
    values[name] = {**values[name], **value} if value else value
    (job / "job.json").write_bytes(as_text(values))
    line = refusal_of("run", job, "--metrics-address", "off", job=job)
    assert line is not None
    assert "job.json is damaged" in line


def test_a_manifest_that_lost_its_manifest_json(tmp_path: Path, finished: FinishedJob) -> None:
    job = finished.copy(tmp_path / "job")
    (job / MANIFEST).unlink()
    line = refusal_of("run", job, "--metrics-address", "off", job=job)
    assert line is not None
    assert "restore its manifest.json" in line


@pytest.mark.parametrize("created", [None, 5, "yesterday", []], ids=str)
def test_what_clean_has_to_know(tmp_path: Path, finished: FinishedJob, created: Any) -> None:
    job = finished.copy(tmp_path / "job")
    values = json.loads((job / "job.json").read_bytes())
    (job / "job.json").write_bytes(as_text({**values, "created": created}))
    line = refusal_of("clean", job, "--unclaimed", job=job)
    assert line is not None
    assert "restore it" in line


@examples(40)
@given(st.data())
def test_uploads_of_any_content_and_clean(finished: FinishedJob, data: st.DataObject) -> None:
    name = finished.names("uploads/")[0]
    with finished.live_lease(name, data.draw(document(finished, name))) as job:
        assert isinstance(
            refused(lambda: [*read_uploads(JobDirectory(job))]), JobDirectoryError | None
        )
        refused(lambda: jobs.clean(job))


# -- caches and bookkeeping ------------------------------------------------------------------------


STATUS = {
    "job": "j",
    "phase": "moving",
    "updated_seconds": 1.5,
    "outcomes": {"TRANSFERRED": 1},
    "eta_seconds": None,
    "hosts": {"node-2": {"workers": 1, "errors": {"unavailable": 3}, "barred": None}},
    "migration": {"passes_ended": 2, "lag_seconds": 60.5, "lag_grows": False},
    "metrics": {
        "counters": [[["bytes_read", "source"], 5.0]],
        "gauges": [],
        "histograms": [[["request_seconds", "source", "read"], [1, 2, 3]]],
    },
}
STATUS_OF_EARLIER_VERSION = {**STATUS, "tally": STATUS["metrics"]}
del STATUS_OF_EARLIER_VERSION["metrics"]


@contextlib.contextmanager
def beside(job: Path, name: str, data: bytes) -> Iterator[None]:
    """A file of the job directory that is not there otherwise."""
    (job / name).write_bytes(data)
    try:
        yield
    finally:
        (job / name).unlink()


@examples(60)
@given(
    st.sampled_from(["status.json", "verify-status.json"]),
    changed(STATUS).map(as_text)
    | changed(STATUS_OF_EARLIER_VERSION).map(as_text)
    | ODD_VALUES.map(as_text)
    | ODD_DOCUMENTS,
)
@example("status.json", as_text({**STATUS, "eta_seconds": float("nan")}))
@example("status.json", as_text({**STATUS, "bytes_done": 10**400}))
@example("verify-status.json", as_text({**STATUS, "updated_seconds": "x"}))
@example("status.json", as_text({**STATUS, "job": "[/red] [bold"}))
def test_a_status_of_any_content_is_a_cache(finished: FinishedJob, name: str, data: bytes) -> None:
    with beside(finished.root, name, data):
        assert noria("status", finished.root, "--hosts")[0] == 0
        json.dumps(status_summary(jobs.status(finished.root), [], finished.root), allow_nan=False)


@examples(60)
@given(st.binary(max_size=40), st.data())
def test_failures_that_are_damaged_are_told(
    finished: FinishedJob, garbage: bytes, data: st.DataObject
) -> None:
    result = (finished.root / finished.names("results/00000/00000000/")[0]).read_bytes()
    hurt = data.draw(st.just(garbage) | damaged(result))
    with beside(finished.root, "failures.parquet", hurt):
        line = refusal_of("status", finished.root, job=finished.root)
        assert line is None or "remove it" in line


@pytest.mark.parametrize("name", ["status.json", "failures.parquet", "driver.lock", "epochs"])
def test_folders_and_files_in_each_others_place(
    tmp_path: Path, finished: FinishedJob, name: str
) -> None:
    job = finished.copy(tmp_path / "job")
    if name == "epochs":
        for path in (job / name).iterdir():
            path.unlink()
        (job / name).rmdir()
        (job / name).write_bytes(b"")
    else:
        (job / name).unlink(missing_ok=True)
        (job / name).mkdir()
    before = contents(job)
    for command in ("status", "reconcile"):
        refusal_of(command, job, job=job)
    assert {*before} <= {*contents(job)}


def test_a_lock_of_any_bytes_is_a_lock(tmp_path: Path, finished: FinishedJob) -> None:
    job = finished.copy(tmp_path / "job")
    (job / "driver.lock").write_bytes(b"\xff" * 5000)
    assert refusal_of("reconcile", job, job=job) is None
