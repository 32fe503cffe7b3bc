"""A verification of a job that is not finished reads back what landed, and changes nothing else."""

from __future__ import annotations

from pathlib import Path

import noria
from noria.engine.cluster.protocol import ClusterEvent, Lost
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.journals import encode_batch, encode_upload, read_journals
from noria.manifests.job.worker_journals import WorkerJournal
from noria.manifests.model import Lease, LeaseKind, Upload, WorkerReport
from tests.support.scripted_cluster import ScriptedCluster, reported
from tests.support.teams import planned_spec

OPEN = Upload(row=3, upload_id="open", txid="t", part_bytes=8 << 20, etag="e")


def test_journals_of_the_move_stay(tmp_path: Path) -> None:
    """They alone know of uploads that are open, and of what was done already."""
    job = Path(planned_spec(tmp_path).directory)
    directory = JobDirectory.open(job)
    lease = Lease(
        shard=0, kind=LeaseKind.OBJECTS, first=0, end=20, attempt=1_000_000_001, generation=0
    )
    journal = WorkerJournal(directory)
    pointer = journal.point(lease)
    journal.append({pointer: encode_batch([encode_upload(OPEN)], pointer.address)})
    verified = noria.verify(job, cluster=ScriptedCluster())
    assert (verified.complete, verified.unsettled, verified.exit_code) == (True, 20, 1)
    assert read_journals(directory, 0, 0, 20).uploads == {3: OPEN}


def test_a_worker_that_only_reads_has_no_journals_kept(tmp_path: Path) -> None:
    job = Path(planned_spec(tmp_path).directory)

    def hear(worker: str, report: WorkerReport) -> ClusterEvent | None:
        if worker == "1" and (report.progress or report.results):
            return Lost(worker=worker, cause="worker_lost", ended=False)
        return reported(worker, report)

    cluster = ScriptedCluster(fate=hear)
    noria.verify(job, cluster=cluster, overrides={"heartbeat_timeout_seconds": 2.0})
    assert cluster.started[:2] == ["1", "2"]
    assert not list(job.glob("journal/*/*"))


def test_huge_objects_that_are_not_moved_yet_are_passed_over(tmp_path: Path) -> None:
    source, target, job = (tmp_path / name for name in ("source", "target", "job"))
    source.mkdir()
    target.mkdir()
    for number in range(2):
        with open(source / f"huge{number}", "wb") as file:
            file.truncate(200 << 30)
    locations = {"source": {"url": f"file://{source}"}, "target": {"url": f"file://{target}"}}
    noria.plan(noria.job_config(locations, "a test"), job)
    verified = noria.verify(job, cluster=ScriptedCluster(), overrides={"attempts": 2})
    assert (verified.complete, verified.unsettled, verified.damaged) == (True, 2, 0)
    assert verified.exit_code == 1, "nothing is settled"
