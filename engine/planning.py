"""From what a user asks for to a frozen manifest.

Both ends are checked, the target is probed, the inventory is read. Nothing is written to the job
directory before both ends have answered, and nothing to the target but the probe's canaries, which
are removed again. A plan that was cut short is made again from the start; one that is frozen never
changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from noria.engine.config.jobfile import (
    EndConfig,
    InventoryConfig,
    JobConfig,
    with_endpoints,
)
from noria.engine.config.locations import Scheme, provider_of
from noria.engine.config.stores import open_end
from noria.engine.inventory_files import StoreReportFiles
from noria.engine.worker_spec import JobFacts
from noria.manifests.errors import ConfigurationError, JobDirectoryError, NoriaError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.freeze import freeze
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.plan.providers import NameRules, limits_for
from noria.manifests.schema import INVENTORY_SCHEMA
from noria.workers.stores.listing import list_objects
from noria.workers.stores.paced import PacedStore
from noria.workers.stores.probe import probe_target
from noria.workers.stores.protocol import ObjectHead, SourceStore, TargetStore

if TYPE_CHECKING:
    from noria.manifests.inventory.reading import InventoryReport

LOOK_UP_STREAMS = 32
"""HEAD requests at a time for key lists, which state no sizes."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job that can run."""

    directory: JobDirectory
    config: JobConfig
    """As it was asked for, with the part_bytes that the plan has."""
    facts: JobFacts
    manifest: Manifest


def prepare(config: JobConfig, root: Path, say: Say) -> Prepared:
    """Plan a job, or open the plan at root. May be repeated.

    Raises ConfigurationError, AccessDenied or InventoryError before anything is written if an end
    cannot be used; ConfigurationError if root holds another job; AnotherDriver.
    """
    config = with_endpoints(config)
    if JobDirectory.exists(root):
        directory = JobDirectory.open(root)
        _refuse_other_job(directory, config)
    else:
        directory = _create(config, root, say)
    with directory.hold():
        return finish_plan(directory, say)


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
    """Raise ConfigurationError if the directory was planned for other ends or another inventory.

    Mixing two would move one and report the other.
    """
    asked = directory.job().get("asked")
    if asked != _asked(config):
        raise ConfigurationError(
            f"{directory.root} holds a job for other ends or another inventory; name another "
            "directory with --job, or resume that one with `noria run`"
        )


def _asked(config: JobConfig) -> dict[str, Any]:
    return {
        "source": [str(config.source.location), config.source.endpoint],
        "target": [str(config.target.location), config.target.endpoint],
        "inventory": config.inventory.model_dump(mode="json"),
    }


def _create(config: JobConfig, root: Path, say: Say) -> JobDirectory:
    source, target = open_end(config.source, read_only=True), open_end(config.target)
    say("checking both ends")
    _check_access(source, "source", config.source)
    _check_access(target, "target", config.target)
    if config.inventory.kind != "listing":
        _open_report(config, config.source.location.prefix)
    facts, rules = _find_facts(config, source, target, _probe_token(root, config))
    # What this refuses must not become a job that can neither run nor be planned again.
    config.plan_options(limits_for(facts.provider), rules, facts.target_prefix)
    job = {
        "id": facts.job_id,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "asked": _asked(config),
        "config": config.model_dump(mode="json"),
        "facts": asdict(facts),
        "name_rules": asdict(rules),
    }
    return JobDirectory.create(root, job)


def _check_access(store: SourceStore, role: str, end: EndConfig) -> None:
    """A wrong name, key or endpoint is wrong usage here, whichever error it gives."""
    try:
        store.check_access()
    except NoriaError as error:
        raise ConfigurationError(f"{role} {end.location}: {error.message}") from error


def _probe_token(root: Path, config: JobConfig) -> str:
    """The same each time that a job is planned: a probe removes what a killed one has left."""
    place = f"{root.absolute()}\0{config.target.url}"
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:12]


def _find_facts(
    config: JobConfig, source: SourceStore, target: TargetStore, token: str
) -> tuple[JobFacts, NameRules]:
    source_prefix = config.source.location.prefix
    single = _single_object(config, source)
    if single is not None:
        source_prefix = single[: single.rfind("/") + 1]
    elif source_prefix and config.inventory.kind == "listing" and _is_empty(source, source_prefix):
        raise ConfigurationError(
            f"there is nothing below {config.source.location}; check the container and the prefix"
        )
    target_prefix = config.target.location.prefix
    found = probe_target(target, target_prefix, token)
    was_empty = _holds_no_objects(target, target_prefix)
    provider = provider_of(config.target)
    if provider == "s3" and found.provider is not None:
        provider = found.provider
    facts = JobFacts(
        job_id=secrets.token_hex(6),
        source_prefix=source_prefix,
        target_prefix=target_prefix,
        provider=provider,
        checksum=found.capabilities.checksum,
        if_absent=found.capabilities.if_absent,
        trailers=found.capabilities.checksum_in_trailer,
        target_was_empty=was_empty,
        single_object=single is not None,
    )
    return facts, found.name_rules


def _single_object(config: JobConfig, source: SourceStore) -> str | None:
    """The whole key, if the source's URL names one object. Raises ConfigurationError if unclear."""
    location = config.source.location
    if location.scheme is Scheme.FILE:
        path = Path(location.container)
        return path.name if path.is_file() else None
    if not location.path or location.path.endswith("/") or source.head(location.path) is None:
        return None
    if not _is_empty(source, location.prefix):
        raise ConfigurationError(
            "the source names an object, and others lie below the same name; write the URL with "
            "a slash at its end to move those"
        )
    return location.path


def _is_empty(store: SourceStore, prefix: str) -> bool:
    return not any(batch.num_rows for batch in list_objects(store, prefix, streams=1))


def _holds_no_objects(store: SourceStore, prefix: str) -> bool:
    """As _is_empty, but ignores folder markers: nothing of ours lands on one."""
    for batch in list_objects(store, prefix, streams=1):
        marker = pc.and_(pc.equal(batch["size"], 0), pc.ends_with(batch["key"], "/"))
        if not pc.all(marker, min_count=0).as_py():
            return False
    return True


def finish_plan(directory: JobDirectory, say: Say) -> Prepared:
    """The plan of a job directory that the caller holds; frozen now if it is not yet."""
    config, facts = job_parts(directory)
    if not (directory.manifest_path / "manifest.json").is_file():
        source = open_end(config.source, read_only=True)
        say("reading the inventory")
        freeze(
            _inventory(config, facts, source, say),
            directory.manifest_path,
            source_prefix=facts.source_prefix,
            options=config.plan_options(
                limits_for(facts.provider), _rules(directory), facts.target_prefix
            ),
            suit_parts=config.plan.part_bytes is None,
        )
    return open_prepared(directory.root)


def _rules(directory: JobDirectory) -> NameRules:
    try:
        rules = json.dumps(directory.job()["name_rules"])
        return TypeAdapter(NameRules).validate_json(rules, strict=True)
    except (KeyError, ValueError) as error:
        raise JobDirectoryError(
            f"{directory.root}/job.json is damaged; restore it or plan a new job"
        ) from error


def _inventory(
    config: JobConfig, facts: JobFacts, source: SourceStore, say: Say
) -> Iterator[pa.RecordBatch]:
    """Rows of what is to move, from wherever the job says."""
    if facts.single_object:
        key = _single_object(config, source)
        if key is None:
            raise ConfigurationError(f"{config.source.location} is gone; plan again")
        yield _row_of(key, source.head(key))
        return
    if config.inventory.kind == "listing":
        yield from list_objects(
            source, facts.source_prefix, streams=config.inventory.listing_streams
        )
        return
    yield from _report_rows(config, facts, source, say)


def _report_rows(
    config: JobConfig, facts: JobFacts, source: SourceStore, say: Say
) -> Iterator[pa.RecordBatch]:
    report = _open_report(config, facts.source_prefix)
    if report.created is not None:
        say(f"the inventory was begun at {report.created:%Y-%m-%d %H:%M} UTC")
    for batch in report.batches():
        yield batch if config.inventory.kind != "keys" else _looked_up(batch, source)


def _open_report(config: JobConfig, source_prefix: str) -> InventoryReport:
    """The report, its manifest checked. Raises InventoryError, ConfigurationError."""
    # Readers of reports are many, and most jobs list.
    from noria.manifests.inventory.reading import InventoryKind, read_inventory

    kinds = {
        "azure-inventory": InventoryKind.AZURE,
        "s3-inventory": InventoryKind.S3,
        "keys": InventoryKind.KEYS,
    }
    inventory, location = config.inventory, config.source.location
    store, name = _report_store(inventory, config)
    return read_inventory(
        kinds[inventory.kind],
        StoreReportFiles(store, name),
        name,
        container=location.container,
        prefix=source_prefix if inventory.kind != "keys" else "",
        account=location.account or None,
    )


def _report_store(inventory: InventoryConfig, config: JobConfig) -> tuple[SourceStore, str]:
    if inventory.url is None:
        raise ConfigurationError(f"inventory.kind = {inventory.kind} needs inventory.url")
    end = EndConfig(url=inventory.url, endpoint=inventory.endpoint)
    location = end.location
    if location.scheme is Scheme.FILE:
        return open_end(EndConfig(url="file:///"), read_only=True), location.container[1:]
    if inventory.endpoint is None and location.scheme is config.source.location.scheme:
        end = end.model_copy(update={"endpoint": config.source.endpoint})
    return open_end(end, read_only=True), location.path


def _looked_up(batch: pa.RecordBatch, source: SourceStore) -> pa.RecordBatch:
    """A batch of a key list with what HEAD says of each.

    A key that is gone stays, as an empty object that the move will report as missing.
    """
    keys = batch.column("key").to_pylist()
    with ThreadPoolExecutor(LOOK_UP_STREAMS) as streams:
        heads = list(streams.map(PacedStore(inner=source).head, keys))
    return pa.concat_batches([_row_of(key, head) for key, head in zip(keys, heads, strict=True)])


def _row_of(key: str, head: ObjectHead | None) -> pa.RecordBatch:
    row: dict[str, Any] = dict.fromkeys(INVENTORY_SCHEMA.names)
    row |= {"key": key, "size": 0}
    if head is not None:
        row |= {
            "size": head.size,
            "etag": head.etag,
            "version_id": head.version_id,
            "crc64nvme": head.crc64nvme,
            "content_type": head.attributes.content_type,
            "content_encoding": head.attributes.content_encoding,
            "content_language": head.attributes.content_language,
            "content_disposition": head.attributes.content_disposition,
            "cache_control": head.attributes.cache_control,
            "metadata": json.dumps(
                dict(head.attributes.metadata), sort_keys=True, separators=(",", ":")
            ),
        }
    return pa.RecordBatch.from_pylist([row], schema=INVENTORY_SCHEMA)
