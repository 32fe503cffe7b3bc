"""Noria from Python: `noria.plan(...)`, `noria.run(...)`, `noria.verify(...)`.

import noria
from pathlib import Path

config = noria.job_config({"source": {"url": "az://account/container"},
                           "target": {"url": "s3://bucket/prefix"}}, "my script")
noria.plan(config, Path("job"))
report = noria.run(Path("job"))
assert report.exit_code == 0, report.failures
"""

from engine.config import job_config, read_job_file
from engine.job import RunReport, VerifyReport, plan, reconcile_job, run, status, verify

__all__ = [
    "RunReport",
    "VerifyReport",
    "job_config",
    "plan",
    "read_job_file",
    "reconcile_job",
    "run",
    "status",
    "verify",
]
