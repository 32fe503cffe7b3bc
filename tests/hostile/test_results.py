"""Seals, upload records and results of any content: read as they were written, or refused."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noria.engine.replay import enter_seals
from noria.engine.status import Phase
from noria.engine.totals import Totals
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import failures_of, parts_of, receipts_of
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import Seal, read_seals
from noria.manifests.job.uploads import read_upload
from noria.manifests.model import LeaseKind, ReceiptSummary
from tests.support.commands import refusal_of
from tests.support.finished_jobs import FinishedJob
from tests.support.fuzzing import ODD_DOCUMENTS, ODD_VALUES, changed, damaged, examples, refused


def read_all(root: Path) -> list[Any]:
    """All that the seals lead to, as a new run, a verification and a report would read it."""
    directory = JobDirectory.open(root)
    totals = Totals("j", objects_total=5, bytes_total=10**6)
    found: list[Any] = [enter_seals(directory, totals)]
    found.append(totals.status(Phase.MOVING, now=1, started=0, unix=0, shards={}))
    for sealed in read_seals(directory):
        table = read_result(directory, sealed)
        if sealed.kind is LeaseKind.PARTS:
            found += parts_of(table)
        else:
            found += receipts_of(table)
            failures_of(table)
    found += [read_upload(directory, shard, 0) for shard in range(4)]
    return found


def test_what_is_whole_is_read(finished: FinishedJob) -> None:
    # Two summaries, the receipts, the parts of `huge`, and the upload of one shard of four.
    assert len(read_all(finished.root)) == 2 + 5 + 4 + 4


def document(job: FinishedJob, name: str) -> st.SearchStrategy[bytes]:
    values = json.loads((job.root / name).read_bytes())
    text = (changed(values) | ODD_VALUES).map(lambda each: json.dumps(each).encode())
    return text | ODD_DOCUMENTS


@examples(120)
@given(st.data())
def test_seals_and_uploads_of_any_json(finished: FinishedJob, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(finished.names("sealed/") + finished.names("uploads/")))
    with finished.live_lease(name, data.draw(document(finished, name))) as job:
        refused(lambda: read_all(job))


@pytest.mark.parametrize(
    "change",
    [
        {"end": 10**12},
        {"end": 2**31 - 1},
        {"first": 1},
        {"shard": 0},
        {"kind": "parts"},
        {"generation": 1},
        {"attempt": -1},
        {"attempt": True},
        {"end": 1.0},
        {"summary": {"outcomes": {"TRANSFERRED": "1"}}},
        {"summary": {"outcomes": {"TRANSFERRED": [1]}}},
        {"summary": {"outcomes": {"LANDED": 1}}},
        {"summary": {"outcomes": [], "levels": {}}},
        {"summary": {"outcomes": {}, "outcome_bytes": {"TRANSFERRED": -5}}},
        {"summary": {"outcomes": {}, "part_bytes": -1}},
        {"summary": {"outcome.TRANSFERRED": "1"}},
        {"summary": {"outcome.LANDED": 1}},
        {"summary": {"bytes.TRANSFERRED": -5}},
        {"summary": {"levels": 1, "level.ingested": 1}},
        {"summary": []},
        {"result_name": "/dev/zero"},
        {"result_name": "results/../../x"},
        {"result_name": "a\0b"},
        {"result_name": "results"},
        {"result_sha256": None},
    ],
    ids=str,
)
def test_a_seal_that_claims_something_else(
    tmp_path: Path, finished: FinishedJob, change: dict[str, Any]
) -> None:
    job = finished.copy(tmp_path / "job")
    path = job / finished.names("sealed/00000/00000001-")[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    line = refusal_of("reconcile", job, job=job)
    assert line is not None
    assert "restore it" in line or "as its seal says" in line


def test_a_seal_that_lies_under_another_name(tmp_path: Path, finished: FinishedJob) -> None:
    job = finished.copy(tmp_path / "job")
    path = job / finished.names("sealed/00000/00000001-")[0]
    path.rename(path.with_name("00000001-objects-000000-00000007-000000001000000001.json"))
    error = refused(lambda: read_all(job))
    assert isinstance(error, JobDirectoryError)
    assert "000000001000000001.json is damaged" in error.message


@examples(120)
@given(st.data())
def test_results_that_are_damaged(finished: FinishedJob, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(finished.names("results/")))
    whole = (finished.root / name).read_bytes()
    hurt = data.draw(damaged(whole))
    with finished.live_lease(name, hurt) as job:
        error = refused(lambda: read_all(job))
    assert (error is None) == (hurt == whole)
    assert error is None or "not the file that was sealed" in error.message


def test_a_result_that_is_missing_or_a_folder(tmp_path: Path, finished: FinishedJob) -> None:
    job = finished.copy(tmp_path / "job")
    path = job / finished.names("results/")[0]
    path.unlink()
    assert isinstance(refused(lambda: read_all(job)), JobDirectoryError)
    path.mkdir()
    assert isinstance(refused(lambda: read_all(job)), JobDirectoryError)


def sealed_as(job: Path, data: bytes, kind: LeaseKind = LeaseKind.OBJECTS) -> Seal:
    (job / "forged").write_bytes(data)
    return Seal(
        shard=0,
        kind=kind,
        first=0,
        end=1,
        attempt=1,
        generation=0,
        result_name="forged",
        result_sha256=hashlib.sha256(data).hexdigest(),
        summary=ReceiptSummary(),
    )


@examples(150)
@given(st.data())
@example(None)
def test_results_that_were_sealed_damaged(
    tmp_path: Path, finished: FinishedJob, data: st.DataObject | None
) -> None:
    """Their digest fits: what is in them is no receipt all the same."""
    whole = (finished.root / finished.names("results/00000/00000000/")[0]).read_bytes()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))] if data else b""
    sealed = sealed_as(tmp_path, cut)
    error = refused(lambda: read_result(JobDirectory(tmp_path), sealed))
    assert isinstance(error, JobDirectoryError)


@pytest.mark.parametrize("columns", [{}, {"row": [1]}, {"row": ["1"], "key": [5]}], ids=str)
def test_results_of_other_columns(tmp_path: Path, columns: dict[str, Any]) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    for kind in (LeaseKind.OBJECTS, LeaseKind.PARTS):
        sealed = sealed_as(tmp_path, sink.getvalue().to_pybytes(), kind)
        error = refused(partial(read_result, JobDirectory(tmp_path), sealed))
        assert isinstance(error, JobDirectoryError)


@pytest.mark.parametrize(
    "name",
    [
        "uploads/README",
        "uploads/x/y.json",
        "epochs/zzz.json",
        "epochs/1/2.json",
        "sealed/notes",
        "sealed/segments/00000/notes",
    ],
)
def test_files_that_are_not_of_the_job(tmp_path: Path, finished: FinishedJob, name: str) -> None:
    job = finished.copy(tmp_path / "job")
    (job / name).parent.mkdir(parents=True, exist_ok=True)
    (job / name).write_text("not of Noria")
    assert refusal_of("reconcile", job, job=job) is None


def test_an_epoch_beyond_all_attempts(tmp_path: Path, finished: FinishedJob) -> None:
    job = finished.copy(tmp_path / "job")
    (job / "epochs/9999999999.json").write_text("{}")
    line = refusal_of("reconcile", job, job=job)
    assert line is not None
    assert "epochs/9999999999.json" in line
    (job / "epochs/9999999999.json").unlink()
    assert refusal_of("reconcile", job, job=job) is None, "the lock was given back"
