"""What a program does with a job: the functions of `import noria`.

They print nothing, leave no thread, process or signal handler behind, and may be called from any
thread, and again. What ends without a report is raised: a NoriaError whose text is the one line
that the command would print, and whose `exit_code` is the one that it would have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from noria.engine import job as jobs
from noria.engine import verifying
from noria.engine.api.reports import PlanReport
from noria.engine.api.running import RunningJob
from noria.engine.attribute_look import look_at_attributes
from noria.engine.clean import Cleaning
from noria.engine.cluster.protocol import Cluster
from noria.engine.config import reading
from noria.engine.config.jobfile import JobConfig
from noria.engine.failures import Failure
from noria.engine.job import RunReport
from noria.engine.passes import PassReport, PassWishes, current_pass, run_pass
from noria.engine.planning import Prepared
from noria.engine.proof.at_the_end import end_signing, with_proof
from noria.engine.sampling import sample_wishes
from noria.engine.status import JobStatus
from noria.engine.verifying import VerifyReport
from noria.manifests.errors import unusable_path
from noria.manifests.job.reconcile import Reconciliation

JobPath = str | os.PathLike[str]
"""A job directory. That of a migration's first job stands for its latest pass."""


@contextmanager
def _in_our_words() -> Iterator[None]:
    """A path that cannot be used is said as the command says it."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise unusable_path(error) from error


def job_config(values: Mapping[str, Any], where: str = "job_config()") -> JobConfig:
    """A job from a mapping with the sections of a job file, checked.

    Only `source` and `target` must be there, each with a `url`. Sizes, rates and durations are
    numbers (bytes, bytes a second, seconds) or texts ("64MiB", "2Gbit/s", "1h30m"). `where` is
    what errors call it. Raises ConfigurationError, which names all settings that are wrong.
    """
    return reading.job_config(values, where)


def read_job_file(path: JobPath) -> JobConfig:
    """A job from a TOML file, checked. Relative paths in it count from its folder.

    Raises ConfigurationError, which names all settings that are wrong, and their lines.
    """
    return reading.read_job_file(Path(path))


@_in_our_words()
def plan(
    config: JobConfig, job: JobPath, *, say: Callable[[str], None] = lambda line: None
) -> PlanReport:
    """Freeze the list of objects in a job directory, which is made, and say what will move.

    Both ends are checked, and the target is probed with small objects, which are removed again. If
    the directory holds this job already, its plan is opened. `say` takes lines on how far it is.

    Raises ConfigurationError, AccessDenied or InventoryError if an end or its inventory cannot be
    used, before anything is planned; ConfigurationError if the directory holds another job;
    AnotherDriver; StoreUnavailable. Ctrl-C is KeyboardInterrupt: the same call goes on.
    """
    prepared = jobs.plan(config, Path(job), say)
    return PlanReport.of(prepared, look_at_attributes(prepared, config.run))


@_in_our_words()
def run(
    job: JobPath,
    *,
    address: str | None = None,
    ray: bool = False,
    cluster: Cluster | None = None,
    overrides: Mapping[str, Any] | None = None,
    show: Callable[[JobStatus], None] = lambda status: None,
    show_keys: bool = False,
) -> RunReport:
    """Run a planned job, or resume it, to its end, and reconcile; see start() for progress.

    Workers are processes of this machine, or of the Ray cluster at `address` ("HOST:PORT", "auto"),
    or of a Ray that is started for this run (`ray`). `cluster` is one that is open already; it is
    closed at the end. `overrides` has settings of [run] for this run: `{"workers": 8}`. `show`
    takes each status, about one a second, on the thread of the caller; if it raises StopAsked while
    the run moves, the run drains, the second time ends at once. `show_keys`: failures in the report
    have objects' keys, where they have pseudonyms.

    On the main thread, Ctrl-C, SIGTERM and SIGHUP drain, too. A run that was drained has a report
    with `stopped`, and `exit_code` 3. Before it moves, and while it reconciles, there is none:
    StopAsked leaves the call, and Ctrl-C is KeyboardInterrupt.

    Raises ConfigurationError, JobDirectoryError, AnotherDriver, AccessDenied, StoreUnavailable.
    Objects that do not land raise nothing: they are in the report, and in failures().
    """
    place = current_pass(Path(job))
    signing = end_signing(Path(job))
    ended = jobs.run(
        place,
        address=address,
        ray=ray,
        cluster=cluster,
        overrides=overrides,
        show=show,
        show_keys=show_keys,
    )
    return with_proof(ended, place, signing)


def start(
    job: JobPath,
    *,
    address: str | None = None,
    ray: bool = False,
    cluster: Cluster | None = None,
    overrides: Mapping[str, Any] | None = None,
    show_keys: bool = False,
) -> RunningJob[RunReport]:
    """As run(), on a thread of its own, as a block: its progress is an iterator.

    Nothing begins before the block is entered, and what run() raises is raised when it is left.
    """
    return RunningJob(
        lambda show: run(
            job,
            address=address,
            ray=ray,
            cluster=cluster,
            overrides=overrides,
            show=show,
            show_keys=show_keys,
        )
    )


@_in_our_words()
def sync(
    job: JobPath,
    *,
    deletions: Literal["report", "mirror"] | None = None,
    deletions_any_number: bool = False,
    by_content: bool = False,
    inventory: str | None = None,
    address: str | None = None,
    ray: bool = False,
    cluster: Cluster | None = None,
    overrides: Mapping[str, Any] | None = None,
    show: Callable[[JobStatus], None] = lambda status: None,
    show_keys: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> PassReport:
    """Plan and run another pass over a source that lives on: what is new or changed since the last.

    `job` is the directory of the first job. A pass that was begun is brought to its end first.
    `deletions`: what is gone at the source is listed, or deleted at the target as well ("mirror"),
    if this migration wrote it and nobody changed it; None: as the job says. No more than its
    `deletions_max` unless `deletions_any_number`. `by_content` compares bytes where listings tell
    no difference. `inventory`: URL of a newer one, or "listing". All else as in plan() and run().
    """

    def moved(ready: Prepared) -> RunReport:
        return jobs.run(
            ready.directory.root,
            address=address,
            ray=ray,
            cluster=cluster,
            overrides=overrides,
            show=show,
            show_keys=show_keys,
            planned=ready,
        )

    wishes = PassWishes(
        mirror=None if deletions is None else deletions == "mirror",
        any_number=deletions_any_number,
        by_content=by_content,
        inventory=inventory,
        overrides=overrides or {},
    )
    return run_pass(Path(job), wishes, moved, say)


@_in_our_words()
def verify(
    job: JobPath,
    *,
    address: str | None = None,
    ray: bool = False,
    cluster: Cluster | None = None,
    overrides: Mapping[str, Any] | None = None,
    show: Callable[[JobStatus], None] = lambda status: None,
    show_keys: bool = False,
    sample: str | None = None,
    seed: str | None = None,
) -> VerifyReport:
    """Read everything that stands at the target back, and compare it with the receipts.

    After several passes, that is what all of them have left there. `sample`, such as `0.1%@99%`,
    reads only what is drawn, as `--sample` of `noria verify` does; `seed` is for that. Other
    parameters, signals and errors are those of run().
    """
    return verifying.verify(
        Path(job),
        address=address,
        ray=ray,
        cluster=cluster,
        overrides=overrides,
        show=show,
        show_keys=show_keys,
        sample=sample_wishes(sample, seed),
    )


def start_verify(
    job: JobPath,
    *,
    address: str | None = None,
    ray: bool = False,
    cluster: Cluster | None = None,
    overrides: Mapping[str, Any] | None = None,
    show_keys: bool = False,
    sample: str | None = None,
    seed: str | None = None,
) -> RunningJob[VerifyReport]:
    """As verify(), on a thread of its own; see start()."""
    return RunningJob(
        lambda show: verify(
            job,
            address=address,
            ray=ray,
            cluster=cluster,
            overrides=overrides,
            show=show,
            show_keys=show_keys,
            sample=sample,
            seed=seed,
        )
    )


@_in_our_words()
def reconcile(job: JobPath, *, say: Callable[[str], None] = lambda line: None) -> Reconciliation:
    """Compare manifest, receipts and a fresh listing of the target. run() does it at its end.

    Raises JobDirectoryError, AnotherDriver, AccessDenied, StoreUnavailable.
    """
    return jobs.reconcile_job(current_pass(Path(job)), say)


@_in_our_words()
def status(job: JobPath) -> JobStatus:
    """What is known of a job now. Reads only its directory, also while another process runs it.

    Raises JobDirectoryError.
    """
    return jobs.status(current_pass(Path(job)))


def failures(job: JobPath, *, show_keys: bool = False) -> Iterator[Failure]:
    """Every entry that did not land, with its cause, read as it is asked for.

    `show_keys`: objects' keys instead of pseudonyms. Raises JobDirectoryError.
    """
    return jobs.read_all_failures(current_pass(Path(job)), show_keys)


@_in_our_words()
def clean(job: JobPath, *, unclaimed: bool = False) -> Cleaning:
    """Abort the multipart uploads that a job left open, and remove unfinished files.

    `unclaimed`: also those that no journal knows, if they are on this job's names and younger than
    it. Raises as reconcile().
    """
    return jobs.clean(current_pass(Path(job)), unclaimed=unclaimed)
