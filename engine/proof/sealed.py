"""What signed checkpoints cover: the objects that stand, and whose receipts are among the leaves.

`signed.json` notes of which receipts the last checkpoint was made, so that a look tells whether
they are still the same. It is a note for this directory's own user; others check the proof.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from noria.engine.proof.checking import signed_by
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.seals import read_seals
from noria.manifests.passes.migration import Migration
from noria.manifests.proof.folder import KeptCheckpoint, ProofFolder, last_of_each_pass
from noria.manifests.strict_json import read_strictly

SIGNED_FILE: Final = "signed.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedObjects:
    """What the newest signed checkpoint covers."""

    checkpoint: int
    signed_by: Sequence[str]
    """Names in its signatures that are right, by the keys that lie beside them."""
    objects: int
    """Objects that stood at the target as it was signed, and whose receipts signed checkpoints
    cover."""
    is_current: bool
    """The receipts of all passes are still those that were signed. Otherwise it is not known how
    many of the objects still stand as they did."""
    history: int
    """The last record of the history that it covers; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """signed.json."""

    checkpoint: int
    objects: int
    receipts: dict[str, str]
    """Pass -> digest of what its seals name."""
    seals: dict[str, str]
    """Pass -> digest of the names of its seals: of the same names, the same receipts count."""


def newest_signed(migration: Migration) -> list[KeptCheckpoint]:
    """The chain of checkpoints up to the last one with a right signature; empty: there is none.

    Who signed is told by the keys that lie in the directory, which proves nothing to others. Raises
    JobDirectoryError if the chain is damaged, or a signature is wrong.
    """
    folder = ProofFolder(migration.root)
    kept, keys = folder.checkpoints(), folder.known_keys()
    while kept and not signed_by(kept[-1].note, keys):
        kept.pop()
    return kept


def sealed(migration: Migration) -> SealedObjects | None:
    """What is covered by a signature now; None: nothing was signed.

    Reads seals if their names have changed, and no receipt. Raises JobDirectoryError if the proof
    or such a seal is damaged.
    """
    kept = newest_signed(migration)
    if not kept:
        return None
    noted, last = _noted(migration), kept[-1]
    keys = ProofFolder(migration.root).known_keys()
    is_current = (
        noted is not None
        and noted.checkpoint <= last.checkpoint.number
        and (noted.seals == _seal_names(migration) or noted.receipts == _receipts(migration))
        and not _has_come_back(migration)
    )
    return SealedObjects(
        checkpoint=last.checkpoint.number,
        signed_by=list(dict.fromkeys(each.name for each in signed_by(last.note, keys))),
        objects=0 if noted is None else noted.objects,
        is_current=is_current,
        history=last.checkpoint.history[0],
    )


def passes_to_sign(migration: Migration) -> list[int]:
    """Passes before the last one that have no signed checkpoint of their receipts."""
    last = last_of_each_pass(ProofFolder(migration.root).checkpoints())
    noted = _noted(migration)
    known = {} if noted is None else noted.receipts
    now = _receipts(migration)
    return [
        number
        for number in range(1, migration.last)
        if number not in last
        or not last[number].note.signatures
        or known.get(str(number), now[str(number)]) != now[str(number)]
    ]


def note_signed(migration: Migration, kept: Sequence[KeptCheckpoint]) -> None:
    """Note what `kept` was made of: all checkpoints, just now, while nobody is at work.

    May be repeated. Raises JobDirectoryError.
    """
    if _has_come_back(migration):
        return
    last = last_of_each_pass(list(kept))
    note = _Signed(
        checkpoint=kept[-1].checkpoint.number,
        objects=standing_objects(migration, last),
        receipts=_receipts(migration),
        seals=_seal_names(migration),
    )
    JobDirectory(migration.root).put(SIGNED_FILE, json.dumps(asdict(note), indent=1).encode())


def standing_objects(migration: Migration, last: Mapping[int, KeptCheckpoint]) -> int:
    """How many objects stand by the passes of a migration, of which each has a checkpoint here."""
    if migration.last > 1:
        return migration.state(migration.last).facts.objects
    outcomes = last[1].checkpoint.sums.outcomes
    return sum(count for outcome, count in outcomes.items() if outcome.landed)


def signed_for_a_draw(migration: Migration) -> list[KeptCheckpoint]:
    """The chain up to the newest signed checkpoint, which covers what stands as it stands.

    Raises ConfigurationError, in one line, if there is none.
    """
    if _has_come_back(migration):
        raise ConfigurationError(
            "a way back has changed what stands, and its receipts are under no checkpoint: verify "
            "without --sample"
        )
    found = sealed(migration)
    if found is None:
        raise ConfigurationError(
            "a sample is drawn from a signed checkpoint, and there is none: `noria sign "
            f"{migration.root} --signing-key FILE` first"
        )
    if not found.is_current:
        raise ConfigurationError(
            f"receipts have changed since checkpoint {found.checkpoint} was signed: `noria sign "
            f"{migration.root} --signing-key FILE` first"
        )
    return newest_signed(migration)


def _has_come_back(migration: Migration) -> bool:
    return any(back.exists for back in migration.ways_back())


def _receipts(migration: Migration) -> dict[str, str]:
    """Pass -> SHA-256 over what its seals name: the same as long as its receipts are the same."""
    found = {}
    for number in range(1, migration.last + 1):
        digest = hashlib.sha256()
        for each in read_seals(JobDirectory.open(migration.place(number))):
            what = f"{each.shard} {each.kind} {each.first} {each.end} {each.result_sha256}\n"
            digest.update(what.encode())
        found[str(number)] = digest.hexdigest()
    return found


def _seal_names(migration: Migration) -> dict[str, str]:
    """Pass -> SHA-256 over the names of its seals, those that were taken back included.

    A name is given once (manifests/job/seals.py); that seals were put together changes names alone.
    """
    found = {}
    for number in range(1, migration.last + 1):
        place = migration.place(number)
        folders = (place / "sealed", place / "superseded")
        names = sorted(
            path.relative_to(place).as_posix()
            for folder in folders
            for path in folder.rglob("*.json")
            if not path.name.startswith(".")
        )
        found[str(number)] = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return found


def _noted(migration: Migration) -> _Signed | None:
    """None: there is no note, or none that can be read; to sign again writes one."""
    data = JobDirectory(migration.root).read(SIGNED_FILE)
    try:
        return None if data is None else read_strictly(_Signed, data)
    except (ValueError, TypeError, RecursionError):
        return None
