from __future__ import annotations

import functools
import hashlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.manifests import memory
from noria.manifests.errors import JobDirectoryError
from noria.manifests.manifest import freeze as freeze_module
from noria.manifests.manifest.freeze import freeze
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.memory import RANGE_BYTES
from noria.manifests.model import PassedOver, Reason, ShardKind
from noria.manifests.plan.names import escape_name
from noria.manifests.plan.parts import fit_parts
from noria.manifests.plan.providers import MIB, NameRules, known_name_rules, limits_for
from noria.manifests.schema import INVENTORY_SCHEMA
from tests.support.digest_by_hand import digest_by_hand
from tests.support.rows import (
    FULL_ROW,
    Row,
    all_rows,
    freeze_rows,
    inventory,
    numbered,
    plan,
    shuffled,
)

# -- order, duplicates -----------------------------------------------------------------------------

inventory_rows = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.text("ab/é😀\uffee\x00", max_size=3),
            "size": st.integers(0, 2),
            "etag": st.sampled_from([None, "x", "y"]),
            "last_modified": st.sampled_from([None, 1_000, 2_000]),
            "not_current": st.sampled_from([None, None, "version", "snapshot"]),
            "content_md5": st.sampled_from([None, b"", b"\0"]),
            "is_folder": st.sampled_from([None, False]),
            "crc64nvme": st.sampled_from([None, 2**64 - 1]),
        }
    ),
    max_size=25,
)


def one_row_a_key(rows: list[Row]) -> dict[str, Row]:
    """What freeze() keeps, said once more over dictionaries."""

    def rank(row: Row) -> tuple[Any, ...]:
        newest_first = -(row["last_modified"] or -1)
        rest = [row[one.name] for one in INVENTORY_SCHEMA if one.name in row]
        nulls_last = [(value is None, 0 if value is None else value) for value in rest]
        return (row["not_current"] is not None, newest_first, nulls_last)

    return {row["key"]: row for row in sorted(rows, key=rank, reverse=True)}


@settings(deadline=None, max_examples=25)
@given(inventory_rows, st.randoms(use_true_random=False), st.integers(1, 9))
def test_the_rows_alone_decide(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], shuffle: random.Random, step: int
) -> None:
    folder = tmp_path_factory.mktemp("freeze")
    options = plan(shard_objects=3)
    first = freeze([inventory(rows)], folder / "one", options=options)
    again = shuffle.sample(rows, len(rows))
    batches = [inventory(again[at : at + step]) for at in range(0, len(again), step)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freeze_module, "RANGE_BYTES", 1)  # each key in a range of its own
        second = freeze(batches, folder / "two", options=options)

    kept = one_row_a_key(rows)
    found = all_rows(first)
    assert [row["key"] for row in found] == sorted(kept, key=str.encode)
    for row in found:
        expected = kept[row["key"]]
        assert {name: row[name] for name in expected if name != "last_modified"} == {
            name: value for name, value in expected.items() if name != "last_modified"
        }
    inventory_counts = first.facts["inventory"]
    lost = inventory_counts["superseded"] + sum(inventory_counts["not_current"].values())
    assert len(rows) == len(kept) + lost + inventory_counts["duplicates"]
    assert len(rows) - inventory_counts["duplicates"] == len(
        {frozenset(row.items()) for row in rows}
    )

    assert first.digest == second.digest
    assert {**second.facts, "files": 0} == {**first.facts, "files": 0}
    first.verify()
    shutil.rmtree(folder)


def test_the_newest_of_conflicting_rows_stays(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"key": "a", "size": 1, "etag": "old", "last_modified": 1_000},
        {"key": "a", "size": 2, "etag": "new", "last_modified": 2_000},
        {"key": "a", "size": 2, "etag": "new", "last_modified": 2_000},
        {"key": "a", "size": 3, "etag": "newer", "last_modified": 3_000, "not_current": "version"},
        {"key": "b", "size": 4, "not_current": "deleted"},
    ]
    manifest = freeze_rows(tmp_path / "manifest", rows)
    assert [(row["key"], row["etag"], row["reason"]) for row in all_rows(manifest)] == [
        ("a", "new", None),
        ("b", None, Reason.NOT_CURRENT),
    ]
    assert manifest.facts["inventory"] == {
        "rows": 5,
        "outside_prefix": 0,
        "duplicates": 1,
        "superseded": 1,
        "not_current": {"version": 1},
    }


def test_one_key_may_fill_many_batches(tmp_path: Path) -> None:
    versions: list[Row] = [
        {"key": "k", "size": number, "not_current": "version", "last_modified": number}
        for number in range(3_000)
    ]
    rows = [{"key": "a"}, *versions, {"key": "k", "size": 7}, {"key": "z"}]
    batches = [inventory(rows[at : at + 100]) for at in range(0, len(rows), 100)]
    spooled = freeze(batches, tmp_path / "manifest", options=plan())
    assert [(row["key"], row["size"]) for row in all_rows(spooled)] == [
        ("a", 0),
        ("k", 7),
        ("z", 0),
    ]
    assert spooled.facts["inventory"]["not_current"] == {"version": 3_000}


def test_many_ranges_keep_to_utf8_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeze_module, "RANGE_BYTES", MIB)
    alphabet = ["a", "~", "\x7f", "é", "\uffee", "😀", "/", "\x00"]
    generator = random.Random(5)
    keys = {"".join(generator.choices(alphabet, k=12)) + "x" * 200 for _ in range(60_000)}
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array(sorted(keys, key=hash)),
            pa.array([1] * len(keys), pa.int64()),
            *(pa.nulls(len(keys), one.type) for one in list(INVENTORY_SCHEMA)[2:]),
        ],
        schema=INVENTORY_SCHEMA,
    )
    manifest = freeze([rows], tmp_path / "manifest", options=plan())
    found = [row["key"] for row in all_rows(manifest)]
    assert found == sorted(keys, key=str.encode)


def test_temporary_files_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeze_module, "RANGE_BYTES", 10_000)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seen: set[str] = set()

    def batches() -> Iterator[pa.RecordBatch]:
        yield from (inventory(shuffled(numbered(500), seed)) for seed in range(2))
        seen.update(path.name for path in scratch.iterdir())

    elsewhere = freeze(batches(), tmp_path / "one" / "manifest", options=plan(), scratch=scratch)
    beside = freeze(batches(), tmp_path / "two" / "manifest", options=plan())
    assert seen, "rows have lain there"
    assert elsewhere.digest == beside.digest


# -- digests ---------------------------------------------------------------------------------------


def drawn_rows(count: int) -> Iterator[Row]:
    """Rows as inventories have them: some come twice, some have versions, some names clash."""
    draw = random.Random(14)
    for number in range(count):
        folder = f"project-{draw.randrange(20):04}/study-{draw.randrange(9):03}"
        key = f"{folder}/{draw.randbytes(4).hex()}{draw.choice(['.dcm', '.é', '//x', '/y', '.'])}"
        row: Row = {
            "key": folder if number % 97 == 0 else key,
            "size": draw.randrange(1 << (40 if number % 1_000 == 0 else 31)),
            "etag": draw.choice([None, draw.randbytes(8).hex()]),
            "last_modified": draw.choice([None, draw.randrange(1 << 40)]),
            "content_type": draw.choice([None, "application/dicom", "text/plain"]),
            "content_md5": draw.choice([None, draw.randbytes(16)]),
            "crc64nvme": draw.choice([None, draw.getrandbits(64)]),
            "tier": draw.choice(["Hot", "Cool", "Archive"]) if number % 50 == 0 else "Hot",
        }
        yield row
        if number % 11 == 0:
            yield row
        if number % 13 == 0:
            yield {**row, "etag": "other", "last_modified": draw.randrange(1 << 40)}
        if number % 17 == 0:
            yield {**row, "size": 5, "not_current": draw.choice(["version", "snapshot"])}
        if number % 101 == 0:
            yield {**row, "key": f"{key}/below"}


@functools.cache
def drawn_batches() -> tuple[pa.RecordBatch, ...]:
    rows = shuffled(list(drawn_rows(10_000)), 15)
    return tuple(inventory(rows[at : at + 3_000]) for at in range(0, len(rows), 3_000))


def shard_digest(manifest: Manifest) -> str:
    text = "\n".join(map(repr, manifest.shards()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


GOLDEN: dict[tuple[str, str], Any] = {
    ("aws", "escape"): ("4e7a546b11ff7f25", "193448773f949bad", 10_075, 10_020),
    ("rclone", "refuse"): ("959543bd37d684cf", "20d80dd6cdd12d42", 10_075, 7_907),
    ("rclone", "escape"): ("996369d47c33e7c3", "193448773f949bad", 10_075, 10_020),
}
"""By rules and names: digest of the rows and of the shards, objects, objects to move."""


@pytest.mark.parametrize("range_bytes", [100_000, RANGE_BYTES])
@pytest.mark.parametrize(("rules", "names"), sorted(GOLDEN))
def test_digests_are_those_of_earlier_versions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rules: str,
    names: Literal["refuse", "escape"],
    range_bytes: int,
) -> None:
    """Computed when one sort out of core put all rows in order."""
    monkeypatch.setattr(freeze_module, "RANGE_BYTES", range_bytes)
    options = plan(rules=known_name_rules(rules), names=names, shard_objects=700)
    manifest = freeze(drawn_batches(), tmp_path / "manifest", options=options)
    found = (
        manifest.digest[:16],
        shard_digest(manifest),
        manifest.objects,
        manifest.objects_to_move,
    )
    assert found == GOLDEN[rules, names]
    assert manifest.facts["inventory"] == {
        "rows": 12_369,
        "duplicates": 910,
        "superseded": 795,
        "not_current": {"snapshot": 283, "version": 306},
        "outside_prefix": 0,
    }


# -- shards and reading ----------------------------------------------------------------------------


def test_shards_hold_every_row_once_over_several_files(tmp_path: Path) -> None:
    rows = numbered(1_100)
    manifest = freeze_rows(tmp_path / "manifest", shuffled(rows, 1), plan(shard_objects=4))
    assert [len(manifest.read_shard(shard)) for shard in (0, 255, 256, 274)] == [4, 4, 4, 4]
    assert [file["name"] for file in manifest.facts["files"]] == [
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    entries = [entry for shard in manifest.shards() for entry in manifest.entries(shard.shard)]
    assert [entry.key for entry in entries] == [row["key"] for row in rows]
    assert [(entry.shard, entry.row) for entry in entries[:5]] == [(0, row) for row in range(4)] + [
        (1, 0)
    ]
    assert sum(shard.units for shard in manifest.shards()) == 1_100
    assert sum(shard.bytes for shard in manifest.shards()) == manifest.bytes_to_move == 1_100
    with pytest.raises(IndexError):
        manifest.shard(275)
    with pytest.raises(IndexError):
        manifest.read_shard(-1)


def test_stretches_are_shards_of_one_file(tmp_path: Path) -> None:
    manifest = freeze_rows(tmp_path / "manifest", numbered(1_100), plan(shard_objects=4))
    stretches = list(manifest.stretches(400))
    assert [(each.file, each.first, each.end) for each in stretches] == [
        *((0, 0, 100), (0, 100, 200), (0, 200, 256)),
        (1, 256, 275),
    ]
    assert [each.opens_file for each in stretches] == [True, False, False, True]
    assert [each.first_row for each in stretches] == [0, 400, 800, 1_024]
    assert sum(each.rows for each in stretches) == 1_100
    assert list(freeze_rows(tmp_path / "none", []).stretches(400)) == []


def test_shards_of_two_files_in_one_walk(tmp_path: Path) -> None:
    manifest = freeze_rows(tmp_path / "manifest", numbered(1_100), plan(shard_objects=4))
    tables = list(manifest.read_shards(254, 258, ["key"]))
    assert [table["key"][0].as_py() for table in tables] == [
        manifest.first_key(shard) for shard in range(254, 258)
    ]
    assert [table.column_names for table in tables] == [["key"]] * 4


def test_a_footer_is_parsed_once_for_all_shards_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = freeze_rows(tmp_path / "manifest", numbered(1_100), plan(shard_objects=4))
    parsed: list[str] = []

    def noting(path: Path) -> pq.FileMetaData:
        parsed.append(path.name)
        return read_metadata(path)

    read_metadata = pq.read_metadata
    monkeypatch.setattr(pq, "read_metadata", noting)
    keys = [entry.key for shard in manifest.shards() for entry in manifest.entries(shard.shard)]
    assert keys == [row["key"] for row in numbered(1_100)]
    assert manifest.first_key(0) == keys[0]
    assert parsed == ["part-00000.parquet", "part-00001.parquet"]


def test_entries_of_a_span(tmp_path: Path) -> None:
    rows = numbered(20_000)
    manifest = freeze_rows(tmp_path / "manifest", rows, plan(shard_objects=20_000))
    for first, end in ((0, 0), (0, 3), (8_190, 8_195), (19_999, 20_000), (16_384, 30_000)):
        entries = list(manifest.entries(0, first, end))
        assert [entry.row for entry in entries] == list(range(first, min(end, 20_000)))
        assert all(entry.key == f"object-{entry.row:06d}" for entry in entries)


def test_an_entry_says_what_a_worker_needs(tmp_path: Path) -> None:
    rows = [FULL_ROW | {"customer_key_sha256": None}, {"key": "a//b", "size": 5}]
    rules = NameRules(merges_slashes=True)
    options = plan(rules=rules, names="escape")
    first, second = freeze_rows(tmp_path / "manifest", rows, options).entries(0)
    assert first.target_key == escape_name("a//b", options.limits, rules)
    assert (first.key, first.reason, first.etag) == ("a//b", None, None)
    assert (second.key, second.target_key) == ("dir/é.txt", "dir/é.txt")
    assert (second.size, second.etag, second.version_id) == (12, "0x8DC", "v1")
    assert second.crc64nvme == 2**64 - 1


def test_a_huge_object_is_a_shard_of_parts(tmp_path: Path) -> None:
    sizes = {"a": 10, "huge": 1000 * MIB, "refused": 1000 * MIB, "z": 100 * MIB}
    rows: list[Row] = [{"key": key, "size": size} for key, size in sizes.items()]
    rows[2]["tier"] = "Archive"
    options = plan(
        "scaleway", part_bytes=16 * MIB, chunk_bytes=MIB, segment_bytes=100 * MIB, shard_objects=9
    )
    manifest = freeze_rows(tmp_path / "manifest", rows, options)
    before, huge, after = manifest.shards()
    assert (before.kind, before.units, before.bytes) == (ShardKind.OBJECTS, 1, 10)
    assert (huge.kind, huge.units, huge.units_per_lease) == (ShardKind.PARTS, 63, 6)
    assert (after.units, after.bytes) == (2, 100 * MIB)
    assert manifest.fit(huge.bytes) == fit_parts(
        1000 * MIB, limits_for("scaleway"), part_bytes=16 * MIB, chunk_bytes=MIB
    )
    assert open_manifest(manifest.directory).fit(1000 * MIB).parts == 63


@pytest.mark.parametrize(
    ("size", "each"), [(1, 16), (16 * 1024, 16), (24 * 1024 + 1, 32), (50_000, 56), (10**6, 64)]
)
def test_parts_may_suit_the_bytes_to_move(tmp_path: Path, size: int, each: int) -> None:
    """`size` and `each` in MiB."""
    rows: list[Row] = [{"key": "a", "size": size * MIB}]
    rows.append({"key": "refused", "size": 10**14, "tier": "Archive"})
    manifest = freeze_rows(tmp_path / "manifest", rows, plan(), suit_parts=True)
    assert manifest.options.part_bytes == each * MIB
    assert open_manifest(manifest.directory).options.part_bytes == each * MIB
    assert [manifest.fit(size * MIB).parts for size in (1, 15, 16, each, each + 1)] == [
        0,
        0,
        1,
        1,
        2,
    ]
    huge = [shard for shard in manifest.shards() if shard.kind is ShardKind.PARTS]
    assert [shard.units for shard in huge] == [manifest.fit(size * MIB).parts] * len(huge)


def test_counts_and_histogram(tmp_path: Path) -> None:
    sizes = [0, 1, 2, 3, 4, 2**40 - 1, 2**40, 2**48 - 1, 2**48]
    rows: list[Row] = [{"key": f"{at}", "size": size} for at, size in enumerate(sizes)]
    rows += [{"key": "x", "size": 7, "tier": "Archive"}, {"key": "y", "is_folder": True}]
    manifest = freeze_rows(tmp_path / "manifest", rows, plan("azure"))
    assert manifest.objects == 11
    assert manifest.bytes == sum(sizes) + 7
    assert manifest.objects_to_move == 7
    assert manifest.bytes_to_move == sum(sizes[:7])
    assert manifest.facts["reasons"] == {
        "archived": {"objects": 1, "bytes": 7},
        "folder_stub": {"objects": 1, "bytes": 0},
        "too_large": {"objects": 2, "bytes": 2**49 - 1},
    }
    assert [(size["below"], size["objects"]) for size in manifest.facts["sizes"]] == [
        (1, 2),
        (2, 1),
        (4, 2),
        (8, 2),
        (2**40, 1),
        (2**41, 1),
        (2**48, 1),
        (2**49, 1),
    ]


def test_an_empty_inventory_is_a_manifest(tmp_path: Path) -> None:
    for name, batches in (("none", []), ("empty", [inventory([])])):
        manifest = freeze(batches, tmp_path / name, options=plan())
        assert (manifest.objects, manifest.bytes_to_move, manifest.shards()) == (0, 0, [])
        assert manifest.digest == digest_by_hand([])
        open_manifest(tmp_path / name).verify()


def test_the_source_prefix_goes_and_strangers_are_counted(tmp_path: Path) -> None:
    keys = ["data/é/b", "data/é/a", "data/x", "other", "data/é/"]
    rows = [{"key": key} for key in keys]
    manifest = freeze_rows(
        tmp_path / "manifest", rows, plan(target_prefix="to/"), source_prefix="data/é/"
    )
    assert [row["key"] for row in all_rows(manifest)] == ["", "a", "b"]
    assert manifest.facts["inventory"]["outside_prefix"] == 2
    assert manifest.facts["inventory"]["rows"] == 5
    assert manifest.objects_to_move == 3


# -- names that clash ------------------------------------------------------------------------------


@pytest.fixture(params=[1, RANGE_BYTES])
def range_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Each key in a range of its own, or all in one."""
    monkeypatch.setattr(freeze_module, "RANGE_BYTES", request.param)
    return int(request.param)


CLASHES = ["f", "f!", "f/g", "f/g/h", "f/h", "g", "gg/x", "deep/a/b/c", "deep", "deep/a"]
CLASHING = {"f", "f/g", "deep", "deep/a"}


@pytest.mark.usefixtures("range_bytes")
def test_a_file_that_is_a_folder_is_refused_where_both_cannot_be(tmp_path: Path) -> None:
    rows = [{"key": key} for key in CLASHES]
    rules = known_name_rules("rclone")
    refused = freeze_rows(tmp_path / "manifest", rows, plan(rules=rules))
    assert {row["key"]: row["reason"] for row in all_rows(refused)} == {
        key: Reason.NAME_REFUSED if key in CLASHING else None for key in CLASHES
    }
    assert freeze_rows(tmp_path / "manifest", rows).facts["reasons"] == {}


@pytest.mark.usefixtures("range_bytes")
def test_a_file_that_is_a_folder_can_be_escaped(tmp_path: Path) -> None:
    options = plan(rules=known_name_rules("rclone"), names="escape")
    rows = [{"key": key} for key in CLASHES]
    found = all_rows(freeze_rows(tmp_path / "manifest", rows, options))
    assert all(row["reason"] is None for row in found)
    assert {row["key"]: row["target_key"] for row in found} == {
        key: escape_name(key, options.limits, options.rules) if key in CLASHING else None
        for key in CLASHES
    }


@pytest.mark.usefixtures("range_bytes")
def test_only_what_lands_can_clash(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"key": "f"},
        {"key": "f/g", "tier": "Archive"},
        {"key": "stub", "is_folder": True},
        {"key": "stub/x"},
        {"key": "v", "not_current": "version"},
        {"key": "v/x"},
    ]
    found = all_rows(
        freeze_rows(tmp_path / "manifest", rows, plan(rules=known_name_rules("local")))
    )
    assert {row["key"] for row in found if row["reason"] is None} == {"f", "stub/x", "v/x"}


@pytest.mark.usefixtures("range_bytes")
def test_an_escaped_name_never_takes_the_place_of_another_object(tmp_path: Path) -> None:
    options = plan(rules=NameRules(merges_slashes=True), names="escape")
    taken = escape_name("a//b", options.limits, options.rules)
    rows = [{"key": "a//b"}, {"key": taken}, {"key": "c//d"}]
    found = {row["key"]: row for row in all_rows(freeze_rows(tmp_path / "m", rows, options))}
    assert (found["a//b"]["reason"], found["a//b"]["target_key"]) == (Reason.NAME_MERGED, None)
    assert (found[taken]["reason"], found[taken]["target_key"]) == (None, None)
    assert found["c//d"]["target_key"] == escape_name("c//d", options.limits, options.rules)


def test_versions_that_a_filter_left_out_count_with_the_others(tmp_path: Path) -> None:
    left_out = {PassedOver.NOT_CURRENT: 3, PassedOver.FILTERED_AGE: 2}
    manifest = freeze(
        [inventory(numbered(5))],
        tmp_path / "manifest",
        options=plan(),
        passed_over=lambda: left_out,
    )
    assert manifest.passed_over["not_current"] == 3
    assert manifest.facts["inventory"]["rows"] == 10


def test_a_small_machine_plans_what_fits_into_one_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "machine_bytes", lambda: 512 << 20)
    assert freeze([inventory(numbered(500))], tmp_path / "one", options=plan()).objects == 500
    monkeypatch.setattr(freeze_module, "RANGE_BYTES", 10_000)
    with pytest.raises(JobDirectoryError, match=r"to plan takes 1\.1 GB of memory"):
        freeze([inventory(numbered(500))], tmp_path / "two", options=plan())
