"""Merkle trees as RFC 6962 has them: roots, paths, and what a path proves.

Hashes are SHA-256 digests of 32 bytes. A tile is 256 hashes in a row of one level; hash i of level
L is the root of the 256^L leaves from i * 256^L on. Level 0 is the hashes of leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

TILE_BITS: Final = 8
TILE_HASHES: Final = 1 << TILE_BITS
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


class TileSink(Protocol):
    """What takes the hashes of levels 1 and above."""

    def write(self, level: int, index: int, hashes: Sequence[bytes]) -> None:
        """A tile, in the order in which tiles of a level are filled; fewer than 256: the last."""


class HashSource(Protocol):
    """What has the hashes of a tree."""

    def leaf(self, index: int) -> bytes:
        """The hash of a leaf."""

    def tile_hash(self, level: int, index: int) -> bytes:
        """Hash `index` of a level from 1 on."""


class TreeBuilder:
    """A tree whose leaves come in order; holds 256 hashes of each level."""

    def __init__(self, tiles: TileSink) -> None:
        self._tiles = tiles
        self._levels: list[list[bytes]] = [[]]
        self._written: list[int] = [0]
        """Whole tiles of each level."""
        self.size = 0

    def add(self, hashes: Sequence[bytes]) -> None:
        """Add the hashes of the next leaves."""
        self.size += len(hashes)
        first = 0
        pending = self._levels[0]
        while first < len(hashes):
            taken = hashes[first : first + TILE_HASHES - len(pending)]
            pending += taken
            first += len(taken)
            if len(pending) == TILE_HASHES:
                self._lift(0)

    def _lift(self, level: int) -> None:
        """A level has a whole tile: its root goes to the level above."""
        full = self._levels[level]
        if level:
            self._tiles.write(level, self._written[level], full)
        self._written[level] += 1
        if level + 1 == len(self._levels):
            self._levels.append([])
            self._written.append(0)
        above = self._levels[level + 1]
        above.append(_whole_root(full))
        full.clear()
        if len(above) == TILE_HASHES:
            self._lift(level + 1)

    def finish(self) -> bytes:
        """Write the last tile of each level, and return the root; no leaf may follow."""
        for level, hashes in enumerate(self._levels):
            if level and hashes:
                self._tiles.write(level, self._written[level], hashes)
        return self._root()

    def _root(self) -> bytes:
        """The whole subtrees that are left, joined from the right."""
        root: bytes | None = None
        for hashes in self._levels:
            for subtree in reversed(_whole_subtrees(hashes)):
                root = subtree if root is None else node_hash(subtree, root)
        return EMPTY_ROOT if root is None else root


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _whole_root(hashes: Sequence[bytes]) -> bytes:
    """The root above as many hashes as a power of two."""
    sha256 = hashlib.sha256
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [sha256(b"\1" + left + right).digest() for left, right in pairs]
    return hashes[0]


def _whole_subtrees(hashes: Sequence[bytes]) -> list[bytes]:
    """Roots of the largest whole subtrees, from the left: one for each bit of their number."""
    roots, first = [], 0
    for bit in reversed(range(TILE_BITS + 1)):
        count = len(hashes) & 1 << bit
        if count:
            roots.append(_whole_root(hashes[first : first + count]))
            first += count
    return roots


def tile_width(size: int, level: int, index: int) -> int:
    """How many hashes tile `index` of a level has in a tree of so many leaves."""
    hashes = size >> (TILE_BITS * level)
    return max(0, min(TILE_HASHES, hashes - index * TILE_HASHES))


def inclusion_path(index: int, size: int, hashes: HashSource) -> list[bytes]:
    """The hashes beside the way from a leaf to the root, from the leaf up (RFC 6962, 2.1.1).

    Raises IndexError if there is no such leaf.
    """
    if not 0 <= index < size:
        raise IndexError(f"a tree of {size} leaves has no leaf {index}")
    first, end, path = 0, size, list[bytes]()
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(_subtree_root(middle, end, hashes))
            end = middle
        else:
            path.append(_subtree_root(first, middle, hashes))
            first = middle
    return path[::-1]


def _split(leaves: int) -> int:
    """The largest power of two below a number of leaves."""
    return 1 << (leaves - 1).bit_length() - 1


def _subtree_root(first: int, end: int, hashes: HashSource) -> bytes:
    """The root of leaves [first, end), a subtree of the tree."""
    leaves = end - first
    if leaves == 1:
        return hashes.leaf(first)
    level, rest = divmod(leaves.bit_length() - 1, TILE_BITS)
    if rest == 0 and leaves == 1 << (TILE_BITS * level):
        return hashes.tile_hash(level, first >> (TILE_BITS * level))
    middle = first + _split(leaves)
    return node_hash(_subtree_root(first, middle, hashes), _subtree_root(middle, end, hashes))


def root_of_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf's hash and its path give (RFC 9162, 2.1.3.2).

    Raises ValueError if the path is not one of such a leaf.
    """
    if not 0 <= index < size:
        raise ValueError("there is no such leaf")
    node, last, root = index, size - 1, leaf
    for beside in path:
        if last == 0:
            raise ValueError("the path is too long")
        if node & 1 or node == last:
            root = node_hash(beside, root)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, beside)
        node, last = node >> 1, last >> 1
    if last:
        raise ValueError("the path is too short")
    return root
