"""Planning and reconciling tell how far their listings are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from noria.engine import job, listing_pace, planning
from noria.engine.listed import as_line, telling
from noria.engine.status import JobStatus, Phase, load_status
from noria.engine.terminal.figures import describe
from noria.manifests.job.directory import JobDirectory
from tests.support.finished_jobs import config_of, finish_job, write_source

BATCH = pa.record_batch({"row": [1, 2, 3]})


def test_how_much_and_how_fast_at_most_so_often() -> None:
    now, said = iter([0.0, 1.0, 10.0, 11.0, 20.0]), list[str]()
    tell = as_line(said.append, "source")
    batches = list(telling([BATCH] * 4, tell, every_seconds=10.0, clock=lambda: next(now)))
    assert batches == [BATCH] * 4
    assert said == [
        "6 listed at the source so far, 1 a second",
        "12 listed at the source so far, 1 a second",
    ]


def test_a_plan_and_a_reconcile_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_pace, "LINE_SECONDS", 0.0)
    for module in (job, planning):
        monkeypatch.setattr(module, "SHOW_SECONDS", 0.0)
    said: list[str] = []
    finished = finish_job(tmp_path)
    job.reconcile_job(finished.root, said.append)
    assert any(line.startswith("5 listed at the target so far") for line in said), said
    write_source(tmp_path)
    job.plan(config_of(tmp_path), tmp_path / "another", said.append)
    assert any(line.startswith("5 listed at the source so far") for line in said), said


def test_an_empty_batch_has_it_told_and_is_not_passed_on() -> None:
    now, said = iter([0.0, 1.0, 2.0, 3.0]), list[str]()
    tell = as_line(said.append, "source")
    batches = [BATCH, BATCH.slice(0, 0), BATCH.slice(0, 0)]
    assert list(telling(batches, tell, every_seconds=1.0, clock=lambda: next(now))) == [BATCH]
    assert said[-1] == "3 listed at the source so far, 0 a second"


def test_a_run_shows_it_and_keeps_it_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "SHOW_SECONDS", 0.0)
    root = finish_job(tmp_path).root
    shown: list[JobStatus] = []

    def show(status: JobStatus) -> None:
        shown.append(status)
        if status.phase is Phase.RECONCILING:
            assert load_status(JobDirectory.open(root)) == status

    job.run(root, show=show)
    assert any(
        "reconciling" in (line := describe(status)) and "5 listed at the target" in line
        for status in shown
    )
    assert job.status(root).phase is Phase.FINISHED
