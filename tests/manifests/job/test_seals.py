"""Seals carry digests, and reconcile recomputes: what was edited is not reported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.engine import job
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.seals import read_seals
from tests.support.finished_jobs import finish_job

Values = dict[str, Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return finish_job(tmp_path).root


def edit(root: Path, change: Callable[[Values], object]) -> Values:
    """Change the first seal of objects; returns what it holds then."""
    path = min((root / "sealed").rglob("*-objects-*.json"))
    values: Values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return values


def raise_level(values: Values) -> None:
    values["summary"]["levels"] = {"chained": sum(values["summary"]["levels"].values())}


@pytest.mark.parametrize(
    "change",
    [
        raise_level,
        lambda values: values.update(attempt=values["attempt"] + 1),
        lambda values: values.update(seal_sha256="0" * 64),
        lambda values: values.update(note="more"),
    ],
    ids=["level", "attempt", "digest", "more"],
)
def test_an_edited_seal_is_not_read(root: Path, change: Callable[[Values], object]) -> None:
    edit(root, change)
    with pytest.raises(JobDirectoryError, match="is damaged"):
        list(read_seals(JobDirectory.open(root)))


def test_a_seal_of_an_earlier_version_is_read(root: Path) -> None:
    edit(root, lambda values: values.pop("seal_sha256"))
    assert job.reconcile_job(root).reconciled


@pytest.mark.parametrize(
    "change",
    [
        raise_level,
        lambda values: values["summary"].update(outcomes={"TRANSFERRED": 1}),
        lambda values: values["summary"].update(causes={"x": 1}),
        lambda values: values["summary"].update(outcome_bytes={}),
    ],
    ids=["levels", "outcomes", "causes", "bytes"],
)
def test_reconcile_counts_the_receipts_again(
    root: Path, change: Callable[[Values], object]
) -> None:
    """Also if the digest went with the edit, as in a seal of an earlier version."""

    def without_digest(values: Values) -> None:
        del values["seal_sha256"]
        change(values)

    edit(root, without_digest)
    with pytest.raises(JobDirectoryError, match="add up to"):
        job.reconcile_job(root)


def test_no_value_at_all_is_a_difference(root: Path) -> None:
    """Receipts that state no ETag, under a seal that says it is so. Other columns must not lack."""
    column = "target_etag"
    sealed = next(each for each in read_seals(JobDirectory.open(root)) if each.kind == "objects")
    path = root / sealed.result_name
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    field = table.schema.field(column)
    pq.write_table(table.set_column(place, field, pa.nulls(len(table), field.type)), path)

    def other_result(values: Values) -> None:
        del values["seal_sha256"]
        values["result_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()

    edit(root, other_result)
    found = job.reconcile_job(root)
    assert not found.reconciled
    assert found.differing == len(table)
