"""A sample of what stands at the target, drawn from the trees of all passes.

The leaves of all trees are one row, by passes. Leaves are drawn from it in the order that the
newest checkpoint gives (draw.py); one counts if its object landed, and no later pass has settled
that name again. So each object that stands is drawn as likely as any other, and only those that are
drawn are looked up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Final

from noria.manifests.errors import ConfigurationError
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.draw import draw_order
from noria.manifests.proof.folder import KeptCheckpoint, last_of_each_pass
from noria.manifests.proof.leaf import read_leaf
from noria.manifests.proof.pass_leaves import PassLeaves

DRAWS_MAX: Final = 4_000_000
"""Of a migration where so few entries stand, all of them are soon read."""
_SPARE: Final = 64
"""Drawn at a time beside those that are wanted: some do not stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnObject:
    """An object that is to be looked at, and where its receipt is."""

    of_pass: int
    shard: int
    row: int
    size: int
    key: str


def draw(
    migration: Migration, kept: Sequence[KeptCheckpoint], seed: str, count: int
) -> list[DrawnObject]:
    """The first `count` objects that stand, in the order in which the last of `kept` draws them.

    All passes have a checkpoint among `kept`. There are fewer if fewer stand. Raises
    JobDirectoryError if receipts are not those that were signed, and ConfigurationError if too few
    of the entries stand for a draw.
    """
    trees = _Trees(last_of_each_pass(list(kept)))
    passes = {number: PassLeaves(migration, number, each) for number, each in trees.by_pass.items()}
    order = draw_order(bytes.fromhex(kept[-1].note.digest), seed, trees.size)
    found, drawn = list[DrawnObject](), 0
    while len(found) < count:
        some = [trees.place(each) for each in islice(order, count - len(found) + _SPARE)]
        if not some:
            break
        drawn += len(some)
        if drawn > DRAWS_MAX + count:
            raise ConfigurationError(
                "too few entries of this migration stand for a draw: `noria verify` without "
                "--sample reads them all"
            )
        by_pass = defaultdict[int, list[int]](list)
        for number, index in some:
            by_pass[number].append(index)
        stand = dict[tuple[int, int], DrawnObject]()
        for number, indexes in by_pass.items():
            for index, each in _standing(passes, number, sorted(indexes)):
                stand[number, index] = each
        found += [stand[each] for each in some if each in stand]
    return found[:count]


class _Trees:
    """The trees of all passes, as one row of leaves."""

    def __init__(self, by_pass: Mapping[int, KeptCheckpoint]) -> None:
        self.by_pass = dict(sorted(by_pass.items()))
        self._numbers = list(self.by_pass)
        sizes = [each.checkpoint.size for each in self.by_pass.values()]
        self._firsts = [0, *accumulate(sizes)]

    @property
    def size(self) -> int:
        return self._firsts[-1]

    def place(self, at: int) -> tuple[int, int]:
        """The pass of a leaf of the row, and its place in that tree."""
        tree = bisect_right(self._firsts, at) - 1
        return self._numbers[tree], at - self._firsts[tree]


def _standing(
    passes: Mapping[int, PassLeaves], number: int, indexes: Sequence[int]
) -> list[tuple[int, DrawnObject]]:
    """Those of the leaves of a pass whose objects stand, with their places in its tree."""
    leaves, found = passes[number], dict[str, tuple[int, DrawnObject]]()
    for index in indexes:
        receipt = read_leaf(leaves.signed_leaf(index))
        if receipt.outcome.landed:
            shard, row = leaves.place(index)
            found[receipt.key] = (
                index,
                DrawnObject(
                    of_pass=number, shard=shard, row=row, size=receipt.size, key=receipt.key
                ),
            )
    for later, others in passes.items():
        if later > number and found:
            for key in others.settled_among(found.keys()):
                found.pop(key, None)
    return list(found.values())
