from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.manifests.errors import ConfigurationError, TargetRefused
from noria.manifests.model import Reason, ShardKind
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import PartPlan, fit_parts, largest_object, part_at
from noria.manifests.plan.providers import (
    GIB,
    MIB,
    PROVIDERS,
    TB,
    NameRules,
    known_name_rules,
    limits_for,
)
from noria.manifests.plan.shards import (
    MIN_SHARD_BYTES,
    OWN_METADATA_BYTES,
    Cut,
    ShardCaps,
    classify,
    cut_shards,
    shard_caps,
)
from tests.support.rows import inventory, plan

patient = settings(deadline=None)  # a busy machine is no failure

# -- parts -----------------------------------------------------------------------------------------

part_sizes = st.builds(
    lambda chunk, parts: (chunk * MIB, chunk * parts * MIB), *[st.integers(1, 16)] * 2
)


@patient
@given(st.sampled_from(PROVIDERS), st.integers(0, 300 * TB), part_sizes)
def test_parts_keep_every_limit(name: str, size: int, sizes: tuple[int, int]) -> None:
    chunk_bytes, part_bytes = sizes
    limits = limits_for(name)
    try:
        fitted = fit_parts(size, limits, part_bytes=part_bytes, chunk_bytes=chunk_bytes)
    except TargetRefused:
        assert size > largest_object(limits, part_bytes=part_bytes, chunk_bytes=chunk_bytes)
        return
    if fitted.parts == 0:
        assert size <= min(part_bytes, limits.max_put_bytes)
        return
    assert size <= limits.max_object_bytes
    assert fitted.parts <= limits.max_parts
    assert limits.min_part_bytes <= fitted.part_bytes <= limits.max_part_bytes
    assert fitted.part_bytes % chunk_bytes == 0
    assert fitted.parts == -(-size // fitted.part_bytes)


@patient
@given(st.integers(1, 10**6), st.integers(1, 10**5))
def test_parts_cover_an_object_without_a_gap(size: int, part_bytes: int) -> None:
    count = min(-(-size // part_bytes), 50)
    parts = [part_at(size, part_bytes, number) for number in range(1, count + 1)]
    assert parts[0].offset == 0
    assert all(one.offset + one.size == other.offset for one, other in pairwise(parts))
    last = part_at(size, part_bytes, -(-size // part_bytes))
    assert last.offset + last.size == size
    for beyond in (0, -(-size // part_bytes) + 1):
        with pytest.raises(ValueError, match="no part"):
            part_at(size, part_bytes, beyond)


def test_an_object_of_one_part_goes_in_one_put() -> None:
    for size in (0, 1, 64 * MIB):
        fitted = fit_parts(size, limits_for("aws"), part_bytes=64 * MIB, chunk_bytes=8 * MIB)
        assert fitted == PartPlan(part_bytes=64 * MIB, parts=0)
    fitted = fit_parts(64 * MIB + 1, limits_for("aws"), part_bytes=64 * MIB, chunk_bytes=8 * MIB)
    assert fitted == PartPlan(part_bytes=64 * MIB, parts=2)


def test_scaleway_parts_grow_with_the_object() -> None:
    def fit(size: int) -> PartPlan:
        return fit_parts(size, limits_for("scaleway"), part_bytes=64 * MIB, chunk_bytes=8 * MIB)

    assert fit(1000 * 64 * MIB) == PartPlan(part_bytes=64 * MIB, parts=1000)
    assert fit(1000 * 64 * MIB + 1) == PartPlan(part_bytes=72 * MIB, parts=889)
    assert fit(TB) == PartPlan(part_bytes=120 * 8 * MIB, parts=994)
    assert fit(4_999_610_368_000) == PartPlan(part_bytes=596 * 8 * MIB, parts=1000)
    for size in (4_999_610_368_001, 5 * TB, 6 * TB):
        with pytest.raises(TargetRefused, match="too large for scaleway"):
            fit(size)


def test_an_object_at_the_very_limit_fits_where_chunks_divide_it() -> None:
    scaleway = limits_for("scaleway")
    fitted = fit_parts(5 * TB, scaleway, part_bytes=50_000_000, chunk_bytes=10_000_000)
    assert fitted == PartPlan(part_bytes=5_000_000_000, parts=1000)


def test_a_small_part_size_is_raised_to_what_the_target_takes() -> None:
    fitted = fit_parts(100 * MIB, limits_for("aws"), part_bytes=MIB, chunk_bytes=MIB)
    assert fitted == PartPlan(part_bytes=5 * MIB, parts=20)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part_bytes": 10, "chunk_bytes": 4}, "multiple"),
        ({"shard_objects": 0}, "at least 1"),
        ({"names": "rename"}, "'refuse' or 'escape'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan(**options)


@pytest.mark.parametrize("name", PROVIDERS)
def test_options_survive_json(name: str) -> None:
    options = plan(name, known_name_rules(name), names="escape", target_prefix="to/")
    assert PlanOptions.from_json(json.loads(json.dumps(options.as_json()))) == options


# -- reasons ---------------------------------------------------------------------------------------


def reasons(rows: list[dict[str, Any]], options: PlanOptions | None = None) -> list[str | None]:
    result: list[str | None] = (
        classify(inventory(rows), options or plan()).column("reason").to_pylist()
    )
    return result


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, None),
        ({"is_folder": True}, Reason.FOLDER_STUB),
        ({"is_folder": False}, None),
        ({"not_current": "snapshot"}, Reason.NOT_CURRENT),
        ({"tier": "Archive"}, Reason.ARCHIVED),
        ({"tier": "Archive", "archive_status": "rehydrate-pending-to-hot"}, Reason.ARCHIVED),
        ({"tier": "Hot"}, None),
        ({"tier": "Cold"}, None),
        ({"tier": "GLACIER"}, Reason.ARCHIVED),
        ({"tier": "DEEP_ARCHIVE"}, Reason.ARCHIVED),
        ({"tier": "GLACIER", "archive_status": "restored"}, None),
        ({"tier": "GLACIER_IR"}, None),
        ({"tier": "INTELLIGENT_TIERING"}, None),
        ({"tier": "INTELLIGENT_TIERING", "archive_status": "DEEP_ARCHIVE"}, Reason.ARCHIVED),
        ({"customer_key_sha256": "abc"}, Reason.CUSTOMER_KEY),
        ({"size": 10_000 * 5 * GIB}, None),
        ({"size": 10_000 * 5 * GIB + 1}, Reason.TOO_LARGE),
        ({"metadata": json.dumps({"name": "v" * 3000})}, Reason.METADATA_TOO_LARGE),
        ({"key": "k" * 1024}, None),
        ({"key": "k" * 1025}, Reason.NAME_TOO_LONG),
        ({"key": "", "size": 0}, Reason.FOLDER_STUB),
        ({"key": "", "size": 1}, Reason.NAME_REFUSED),
    ],
)
def test_every_reason(row: dict[str, Any], reason: Reason | None) -> None:
    # Beside an ordinary row, so that a column is never all null.
    plain = {"key": "plain", "tier": "Hot", "is_folder": False, "metadata": "{}"}
    assert reasons([{"key": "k", **row}, plain]) == [reason, None]
    assert reasons([{"key": "k", **row}]) == [reason]


def test_the_first_reason_counts() -> None:
    row: dict[str, Any] = {"key": "a//b", "size": 100 * TB, "tier": "Archive"}
    rules = known_name_rules("seaweedfs")
    steps: list[tuple[str, Any, Reason]] = [
        ("is_folder", None, Reason.FOLDER_STUB),
        ("not_current", None, Reason.NOT_CURRENT),
        ("tier", "Hot", Reason.ARCHIVED),
        ("customer_key_sha256", None, Reason.CUSTOMER_KEY),
        ("size", 1, Reason.TOO_LARGE),
        ("metadata", None, Reason.METADATA_TOO_LARGE),
    ]
    row |= {"is_folder": True, "not_current": "deleted", "customer_key_sha256": "abc"}
    row |= {"metadata": json.dumps({"a": "b" * 2048})}
    for column, harmless, reason in steps:
        assert reasons([row], plan(rules=rules)) == [reason]
        row[column] = harmless
    assert reasons([row], plan(rules=rules)) == [Reason.NAME_MERGED]
    assert reasons([row]) == [None]


@patient
@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=300),
        st.text('x"\\\n\x01é😀', max_size=400),
        max_size=6,
    ),
    st.booleans(),
)
def test_metadata_is_counted_in_utf8_bytes(metadata: dict[str, str], ascii_json: bool) -> None:
    taken = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    text = json.dumps(metadata, ensure_ascii=ascii_json, sort_keys=True, separators=(",", ":"))
    too_large = taken > 2048 - OWN_METADATA_BYTES
    assert (reasons([{"key": "k", "metadata": text}]) == [Reason.METADATA_TOO_LARGE]) == too_large


def test_the_target_prefix_counts() -> None:
    rows = [{"key": "k" * 1000}, {"key": "/k"}]
    assert reasons(rows, plan(target_prefix="p" * 23 + "/")) == [None, None]
    assert reasons(rows, plan(target_prefix="p" * 24 + "/")) == [Reason.NAME_TOO_LONG, None]
    merges = NameRules(merges_slashes=True)
    assert reasons(rows, plan(rules=merges, target_prefix="p/")) == [None, Reason.NAME_MERGED]
    assert reasons(rows, plan(rules=merges, target_prefix="p-")) == [None, None]


def test_escaped_names_land_and_others_keep_theirs() -> None:
    options = plan("seaweedfs", known_name_rules("seaweedfs"), names="escape")
    rows = [{"key": "a//b"}, {"key": "plain"}, {"key": "x\\y", "tier": "Archive"}]
    batch = classify(inventory(rows), options)
    assert batch.column("reason").to_pylist() == [None, None, Reason.ARCHIVED]
    first, *others = batch.column("target_key").to_pylist()
    assert first.startswith("a/%2F/b~")
    assert others == [None, None]


def test_a_prefix_that_the_target_cannot_hold_is_no_escape() -> None:
    options = plan("seaweedfs", known_name_rules("seaweedfs"), names="escape", target_prefix="a//")
    batch = classify(inventory([{"key": "plain"}]), options)
    assert batch.column("reason").to_pylist() == [Reason.NAME_MERGED]
    assert batch.column("target_key").to_pylist() == [None]


# -- shards ----------------------------------------------------------------------------------------

caps = st.builds(
    ShardCaps,
    shard_bytes=st.integers(1, 300),
    shard_objects=st.integers(1, 20),
    huge_bytes=st.integers(50, 200),
)
sizes = st.lists(st.one_of(st.just(0), st.integers(0, 60), st.integers(0, 400)), max_size=80)


def cut_in_windows(sizes: list[int], caps: ShardCaps, ends: list[int]) -> list[Cut]:
    """The cuts of rows handed in window by window, in positions of the whole."""
    cuts: list[Cut] = []
    done = 0
    for end in sorted({min(end, len(sizes)) for end in ends} | {len(sizes)}):
        window = pa.array(sizes[done:end], pa.int64())
        found = cut_shards(window, caps, last=end == len(sizes))
        cuts += [
            Cut(first=cut.first + done, end=cut.end + done, kind=cut.kind, bytes=cut.bytes)
            for cut in found
        ]
        done = cuts[-1].end if cuts else 0
    return cuts


@patient
@given(sizes, caps, st.lists(st.integers(0, 80), max_size=6))
def test_shards_cover_every_row_once_and_keep_the_caps(
    sizes: list[int], caps: ShardCaps, ends: list[int]
) -> None:
    cuts = cut_shards(pa.array(sizes, pa.int64()), caps, last=True)
    assert [row for cut in cuts for row in range(cut.first, cut.end)] == list(range(len(sizes)))
    for cut in cuts:
        held = sizes[cut.first : cut.end]
        assert sum(held) == cut.bytes
        huge = [size for size in held if size > caps.huge_bytes]
        if cut.kind is ShardKind.PARTS:
            assert held == huge
            assert len(held) == 1
        else:
            assert not huge
            assert 1 <= len(held) <= caps.shard_objects
            assert len(held) == 1 or cut.bytes <= caps.shard_bytes
    assert cut_in_windows(sizes, caps, ends) == cuts


@patient
@given(sizes, caps)
def test_no_shard_ends_before_it_must(sizes: list[int], caps: ShardCaps) -> None:
    for one, other in pairwise(cut_shards(pa.array(sizes, pa.int64()), caps, last=True)):
        if one.kind is other.kind is ShardKind.OBJECTS:
            full = one.end - one.first == caps.shard_objects
            assert full or one.bytes + sizes[other.first] > caps.shard_bytes


def test_a_slice_of_a_column_is_cut_as_its_own_rows() -> None:
    column = pa.array([9, 9, 1, 2, 3], pa.int64()).slice(2)
    tight = ShardCaps(shard_bytes=3, shard_objects=10, huge_bytes=100)
    assert [(cut.end, cut.bytes) for cut in cut_shards(column, tight, last=True)] == [
        (2, 3),
        (3, 3),
    ]


def test_a_small_job_is_cut_for_many_workers() -> None:
    options = plan(target_shards=32)
    small = shard_caps(options, total_bytes=32 * GIB, total_objects=3_200)
    assert (small.shard_bytes, small.shard_objects) == (GIB, 100)
    tiny = shard_caps(options, total_bytes=1, total_objects=1)
    assert (tiny.shard_bytes, tiny.shard_objects) == (MIN_SHARD_BYTES, 64)
    large = shard_caps(options, total_bytes=10**16, total_objects=10**9)
    assert (large.shard_bytes, large.shard_objects) == (64 * GIB, 100_000)


def test_an_object_of_one_part_is_never_huge() -> None:
    options = plan(segment_bytes=8 * MIB, part_bytes=64 * MIB)
    assert shard_caps(options, total_bytes=1, total_objects=1).huge_bytes == 64 * MIB
