"""Renames: the same size and ETag, once gone and once new."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes import renames
from noria.manifests.passes.renames import RENAMES_FILE, write_renames
from tests.support.fabricated_passes import FabricatedMigration, Source
from tests.support.rows import Row


def row(key: str, etag: str | None, size: int = 5) -> Row:
    return {"key": key, "size": size, "etag": etag}


def source(*rows: Row) -> Source:
    return {each["key"]: each for each in rows}


def found(tmp_path: Path, before: Source, now: Source) -> list[tuple[str, str]]:
    migration = FabricatedMigration(tmp_path / "job")
    migration.settle(migration.plan(before))
    directory = JobDirectory(migration.migration.place(2))
    count = write_renames(directory, migration.plan(now))
    rows = pq.read_table(directory.path(RENAMES_FILE)).to_pylist()
    assert count == len(rows)
    return [(each["before"], each["now"]) for each in rows]


def test_a_new_name_of_the_same_bytes(tmp_path: Path) -> None:
    before = source(row("a", "1"), row("b", "2"), row("c", "3"))
    now = source(row("a", "1"), row("b2", "2"), row("z", "3"), row("new", "4"))
    assert found(tmp_path, before, now) == [("b", "b2"), ("c", "z")]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (source(row("a", "1")), source(row("b", "2"))),
        (source(row("a", "1")), source(row("b", "1", size=6))),
        (source(row("a", None)), source(row("b", None))),
        (source(row("a", "1", size=0)), source(row("b", "1", size=0))),
        (source(row("a", "1"), row("b", "1")), source(row("c", "1"))),
        (source(row("a", "1")), source(row("b", "1"), row("c", "1"))),
        (source(row("a", "1")), source(row("a", "1"), row("b", "1"))),
    ],
    ids=["etag", "size", "no-etag", "empty", "two-gone", "two-new", "a-copy"],
)
def test_what_is_not_told_for_sure_is_not_told(tmp_path: Path, before: Source, now: Source) -> None:
    assert found(tmp_path, before, now) == []


def test_too_many_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renames, "GONE_MAX", 1)
    migration = FabricatedMigration(tmp_path / "job")
    migration.settle(migration.plan(source(row("a", "1"), row("b", "2"))))
    directory = JobDirectory(migration.migration.place(2))
    assert write_renames(directory, migration.plan(source(row("c", "1")))) is None
