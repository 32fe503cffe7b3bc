"""Proof files: that a receipt is in a signed tree (C2SP's tlog-proof), or that a name is not."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from noria.manifests.proof.checkpoint import read_checkpoint
from noria.manifests.proof.leaf import leaf_hash, read_leaf
from noria.manifests.proof.note import Note, read_note
from noria.manifests.proof.tree import root_of_path

INCLUSION_LINE: Final = "c2sp.org/tlog-proof@v1"
ABSENCE_LINE: Final = "noria.absence/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafProof:
    """A leaf, its place, and the hashes beside the way to the root."""

    leaf: bytes
    index: int
    path: Sequence[bytes]

    @property
    def key(self) -> str:
        """Raises ValueError if the leaf is malformed."""
        return read_leaf(self.leaf).key

    def check(self, size: int, root: bytes) -> None:
        """Raise ValueError unless the leaf is in the tree of this root."""
        read_leaf(self.leaf)
        if root_of_path(leaf_hash(self.leaf), self.index, size, self.path) != root:
            raise ValueError(f"leaf {self.index} and its path do not give the root that is signed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """A receipt is in the tree of a checkpoint."""

    proof: LeafProof
    note: Note

    def encode(self) -> bytes:
        lines = [INCLUSION_LINE, f"extra {_base64(self.proof.leaf)}", *_path_lines(self.proof)]
        return _joined(lines) + b"\n" + self.note.encode()

    def check(self, key: str) -> None:
        """Raise ValueError unless this proves what it should; signatures are not looked at."""
        checkpoint = read_checkpoint(self.note.text)
        self.proof.check(checkpoint.size, checkpoint.root)
        if self.proof.key != key:
            raise ValueError("the proof is of another name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A name has no leaf in the tree of a checkpoint: its neighbours there prove it."""

    key: str
    neighbours: Sequence[LeafProof]
    """The leaf below and the one above, if there are such."""
    note: Note

    def encode(self) -> bytes:
        lines = [ABSENCE_LINE, f"key {_base64(self.key.encode())}"]
        for proof in self.neighbours:
            lines += [f"leaf {_base64(proof.leaf)}", *_path_lines(proof)]
        return _joined(lines) + b"\n" + self.note.encode()

    def check(self, key: str) -> None:
        """Raise ValueError unless this proves what it should; signatures are not looked at."""
        checkpoint = read_checkpoint(self.note.text)
        if self.key != key:
            raise ValueError("the proof is of another name")
        name, size = key.encode(), checkpoint.size
        for proof in self.neighbours:
            proof.check(size, checkpoint.root)
        keys = [proof.key.encode() for proof in self.neighbours]
        match [proof.index for proof in self.neighbours]:
            case []:
                proves = size == 0
            case [index]:
                is_below_all = index == 0 and name < keys[0]
                proves = is_below_all or (index == size - 1 and keys[0] < name)
            case [below, above]:
                proves = above == below + 1 and keys[0] < name < keys[1]
            case _:
                proves = False
        if not proves:
            raise ValueError("the leaves are not the neighbours of this name")


def read_proof(data: bytes) -> Inclusion | Absence:
    """The proof that a file holds. Raises ValueError if it holds none."""
    head, gap, note = data.partition(b"\n\n")
    lines = head.decode().split("\n")
    if not gap:
        raise ValueError("this is not a proof: it has no checkpoint")
    if lines[0] == INCLUSION_LINE and len(lines) > 2 and lines[1].startswith("extra "):
        proof = _read_leaf_proof(_value("extra", lines[1]), lines[2:])
        return Inclusion(proof=proof, note=read_note(note))
    if lines[0] == ABSENCE_LINE and len(lines) > 1:
        starts = [at for at, line in enumerate(lines) if line.startswith("leaf ")]
        first = starts[0] if starts else len(lines)
        if first != 2:
            raise ValueError("a proof of absence has other lines")
        ends = [*starts[1:], len(lines)][: len(starts)]
        proofs = [
            _read_leaf_proof(_value("leaf", lines[at]), lines[at + 1 : end])
            for at, end in zip(starts, ends, strict=True)
        ]
        key = _value("key", lines[1]).decode()
        return Absence(key=key, neighbours=proofs, note=read_note(note))
    raise ValueError("this is not a proof of Noria's")


def _read_leaf_proof(leaf: bytes, lines: Sequence[str]) -> LeafProof:
    if not lines or not lines[0].startswith("index "):
        raise ValueError("a proof does not say the place of its leaf")
    said = lines[0].removeprefix("index ")
    if str(int(said)) != said:
        raise ValueError("a proof has no number as its place")
    path = [base64.b64decode(line, validate=True) for line in lines[1:]]
    if any(len(beside) != 32 for beside in path):
        raise ValueError("a hash of a proof has not 32 bytes")
    return LeafProof(leaf=leaf, index=int(said), path=path)


def _value(word: str, line: str) -> bytes:
    if not line.startswith(f"{word} "):
        raise ValueError(f"a proof lacks its {word}")
    return base64.b64decode(line.removeprefix(f"{word} "), validate=True)


def _path_lines(proof: LeafProof) -> list[str]:
    return [f"index {proof.index}", *map(_base64, proof.path)]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _joined(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
