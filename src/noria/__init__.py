"""Noria from Python: plan a job, run it, verify it.

Example:

    import noria

    config = noria.job_config(
        {
            "source": {"url": "az://account/container"},
            "target": {"url": "s3://bucket/prefix"},
        }
    )
    noria.plan(config, "move-1")
    with noria.start("move-1") as running:
        for progress in running:
            print(f"{progress.objects_done:,} of {progress.objects_total:,}")
    report = running.result()
    assert report.exit_code == 0, report.failures

What the commands do:

    job_config, read_job_file   what is to be moved, and how -> JobConfig
    plan                        freeze the list of objects -> PlanReport
    run, start                  move, or resume; reconcile -> RunReport
    sync                        another pass over a source that lives on -> PassReport
    verify, start_verify        read everything back -> VerifyReport
    reconcile                   compare manifest, receipts and target -> Reconciliation
    status                      what is known of a job now -> JobStatus
    failures                    what did not land, and why -> iterator of Failure
    clean                       abort uploads that a job left open -> Cleaning

A job directory is a text or a path. Reports are frozen dataclasses with the fields of `--json`;
sizes are in bytes, times in seconds. `exit_code` of a report, or of the error that was raised, is
that of the command:

    0   everything moved and verified
    1   finished, but some objects failed or were refused, or the target does not match
    2   ConfigurationError, InventoryError, AccessDenied, AnotherDriver: nothing was written
    3   stopped before the end, or another NoriaError: run it again to resume

Nothing is printed; what the command would warn of goes to
the logger `noria`. `start` is a block that leaves no thread, no process and no signal handler
behind; in a notebook, `running.watch()` shows it. `run` and `verify` block, and suit
`asyncio.to_thread`.

The names in `__all__` are the whole of it; everything else may change from one version to the next.
Importing `noria` imports nothing else: each name is loaded when it is first asked for.
"""

from noria.version import VERSION

TYPE_CHECKING = False
"""As typing has it, without an import: `python -m noria` loads this file before it can put its
module path right."""

if TYPE_CHECKING:
    from noria.engine.api.calls import (
        clean,
        failures,
        job_config,
        plan,
        read_job_file,
        reconcile,
        run,
        start,
        start_verify,
        status,
        sync,
        verify,
    )
    from noria.engine.api.reports import PlanReport
    from noria.engine.api.running import RunningJob
    from noria.engine.attribute_look import AttributeLook
    from noria.engine.clean import Cleaning
    from noria.engine.config.jobfile import JobConfig
    from noria.engine.failures import Failure
    from noria.engine.job import RunReport
    from noria.engine.passes import PassReport
    from noria.engine.status import HostStatus, JobStatus, Phase
    from noria.engine.verifying import VerifyReport
    from noria.manifests.errors import (
        AccessDenied,
        AnotherDriver,
        ConfigurationError,
        InventoryError,
        JobDirectoryError,
        NoriaError,
        StopAsked,
        StoreUnavailable,
    )
    from noria.manifests.job.reconcile import Reconciliation

__version__ = VERSION

__all__ = [
    "AccessDenied",
    "AnotherDriver",
    "AttributeLook",
    "Cleaning",
    "ConfigurationError",
    "Failure",
    "HostStatus",
    "InventoryError",
    "JobConfig",
    "JobDirectoryError",
    "JobStatus",
    "NoriaError",
    "PassReport",
    "Phase",
    "PlanReport",
    "Reconciliation",
    "RunReport",
    "RunningJob",
    "StopAsked",
    "StoreUnavailable",
    "VerifyReport",
    "__version__",
    "clean",
    "failures",
    "job_config",
    "plan",
    "read_job_file",
    "reconcile",
    "run",
    "start",
    "start_verify",
    "status",
    "sync",
    "verify",
]

_CALLS = "noria.engine.api.calls"
_ERRORS = "noria.manifests.errors"
_PLACES = {
    "AccessDenied": _ERRORS,
    "AnotherDriver": _ERRORS,
    "AttributeLook": "noria.engine.attribute_look",
    "Cleaning": "noria.engine.clean",
    "ConfigurationError": _ERRORS,
    "Failure": "noria.engine.failures",
    "HostStatus": "noria.engine.status",
    "InventoryError": _ERRORS,
    "JobConfig": "noria.engine.config.jobfile",
    "JobDirectoryError": _ERRORS,
    "JobStatus": "noria.engine.status",
    "NoriaError": _ERRORS,
    "PassReport": "noria.engine.passes",
    "Phase": "noria.engine.status",
    "PlanReport": "noria.engine.api.reports",
    "Reconciliation": "noria.manifests.job.reconcile",
    "RunReport": "noria.engine.job",
    "RunningJob": "noria.engine.api.running",
    "StopAsked": _ERRORS,
    "StoreUnavailable": _ERRORS,
    "VerifyReport": "noria.engine.verifying",
}
"""Name -> the module that has it; all others are calls."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'noria' has no attribute {name!r}")
    # Not at the top: see above.
    import importlib

    return getattr(importlib.import_module(_PLACES.get(name, _CALLS)), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
