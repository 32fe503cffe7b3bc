"""A plan that leaves nothing behind: what `noria copy` would move, and what it would not.

It is the plan itself, frozen in a temporary folder that is gone at the end of the block, so that
its digits and its digest are those of the real one. Nothing is written to the target: what only a
write would tell is taken from a probe of the last hour, else from what is known of such stores, and
is listed as not tried. The source has to be listed; objects are asked for their attributes if the
rights allow that. No right at the target is needed; its listing, if it may be read, says whether
anything stands there.

A dry run that is killed leaves its temporary folder to the next one of the same ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow.compute as pc

from noria.engine.attribute_look import AttributeLook, look_at_rows
from noria.engine.config.jobfile import JobConfig
from noria.engine.config.locations import provider_of
from noria.engine.config.reading import with_endpoints
from noria.engine.config.stores import open_end
from noria.engine.first_look import SourceLook, checked_access, holds_nothing
from noria.engine.known_targets import KnownTarget
from noria.engine.made_targets import is_missing, may_be_made
from noria.engine.planning import PlannedRows, Say, find_facts
from noria.engine.scratch import lone_scratch_folder
from noria.engine.within_source import refuse_job_in_source
from noria.engine.worker_spec import JobFacts
from noria.manifests.errors import ConfigurationError, NoriaError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.reader import Manifest
from noria.manifests.plan.providers import known_name_rules
from noria.workers.stores.listing import Listing
from noria.workers.stores.probe import TargetFacts
from noria.workers.stores.protocol import NOTHING_KNOWN, TargetStore

NOT_TRIED: Final = (
    "whether the target takes a write at all",
    "which checksum it verifies",
    "whether it writes only if absent",
    "which names it changes or refuses beyond what is known of such stores",
    "whether it keeps tags",
)
"""What only a write to the target would tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSight:
    """What is known of the target without a write."""

    facts: TargetFacts
    provider: str
    """Whose attributes the target holds, as its store says."""
    was_empty: bool | None = None
    """None: it cannot be listed."""
    trouble: str | None = None
    """Why not; a job would be refused for the same reason."""
    would_be_made: bool = False
    """It is missing, and a job would make it."""
    probed: bool = False
    """A probe of the last hour is believed, as a plan would believe it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a job would do. The manifest is gone when the block of dry_run() ends."""

    config: JobConfig
    facts: JobFacts
    manifest: Manifest
    sight: TargetSight
    attributes: AttributeLook = field(default_factory=AttributeLook)
    kinds: Mapping[str, int] = field(default_factory=dict)
    """Of what would move: kind of blob -> objects, if the listing states one."""
    job_exists: bool = False

    @property
    def not_tried(self) -> tuple[str, ...]:
        return () if self.sight.probed else NOT_TRIED


@contextmanager
def dry_run(
    config: JobConfig, root: Path | None, say: Say, *, attributes: bool = True
) -> Iterator[DryRun]:
    """Plan a job for the block, and leave nothing. `root` is where its directory would be.

    Without `attributes`, no object is asked for. Raises ConfigurationError, AccessDenied or
    InventoryError if the source cannot be used, or if the plan would be refused for what it holds.
    """
    config = with_endpoints(config)
    if root is not None:
        refuse_job_in_source(config, root)
    moments = config.filter.moments(datetime.now(UTC))
    scratch = config.plan.scratch
    if scratch is not None and not Path(scratch).is_dir():
        scratch = None  # it would stay
    ends = f"dry run\0{config.source.url}\0{config.target.url}"
    with lone_scratch_folder(ends, scratch) as folder, SourceLook(config) as source:
        say("a dry run: nothing is written but temporary files")
        sight = look_without_writing(config)
        source.check()
        facts, rules = find_facts(
            config, source, sight.facts, was_empty=sight.was_empty is not False
        )
        (folder / "freeze").mkdir()
        rows = PlannedRows(config=config, facts=facts, rules=rules, moments=moments)
        say("reading the inventory")
        manifest = rows.freeze(source, None, folder / "manifest", folder / "freeze", say)
        found = AttributeLook()
        if attributes:
            found = look_at_rows(config, facts, manifest, sight.provider)
        yield DryRun(
            config=config,
            facts=facts,
            manifest=manifest,
            sight=sight,
            attributes=found,
            kinds=_kinds(manifest),
            job_exists=root is not None and JobDirectory.exists(root),
        )


def look_without_writing(config: JobConfig) -> TargetSight:
    """What the target says to requests that change nothing. It need not be there."""
    end, provider = config.target, provider_of(config.target)
    try:
        store = open_end(end)
    except ConfigurationError as error:
        return TargetSight(facts=_known_of(provider), provider=provider, trouble=error.message)
    try:
        if may_be_made(end) and is_missing(store, end):
            facts = _known_of(provider)
            return TargetSight(
                facts=facts, provider=store.provider, was_empty=True, would_be_made=True
            )
        return _look(config, store, provider)
    except NoriaError as error:
        return TargetSight(
            facts=_known_of(provider), provider=store.provider, trouble=error.message
        )
    finally:
        store.close()


def _look(config: JobConfig, store: TargetStore, provider: str) -> TargetSight:
    end = config.target
    prefix = end.location.prefix
    checked_access(store, "target", end).result()
    with Listing(store, prefix, streams=1) as listing:
        was_empty = holds_nothing(listing, end)
    answered = store.answered_as(prefix)
    known = KnownTarget(store, prefix).recall()
    if known is not None and known.provider == answered:
        return TargetSight(facts=known, provider=store.provider, was_empty=was_empty, probed=True)
    facts = _known_of(answered or provider, answered)
    return TargetSight(facts=facts, provider=store.provider, was_empty=was_empty)


def _known_of(provider: str, answered: str | None = None) -> TargetFacts:
    """What is known of a provider's stores before a probe."""
    return TargetFacts(
        capabilities=NOTHING_KNOWN,
        name_rules=known_name_rules(provider),
        provider=answered,
        wrote_objects=False,
    )


def _kinds(manifest: Manifest) -> dict[str, int]:
    """Kind of blob -> objects that would move, one shard in memory at a time."""
    found: Counter[str] = Counter()
    for rows in manifest.read_shards(0, manifest.shard_count, ["blob_type", "reason"]):
        if rows["blob_type"].null_count == len(rows):
            continue
        kinds = rows["blob_type"].filter(pc.is_null(rows["reason"]))
        for count in pc.value_counts(kinds).to_pylist():
            if count["values"] is not None:
                found[count["values"]] += count["counts"]
    return dict(sorted(found.items()))
