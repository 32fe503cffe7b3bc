"""Noria from Python: plan a job, run it, verify it.

Example:

    import noria
    from pathlib import Path

    config = noria.job_config(
        {
            "source": {"url": "az://account/container"},
            "target": {"url": "s3://bucket/prefix"},
        },
        "my script",
    )
    noria.plan(config, Path("job"))
    report = noria.run(Path("job"))
    assert report.exit_code == 0, report.failures

The names in `__all__` are the whole of it; everything else may change from one version to the next.
Importing `noria` imports nothing else: each name is loaded when it is first asked for.
"""

from noria.version import VERSION

TYPE_CHECKING = False
"""As typing has it, without an import: `python -m noria` loads this file before it can put its
module path right."""

if TYPE_CHECKING:
    from noria.engine.config.jobfile import job_config, read_job_file
    from noria.engine.job import RunReport, VerifyReport, plan, reconcile_job, run, status, verify

__version__ = VERSION

__all__ = [
    "RunReport",
    "VerifyReport",
    "__version__",
    "job_config",
    "plan",
    "read_job_file",
    "reconcile_job",
    "run",
    "status",
    "verify",
]

_CONFIGURATION = ("job_config", "read_job_file")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'noria' has no attribute {name!r}")
    # Not at the top: see above.
    import importlib

    module = "noria.engine.config.jobfile" if name in _CONFIGURATION else "noria.engine.job"
    return getattr(importlib.import_module(module), name)
