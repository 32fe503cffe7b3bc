"""Check a proof against all that it is of: receipts, manifest, history, and signatures.

What an auditor without Noria checks is in docs/pages/reference/proof-format.md. This has the
receipts besides, and so finds what was changed in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from noria.engine.proof.signers import is_signed
from noria.engine.proof.timestamps import TimeStamp, read_time_stamp
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job import history
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.checkpoint import Checkpoint
from noria.manifests.proof.folder import KeptCheckpoint, ProofFolder, last_of_each_pass
from noria.manifests.proof.making import pass_tree
from noria.manifests.proof.note import Note, NoteKey, signed_bytes, taken_apart
from noria.manifests.proof.tiles import tile_name
from noria.workers.digest import tree_root

_ROWS = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """By whom a checkpoint is signed, as far as the keys are trusted."""

    name: str
    seconds: int | None
    """When, as Unix time; None: an operator's signature states none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPass:
    """A pass whose receipts are those of its checkpoint."""

    number: int
    checkpoint: int
    size: int
    root: str
    signed: tuple[Signed, ...]
    stamped_seconds: int | None
    """When its time stamp is of, as Unix time; None: it has none. Who signed that was not checked.
    """


def check_proof(migration: Migration, trusted: Sequence[NoteKey]) -> list[CheckedPass]:
    """Make the tree of each pass again, and compare all that its last checkpoint says.

    Raises JobDirectoryError for what is not so, or if a signature of a trusted key is wrong, and
    ConfigurationError if there is no checkpoint.
    """
    kept = ProofFolder(migration.root).checkpoints()
    if not kept:
        raise ConfigurationError(
            f"{migration.root} has no proof: `noria sign {migration.root}` makes one"
        )
    for each in kept:
        _signed_by(each.note, trusted)
        kept_time_stamp(ProofFolder(migration.root), each)
    last = last_of_each_pass(kept)
    return [_checked(migration, number, last[number], trusted) for number in sorted(last)]


def _checked(
    migration: Migration, number: int, kept: KeptCheckpoint, trusted: Sequence[NoteKey]
) -> CheckedPass:
    stated = kept.checkpoint
    directory = JobDirectory.open(migration.place(number))
    manifest = open_manifest(directory.manifest_path)
    folder = ProofFolder(migration.root)
    stamp = kept_time_stamp(folder, kept)
    tiles = _ComparedTiles(folder.tree(stated.root))
    found = pass_tree(directory, manifest, tiles, look=_check_content)
    same = {
        "root": found.root == stated.root,
        "size": found.size == stated.size,
        "counts": found.sums == stated.sums,
        "last receipt": found.last_receipt_ms == stated.last_receipt_ms,
        "manifest": manifest.digest == stated.manifest,
        "job": directory.job()["id"] == stated.job,
        "history": _is_in_history(migration.root, stated),
    }
    wrong = [what for what, is_same in same.items() if not is_same]
    if wrong:
        raise JobDirectoryError(
            f"{directory.root} is not what checkpoint {stated.number} says ({', '.join(wrong)}): "
            "it was changed since; if failures were tried again, sign again, otherwise restore a "
            "copy"
        )
    if tiles.differ:
        raise JobDirectoryError(f"tiles of {folder.tree(stated.root)} are damaged; restore a copy")
    return CheckedPass(
        number=number,
        checkpoint=stated.number,
        size=stated.size,
        root=stated.root.hex(),
        signed=_signed_by(kept.note, trusted),
        stamped_seconds=None if stamp is None else stamp.seconds,
    )


def kept_time_stamp(folder: ProofFolder, kept: KeptCheckpoint) -> TimeStamp | None:
    """What the time stamp of a checkpoint says. None: it has none.

    Raises JobDirectoryError if it is of something else.
    """
    number = kept.checkpoint.number
    answer = folder.timestamp(number)
    if answer is None:
        return None
    try:
        stamp = read_time_stamp(answer)
    except ValueError as error:
        raise JobDirectoryError(
            f"{folder.timestamp_file(number)} is not a time stamp ({error}); restore a copy, or "
            "remove it and ask for another"
        ) from error
    if not kept.note.signatures or stamp.digest != hashlib.sha256(kept.note.stamped).digest():
        raise JobDirectoryError(
            f"{folder.timestamp_file(number)} is not of this checkpoint: one of the two was "
            "changed; restore a copy"
        )
    return stamp


def _signed_by(note: Note, trusted: Sequence[NoteKey]) -> tuple[Signed, ...]:
    """Raises JobDirectoryError if a signature that says it is by a trusted key is wrong."""
    known = {(key.name, key.id): key for key in trusted}
    found = []
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        try:
            signature, seconds = taken_apart(key, line)
        except ValueError:
            signature, seconds = b"", None
        if not is_signed(key.public, signature, signed_bytes(key.type, note.text, seconds or 0)):
            raise JobDirectoryError(
                f"the signature of {key.name} under a checkpoint is wrong: somebody changed the "
                "checkpoint, or the signature"
            )
        found.append(Signed(name=key.name, seconds=seconds))
    return tuple(found)


def _check_content(receipts: pa.Table) -> None:
    """Raise JobDirectoryError unless each root is that of the chunks that were hashed."""
    for batch in receipts.select(["size", "chunk_bytes", "chunks", "root"]).to_batches(_ROWS):
        for size, chunk_bytes, chunks, root in zip(*map(pa.Array.to_pylist, batch), strict=True):
            if chunks is not None and tree_root(size, chunk_bytes or 0, chunks) != root:
                raise JobDirectoryError(
                    "the digests of a receipt's chunks are not those that its root is of: they "
                    "were changed; restore a copy"
                )


def _is_in_history(root: Path, stated: Checkpoint) -> bool:
    records = history.read(JobDirectory(root))
    number, digest = stated.history
    return number <= len(records) and history.head(records[:number]) == digest


class _ComparedTiles:
    """Takes the tiles of a tree, and compares each with the one that is stored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.differ = False

    def write(self, level: int, index: int, hashes: Sequence[bytes]) -> None:
        try:
            stored = (self._folder / tile_name(level, index, len(hashes))).read_bytes()
        except OSError:
            stored = b""
        self.differ |= stored != b"".join(hashes)
