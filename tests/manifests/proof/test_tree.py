"""Merkle trees: the vectors of Certificate Transparency, and a naive tree beside ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from noria.manifests.proof.leaf import leaf_hash
from noria.manifests.proof.tiles import StoredTree, TileFolder, grouped, tile_name
from noria.manifests.proof.tree import (
    EMPTY_ROOT,
    TreeBuilder,
    inclusion_path,
    root_of_path,
    tile_width,
)
from tests.support.proof_by_hand import root_by_hand

CT_LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Of the first 1, 2, ... leaves; from the tests of certificate-transparency-go."""


@dataclass
class Tiles:
    """In memory."""

    written: dict[tuple[int, int], list[bytes]] = field(default_factory=dict)

    def write(self, level: int, index: int, hashes: Sequence[bytes]) -> None:
        assert (level, index) not in self.written
        self.written[level, index] = list(hashes)


@dataclass
class Hashes:
    """A HashSource over what is in memory."""

    leaves: list[bytes]
    tiles: Tiles

    def leaf(self, index: int) -> bytes:
        return self.leaves[index]

    def tile_hash(self, level: int, index: int) -> bytes:
        return self.tiles.written[level, index // 256][index % 256]


def numbered(count: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % number).digest() for number in range(count)]


def built(leaves: list[bytes], pieces: Sequence[int] = (1, 300, 7)) -> tuple[bytes, Tiles]:
    tiles, at = Tiles(), 0
    builder = TreeBuilder(tiles)
    for turn in range(len(leaves) + 1):
        piece = leaves[at : at + pieces[turn % len(pieces)]]
        builder.add(piece)
        at += len(piece)
    builder.add(leaves[at:])
    assert builder.size == len(leaves)
    return builder.finish(), tiles


@pytest.mark.parametrize("count", range(1, 9))
def test_the_vectors_of_certificate_transparency(count: int) -> None:
    root, _ = built([leaf_hash(leaf) for leaf in CT_LEAVES[:count]])
    assert root.hex() == CT_ROOTS[count - 1]


def test_an_empty_tree_has_the_root_of_nothing() -> None:
    root, tiles = built([])
    assert root == EMPTY_ROOT == hashlib.sha256(b"").digest()
    assert tiles.written == {}


@given(st.integers(0, 70_000), st.lists(st.integers(1, 5_000), min_size=1, max_size=4))
@example(255, [1])
@example(256, [256])
@example(257, [300])
@example(65_535, [4_096])
@example(65_536, [1_000])
@example(70_000, [4_999])
@settings(max_examples=15, deadline=None)
def test_a_tree_of_any_size_is_the_naive_one(count: int, pieces: list[int]) -> None:
    leaves = numbered(count)
    root, tiles = built(leaves, pieces)
    assert root == root_by_hand(leaves)
    for (level, index), hashes in tiles.written.items():
        assert len(hashes) == tile_width(count, level, index)
        span = 256**level
        for at in (0, len(hashes) - 1):
            first = (index * 256 + at) * span
            assert hashes[at] == root_by_hand(leaves[first : first + span])
    stored = sum(len(hashes) for hashes in tiles.written.values())
    assert stored == sum(count // 256**level for level in (1, 2))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_every_leaf_has_a_path_that_gives_the_root_and_no_other_has(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 2_000) | st.just(66_000))
    index = data.draw(st.integers(0, count - 1))
    leaves = numbered(count)
    root, tiles = built(leaves)
    path = inclusion_path(index, count, Hashes(leaves, tiles))
    assert root_of_path(leaves[index], index, count, path) == root
    assert given_by(leaves[index], index ^ 1, count, path) != root
    assert given_by(hashlib.sha256(b"other").digest(), index, count, path) != root
    assert given_by(leaves[index], index, count, path[:-1]) != root or count == 1
    assert given_by(leaves[index], index, count, [*path, root]) != root


def given_by(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    try:
        return root_of_path(leaf, index, size, path)
    except ValueError:
        return None


def test_there_is_no_path_of_a_leaf_that_is_not_there() -> None:
    for index in (-1, 3):
        with pytest.raises(IndexError):
            inclusion_path(index, 3, Hashes(numbered(3), Tiles()))
        with pytest.raises(ValueError, match="no such leaf"):
            root_of_path(b"", index, 3, [])


def test_tiles_are_named_and_stored_as_c2sp_says(tmp_path: Path) -> None:
    assert [grouped(number) for number in (5, 1_000, 1_234_067)] == [
        "005",
        "x001/000",
        "x001/x234/067",
    ]
    assert tile_name(1, 1_234_067, 256) == "tile/1/x001/x234/067"
    leaves = numbered(70_000)
    builder = TreeBuilder(TileFolder(tmp_path))
    builder.add(leaves)
    root = builder.finish()
    files = {
        each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*") if each.is_file()
    }
    # As the example of the specification, without level 0.
    assert files == {"tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"}
    assert (tmp_path / "tile/1/000").stat().st_size == 8_192
    stored = StoredTree(tmp_path, 70_000, lambda index: leaves[index])
    for index in (0, 255, 65_535, 65_536, 69_887, 69_888, 69_999):
        path = inclusion_path(index, 70_000, stored)
        assert root_of_path(leaves[index], index, 70_000, path) == root


def test_a_tile_of_another_length_is_not_read(tmp_path: Path) -> None:
    builder = TreeBuilder(TileFolder(tmp_path))
    builder.add(numbered(600))
    builder.finish()
    (tmp_path / "tile/1/000.p/2").write_bytes(b"\0" * 63)
    with pytest.raises(ValueError, match="has not 2 hashes"):
        StoredTree(tmp_path, 600, lambda index: b"").tile_hash(1, 0)
