"""The folder `proof` of a migration: its checkpoints, the trees that they name, and keys.

proof/000001/checkpoint        a signed note; written once, then signatures are added
proof/000001/checkpoint.tsr    a time stamp of it, if an authority was asked for one
proof/trees/ROOT/...           tiles of a tree, and its leaves if somebody asked for them
proof/keys/KEYID.vkey          public keys of those who signed; nobody is trusted for that
proof/check.py, sample.py      what auditors check it with, as it was when the first one was made
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria.manifests.access import make_folders, open_new
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory, disk_errors
from noria.manifests.proof.checkpoint import MOVED, Checkpoint, read_checkpoint
from noria.manifests.proof.note import (
    Note,
    NoteKey,
    NoteSignature,
    read_key,
    read_note,
    with_signatures,
)

PROOF: Final = "proof"
CHECKPOINT: Final = "checkpoint"
TIMESTAMP: Final = "checkpoint.tsr"
CHECKER: Final = "check.py"
SAMPLER: Final = "sample.py"
_NUMBER: Final = re.compile(r"[0-9]{6,}")
_RESTORE: Final = "restore proof/ from a copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCheckpoint:
    """A checkpoint, and the note that has it."""

    checkpoint: Checkpoint
    note: Note


class ProofFolder:
    """`root` is the directory of the migration."""

    def __init__(self, root: Path) -> None:
        self.place = root / PROOF
        self._directory = JobDirectory(root)

    def checkpoints(self) -> list[KeptCheckpoint]:
        """All of them, from the first on, each found to follow the one before.

        Raises JobDirectoryError if one is missing, damaged, or of another migration.
        """
        kept: list[KeptCheckpoint] = []
        for number in range(1, self._last_number() + 1):
            found = self._read(number)
            stated = found.checkpoint
            before = kept[-1] if kept else None
            expected = (0, "0" * 64) if before is None else (number - 1, before.note.digest)
            same = before is None or before.checkpoint.migration == stated.migration
            if stated.number != number or stated.previous != expected or not same:
                raise self._damaged(number, "does not follow the one before")
            kept.append(found)
        return kept

    def _last_number(self) -> int:
        """0 if there is none. A folder alone is left by a writer that was killed."""
        names = [Path(each).name for each in self._directory.folders(PROOF)]
        numbers = [int(name) for name in names if _NUMBER.fullmatch(name)]
        return max((each for each in numbers if self.file(each).exists()), default=0)

    def _read(self, number: int) -> KeptCheckpoint:
        data = self._directory.read(_name(number))
        if data is None:
            raise self._damaged(number, "is missing")
        try:
            note = read_note(data)
            return KeptCheckpoint(checkpoint=read_checkpoint(note.text), note=note)
        except ValueError as error:
            raise self._damaged(number, f"is damaged: {error}") from error

    def _damaged(self, number: int, what: str) -> JobDirectoryError:
        return JobDirectoryError(f"{self._directory.root}/{_name(number)} {what}; {_RESTORE}")

    def append(self, checkpoint: Checkpoint) -> KeptCheckpoint:
        """Write the next checkpoint, without a signature. May be repeated."""
        note = Note(text=checkpoint.encode())
        written = self._directory.write_once(_name(checkpoint.number), note.encode())
        if not written and self._read(checkpoint.number).note != note:
            raise JobDirectoryError(
                f"{self.place} has a checkpoint {checkpoint.number} by now: somebody else is at "
                "work here; run again"
            )
        return KeptCheckpoint(checkpoint=checkpoint, note=note)

    def sign(self, number: int, key: NoteKey, line: NoteSignature) -> KeptCheckpoint:
        """Add a signature, which was checked, and the key that it is by. May be repeated."""
        kept = self._read(number)
        signed = with_signatures(kept.note, [line])
        self._directory.write_once(f"{PROOF}/keys/{key.id.hex()}.vkey", f"{key.line}\n".encode())
        if signed != kept.note:
            self._directory.put(_name(number), signed.encode())
        return KeptCheckpoint(checkpoint=kept.checkpoint, note=signed)

    def file(self, number: int) -> Path:
        return self._directory.path(_name(number))

    def timestamp_file(self, number: int) -> Path:
        return self.file(number).with_name(TIMESTAMP)

    def timestamp(self, number: int) -> bytes | None:
        """The time stamp of a checkpoint, an authority's whole answer. None: it has none."""
        return self._directory.read(f"{PROOF}/{number:06d}/{TIMESTAMP}")

    def keep_timestamp(self, number: int, answer: bytes) -> None:
        """Keep a time stamp, unless the checkpoint has one by now."""
        self._directory.write_once(f"{PROOF}/{number:06d}/{TIMESTAMP}", answer)

    def known_keys(self) -> list[NoteKey]:
        """The keys that lie here. They say who claims to have signed, and prove nothing."""
        found = []
        for name in self._directory.names(f"{PROOF}/keys"):
            with contextlib.suppress(ValueError):
                found.append(read_key((self._directory.read(name) or b"").decode()))
        return found

    def tree(self, root: bytes) -> Path:
        """The folder of a tree."""
        return self.place / "trees" / root.hex()

    def keep_checker(self) -> str:
        """Put the checker beside what it checks, once; later versions do not replace it.

        Returns the SHA-256 of the one that is there, in hex.
        """
        for name in (SAMPLER, CHECKER):
            ours = Path(__file__).with_name(name).read_bytes()
            self._directory.write_once(f"{PROOF}/{name}", ours)
        return hashlib.sha256(self._directory.read(f"{PROOF}/{CHECKER}") or b"").hexdigest()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """One at a time works here; others wait."""
        with disk_errors(self._directory.root):
            make_folders(self.place)
            file = open(self.place / ".lock", "ab", opener=open_new)  # noqa: SIM115
        with file:
            with disk_errors(self._directory.root):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder beside the trees, gone afterwards, as what killed ones have left is before.

        Only while it is held.
        """
        with disk_errors(self._directory.root):
            for left in self.place.glob(".new-*"):
                shutil.rmtree(left, ignore_errors=True)
            folder = self.place / f".new-{secrets.token_hex(8)}"
            make_folders(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, scratch: Path, place: Path) -> None:
        """Give a whole folder its name, durably, unless that is there already."""
        with disk_errors(self._directory.root):
            if place.exists() or not scratch.exists():
                return
            make_folders(place.parent)
            for folder, _, _ in os.walk(scratch):
                _flush_folder(Path(folder))
            os.rename(scratch, place)
            _flush_folder(place.parent)


def last_of_each_pass(kept: list[KeptCheckpoint]) -> dict[int, KeptCheckpoint]:
    """The checkpoints that count, by pass, of what was moved."""
    moved = (each for each in kept if each.checkpoint.receipts == MOVED)
    return {each.checkpoint.pass_number: each for each in moved}


def _name(number: int) -> str:
    return f"{PROOF}/{number:06d}/{CHECKPOINT}"


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
