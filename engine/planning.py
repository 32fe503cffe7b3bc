"""From what a user asks for to a frozen manifest.

Both ends are checked, the target is probed, the inventory is read. Nothing is written to the job
directory before both ends have answered, and nothing to the target but the probe's canaries, which
are removed again, and whose token is durable before the first of them. A plan that was cut short is
made again; if its source was being listed, the listing goes on where it was (kept_listing.py). One
that is frozen never changes.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from noria.engine.canary_removal import (
    CanaryRemoval,
    ProbeNote,
    lone_probe_root,
    pending_removal,
    remove_of_killed_plan,
)
from noria.engine.config.filters import Moments
from noria.engine.config.jobfile import EndConfig, JobConfig, RunConfig
from noria.engine.config.locations import Scheme, provider_of
from noria.engine.config.reading import job_config, with_endpoints
from noria.engine.config.stores import open_end
from noria.engine.first_look import SourceLook, TargetLook
from noria.engine.kept_listing import KeptListing
from noria.engine.known_targets import ProbedTargets
from noria.engine.listed import LINE_SECONDS, SHOW_SECONDS, Tell, as_line, telling
from noria.engine.listing_guards import listing_guards, refuse_foreign_commands
from noria.engine.listing_pace import PLAN_STATUS_FILE, ListingPace, ListingTeller, ToldStatus
from noria.engine.live_settings import SettingsOfAll
from noria.engine.made_targets import make_missing, may_be_made
from noria.engine.scratch import scratch_folder
from noria.engine.status import JobStatus, Phase
from noria.engine.trusted_ends import check_named, check_unchanged, planned_endpoints, trust_ends
from noria.engine.within_source import refuse_job_in_source
from noria.engine.worker_spec import JobFacts
from noria.manifests.access import make_folders
from noria.manifests.count_text import count_text
from noria.manifests.counters import StoreRole
from noria.manifests.errors import ConfigurationError, InventoryError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.reconcile import missing_keys
from noria.manifests.manifest.freeze import freeze
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.model import PassedOver
from noria.manifests.passes.delta import DeletionRules, PassDelta
from noria.manifests.passes.migration import Migration, migration_of
from noria.manifests.passes.standing_damage import damaged_keys, lost_keys, standing_damage
from noria.manifests.plan.filters import FilteredRows, Filters
from noria.manifests.plan.providers import NameRules, limits_for
from noria.manifests.strict_json import from_json
from noria.workers.stores.background import BackgroundCall, all_results
from noria.workers.stores.probe import TargetFacts
from noria.workers.stores.protocol import SourceStore, TargetStore

Say = Callable[[str], None]

_ELSEWHERE = ("url", "endpoint", "create")
"""Settings of an end that are compared as part of what a job is, or make no difference any more."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job that can run."""

    directory: JobDirectory
    config: JobConfig
    """As it was asked for, with the part_bytes that the plan has."""
    facts: JobFacts
    manifest: Manifest
    look: TargetLook | None = None
    """The look at the target by which the job was planned, if that was just now."""

    @cached_property
    def target(self) -> TargetStore:
        """The target, for the few requests of the driver, which share its connections."""
        return open_end(self.config.target) if self.look is None else self.look.store

    @cached_property
    def source(self) -> SourceStore:
        """The source, for the few requests of the driver."""
        return open_end(self.config.source, read_only=True)

    @cached_property
    def removal(self) -> CanaryRemoval:
        """What removes the canaries of this job's probe, if any are left."""
        if self.look is not None:
            return self.look.removal
        return pending_removal(self.directory, self.target, self.facts.target_prefix)

    def close(self) -> None:
        """Close the connections that the plan has opened. What is still asked for opens its own."""
        if self.look is not None:
            self.look.store.close()


@contextmanager
def prepared(
    config: JobConfig,
    root: Path,
    say: Say,
    *,
    probed: ProbedTargets | None = None,
    overrides: Mapping[str, Any] | None = None,
    of_all: SettingsOfAll | None = None,
) -> Iterator[Prepared]:
    """Plan a job, or open the plan at root, for the block. May be repeated.

    `probed` is what probes of other jobs in this process have found. `overrides` replaces [run]
    settings, for what holds the listing of the source; `of_all` is what holds for all datasets of
    which it is one.

    At the end of the block the probe's canaries are gone. Raises ConfigurationError, AccessDenied
    or InventoryError before anything is written if an end cannot be used; ConfigurationError if
    root holds another job; AnotherDriver.
    """
    config = with_endpoints(config)
    if JobDirectory.exists(root):
        directory = JobDirectory.open(root)
        _refuse_other_job(directory, config)
        trust_ends(job_parts(directory)[1].job_id, config)
        with directory.hold():
            ready = finish_plan(directory, say, named=config, overrides=overrides, of_all=of_all)
    else:
        ready = _plan(config, root, say, probed=probed, overrides=overrides, of_all=of_all)
    with closing(ready), removed_at_the_end(ready):
        yield ready


@contextmanager
def removed_at_the_end(ready: Prepared) -> Iterator[None]:
    """Remove the probe's canaries while the block runs, and be done with it when it ends."""
    ready.removal.begin()
    try:
        yield
    except KeyboardInterrupt:
        ready.removal.finish_soon()
        raise
    except BaseException:
        ready.removal.finish()
        raise
    ready.removal.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class PassFacts:
    """What job.json says of a later pass of a migration."""

    number: int
    """From 2 on."""
    mirror: bool
    """Delete at the target what is gone at the source."""
    deletions_max: float | None
    """Most of what stands that may be deleted, from 0 to 1; None: any."""
    by_content: bool = False
    """Compare the bytes of what a listing does not tell apart."""

    @property
    def rules(self) -> DeletionRules:
        return DeletionRules(mirror=self.mirror, share_max=self.deletions_max)


def pass_facts(directory: JobDirectory) -> PassFacts | None:
    """None for a first pass. Raises JobDirectoryError if job.json is damaged."""
    noted = directory.job().get("pass")
    try:
        return None if noted is None else from_json(PassFacts, noted)
    except ValueError as error:
        raise JobDirectoryError(
            f"{directory.root}/job.json is damaged; restore it from a copy"
        ) from error


@contextmanager
def prepared_pass(
    root: Path,
    config: JobConfig,
    facts: PassFacts,
    say: Say,
    *,
    probed: ProbedTargets | None = None,
    overrides: Mapping[str, Any] | None = None,
    of_all: SettingsOfAll | None = None,
) -> Iterator[Prepared]:
    """Plan a later pass of the migration at root, or open its plan, for the block.

    As prepared(). `config` is the first pass's, but for the inventory: ends, filter, names and plan
    do not change. What a killed plan was asked for gives way to what is asked for now.
    """
    migration = Migration(root)
    first, place = JobDirectory.open(root), migration.place(facts.number)
    check_trust(first)
    if JobDirectory.exists(place):
        directory = JobDirectory.open(place)
        if pass_facts(directory) != facts or job_parts(directory)[0] != config:
            with directory.hold():  # whoever plans it at this moment goes on
                directory.withdraw()  # unless its plan is frozen
    if JobDirectory.exists(place):
        with directory.hold():
            ready = finish_plan(directory, say, overrides=overrides, of_all=of_all)
        if pass_facts(directory) != facts:
            say(f"pass {facts.number} is planned already, with other --deletions than now")
    else:
        follows = Follows(first, facts)
        ready = _plan(config, place, say, follows, probed, overrides, of_all)
    with closing(ready), removed_at_the_end(ready):
        yield ready


@dataclass(frozen=True, slots=True)
class Follows:
    """What a later pass takes over from the first."""

    first: JobDirectory
    facts: PassFacts


def _plan(
    config: JobConfig,
    root: Path,
    say: Say,
    follows: Follows | None = None,
    probed: ProbedTargets | None = None,
    overrides: Mapping[str, Any] | None = None,
    of_all: SettingsOfAll | None = None,
) -> Prepared:
    (JobDirectory if probed is None else probed).check_place(root)
    if follows is None:
        refuse_job_in_source(config, root)
        moments = config.filter.moments(datetime.now(UTC))
    else:
        # Ages count from the first pass on: what it moved does not become too old.
        moments = _moments(follows.first)
    token = probe_token(root, config.target)
    killed = [
        BackgroundCall(partial(remove_of_killed_plan, place), "killed")
        for place in (root, lone_probe_root(config.target))
    ]
    if config.filter.include and config.filter.exclude and follows is None:
        say(
            "included patterns come before excluded ones, as with rclone, so that what both match "
            "is moved; rules (--filter-from) can say it in another order"
        )
    say("checking both ends")
    resting = None if probed is None else probed.connections
    run = run_settings(config, overrides)
    if follows is not None:
        refuse_foreign_commands(follows.first, run, overrides or {})
    guards = listing_guards(config.source, run, of_all)
    with (
        ListingPace(root, run, StoreRole.SOURCE, guards=guards, of_all=of_all) as pace,
        SourceLook(config, pace=pace, resting=resting) as source,
        _target_look(config, source, token, say, probed) as target,
    ):
        source.check()
        target.check()
        all_results(killed)
        target.begin_probe(ProbeNote(root))
        # What sorts the plan takes a tenth of a second to load: while answers are on their way.
        BackgroundCall(partial(importlib.import_module, "duckdb"), "imports")
        directory = _create(config, root, source, target, token, moments, follows)
        if not target.facts().wrote_objects:
            say(
                "what is written to the target cannot be deleted again, so that nothing but parts "
                "was tried there: no condition is relied on"
            )
        with directory.hold():
            try:
                ready = finish_plan(directory, say, source, named=config)
            except (ConfigurationError, InventoryError):
                # What is corrected now may be another job than this one.
                directory.withdraw()
                raise
        target.removal.note_in(directory)
        return replace(ready, look=target)


def run_settings(config: JobConfig, overrides: Mapping[str, Any] | None) -> RunConfig:
    """[run] as this command would have it. Raises ConfigurationError."""
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    merged = {**config.model_dump(), "run": {**config.run.model_dump(), **given}}
    return job_config(merged, "settings of this run").run


def _target_look(
    config: JobConfig, source: SourceLook, token: str, say: Say, probed: ProbedTargets | None
) -> TargetLook:
    """Begin to look at the target; one that is missing is made first, if that is wanted."""
    if may_be_made(config.target):
        source.check()
        make_missing(config.target, say)
    return TargetLook(config.target, token, probed=probed)


def open_trusted(root: Path) -> Prepared:
    """The plan at root, for a command that sends requests to its ends; see check_trust()."""
    ready = open_prepared(root)
    check_trust(ready.directory)
    return ready


def open_prepared(root: Path) -> Prepared:
    """The plan at root. Raises JobDirectoryError if it is not finished."""
    directory = JobDirectory.open(root)
    return _with_manifest(directory, *job_parts(directory), open_manifest(directory.manifest_path))


def _with_manifest(
    directory: JobDirectory, config: JobConfig, facts: JobFacts, manifest: Manifest
) -> Prepared:
    plan = config.plan.model_copy(update={"part_bytes": manifest.options.part_bytes})
    return Prepared(
        directory=directory,
        config=config.model_copy(update={"plan": plan}),
        facts=facts,
        manifest=manifest,
    )


def check_trust(directory: JobDirectory, named: JobConfig | None = None) -> None:
    """Raise ConfigurationError if an end of the job was named by nobody but its own files.

    Also if this environment leads to another service than at planning. To be called before anything
    is sent to an end. `named` is the job as this command names it.
    """
    config, facts = job_parts(directory)
    if named is None or _ends(named) != _ends(config):
        check_named(directory.root, facts.job_id, config)
    planned = directory.job().get("endpoints")
    if isinstance(planned, dict):  # earlier editions have not noted it
        check_unchanged(directory.root, config, planned)


def job_parts(directory: JobDirectory) -> tuple[JobConfig, JobFacts]:
    job = directory.job()
    try:
        config = JobConfig.model_validate(job["config"])
    except (KeyError, ValueError) as error:
        raise JobDirectoryError(
            f"{directory.root}/job.json is damaged; restore it or plan a new job"
        ) from error
    return config, JobFacts.of(job)


def _refuse_other_job(directory: JobDirectory, config: JobConfig) -> None:
    """Raise ConfigurationError if the directory was planned for another job than `config`.

    Other ends, another inventory or filter: mixing two would move one and report the other.
    Another [plan]: a frozen plan does not change, and what is ignored must be said. Temporary
    files may lie anywhere.
    """
    asked, wanted = directory.job().get("asked"), _asked(config)
    if asked == wanted:
        _refuse_other_plan(directory, config)
        return
    asked = asked if isinstance(asked, dict) else {}
    what = [name for name in ("source", "target") if asked.get(name) != wanted[name]]
    changes = [
        f"its {name} is {_spoken(asked.get(name))}, not {_spoken(wanted[name])}" for name in what
    ]
    if asked.get("filter") != wanted.get("filter"):
        changes.append("its filter is another one")
    said = f" ({'; '.join(changes)})" if changes else ""
    raise ConfigurationError(
        f"{directory.root} holds a job for other ends, another inventory or another filter{said}; "
        "name another directory with --job, or resume that one with `noria run`"
    )


def _refuse_other_plan(directory: JobDirectory, config: JobConfig) -> None:
    planned = job_parts(directory)[0].plan
    wanted = config.plan.model_copy(update={"scratch": planned.scratch})
    changed = [f"plan.{name}" for name, value in planned if value != getattr(wanted, name)]
    for role, (was, end) in _ends_by_role(job_parts(directory)[0], config).items():
        changed += [
            f"{role}.{name}"
            for name, value in was
            if name not in _ELSEWHERE and value != getattr(end, name)
        ]
    if changed:
        raise ConfigurationError(
            f"{changed[0]} is not what {directory.root} was planned with, and a plan never "
            "changes: undo that, or name another directory"
        )


def _ends_by_role(planned: JobConfig, named: JobConfig) -> dict[str, tuple[EndConfig, EndConfig]]:
    return {
        "source": (planned.source, named.source),
        "target": (planned.target, named.target),
    }


def _spoken(asked: Any) -> str:
    """One end of `asked`, with the endpoint, which a variable may have named."""
    try:
        url, endpoint = asked
    except (TypeError, ValueError):
        return "unknown"
    return f"{url} at {endpoint or 'its own cloud'}"


def _ends(config: JobConfig) -> list[tuple[str, str | None]]:
    return [(end.url, end.endpoint) for end in (config.source, config.target)]


def _asked(config: JobConfig) -> dict[str, Any]:
    # Earlier versions did not know `names`: their job directories are the same jobs still.
    new = {"names"} if config.inventory.names == "whole" else set()
    filtered = config.filter.asked
    return {
        **({"filter": filtered} if filtered else {}),
        "source": [str(config.source.location), config.source.endpoint],
        "target": [str(config.target.location), config.target.endpoint],
        "inventory": config.inventory.model_dump(mode="json", exclude=new),
    }


def _create(
    config: JobConfig,
    root: Path,
    source: SourceLook,
    target: TargetLook,
    token: str,
    moments: Moments,
    follows: Follows | None,
) -> JobDirectory:
    if follows is None:
        was_empty = target.was_empty()
    else:
        was_empty = JobFacts.of(follows.first.job()).target_was_empty
    facts, rules = find_facts(config, source, target.facts(), was_empty=was_empty)
    if follows is not None:
        # The same names at the target, whatever a probe finds today.
        rules = _rules(follows.first)
    # What this refuses must not become a job that can neither run nor be planned again.
    config.plan_options(limits_for(facts.provider), rules, facts.target_prefix)
    job: dict[str, Any] = {
        "id": facts.job_id,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "as_of": source.as_of().timestamp(),
        "asked": _asked(config),
        "config": config.model_dump(mode="json"),
        "facts": asdict(facts),
        "name_rules": asdict(rules),
        "endpoints": planned_endpoints(config),
    }
    if follows is not None:
        job["pass"] = asdict(follows.facts)
        make_folders(root)  # with the modes of the first pass
    if target.removal.needed:
        job["probe_token"] = token
    if any(moments):
        job["modified_between"] = [None if at is None else str(at) for at in moments]
    directory = JobDirectory.create(root, job)
    trust_ends(facts.job_id, config)
    return directory


def probe_token(root: Path, target: EndConfig) -> str:
    """The same each time that a job is planned: a probe removes what a killed one has left."""
    place = f"{root.absolute()}\0{target.url}"
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:12]


def find_facts(
    config: JobConfig, source: SourceLook, found: TargetFacts, *, was_empty: bool
) -> tuple[JobFacts, NameRules]:
    """What the job is told of both ends. `found` is what is known of the target.

    Raises ConfigurationError if the source is not clear, or a filter is asked for one object.
    """
    single = source.single_object()
    if single is not None and config.filter.asked:
        raise ConfigurationError("the source names one object; a filter is for what has many")
    provider = provider_of(config.target)
    if provider == "s3" and found.provider is not None:
        provider = found.provider
    facts = JobFacts(
        job_id=secrets.token_hex(6),
        source_prefix=(
            config.source.location.prefix if single is None else single[: single.rfind("/") + 1]
        ),
        target_prefix=config.target.location.prefix,
        provider=provider,
        checksum=found.capabilities.checksum,
        if_absent=found.capabilities.if_absent,
        trailers=found.capabilities.checksum_in_trailer,
        target_was_empty=was_empty,
        single_object=single is not None,
        atomic_complete=found.capabilities.atomic_complete,
        drops_tags=found.keeps_tags is False,
        if_match=found.capabilities.if_match,
        if_match_delete=found.capabilities.if_match_delete,
    )
    return facts, found.name_rules


def finish_plan(
    directory: JobDirectory,
    say: Say = lambda line: None,
    source: SourceLook | None = None,
    *,
    named: JobConfig | None = None,
    overrides: Mapping[str, Any] | None = None,
    of_all: SettingsOfAll | None = None,
) -> Prepared:
    """The plan of a job directory that the caller holds; frozen now if it is not yet.

    `source` is a look at the source that is under way already, `named` the job as this command
    names it, `overrides` replaces [run] settings, `of_all` is as in prepared().
    """
    config, facts = job_parts(directory)
    scratch = (named or config).plan.scratch
    kept = KeptListing(directory, facts.job_id)
    if (directory.manifest_path / "manifest.json").is_file():
        check_trust(directory, named)
        kept.drop()  # a plan that was killed right after its freeze could not
        manifest = open_manifest(directory.manifest_path)
    elif source is not None:
        manifest = _freeze(directory, source, kept, scratch, say)
    else:
        check_trust(directory, named)
        run = run_settings(named or config, overrides)
        given = {} if named is None else named.run.model_dump(exclude_unset=True)
        refuse_foreign_commands(directory, run, {**given, **(overrides or {})})
        guards = listing_guards(config.source, run, of_all)
        with (
            ListingPace(
                directory.root, run, StoreRole.SOURCE, guards=guards, of_all=of_all
            ) as pace,
            SourceLook(config, kept, pace=pace) as source,
        ):
            manifest = _freeze(directory, source, kept, scratch, say)
    ready = _with_manifest(directory, config, facts, manifest)
    plan = ready.config.plan.model_copy(update={"scratch": scratch})
    return replace(ready, config=ready.config.model_copy(update={"plan": plan}))


def _freeze(
    directory: JobDirectory, source: SourceLook, kept: KeptListing, scratch: str | None, say: Say
) -> Manifest:
    rows = planned_rows(directory, _comparison(directory, say))
    if kept.state is None:
        say("reading the inventory")
    else:
        say(f"going on with the listing that was begun at {kept.begun}: {kept.listed:,} listed")
    assert source.pace is not None, "whoever plans gives it"
    planning = JobStatus(job=rows.facts.job_id, phase=Phase.PLANNING, updated_seconds=time.time())
    told = ToldStatus(directory, planning, PLAN_STATUS_FILE)
    teller = ListingTeller(source.pace, say, told)
    try:
        with scratch_folder(directory, scratch) as folder:
            manifest = rows.freeze(source, kept, directory.manifest_path, folder, say, teller.tell)
    except (ConfigurationError, InventoryError):
        # What is corrected now may be the source itself.
        kept.drop()
        raise
    finally:
        teller.close()
    kept.drop()
    return manifest


def _comparison(directory: JobDirectory, say: Say) -> Callable[[Path], PassDelta] | None:
    """What the rows of a later pass are compared with; None for a first one."""
    facts = pass_facts(directory)
    if facts is None:
        return None
    migration, number = migration_of(directory.root)
    say(f"pass {number}: looking up what stands since the last one")
    before = migration.state(number - 1)
    damage = standing_damage(migration, number - 1)
    lost = {*missing_keys(JobDirectory(migration.place(number - 1))), *lost_keys(damage)}
    if again := len(damage.filter(pc.invert(damage["gone"]))):
        say(f"{count_text(again, 'damaged object')} at the target: sent again in this pass")
    return partial(
        PassDelta,
        before,
        facts.rules,
        by_content=facts.by_content,
        missing=sorted(lost),
        damaged=damaged_keys(damage),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRows:
    """What becomes of the rows of a source in a plan."""

    config: JobConfig
    facts: JobFacts
    rules: NameRules
    moments: Moments
    """Between which an object must have been written; ages count from when the job was asked for.
    """
    compare: Callable[[Path], PassDelta] | None = None
    """With what stands since earlier passes; None: this is the first."""

    def freeze(
        self,
        source: SourceLook,
        kept: KeptListing | None,
        place: Path,
        scratch: Path,
        say: Say,
        tell: Tell | None = None,
    ) -> Manifest:
        """Freeze what `source` lists as the manifest `place`; see freeze() for what is raised.

        `tell` takes about once a second how far the listing is; None: lines tell it.
        """
        config, facts = self.config, self.facts
        key = source.single_object() if facts.single_object else None
        if facts.single_object and key is None:
            raise ConfigurationError(f"{config.source.location} is gone; plan again")
        begun = source.report_time()
        if begun is not None:
            say(f"the inventory was begun at {begun}")
        filtered = FilteredRows(
            self._filters(), facts.source_prefix, marked=self.compare is not None
        )

        def passed_over() -> dict[PassedOver, int]:
            return {**source.passed_over(), **filtered.left_out}

        listed = source.rows(key, kept)
        if tell is None:
            rows = telling(listed, as_line(say, "source"), every_seconds=LINE_SECONDS)
        else:
            rows = telling(listed, tell, every_seconds=SHOW_SECONDS)
        return freeze(
            filtered.of(rows) if config.filter.asked else rows,
            place,
            source_prefix=facts.source_prefix,
            options=config.plan_options(
                limits_for(facts.provider), self.rules, facts.target_prefix
            ),
            suit_parts=config.plan.part_bytes is None,
            passed_over=dict if key is not None else passed_over,
            all_of_it=config.plan.representable == "all",
            compare=self.compare,
            scratch=scratch,
        )

    def _filters(self) -> Filters:
        """What the job leaves out."""
        # S3 does not name the class that every object has.
        unnamed = "STANDARD" if self.config.source.location.scheme is Scheme.S3 else None
        return self.config.filter.filters(self.moments, unnamed_tier=unnamed)


def planned_rows(
    directory: JobDirectory, compare: Callable[[Path], PassDelta] | None
) -> PlannedRows:
    """What becomes of a source's rows in the plan of this job directory."""
    config, facts = job_parts(directory)
    return PlannedRows(
        config=config,
        facts=facts,
        rules=_rules(directory),
        moments=_moments(directory),
        compare=compare,
    )


def _moments(directory: JobDirectory) -> Moments:
    """Those that were noted when the job was asked for."""
    noted = directory.job().get("modified_between", [None, None])
    try:
        first, last = (None if at is None else datetime.fromisoformat(at) for at in noted)
    except (TypeError, ValueError) as error:
        raise JobDirectoryError(
            f"{directory.root}/job.json is damaged; restore it or plan a new job"
        ) from error
    return first, last


def _rules(directory: JobDirectory) -> NameRules:
    try:
        return from_json(NameRules, directory.job()["name_rules"])
    except (KeyError, ValueError) as error:
        raise JobDirectoryError(
            f"{directory.root}/job.json is damaged; restore it or plan a new job"
        ) from error
