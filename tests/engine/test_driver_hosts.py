"""A host that cannot do its work ends no run; if no host can, the run says why of each."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

import noria
from noria.engine.cluster.protocol import ClusterEvent, Reported
from noria.manifests.model import LeaseEnd, WorkerReport
from tests.support.scripted_cluster import ScriptedCluster, reported
from tests.support.teams import planned_spec

SKEWED = "this machine's clock is +1200 s off the store's: set it (NTP), then run again"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return Path(planned_spec(tmp_path).directory)


class _SickHosts:
    """Workers on these hosts end each lease with a clock that is wrong."""

    def __init__(self, *names: str, sick: set[str]) -> None:
        self.cluster = ScriptedCluster(fate=self.hear, names=names)
        self._sick = sick
        self.closes_first = False
        """The first of them takes no more workers once it was found sick."""

    def hear(self, worker: str, report: WorkerReport) -> ClusterEvent | None:
        if self.cluster.places[worker] not in self._sick:
            return reported(worker, report)
        if report.results and self.closes_first and not self.cluster.full:
            self.cluster.full.add(self.cluster.places[worker])
        results = tuple(
            replace(result, how=LeaseEnd.FATAL, cause="clock_skewed", message=SKEWED)
            for result in report.results
        )
        return Reported(worker=worker, report=replace(report, results=results))


def test_the_others_do_the_work_of_a_sick_host(job: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    hosts = _SickHosts("ill", "well", sick={"ill"})
    done = noria.run(job, cluster=hosts.cluster, overrides={"workers": 2})
    assert (done.exit_code, done.failed) == (0, 0)
    (said,) = [line for line in caplog.messages if "rests" in line]
    assert said == f"host ill rests, and others get its work: clock_skewed: {SKEWED}"
    assert "ill" in [hosts.cluster.places[worker] for worker in hosts.cluster.killed]
    assert list(hosts.cluster.places.values()).count("ill") == 1, "it is not tried again so soon"


def test_a_run_on_one_host_stops_with_its_trouble(job: Path) -> None:
    done = noria.run(job, cluster=_SickHosts("ill", sick={"ill"}).cluster)
    assert (done.exit_code, done.stopped) == (3, SKEWED)


def test_a_run_stops_once_every_host_rests(job: Path) -> None:
    cluster = _SickHosts("a", "b", sick={"a", "b"}).cluster
    done = noria.run(job, cluster=cluster, overrides={"workers": 2})
    assert done.exit_code == 3
    assert done.stopped == f"{SKEWED} (so on all 2 hosts)"


def test_a_host_that_takes_no_more_workers_is_one_of_those_that_rest(job: Path) -> None:
    """A node whose answer is late, on a busy machine, looks for seconds as if it were closed."""
    hosts = _SickHosts("a", "b", sick={"a", "b"})
    hosts.closes_first = True
    done = noria.run(job, cluster=hosts.cluster, overrides={"workers": 2})
    assert done.stopped == f"{SKEWED} (so on all 2 hosts)"


def test_the_end_of_an_attempt_that_is_over_blames_no_host(job: Path) -> None:
    """One that was revoked may find the job directory full, say, after others have gone on."""
    late: list[str] = []

    def hear(worker: str, report: WorkerReport) -> ClusterEvent | None:
        if not report.results or late:
            return reported(worker, report)
        late.append(worker)
        over = replace(
            report.results[0],
            attempt=7,
            how=LeaseEnd.FATAL,
            cause="clock_skewed",
            message=SKEWED,
        )
        return Reported(worker=worker, report=replace(report, results=(over, *report.results)))

    done = noria.run(job, cluster=ScriptedCluster(fate=hear))
    assert late
    assert (done.exit_code, done.stopped) == (0, None)
