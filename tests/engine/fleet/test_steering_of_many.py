"""What is set for many datasets holds for all together; what is set for one, for that one."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import noria
from noria.engine.config.datasets import read_datasets_file
from noria.engine.config.jobfile import GuardConfig, RunConfig
from noria.engine.crew import Crew
from noria.engine.fleet.budgets import DECIDE_SECONDS, RunBudgets
from noria.engine.fleet.directory import FleetDirectory
from noria.engine.fleet.fair_share import FairShare
from noria.engine.fleet.own_pauses import OwnPauses, own_pause
from noria.engine.fleet.pooled_cluster import WorkerShares
from noria.engine.fleet.shared_guards import SharedGuards
from noria.engine.fleet.stacked_shares import StackedShare
from noria.engine.fleet.steering import FleetSteering
from noria.engine.live_settings import LiveSettings
from noria.engine.planning import Prepared, open_prepared, prepared
from noria.manifests.counters import StoreRole
from noria.manifests.job.control import ControlKind, append
from noria.manifests.job.directory import JobDirectory
from noria.manifests.model import BandwidthShare, BandwidthUse, RequestShare
from tests.support.limits import limits_of
from tests.support.scripted_cluster import ScriptedCluster

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def test_the_smaller_share_is_in_force_and_each_budget_hears_of_its_own() -> None:
    stacked = StackedShare(of_all=0.0, own=math.inf)
    assert stacked.share == 0.0
    assert stacked.tell(of_all=500.0) == 500.0
    assert stacked.tell(own=100.0) == 100.0
    assert stacked.tell(of_all=400.0) == 100.0
    said = BandwidthUse(share=0.0, used_bytes=7.0)
    assert (stacked.of_all(said).share, stacked.own(said).share) == (0.0, math.inf)
    said = BandwidthUse(share=500.0)
    assert (stacked.of_all(said).share, stacked.own(said).share) == (500.0, math.inf)
    said = BandwidthUse(share=100.0, used_bytes=9.0)
    assert (stacked.of_all(said).share, stacked.own(said).share) == (400.0, 100.0)
    assert stacked.own(said).used_bytes == 9.0
    assert stacked.tell(own=math.inf) == 400.0


def test_who_waits_for_its_own_limit_does_not_ask_others_for_theirs() -> None:
    stacked = StackedShare(of_all=50.0, own=math.inf)
    assert stacked.of_all(BandwidthUse(share=50.0, held_seconds=3.0)).held_seconds == 3.0
    stacked.tell(own=20.0)
    said = BandwidthUse(share=20.0, held_seconds=8.0)
    assert (stacked.of_all(said).held_seconds, stacked.own(said).held_seconds) == (3.0, 8.0)
    stacked.tell(own=60.0)
    assert stacked.of_all(BandwidthUse(share=50.0, held_seconds=9.0)).held_seconds == 4.0


class Listings:
    """Listings that use what they may, on a clock of the test's."""

    def __init__(self, run: RunConfig, number: int) -> None:
        self.now = 100.0
        self.budgets = RunBudgets(limits_of(run), clock=lambda: self.now)
        self.turns = [self.budgets.begin_listing(StoreRole.SOURCE) for _ in range(number)]
        self.used = [0.0] * number
        self.share = [0.0] * number

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / DECIDE_SECONDS)):
            self.now += DECIDE_SECONDS
            for place, turn in enumerate(self.turns):
                self.used[place] += self.share[place] * DECIDE_SECONDS
                use = BandwidthUse(
                    seconds=self.now - 100.0,
                    used_bytes=self.used[place],
                    held_seconds=self.now - 100.0,
                )
                _, self.share[place] = turn.exchange(BandwidthUse(), use)
                assert sum(self.share) <= 30.0 * 1.0001


def test_listings_of_many_datasets_share_the_requests_a_second() -> None:
    listings = Listings(RunConfig(source_requests_per_second=30), 3)
    listings.pass_time(5)
    assert sum(listings.share) == pytest.approx(30, rel=0.05)
    assert min(listings.share) == pytest.approx(10, rel=0.1)
    listings.turns.pop().close()
    del listings.share[-1]
    listings.pass_time(5)
    assert sum(listings.share) == pytest.approx(30, rel=0.05)
    listings.budgets.follow(limits_of(RunConfig(source_requests_per_second=20)))
    listings.pass_time(5)
    assert sum(listings.share) == pytest.approx(20, rel=0.05)


def test_a_listing_without_a_limit_does_not_wait() -> None:
    turn = RunBudgets(limits_of(RunConfig())).begin_listing(StoreRole.TARGET)
    assert turn.exchange(BandwidthUse(), BandwidthUse()) == (math.inf, math.inf)
    turn.close()
    turn.close()


def test_a_worker_is_told_what_both_budgets_leave_it() -> None:
    budgets = RunBudgets(limits_of(RunConfig(target_requests_per_second=8)))
    _, begun = budgets.join()
    assert (begun.bandwidth, begun.target_requests) == (math.inf, 0.0)
    shares = WorkerShares(begun, begun)
    told = shares.told(RequestShare(store="target", per_second=8.0), by_all=True)
    assert told == RequestShare(store="target", per_second=0.0), "its dataset has not said yet"
    told = shares.told(RequestShare(store="target", per_second=5.0), by_all=False)
    assert told == RequestShare(store="target", per_second=5.0)
    told = shares.told(BandwidthShare(bytes_per_second=9.0), by_all=True)
    assert told == BandwidthShare(bytes_per_second=9.0)


def test_workers_that_are_too_many_are_taken_back_though_nobody_waits() -> None:
    share = FairShare(3)
    for name in ("a", "b"):
        share.enter(name, priority=0, weight=1)
        share.ask(name)
    share.ask("a")
    assert [share.grant() for _ in range(4)] == ["a", "b", "a", None]
    assert share.take_back() is None
    share.resize(1)
    assert [share.take_back() for _ in range(3)] == ["a", "a", None]
    share.give_back("a", taken=True)
    share.give_back("a", taken=True)
    share.ask("a")
    assert share.grant() is None
    share.resize(2)
    assert share.grant() == "a"


def test_a_crew_that_rests_wants_none_and_lets_go_of_all() -> None:
    crew = Crew(ScriptedCluster(), RunConfig(workers=2), objects=10, size=10)
    crew.alive |= {"1", "2"}
    crew.rest(True)
    assert (crew.wanted({}), crew.surplus()) == (0, ["2", "1"])
    crew.rest(False)
    assert (crew.wanted({}), crew.surplus()) == (2, [])


def test_a_dataset_is_paused_by_its_own_records(tmp_path: Path) -> None:
    fleet = FleetDirectory(tmp_path)
    now = [NOW]
    pauses = OwnPauses(fleet, now=lambda: now[0])
    assert pauses.of("a") is None
    fleet.place("a").mkdir(parents=True)
    files = JobDirectory(fleet.place("a"))
    append(files, ControlKind.PAUSE, until=NOW + timedelta(hours=1), by="ann@a")
    found = pauses.of("a")
    assert found is not None
    assert found.by == "ann@a"
    now[0] += timedelta(hours=1)
    assert pauses.of("a") is None
    append(files, ControlKind.PAUSE, by="bob@b", reason="a patch")
    assert pauses.of("a") is not None
    paused = own_pause(fleet.place("a"))
    assert paused is not None
    assert paused.why.endswith("(a patch)")
    append(files, ControlKind.RESUME)
    assert pauses.of("a") is None


def test_what_pauses_all_pauses_one_that_is_run_by_itself(tmp_path: Path) -> None:
    """And what is set for all is for the run of all."""
    (tmp_path / "fleet.json").write_text("{}")
    place = tmp_path / "datasets" / "a"
    place.mkdir(parents=True)
    settings = LiveSettings(place, RunConfig(bandwidth=5e6))
    assert settings.look(0.0, quiet=False).paused is None
    of_all = JobDirectory(tmp_path)
    append(of_all, ControlKind.SET, {"bandwidth": 1e6}, by="ann@a")
    append(of_all, ControlKind.PAUSE, by="ann@a")
    found = settings.look(0.0, quiet=False)
    assert found.paused is not None
    assert found.paused.why.startswith("by ann@a for all datasets since")
    assert found.rate("bandwidth") == 5e6
    append(of_all, ControlKind.RESUME)
    assert settings.look(0.0, quiet=False).paused is None


@pytest.fixture
def planned(tmp_path: Path) -> list[Prepared]:
    made = []
    for name in ("one", "two"):
        source, target = tmp_path / name / "in", tmp_path / name / "out"
        source.mkdir(parents=True)
        (source / "object").write_text(name)
        target.mkdir()
        ends = {"source": {"url": f"file://{source}"}, "target": {"url": f"file://{target}"}}
        noria.plan(noria.job_config(ends, "a test"), tmp_path / name / "job")
        made.append(open_prepared(tmp_path / name / "job"))
    return made


@pytest.fixture
def guards() -> Iterator[SharedGuards]:
    config = GuardConfig(latency_factor=100.0)
    shared = SharedGuards(RunConfig(source_guard=config))
    yield shared
    shared.close()


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_one_guard_is_of_all_datasets_at_a_store(
    guards: SharedGuards, planned: list[Prepared]
) -> None:
    before = threads()
    first, second = (guards.of(each, moving=True) for each in planned)
    assert guards.look(0.0, quiet=True) == {}
    with first, second:
        first.begin()
        second.begin()
        assert [each.name for each in threads() - before] == ["source guard"]
        found = guards.look(0.0, quiet=False)
        assert found["source"].factor == 1.0
        assert "a small read took" in found["source"].said
        assert first.look(0.0, quiet=False) == {}, "the run heeds it, and not each dataset"
    with guards.of(planned[0], moving=False) as third:
        third.begin()
        assert guards.look(0.0, quiet=False) == {}, "nothing is at work at the source"
    with guards.of(planned[1], moving=True) as fourth:
        fourth.begin()
        assert len(threads() - before) == 1, "it knows what is usual from before"
        assert guards.look(0.0, quiet=False).keys() == {"source"}


def test_a_listing_has_a_guard_of_its_own_which_all_listings_of_a_store_share(
    guards: SharedGuards, planned: list[Prepared]
) -> None:
    before = threads()
    first, second = (guards.of_listing(each.config.source) for each in planned)
    with first, second, guards.of(planned[0], moving=True) as moving:
        for each in (first, second):
            assert each.are_there
            each.begin()
        assert [each.name for each in threads() - before] == ["source guard"]
        assert "a small read took" in guards.look(0.0, quiet=True)["source"].said
        moving.begin()
        assert len(threads() - before) == 2, "what it reads takes another time"


def test_a_command_is_asked_once_whatever_is_done(planned: list[Prepared]) -> None:
    guards, before = SharedGuards(RunConfig(source_guard=GuardConfig(command="true"))), threads()
    with guards.of_listing(planned[0].config.source) as listing:
        listing.begin()
        with guards.of(planned[1], moving=True) as moving:
            moving.begin()
            assert len(threads() - before) == 1
    guards.close()


def test_the_first_listing_of_all_has_a_guard(planned: list[Prepared], tmp_path: Path) -> None:
    many = tmp_path / "many.toml"
    end = planned[0].config.source.url
    many.write_text(
        f'[source.guard]\nlatency_factor = 100\n[[datasets]]\nname = "one"\nsource = "{end}"\n'
        f'target = "file://{tmp_path}/elsewhere"\n'
    )
    config = read_datasets_file(many, {})
    fleet = FleetDirectory(tmp_path / "many")
    fleet.create_or_add(config, [])
    steering = FleetSteering(fleet, config.settings.run, is_named=True)
    (dataset,) = fleet.datasets()
    before = threads()
    with prepared(dataset.config, fleet.place("one"), lambda line: None, of_all=steering) as ready:
        assert ready.manifest.objects == 1
    assert "source guard" in {each.name for each in threads() - before}
    steering.look(time.monotonic(), quiet=True)
    assert not steering.limits.guards, "nothing is at work any more"
    steering.close()
