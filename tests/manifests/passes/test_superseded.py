"""Which receipts of a pass still stand, against an oracle: what a verification leaves out."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.results import superseded_rows
from noria.manifests.passes import state as state_module
from noria.manifests.passes.delta import DeletionRules
from noria.manifests.passes.superseded import write_superseded
from noria.manifests.plan.providers import NameRules
from tests.support.fabricated_passes import FabricatedMigration, Source
from tests.support.rows import Row, plan

NAME = "verified/1/superseded.parquet"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "BLOCK_ROWS", 4)
    monkeypatch.setattr(state_module, "BLOCKS_PER_FILE", 2)


def row(key: str, etag: str) -> Row:
    return {"key": key, "size": 5, "etag": etag, "last_modified": 1_700_000_000_000}


def old_keys(migration: FabricatedMigration, number: int) -> set[str]:
    """Of the receipts of a pass that are out of date, after the last one."""
    directory = JobDirectory(migration.migration.place(number))
    state = migration.migration.state(migration.number)
    write_superseded(directory, number, state, NAME)
    manifest = migration.manifests[number]
    return {
        manifest.read_shard(shard.shard).to_pylist()[each]["key"]
        for shard in manifest.shards()
        for each in superseded_rows(directory, NAME, shard.shard)
    }


def test_what_was_replaced_or_deleted_later_is_out_of_date(tmp_path: Path) -> None:
    migration = FabricatedMigration(tmp_path / "job", rules=DeletionRules(mirror=True))
    migration.settle(migration.plan({each: row(each, "1") for each in "abcd"}), {"d": "FAILED"})
    migration.settle(migration.plan({"a": row("a", "2"), "b": row("b", "1"), "d": row("d", "1")}))
    assert old_keys(migration, 1) == {"a", "c"}
    assert old_keys(migration, 2) == set()


def test_it_may_be_written_again(tmp_path: Path) -> None:
    migration = FabricatedMigration(tmp_path / "job")
    migration.settle(migration.plan({"a": row("a", "1")}))
    migration.settle(migration.plan({"a": row("a", "2")}))
    assert old_keys(migration, 1) == old_keys(migration, 1) == {"a"}


@pytest.mark.parametrize("other", [{"target_etag": "by-a-user"}, {"pass": 2}])
def test_a_receipt_of_another_object_or_pass_is_out_of_date(
    tmp_path: Path, other: dict[str, str | int]
) -> None:
    """After a way back the state has this pass's number for what that has found at the target.

    A pass that found there what the one before had left stands for it from then on.
    """
    migration = FabricatedMigration(tmp_path / "job")
    migration.settle(migration.plan({each: row(each, "1") for each in "ab"}))
    rewritten = [
        {**each, **other} if each["key"] == "a" else each
        for block in migration.migration.state(1).blocks()
        for each in block.to_pylist()
    ]
    write_state(migration, rewritten)
    assert old_keys(migration, 1) == {"a"}


def write_state(migration: FabricatedMigration, rows: list[Row]) -> None:
    place = migration.migration.state_place(1)
    with state_module.StateWriter(place, 1) as writer:
        writer.append(pa.Table.from_pylist(rows, schema=state_module.STATE_SCHEMA))
        writer.finish()


@pytest.mark.parametrize("seed", range(10))
def test_many_passes_agree_with_the_oracle(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    options = plan(
        rules=NameRules(backslash_is_slash=True),
        names="escape",
        shard_objects=draw.choice([1, 3, 50]),
    )
    rules = DeletionRules(mirror=draw.random() < 0.5)
    migration = FabricatedMigration(tmp_path / "job", options=options, rules=rules)
    names = [f"{mark}{n}" for n in range(12) for mark in ("", "b\\", "é")]
    now: Source = {}
    landed: dict[int, set[str]] = {}
    for number in range(1, 5):
        for name in draw.sample(names, 12):
            now[name] = row(name, f"e{draw.random()}")
        for name in draw.sample(sorted(now), 4):
            del now[name]
        outcomes = ["FAILED", "ALREADY_PRESENT", "TRANSFERRED", "TRANSFERRED"]
        migration.settle(migration.plan(now), {name: draw.choice(outcomes) for name in now})
        landed[number] = {k for k, each in migration.stands.items() if each["pass"] == number}
    for number in range(1, 5):
        still = {key for key, each in migration.stands.items() if each["pass"] == number}
        assert old_keys(migration, number) == landed[number] - still
