"""Sign the checkpoint of a migration's latest pass, as its operator or as somebody else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noria.engine.proof.checking import check_proof
from noria.engine.proof.sealed import note_signed, passes_to_sign
from noria.engine.proof.signers import NoteSigner, open_signer, signed
from noria.engine.proof.timestamps import check_timestamp_url
from noria.engine.status import Phase, load_status
from noria.manifests.errors import AnotherDriver, ConfigurationError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import whoami
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.folder import KeptCheckpoint, ProofFolder
from noria.manifests.proof.making import make_checkpoint
from noria.manifests.proof.note import (
    NoteKey,
    SignatureType,
    check_name,
    signature_line,
    signed_bytes,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningWishes:
    """Who signs, and how."""

    key: Path
    """A private Ed25519 key, or a public one whose private half the command or ssh-agent has."""
    command: str | None = None
    name: str | None = None
    """In the signature; None: this user on this host."""
    timestamp_url: str | None = None
    """Of an authority that is asked for a time stamp of what was signed. None: nobody is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint, and the key that it was signed with just now."""

    kept: KeptCheckpoint
    key: NoteKey
    file: Path

    @property
    def summary(self) -> dict[str, Any]:
        """For programs, and for what a person reads."""
        stated = self.kept.checkpoint
        outcomes = stated.sums.outcomes
        return {
            "checkpoint": stated.number,
            "pass": stated.pass_number,
            "size": stated.size,
            "root": stated.root.hex(),
            "sealed": sum(count for outcome, count in outcomes.items() if outcome.landed),
            "key": self.key.line,
            "file": str(self.file),
            "note": self.kept.note.encode().decode(),
        }


def sign(migration: Migration, wishes: SigningWishes) -> SignedCheckpoint:
    """Sign the latest pass as the operator; its checkpoint is made if it is not there.

    So are those of earlier passes that have none. May be repeated. Raises ConfigurationError if the
    pass has not ended or the key does not sign, and JobDirectoryError if receipts, manifest or
    earlier checkpoints are damaged.
    """
    signer, key = _signer(wishes, SignatureType.OPERATOR)
    _refuse_at_work(migration)
    kept = ProofFolder(migration.root).checkpoints()
    for number in passes_to_sign(migration, kept):
        made = make_checkpoint(migration, number, ended=True)
        kept.append(_add(migration, made, signer, key).kept)
    signed_now = _add(migration, checkpoint_now(migration), signer, key)
    note_signed(migration, [*kept, signed_now.kept])
    return signed_now


def checkpoint_now(migration: Migration) -> KeptCheckpoint:
    """The checkpoint of the latest pass as it is, without a signature of ours."""
    _refuse_at_work(migration)
    number = migration.last
    status = load_status(JobDirectory.open(migration.place(number)))
    ended = status is not None and status.phase is Phase.FINISHED
    return make_checkpoint(migration, number, ended=ended)


def _refuse_at_work(migration: Migration) -> None:
    directory = JobDirectory.open(migration.current)
    status = load_status(directory)
    seen = None if status is None else time.time() - status.updated_seconds
    at_work = status is not None and status.phase.has_driver
    if directory.is_held(seen if at_work else None):
        raise AnotherDriver(f"{directory.root} is at work: sign it when that has ended")


def cosign(
    migration: Migration,
    wishes: SigningWishes,
    clock: Callable[[], float] = time.time,
) -> SignedCheckpoint:
    """Add somebody else's signature, with the time, to the latest checkpoint.

    It says that they have checked it: the tree is made again from the receipts. Raises as sign()
    does, and ConfigurationError if nothing is signed yet.
    """
    signer, key = _signer(wishes, SignatureType.COSIGNER)
    kept = ProofFolder(migration.root).checkpoints()
    if not kept or not kept[-1].note.signatures:
        raise ConfigurationError(
            f"{migration.root} has no signed checkpoint: `noria sign` comes first"
        )
    operators = (
        known.public
        for known in ProofFolder(migration.root).known_keys()
        if known.type is SignatureType.OPERATOR
    )
    if key.public in operators:
        raise ConfigurationError(
            "this key has signed as the operator: another person's is wanted, to cosign"
        )
    check_proof(migration, trusted=())
    return _add(migration, kept[-1], signer, key, int(clock()))


def check_wishes(wishes: SigningWishes) -> None:
    """Raise ConfigurationError if these cannot sign; nothing is signed."""
    _signer(wishes, SignatureType.OPERATOR)
    if wishes.timestamp_url is not None:
        check_timestamp_url(wishes.timestamp_url)


def _signer(wishes: SigningWishes, kind: SignatureType) -> tuple[NoteSigner, NoteKey]:
    name = wishes.name or whoami()
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigurationError(f"--name {name}: {error}") from error
    signer = open_signer(wishes.key, wishes.command)
    return signer, NoteKey(name=name, type=kind, public=signer.public)


def _add(
    migration: Migration, kept: KeptCheckpoint, signer: NoteSigner, key: NoteKey, seconds: int = 0
) -> SignedCheckpoint:
    folder, number = ProofFolder(migration.root), kept.checkpoint.number
    if key.type is SignatureType.OPERATOR or not kept.note.of(key):  # not at an earlier time
        signature = signed(signer, signed_bytes(key.type, kept.note.text, seconds))
        with folder.held():
            kept = folder.sign(number, key, signature_line(key, signature, seconds))
    return SignedCheckpoint(kept=kept, key=key, file=folder.file(number))
