"""What a driver does when it cannot hear its cluster, loses workers, or is overtaken."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import noria
from noria.engine.cluster.protocol import ClusterEvent, Lost
from noria.manifests.errors import AnotherDriver
from noria.manifests.job.directory import JobDirectory
from noria.manifests.model import WorkerReport
from tests.support.scripted_cluster import ScriptedCluster, reported
from tests.support.teams import planned_spec

LONG = 1000.0
ADDRESS = "10.0.0.1:6379"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return Path(planned_spec(tmp_path).directory)


def notes(job: Path) -> list[str]:
    return sorted(path.name for path in job.glob("epochs/*-workers.json"))


class _Silence:
    """Workers report until they have a lease; from then on nothing is heard of them."""

    def __init__(self) -> None:
        self.cluster = ScriptedCluster(fate=self.hear, elsewhere=ADDRESS)
        self.trouble: str | None = None

    def hear(self, worker: str, report: WorkerReport) -> ClusterEvent | None:
        if not (report.progress or report.results):
            return reported(worker, report)
        self.cluster.said = self.trouble
        return None


def test_a_cluster_that_cannot_be_heard_ends_the_run_at_once(job: Path) -> None:
    silence = _Silence()
    silence.trouble = "no answer from Ray's control store"
    began = time.monotonic()
    run = {"drain_seconds": LONG, "heartbeat_timeout_seconds": LONG}
    done = noria.run(job, cluster=silence.cluster, overrides=run)
    assert time.monotonic() - began < LONG / 10, "nobody is left to drain"
    assert done.stopped == "no answer from Ray's control store; then run again"
    assert silence.cluster.patience_seconds == LONG, "as patient as with a worker"
    assert "1" in silence.cluster.killed
    assert silence.cluster.closed
    assert notes(job) == ["0000000002-workers.json"], "its worker may be at work"


def test_without_workers_a_run_says_which_nodes_were_lost(job: Path) -> None:
    lost = "2 nodes were lost, the last at 2026-01-01 00:00:00 UTC: a, b"
    cluster = ScriptedCluster(starts=False, losses=lost)
    done = noria.run(job, cluster=cluster, overrides={"start_seconds": 0.5})
    assert done.stopped is not None
    assert f"no worker came up within 0 s; {lost}; see that" in done.stopped


def test_a_run_that_ends_well_leaves_no_note(job: Path) -> None:
    cluster = ScriptedCluster(elsewhere=ADDRESS)
    assert noria.run(job, cluster=cluster).exit_code == 0
    assert notes(job) == []
    assert not list(job.glob("journal/*/*")), "what is settled needs no journal"


def test_journals_of_a_worker_that_was_not_seen_to_end_are_kept(job: Path) -> None:
    """It may open an upload yet: `noria clean` has to find its id."""

    def hear(worker: str, report: WorkerReport) -> ClusterEvent | None:
        if worker == "1" and (report.progress or report.results):
            return Lost(worker=worker, cause="worker_lost", ended=False)
        return reported(worker, report)

    cluster = ScriptedCluster(fate=hear, elsewhere=ADDRESS)
    began = time.monotonic()
    done = noria.run(job, cluster=cluster, overrides={"heartbeat_timeout_seconds": 4.0})
    assert done.exit_code == 0
    assert time.monotonic() - began > 3, "others get its leases once it must have stopped"
    assert done.bytes_moved_at_least
    assert cluster.started[:2] == ["1", "2"]
    assert list(job.glob("journal/*/*/.keep"))


def test_a_run_that_follows_one_with_workers_that_may_write_waits_for_them(
    job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silence = _Silence()
    silence.trouble = "no answer from Ray's control store"
    timeout = {"heartbeat_timeout_seconds": 6.0}
    noria.run(job, cluster=silence.cluster, overrides=timeout)
    ended = time.monotonic()
    done = noria.run(job, cluster=ScriptedCluster())
    assert done.exit_code == 0
    assert time.monotonic() - ended > 4, "less what passed since its last sign of life"
    (said,) = [line for line in caplog.messages if "none of them writes" in line]
    assert f"workers on the Ray cluster at {ADDRESS} end; waiting " in said
    assert notes(job) == []
    began = time.monotonic()
    noria.run(job, cluster=ScriptedCluster())
    assert time.monotonic() - began < 4


def test_a_driver_that_is_overtaken_seals_nothing_more(job: Path) -> None:
    """As one that was stopped, or cut off from the job directory, and has lost its lock."""

    def hear(worker: str, report: WorkerReport) -> ClusterEvent | None:
        if report.results:
            time.sleep(1.2)  # the driver looks once a second
            JobDirectory(job).write_once("epochs/0000000003.json", b"{}")
        return reported(worker, report)

    with pytest.raises(AnotherDriver, match="taken"):
        noria.run(job, cluster=ScriptedCluster(fate=hear))
    assert not list(job.glob("sealed/*/*"))
