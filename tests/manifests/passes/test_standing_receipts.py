"""Which receipts of all passes still stand, against an oracle: what a verification leaves out."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.read_backs import JobReadBack
from noria.manifests.job.results import places_of_shard
from noria.manifests.passes import standing_receipts
from noria.manifests.passes import state as state_module
from noria.manifests.passes.delta import DeletionRules
from noria.manifests.passes.standing_receipts import Receipts, StandingCount, find_standing
from noria.manifests.passes.state import State
from noria.manifests.plan.providers import NameRules
from tests.support.fabricated_passes import FabricatedMigration, Source
from tests.support.rows import Row, plan

AREA = "verified/1"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "BLOCK_ROWS", 4)
    monkeypatch.setattr(state_module, "BLOCKS_PER_FILE", 2)
    monkeypatch.setattr(standing_receipts, "BLOCK_ROWS", 3)
    monkeypatch.setattr(standing_receipts, "ROWS_TOGETHER", 5)


def row(key: str, etag: str) -> Row:
    return {"key": key, "size": 5, "etag": etag, "last_modified": 1_700_000_000_000}


def found_standing(
    migration: FabricatedMigration, numbers: Sequence[int] | None = None
) -> tuple[dict[int, StandingCount], dict[int, set[str]]]:
    """By pass: what stands after the last one, and the keys of receipts that are out of date."""
    home = JobDirectory(migration.root)
    jobs, first_shard = [], 0
    for number in numbers or range(1, migration.number + 1):
        place, manifest = migration.migration.place(number), migration.manifests[number]
        job = JobReadBack(directory=str(place), first_shard=first_shard)
        jobs.append(
            Receipts(job=job, directory=JobDirectory(place), manifest=manifest, number=number)
        )
        first_shard += max(1, manifest.shard_count)
    state = migration.migration.state(migration.number)
    scratch = migration.root / f"scratch-{secrets.token_hex(4)}"
    found = find_standing(state, jobs, home, AREA, scratch)
    old = {
        each.number: {
            each.manifest.read_shard(shard.shard).to_pylist()[row]["key"]
            for shard in each.manifest.shards()
            for row in places_of_shard(home, each.job.superseded_name(AREA), shard.shard)
        }
        for each in jobs
    }
    return {each.number: of for each, of in zip(jobs, found, strict=True)}, old


def old_keys(migration: FabricatedMigration, number: int) -> set[str]:
    """Of the receipts of a pass that are out of date, read with all others and alone."""
    _, together = found_standing(migration)
    _, alone = found_standing(migration, [number])
    assert together[number] == alone[number]
    return together[number]


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


@pytest.mark.parametrize(
    "other", [{"target_etag": "by-a-user"}, {"target_version": "2"}, {"pass": 2}]
)
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
    standing, old = found_standing(migration)
    for number in range(1, 5):
        still = {key for key, each in migration.stands.items() if each["pass"] == number}
        assert old[number] == landed[number] - still
        assert standing[number].objects == len(still)
        assert standing[number].bytes == sum(migration.stands[key]["size"] for key in still)
        rows = {
            shard.shard: {
                each["key"]
                for each in migration.manifests[number].read_shard(shard.shard).to_pylist()
            }
            for shard in migration.manifests[number].shards()
        }
        assert standing[number].shards == {shard for shard, keys in rows.items() if keys & still}


def test_a_state_is_walked_once_however_many_passes_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration = FabricatedMigration(tmp_path / "job")
    for number in range(1, 7):
        migration.settle(
            migration.plan({each: row(each, str(number)) for each in "abcdefgh"[:number]})
        )
    migration.migration.state(6)  # made from the seals now
    read: list[int] = []
    blocks = State.blocks

    def counted(self: State, columns: list[str] | None = None) -> Iterator[pa.Table]:
        for block in blocks(self, columns):
            read.append(len(block))
            yield block

    monkeypatch.setattr(State, "blocks", counted)
    standing, _ = found_standing(migration)
    assert sum(read) == 6
    assert {number: each.objects for number, each in standing.items() if each.objects} == {6: 6}
