"""What a person does with a job: plan it, run it, look at it, verify it, reconcile it.

Each function takes a job directory, may be repeated, returns a frozen report, and prints nothing.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from noria.engine.canary_removal import remove_of_killed_plan
from noria.engine.clean import Cleaning, abort_known, clean_uploads
from noria.engine.cluster.opening import open_cluster
from noria.engine.cluster.protocol import Cluster
from noria.engine.config.jobfile import JobConfig, RunConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import speaks_https
from noria.engine.driver import Sizes, drive
from noria.engine.failures import (
    FAILURES_FILE,
    Failure,
    all_failures,
    listed_failures,
    write_failures,
)
from noria.engine.first_look import LISTING_CONNECTIONS
from noria.engine.guarded_ends import RunOfMany, guards_of
from noria.engine.guards import Guards, GuardsOfRun
from noria.engine.interpreter import advice_on_https, describe_interpreter
from noria.engine.listed import SHOW_SECONDS, telling
from noria.engine.listing_guards import refuse_foreign_commands
from noria.engine.listing_pace import (
    PLAN_STATUS_FILE,
    ListingPace,
    ListingTeller,
    ToldStatus,
)
from noria.engine.planning import (
    Prepared,
    finish_plan,
    job_parts,
    open_prepared,
    open_trusted,
    prepared,
    removed_at_the_end,
    run_settings,
)
from noria.engine.repair import AskedAgain, forget_damage, known_damage, retrial_of
from noria.engine.replay import Sealed, enter_seals
from noria.engine.scheduler.events import SchedulerOptions
from noria.engine.scheduler.scheduler import Scheduler
from noria.engine.scratch import scratch_folder
from noria.engine.status import (
    RECONCILE_STATUS_FILE,
    VERIFY_STATUS_FILE,
    Ending,
    JobStatus,
    Phase,
    at_rest,
    load_status,
    save_status,
)
from noria.engine.totals import Totals
from noria.engine.worker_spec import Mode, WorkerEnd, WorkerSettings, WorkerSpec
from noria.manifests.count_text import count_text
from noria.manifests.counters import StoreRole
from noria.manifests.errors import (
    ConfigurationError,
    JobDirectoryError,
    NoriaError,
    StopAsked,
)
from noria.manifests.job.directory import DriverHold, JobDirectory
from noria.manifests.job.fence import Fence
from noria.manifests.job.reconcile import Reconciliation, last_differences, reconcile
from noria.manifests.job.seals import compact_seals
from noria.manifests.job.worker_journals import remove_unneeded_journals
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.model import ConflictPolicy, ShardPlan
from noria.manifests.passes.fold import standing
from noria.manifests.passes.migration import migration_of
from noria.manifests.plan.parts import suitable_part_bytes
from noria.workers.stores.background import BackgroundCall
from noria.workers.stores.canaries import CANARY_BYTES, CANARY_NAME
from noria.workers.stores.listing import PAGES, Listing

log = logging.getLogger("noria.job")

BEGUN_FILE = "begun"
"""Noted before the first worker of a job is started: from then on something may have moved."""
DRAIN_SPARE_SECONDS = 60.0
PIECES_PER_STREAM = 4
"""Of the target's listing: some are longer than others."""
OBJECTS_PER_PIECE = 10_000
"""Fewer are not worth a request of their own: ten pages of S3, two of Azure."""
STALL_SECONDS = 6 * 3600.0
"""Units count as progress when they end, and the largest take hours.

Such as a whole object that is compared, or parts of 5 GB on a slow line. What hangs is ended by the
time-outs of requests long before.
"""

Show = Callable[[JobStatus], None]
Say = Callable[[str], None]


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
    """Handed to the network for the target over the life of the job, re-sent ones included."""
    levels: Mapping[str, int]
    seconds: float
    """Of this run."""
    reconciled: bool
    complete: bool
    """Every entry has an outcome, or its span was quarantined."""
    failed: int
    """Entries that failed or were refused."""
    bytes_moved_at_least: bool = False
    """A worker or a driver ended without a last report: what it sent since the one before it is not
    in `bytes_moved`."""
    retried: int = 0
    """Entries that had failed in earlier runs, or were found damaged, and were tried again."""
    damaged: Mapping[str, int] = field(default_factory=dict)
    """Cause -> objects that the last `noria verify` found damaged, and that were not sent again."""
    causes: Mapping[str, int] = field(default_factory=dict)
    changes: Mapping[str, int] = field(default_factory=dict)
    """AttributeChange -> entries that landed with other attributes than the source's."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Cause -> entries of the inventory that are not in the manifest: outside the prefix, ..."""
    failures: tuple[Failure, ...] = ()
    stopped: str | None = None
    """Why the run ended before the end."""
    differences: Mapping[str, int] = field(default_factory=dict)
    """What reconcile found: only what is not zero."""
    open_uploads: int | None = None
    """Left open at the target, by this job or on its names: see `noria clean`.

    None: not looked for, as before the end, or in Azure, which drops unfinished uploads by itself
    after a week.
    """
    unclaimed_uploads: int = 0
    """Of these, those that no journal knows: `noria clean --unclaimed` aborts them.

    They are younger than the job and on its names, and most likely its own. Another tool that
    writes the same names may have opened them, so they are never aborted unasked.
    """
    interpreter: str = field(default_factory=describe_interpreter)
    """Versions of the Python that ran it, and of its TLS library."""
    canaries_left: int = 0
    """Of the probe, and left at the target, which refused to delete them."""
    proof: Mapping[str, Any] | None = None
    """What was signed, as `noria sign --json` has it, or an `error` that kept it from being signed.

    None: the job names no key for that, or is not at its end, or does not reconcile.
    """
    finished_before: float | None = None
    """Unix time at which an earlier run had ended the job: this one moved nothing."""

    @property
    def exit_code(self) -> int:
        if not self.complete:
            return 3
        return 0 if self.failed == 0 and self.reconciled and not self.damaged else 1


def plan(
    config: JobConfig,
    root: Path,
    say: Say = lambda line: None,
) -> Prepared:
    """Inventory -> frozen manifest -> shards, in a job directory at root."""
    with prepared(config, root, say) as ready:
        return ready


def run(
    root: Path,
    *,
    address: str | None = None,
    ray: bool = False,
    cluster: Cluster | None = None,
    overrides: Mapping[str, Any] | None = None,
    show: Show = lambda status: None,
    show_keys: bool = False,
    planned: Prepared | None = None,
    asked_again: AskedAgain | None = None,
    of_all: RunOfMany | None = None,
) -> RunReport:
    """Run a planned job, or resume it, to the end; then reconcile.

    Entries that failed for a cause that may pass are tried again, and those of `asked_again`.

    Workers are processes of this machine, or of the Ray cluster that `address` names, or of a Ray
    that is started on this machine (`ray`); `cluster` is one that is open already. `overrides`
    replaces [run] settings. `planned` is the job at root as prepared() gave it. `of_all` is the run
    of many datasets of which this is one. Raises AnotherDriver, ConfigurationError,
    JobDirectoryError.
    """
    refuse_killed_plan(root)
    directory = _open_latest(root)
    with cluster or open_cluster(address, ray=ray) as cluster, directory.hold() as hold:
        fence = Fence(directory, hold.epoch)
        _await_earlier_workers(fence)
        remove_unneeded_journals(directory)
        started = time.monotonic()
        ready = planned or finish_plan(directory, overrides=overrides, of_all=of_all)
        run_config = run_config_of(ready.config, overrides)
        refuse_foreign_commands(directory, run_config, overrides or {})
        latest = load_status(directory)
        if latest is None or latest.phase is not Phase.FINISHED:
            cluster.prestart()
            _note_lifted_limit(latest, run_config)
        totals = _totals(ready, latest, deadline_seconds=run_config.deadline_seconds)
        with _taken_up_again(directory, latest, asked_again):
            retrial = retrial_of(ready, asked_again, hold.first_attempt - 1)
        compact_seals(directory)
        sealed = enter_seals(directory, totals, retrial)
        forget_damage(directory, retrial)
        if latest is None and sealed.spans:
            totals.note_uncounted()
        _say_what_is_tried_again(sealed, asked_again, len(retrial.keys or ()))
        with removed_at_the_end(ready):
            work = CrewWork(
                shards=ready.manifest.shards(),
                sizes=ready.manifest.sizes,
                mode=Mode.MOVE,
                sealed=sealed,
            )
            ending = drive_work(
                *(ready, work, totals, run_config, cluster),
                hold=hold,
                fence=fence,
                show=show,
                of_all=of_all,
            )
            finished = None  # before, if nothing was begun now
            if ending.status is None and latest is not None and latest.phase is Phase.FINISHED:
                finished = latest
            with _end_noted(directory, finished, show):
                report = _close(ready, totals, ending, started, run_config, show, show_keys, of_all)
            report = replace(report, retried=sealed.reopened)
            if finished is None:
                return report
            _keep_end(directory, finished)
            return replace(report, finished_before=finished.updated_seconds)


@contextlib.contextmanager
def _taken_up_again(
    directory: JobDirectory, latest: JobStatus | None, asked_again: AskedAgain | None
) -> Iterator[None]:
    """Note that a job has not ended any more before anything of it is taken back.

    Of one that had ended, and of which something is tried again; whoever is killed then leaves it
    so. What is asked for may be refused, before anything is done.
    """
    had_ended = latest is not None and latest.phase is Phase.FINISHED
    if latest is None or not had_ended or (asked_again is None and not latest.failed):
        yield
        return
    why = "it was taken up again, and has not ended since"
    save_status(directory, _in_phase(latest, Phase.STOPPED, stopped=why, at=latest.updated_seconds))
    try:
        yield
    except ConfigurationError:
        save_status(directory, latest)
        raise


def _say_what_is_tried_again(sealed: Sealed, asked_again: AskedAgain | None, names: int) -> None:
    """`names` is how many were asked for by name."""
    if sealed.reopened:
        log.warning(
            "tried again: %s (failed in an earlier run%s)",
            count_text(sealed.reopened, "object"),
            ", or asked for" if asked_again else "",
        )
    if asked_again and asked_again.keys and sealed.reopened < names:
        log.warning(
            "%s of %s: of no entry that this job moves and has an end for",
            count_text(names - sealed.reopened, "name"),
            asked_again.keys,
        )


def reconcile_job(
    root: Path,
    say: Say = lambda line: None,
    overrides: Mapping[str, Any] | None = None,
) -> Reconciliation:
    """Compare the manifest with the receipts, and those with a fresh listing of the target.

    The manifest is read whole, and checked against its digests. `overrides` replaces [run]
    settings, for what holds the listing.
    """
    refuse_earlier_pass(root)
    ready = open_trusted(root)
    run = run_settings(ready.config, overrides)
    refuse_foreign_commands(ready.directory, run, overrides or {})
    directory, pace = ready.directory, _target_pace(ready, run)
    with directory.hold():
        latest = load_status(directory) or moved_status(ready)
        reconciling = _in_phase(latest, Phase.RECONCILING)
        told = ToldStatus(directory, reconciling, RECONCILE_STATUS_FILE)
        teller = ListingTeller(pace, say, told)
        try:
            teller.tell(0, 0.0)
            with pace, _target_listing(ready, run, pace) as listing:
                return _reconcile(ready, telling(listing, teller.tell, every_seconds=SHOW_SECONDS))
        finally:
            teller.close()


def refuse_killed_plan(root: Path) -> None:
    """Raise ConfigurationError if a plan was killed here before it had a job; clean up after it."""
    if not JobDirectory.exists(root) and remove_of_killed_plan(root) is not None:
        raise ConfigurationError(
            f"the plan in {root} was cut short before there was a job; what its probe had left at "
            "the target was looked for and removed: plan again"
        )


def refuse_earlier_pass(root: Path) -> None:
    """Raise ConfigurationError if another pass has followed: what stands now is not of this one."""
    migration, number = migration_of(root)
    if number < migration.last:
        raise ConfigurationError(
            f"{root} is pass {number} of its migration, which has gone on since: name the latest, "
            f"{migration.current}"
        )


def _open_latest(root: Path) -> JobDirectory:
    refuse_earlier_pass(root)
    return JobDirectory.open(root)


def clean(root: Path, *, unclaimed: bool = False) -> Cleaning:
    """Abort the multipart uploads that the job has left open at its target; see engine/clean.py."""
    if not JobDirectory.exists(root):
        left = remove_of_killed_plan(root)
        if left is not None:
            return Cleaning(aborted=0, failed=left, unclaimed=0, foreign=0)
    ready = open_trusted(root)
    with ready.directory.hold() as hold, removed_at_the_end(ready):
        _await_earlier_workers(Fence(ready.directory, hold.epoch))
        return clean_uploads(ready, unclaimed=unclaimed)


def status(root: Path) -> JobStatus:
    """What is known of the job now; reads only the job directory, and works while a driver runs.

    What a driver said last is true as long as it lives. One that has died is told by its lock. What
    was found wrong at the target is said until it is repaired.
    """
    directory = JobDirectory.open(root)
    return replace(status_of_run(root), passed_over=_passed_over(directory))


def status_of_run(root: Path) -> JobStatus:
    """As status(), but for what the plan passed over, for which the manifest is opened."""
    directory = JobDirectory.open(root)
    found = _driver_status(root, directory)
    if found.phase is not Phase.FINISHED:
        return replace(found, damaged=known_damage(directory))
    differences = last_differences(directory)
    return replace(found, damaged=known_damage(directory), differences=differences)


def _passed_over(directory: JobDirectory) -> dict[str, int]:
    """What the plan passed over; nothing while there is none that can be read."""
    try:
        return open_manifest(directory.manifest_path).passed_over
    except JobDirectoryError:
        return {}


def _driver_status(root: Path, directory: JobDirectory) -> JobStatus:
    """The status as drivers have left it."""
    latest = load_status(directory)
    others = (load_status(directory, name) for name in (VERIFY_STATUS_FILE, RECONCILE_STATUS_FILE))
    said = [each for each in (latest, *others) if each is not None]
    if not said:
        return _status_before_the_first(directory)
    newest = max(said, key=lambda each: each.updated_seconds)
    if directory.is_held(time.time() - newest.updated_seconds):
        return newest if newest.phase.has_driver else latest or newest
    last = latest or moved_status(open_prepared(root))
    if not last.phase.has_driver:
        return last
    last = replace(last, bytes_moved_at_least=last.bytes_moved_at_least or last.is_cut_off)
    killed = "the driver ended without a word: it was killed, or its machine is gone"
    return _in_phase(last, Phase.STOPPED, stopped=killed, at=last.updated_seconds)


def _status_before_the_first(directory: JobDirectory) -> JobStatus:
    """The status of a job that was never run, or whose status file is gone."""
    _, facts = job_parts(directory)
    status = JobStatus(job=facts.job_id, phase=Phase.STOPPED, updated_seconds=time.time())
    is_held, was_run = directory.is_held(None), next(directory.names("sealed"), None) is not None
    try:
        manifest = open_manifest(directory.manifest_path)
    except JobDirectoryError:
        if is_held:
            return load_status(directory, PLAN_STATUS_FILE) or replace(status, phase=Phase.PLANNING)
        return replace(status, stopped="the plan was not finished: give the same command again")
    return replace(
        status,
        phase=Phase.STARTING if is_held else Phase.STOPPED,
        objects_total=manifest.objects,
        bytes_total=manifest.bytes_to_move,
        stopped=None if is_held or was_run else "it is planned, and was not run yet",
    )


def read_failures(root: Path, show_keys: bool) -> list[Failure]:
    """The first few entries of the last run's failures.parquet."""
    return list(_failures(root, show_keys, listed_failures))


def read_all_failures(root: Path, show_keys: bool) -> Iterator[Failure]:
    """All entries of the last run's failures.parquet, read as they are asked for."""
    return _failures(root, show_keys, all_failures)


def _failures(
    root: Path,
    show_keys: bool,
    read: Callable[[JobDirectory, Path, bool], Iterator[Failure]],
) -> Iterator[Failure]:
    directory = JobDirectory.open(root)
    path = directory.path(FAILURES_FILE)
    if not path.is_file():
        return
    try:
        yield from read(directory, path, show_keys)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException):
        raise JobDirectoryError(
            f"{path} is damaged; remove it, the next `noria run` writes it again"
        ) from None


# -- one run ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewWork:
    """What workers are to do in one run."""

    shards: Iterable[ShardPlan]
    sizes: Sizes
    """Of what it is, as Manifest.sizes has them."""
    mode: Mode
    area: str = "sealed"
    """Where their results go."""
    sealed: Sealed = field(default_factory=Sealed)
    """What is settled already."""


def drive_work(
    prepared: Prepared,
    work: CrewWork,
    totals: Totals,
    run_config: RunConfig,
    cluster: Cluster,
    *,
    hold: DriverHold,
    fence: Fence,
    show: Show,
    of_all: RunOfMany | None = None,
) -> Ending:
    """Schedule what is not settled yet on a cluster, until it is, or the run has to stop."""
    directory, sealed = prepared.directory, work.sealed
    scheduler = Scheduler(
        work.shards,
        settled=sealed.spans,
        generations=sealed.generations,
        first_attempt=hold.first_attempt,
        options=SchedulerOptions(
            heartbeat_timeout_seconds=run_config.heartbeat_timeout_seconds,
            attempts_per_span=run_config.attempts,
            # The driver ends a drain that takes too long, and knows who was at work.
            drain_timeout_seconds=run_config.drain_seconds + DRAIN_SPARE_SECONDS,
            # A lease that waits for a store that answers nobody does not stall.
            stall_seconds=STALL_SECONDS + run_config.outage_seconds,
        ),
    )
    if scheduler.complete:
        cluster.close()
        return Ending(complete=True)
    if work.mode is Mode.MOVE:
        directory.note(BEGUN_FILE)
    show(_idle_status(totals, Phase.STARTING))
    config = prepared.config.model_copy(update={"run": run_config})
    spec = worker_spec(prepared, run_config, mode=work.mode, area=work.area)
    moving = work.mode is Mode.MOVE
    guards: GuardsOfRun
    if of_all is None:
        guards = guards_of(prepared, run_config, moving=moving)
    else:
        guards = of_all.guards_for(prepared, moving=moving)
    ending = drive(
        *(directory, scheduler, totals, spec, config, work.sizes),
        cluster=cluster,
        fence=fence,
        show=show,
        guards=guards,
        of_all=of_all,
    )
    if not ending.workers_may_write:
        fence.end()
        remove_unneeded_journals(directory)
    return ending


def _await_earlier_workers(fence: Fence) -> None:
    """Wait until workers of a driver that ended without a word must have ended, too."""
    is_said = False
    while (earlier := fence.earlier()) is not None:
        if not is_said:
            is_said = True
            log.warning(
                "a driver on %s ended without seeing its workers on the Ray cluster at %s end; "
                "waiting %.0f s, after which none of them writes any more",
                *(earlier.host, earlier.cluster, earlier.seconds_left),
            )
        time.sleep(min(1.0, earlier.seconds_left))


def worker_spec(
    prepared: Prepared, run: RunConfig, *, mode: Mode = Mode.MOVE, area: str = "sealed"
) -> WorkerSpec:
    """What the workers of a job are told, but for their names. `area` is where results go."""
    return WorkerSpec(
        name="",
        directory=str(prepared.directory.root.absolute()),
        source=WorkerEnd.of(prepared.config.source),
        target=WorkerEnd.of(prepared.config.target),
        settings=WorkerSettings.of(prepared.config.plan, run),
        facts=prepared.facts,
        mode=mode,
        area=area,
    )


def _close(
    ready: Prepared,
    totals: Totals,
    ending: Ending,
    started: float,
    run_config: RunConfig,
    show: Show,
    show_keys: bool,
    of_all: RunOfMany | None,
) -> RunReport:
    """End a run: list its failures and, if it is complete, reconcile."""
    directory = ready.directory
    last = ending.status or _idle_status(totals, Phase.RECONCILING)
    reconciled, differences, canaries = False, {}, 0
    cleaning: Cleaning | None = None
    failed = partial(write_failures, directory, ready.manifest, totals.failing, FAILURES_FILE)
    if ending.complete:
        pace = _target_pace(ready, run_config, says=False, of_all=of_all)
        told = partial(_tell_listed, directory, _in_phase(last, Phase.RECONCILING), show, pace)
        told(0, 0.0)
        with pace, _target_listing(ready, run_config, pace) as listing:
            cleaned = BackgroundCall(partial(_clean_at_the_end, ready), "clean")
            failures = failed(ending.quarantined)
            found = _reconcile(ready, telling(listing, told, every_seconds=SHOW_SECONDS))
        reconciled, differences, canaries = found.reconciled, found.differences, found.canaries
        cleaning = cleaned.result()
    else:
        failures = failed(ending.quarantined)
    phase = Phase.FINISHED if ending.complete else Phase.STOPPED
    final = replace(
        _in_phase(last, phase, stopped=None if ending.complete else ending.message),
        stop_cause=None if ending.complete or ending.cause == StopAsked.cause else ending.cause,
        reconciled=reconciled if ending.complete else None,
        damaged=known_damage(directory),
        differences={} if reconciled else differences,
    )
    save_status(directory, final)
    show(final)
    with pq.ParquetFile(failures) as file:
        failed_objects = file.metadata.num_rows
    return RunReport(
        job=ready.facts.job_id,
        outcomes=final.outcomes,
        objects=ready.manifest.objects,
        bytes=totals.sums.landed_bytes,
        bytes_moved=final.bytes_moved,
        bytes_moved_at_least=final.bytes_moved_at_least,
        levels=final.levels,
        seconds=round(time.monotonic() - started, 3),
        reconciled=reconciled,
        complete=ending.complete,
        failed=failed_objects,
        causes=final.causes,
        changes=final.changes,
        passed_over=ready.manifest.passed_over,
        failures=tuple(listed_failures(directory, failures, show_keys)),
        stopped=ending.message,
        differences=differences,
        open_uploads=None if cleaning is None else cleaning.failed + cleaning.unclaimed,
        unclaimed_uploads=0 if cleaning is None else cleaning.unclaimed,
        damaged=final.damaged,
        canaries_left=max(canaries, ready.removal.finish()),
    )


@contextlib.contextmanager
def _end_noted(directory: JobDirectory, finished: JobStatus | None, show: Show) -> Iterator[None]:
    """A run that ends without a report, as while it reconciles, says so in its status.

    `finished` is the status of a job that had finished before, and of which nothing was left to do:
    it stays so.
    """
    try:
        yield
    except BaseException as error:
        last = finished or load_status(directory)
        if last is not None and last.phase.has_driver:
            why = error.message if isinstance(error, NoriaError) else "an unexpected error: see log"
            cause: str | None = error.cause if isinstance(error, NoriaError) else "internal"
            if isinstance(error, StopAsked | KeyboardInterrupt):
                why, cause = "stopped on request", None
            if last.phase is Phase.RECONCILING:
                why = f"{why} (while it was reconciled)"
            last = replace(_in_phase(last, Phase.STOPPED, stopped=why), stop_cause=cause)
        if last is not None:
            # The error is what is to be heard of.
            with contextlib.suppress(JobDirectoryError, StopAsked):
                save_status(directory, last)
                show(last)
        raise


def _tell_listed(
    directory: JobDirectory,
    reconciling: JobStatus,
    show: Show,
    pace: ListingPace,
    listed: int,
    rate: float,
) -> None:
    """Show how far the target is listed, here and to `noria status`. Raises StopAsked."""
    pace.check()
    status = replace(
        reconciling,
        listed=listed,
        listed_per_second=rate,
        updated_seconds=time.time(),
        in_force=pace.limits,
    )
    save_status(directory, status)
    show(status)


def _keep_end(directory: JobDirectory, finished: JobStatus) -> None:
    """A run that found nothing to do was not the end of the job: that was earlier."""
    now = load_status(directory)
    if now is not None:
        save_status(directory, replace(now, updated_seconds=finished.updated_seconds))


def _target_pace(
    ready: Prepared,
    run_config: RunConfig,
    *,
    says: bool = True,
    of_all: RunOfMany | None = None,
) -> ListingPace:
    """What holds the listing of the target; the guards of all see to that of one of many."""
    guards = guards_of(ready, run_config, moving=False) if of_all is None else Guards()
    return ListingPace(
        *(ready.directory.root, run_config, StoreRole.TARGET),
        guards=guards,
        says=says,
        of_all=of_all,
    )


def _target_listing(ready: Prepared, run_config: RunConfig, pace: ListingPace) -> Listing:
    """Begin a listing of the target, without the probe's canaries or what killed workers left.

    On a path that is long, what comes before the first page takes as long as a hundred thousand
    receipts: the listing goes on while those are read.
    """
    ready.removal.finish()
    ready.target.remove_drafts()
    streams = ready.config.inventory.listing_streams
    ready.target.open_ahead(min(LISTING_CONNECTIONS, streams))
    policy = replace(PAGES, outage_seconds=run_config.outage_seconds)
    prefix = ready.facts.target_prefix
    return Listing(
        ready.target,
        prefix,
        streams=streams,
        policy=policy,
        splits=_quantiles(ready, streams),
        pace=pace.share,
    )


def _quantiles(ready: Prepared, streams: int) -> list[str]:
    """Names of the target between which as many objects are expected, by the manifest."""
    if streams == 1 or ready.config.target.location.scheme is Scheme.FILE:
        return []
    shards = ready.manifest.shards()
    pieces = min(
        streams * PIECES_PER_STREAM, ready.manifest.objects // OBJECTS_PER_PIECE, len(shards)
    )
    chosen = [shards[len(shards) * number // pieces].shard for number in range(1, pieces)]
    return [ready.facts.target_prefix + ready.manifest.first_key(shard) for shard in chosen]


def _clean_at_the_end(prepared: Prepared) -> Cleaning | None:
    """Abort the uploads that a finished job has left open; None if they cannot be listed."""
    if prepared.config.target.location.scheme is Scheme.AZURE:
        return None
    try:
        return abort_known(prepared)
    except NoriaError as error:
        log.warning("open uploads could not be listed: %s", error.cause)
        return None


def run_config_of(config: JobConfig, overrides: Mapping[str, Any] | None) -> RunConfig:
    """[run] of this run. Raises ConfigurationError if buffers cannot hold what is planned."""
    run_config = run_settings(config, overrides)
    # Before it is planned, a job has the smallest parts that it may get.
    part_bytes = config.plan.part_bytes or suitable_part_bytes(
        0, chunk_bytes=config.plan.chunk_bytes
    )
    if part_bytes > run_config.bytes_in_flight // 2:
        raise ConfigurationError(
            f"run.bytes_in_flight ({run_config.bytes_in_flight}) must be at least twice "
            f"plan.part_bytes ({part_bytes}): raise it, or plan with smaller parts"
        )
    return run_config


def _note_lifted_limit(latest: JobStatus | None, run_config: RunConfig) -> None:
    """Say that a limit of the run before is not one of this run: it belongs to a run."""
    limit = None if latest is None else latest.own_bandwidth
    if limit and not run_config.bandwidth:
        log.warning(
            "no limit of bandwidth in this run, where the last one had %s bytes a second: "
            "--bandwidth sets one for a run, bandwidth in [run] of a job file for all",
            f"{limit:,.0f}",
        )


def _totals(
    prepared: Prepared, latest: JobStatus | None, deadline_seconds: float | None = None
) -> Totals:
    """Totals that know of no seal yet. The deadline is as Totals has it."""
    return Totals(
        prepared.facts.job_id,
        objects_total=prepared.manifest.objects,
        bytes_total=prepared.manifest.bytes_to_move,
        earlier=latest,
        is_lower_bound=latest is not None and (latest.bytes_moved_at_least or latest.is_cut_off),
        handed_back=() if latest is None else latest.handed_back,
        deadline_seconds=deadline_seconds,
    )


def moved_status(prepared: Prepared) -> JobStatus:
    """The status of a job whose status file is gone, from its seals."""
    totals = _totals(prepared, None)
    enter_seals(prepared.directory, totals)
    return _idle_status(totals, Phase.STOPPED)


def _idle_status(totals: Totals, phase: Phase) -> JobStatus:
    now = time.monotonic()
    return totals.status(phase, now=now, started=now, unix=time.time(), shards={})


def _in_phase(
    status: JobStatus, phase: Phase, *, stopped: str | None = None, at: float | None = None
) -> JobStatus:
    """After the driver's loop: nothing moves and nobody works any more. `at` is when; None: now."""
    return replace(
        status,
        phase=phase,
        stopped=stopped,
        updated_seconds=time.time() if at is None else at,
        failing=0,
        workers=0,
        bytes_per_second=0.0,
        objects_per_second=0.0,
        retries_per_second=0.0,
        eta_seconds=None,
        hosts=at_rest(status.hosts),
        metrics=replace(status.metrics, gauges={}),
    )


def _reconcile(prepared: Prepared, listing: Iterable[pa.RecordBatch]) -> Reconciliation:
    """Of a later pass: what stands is all that should be listed, and that is noted as the state."""
    migration, number = migration_of(prepared.directory.root)
    migration.forget(number)
    stands = None
    if number > 1:
        stands = standing(migration.state(number))
        migration.forget_before(number - 1)  # the one before makes this one again
    keeps_others = prepared.config.run.conflicts is ConflictPolicy.KEEP
    with scratch_folder(prepared.directory, prepared.config.plan.scratch) as scratch:
        return reconcile(
            prepared.directory,
            prepared.manifest,
            listing,
            target_prefix=prepared.facts.target_prefix,
            extra_allowed=not prepared.facts.target_was_empty or keeps_others,
            canary=CANARY_NAME,
            canary_bytes=CANARY_BYTES,
            standing=stands,
            scratch=scratch,
        )


def metrics_address(root: Path) -> str | None:
    """The address at which the job file wants /metrics served."""
    config, _ = job_parts(JobDirectory.open(root))
    return config.run.metrics_address


def advice(root: Path) -> str | None:
    """One line on how the job would cost less on this machine, or None."""
    config, _ = job_parts(JobDirectory.open(root))
    if not (speaks_https(config.source, read_only=True) or speaks_https(config.target)):
        return None
    return advice_on_https()
