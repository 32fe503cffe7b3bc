"""From what a user asks for to a frozen manifest.

Both ends are checked, the target is probed, the inventory is read. Nothing is written to the job
directory before both ends have answered, and nothing to the target but the probe's canaries, which
are removed again, and whose token is durable before the first of them. A plan that was cut short is
made again from the start; one that is frozen never changes.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from noria.engine.canary_removal import (
    CanaryRemoval,
    ProbeNote,
    lone_probe_root,
    pending_removal,
    remove_of_killed_plan,
)
from noria.engine.config.jobfile import EndConfig, JobConfig, with_endpoints
from noria.engine.config.locations import provider_of
from noria.engine.config.stores import open_end
from noria.engine.first_look import SourceLook, TargetLook
from noria.engine.listed import LINE_SECONDS, as_line, telling
from noria.engine.trusted_ends import check_named, check_unchanged, planned_endpoints, trust_ends
from noria.engine.worker_spec import JobFacts
from noria.manifests.errors import ConfigurationError, InventoryError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.freeze import freeze
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.plan.providers import NameRules, limits_for
from noria.manifests.strict_json import from_json
from noria.workers.stores.background import BackgroundCall, all_results
from noria.workers.stores.protocol import TargetStore

Say = Callable[[str], None]


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
    def removal(self) -> CanaryRemoval:
        """What removes the canaries of this job's probe, if any are left."""
        if self.look is not None:
            return self.look.removal
        return pending_removal(self.directory, self.target, self.facts.target_prefix)


@contextmanager
def prepared(config: JobConfig, root: Path, say: Say) -> Iterator[Prepared]:
    """Plan a job, or open the plan at root, for the block. May be repeated.

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
            ready = finish_plan(directory, say, named=config)
    else:
        ready = _plan(config, root, say)
    with removed_at_the_end(ready):
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


def _plan(config: JobConfig, root: Path, say: Say) -> Prepared:
    JobDirectory.check_place(root)
    token = probe_token(root, config.target)
    killed = [
        BackgroundCall(partial(remove_of_killed_plan, place), "killed")
        for place in (root, lone_probe_root(config.target))
    ]
    with SourceLook(config) as source, TargetLook(config.target, token) as target:
        say("checking both ends")
        source.check()
        target.check()
        all_results(killed)
        target.begin_probe(ProbeNote(root))
        # What sorts the plan takes a tenth of a second to load: while answers are on their way.
        BackgroundCall(partial(importlib.import_module, "duckdb"), "imports")
        directory = _create(config, root, source, target, token)
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


def open_trusted(root: Path) -> Prepared:
    """The plan at root, for a command that sends requests to its ends; see check_trust()."""
    ready = open_prepared(root)
    check_trust(ready.directory)
    return ready


def open_prepared(root: Path) -> Prepared:
    """The plan at root. Raises JobDirectoryError if it is not finished."""
    directory = JobDirectory.open(root)
    config, facts = job_parts(directory)
    manifest = open_manifest(directory.manifest_path)
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

    Other ends or another inventory: mixing two would move one and report the other. Another [plan]:
    a frozen plan does not change, and what is ignored must be said.
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
    said = f" ({'; '.join(changes)})" if changes else ""
    raise ConfigurationError(
        f"{directory.root} holds a job for other ends or another inventory{said}; name another "
        "directory with --job, or resume that one with `noria run`"
    )


def _refuse_other_plan(directory: JobDirectory, config: JobConfig) -> None:
    planned = job_parts(directory)[0].plan
    changed = [name for name, value in planned if value != getattr(config.plan, name)]
    if changed:
        raise ConfigurationError(
            f"plan.{changed[0]} is not what {directory.root} was planned with, and a plan never "
            "changes: undo that, or name another directory"
        )


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
    return {
        "source": [str(config.source.location), config.source.endpoint],
        "target": [str(config.target.location), config.target.endpoint],
        "inventory": config.inventory.model_dump(mode="json", exclude=new),
    }


def _create(
    config: JobConfig, root: Path, source: SourceLook, target: TargetLook, token: str
) -> JobDirectory:
    facts, rules = _find_facts(config, source, target)
    # What this refuses must not become a job that can neither run nor be planned again.
    config.plan_options(limits_for(facts.provider), rules, facts.target_prefix)
    job = {
        "id": facts.job_id,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "asked": _asked(config),
        "config": config.model_dump(mode="json"),
        "facts": asdict(facts),
        "name_rules": asdict(rules),
        "endpoints": planned_endpoints(config),
    }
    if target.removal.needed:
        job["probe_token"] = token
    directory = JobDirectory.create(root, job)
    trust_ends(facts.job_id, config)
    return directory


def probe_token(root: Path, target: EndConfig) -> str:
    """The same each time that a job is planned: a probe removes what a killed one has left."""
    place = f"{root.absolute()}\0{target.url}"
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:12]


def _find_facts(
    config: JobConfig, source: SourceLook, target: TargetLook
) -> tuple[JobFacts, NameRules]:
    single = source.single_object()
    found = target.facts()
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
        target_was_empty=target.was_empty(),
        single_object=single is not None,
        atomic_complete=found.capabilities.atomic_complete,
        drops_tags=found.keeps_tags is False,
    )
    return facts, found.name_rules


def finish_plan(
    directory: JobDirectory,
    say: Say,
    source: SourceLook | None = None,
    *,
    named: JobConfig | None = None,
) -> Prepared:
    """The plan of a job directory that the caller holds; frozen now if it is not yet.

    `source` is a look at the source that is under way already, `named` the job as this command
    names it.
    """
    if (directory.manifest_path / "manifest.json").is_file():
        check_trust(directory, named)
        return open_prepared(directory.root)
    if source is not None:
        _freeze(directory, source, say)
    else:
        check_trust(directory, named)
        with SourceLook(job_parts(directory)[0]) as source:
            _freeze(directory, source, say)
    return open_prepared(directory.root)


def _freeze(directory: JobDirectory, source: SourceLook, say: Say) -> None:
    config, facts = job_parts(directory)
    say("reading the inventory")
    key = source.single_object() if facts.single_object else None
    if facts.single_object and key is None:
        raise ConfigurationError(f"{config.source.location} is gone; plan again")
    begun = source.report_time()
    if begun is not None:
        say(f"the inventory was begun at {begun}")
    freeze(
        telling(source.rows(key), as_line(say, "source"), every_seconds=LINE_SECONDS),
        directory.manifest_path,
        source_prefix=facts.source_prefix,
        options=config.plan_options(
            limits_for(facts.provider), _rules(directory), facts.target_prefix
        ),
        suit_parts=config.plan.part_bytes is None,
        passed_over=dict if key is not None else source.passed_over,
        all_of_it=config.plan.representable == "all",
    )


def _rules(directory: JobDirectory) -> NameRules:
    try:
        return from_json(NameRules, directory.job()["name_rules"])
    except (KeyError, ValueError) as error:
        raise JobDirectoryError(
            f"{directory.root}/job.json is damaged; restore it or plan a new job"
        ) from error
