"""Priorities that people set: which are in force, what is refused, and who gets a worker then."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noria.engine.config.refused_settings import WrongSettings
from noria.engine.fleet.fair_share import FairShare
from noria.engine.fleet.priorities import LivePriorities, set_priorities
from noria.engine.fleet.steering_requests import FleetRequests, steered_fleet
from noria.manifests.job.control import ControlKind, append, read
from noria.manifests.job.directory import JobDirectory

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NOTED = {"genomes": 0, "images": 5, "not-es.2": 0}


@pytest.fixture
def files(tmp_path: Path) -> JobDirectory:
    entries = [{"name": name, "priority": priority} for name, priority in NOTED.items()]
    facts = {"schema": 1, "shared": {}, "datasets": entries}
    (tmp_path / "fleet.json").write_text(json.dumps(facts))
    return JobDirectory(tmp_path)


def test_the_last_word_that_is_not_over_counts(files: JobDirectory) -> None:
    hour = timedelta(hours=1)
    append(files, ControlKind.SET, {"priority.genomes": 3}, by="ann@a")
    append(files, ControlKind.SET, {"priority.genomes": 9}, until=NOW + hour, by="bob@b")
    append(files, ControlKind.SET, {"priority.images": -2, "priority.not-es.2": 1})
    records = read(files)
    found = set_priorities(records, NOW)
    assert {name: each.priority for name, each in found.items()} == {
        "genomes": 9,
        "images": -2,
        "not-es.2": 1,
    }
    assert found["genomes"].by == "bob@b"
    assert set_priorities(records, NOW + hour)["genomes"].priority == 3
    append(files, ControlKind.CLEAR, {"priority.images": None})
    assert set_priorities(read(files), NOW).keys() == {"genomes", "not-es.2"}
    append(files, ControlKind.CLEAR, {})
    assert set_priorities(read(files), NOW) == {}


def test_a_run_hears_each_change_once(files: JobDirectory) -> None:
    now = [NOW]
    live = LivePriorities(NOTED, read(files), now=lambda: now[0])
    assert live.follow(read(files)) == {}
    assert [live.of(name) for name in NOTED] == [0, 5, 0]
    until = NOW + timedelta(minutes=1)
    append(files, ControlKind.SET, {"priority.images": 7, "priority.gone": 1}, until=until)
    assert live.follow(read(files)) == {"images": 7}
    assert live.follow(read(files)) == {}
    now[0] = until
    assert live.follow(read(files)) == {"images": 5}


def test_what_is_wrong_is_named_all_at_once_and_nothing_is_recorded(files: JobDirectory) -> None:
    requests = FleetRequests(files.root)
    wrong = ["bandwith=1MB/s", "priority.image=1", "priority.genomes=high", "priority.images"]
    with pytest.raises(WrongSettings) as refused:
        requests.settings([*wrong, "priority.genomes=1001"])
    lines = refused.value.lines
    assert len(lines) == 5
    assert "no such setting; did you mean bandwidth?" in lines[0]
    assert "did you mean priority.images?" in lines[1]
    assert "a whole number from -1000 to 1000" in lines[2]
    assert "write it as priority.images=NUMBER" in lines[3]
    with pytest.raises(WrongSettings, match="no such setting"):
        requests.names(["priority.images", "speed"])
    assert requests.names(["priority.images", "bandwidth"]).keys() == {
        "priority.images",
        "bandwidth",
    }


def test_what_is_in_force_says_who_gave_it(files: JobDirectory) -> None:
    requests, steering = FleetRequests(files.root), steered_fleet(files.root)
    given = requests.settings(["priority.genomes=8", "bandwidth=2MB/s"])
    heard = steering.ask(ControlKind.SET, given, reason="due today")
    assert (heard.is_driven, heard.limits) == (False, None)
    by = heard.record.by
    assert requests.priorities() == {
        "images": (5, "from the job file"),
        "genomes": (8, f"by {by}"),
    }
    found = steering.limits().settings["bandwidth"]
    assert (found.value, found.by, found.reason) == (2_000_000, by, "due today")
    steering.ask(ControlKind.CLEAR, {})
    assert requests.priorities() == {"images": (5, "from the job file")}


def test_a_worker_goes_over_to_a_dataset_that_is_raised() -> None:
    share = FairShare(1)
    for name in ("a", "b"):
        share.enter(name, priority=0, weight=1)
        share.ask(name)
    assert share.grant() == "a"
    assert share.take_back() is None, "both have the same right"
    share.prioritize("b", 1)
    assert share.take_back() == "a"
    share.give_back("a", taken=True)
    assert share.grant() == "b"
    share.prioritize("unknown", 3)
