"""Copy a proof to another place, where who can write to the job directory cannot change it.

Nothing there is ever replaced but a checkpoint to which signatures are added. Checkpoints go last:
what they name is there by then. In a bucket that locks new objects each is locked as it is written.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria.engine.config.jobfile import EndConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import open_end
from noria.engine.first_look import checked_access
from noria.manifests.access import make_folders
from noria.manifests.errors import (
    ConfigurationError,
    JobDirectoryError,
    OutcomeUnknown,
    SourceChanged,
    SourceMissing,
    TargetConflict,
)
from noria.manifests.model import Attributes
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.folder import CHECKPOINT, TIMESTAMP, ProofFolder
from noria.manifests.proof.note import Note, read_note, with_signatures
from noria.workers.digest import crc64nvme
from noria.workers.stores.paced import PacedTarget

STREAMS: Final = 8
TRIES: Final = 5
"""How often a file is looked at again after a write whose outcome is not known, or lost a race."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a copy took."""

    written: int
    """Files."""
    same: int
    """There already."""


def publish(migration: Migration, end: EndConfig) -> Published:
    """Bring the proof of a migration to a place; may be repeated, and goes on where it ended.

    Raises ConfigurationError if nothing is signed or the place cannot be used, or holds another
    proof; JobDirectoryError if a checkpoint is damaged; what a store raises.
    """
    folder = ProofFolder(migration.root)
    kept = folder.checkpoints()
    if not kept or not kept[-1].note.signatures:
        raise ConfigurationError(
            f"{migration.root} has no signed checkpoint: `noria sign` comes first"
        )
    if end.location.scheme is Scheme.FILE:
        make_folders(Path(end.location.container))
    store = open_end(end)
    try:
        checked_access(store, "cannot publish to", end).result()
        place = _Place(PacedTarget(inner=store), folder.place, end.location.prefix)
        names = sorted(_names(folder.place))
        last = [name for name in names if Path(name).name == CHECKPOINT]
        with ThreadPoolExecutor(STREAMS) as streams:
            first = streams.map(place.bring, (name for name in names if name not in last))
            written = [*first, *map(place.bring, last)]
    finally:
        store.close()
    return Published(written=sum(written), same=len(written) - sum(written))


def _names(folder: Path) -> Iterator[str]:
    """Of the files of a proof, temporary ones left out."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and not any(each.startswith(".") for each in name.parts):
            yield name.as_posix()


class _Place:
    """Where a proof is copied to."""

    def __init__(self, target: PacedTarget, folder: Path, prefix: str) -> None:
        self._target = target
        self._folder = folder
        self._prefix = prefix

    def bring(self, name: str) -> bool:
        """Bring a file there. False: it was there."""
        for _ in range(TRIES):
            try:
                return self._bring(name)
            except (OutcomeUnknown, TargetConflict, SourceChanged, SourceMissing):
                continue  # a look tells what came of it
        raise ConfigurationError(
            f"{name} changes at the other place while it is written; try again"
        )

    def _bring(self, name: str) -> bool:
        try:
            data = (self._folder / name).read_bytes()
        except OSError as error:
            raise JobDirectoryError(
                f"cannot read {self._folder}/{name}: {error.strerror}"
            ) from error
        key = self._prefix + name
        head = self._target.head(key)
        if head is not None:
            there = bytearray(head.size)
            self._target.read_object(key, into=memoryview(there), etag=head.etag)
            wanted = _to_be_there(name, data, bytes(there))
            if wanted == there:
                return False
            data = wanted
        self._target.put_object(
            key,
            memoryview(data),
            attributes=Attributes(content_type=_content_type(name)),
            txid=f"proof.{secrets.token_hex(8)}",
            crc64nvme=crc64nvme(data),
            replaces=None if head is None else head.etag,
        )
        return True


def _to_be_there(name: str, data: bytes, there: bytes) -> bytes:
    """What a file should be like, if it is there already. Raises ConfigurationError."""
    if data == there:
        return there
    if Path(name).name == CHECKPOINT:
        ours, theirs = read_note(data), _read_there(there)
        if theirs is not None and theirs.text == ours.text:
            return with_signatures(theirs, ours.signatures).encode()
    raise ConfigurationError(
        f"{name} is there, and says something else: name an empty place, or the one where this "
        "proof was copied to before; if it was, one of the two was changed"
    )


def _read_there(data: bytes) -> Note | None:
    try:
        return read_note(data)
    except ValueError:
        return None


def _content_type(name: str) -> str:
    if Path(name).name == TIMESTAMP:
        return "application/timestamp-reply"
    is_text = Path(name).name == CHECKPOINT or name.endswith((".vkey", ".py"))
    return "text/plain; charset=utf-8" if is_text else "application/octet-stream"
