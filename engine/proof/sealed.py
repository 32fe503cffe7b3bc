"""What signed checkpoints cover: the objects that stand, and whose receipts are among the leaves.

`signed.json` notes of which receipts the last checkpoint was made, so that a look tells whether
they are still the same. It is a note for this directory's own user; others check the proof.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from noria.engine.proof.checking import signed_by
from noria.engine.status import JobStatus, Phase, SealedObjects
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.seals import read_seals
from noria.manifests.passes.migration import Migration, migration_of
from noria.manifests.proof.folder import KeptCheckpoint, ProofFolder, last_of_each_pass
from noria.manifests.strict_json import read_strictly

SIGNED_FILE: Final = "signed.json"


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
        and noted.receipts == _receipts(migration, _seal_names(migration), noted)
        and not _has_come_back(migration)
    )
    return SealedObjects(
        checkpoint=last.checkpoint.number,
        signed_by=list(dict.fromkeys(each.name for each in signed_by(last.note, keys))),
        objects=0 if noted is None else noted.objects,
        is_current=is_current,
        history=last.checkpoint.history[0],
    )


class SealedInRun:
    """What the status of a run says of what is sealed: looked up once, as the run begins."""

    def __init__(self, place: Path) -> None:
        """`place` is the job directory. What is damaged is told by `noria status`, not here."""
        migration, _ = migration_of(place)
        try:
            self._found = sealed(migration)
        except JobDirectoryError:
            self._found = None

    def of(self, status: JobStatus) -> SealedObjects | None:
        """As it is now: once a run begins to move, other receipts come than were signed."""
        if self._found is not None and status.phase is Phase.MOVING:
            self._found = replace(self._found, is_current=False)
        return self._found


def passes_to_sign(migration: Migration, kept: Sequence[KeptCheckpoint]) -> list[int]:
    """Passes before the last one that have no signed checkpoint of their receipts.

    `kept` are all checkpoints. Seals are read of those passes alone whose seals have other names
    than as that was noted.
    """
    last = last_of_each_pass(list(kept))
    noted = _noted(migration)
    known = {} if noted is None else noted.receipts
    now = _receipts(migration, _seal_names(migration), noted)
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
    last, names = last_of_each_pass(list(kept)), _seal_names(migration)
    note = _Signed(
        checkpoint=kept[-1].checkpoint.number,
        objects=standing_objects(migration, last),
        receipts=_receipts(migration, names, _noted(migration)),
        seals=names,
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


def _receipts(
    migration: Migration, names: Mapping[str, str], noted: _Signed | None
) -> dict[str, str]:
    """Pass -> SHA-256 over what its seals name: the same as long as its receipts are the same.

    `names` is _seal_names(). Of the same names the same receipts count: what was noted of them
    holds, so that a signature reads the seals of what has come since, and of no earlier pass.
    """
    seals = {} if noted is None else noted.seals
    known = {} if noted is None else noted.receipts
    return {
        number: known[number]
        if number in known and seals.get(number) == digest
        else _receipts_of(migration.place(int(number)))
        for number, digest in names.items()
    }


def _receipts_of(place: Path) -> str:
    digest = hashlib.sha256()
    for each in read_seals(JobDirectory.open(place)):
        what = f"{each.shard} {each.kind} {each.first} {each.end} {each.result_sha256}\n"
        digest.update(what.encode())
    return digest.hexdigest()


def _seal_names(migration: Migration) -> dict[str, str]:
    """Pass -> SHA-256 over the names of its seals, those that were taken back included.

    A name is given once (manifests/job/seals.py); that seals were put together changes names alone.
    """
    found = {}
    for number in range(1, migration.last + 1):
        names = "\n".join(sorted(_names_of_seals(str(migration.place(number)))))
        found[str(number)] = hashlib.sha256(names.encode()).hexdigest()
    return found


def _names_of_seals(place: str) -> Iterator[str]:
    for area in ("sealed", "superseded"):
        for folder, _, names in os.walk(f"{place}/{area}"):
            within = folder.removeprefix(f"{place}/")
            for name in names:
                if name.endswith(".json") and not name.startswith("."):
                    yield f"{within}/{name}"


def _noted(migration: Migration) -> _Signed | None:
    """None: there is no note, or none that can be read; to sign again writes one."""
    data = JobDirectory(migration.root).read(SIGNED_FILE)
    try:
        return None if data is None else read_strictly(_Signed, data)
    except (ValueError, TypeError, RecursionError):
        return None
