"""Many datasets that are steered together, and one of them alone, while they run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from noria.engine.fleet.directory import FleetDirectory
from noria.engine.fleet.rows import dataset_rows
from noria.engine.status import JobStatus, Phase, load_status
from tests.scenarios.test_datasets import Fleet
from tests.scenarios.test_steering import FOLLOW_SECONDS, TOLERANCE, WINDOW_SECONDS
from tests.support.processes import wait_until

NAMES = ("one", "two", "three")
KB = 1_000


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    fleet.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    return fleet


@contextmanager
def running(
    fleet: Fleet, *, head: str, objects: int = 300, size: int = 10 * KB
) -> Iterator[subprocess.Popen[str]]:
    """A run of three datasets, of which something has moved."""
    for name in NAMES:
        fleet.fill(name, objects, size=size)
    fleet.file(*NAMES, head=head)
    fleet.noria("plan", "many.toml")
    with going_on(fleet) as run:
        wait_until(lambda: status_of(fleet).objects_done > 3, "the first objects", seconds=60)
        yield run


@contextmanager
def going_on(fleet: Fleet) -> Iterator[subprocess.Popen[str]]:
    run = fleet.start("run", "many", "--metrics-address", "off")
    try:
        yield run
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
        run.communicate()


def status_of(fleet: Fleet) -> JobStatus:
    """What the run has said last. Read here: a command takes a second or two."""
    found = load_status(FleetDirectory(fleet.directory).files)
    return found or JobStatus(job="", phase=Phase.STARTING, updated_seconds=0.0)


def landed(fleet: Fleet) -> dict[str, int]:
    return {name: sum(1 for each in (fleet.folder / "out" / name).glob("[0-9]*")) for name in NAMES}


def moved_bytes(fleet: Fleet) -> int:
    return sum(each.stat().st_size for each in (fleet.folder / "out").glob("*/[0-9]*"))


def workers(fleet: Fleet) -> dict[str, int]:
    return {row.name: row.workers for row in dataset_rows(FleetDirectory(fleet.directory))}


def within_ten_seconds(said: dict[str, Any], holds: Callable[[], bool], what: str) -> None:
    """Of when it was recorded. The wait is longer than that, for a word of what it comes to."""
    wait_until(holds, what, seconds=30)
    asked = datetime.fromisoformat(said["record"]["at"])
    assert datetime.now(UTC) - asked < timedelta(seconds=FOLLOW_SECONDS + 1), what


@pytest.mark.timeout(180)
def test_a_bandwidth_is_of_all_datasets_together(fleet: Fleet) -> None:
    """Measured by what lies at the targets."""
    limit = 1_000 * KB
    with running(fleet, head='[run]\nworkers = 2\nbandwidth = "2MB/s"', size=80 * KB):
        said = fleet.noria("set", "many", "bandwidth=1MB/s", "--reason", "the VPN is shared")
        assert "the run heeds it" in said["said"]
        time.sleep(FOLLOW_SECONDS)
        before, began = moved_bytes(fleet), time.monotonic()
        time.sleep(WINDOW_SECONDS)
        rate = (moved_bytes(fleet) - before) / (time.monotonic() - began)
        assert 0.8 * limit <= rate <= (1 + TOLERANCE) * limit
        found = status_of(fleet)
        assert found.bandwidth == limit
        assert found.held
        assert found.in_force is not None
        assert found.in_force.settings["bandwidth"].reason == "the VPN is shared"


@pytest.mark.timeout(180)
def test_all_are_paused_and_resumed_whatever_becomes_of_the_driver(fleet: Fleet) -> None:
    with running(fleet, head='[run]\nworkers = 2\nbandwidth = "400kB/s"') as run:
        said = fleet.noria("pause", "many", "--reason", "a patch")
        assert said["said"] == "paused (control/000001.json); the run heeds it"
        within_ten_seconds(said, lambda: not any(workers(fleet).values()), "workers are free")
        before = landed(fleet)
        out, _ = fleet.said("status", "many")
        assert f"all: paused by {said['record']['by']} since" in out
        assert "(a patch): nothing new is begun" in out
        one = fleet.noria("set", "many/datasets/one")["limits"]["settings"]["paused"]
        assert (one["value"], one["reason"], one["of_all"]) == (True, "a patch", True)
        out, _ = fleet.said("resume", "many/datasets/one", code=1)
        assert "still paused by" in out
        assert f"`noria resume {fleet.directory}` ends that" in out
        run.kill()
    assert landed(fleet) == before
    with going_on(fleet) as run:
        wait_until(lambda: status_of(fleet).paused is not None, "it begins paused", seconds=30)
        assert landed(fleet) == before
        said = fleet.noria("set", "many", "workers=3", "bandwidth=none")
        said = fleet.noria("resume", "many")
        within_ten_seconds(said, lambda: landed(fleet) != before, "all goes on")
        _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    for name in NAMES:
        fleet.arrived(name)


@pytest.mark.timeout(180)
def test_one_that_is_paused_leaves_its_workers_to_the_others(fleet: Fleet) -> None:
    with running(fleet, head='[run]\nworkers = 1\nbandwidth = "200kB/s"') as run:
        wait_until(lambda: sum(workers(fleet).values()) == 1, "one is at work", seconds=30)
        mine = max(workers(fleet), key=lambda name: workers(fleet)[name])
        place = f"many/datasets/{mine}"
        said = fleet.noria("pause", place)
        assert "the driver heeds it" in said["said"]
        within_ten_seconds(
            said,
            lambda: not workers(fleet)[mine] and any(workers(fleet).values()),
            "another has its worker",
        )
        fleet.noria("set", "many", "bandwidth=none")
        wait_until(
            lambda: [landed(fleet)[name] for name in NAMES if name != mine] == [300, 300],
            "the others are at their end",
            seconds=60,
        )
        assert landed(fleet)[mine] < 300
        assert run.poll() is None, "it waits for the one that is paused"
        out, _ = fleet.said("status", "many")
        assert f"{mine}: paused by" in out
        assert fleet.rows()[mine]["shown_phase"] == "paused"
        said = fleet.noria("resume", place)
        _, err = run.communicate(timeout=90)
    assert run.returncode == 0, err
    fleet.arrived(mine)


@pytest.mark.timeout(120)
def test_one_that_is_paused_before_its_turn_is_not_begun_and_comes_later(fleet: Fleet) -> None:
    for name in NAMES:
        fleet.fill(name, 3)
    fleet.file(*NAMES, head="[run]\nworkers = 1")
    fleet.noria("plan", "many.toml")
    said = fleet.noria("pause", "many/datasets/two")
    assert "nothing runs in many/datasets/two now" in said["said"]
    with going_on(fleet) as run:
        wait_until(lambda: (landed(fleet)["one"], landed(fleet)["three"]) == (3, 3), "the others")
        wait_until(lambda: status_of(fleet).datasets == {} and run.poll() is None, "it waits")
        out, _ = fleet.said("pause", "many/datasets/two")
        assert "it is not at work now: the run of all heeds it when its turn comes" in out
        assert landed(fleet)["two"] == 0
        fleet.noria("resume", "many/datasets/two")
        _, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    fleet.arrived("two")


@pytest.mark.timeout(120)
def test_all_are_drained_by_a_record_and_what_does_nothing_is_said(fleet: Fleet) -> None:
    with running(fleet, head='[run]\nworkers = 1\nbandwidth = "200kB/s"') as run:
        out, err = fleet.said("set", "many/datasets/one", "transfers=3", code=2)
        assert f"`noria set {fleet.directory} transfers=...`" in err
        assert not (fleet.directory / "datasets" / "one" / "control").exists()
        said = fleet.noria("drain", "many", "--reason", "the machine is wanted")
        assert "the driver is asked to end" in said["said"]
        out, err = run.communicate(timeout=60)
    assert run.returncode == 3, err
    assert f"drained on request of {said['record']['by']}" in out
    out, _ = fleet.said("drain", "many")
    assert "nothing runs in many: there is nothing to drain" in out


@pytest.mark.timeout(120)
def test_a_damaged_record_is_said_by_whoever_asks(fleet: Fleet) -> None:
    with running(fleet, head='[run]\nworkers = 1\nbandwidth = "200kB/s"'):
        fleet.noria("set", "many", "workers=1")
        record = fleet.directory / "control" / "000002.json"
        record.write_text("{}\n")
        out, _ = fleet.said("set", "many", code=1)
        assert "000002.json is changed, truncated, or of a newer version" in out
        assert "bandwidth=200kB/s" in out
        out, _ = fleet.said("status", "many")
        assert "000002.json is changed" in out
        out, _ = fleet.said("pause", "many", code=1)
        assert "the run does not heed it: " in out
        assert "restore control/ from a copy" in out
    _, err = fleet.said("pause", "many", code=3)
    assert "000002.json is changed" in err


@pytest.mark.timeout(120)
def test_one_guard_asks_for_all_and_its_no_holds_all(fleet: Fleet) -> None:
    asked, busy = fleet.folder / "asked", fleet.folder / "busy"
    command = f"echo >> {asked}; test ! -e {busy}"
    head = (
        '[run]\nworkers = 2\nbandwidth = "400kB/s"\n'
        f"[source.guard]\ncommand = {json.dumps(command)}\nevery = 1\nfloor = 0\n"
    )
    with running(fleet, head=head):
        before, began = asked.read_text().count("\n"), time.monotonic()
        busy.touch()
        wait_until(lambda: bool(status_of(fleet).held_by_guards), "it holds", seconds=30)
        found = status_of(fleet)
        assert found.held_by_guards["source"].factor == pytest.approx(0.6)
        assert found.bandwidth is not None
        assert found.bandwidth <= 0.61 * 400 * KB
        times, seconds = asked.read_text().count("\n") - before, time.monotonic() - began
        assert times <= seconds / 0.9 + 1, "as often as one guard asks"
        out, _ = fleet.said("status", "many")
        assert "the guard of the source leaves 60 % of the pace: its command ended with 1" in out


def test_requests_a_second_are_of_all_together(fleet: Fleet) -> None:
    """A file takes one at the target at least."""
    for name in NAMES:
        fleet.fill(name, 20)
    fleet.file(*NAMES, head="[run]\nworkers = 3\ntarget_requests_per_second = 20")
    began = time.monotonic()
    assert fleet.run("many.toml")["well"] == len(NAMES)
    assert time.monotonic() - began >= len(NAMES) * 20 / 20 * 0.95 - 1


def test_a_window_pauses_all(fleet: Fleet) -> None:
    for name in NAMES:
        fleet.fill(name, 3)
    fleet.file(
        *NAMES,
        head='[[windows]]\nname = "freeze"\nfrom = "00:00"\nto = "24:00"\npaused = true',
    )
    with going_on_from_file(fleet) as run:
        wait_until(lambda: status_of(fleet).paused is not None, "it is paused", seconds=30)
        assert not (fleet.folder / "out").exists()
        out, _ = fleet.said("status", "many")
        assert "all: paused by window freeze until" in out
        fleet.noria("set", "many", "paused=false", "--reason", "the customer waits")
        _, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    for name in NAMES:
        fleet.arrived(name)


@contextmanager
def going_on_from_file(fleet: Fleet) -> Iterator[subprocess.Popen[str]]:
    run = fleet.start("run", "many.toml", "--metrics-address", "off")
    try:
        yield run
    finally:
        if run.poll() is None:
            os.kill(run.pid, signal.SIGKILL)
        run.communicate()
