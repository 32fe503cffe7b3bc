"""The workers that many datasets share: real processes, which go from one dataset to the next."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria.engine.cluster.protocol import START_FAILED, Started
from noria.engine.config.jobfile import RunConfig
from noria.engine.fleet.budgets import RunBudgets
from noria.engine.fleet.pool import WorkerPool
from noria.engine.fleet.pooled_cluster import PooledCluster
from noria.manifests.errors import JobDirectoryError
from noria.manifests.model import LeaseEnd
from tests.support.limits import limits_of
from tests.support.processes import LOCAL_WORKER, descendants, is_alive, wait_until
from tests.support.teams import Team, content, held_start, planned_spec

NewTeam = Callable[..., Team]


def workers() -> set[int]:
    return {pid for pid, command in descendants(os.getpid()) if LOCAL_WORKER in command}


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(1)
    yield pool
    pool.close()
    assert not workers()


@pytest.fixture
def new_team(pool: WorkerPool, tmp_path: Path) -> Iterator[NewTeam]:
    """new_team("name", objects=20): a planned job of its own, and its workers of the pool."""
    budgets, made = RunBudgets(limits_of(RunConfig())), []

    def make(name: str, *, objects: int = 20, priority: int = 0) -> Team:
        cluster = PooledCluster(name, pool, budgets, priority=priority, weight=1.0)
        made.append(cluster)
        return Team(cluster, planned_spec(tmp_path / name, objects=objects))

    yield make
    for cluster in made:
        cluster.close()


def landed(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "target").iterdir()}


def test_a_worker_goes_from_one_dataset_to_the_next(new_team: NewTeam, tmp_path: Path) -> None:
    """The same process, which gives back what it held of the first."""
    one, two = new_team("one"), new_team("two", objects=30)
    first = one.start()
    waiting = two.ask_for_worker()
    assert one.result(first.worker, one.grant(first.worker, 20)).how is LeaseEnd.FINISHED
    assert two.cluster.waiting() == [waiting], "there is one, and it is taken"
    one.cluster.close()
    second = two.next(waiting, Started)
    assert second.pid == first.pid
    assert two.result(second.worker, two.grant(second.worker, 30)).how is LeaseEnd.FINISHED
    assert landed(tmp_path / "one") == {f"{n:05}": content(n) for n in range(20)}
    assert landed(tmp_path / "two") == {f"{n:05}": content(n) for n in range(30)}
    held = {os.readlink(path) for path in Path(f"/proc/{second.pid}/fd").iterdir()}
    assert not [path for path in held if path.startswith(str(tmp_path / "one"))]
    said = Path(two.spec.directory) / "log" / "workers.txt"
    assert said.exists(), "what it prints goes to its job's log"


def test_threads_do_not_pile_up(new_team: NewTeam) -> None:
    counts = []
    for number in range(6):
        team = new_team(f"set-{number}")
        started = team.start()
        team.result(started.worker, team.grant(started.worker, 20))
        team.cluster.close()
        counts.append(len(os.listdir(f"/proc/{started.pid}/task")))
    # One for each of twenty files, and some that a worker has anyway.
    assert max(counts) <= 32, counts


def test_memory_does_not_grow_with_the_number_of_datasets(new_team: NewTeam) -> None:
    """Nor do open files."""
    sizes, files = [], []
    for number in range(14):
        team = new_team(f"set-{number}")
        started = team.start()
        team.result(started.worker, team.grant(started.worker, 20))
        team.cluster.close()
        pages = Path(f"/proc/{started.pid}/statm").read_text().split()[1]
        sizes.append(int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        files.append(len(os.listdir(f"/proc/{started.pid}/fd")))
    assert max(sizes[4:]) < sizes[3] + 10, sizes
    assert max(files[1:]) <= files[0] + 3, files


def test_a_worker_that_holds_a_lease_is_not_handed_on(new_team: NewTeam) -> None:
    one, two = new_team("one", objects=3_000), new_team("two")
    first = one.start()
    one.cluster.send(first.worker, one.grant(first.worker, 3_000))
    one.cluster.exchange(first.worker)
    one.cluster.poll(0)
    one.cluster.close()
    second = two.start()
    assert second.pid != first.pid
    wait_until(lambda: not is_alive(first.pid), "its end")
    assert two.result(second.worker, two.grant(second.worker, 20)).how is LeaseEnd.FINISHED


def test_a_worker_that_is_let_go_of_while_it_owes_an_answer_is_handed_on(new_team: NewTeam) -> None:
    one, two = new_team("one"), new_team("two")
    first = one.start()
    one.cluster.exchange(first.worker)
    one.cluster.poll(0)
    one.cluster.close()
    assert two.start().pid == first.pid


def test_one_that_does_not_answer_is_ended(new_team: NewTeam) -> None:
    one, two = new_team("one"), new_team("two")
    first = one.start()
    os.kill(first.pid, signal.SIGSTOP)
    one.cluster.exchange(first.worker)
    one.cluster.poll(0)
    one.cluster.close()
    assert two.start().pid != first.pid
    wait_until(lambda: not is_alive(first.pid), "its end")


def test_one_that_was_killed_while_it_had_no_dataset_is_replaced(new_team: NewTeam) -> None:
    one, two = new_team("one"), new_team("two")
    first = one.start()
    one.cluster.close()
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(first.pid), "its end")
    # The dataset that is given it hears that it is lost, and asks for another one.
    assert two.lost(two.ask_for_worker()).cause == "worker_lost"
    assert two.start().pid != first.pid


def test_one_that_dies_before_it_is_up_has_not_started(new_team: NewTeam) -> None:
    team = new_team("one")
    with held_start(team.spec) as spec:
        name = team.ask_for_worker(spec)
        wait_until(lambda: bool(workers()), "its process")
        (pid,) = workers()
        os.kill(pid, signal.SIGKILL)
        lost = team.lost(name)
    assert (lost.cause, lost.error) == (START_FAILED, None)
    assert team.start().pid != pid


def test_one_that_is_killed_before_it_is_up_is_never_heard_of(new_team: NewTeam) -> None:
    team = new_team("one")
    with held_start(team.spec) as spec:
        name = team.ask_for_worker(spec)
        wait_until(lambda: bool(workers()), "its process")
        team.cluster.kill(name)
        wait_until(lambda: not workers(), "its end")
    team.listen(0.5)
    assert team.heard == []
    assert team.start().pid, "there is room again"


def test_a_dataset_that_a_worker_cannot_serve_ends_that_worker_alone(
    new_team: NewTeam, tmp_path: Path
) -> None:
    one, two, three = new_team("one"), new_team("two"), new_team("three")
    one.start()
    one.cluster.close()
    (Path(two.spec.directory) / "job.json").unlink()
    lost = two.lost(two.ask_for_worker())
    assert isinstance(lost.error, JobDirectoryError)
    assert three.start().pid


def test_a_worker_is_taken_back_for_a_dataset_of_a_higher_priority(new_team: NewTeam) -> None:
    """The driver hears that it is leaving, as of a node that is drained."""
    low, high = new_team("low"), new_team("high", priority=1)
    first = low.start()
    assert low.cluster.leaving() == set()
    waiting = high.ask_for_worker()
    assert low.cluster.leaving() == {first.worker}
    low.cluster.kill(first.worker)  # it has handed back what it held
    assert high.next(waiting, Started).pid == first.pid


def test_no_more_processes_than_workers(new_team: NewTeam) -> None:
    teams = [new_team(f"set-{number}") for number in range(4)]
    names = [team.ask_for_worker() for team in teams]
    for team, name in zip(teams, names, strict=True):
        team.next(name, Started)
        assert len(workers()) == 1
        team.cluster.close()


def test_closing_a_pool_ends_all(tmp_path: Path) -> None:
    pool = WorkerPool(2)
    cluster = PooledCluster("one", pool, RunBudgets(limits_of(RunConfig())), priority=0, weight=1.0)
    team = Team(cluster, planned_spec(tmp_path))
    up, stopped = team.start(), team.start()
    os.kill(stopped.pid, signal.SIGSTOP)
    team.ask_for_worker()
    pool.close()
    wait_until(lambda: not is_alive(up.pid) and not is_alive(stopped.pid), "their end")
    pool.close()
    cluster.close()
    names = {thread.name for thread in threading.enumerate()}
    assert "pool-worker" not in names
