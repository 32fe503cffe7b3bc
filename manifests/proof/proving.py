"""Proof files of one name, and the leaves of whole trees, from receipts and tiles."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from noria.manifests.access import make_folders, open_new
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory, disk_errors
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.folder import KeptCheckpoint, ProofFolder, last_of_each_pass
from noria.manifests.proof.leaf import Leaves
from noria.manifests.proof.making import pass_tree
from noria.manifests.proof.pass_leaves import PassLeaves
from noria.manifests.proof.proof_files import Absence, Inclusion, LeafProof
from noria.manifests.proof.tiles import grouped

LEAVES: Final = "leaves"
LEAVES_PER_FILE: Final = 65_536


def prove(migration: Migration, key: str, number: int | None = None) -> list[Inclusion | Absence]:
    """What the last signed checkpoints say of a name: proofs, of the latest pass first.

    As many passes are gone back through as have no receipt of it; with `number`, that pass alone.
    Raises ConfigurationError if a pass has no checkpoint, and JobDirectoryError if its receipts
    are not those of the checkpoint.
    """
    last = last_of_each_pass(ProofFolder(migration.root).checkpoints())
    passes = range(migration.last, 0, -1) if number is None else [number]
    found: list[Inclusion | Absence] = []
    for each in passes:
        if each not in last:
            raise ConfigurationError(
                f"pass {each} of {migration.root} has no checkpoint: "
                f"`noria sign {migration.root}` makes one once it has ended"
            )
        found.append(_PassProofs(migration, each, last[each]).of(key))
        if isinstance(found[-1], Inclusion):
            break
    return found


class _PassProofs:
    """Proofs in the tree of one pass."""

    def __init__(self, migration: Migration, number: int, kept: KeptCheckpoint) -> None:
        self._kept = kept
        self._leaves = PassLeaves(migration, number, kept)

    def of(self, key: str) -> Inclusion | Absence:
        if self._kept.checkpoint.size != self._leaves.manifest.objects:
            raise self._leaves.other_receipts()
        index, is_there = self._leaves.find(key)
        try:
            proof = self._proof(key, index, is_there=is_there)
            proof.check(key)
        except (OSError, ValueError, IndexError) as error:
            raise self._leaves.other_receipts() from error
        return proof

    def _proof(self, key: str, index: int, *, is_there: bool) -> Inclusion | Absence:
        if is_there:
            return Inclusion(proof=self._leaf_proof(index), note=self._kept.note)
        size = self._kept.checkpoint.size
        beside = [at for at in (index - 1, index) if 0 <= at < size]
        neighbours = [self._leaf_proof(at) for at in beside]
        return Absence(key=key, neighbours=neighbours, note=self._kept.note)

    def _leaf_proof(self, index: int) -> LeafProof:
        leaf, path = self._leaves.leaf(index), self._leaves.path(index)
        return LeafProof(leaf=leaf, index=index, path=path)


def export_leaves(migration: Migration) -> list[Path]:
    """Write the leaves of the tree of each pass that has a checkpoint; returns their folders.

    They are there already, or as whole files. Raises as prove() does.
    """
    folder = ProofFolder(migration.root)
    found = []
    for number, kept in last_of_each_pass(folder.checkpoints()).items():
        place = folder.tree(kept.checkpoint.root) / LEAVES
        found.append(place)
        if place.exists():
            continue
        directory = JobDirectory.open(migration.place(number))
        manifest = open_manifest(directory.manifest_path)
        with folder.held(), folder.scratch() as scratch:
            files = LeafFiles(scratch / LEAVES)
            tree = pass_tree(directory, manifest, NoTiles(), each=files.add)
            with disk_errors(migration.root):
                files.finish()
            if tree.root != kept.checkpoint.root:
                raise JobDirectoryError(
                    f"the receipts in {directory.root} are not those of checkpoint "
                    f"{kept.checkpoint.number}: they have changed since; sign again, or restore a "
                    "copy"
                )
            folder.keep(scratch / LEAVES, place)
    return found


class NoTiles:
    """A tree whose hashes nobody keeps."""

    def write(self, level: int, index: int, hashes: Sequence[bytes]) -> None:
        pass


class LeafFiles:
    """Files of LEAVES_PER_FILE leaves below a folder. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending: list[bytes] = []
        self._written = 0
        make_folders(folder)

    def add(self, leaves: Leaves) -> None:
        rest = iter(leaves)
        while taken := [*islice(rest, LEAVES_PER_FILE - len(self._pending))]:
            self._pending += taken
            if len(self._pending) == LEAVES_PER_FILE:
                self.finish()

    def finish(self) -> None:
        """Write those that have no file yet."""
        if not self._pending:
            return
        path = self._folder / f"{grouped(self._written)}.gz"
        make_folders(path.parent)
        framed = b"".join(len(leaf).to_bytes(4, "big") + leaf for leaf in self._pending)
        with open(path, "wb", opener=open_new) as file:
            file.write(gzip.compress(framed, compresslevel=6, mtime=0))
        self._pending, self._written = [], self._written + 1
