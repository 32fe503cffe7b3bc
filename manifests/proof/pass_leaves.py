"""The leaves of a pass by their place in its tree, read as they are asked for."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipt_check import sealed_rows_of
from noria.manifests.job.receipts import LANDED
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.model import Outcome
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.folder import KeptCheckpoint, ProofFolder
from noria.manifests.proof.leaf import LEAF_COLUMNS, leaf_hash, leaves_of
from noria.manifests.proof.tiles import StoredTree
from noria.manifests.proof.tree import inclusion_path, root_of_path

_SHARDS_KEPT: Final = 3
"""Whose receipts are held: that of a name, that of a neighbour, and the last one."""
_BLOCK: Final = 256
"""Leaves that are made together: a proof needs about as many."""
_BLOCKS_KEPT: Final = 8
_SETTLED: Final = pa.array([*LANDED.to_pylist(), Outcome.DELETED.value], pa.string())


class PassLeaves:
    """The leaves of one pass, and their places in the tree of its checkpoint."""

    def __init__(self, migration: Migration, number: int, kept: KeptCheckpoint) -> None:
        self.directory = JobDirectory.open(migration.place(number))
        self.manifest: Manifest = open_manifest(self.directory.manifest_path)
        self._kept = kept
        self._firsts = [stretch.first_row for stretch in self.manifest.stretches(1)]
        """The first row of each shard, among all rows."""
        self._first_key = functools.cache(lambda shard: self.manifest.first_key(shard).encode())
        self._receipts = functools.lru_cache(_SHARDS_KEPT)(self._read_receipts)
        self._block = functools.lru_cache(_BLOCKS_KEPT)(self._make_block)
        tree = ProofFolder(migration.root).tree(kept.checkpoint.root)
        self._tree = StoredTree(tree, kept.checkpoint.size, lambda at: leaf_hash(self.leaf(at)))

    def place(self, index: int) -> tuple[int, int]:
        """Shard and row of a leaf."""
        shard = bisect.bisect_right(self._firsts, index) - 1
        return shard, index - self._firsts[shard]

    def leaf(self, index: int) -> bytes:
        """Its bytes. Raises IndexError if its entry has no receipt."""
        shard, row = self.place(index)
        return self._block(shard, row // _BLOCK)[row % _BLOCK]

    def path(self, index: int) -> list[bytes]:
        """From a leaf to the root. Raises OSError, ValueError and IndexError as tiles do."""
        return inclusion_path(index, self._kept.checkpoint.size, self._tree)

    def signed_leaf(self, index: int) -> bytes:
        """A leaf that is one of those that were signed. Raises JobDirectoryError if it is not."""
        stated = self._kept.checkpoint
        try:
            leaf = self.leaf(index)
            root = root_of_path(leaf_hash(leaf), index, stated.size, self.path(index))
        except (OSError, ValueError, IndexError) as error:
            raise self.other_receipts() from error
        if root != stated.root:
            raise self.other_receipts()
        return leaf

    def find(self, key: str) -> tuple[int, bool]:
        """How many entries have a lesser name, and whether the next one has this name."""
        name = key.encode()
        shard = self._shard_of(name)
        if shard < 0:
            return 0, False
        rows = self.manifest.read_shard(shard)["key"].to_pylist()
        row = bisect.bisect_left(rows, name, key=lambda each: each.encode())
        return self._firsts[shard] + row, row < len(rows) and rows[row] == key

    def settled_among(self, keys: Collection[str]) -> set[str]:
        """Those of the names of which this pass settled what stands: they landed, or were deleted.

        A shard is read once. Raises JobDirectoryError if it is damaged.
        """
        placed = sorted((self._shard_of(key.encode()), key) for key in keys)
        found = set[str]()
        for shard, group in groupby(placed, key=lambda pair: pair[0]):
            names = pa.array([key for _, key in group], pa.string())
            for _, receipts in self._rows(shard, ["outcome"]) if shard >= 0 else ():
                is_settled = pc.and_(
                    pc.is_in(receipts["key"], value_set=names),
                    pc.is_in(receipts["outcome"], value_set=_SETTLED),
                )
                found.update(receipts["key"].filter(is_settled).to_pylist())
        return found

    def other_receipts(self) -> JobDirectoryError:
        return JobDirectoryError(
            f"the receipts in {self.directory.root} are not those of checkpoint "
            f"{self._kept.checkpoint.number}: they have changed since; if failures were tried "
            "again, sign again, otherwise restore a copy"
        )

    def _shard_of(self, name: bytes) -> int:
        """The one that has it, if any has. -1: it is below all of them."""
        shards = range(self.manifest.shard_count)
        return bisect.bisect_right(shards, name, key=self._first_key) - 1

    def _make_block(self, shard: int, block: int) -> Sequence[bytes]:
        receipts = self._receipts(shard).slice(block * _BLOCK, _BLOCK)
        return [leaf for some in leaves_of(receipts) for leaf in some]

    def _read_receipts(self, shard: int) -> pa.Table:
        tables = [receipts for _, receipts in self._rows(shard, LEAF_COLUMNS)]
        if not tables:
            raise IndexError(f"shard {shard} has no receipts")
        return pa.concat_tables(tables).combine_chunks()

    def _rows(self, shard: int, columns: Sequence[str]) -> Iterator[tuple[pa.Table, pa.Table]]:
        return sealed_rows_of(self.directory, self.manifest, shard, columns)
