"""Leaves: byte for byte as the format says, whatever receipts hold."""

from __future__ import annotations

import contextlib
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from noria.manifests.job.receipts import with_all_columns
from noria.manifests.model import Level, Outcome
from noria.manifests.proof.leaf import HEAD_BYTES, Leaves, leaf_hash, leaves_of, read_leaf
from noria.manifests.schema import FIRST_RECEIPT_SCHEMA, RECEIPT_SCHEMA
from tests.support.proof_by_hand import leaf_by_hand, leaf_hash_by_hand
from tests.support.rows import Row

BARE: Row = {
    **dict.fromkeys(RECEIPT_SCHEMA.names),
    "row": 0,
    "key": "a",
    "target_key": "a",
    "outcome": "TRANSFERRED",
    "size": 0,
    "parts": 0,
    "bytes_moved": 0,
    "attempt": 1,
    "finished_ms": 1,
}
FULL: Row = {
    **BARE,
    "key": "d/é",
    "target_key": "d/e",
    "size": 2**62,
    "cause": "c",
    "message": "",
    "level": "chained",
    "level_reason": "r",
    "source_etag": "se",
    "source_version": "sv",
    "target_etag": "te",
    "target_version": "tv",
    "txid": "t",
    "crc64nvme": 2**64 - 1,
    "chunk_bytes": 0,
    "chunks": b"\1" * 16,
    "root": b"\2" * 32,
    "parts": 2**31 - 1,
    "bytes_moved": 2**63 - 1,
    "attempt": 2**63 - 1,
    "finished_ms": -1,
    "changes": "x,y",
    "delta": "new",
    "guard": "look",
}
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
OPTIONAL = {
    name: st.none() | NAMES
    for name in (
        *("cause", "message", "level_reason", "source_etag", "source_version", "target_etag"),
        *("target_version", "txid", "changes", "delta", "guard"),
    )
}
RECEIPTS = st.fixed_dictionaries(
    {
        **{name: st.just(value) for name, value in BARE.items()},
        **OPTIONAL,
        "key": NAMES,
        "target_key": NAMES,
        "outcome": st.sampled_from([each.value for each in Outcome]),
        "level": st.none() | st.sampled_from([each.value for each in Level]),
        "size": st.integers(0, 2**63 - 1),
        "crc64nvme": st.none() | st.integers(0, 2**64 - 1),
        "chunk_bytes": st.none() | st.integers(0, 2**63 - 1),
        "root": st.none() | st.binary(min_size=32, max_size=32),
        "parts": st.integers(0, 2**31 - 1),
    }
)


def made(receipts: list[Row]) -> list[Leaves]:
    return list(leaves_of(pa.Table.from_pylist(receipts, schema=RECEIPT_SCHEMA)))


@given(st.lists(RECEIPTS, max_size=8))
@example([BARE, FULL])
@example([FULL])
@settings(max_examples=60)
def test_leaves_are_what_the_format_says(receipts: list[Row]) -> None:
    found = [leaf for leaves in made(receipts) for leaf in leaves]
    assert found == [leaf_by_hand(each) for each in receipts]
    hashes = [each for leaves in made(receipts) for each in leaves.hashes()]
    assert hashes == [leaf_hash_by_hand(leaf) for leaf in found]
    assert hashes == [leaf_hash(leaf) for leaf in found]


@given(RECEIPTS)
@example(FULL)
@settings(max_examples=60)
def test_a_leaf_says_all_of_its_receipt_but_the_chunks(receipt: Row) -> None:
    found = read_leaf(leaf_by_hand(receipt), row=3)
    for name in RECEIPT_SCHEMA.names:
        expected: Any = {"row": 3, "chunks": None}.get(name, receipt[name])
        assert getattr(found, name) == expected, name


def test_rows_of_a_slice_of_several_chunks_are_taken_as_they_are() -> None:
    rows = [{**FULL, "key": f"{number:05}"} for number in range(9_000)]
    table = pa.concat_tables([pa.Table.from_pylist(rows, schema=RECEIPT_SCHEMA)] * 2).slice(100)
    found = [leaf for leaves in leaves_of(table) for leaf in leaves]
    assert found == [leaf_by_hand(row) for row in (rows * 2)[100:]]


def test_receipts_of_earlier_versions_have_leaves_too() -> None:
    early = pa.Table.from_pylist([FULL], schema=RECEIPT_SCHEMA).select(FIRST_RECEIPT_SCHEMA.names)
    (leaves,) = leaves_of(with_all_columns(early.cast(FIRST_RECEIPT_SCHEMA)))
    without = {**FULL, "changes": None, "delta": None, "guard": None}
    assert list(leaves) == [leaf_by_hand(without)]


def test_a_root_of_another_length_has_no_leaf() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        made([BARE, {**BARE, "root": b"\2" * 31}])


@pytest.mark.parametrize("at", range(HEAD_BYTES))
def test_no_byte_of_a_head_is_without_a_meaning(at: int) -> None:
    """Another byte is another receipt, or none."""
    leaf = bytearray(leaf_by_hand(FULL))
    leaf[at] ^= 0x40
    with contextlib.suppress(ValueError):
        assert read_leaf(bytes(leaf)) != read_leaf(leaf_by_hand(FULL))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda leaf: leaf[:50], "short"),
        (lambda leaf: leaf + b"x", "long"),
        (lambda leaf: leaf[:-1], "long"),
        (lambda leaf: b"\2" + leaf[1:], "version"),
        (lambda leaf: leaf[:1] + b"\4" + leaf[2:], "version"),
        (lambda leaf: leaf[:17] + b"\1" + leaf[18:], "not there"),
        (lambda leaf: leaf[:54] + b"\xff" * 4 + leaf[58:-1], "lacks"),
    ],
)
def test_a_malformed_leaf_is_none(change: Any, why: str) -> None:
    short = {**BARE, "target_key": "", "outcome": "FAILED"}
    leaf = leaf_by_hand(short)
    if why == "lacks":  # its key is null, and nothing is left of it
        leaf = leaf_by_hand({**short, "key": "a"})
        leaf = leaf[:118] + leaf[119:] + b"a"
    with pytest.raises(ValueError, match=why):
        read_leaf(change(leaf))
