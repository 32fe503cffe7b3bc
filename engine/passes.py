"""The passes of a migration: which one is next, and how it is planned and run.

A pass that was begun is brought to its end before another one is planned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.engine.config.jobfile import JobConfig
from noria.engine.config.reading import with_endpoints, with_settings
from noria.engine.convergence import PassSummary
from noria.engine.job import RunReport
from noria.engine.known_targets import ProbedTargets
from noria.engine.live_settings import SettingsOfAll
from noria.engine.pass_records import (
    note_all_ended,
    note_ended,
    note_planned,
)
from noria.engine.past_passes import passes_of
from noria.engine.planning import (
    PassFacts,
    Prepared,
    check_trust,
    job_parts,
    pass_facts,
    prepared,
    prepared_pass,
)
from noria.engine.proof.at_the_end import end_signing, with_proof
from noria.engine.repair import known_damage
from noria.engine.withdrawal import end_withdrawal
from noria.engine.within_source import refuse_target_in_source
from noria.manifests.errors import AnotherDriver, ConfigurationError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Sign, read
from noria.manifests.manifest.reader import Manifest
from noria.manifests.passes.migration import Migration, migration_of
from noria.manifests.passes.renames import write_renames
from noria.manifests.passes.standing_damage import cross_out_repaired

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassWishes:
    """What a person asks of one pass; None: as the job file says."""

    mirror: bool | None = None
    """Delete at the target what is gone at the source."""
    any_number: bool = False
    """However many there are."""
    by_content: bool = False
    """Compare the bytes of what a listing does not tell apart."""
    inventory: str | None = None
    """A newer inventory of the source than the first pass had: its URL, or "listing"."""
    sign: Sign | None = None
    """Signs the records of this pass; None: they are not signed."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings of [run] that replace the job's, for what holds the listing of the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaCounts:
    """What a later pass found, in objects and bytes."""

    objects: Mapping[str, int]
    """By Delta; and what has no row: gone_before, unchanged."""
    bytes: Mapping[str, int]

    @classmethod
    def of(cls, manifest: Manifest) -> DeltaCounts | None:
        """None for a first pass."""
        found = manifest.facts.get("delta")
        if found is None:
            return None
        return cls(
            objects={name: counts["objects"] for name, counts in found.items()},
            bytes={name: counts["bytes"] for name, counts in found.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PassReport:
    """A pass that was run."""

    number: int
    place: Path
    """Its job directory."""
    run: RunReport
    delta: DeltaCounts | None
    """What it found; None for the first."""
    renamed: int | None = None
    """Of what is new, objects that are gone under another name. None: that was not looked for."""

    @property
    def exit_code(self) -> int:
        return self.run.exit_code


def current_pass(directory: Path) -> Path:
    """The job directory of a migration's latest pass; a directory of one pass is its own."""
    migration, number = migration_of(directory)
    return migration.current if number == 1 else directory


def whole_migration(directory: Path) -> Migration:
    """The migration in this directory.

    Raises ConfigurationError if there is no job, or it is a pass or a way back of a migration.
    """
    migration, number = migration_of(directory)
    if number > 1:
        raise ConfigurationError(
            f"{directory} is a pass of a migration: name the migration, {migration.root}"
        )
    if "reverses" in JobDirectory.open(migration.root).job():
        raise ConfigurationError(
            f"{directory} is a way back of a migration: name the migration, "
            f"{migration.root.parent.parent}"
        )
    return migration


def past_passes(directory: Path) -> list[PassSummary]:
    """The passes of a migration that have ended and were recorded; of a pass alone: none."""
    migration, number = migration_of(directory)
    return passes_of(read(JobDirectory(migration.root))) if number == 1 else []


def damage_of_earlier_passes(directory: Path) -> Counter[str]:
    """Cause -> objects that passes before the latest have left, and that are damaged there."""
    migration, number = migration_of(directory)
    earlier = range(1, migration.last if number == 1 else 1)
    found = (known_damage(JobDirectory(migration.place(each))) for each in earlier)
    return sum(map(Counter, found), Counter[str]())


def run_pass(
    root: Path,
    wishes: PassWishes,
    run: Callable[[Prepared], RunReport],
    say: Say,
    *,
    probed: ProbedTargets | None = None,
    of_all: SettingsOfAll | None = None,
) -> PassReport:
    """Plan the next pass of the migration at root and run it, or bring the last one to its end.

    `run` runs what was planned: job.run() with what it needs. `probed` and `of_all` are as in
    prepared(). Raises ConfigurationError if root holds no job, or is a pass itself, or the
    migration stands where no pass may follow; InventoryError if more is gone than may be deleted;
    what prepared() raises.
    """
    migration = whole_migration(root)
    end_withdrawal(migration, wishes.sign)
    number = migration.last
    if note_all_ended(migration, wishes.sign):
        number += 1
    elif number > 1 or (root / "manifest" / "manifest.json").is_file():
        say(f"pass {number} was begun: it is brought to its end first")
    note_planned(migration, number, wishes.sign)
    with _prepared(migration, number, wishes, say, probed, of_all) as ready:
        found = DeltaCounts.of(ready.manifest)
        renamed = None if found is None else write_renames(ready.directory, ready.manifest)
        signing = end_signing(migration.root)
        ended = run(ready)
    place = migration.place(number)
    if ended.complete:
        note_ended(migration, number, wishes.sign)
        # If another process has it by now, the pass after this one does so.
        with suppress(AnotherDriver), JobDirectory.open(place).hold():
            cross_out_repaired(migration, number)
        ended = with_proof(ended, place, signing)
    return PassReport(number=number, place=place, run=ended, delta=found, renamed=renamed)


@contextmanager
def _prepared(
    migration: Migration,
    number: int,
    wishes: PassWishes,
    say: Say,
    probed: ProbedTargets | None,
    of_all: SettingsOfAll | None,
) -> Iterator[Prepared]:
    config, _ = job_parts(JobDirectory.open(migration.root))
    if number == 1:
        check_trust(JobDirectory.open(migration.root))
        with prepared(
            *(config, migration.root, say),
            probed=probed,
            overrides=wishes.overrides,
            of_all=of_all,
        ) as ready:
            yield ready
        return
    sync = config.sync
    facts = PassFacts(
        number=number,
        mirror=sync.deletions == "mirror" if wishes.mirror is None else wishes.mirror,
        deletions_max=None if wishes.any_number else sync.deletions_max,
        by_content=wishes.by_content,
    )
    listed = _with_inventory(config, wishes)
    refuse_target_in_source(with_endpoints(listed))
    with prepared_pass(
        *(migration.root, listed, facts, say),
        probed=probed,
        overrides=wishes.overrides,
        of_all=of_all,
    ) as ready:
        planned = pass_facts(ready.directory)
        if wishes.mirror is False and planned is not None and planned.mirror:
            raise ConfigurationError(
                f"pass {number} was begun with --deletions mirror, and would delete: it is brought "
                "to its end by the same command as before"
            )
        yield ready


def _with_inventory(config: JobConfig, wishes: PassWishes) -> JobConfig:
    """The job with a list of the source as it is now. Raises ConfigurationError."""
    known = config.inventory
    if wishes.inventory == "listing":
        listing = {"kind": "listing", "url": None, "names": "whole"}
        return with_settings(config, {"inventory": listing}, "noria sync")
    if wishes.inventory is not None and known.kind == "listing":
        raise ConfigurationError(
            "the first pass listed the source, so that nobody knows of which kind the inventory "
            "is: this migration goes on without --inventory, or with --inventory listing"
        )
    if wishes.inventory is not None:
        return with_settings(config, {"inventory": {"url": wishes.inventory}}, "noria sync")
    if known.kind == "listing":
        return config
    raise ConfigurationError(
        f"the first pass was planned from {known.url}, which says nothing of what came since: name "
        "a newer one with --inventory URL, or list the source with --inventory listing"
    )
