"""A cutover of a migration whose only pass was run as a job like any other."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

import noria
from noria.engine.cutover import CutoverTools, CutoverWishes, cutover
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import RecordKind, read


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("a")
    ends = {role: {"url": f"file://{tmp_path / role}"} for role in ("source", "target")}
    noria.plan(noria.job_config(ends), tmp_path / "job")
    return tmp_path / "job"


def kinds_after_a_cutover(job: Path) -> list[RecordKind]:
    """Its freeze command refuses, so that it goes no further than that."""
    tools = CutoverTools(run_pass=mock.Mock(), verify=mock.Mock(), say=lambda line: None)
    report = cutover(job, CutoverWishes(freeze_command="exit 7"), tools)
    assert report.stopped is not None
    assert "the freeze command ended with 7" in report.stopped
    return [each.kind for each in read(JobDirectory(job))]


def test_a_run_that_has_ended_is_its_first_pass(job: Path) -> None:
    assert noria.run(job).exit_code == 0
    assert kinds_after_a_cutover(job) == [RecordKind.PASS_ENDED, RecordKind.STOPPED]
    assert kinds_after_a_cutover(job) == [
        RecordKind.PASS_ENDED,
        RecordKind.STOPPED,
        RecordKind.STOPPED,
    ]


def test_nothing_is_frozen_before_a_pass_has_ended(job: Path) -> None:
    tools = CutoverTools(run_pass=mock.Mock(), verify=mock.Mock(), say=lambda line: None)
    frozen = job.with_name("frozen")
    with pytest.raises(noria.ConfigurationError, match="needs a pass that has ended"):
        cutover(job, CutoverWishes(freeze_command=f"touch {frozen}"), tools)
    assert not frozen.exists()
