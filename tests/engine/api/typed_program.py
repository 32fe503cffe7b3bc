"""What a type checker sees of `import noria`: `make lint` checks it, nothing runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import noria


def use(job: Path) -> None:
    """Each call with its type, as a program's author meets them."""
    config = noria.job_config({"source": {"url": "/a"}, "target": {"url": "/b"}})
    assert_type(config, noria.JobConfig)
    assert_type(noria.read_job_file("job.toml"), noria.JobConfig)
    assert_type(noria.plan(config, str(job)), noria.PlanReport)
    assert_type(noria.plan(config, job).attributes, noria.AttributeLook)
    with noria.start(job, overrides={"workers": 1}) as running:
        for progress in running:
            assert_type(progress, noria.JobStatus)
            assert_type(progress.phase, noria.Phase)
        assert_type(running.watch(), noria.RunReport)
    assert_type(running.result(), noria.RunReport)
    assert_type(running.progress, noria.JobStatus | None)
    with noria.start_verify(job) as verifying:
        assert_type(verifying, noria.RunningJob[noria.VerifyReport])
    assert_type(noria.run(job, address="auto"), noria.RunReport)
    assert_type(noria.verify(job), noria.VerifyReport)
    assert_type(noria.reconcile(job), noria.Reconciliation)
    assert_type(noria.status(job), noria.JobStatus)
    assert_type(noria.failures(job, show_keys=True), Iterator[noria.Failure])
    assert_type(noria.clean(job), noria.Cleaning)
    try:
        noria.run(job, show=stop)
    except noria.NoriaError as error:
        assert_type(error.exit_code, int)


def stop(status: noria.JobStatus) -> None:
    raise noria.StopAsked
