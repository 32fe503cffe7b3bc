"""What `noria prove` does, and what it says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from noria.engine.proof.checking import check_proof
from noria.manifests.errors import ConfigurationError
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.checkpoint import read_checkpoint
from noria.manifests.proof.leaf import read_leaf
from noria.manifests.proof.note import NoteKey, read_key
from noria.manifests.proof.proof_files import Inclusion
from noria.manifests.proof.proving import export_leaves, prove


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command prints, and how it ends."""

    summary: dict[str, Any]
    exit_code: int = 0


def write_proofs(migration: Migration, key: str, prefix: Path, number: int | None) -> Answer:
    """Write the proof files of a name. Raises as proving.prove() does."""
    if number is not None and not 1 <= number <= migration.last:
        raise ConfigurationError(f"--pass {number}: the migration has passes 1 to {migration.last}")
    written = []
    for proof in prove(migration, key, number):
        stated = read_checkpoint(proof.note.text)
        is_there = isinstance(proof, Inclusion)
        kind = "tlog-proof" if is_there else "absence-proof"
        file = prefix.with_name(f"{prefix.name}-{stated.pass_number}.{kind}")
        _write(file, proof.encode())
        receipt = read_leaf(proof.proof.leaf) if isinstance(proof, Inclusion) else None
        written.append(
            {
                "file": str(file),
                "pass": stated.pass_number,
                "checkpoint": stated.number,
                "signatures": [line.name for line in proof.note.signatures],
                "included": is_there,
                "outcome": None if receipt is None else receipt.outcome.value,
                "level": None if receipt is None or receipt.level is None else receipt.level.value,
            }
        )
    return Answer(summary={"proofs": written})


def write_leaves(migration: Migration) -> Answer:
    """Write the leaves of all passes beside their tiles. Raises as proving.export_leaves() does."""
    return Answer(summary={"leaves": [str(folder) for folder in export_leaves(migration)]})


def check(migration: Migration, trusted: Sequence[str]) -> Answer:
    """Check all that is signed. `trusted`: lines NAME+ID+KEY, or files of them.

    Without a trusted key nobody knows who signed: exit code 1, as if one of them has not signed.
    """
    keys = [key for each in trusted for key in _keys(each)]
    passes = check_proof(migration, keys)
    unsigned = [each.number for each in passes if not each.signed]
    summary = {"passes": [asdict(each) for each in passes], "unsigned": unsigned}
    return Answer(summary=summary, exit_code=1 if unsigned else 0)


def _keys(given: str) -> list[NoteKey]:
    """Raises ConfigurationError if this is neither a key nor a file of keys."""
    try:
        return [read_key(given)]
    except ValueError:
        pass
    try:
        lines = Path(given).read_text().split("\n")
        return [read_key(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--trust {given}: neither a key NAME+ID+KEY nor a file of such lines"
        ) from error


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error
