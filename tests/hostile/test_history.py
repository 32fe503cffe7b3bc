"""Records of a history of any content: noticed, or shown as they are."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.engine.convergence import migration_figures, until
from noria.engine.past_passes import passes_of
from noria.engine.terminal.history_report import (
    history_lines,
    history_summary,
    passes_lines,
    passes_summary,
)
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job import history
from noria.manifests.job.cutover_states import standing
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Fact, RecordKind
from tests.support.fuzzing import ODD_DOCUMENTS, ODD_VALUES, changed, damaged, examples

NAMES = ("history/000001.json", "history/000002.json", "history/000003.json")


def facts_of(number: int) -> dict[str, Fact]:
    return {
        "pass": number,
        "started": 1000.0 * number,
        "ended": 1000.0 * number + 60,
        "listing_seconds": 10.0,
        "moving_seconds": 20.0,
        "reconciling_seconds": 10.0,
        "bytes_moved": 10_000,
        "failed": 0,
        "oldest_unmoved": None,
        "new_objects": 10,
        "new_bytes": 10_000,
    }


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> JobDirectory:
    made = JobDirectory.create(tmp_path_factory.mktemp("history") / "job", {"id": "j"})
    for number in (1, 2, 3):
        history.append(made, RecordKind.PASS_ENDED, facts_of(number), by="ann@mover-1")
    return made


def canonical(values: Any) -> bytes:
    return (json.dumps(values, sort_keys=True, separators=(",", ":")) + "\n").encode()


def hurt(whole: bytes) -> st.SearchStrategy[bytes]:
    values = json.loads(whole)
    facts = changed(values["facts"]).map(lambda facts: canonical({**values, "facts": facts}))
    return (
        facts
        | changed(values).map(canonical)
        | ODD_VALUES.map(canonical)
        | (ODD_DOCUMENTS | damaged(whole))
    )


@examples(300)
@given(st.sampled_from(NAMES), st.data())
def test_records_of_any_content(directory: JobDirectory, name: str, data: st.DataObject) -> None:
    whole = directory.path(name).read_bytes()
    found = data.draw(hurt(whole))
    directory.path(name).write_bytes(found)
    try:
        with contextlib.suppress(JobDirectoryError):
            records = history.read(directory)
            assert found == whole or name == NAMES[-1], "the next one has its digest"
            standing(records)
            for line in history_lines(history_summary(records, Path("job")), 60):
                assert line.isprintable()
            passes = passes_of(records)
            summary = passes_summary(passes)
            json.dumps(summary, allow_nan=False)
            assert all(line.isprintable() for line in passes_lines(summary, 60))
            migration_figures(passes)
            until(60.0, 60.0, 4000.0, passes)
    finally:
        directory.path(name).write_bytes(whole)
