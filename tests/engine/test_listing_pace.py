"""What holds the driver's own listings: guards, and what the command line says."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from noria.engine import job, listing_pace, planning
from noria.engine.config.jobfile import EndConfig, GuardConfig, RunConfig
from noria.engine.guards import Guards, make_guard
from noria.engine.job_state import job_state
from noria.engine.listing_guards import listing_guards
from noria.engine.listing_pace import GuardedPace, ListingPace
from noria.engine.status import Phase
from noria.engine.steering.guard import BASELINE_READS, GuardState
from noria.engine.steering.limits import PAUSED, LimitsInForce, Steered
from noria.engine.steering_requests import steered_job
from noria.manifests.counters import StoreRole
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.control import ControlKind
from tests.support.local_migrations import LocalMigration, write
from tests.support.processes import wait_until


def held(factor: float, *, paused: bool = False) -> LimitsInForce:
    settings = {PAUSED: Steered(value=paused, by="ann")}
    return LimitsInForce(
        settings=settings, guards={"source": GuardState(factor=factor, said="slow")}
    )


def test_a_guard_leaves_a_share_of_the_pace_that_it_found() -> None:
    pace = GuardedPace()
    assert [pace.hear(10 * second, second, held(1.0)) for second in range(20)] == [math.inf] * 20
    assert pace.hear(200, 20, held(0.6)) == pytest.approx(6.0)
    assert pace.hear(206, 21, held(0.36)) == pytest.approx(3.6)
    assert pace.hear(209, 22, held(1.0)) == math.inf
    assert pace.hear(219, 23, held(0.5)) < 5.0, "the pace of just now"


def test_a_pause_does_not_count_for_the_pace() -> None:
    pace = GuardedPace()
    for second in range(10):
        pace.hear(10 * second, second, held(1.0))
    for second in range(10, 15):
        pace.hear(90, second, held(1.0, paused=True))
    assert pace.hear(90, 15, held(0.5)) == math.inf, "nothing is known yet"
    assert pace.hear(110, 17, held(0.5)) == pytest.approx(0.5 * 20 / 3)


class Yielding(Guards):
    """A guard that says what it is told."""

    factor = 1.0

    def look(self, now: float, *, quiet: bool) -> Mapping[str, GuardState]:
        return {"source": GuardState(factor=self.factor, said="slow")}


def test_a_listing_is_held_by_its_guard(tmp_path: Path) -> None:
    guards = Yielding()
    pace = ListingPace(tmp_path / "job", RunConfig(), StoreRole.SOURCE, guards=guards)
    requests, began = pace.share.requests, time.monotonic()
    for second in range(1, 6):
        for _ in range(40):
            requests.take(1)
        pace.look(began + second)
    assert not requests.is_limited
    guards.factor = 0.5
    pace.look(began + 5.1)
    assert requests.use().share == pytest.approx(20, rel=0.05)
    assert pace.limits.guard_factor == 0.5
    guards.factor = 0.0
    pace.look(began + 6)
    assert requests.use().share == 0
    assert pace.limits.paused is not None
    assert pace.limits.paused.by == "the guard of the source"


def test_a_listing_waits_until_its_guard_knows_what_is_usual(tmp_path: Path) -> None:
    may_read = threading.Event()
    config = GuardConfig(latency_factor=3)
    guard = make_guard(StoreRole.SOURCE, config, iter([may_read.wait] * BASELINE_READS))  # type: ignore[list-item]  # what it returns is of no interest
    pace = ListingPace(tmp_path / "job", RunConfig(), StoreRole.SOURCE, guards=Guards([guard]))
    with pace:
        assert pace.share.requests.use().share == 0
        may_read.set()
        wait_until(lambda: not pace.share.requests.is_limited, "the listing goes on")


def test_a_source_is_timed_by_a_name_that_nobody_has(tmp_path: Path) -> None:
    run = RunConfig(source_guard=GuardConfig(latency_factor=50))
    with listing_guards(EndConfig(url=f"file://{tmp_path}"), run) as guards:
        guards.begin()
        said = guards.look(time.monotonic(), quiet=True)["source"].said
    assert "a small read took" in said
    assert "ms when quiet" in said
    assert list(tmp_path.iterdir()) == []
    assert not listing_guards(EndConfig(url="file:///x"), RunConfig()).are_there


class Seen(ListingPace):
    """Remembers with what a listing was begun."""

    runs: list[RunConfig] = []  # noqa: RUF012 - emptied by each test
    guarded: list[bool] = []  # noqa: RUF012

    def __init__(self, place: Path, run: RunConfig, role: StoreRole, **rest: Any) -> None:
        super().__init__(place, run, role, **rest)
        self.runs.append(run)
        self.guarded.append(rest["guards"].are_there)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> type[Seen]:
    Seen.runs, Seen.guarded = [], []
    for module in (planning, job):
        monkeypatch.setattr(module, listing_pace.ListingPace.__name__, Seen)
    return Seen


def test_what_the_command_line_says_holds_for_the_listing_of_a_pass(
    tmp_path: Path, seen: type[Seen]
) -> None:
    move = LocalMigration(tmp_path)
    move.copy({"a": "1"}, run={"bandwidth": "1MB/s", "metrics_address": "off"})
    seen.runs.clear()
    write(move.source, {"b": "2"})
    move.sync(overrides={"bandwidth": 7e6})
    assert seen.runs[0].bandwidth == 7e6
    move.sync()
    job.reconcile_job(move.migration.current, overrides={"bandwidth": 5e6})
    assert [run.bandwidth for run in seen.runs[-2:]] == [1e6, 5e6]


def test_guards_are_asked_while_both_ends_are_listed(tmp_path: Path, seen: type[Seen]) -> None:
    move = LocalMigration(tmp_path)
    guard = {"source_guard": {"command": "true"}, "target_guard": {"command": "true"}}
    move.copy({"a": "1"}, run={"metrics_address": "off", **guard})
    move.sync()
    job.reconcile_job(move.migration.current)
    assert seen.guarded == [True] * 5


def test_no_listing_runs_a_command_that_others_may_have_written(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    guard = {"source_guard": {"command": f"touch {tmp_path}/run"}}
    move.copy({"a": "1"}, run={"metrics_address": "off", **guard})
    (move.root / "job.json").chmod(0o620)
    for command in (move.sync, lambda: job.reconcile_job(move.root)):
        with pytest.raises(ConfigurationError, match="others may write that file"):
            command()
    assert not (tmp_path / "run").exists()


def test_a_reconcile_in_a_pause_says_what_waits_and_how_it_goes_on(tmp_path: Path) -> None:
    move, said = LocalMigration(tmp_path), list[str]()
    move.copy({"a": "1"})
    assert job.status(move.root).phase is Phase.FINISHED
    steering = steered_job(move.root)
    assert not steering.ask(ControlKind.PAUSE, reason="a backup").is_driven
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(job.reconcile_job, move.root, said.append)
        try:
            wait_until(lambda: bool(said), "it says that it waits")
            now = job.status(move.root)
        finally:
            resumed = steering.ask(ControlKind.RESUME)
        assert found.result(timeout=20).reconciled
    assert (now.phase, job_state(now).state) == (Phase.RECONCILING, "paused")
    assert resumed.is_driven
    (line,) = said
    assert line.startswith("the listing of the target waits, paused by ")
    assert line.endswith(f" (a backup): `noria resume {move.root}` lets it go on")
    assert job.status(move.root).phase is Phase.FINISHED
    assert not (move.root / "reconcile-status.json").exists()
