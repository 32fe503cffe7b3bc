"""Damage at the target: remembered until it is repaired, and what a retry takes up.

`damage.parquet` holds the receipts of landed objects that `noria verify` found gone, replaced, or
of other bytes. Reconciling finds the first two as well, in its list of differences. A retry takes
such entries up as it does failures. What was sent before is not overwritten: all that is written is
written only if the name is free. So an object that is damaged is deleted first, and only if it is
the one of the receipt: the same ETag and the same transfer id. Anything else under the name stays,
and the entry ends as a conflict if that has other bytes than the source.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.engine.planning import Prepared
from noria.engine.replay import Retrial
from noria.manifests.count_text import count_text
from noria.manifests.errors import (
    ConfigurationError,
    NoriaError,
    TargetConflict,
    all_causes,
    passing_causes,
)
from noria.manifests.job.damage import (
    DAMAGE_CAUSES,
    DAMAGED,
    GONE,
    REPLACED,
    damaged_file,
    read_damage,
    write_damage,
)
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import value_counts
from noria.manifests.job.reconcile import DIFFERENCES_FILE
from noria.manifests.schema import RECEIPT_SCHEMA
from noria.workers.stores.paced import PacedStore, PacedTarget

log = logging.getLogger("noria.repair")

RETRY_CAUSES = all_causes() | DAMAGE_CAUSES
"""What a retry may be asked for."""
_BY_DIFFERENCE = {"missing": GONE, "differing": REPLACED}


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedAgain:
    """What a person asks to try again: entries of these causes, or those that a file names."""

    causes: Collection[str] = RETRY_CAUSES
    keys: Path | None = None
    """A file of names as failures.parquet has them, one on a line."""


def note_damage(directory: JobDirectory, found: Path, *, complete: bool) -> int:
    """Remember what a verification found; return of how many objects damage is known now.

    `found` holds its failures. A verification that is not complete does not clear earlier damage;
    nor does one that is, of objects that it could not look at.
    """
    table = pq.read_table(found, schema=RECEIPT_SCHEMA)
    of_target = pc.is_in(table["cause"], value_set=pa.array(sorted(DAMAGE_CAUSES)))
    known, earlier = table.filter(of_target), read_damage(directory)
    if complete:
        not_seen = table["key"].filter(pc.invert(of_target))
        earlier = earlier.filter(pc.is_in(earlier["key"], value_set=not_seen))
    known = pa.concat_tables([_without(earlier, known["key"]), known])
    write_damage(directory, known)
    return len(known)


def known_damage(directory: JobDirectory) -> dict[str, int]:
    """Cause -> objects that a verification found damaged, and that nobody has sent again."""
    known = read_damage(directory)
    return dict(value_counts(known["cause"])) if len(known) else {}


def retrial_of(ready: Prepared, asked: AskedAgain | None, attempt: int) -> Retrial:
    """What a run takes up again; makes way at the target for what is damaged there.

    Without a request it is what failed for a cause that may pass. The caller holds the job, and
    calls forget_damage() once the retrial is entered. May be repeated at any point.
    """
    if asked is None:
        return Retrial(causes=passing_causes(), attempt=attempt)
    names = None if asked.keys is None else _names_in(asked.keys)
    damage = read_damage(ready.directory).to_pylist()
    stuck = {
        row["key"]
        for row in damage
        if row["cause"] == DAMAGED
        and (row["key"] in names if names is not None else DAMAGED in asked.causes)
        and not _make_way(ready, row)
    }
    if stuck:
        log.warning(
            "%s could not be deleted at the target, so that nothing is sent in their place: what "
            "hindered it is said above; mend that, or delete them yourself, then retry",
            count_text(len(stuck), "damaged object"),
        )
    if names is not None:
        return Retrial(causes=(), keys=pa.array(sorted(names - stuck)), attempt=attempt)
    keys = {row["key"] for row in damage if row["cause"] in asked.causes}
    keys |= set(_differing(ready.directory, asked.causes))
    causes = {*passing_causes(), *asked.causes}
    return Retrial(causes=causes, keys=pa.array(sorted(keys - stuck), pa.string()), attempt=attempt)


def forget_damage(directory: JobDirectory, retrial: Retrial) -> None:
    """Forget the damage of entries that are open again: they get another receipt."""
    if not retrial.keys:
        return
    known = read_damage(directory)
    if len(known):
        write_damage(directory, _without(known, retrial.keys))


def _without(receipts: pa.Table, keys: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Receipts of all other entries."""
    return receipts.filter(pc.invert(pc.is_in(receipts["key"], value_set=keys)))


def _make_way(ready: Prepared, row: Mapping[str, object]) -> bool:
    """Delete a damaged object if it is the one of the receipt; False if it is still there.

    The deletion carries the ETag as a condition; a target that is not known to compare it is looked
    at right before. What the source no longer has stays: it may be all that is left of it.
    """
    target = PacedTarget(inner=ready.target.with_capabilities(ready.facts.capabilities))
    key, etag, txid = (row[name] for name in ("target_key", "target_etag", "txid"))
    name = ready.facts.target_prefix + str(key)
    try:
        head = target.head(name)
        is_the_one = head is not None and head.txid is not None and head.txid == txid
        if head is not None and is_the_one and head.etag == etag:
            if not _source_has(ready, row):
                log.warning(
                    "a damaged object stays at the target: the source no longer has what was moved"
                )
                return False
            target.delete_object(name, etag=head.etag)
    except TargetConflict:
        return True  # it is another one by now, which the transfer will find
    except NoriaError as error:
        log.warning("a damaged object stays at the target: %s", error.message)
        return False
    return True


def _source_has(ready: Prepared, row: Mapping[str, object]) -> bool:
    """Whether the source still has what the receipt is of. A version of it is not looked for."""
    if row["source_version"] is not None:
        return True
    source = PacedStore(inner=ready.source)
    head = source.head(ready.facts.source_prefix + str(row["key"]))
    return head is not None and head.etag == row["source_etag"]


def _differing(directory: JobDirectory, causes: Collection[str]) -> Iterator[str]:
    """Entries whose objects the last reconcile found gone or replaced."""
    path = directory.path(DIFFERENCES_FILE)
    if not path.is_file():
        return
    try:
        table = pq.read_table(path, columns=["what", "key"])
    except (OSError, ValueError, pa.ArrowException):
        raise damaged_file(path) from None
    asked = [what for what, cause in _BY_DIFFERENCE.items() if cause in causes]
    found = table.filter(pc.is_in(table["what"], value_set=pa.array(asked, pa.string())))
    yield from found["key"].to_pylist()


def _names_in(path: Path) -> set[str]:
    try:
        lines = path.read_bytes().decode().split("\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{path} cannot be read: {why}") from None
    names = {line.removesuffix("\r") for line in lines} - {""}
    if not names:
        raise ConfigurationError(f"{path} names no object")
    return names
