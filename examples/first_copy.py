"""Copies what lies below one location to another, shows how far it is, and proves it.

    python first_copy.py az://ACCOUNT/CONTAINER s3://BUCKET/PREFIX move-1

Repeated, it resumes. Ctrl-C drains.
"""

import sys
from pathlib import Path

import noria


def copy(source: str, target: str, job: Path) -> int:
    """Plan, run and verify; returns the exit code that `noria copy` would have."""
    config = noria.job_config({"source": {"url": source}, "target": {"url": target}})
    plan = noria.plan(config, job)
    print(f"{plan.objects_to_move:,} of {plan.objects:,} objects will move: {plan.left_out or ''}")
    with noria.start(job) as running:
        for progress in running:
            print(f"{progress.phase}: {progress.objects_done:,} of {progress.objects_total:,}")
    report = running.result()
    for failure in noria.failures(job):
        print(f"{failure.name}: {failure.cause}: {failure.message}")
    if report.exit_code == 0:
        checked = noria.verify(job)
        print(f"{checked.reread:,} objects were read back, {checked.damaged:,} are damaged")
        return checked.exit_code
    return report.exit_code


if __name__ == "__main__":
    try:
        sys.exit(copy(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
    except noria.NoriaError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
