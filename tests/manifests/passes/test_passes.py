"""Delta and state against an oracle: what is new, changed, unchanged and gone, pass after pass."""

from __future__ import annotations

import hashlib
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from noria.manifests.errors import InventoryError, JobDirectoryError
from noria.manifests.manifest import freeze as freeze_module
from noria.manifests.passes import state as state_module
from noria.manifests.passes.delta import DeletionRules, PassDelta
from tests.support.fabricated_passes import FabricatedMigration, Source, planned
from tests.support.rows import Row, freeze_rows, plan

SECOND = 1_700_000_000_000


def row(key: str, etag: str = "e1", size: int = 5, modified: int = SECOND, **more: Any) -> Row:
    return {"key": key, "size": size, "etag": etag, "last_modified": modified, **more}


def source(*rows: Row) -> Source:
    return {each["key"]: each for each in rows}


@pytest.fixture
def migration(tmp_path: Path) -> FabricatedMigration:
    return FabricatedMigration(tmp_path / "job")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few rows are many blocks, files and ranges of keys."""
    monkeypatch.setattr(freeze_module, "RANGE_BYTES", 1_500)
    monkeypatch.setattr(state_module, "BLOCK_ROWS", 5)
    monkeypatch.setattr(state_module, "BLOCKS_PER_FILE", 3)


def test_a_first_pass_has_everything_and_says_no_delta(migration: FabricatedMigration) -> None:
    manifest = migration.plan(source(row("a"), row("b")))
    assert (manifest.objects, manifest.facts.get("delta")) == (2, None)
    migration.settle(manifest)
    assert migration.state_rows() == migration.stands


CHANGES: dict[str, Row] = {
    "size": {"size": 6},
    "etag": {"etag": "e2"},
    "version": {"version_id": "v2"},
    "modified": {"last_modified": SECOND + 1_000},
}


@pytest.mark.parametrize("why", CHANGES)
def test_what_differs_says_which_way_and_what_it_replaces(
    migration: FabricatedMigration, why: str
) -> None:
    before = source(row("a", version_id="v1"), row("b", version_id="v1"))
    migration.settle(migration.plan(before))
    manifest = migration.plan(source(before["a"], {**before["b"], **CHANGES[why]}))
    (entry,) = list(manifest.entries(0))
    assert (entry.key, entry.delta, entry.replaces) == ("b", why, "t-b-1")


def test_the_same_second_counts_as_the_same_time(migration: FabricatedMigration) -> None:
    """An inventory says milliseconds where a listing of the same store says seconds."""
    migration.settle(migration.plan(source(row("a", modified=SECOND + 123))))
    assert planned(migration.plan(source(row("a", modified=SECOND)))) == {}


def test_what_only_one_side_states_decides_nothing(migration: FabricatedMigration) -> None:
    migration.settle(migration.plan(source(row("a", etag="e", version_id=None))))
    again = {"key": "a", "size": 5, "etag": None, "last_modified": None, "version_id": "v"}
    assert planned(migration.plan(source(again))) == {}


def test_what_did_not_land_is_new_again(migration: FabricatedMigration) -> None:
    everything = source(row("a"), row("b"))
    migration.settle(migration.plan(everything), failing={"b": "FAILED"})
    assert planned(migration.plan(everything)) == {"b": "new"}


def test_a_change_that_failed_is_a_change_again(migration: FabricatedMigration) -> None:
    migration.settle(migration.plan(source(row("a"))))
    changed = source(row("a", etag="e2"))
    migration.settle(migration.plan(changed), failing={"a": "FAILED"})
    manifest = migration.plan(changed)
    (entry,) = list(manifest.entries(0))
    assert (entry.delta, entry.replaces) == ("etag", "t-a-1")


def test_what_was_there_before_is_not_replaced(migration: FabricatedMigration) -> None:
    """It was equal, and somebody else's: its change meets what stands there, and is a conflict."""
    migration.settle(migration.plan(source(row("a"))), failing={"a": "ALREADY_PRESENT"})
    (entry,) = list(migration.plan(source(row("a", etag="e2"))).entries(0))
    assert (entry.delta, entry.replaces) == ("etag", None)


def test_by_content_what_a_listing_does_not_tell_apart_is_compared(
    migration: FabricatedMigration,
) -> None:
    migration.settle(migration.plan(source(row("a"), row("b"), row("c", etag="e1"))))
    before = migration.migration.state(1)
    compare = partial(PassDelta, before, DeletionRules(), by_content=True)
    manifest = freeze_rows(
        migration.root / "again",
        [row("a"), row("b", crc64nvme=7), row("c", etag="e2")],
        compare=compare,
    )
    assert planned(manifest) == {"a": "content", "b": "content", "c": "etag"}


def test_by_content_a_checksum_that_both_state_is_enough(
    migration: FabricatedMigration,
) -> None:
    stated = row("a", crc64nvme=7)
    migration.settle(migration.plan(source(stated)), crc64nvme=7)
    for crc64nvme, expected in ((7, {}), (8, {"a": "content"})):
        manifest = freeze_rows(
            migration.root / f"again-{crc64nvme}",
            [row("a", crc64nvme=crc64nvme)],
            compare=partial(
                PassDelta, migration.migration.state(1), DeletionRules(), by_content=True
            ),
        )
        assert planned(manifest) == expected


def test_gone_is_listed_and_stands_on(migration: FabricatedMigration) -> None:
    migration.settle(migration.plan(source(row("a"), row("b"))))
    manifest = migration.plan(source(row("a")))
    assert planned(manifest) == {}
    assert migration.gone(manifest)["b"]["target_etag"] == "t-b-1"
    assert manifest.facts["delta"]["gone"] == {"objects": 1, "bytes": 5}
    migration.settle(manifest)
    later = migration.plan(source(row("a")))
    assert (later.facts["delta"]["gone_before"]["objects"], "gone" in later.facts["delta"]) == (
        1,
        True,
    )
    assert later.facts["delta"]["gone"]["objects"] == 0
    assert migration.gone(later)["b"]["gone_since"] == 2


def test_a_mirror_deletes_what_it_wrote(migration: FabricatedMigration) -> None:
    migration.rules = DeletionRules(mirror=True)
    everything = source(row("a"), row("b"), row("c"))
    migration.settle(migration.plan(everything), failing={"c": "ALREADY_PRESENT"})
    manifest = migration.plan(source(row("a")))
    (entry,) = list(manifest.entries(0))
    assert (entry.key, entry.delta, entry.replaces) == ("b", "gone", "t-b-1")
    assert manifest.bytes_to_move == 0
    assert set(migration.gone(manifest)) == {"b", "c"}
    migration.settle(manifest)
    assert set(migration.state_rows()) == {"a", "c"}


def test_a_mirror_has_a_limit(migration: FabricatedMigration) -> None:
    """An empty listing, or one of another place, would else delete everything."""
    migration.rules = DeletionRules(mirror=True, share_max=0.5)
    migration.settle(migration.plan(source(row("a"), row("b"), row("c"), row("d"))))
    with pytest.raises(InventoryError, match=r"3 of 4 objects.*--yes"):
        migration.plan(source(row("a")))
    assert not (migration.migration.place(2) / "manifest").exists()


def test_a_deleted_object_is_gone_though_its_marker_is_listed(
    migration: FabricatedMigration,
) -> None:
    migration.rules = DeletionRules(mirror=True)
    migration.settle(migration.plan(source(row("a"), row("b"))))
    manifest = migration.plan(source(row("a"), row("b", not_current="deleted")))
    assert planned(manifest) == {"b": "gone"}


def test_what_a_filter_leaves_out_now_is_not_gone(migration: FabricatedMigration) -> None:
    migration.rules = DeletionRules(mirror=True)
    migration.settle(migration.plan(source(row("a"), row("b"))))
    manifest = migration.plan(source(row("a"), row("b", size=9, not_current="filtered")))
    assert (planned(manifest), migration.gone(manifest)) == ({}, {})


def test_what_did_not_happen_is_counted_as_nothing(migration: FabricatedMigration) -> None:
    migration.settle(migration.plan(source(row("a"))))
    delta = migration.plan(source(row("a"))).facts["delta"]
    assert delta.pop("unchanged") == {"objects": 1, "bytes": 5}
    changed = {"size", "etag", "version", "modified", "content", "damaged"}
    assert set(delta) == {"new", *changed, "gone", "gone_before"}
    assert all(each == {"objects": 0, "bytes": 0} for each in delta.values())


def test_a_source_that_is_empty_now(migration: FabricatedMigration) -> None:
    migration.settle(migration.plan(source(*[row(f"k{n}") for n in range(20)])))
    manifest = migration.plan({})
    assert (manifest.objects, len(migration.gone(manifest))) == (0, 20)


@pytest.mark.parametrize("seed", range(12))
def test_many_passes_agree_with_the_oracle(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    mirror = draw.random() < 0.5
    migration = FabricatedMigration(
        tmp_path / "job",
        options=plan(shard_objects=draw.choice([1, 4, 50])),
        rules=DeletionRules(mirror=mirror),
    )
    names = [f"{draw.choice(['a', 'b/', 'é', 'zz'])}{n:03d}" for n in range(60)]
    now: Source = {name: row(name) for name in draw.sample(names, 30)}
    for number in range(1, 6):
        before = {key: dict(each) for key, each in migration.stands.items()}
        manifest = migration.plan(now)
        if number > 1:
            assert planned(manifest) == _expected(now, before, mirror=mirror)
            gone = {key for key in before if key not in now}
            assert set(migration.gone(manifest)) == gone
        outcomes = ["FAILED", "ALREADY_PRESENT", "SOURCE_CHANGED"]
        moved = [key for key, why in planned(manifest).items() if why != "gone"]
        failing = {key: draw.choice(outcomes) for key in moved if draw.random() < 0.2}
        migration.settle(manifest, failing)
        assert migration.state_rows() == migration.stands
        _live(now, names, draw)
    _is_made_again(migration)


def _expected(now: Source, stands: dict[str, Row], *, mirror: bool) -> dict[str, str]:
    found = {}
    for key, each in now.items():
        if key not in stands:
            found[key] = "new"
        elif each["size"] != stands[key]["size"]:
            found[key] = "size"
        elif each["etag"] != stands[key]["source_etag"]:
            found[key] = "etag"
    if mirror:
        found |= {k: "gone" for k, each in stands.items() if k not in now and each["written"]}
    return found


def _live(now: Source, names: list[str], draw: random.Random) -> None:
    """What researchers do between two passes."""
    for name in draw.sample(names, 15):
        if name not in now:
            now[name] = row(name, etag=f"e{draw.random()}")
        elif draw.random() < 0.4:
            del now[name]
        else:
            now[name] = row(name, etag=f"e{draw.random()}", size=draw.choice([5, 6]))


def _is_made_again(migration: FabricatedMigration) -> None:
    """Bit for bit, from the seals alone."""
    place = migration.migration.state_place

    def digests() -> dict[str, str]:
        return {
            f"{number}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest()
            for number in range(1, migration.number + 1)
            for file in sorted(place(number).iterdir())
        }

    made = digests()
    for number in range(1, migration.number + 1):
        migration.migration.forget(number)
    migration.migration.state(migration.number)
    assert digests() == made


def test_a_damaged_state_is_named_and_made_again(migration: FabricatedMigration) -> None:
    migration.settle(migration.plan(source(row("a"))))
    migration.migration.state(1)
    place = migration.migration.state_place(1)
    (place / "state.json").write_text("{")
    with pytest.raises(JobDirectoryError, match="remove that folder"):
        migration.migration.state(1)
    migration.migration.forget(1)
    assert migration.state_rows() == migration.stands


def test_a_list_of_what_is_gone_that_was_changed_is_refused(
    migration: FabricatedMigration,
) -> None:
    migration.settle(migration.plan(source(row("a"), row("b"))))
    manifest = migration.plan(source(row("a")))
    migration.settle(manifest)
    path = manifest.directory / "gone.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(JobDirectoryError, match=r"gone.parquet is not what was frozen"):
        migration.migration.state(2)


ODD = ["", "\0", "a", "a\0", "a\0\0", "a/", "a/b", "é", "e\u0301", "\ue000", "\U0010ffff", "\n"]


@pytest.mark.parametrize("seed", range(8))
def test_odd_names_and_huge_gaps_agree_with_the_oracle(tmp_path: Path, seed: int) -> None:
    """A listing and a state that share no stretch of keys, and names that sort by their bytes."""
    draw = random.Random(seed)
    migration = FabricatedMigration(tmp_path / "job", rules=DeletionRules(mirror=True))
    long = ["x" * 1_000 + mark for mark in ("", "\0", "y", "é")]
    low, high = [f"0{n:03d}" for n in range(40)], [f"\U0010ffff{n:03d}" for n in range(40)]
    for number in range(1, 6):
        parts = [ODD, long, low, high]
        chosen = [name for part in draw.sample(parts, draw.randrange(5)) for name in part]
        now = source(*[row(name, etag=f"e{draw.randrange(3)}") for name in chosen])
        if number == 1 and not now:
            now = source(row("a"))
        before = {key: dict(each) for key, each in migration.stands.items()}
        manifest = migration.plan(now)
        if number > 1:
            assert planned(manifest) == _expected(now, before, mirror=True)
            assert set(migration.gone(manifest)) == before.keys() - now.keys()
        migration.settle(manifest)
        assert migration.state_rows() == migration.stands
    _is_made_again(migration)
