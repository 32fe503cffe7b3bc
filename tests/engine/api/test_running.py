"""A run that goes on beside a program: progress, the ways to end it, and what stays behind."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path

import pytest

import noria
from noria.engine.api.running import RunningJob
from noria.engine.cluster.protocol import ClusterEvent
from noria.manifests.model import WorkerReport
from tests.support.scripted_cluster import ScriptedCluster, reported
from tests.support.teams import planned_spec

PATIENT = {"heartbeat_timeout_seconds": 1000.0, "drain_seconds": 1000.0}
ASKED = "stopped on request"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return Path(planned_spec(tmp_path).directory)


class _Deaf:
    """A worker takes a lease, and is not heard any more: no drain ends by itself."""

    def __init__(self) -> None:
        self.at_work = threading.Event()
        self.cluster = ScriptedCluster(fate=self.hear)

    def hear(self, worker: str, report: WorkerReport) -> ClusterEvent | None:
        if not (report.progress or report.results):
            return reported(worker, report)
        self.at_work.set()
        return None


def handlers() -> list[object]:
    return [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def _hear_three_signals(running: RunningJob[noria.RunReport]) -> None:
    with running:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)


def test_progress_ends_with_the_end(job: Path) -> None:
    with noria.start(job, cluster=ScriptedCluster()) as running:
        seen = list(running)
    report = running.result()
    assert (report.objects, report.exit_code, report.stopped) == (20, 0, None)
    assert seen[-1].phase is noria.Phase.FINISHED
    assert seen[-1].objects_done == 20
    assert list(running) == seen[-1:], "afterwards it is the last one"
    assert running.progress == seen[-1]
    assert "finished, " in repr(running)


def test_a_block_that_is_left_early_waits_for_the_end(job: Path) -> None:
    with noria.start(str(job), cluster=ScriptedCluster()) as running:
        next(iter(running))
    assert running.result().exit_code == 0


def test_the_first_ctrl_c_drains_and_the_second_ends_at_once(job: Path) -> None:
    deaf, before, asked = _Deaf(), handlers(), list[noria.Phase]()
    with noria.start(job, cluster=deaf.cluster, overrides=PATIENT) as running:
        assert handlers() != before
        for progress in running:
            due = noria.Phase.DRAINING if asked else noria.Phase.MOVING
            if len(asked) < 2 and progress.phase is due and deaf.at_work.is_set():
                asked.append(due)
                signal.raise_signal(signal.SIGINT)
    report = running.result()
    assert len(asked) == 2
    assert (report.stopped, report.complete, report.exit_code) == (ASKED, False, 3)
    assert handlers() == before
    assert noria.run(job, cluster=ScriptedCluster()).exit_code == 0, "the next one goes on"


def test_one_ctrl_c_too_many_is_the_program_s_own(job: Path) -> None:
    before = handlers()
    running = noria.start(job, cluster=_Deaf().cluster, overrides=PATIENT)
    with pytest.raises(KeyboardInterrupt):
        _hear_three_signals(running)
    assert handlers() == before
    assert running.result().stopped == ASKED


def test_an_error_in_the_block_stops_the_run_and_goes_on_its_way(job: Path) -> None:
    with (
        pytest.raises(LookupError),
        noria.start(job, cluster=ScriptedCluster(starts=False)) as running,
    ):
        raise LookupError
    assert running.result().stopped == ASKED


def test_what_ends_a_run_without_a_report_is_raised(tmp_path: Path) -> None:
    seen = list[noria.JobStatus]()
    with pytest.raises(noria.ConfigurationError), noria.start(tmp_path / "none") as running:
        seen += running
    assert not seen
    with pytest.raises(noria.ConfigurationError):
        running.result()


def test_a_limit_that_the_run_before_had_alone_is_said(
    job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def show(status: noria.JobStatus) -> None:
        if status.phase is noria.Phase.MOVING:
            raise noria.StopAsked

    limited = {"bandwidth": "20MB/s"}
    for _ in range(2):
        noria.run(job, cluster=ScriptedCluster(starts=False), overrides=limited, show=show)
    assert "no limit of bandwidth" not in caplog.text
    noria.run(job, cluster=ScriptedCluster())
    assert "no limit of bandwidth in this run, where the last one had 20,000,000" in caplog.text
    caplog.clear()
    noria.run(job, cluster=ScriptedCluster(), overrides=limited)
    noria.run(job, cluster=ScriptedCluster())
    assert "no limit of bandwidth" not in caplog.text, "nothing was left to do"


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (KeyboardInterrupt(), "stopped on request"),
        (noria.StopAsked(), "stopped on request"),
        (noria.StoreUnavailable("no answer"), "no answer"),
        (RuntimeError("secret"), "an unexpected error: see log"),
    ],
)
def test_a_run_that_ends_while_it_reconciles_says_so(
    job: Path, end: BaseException, why: str
) -> None:
    def show(status: noria.JobStatus) -> None:
        if status.phase is noria.Phase.RECONCILING:
            raise end

    with pytest.raises(type(end)):
        noria.run(job, cluster=ScriptedCluster(), show=show)
    found = noria.status(job)
    expected = (noria.Phase.STOPPED, f"{why} (while it was reconciled)")
    assert (found.phase, found.stopped) == expected
    finished = noria.run(job, cluster=ScriptedCluster())
    assert (finished.exit_code, finished.finished_before) == (0, None)
    at = noria.status(job).updated_seconds
    with pytest.raises(type(end)):
        noria.run(job, cluster=ScriptedCluster(), show=show)
    assert (noria.status(job).phase, noria.status(job).updated_seconds) == (
        noria.Phase.FINISHED, at
    )  # fmt: skip


def test_a_run_that_is_stopped_while_it_reconciles_has_no_report(job: Path) -> None:
    noria.run(job, cluster=ScriptedCluster())
    running = noria.start(job, cluster=ScriptedCluster())
    running.stop()
    with pytest.raises(noria.StopAsked, match=ASKED) as raised, running:
        pass
    assert raised.value.exit_code == 3
    assert noria.run(job, cluster=ScriptedCluster()).exit_code == 0


def test_a_show_stops_the_run_of_another_thread(job: Path) -> None:
    before, during, reports = handlers(), list[list[object]](), list[noria.RunReport]()

    def show(status: noria.JobStatus) -> None:
        during.append(handlers())
        if status.phase is noria.Phase.MOVING:
            raise noria.StopAsked

    def work() -> None:
        cluster = ScriptedCluster(starts=False)
        reports.append(noria.run(job, cluster=cluster, show=show))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reports[0].stopped == ASKED
    assert all(each == before for each in during)


def test_an_event_loop_goes_on_meanwhile(job: Path) -> None:
    async def move() -> tuple[noria.RunReport, noria.RunReport]:
        with noria.start(job, cluster=ScriptedCluster()) as running:
            first = await asyncio.to_thread(running.result)
        return first, await asyncio.to_thread(noria.run, job, cluster=ScriptedCluster())

    first, second = asyncio.run(move())
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert second.finished_before is not None


def test_it_is_a_block_and_is_used_once(job: Path) -> None:
    running = noria.start(job, cluster=ScriptedCluster())
    assert repr(running) == "<RunningJob: not begun>"
    with pytest.raises(RuntimeError, match="use it as `with"):
        running.result()
    with running:
        pass
    with pytest.raises(RuntimeError, match="start another one"), running:
        pass


def test_a_notebook_shows_figures_and_no_names(job: Path) -> None:
    running = noria.start(job, cluster=ScriptedCluster())
    assert running._repr_mimebundle_() == {"text/plain": "<RunningJob: not begun>"}
    with running:
        report = running.watch()
    bundle = running._repr_mimebundle_()
    assert bundle.keys() == {"text/plain", "text/html"}
    shown = bundle["text/html"]
    assert "<b>finished</b>" in shown
    assert f"job {report.job}" in shown
    assert "20 of 20 objects" in shown
    assert '<progress max="1" value="1.000"' in shown
    assert "00001" not in shown
