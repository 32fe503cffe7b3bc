"""A job as a person would say it: plan it, run it, look at it, verify it, reconcile it.

Each function takes a job directory, may be repeated, and returns a frozen report; none of them
prints.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.books import Books
from engine.config import JobConfig, RunConfig, open_end
from engine.events import Quarantine
from engine.outfit import Mode, WorkerOrder
from engine.preparation import Prepared, finish_plan, job_parts, open_prepared, prepare
from engine.status import (
    STATUS_FILE,
    VERIFY_STATUS_FILE,
    JobStatus,
    Phase,
    load_status,
    save_status,
)
from manifests.errors import JobDirectoryError
from manifests.jobdir import JobDirectory
from manifests.manifest import Manifest, open_manifest
from manifests.model import LeaseKind, Level, Outcome, ShardKind, ShardPlan
from manifests.receipts import Seal, failures_of, read_result, read_seals
from manifests.reconcile import Reconciliation, reconcile
from manifests.schema import RECEIPT_SCHEMA

log = logging.getLogger("noria.job")

FAILURES_FILE = "failures.parquet"
FRESH_SECONDS = 10.0
"""A verification whose status is older than this is not under way."""
LISTED_FAILURES = 20
"""How many failures a report names; all of them are in failures.parquet."""

Show = Callable[[JobStatus], None]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One entry that did not land, as a report lists it."""

    name: str
    """A pseudonym of the key, or the key itself where the user asked for it."""
    outcome: str
    cause: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """How a run ended. The fields of `--json`."""

    job: str
    outcomes: Mapping[str, int]
    objects: int
    """Entries of the manifest."""
    bytes: int
    """Of the entries that landed."""
    bytes_moved: int
    """Sent to the target over the life of the job, re-sent ones included, as sealed."""
    levels: Mapping[str, int]
    seconds: float
    """Of this run."""
    reconciled: bool
    complete: bool
    """Every entry has an outcome, or its span was quarantined."""
    failed: int
    """Entries that failed or were refused."""
    causes: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    stopped: str | None = None
    """Why the run ended before the end."""
    differences: Mapping[str, int] = field(default_factory=dict)
    """What reconcile found, where it is not zero."""

    @property
    def exit_code(self) -> int:
        if not self.complete:
            return 3
        return 0 if self.failed == 0 and self.reconciled else 1


def plan(config: JobConfig, root: Path, say: Say = lambda line: None) -> Prepared:
    """Inventory -> frozen manifest -> shards, in a job directory at root."""
    return prepare(config, root, say)


def run(
    root: Path,
    *,
    address: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    show: Show = lambda status: None,
    show_keys: bool = False,
) -> RunReport:
    """Run a planned job, or go on with it, to the end; then reconcile.

    `address` names a Ray cluster, else a local one is started and ended. `overrides` replaces [run]
    settings. Raises AnotherDriver, ConfigurationError, JobDirectoryError.
    """
    directory = JobDirectory.open(root)
    with directory.hold() as hold:
        started = time.monotonic()
        prepared = finish_plan(directory, lambda line: None)
        run_config = _run_config(prepared.config, overrides)
        books = _books(prepared)
        ending = _drive(
            prepared,
            books,
            run_config,
            mode=Mode.MOVE,
            address=address,
            first_attempt=hold.first_attempt,
            show=show,
        )
        return _close(prepared, books, ending, started, show, show_keys)


def verify(
    root: Path,
    *,
    address: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    show: Show = lambda status: None,
    show_keys: bool = False,
) -> VerifyReport:
    """Read everything that landed back from the target and compare it with the receipts."""
    prepared = open_prepared(root)
    with prepared.directory.hold() as hold:
        started = time.monotonic()
        area = f"verified/{hold.epoch:010d}"
        before = _idle_status(prepared, _books(prepared), Phase.STOPPED)
        before = load_status(prepared.directory) or before
        books = Books(
            prepared.facts.job_id,
            objects_total=prepared.manifest.objects,
            bytes_total=prepared.manifest.bytes_to_move,
            earlier=before.tally,
        )
        ending = _drive(
            prepared,
            books,
            _run_config(prepared.config, overrides),
            mode=Mode.REREAD,
            address=address,
            first_attempt=hold.first_attempt,
            area=area,
            show=show,
        )
        if ending.status is not None:
            save_status(prepared.directory, replace(before, tally=ending.status.tally))
        damaged = _write_failures(prepared, area, f"{area}/damaged.parquet", [])
        sums = books.sums
        return VerifyReport(
            job=prepared.facts.job_id,
            level=Level.REREAD,
            complete=ending.complete and not ending.quarantined,
            reread=sums.get(f"level.{Level.REREAD}", 0),
            bytes=sums.get(f"bytes.{Outcome.TRANSFERRED}", 0)
            + sums.get(f"bytes.{Outcome.ALREADY_PRESENT}", 0),
            damaged=sums.get(f"outcome.{Outcome.FAILED}", 0),
            unsettled=_unsettled(prepared),
            seconds=time.monotonic() - started,
            failures=tuple(_listed(prepared.directory, damaged, show_keys)),
            causes=_by_prefix(sums, "cause."),
            stopped=ending.message,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a verification found. Objects of PARTS shards count once for each lease of theirs."""

    job: str
    level: Level
    complete: bool
    reread: int
    """Objects whose every byte, as read back, is that of the receipt."""
    bytes: int
    damaged: int
    """Damaged, missing or replaced at the target."""
    unsettled: int
    """Entries that have no receipt yet: the job is not at its end."""
    seconds: float
    failures: tuple[Failure, ...] = ()
    causes: Mapping[str, int] = field(default_factory=dict)
    stopped: str | None = None

    @property
    def exit_code(self) -> int:
        if not self.complete:
            return 3
        return 0 if self.damaged == 0 and self.unsettled == 0 else 1


def reconcile_job(root: Path) -> Reconciliation:
    """Manifest against receipts against a fresh listing of the target."""
    prepared = open_prepared(root)
    with prepared.directory.hold():
        return _reconcile(prepared)


def status(root: Path) -> JobStatus:
    """What is known of the job now; reads only the job directory, and works while a driver runs."""
    directory = JobDirectory.open(root)
    _, facts = job_parts(directory)
    latest, now = load_status(directory), time.time()
    verifying = load_status(directory, VERIFY_STATUS_FILE)
    if verifying is not None and now - verifying.updated_seconds < FRESH_SECONDS:
        return verifying
    if latest is not None:
        return latest
    try:
        manifest = open_manifest(directory.manifest_path)
    except JobDirectoryError:
        return JobStatus(job=facts.job_id, phase=Phase.PLANNING, updated_seconds=now)
    return JobStatus(
        job=facts.job_id,
        phase=Phase.STOPPED,
        updated_seconds=now,
        objects_total=manifest.objects,
        bytes_total=manifest.bytes_to_move,
    )


def read_failures(root: Path, show_keys: bool) -> list[Failure]:
    """The first few entries of the last run's failures.parquet."""
    directory = JobDirectory.open(root)
    path = directory.path(FAILURES_FILE)
    return list(_listed(directory, path, show_keys)) if path.is_file() else []


# -- one run ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    complete: bool
    message: str | None
    quarantined: tuple[Quarantine, ...]
    status: JobStatus | None
    """The last one of the driver; None where there was nothing left to do."""


def _drive(
    prepared: Prepared,
    books: Books,
    run_config: RunConfig,
    *,
    mode: Mode,
    address: str | None,
    first_attempt: int,
    area: str = "sealed",
    show: Show,
) -> _Ended:
    # Ray takes a third of a second to import: only what runs a cluster pays for it.
    from engine.cluster import Cluster, quiet_ray
    from engine.driver import Driver, StopRequest
    from engine.scheduler import Scheduler, SchedulerOptions

    directory = prepared.directory
    scheduler = Scheduler(
        _verify_shards(prepared.manifest) if mode is Mode.REREAD else prepared.manifest.shards(),
        settled=[] if mode is Mode.REREAD else _settled(directory),
        generations={} if mode is Mode.REREAD else _generations(directory),
        first_attempt=first_attempt,
        options=SchedulerOptions(
            heartbeat_timeout_seconds=run_config.heartbeat_timeout_seconds,
            attempts_per_span=run_config.attempts,
        ),
    )
    if scheduler.complete:
        return _Ended(complete=True, message=None, quarantined=(), status=None)
    show(_idle_status(prepared, books, Phase.STARTING))
    cpus = max(os.cpu_count() or 1, run_config.workers)
    (directory.root / "log").mkdir(exist_ok=True)
    stop_request = StopRequest()
    with quiet_ray(str(directory.root / "log" / "ray.txt")), contextlib.ExitStack() as stack:
        cluster = Cluster(address, cpus=cpus)
        stack.callback(cluster.close)
        stack.enter_context(stop_request.on_signals())
        driver = Driver(
            directory,
            scheduler,
            cluster,
            books,
            WorkerOrder(
                name="",
                directory=str(directory.root.absolute()),
                config=prepared.config.model_copy(update={"run": run_config}),
                facts=prepared.facts,
                mode=mode,
                area=area,
            ),
            run_config,
            area=area,
            phase=Phase.MOVING if mode is Mode.MOVE else Phase.VERIFYING,
            workers=run_config.workers or None,
            show=show,
            stop_request=stop_request,
            status_file=STATUS_FILE if mode is Mode.MOVE else VERIFY_STATUS_FILE,
        )
        ending = driver.run()
    return _Ended(
        complete=ending.complete,
        message=ending.message or ("stopped on request" if ending.drained else None),
        quarantined=tuple(ending.quarantined),
        status=ending.status,
    )


def _close(
    prepared: Prepared, books: Books, ending: _Ended, started: float, show: Show, show_keys: bool
) -> RunReport:
    """What every run ends with: failures listed, and where it is complete, reconciled."""
    directory = prepared.directory
    failures = _write_failures(prepared, "sealed", FAILURES_FILE, ending.quarantined)
    last = ending.status or _idle_status(prepared, books, Phase.RECONCILING)
    reconciled, differences = False, {}
    if ending.complete:
        show(_in_phase(last, Phase.RECONCILING))
        found = _reconcile(prepared)
        reconciled, differences = found.reconciled, _differences(found)
    final = _in_phase(last, Phase.FINISHED if ending.complete else Phase.STOPPED)
    save_status(directory, final)
    show(final)
    with pq.ParquetFile(failures) as file:
        failed = file.metadata.num_rows
    landed = (Outcome.TRANSFERRED, Outcome.ALREADY_PRESENT)
    return RunReport(
        job=prepared.facts.job_id,
        outcomes=final.outcomes,
        objects=prepared.manifest.objects,
        bytes=sum(final.outcome_bytes.get(outcome.value, 0) for outcome in landed),
        bytes_moved=final.bytes_moved,
        levels=final.levels,
        seconds=round(time.monotonic() - started, 3),
        reconciled=reconciled,
        complete=ending.complete,
        failed=failed,
        causes=final.causes,
        failures=tuple(_listed(directory, failures, show_keys)),
        stopped=ending.message,
        differences=differences,
    )


def _run_config(config: JobConfig, overrides: Mapping[str, Any] | None) -> RunConfig:
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    return RunConfig.model_validate({**config.run.model_dump(), **given})


def _books(prepared: Prepared) -> Books:
    latest = load_status(prepared.directory)
    books = Books(
        prepared.facts.job_id,
        objects_total=prepared.manifest.objects,
        bytes_total=prepared.manifest.bytes_to_move,
        earlier=None if latest is None else latest.tally,
    )
    generations = _generations(prepared.directory)
    for sealed in read_seals(prepared.directory):
        if _is_current(sealed, generations):
            books.add_seal(sealed)
    return books


def _is_current(sealed: Seal, generations: Mapping[int, int]) -> bool:
    """False for parts of an upload that was lost."""
    if sealed.kind is LeaseKind.OBJECTS:
        return True
    return sealed.generation == generations.get(sealed.shard, 0)


def _settled(directory: JobDirectory) -> Iterator[Any]:
    from engine.scheduler import SettledSpan

    generations = _generations(directory)
    for sealed in read_seals(directory):
        if _is_current(sealed, generations):
            yield SettledSpan(
                shard=sealed.shard, kind=sealed.kind, first=sealed.first, end=sealed.end
            )


def _generations(directory: JobDirectory) -> dict[int, int]:
    """PARTS shard -> the newest upload that was opened for it."""
    newest: dict[int, int] = {}
    for name in directory.names("uploads"):
        _, shard, generation = name.removesuffix(".json").split("/")
        newest[int(shard)] = max(newest.get(int(shard), 0), int(generation))
    return newest


def _verify_shards(manifest: Manifest) -> Iterator[ShardPlan]:
    """Shards as a verification walks them: a huge object's parts are units like rows."""
    for shard in manifest.shards():
        yield ShardPlan(
            shard=shard.shard,
            kind=ShardKind.OBJECTS,
            units=shard.units,
            bytes=shard.bytes,
            units_per_lease=shard.units_per_lease,
        )


def _idle_status(prepared: Prepared, books: Books, phase: Phase) -> JobStatus:
    now = time.monotonic()
    return books.status(phase, now=now, started=now, unix=time.time(), shards={})


def _in_phase(status: JobStatus, phase: Phase) -> JobStatus:
    """After the driver's loop: nothing moves and nobody works any more."""
    return replace(
        status,
        phase=phase,
        updated_seconds=time.time(),
        workers=0,
        bytes_per_second=0.0,
        objects_per_second=0.0,
        eta_seconds=None,
        tally=replace(status.tally, gauges={}),
    )


def _reconcile(prepared: Prepared) -> Reconciliation:
    target = open_end(prepared.config.target)
    prefix = prepared.facts.target_prefix
    return reconcile(
        prepared.directory,
        prepared.manifest,
        target.list_objects(prefix, streams=prepared.config.inventory.listing_streams),
        target_prefix=prefix,
        extra_allowed=not prepared.facts.target_was_empty,
    )


def _differences(found: Reconciliation) -> dict[str, int]:
    names = ("unsettled", "unplanned", "missing", "differing", "merged", "extra")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def _unsettled(prepared: Prepared) -> int:
    settled = Counter[str]()
    for sealed in read_seals(prepared.directory):
        for name, number in sealed.summary.items():
            if name.startswith("outcome."):
                settled["all"] += number
    return prepared.manifest.objects - settled["all"]


# -- failures --------------------------------------------------------------------------------------


def _write_failures(
    prepared: Prepared, area: str, name: str, quarantined: tuple[Quarantine, ...] | list[Quarantine]
) -> Path:
    """Collect every entry that someone has to look at in one Parquet file; returns its path."""
    directory = prepared.directory
    scratch = directory.path(name).with_name(f".{Path(name).name}.{os.getpid()}")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(scratch, RECEIPT_SCHEMA, compression="zstd") as writer:
        for sealed in read_seals(directory, area):
            if sealed.kind is not LeaseKind.PARTS and _has_failures(sealed.summary):
                writer.write_table(failures_of(read_result(directory, sealed)).cast(RECEIPT_SCHEMA))
        for span in quarantined:
            writer.write_table(_quarantined_rows(prepared.manifest, span))
    directory.publish(scratch, name)
    return directory.path(name)


def _has_failures(summary: Mapping[str, int]) -> bool:
    bad = (Outcome.FAILED, Outcome.SOURCE_CHANGED, Outcome.SOURCE_MISSING, Outcome.SKIPPED)
    return any(summary.get(f"outcome.{outcome}") for outcome in bad)


def _quarantined_rows(manifest: Manifest, span: Quarantine) -> pa.Table:
    first, end = (span.first, span.end) if span.kind is LeaseKind.OBJECTS else (0, 1)
    rows = [
        {
            "row": entry.row,
            "key": entry.key,
            "target_key": entry.target_key,
            "outcome": Outcome.FAILED.value,
            "size": entry.size,
            "cause": span.cause,
            "message": "its shard failed too often in this run; run again to try it again",
            "parts": 0,
            "bytes_moved": 0,
            "attempt": 0,
            "finished_ms": int(time.time() * 1000),
        }
        for entry in manifest.entries(span.shard, first, end)
    ]
    return pa.Table.from_pylist(rows, schema=RECEIPT_SCHEMA)


def _listed(directory: JobDirectory, path: Path, show_keys: bool) -> Iterator[Failure]:
    columns = ["key", "outcome", "cause", "message"]
    with pq.ParquetFile(path) as file:
        batch = next(file.iter_batches(batch_size=LISTED_FAILURES, columns=columns), None)
    secret = b"" if show_keys else _pseudonym_secret(directory)
    for row in batch.to_pylist() if batch is not None else ():
        yield Failure(
            name=row["key"] if show_keys else _pseudonym(secret, row["key"]),
            outcome=row["outcome"],
            cause=row["cause"] or "",
            message=row["message"] or "",
        )


def _pseudonym_secret(directory: JobDirectory) -> bytes:
    """The job's own secret: pseudonyms are the same in all its logs, and tell nothing elsewhere."""
    directory.write_once("pseudonyms.key", secrets.token_hex(32).encode())
    data = directory.read("pseudonyms.key")
    assert data is not None, "it was just written"
    return data


def _pseudonym(secret: bytes, key: str) -> str:
    return "object-" + hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()[:12]


def _by_prefix(sums: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): number
        for name, number in sorted(sums.items())
        if name.startswith(prefix)
    }


def metrics_address(root: Path) -> str | None:
    """Where the job file wants /metrics served."""
    config, _ = job_parts(JobDirectory.open(root))
    return config.run.metrics_address
