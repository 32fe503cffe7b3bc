"""What protocol.Cluster promises, asked of each implementation: real workers, real jobs.

Of the workers that many datasets share, it is asked of one dataset's cluster. Ray is a head that
was started with `ray start`, with its token.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from noria.engine.cluster.local import LocalCluster
from noria.engine.cluster.opening import open_cluster
from noria.engine.cluster.processes import own_niceness
from noria.engine.cluster.protocol import (
    START_FAILED,
    Cluster,
    DrainWorker,
    Reported,
    Started,
)
from noria.engine.cluster.ray import RayCluster
from noria.engine.config.jobfile import RunConfig
from noria.engine.fleet.budgets import RunBudgets
from noria.engine.fleet.pool import WorkerPool
from noria.engine.fleet.pooled_cluster import PooledCluster
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.model import LeaseEnd, Limits
from tests.support.limits import limits_of
from tests.support.nodes import Head, head_node, new_token, workers_of
from tests.support.packages import copy_of_noria
from tests.support.processes import (
    GATEWAY,
    LOCAL_WORKER,
    descendants,
    is_alive,
    marked,
    wait_until,
)
from tests.support.teams import Team, content, held_start, planned_spec

MARK = "NORIA_TEST_MARK"


@dataclass(frozen=True, slots=True)
class Implementation:
    """One implementation, and where its processes are to be found."""

    head: Head | None
    is_pool: bool = False
    """The cluster of one of many datasets."""

    @contextmanager
    def opened(self) -> Iterator[Cluster]:
        if not self.is_pool:
            with open_cluster(self.address) as cluster:
                yield cluster
            return
        pool = WorkerPool(16)
        try:
            with PooledCluster(
                "one", pool, RunBudgets(limits_of(RunConfig())), priority=0, weight=1.0
            ) as cluster:
                yield cluster
        finally:
            pool.close()

    @property
    def address(self) -> str | None:
        return None if self.head is None else self.head.address

    @property
    def access(self) -> dict[str, str]:
        return {} if self.head is None else self.head.access

    def workers(self) -> set[int]:
        """Worker processes of this machine."""
        if self.head is not None:
            return set(workers_of(self.head.process))
        return {pid for pid, command in descendants(os.getpid()) if LOCAL_WORKER in command}


@pytest.fixture(scope="module", params=["local", "pool", "ray"])
def kind(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    head = request.getfixturevalue("ray_head") if request.param == "ray" else None
    kind = Implementation(head, is_pool=request.param == "pool")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in kind.access.items():
            patch.setenv(name, value)
        yield kind


@pytest.fixture(scope="module")
def cluster(kind: Implementation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """For tests that leave it usable."""
    with kind.opened() as cluster:
        cluster.start(tmp_path_factory.mktemp("log"))
        yield cluster


@pytest.fixture
def team(cluster: Cluster, tmp_path: Path) -> Iterator[Team]:
    team = Team(cluster, planned_spec(tmp_path))
    yield team
    team.end()
    assert cluster.trouble() is None


def test_a_worker_says_where_it_is(team: Team, kind: Implementation) -> None:
    started = team.start()
    assert started.host.name
    assert started.pid in kind.workers()
    assert team.cluster.waiting() == []
    assert team.cluster.hosts()[started.host.id] >= 1
    assert team.cluster.leaving() == set()


def test_an_exchange_carries_a_lease_there_and_its_result_back(team: Team, tmp_path: Path) -> None:
    worker = team.start().worker
    result = team.result(worker, Limits(transfers=1, source=4, target=4), team.grant(worker, 20))
    assert result.how is LeaseEnd.FINISHED, result
    landed = {path.name: path.read_bytes() for path in (tmp_path / "target").iterdir()}
    assert landed == {f"{number:05}": content(number) for number in range(20)}
    report = team.exchange(worker)
    assert (report.results, report.worker) == ((), worker), "a result is carried once"


def test_what_a_worker_says_is_kept_with_the_job(team: Team, kind: Implementation) -> None:
    """Here: that the lease it was given is of no shard of this job."""
    log = Path(team.spec.directory) / "log"
    started = team.start()
    grant = team.grant(started.worker, 1)
    result = team.result(started.worker, replace(grant, lease=replace(grant.lease, shard=99)))
    assert (result.how, result.cause) == (LeaseEnd.FAILED, "internal")
    (file,) = log.iterdir()
    where = "" if kind.head is None else f"-{started.host.name}"
    assert file.name == f"workers{where}.txt"
    assert file.stat().st_mode & 0o777 == 0o600
    first, *_ = file.read_text().splitlines()
    time, said = first.split(" ", 1)
    assert time.endswith("Z")
    assert said.startswith(f"worker {started.worker}: noria.worker: shard 99: ")


def test_a_worker_works_without_a_log(team: Team) -> None:
    (Path(team.spec.directory) / "log").rmdir()
    worker = team.start().worker
    assert team.result(worker, team.grant(worker, 20)).how is LeaseEnd.FINISHED


def test_a_worker_is_as_nice_as_its_driver(team: Team, kind: Implementation) -> None:
    if kind.head is not None and os.geteuid() != 0:
        pytest.skip("Ray's workers are nice, and only root may change that")
    started = team.start()
    assert os.getpriority(os.PRIO_PROCESS, started.pid) == own_niceness()
    threads = [int(name) for name in os.listdir(f"/proc/{started.pid}/task")]
    assert len(threads) > 1
    nice = {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}
    assert nice == {own_niceness()}


def test_several_workers_work_side_by_side(team: Team) -> None:
    names = [team.ask_for_worker() for _ in range(3)]
    assert set(team.cluster.waiting()) <= set(names)
    pids = {team.next(name, Started).pid for name in names}
    assert len(pids) == 3
    for name in names:
        team.cluster.exchange(name)
    assert {team.next(name, Reported).report.worker for name in names} == set(names)


def test_a_killed_worker_is_lost_and_the_others_are_not(team: Team) -> None:
    victim, other = team.start(), team.start()
    team.cluster.exchange(victim.worker)
    os.kill(victim.pid, signal.SIGKILL)
    lost = team.lost(victim.worker)
    assert (lost.cause, lost.error) == ("worker_lost", None)
    assert lost.last_words, "how it ended"
    assert "\n" not in lost.last_words
    # Nothing is said to it any more, and nobody minds.
    team.cluster.send(victim.worker, DrainWorker())
    team.cluster.exchange(victim.worker)
    team.cluster.kill(victim.worker)
    assert team.exchange(other.worker).worker == other.worker


def test_a_worker_that_hangs_holds_up_nobody_and_is_killed_in_silence(
    team: Team, kind: Implementation
) -> None:
    victim, other = team.start(), team.start()
    os.kill(victim.pid, signal.SIGSTOP)
    team.cluster.exchange(victim.worker)
    for _ in range(3):
        assert team.exchange(other.worker).worker == other.worker
    assert is_alive(victim.pid)
    team.cluster.kill(victim.worker)
    wait_until(lambda: not is_alive(victim.pid), "its end")
    team.listen(1.0)
    assert [event for event in team.heard if event.worker == victim.worker] == []
    assert team.exchange(other.worker).worker == other.worker


def test_a_worker_that_was_stopped_and_wakes_up_reports(team: Team) -> None:
    worker = team.start()
    os.kill(worker.pid, signal.SIGSTOP)
    team.cluster.exchange(worker.worker)
    team.listen(1.5)
    assert team.heard == []
    os.kill(worker.pid, signal.SIGCONT)
    assert team.next(worker.worker, Reported).report.worker == worker.worker


def test_a_drained_worker_hands_its_leases_back(cluster: Cluster, tmp_path: Path) -> None:
    team = Team(cluster, planned_spec(tmp_path, objects=3_000))
    worker = team.start().worker
    result = team.result(worker, team.grant(worker, 3_000), DrainWorker())
    assert result.how is LeaseEnd.RETURNED, result
    assert team.exchange(worker).progress == ()
    team.end()


@pytest.mark.parametrize("wrong", ["missing", "another job's"])
def test_a_worker_that_cannot_work_says_why(team: Team, tmp_path: Path, wrong: str) -> None:
    """And is not there any more."""
    folder = tmp_path / "elsewhere"
    if wrong == "missing":
        spec = replace(team.spec, directory=str(folder))
    else:
        spec = replace(team.spec, directory=planned_spec(folder).directory)
    lost = team.lost(team.ask_for_worker(spec))
    assert isinstance(lost.error, JobDirectoryError)
    assert str(folder) in lost.error.message
    assert lost.cause == lost.error.cause
    assert team.cluster.waiting() == []
    assert team.start().pid, "the next one may work"


def test_a_worker_that_dies_before_it_is_up_has_not_started(
    team: Team, kind: Implementation
) -> None:
    if kind.is_pool:
        pytest.skip("its processes may be up already: see tests/engine/fleet")
    with held_start(team.spec) as spec:
        before = kind.workers()
        name = team.ask_for_worker(spec)
        wait_until(lambda: bool(kind.workers() - before), "its process")
        assert team.cluster.waiting() == [name]
        (pid,) = kind.workers() - before
        os.kill(pid, signal.SIGKILL)
        lost = team.lost(name)
    assert (lost.cause, lost.error) == (START_FAILED, None)
    assert lost.last_words
    assert team.cluster.waiting() == []


def test_a_worker_that_is_killed_before_it_is_up_is_never_heard_of(
    team: Team, kind: Implementation
) -> None:
    if kind.is_pool:
        pytest.skip("its processes may be up already: see tests/engine/fleet")
    with held_start(team.spec) as spec:
        before = kind.workers()
        name = team.ask_for_worker(spec)
        wait_until(lambda: bool(kind.workers() - before), "its process")
        team.cluster.kill(name)
        wait_until(lambda: kind.workers() <= before, "its end")
    team.listen(0.5)
    assert team.heard == []
    assert team.cluster.waiting() == []


def test_close_ends_all_that_was_started_and_leaves_no_file(
    kind: Implementation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that are up, that hang and that are on their way; a second time does nothing."""
    if kind.is_pool:
        pytest.skip("its processes may be up already: see tests/engine/fleet")
    temporary, log = tmp_path / "tmp", tmp_path / "log"
    temporary.mkdir()
    log.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    before, others = kind.workers(), _children()
    spec = planned_spec(tmp_path / "job")
    with held_start(spec) as held:
        cluster = open_cluster(kind.address)
        cluster.start(log)
        team = Team(cluster, spec)
        up, hangs = team.start(), team.start()
        team.ask_for_worker(held)
        wait_until(lambda: len(kind.workers() - before) == 3, "the third")
        team.cluster.exchange(up.worker)
        os.kill(hangs.pid, signal.SIGSTOP)
        started = kind.workers() - before
        team.ask_for_worker()
        cluster.close()
    wait_until(lambda: not any(map(is_alive, started)), "their end")
    # Ray may be about to place the one that was asked for last.
    wait_until(lambda: kind.workers() <= before, "the end of the last")
    assert _children() == others
    if kind.address is None:  # Ray may leave a folder of its own
        assert list(temporary.iterdir()) == []
    cluster.close()


def test_a_cluster_that_was_never_used_closes() -> None:
    for cluster in (LocalCluster(), RayCluster("127.0.0.1:1")):
        with cluster:
            pass
        cluster.close()


DRIVER = textwrap.dedent(
    """
    import sys, time, pickle
    from dataclasses import replace
    from pathlib import Path
    from noria.engine.cluster.opening import open_cluster

    moment, address, log = sys.argv[1:4]
    up, held = pickle.load(open(sys.argv[4], "rb"))
    cluster = open_cluster(address or None)
    def say(word):
        print(word, flush=True)
    if moment == "joining":
        say("ready")
    if moment == "a spare":
        cluster.prestart()
        say("ready")
        time.sleep(100)
    cluster.start(Path(log))
    for name in ("1", "2"):
        cluster.start_worker(replace(held if moment == "starting" else up, name=name))
    if moment != "up":
        say("ready")
    going = set()
    while True:
        for event in cluster.poll(0.2):
            cluster.exchange(event.worker)
            going.add(event.worker)
            if len(going) == 2:
                say("ready")
    """
)


@pytest.mark.parametrize("moment", ["a spare", "joining", "asking", "starting", "up"])
def test_all_processes_end_with_a_driver_that_is_killed(
    kind: Implementation, tmp_path: Path, moment: str
) -> None:
    before = kind.workers()
    spec = planned_spec(tmp_path / "job")
    with held_start(spec) as held:
        (tmp_path / "specs").write_bytes(pickle.dumps((spec, held)))
        mark = uuid.uuid4().hex
        driver = subprocess.Popen(
            [
                *(sys.executable, "-c", DRIVER, moment, kind.address or "", str(tmp_path)),
                str(tmp_path / "specs"),
            ],
            env={**os.environ, MARK: mark},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert driver.stdout is not None
        with driver.stdout:
            assert driver.stdout.readline() == "ready\n"
        if moment == "starting":
            wait_until(lambda: len(_workers(kind, mark) - before) == 2, "two workers")
        driver.kill()
        driver.wait()
        wait_until(
            lambda: not marked(MARK, mark) and not (_workers(kind, mark) - before),
            "the end of all",
        )


def _workers(kind: Implementation, mark: str) -> set[int]:
    """Of a driver that is another process: on this machine its children inherit the mark."""
    if kind.head is not None:
        return kind.workers()
    return {pid for pid, command in marked(MARK, mark).items() if LOCAL_WORKER in command}


MIXED = textwrap.dedent(
    """
    import sys, pickle
    from dataclasses import replace
    from pathlib import Path
    import noria
    from noria.engine.cluster.opening import open_cluster

    address, log, spec, own = sys.argv[1:]
    code = Path(noria.__file__).with_name("version.py")
    assert str(code).startswith(own), code
    # As an upgrade does while a driver runs.
    code.write_text(code.read_text().replace(noria.__version__, "9.9.9"))
    with open_cluster(address or None) as cluster:
        cluster.start(Path(log))
        cluster.start_worker(replace(pickle.load(open(spec, "rb")), name="1"))
        while not (events := cluster.poll(1.0)):
            pass
    (event,) = events
    print(type(event).__name__, event.error.message)
    """
)


def test_a_worker_of_another_build_is_refused(kind: Implementation, tmp_path: Path) -> None:
    """The driver runs a copy of Noria elsewhere, which changes while it runs."""
    copy = copy_of_noria(tmp_path / "copy")
    spec = planned_spec(tmp_path / "job")
    (tmp_path / "spec").write_bytes(pickle.dumps(spec))
    ended = subprocess.run(
        [
            *(sys.executable, "-c", MIXED, kind.address or "", str(tmp_path)),
            *(str(tmp_path / "spec"), str(copy)),
        ],
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 1
    assert ended.stdout.startswith("Lost a worker runs Noria ")
    own, other = re.findall(r"Noria (\S+ from \S+) on Python", ended.stdout)
    assert own != other
    assert str(copy) in other


def test_ray_does_not_outlive_its_gateway(
    ray_head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the driver knows that its cluster is gone."""
    for name, value in ray_head.access.items():
        monkeypatch.setenv(name, value)
    others = _children()
    with open_cluster(ray_head.address) as cluster:
        cluster.start(tmp_path)
        team = Team(cluster, planned_spec(tmp_path / "job"))
        worker = team.start()
        (gateway,) = _children() - others
        os.kill(gateway, signal.SIGKILL)
        wait_until(lambda: cluster.trouble() is not None, "the news")
        wait_until(lambda: not is_alive(worker.pid), "its end")
        assert team.lost(worker.worker).cause == "cluster_lost"
        assert cluster.waiting() == []
        assert cluster.poll(0.1) == []


def _children() -> set[int]:
    """Processes that this one has started for a cluster."""
    return {
        pid
        for pid, command in descendants(os.getpid())
        if GATEWAY in command or LOCAL_WORKER in command
    }


@pytest.mark.skipif(own_niceness() > 4, reason="Ray can make nothing nicer than this")
def test_that_workers_are_nicer_than_their_driver_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a cluster that may not make them less nice."""
    below = ("setpriv", "--bounding-set", "-sys_nice") if os.geteuid() == 0 else ()
    with head_node(new_token(), cpus=2, below=below) as head:
        for name, value in head.access.items():
            monkeypatch.setenv(name, value)
        with open_cluster(head.address) as cluster:
            cluster.start(tmp_path)
            team = Team(cluster, planned_spec(tmp_path / "job"))
            started = [team.start(), team.start()]
            nice = {os.getpriority(os.PRIO_PROCESS, each.pid) for each in started}
    assert nice == {own_niceness() + 15}
    (said,) = [line for line in caplog.messages if "RAY_worker_niceness=0" in line]
    assert said.startswith(f"workers on {started[0].host.name} run at nice {nice.pop()}, ")


def test_one_of_two_clusters_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="one of the two"):
        open_cluster("127.0.0.1:1", ray=True)
