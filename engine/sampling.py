"""A sample for `noria verify`: who is read back, and what may be said of all after that.

The objects are drawn from the newest signed checkpoint (manifests/proof/drawing.py), and read as
any others are. Only if each of them is as its receipt says is anything said of those that were not
drawn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from noria.engine.proof.sealed import signed_for_a_draw, standing_objects
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.damage import DAMAGE_CAUSES
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.results import read_result, write_places
from noria.manifests.job.seals import read_seals
from noria.manifests.model import Level
from noria.manifests.passes.migration import Migration
from noria.manifests.passes.standing_receipts import Receipts, StandingCount
from noria.manifests.proof.draw import SampleRule, read_rule
from noria.manifests.proof.drawing import DrawnObject, draw
from noria.manifests.proof.folder import last_of_each_pass

SEED_LETTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleWishes:
    """What a sample should let one say, and what it is drawn with."""

    rule: SampleRule
    seed: str = ""
    """A word that nobody knew when the checkpoint was signed; "": the checkpoint alone."""


def sample_wishes(sample: str | None, seed: str | None = None) -> SampleWishes | None:
    """What --sample and --seed ask for; None: no sample. Raises ConfigurationError."""
    if sample is None:
        if seed is not None:
            raise ConfigurationError("--seed is for a sample: give --sample, too")
        return None
    if seed is not None and not (seed.isprintable() and len(seed) <= SEED_LETTERS_MAX):
        raise ConfigurationError(
            f"--seed: one printable line of at most {SEED_LETTERS_MAX} letters"
        )
    try:
        return SampleWishes(rule=read_rule(sample), seed=seed or "")
    except ValueError as error:
        raise ConfigurationError(f"--sample {sample}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleDraw:
    """What was drawn."""

    wishes: SampleWishes
    objects: int
    """How many stand, of which it was drawn."""
    checkpoint: int
    checkpoint_sha256: str
    """Of its text."""
    drawn: Sequence[DrawnObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFinding:
    """What reading a sample back has shown. An object counts once, whatever its size."""

    objects: int
    """How many stand under signed checkpoints, of which it was drawn."""
    drawn: int
    reread: int
    """Drawn, and every byte is that of the receipt."""
    damaged: int
    """Drawn, and damaged, missing or replaced at the target."""
    unreadable: int
    """Drawn, and could not be read, so that nothing is known of it."""
    gone_at_both: int
    """Drawn, and gone at both ends."""
    damaged_at_most: str
    """Percent, as it was asked for."""
    confidence: str
    """Percent, as it was asked for."""
    is_claimed: bool
    """At most `damaged_at_most` of `objects` are damaged, with that confidence. False: that cannot
    be said."""
    checkpoint: int
    """The number of the one that it was drawn from."""
    checkpoint_sha256: str
    seed: str


def drawn_sample(migration: Migration, wishes: SampleWishes) -> SampleDraw | None:
    """Draw it; None: it would be all objects, so that they are to be read as without a sample.

    Raises ConfigurationError if there is no signed checkpoint of what stands, and
    JobDirectoryError if receipts are not those that were signed.
    """
    kept = signed_for_a_draw(migration)
    objects = standing_objects(migration, last_of_each_pass(kept))
    count = wishes.rule.objects
    if count >= objects:
        return None
    return SampleDraw(
        wishes=wishes,
        objects=objects,
        checkpoint=kept[-1].checkpoint.number,
        checkpoint_sha256=kept[-1].note.digest,
        drawn=draw(migration, kept, wishes.seed, count),
    )


def note_drawn(
    sample: SampleDraw, jobs: Sequence[Receipts], home: JobDirectory, area: str
) -> list[StandingCount]:
    """Note what is to be read of each of these jobs, where their ReadBacks look for it."""
    of_pass = defaultdict[int, list[DrawnObject]](list)
    for each in sample.drawn:
        of_pass[each.of_pass].append(each)
    found = []
    for job in jobs:
        drawn = of_pass[job.number]
        places = ((each.shard, each.row) for each in drawn)
        write_places(home, job.job.drawn_name(area), places)
        counted = StandingCount(
            objects=len(drawn),
            bytes=sum(each.size for each in drawn),
            shards={each.shard for each in drawn},
        )
        found.append(counted)
    return found


def sample_finding(
    sample: SampleDraw,
    home: JobDirectory,
    area: str,
    failures: Iterable[Path],
    gone_at_both: int,
    *,
    complete: bool,
) -> SampleFinding:
    """What the results in `area` show of a sample.

    `failures` are files of what did not turn out as its receipt says, and `gone_at_both` is how
    many entries were taken out of them. Raises JobDirectoryError if a result is damaged.
    """
    rule, causes = sample.wishes.rule, dict[str, bool]()
    for path in failures:
        for row in pq.read_table(path, columns=["key", "cause"]).to_pylist():
            is_damage = row["cause"] in DAMAGE_CAUSES
            causes[row["key"]] = causes.get(row["key"], False) or is_damage
    reread, verdicts = _reread(home, area), Counter(causes.values())
    drawn = len(sample.drawn)
    rest = drawn - reread - len(causes)
    is_whole = complete and 0 <= rest <= gone_at_both
    return SampleFinding(
        objects=sample.objects,
        drawn=drawn,
        reread=reread,
        damaged=verdicts[True],
        unreadable=verdicts[False],
        gone_at_both=gone_at_both if is_whole else 0,
        damaged_at_most=str(rule.damaged_at_most),
        confidence=str(rule.confidence),
        is_claimed=is_whole and not causes and drawn >= rule.objects,
        checkpoint=sample.checkpoint,
        checkpoint_sha256=sample.checkpoint_sha256,
        seed=sample.wishes.seed,
    )


def _reread(home: JobDirectory, area: str) -> int:
    """Objects that were read whole: one of several leases has a result in each of them."""
    found = dict[tuple[int, int], bool]()
    for sealed in read_seals(home, area):
        table = read_result(home, sealed, ["row", "level"])
        for row in table.to_pylist():
            place = sealed.shard, row["row"]
            found[place] = found.get(place, True) and row["level"] == Level.REREAD.value
    return sum(found.values())
