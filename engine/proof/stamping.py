"""A signed checkpoint, and a time stamp of it from an authority that others believe."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noria.engine.proof.checking import kept_time_stamp
from noria.engine.proof.signing import SigningWishes, sign
from noria.engine.proof.timestamps import ask_for_time_stamp, check_timestamp_url
from noria.manifests.errors import ConfigurationError, NoriaError
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.folder import KeptCheckpoint, ProofFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class StampedCheckpoint:
    """The time stamp of a checkpoint."""

    checkpoint: int
    seconds: int
    """When it was there by, as the authority says: Unix time."""
    sha256: str
    """Of what was stamped, in hex: the checkpoint up to its first signature."""
    file: Path
    asked: bool
    """False: it was there already."""

    @property
    def summary(self) -> dict[str, Any]:
        """For programs, and for what a person reads."""
        return {
            "checkpoint": self.checkpoint,
            "seconds": self.seconds,
            "sha256": self.sha256,
            "file": str(self.file),
            "asked": self.asked,
        }


def stamp(migration: Migration, url: str) -> StampedCheckpoint:
    """Have the latest checkpoint stamped by the authority at `url`, unless it has a time stamp.

    May be repeated. Raises ConfigurationError if nothing is signed or the authority gives none, and
    JobDirectoryError if checkpoints, or the time stamp that is there, are damaged.
    """
    folder = ProofFolder(migration.root)
    kept = folder.checkpoints()
    if not kept or not kept[-1].note.signatures:
        raise ConfigurationError(
            f"{migration.root} has no signed checkpoint: `noria sign {migration.root} "
            "--signing-key FILE` comes first"
        )
    last = kept[-1]
    if (found := _there(folder, last, asked=False)) is not None:
        return found
    answer = ask_for_time_stamp(url, last.note.stamped)
    folder.keep_timestamp(last.checkpoint.number, answer)
    stamped = _there(folder, last, asked=True)
    assert stamped is not None
    return stamped


def _there(folder: ProofFolder, kept: KeptCheckpoint, *, asked: bool) -> StampedCheckpoint | None:
    said = kept_time_stamp(folder, kept)
    if said is None:
        return None
    number = kept.checkpoint.number
    return StampedCheckpoint(
        checkpoint=number,
        seconds=said.seconds,
        sha256=hashlib.sha256(kept.note.stamped).hexdigest(),
        file=folder.timestamp_file(number),
        asked=asked,
    )


def sign_and_stamp(migration: Migration, wishes: SigningWishes) -> dict[str, Any]:
    """What sign() says; if an authority is named, `timestamp` has what stamp() says, or an `error`.

    The signature stands, whatever the authority answers. Raises as sign() does.
    """
    if wishes.timestamp_url is not None:
        check_timestamp_url(wishes.timestamp_url)
    signed = sign(migration, wishes).summary
    if wishes.timestamp_url is None:
        return signed
    try:
        return {**signed, "timestamp": stamp(migration, wishes.timestamp_url).summary}
    except NoriaError as error:
        return {**signed, "timestamp": {"error": error.message}}
